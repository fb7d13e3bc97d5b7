//! Steps in the careful way, a few thousand at a time: what may be taken apart, and what goes out together.
//!
//! | atom | goes out |
//! |---|---|
//! | a list that is a step as a whole | as it is: all of it or none |
//! | an operation on a row that was taken out for a list | composed with its neighbours on the same cell |
//! | another step | with its neighbours, if it is an INSERT of the same text |

use std::collections::BTreeMap;
use std::ops::Range;

use super::halves::Part;
use crate::batch::batch::{Batch, Slot};
use crate::batch::flush::replay::{self, Record, Step, What};
use crate::error::Error;

/// One of them.
struct Atom {
    /// Indexes of its steps.
    steps: Range<usize>,
    kind: Kind,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    List,
    Composing(Slot),
    Other,
}

/// See the head of this file.
pub(super) struct Atoms {
    steps: Vec<Step>,
    atoms: Vec<Atom>,
}

impl Atoms {
    pub(super) fn of(steps: Vec<Step>, batch: &Batch) -> Atoms {
        let mut ordered = Vec::with_capacity(steps.len());
        let mut atoms = Atoms { steps: Vec::new(), atoms: Vec::new() };
        let mut waiting = Waiting::default();
        for list in records(&steps) {
            let kind = match &steps[list.start] {
                step if step.record == Record::Whole => Kind::List,
                step => slot_taken_out(step, batch).map_or(Kind::Other, Kind::Composing),
            };
            match kind {
                Kind::Composing(slot) => waiting.add(slot, list.start),
                Kind::List => {
                    let rows = steps[list.clone()].iter().filter_map(|step| slot_taken_out(step, batch));
                    rows.for_each(|slot| atoms.put(waiting.of_row(slot), &mut ordered));
                    atoms.put([(list, kind)], &mut ordered);
                }
                Kind::Other => atoms.put([(list, kind)], &mut ordered),
            }
        }
        atoms.put(waiting.all(), &mut ordered);
        let mut steps: Vec<Option<Step>> = steps.into_iter().map(Some).collect();
        atoms.steps = ordered.into_iter().filter_map(|at: usize| steps[at].take()).collect();
        atoms
    }

    fn put(&mut self, items: impl IntoIterator<Item = (Range<usize>, Kind)>, ordered: &mut Vec<usize>) {
        for (steps, kind) in items {
            let start = ordered.len();
            ordered.extend(steps);
            self.atoms.push(Atom { steps: start..ordered.len(), kind });
        }
    }

    pub(super) fn len(&self) -> usize {
        self.atoms.len()
    }

    /// The steps of one.
    pub(super) fn steps(&self, atom: usize) -> &[Step] {
        &self.steps[self.atoms[atom].steps.clone()]
    }

    /// Whether a part went out as one change of one cell.
    pub(super) fn is_composed(&self, part: &Range<usize>) -> bool {
        matches!(self.atoms[part.start].kind, Kind::Composing(_))
    }

    /// What some of them send.
    pub(super) fn parts(&self, range: Range<usize>) -> Result<Vec<Part>, Error> {
        let mut parts = Vec::new();
        let mut at = range.start;
        while at < range.end {
            let kind = self.atoms[at].kind;
            let alike = self.atoms[at..range.end].iter().take_while(|atom| atom.kind == kind).count();
            let items = at..at + if kind == Kind::List { 1 } else { alike };
            let steps = self.atoms[items.start].steps.start..self.atoms[items.end - 1].steps.end;
            at = items.end;
            match kind {
                Kind::List => {
                    let statements =
                        self.steps[steps].iter().map(Step::statement).collect::<Result<_, _>>()?;
                    parts.push(Part { items, statements });
                }
                Kind::Composing(_) => {
                    parts.push(Part { items, statements: super::cells::composed(&self.steps[steps])? });
                }
                // One step each, so that their indexes count atoms.
                Kind::Other => parts.extend(replay::groups(&self.steps[steps])?.into_iter().map(|group| {
                    let begin = items.start;
                    let items = begin + group.steps.start..begin + group.steps.end;
                    Part { items, statements: vec![group.statement] }
                })),
            }
        }
        Ok(parts)
    }
}

/// Operations on cells that wait for their like. What lies between them concerns other rows.
#[derive(Default)]
struct Waiting(BTreeMap<Slot, Vec<usize>>);

impl Waiting {
    fn add(&mut self, slot: Slot, step: usize) {
        self.0.entry(slot).or_default().push(step);
    }

    /// Those on the row of this slot.
    fn of_row(&mut self, slot: Slot) -> Vec<(Range<usize>, Kind)> {
        let row = Slot { column: 0, ..slot }..=Slot { column: u16::MAX, ..slot };
        let slots: Vec<Slot> = self.0.range(row).map(|(slot, _)| *slot).collect();
        let taken = slots.into_iter().filter_map(|slot| self.0.remove_entry(&slot));
        flat(taken.collect())
    }

    fn all(self) -> Vec<(Range<usize>, Kind)> {
        flat(self.0.into_iter().collect())
    }
}

/// Cell by cell: the one whose first operation came first makes the row, if that is to be made.
fn flat(mut cells: Vec<(Slot, Vec<usize>)>) -> Vec<(Range<usize>, Kind)> {
    cells.sort_unstable_by_key(|(_, steps)| steps[0]);
    let one = |(slot, steps): (Slot, Vec<usize>)| {
        steps.into_iter().map(move |step| (step..step + 1, Kind::Composing(slot)))
    };
    cells.into_iter().flat_map(one).collect()
}

/// The steps of each list that is a step as a whole, and every other step by itself.
fn records(steps: &[Step]) -> impl Iterator<Item = Range<usize>> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let step = steps.get(at)?;
        let start = at;
        at += match step.record {
            Record::Whole => {
                let same = |it: &&Step| it.at.sequence == step.at.sequence;
                steps[at..].iter().take_while(same).count()
            }
            _ => 1,
        };
        Some(start..at)
    })
}

fn slot_taken_out(step: &Step, batch: &Batch) -> Option<Slot> {
    match &step.what {
        What::Cell(cell) => batch.locate(cell).filter(|slot| batch.apart.contains(&(slot.route, slot.row))),
        What::Statement(_) => None,
    }
}
