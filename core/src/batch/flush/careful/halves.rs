//! Finds what is refused of many things: as much as possible behind one savepoint, halved where that is refused, and when
//! few are left each by itself, in one flight. A refused one among thousands costs a few tries; where everything is refused
//! it is little more than a try each.

use std::ops::Range;

use super::Surgery;
use crate::batch::flush::apply::Failure;
use crate::error::{Error, ErrorKind};
use crate::sql::Rendered;
use crate::store::ExecResult;

/// No longer halved.
const FEW: usize = 32;

/// Things that go out together.
pub(super) struct Part {
    pub items: Range<usize>,
    pub statements: Vec<Rendered>,
}

/// What became of them.
pub(super) enum Tried {
    /// A part, and what each of its statements did.
    Done(Range<usize>, Vec<ExecResult>),
    /// One thing.
    Refused(usize, Error),
}

/// The statements of some of the things; an error if they cannot be said together, or one cannot be said at all.
pub(super) type Say<'s> = &'s (dyn Fn(Range<usize>) -> Result<Vec<Part>, Error> + Sync);

/// What is still to be tried, the first part last.
struct Ranges(Vec<Range<usize>>);

impl Ranges {
    fn of(count: usize, most: usize) -> Ranges {
        let starts = (0..count).step_by(most);
        Ranges(starts.rev().map(|start| start..count.min(start + most)).collect())
    }

    /// The two halves come next.
    fn halve(&mut self, range: Range<usize>) {
        let middle = range.start + range.len() / 2;
        self.0.extend([middle..range.end, range.start..middle]);
    }
}

impl Surgery<'_> {
    /// Tries so many things in order, at first so many behind one savepoint. After a refusal of which `ends` says that the
    /// rest would be told the same, the rest is.
    pub(super) async fn tried(
        &mut self,
        (count, most): (usize, usize),
        say: Say<'_>,
        ends: fn(&Error) -> bool,
    ) -> Result<Vec<Tried>, Failure> {
        let mut tried = Vec::new();
        let mut ranges = Ranges::of(count, most);
        while let Some(range) = ranges.0.pop() {
            let error = match say(range.clone()) {
                Ok(parts) => match self.attempt(&all(&parts)).await? {
                    Ok(results) => {
                        done(&mut tried, parts, results);
                        continue;
                    }
                    Err(error) => error,
                },
                Err(error) => error,
            };
            match range.len() {
                0 => continue,
                1 => tried.push(Tried::Refused(range.start, error)),
                2..=FEW => self.each(range, say, &mut tried).await?,
                _ => {
                    ranges.halve(range);
                    continue;
                }
            }
            if let Some(Tried::Refused(_, error)) = tried.last()
                && ends(error)
            {
                let error = error.clone();
                let rest = ranges.0.drain(..).rev().flatten();
                tried.extend(rest.map(|item| Tried::Refused(item, error.clone())));
            }
        }
        Ok(tried)
    }

    async fn each(
        &mut self,
        range: Range<usize>,
        say: Say<'_>,
        tried: &mut Vec<Tried>,
    ) -> Result<(), Failure> {
        let said: Vec<_> = range.clone().map(|item| say(item..item + 1)).collect();
        let groups: Vec<Vec<Rendered>> = said.iter().flatten().map(|parts| all(parts)).collect();
        let mut outcomes = self.attempt_each(&groups).await?.into_iter();
        for (item, parts) in range.zip(said) {
            let outcome = parts.and_then(|parts| match outcomes.next() {
                Some(outcome) => outcome.map(|results| (parts, results)),
                None => Err(Error::new(ErrorKind::Internal, "a group of statements has no outcome")),
            });
            match outcome {
                Ok((parts, results)) => done(tried, parts, results),
                Err(error) => tried.push(Tried::Refused(item, error)),
            }
        }
        Ok(())
    }
}

fn all(parts: &[Part]) -> Vec<Rendered> {
    parts.iter().flat_map(|part| part.statements.iter().cloned()).collect()
}

fn done(tried: &mut Vec<Tried>, parts: Vec<Part>, results: Vec<ExecResult>) {
    let mut results = results.into_iter();
    tried.extend(parts.into_iter().map(|part| {
        let own = results.by_ref().take(part.statements.len()).collect();
        Tried::Done(part.items, own)
    }));
}
