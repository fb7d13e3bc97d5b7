//! Which operations of a batch the database refused, and why. There may be as many as the journal holds, so each is a number
//! and a reason, and the reasons are few.

use std::collections::HashMap;

use crate::error::Error;

/// Reasons that are kept word for word.
const MOST_REASONS: usize = 1_000;

/// See the head of this file.
#[derive(Default)]
pub(crate) struct Refusals {
    /// Sequence number and reason.
    refused: Vec<(u64, u32)>,
    reasons: Vec<Error>,
    known: HashMap<(Option<Box<str>>, Box<str>), u32>,
}

impl Refusals {
    /// Takes note of one.
    pub(super) fn add(&mut self, sequence: u64, error: &Error) {
        let reason = self.reason(error);
        self.refused.push((sequence, reason));
    }

    /// In the order of their numbers, as [`Refusals::get`] needs them.
    pub(super) fn sort(&mut self) {
        self.refused.sort_unstable();
        self.refused.dedup_by_key(|(sequence, _)| *sequence);
        self.refused.shrink_to_fit();
        self.known = HashMap::new();
    }

    pub(super) fn len(&self) -> usize {
        self.refused.len()
    }

    /// Why this one was refused, if it was.
    pub(super) fn get(&self, sequence: u64) -> Option<&Error> {
        let at = self.refused.binary_search_by_key(&sequence, |(it, _)| *it).ok()?;
        self.reasons.get(self.refused[at].1 as usize)
    }

    fn reason(&mut self, error: &Error) -> u32 {
        let code: Option<Box<str>> = error.sqlstate().map(Box::from);
        let words = (code.clone(), error.to_string().into_boxed_str());
        if let Some(&reason) = self.known.get(&words) {
            return reason;
        }
        if self.reasons.len() < MOST_REASONS {
            return self.keep(words, error.clone());
        }
        let alike = (code.clone(), "".into());
        match self.known.get(&alike) {
            Some(&reason) => reason,
            None if self.reasons.len() > 2 * MOST_REASONS => self.reasons.len() as u32 - 1,
            None => {
                let general =
                    Error::new(error.kind(), "PostgreSQL refused the operation; its dead letter says why");
                let general = general.with_retryable(error.retryable());
                self.keep(alike, code.map_or(general.clone(), |code| general.with_sqlstate(code)))
            }
        }
    }

    fn keep(&mut self, words: (Option<Box<str>>, Box<str>), error: Error) -> u32 {
        let reason = self.reasons.len() as u32;
        self.reasons.push(error);
        self.known.insert(words, reason);
        reason
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    fn error(code: &str, message: &str) -> Error {
        Error::new(ErrorKind::Store, message).with_sqlstate(code)
    }

    #[test]
    fn one_reason_is_kept_once_and_many_are_told_by_their_code() {
        let mut refusals = Refusals::default();
        for sequence in (0..10_000).rev() {
            refusals.add(sequence, &error("23505", "twice"));
        }
        assert_eq!(refusals.reasons.len(), 1);
        for sequence in 10_000..20_000 {
            refusals.add(sequence, &error(&format!("P{:04}", sequence % 3), &sequence.to_string()));
        }
        refusals.sort();
        assert!(refusals.reasons.len() <= MOST_REASONS + 3 && refusals.len() == 20_000);
        assert_eq!(refusals.get(7).unwrap().message(), "twice");
        assert_eq!(refusals.get(10_007).unwrap().message(), "10007");
        let last = refusals.get(19_999).unwrap();
        assert_eq!(last.sqlstate(), Some("P0001"));
        assert!(last.message().contains("dead letter"), "{last}");
        assert!(refusals.get(20_000).is_none());
    }
}
