//! What processes did, as they saw it, one line per event, and whether the final rows agree with it.
//!
//! ```text
//! {"process":"a","op":7,"row":"feed_1","amount":3,"event":"invoke"}      then, for the same process and op, one of
//!   "ok"    acknowledged: its effect is there          "fail"  refused: its effect is not there
//!   "info"  unknown: it may be there, once             (nothing: the process died, which is as unknown)
//! ```
//! A line goes out in one write before the next step, so that what a killed process did is known up to its last event;
//! a torn last line says nothing. Each process has a file of its own.

use std::collections::{BTreeMap, HashSet};
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;

use serde::{Deserialize, Serialize};

/// Of unknown operations on one row, more different sums than this are not told apart; bounds have to do.
const SUMS: usize = 1 << 16;

/// How far an operation has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    Invoke,
    Ok,
    Fail,
    Info,
}

/// One line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    pub process: String,
    pub op: u64,
    pub row: String,
    pub amount: i64,
    pub event: Stage,
}

/// Writes the events of one process.
pub struct Recorder {
    process: String,
    file: File,
}

/// An operation that was begun.
#[derive(Debug, Clone)]
pub struct Begun {
    op: u64,
    row: String,
    amount: i64,
}

impl Recorder {
    /// A file of its own in the folder. The name stands for one start of a process.
    pub fn new(folder: &Path, process: &str) -> Recorder {
        let path = folder.join(format!("{process}.jsonl"));
        let file = OpenOptions::new().append(true).create_new(true).open(path).expect("a new history");
        Recorder { process: process.to_owned(), file }
    }

    /// Says that an operation is about to be called.
    pub fn invoke(&mut self, op: u64, row: &str, amount: i64) -> Begun {
        let begun = Begun { op, row: row.to_owned(), amount };
        self.write(&begun, Stage::Invoke);
        begun
    }

    /// Says how it ended.
    pub fn end(&mut self, begun: &Begun, stage: Stage) {
        self.write(begun, stage);
    }

    fn write(&mut self, begun: &Begun, event: Stage) {
        let Begun { op, row, amount } = begun.clone();
        let event = Event { process: self.process.clone(), op, row, amount, event };
        let line = serde_json::to_string(&event).expect("an event is JSON") + "\n";
        self.file.write_all(line.as_bytes()).expect("the history can be written");
    }
}

/// One operation, after all that is known of it.
#[derive(Debug, Clone)]
struct Operation {
    row: String,
    amount: i64,
    stage: Stage,
}

/// What all processes did.
#[derive(Debug, Default)]
pub struct History(BTreeMap<(String, u64), Operation>);

/// What is wrong, one sentence each.
pub type Verdict = Result<(), Vec<String>>;

/// What an operation appends where elements are counted instead of amounts.
pub fn element(process: &str, op: u64) -> String {
    format!("{process}:{op}")
}

impl History {
    /// Every history of a folder.
    pub fn read(folder: &Path) -> History {
        let mut lines = String::new();
        for entry in std::fs::read_dir(folder).expect("the folder of the histories") {
            let path = entry.expect("an entry").path();
            if path.extension().is_some_and(|it| it == "jsonl") {
                let text = std::fs::read_to_string(path).expect("a history is text");
                // What follows the last newline was being written when the process died.
                lines.push_str(&text[..text.rfind('\n').map_or(0, |at| at + 1)]);
            }
        }
        History::parse(&lines)
    }

    /// A history that contradicts itself is the test's mistake, so it panics.
    pub fn parse(lines: &str) -> History {
        let mut history = History::default();
        for line in lines.lines() {
            history.add(serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}")));
        }
        history
    }

    fn add(&mut self, event: Event) {
        let Event { process, op, row, amount, event: stage } = event;
        let known = self.0.get_mut(&(process.clone(), op));
        match (known, stage) {
            (None, Stage::Invoke) => {
                self.0.insert((process, op), Operation { row, amount, stage });
            }
            (Some(known), Stage::Ok | Stage::Fail | Stage::Info)
                if known.row == row
                    && known.amount == amount
                    && matches!(known.stage, Stage::Invoke | Stage::Info) =>
            {
                known.stage = stage;
            }
            (known, _) => panic!("operation {op} of {process} cannot go from {known:?} to {stage:?}"),
        }
    }

    /// How many operations ended this way; those without an end are unknown, as `Info`.
    pub fn count(&self, stage: Stage) -> usize {
        let unknown = |stage| matches!(stage, Stage::Invoke | Stage::Info);
        self.0.values().filter(|op| op.stage == stage || unknown(op.stage) && unknown(stage)).count()
    }

    /// Counters: each row is what was acknowledged for it plus some of what is unknown, each at most once. `finals` are
    /// all rows there are, counted from 0.
    pub fn check_counters(&self, finals: &BTreeMap<String, i64>) -> Verdict {
        let mut rows: BTreeMap<&str, Vec<&Operation>> = BTreeMap::new();
        self.0.values().for_each(|op| rows.entry(&op.row).or_default().push(op));
        finals.keys().for_each(|row| _ = rows.entry(row).or_default());
        let wrong = |(row, operations): (&&str, &Vec<&Operation>)| {
            wrong_counter(row, operations, finals.get(*row).copied().unwrap_or(0))
        };
        verdict(rows.iter().filter_map(wrong).collect())
    }

    /// Sets: each acknowledged element is there exactly once, in its row; an unknown one at most once; no other one.
    pub fn check_elements(&self, finals: &BTreeMap<String, Vec<String>>) -> Verdict {
        let mut found: BTreeMap<(&str, String), usize> = BTreeMap::new();
        for (row, elements) in finals {
            elements.iter().for_each(|element| *found.entry((row, element.clone())).or_default() += 1);
        }
        let mut wrong = Vec::new();
        for ((process, op), operation) in &self.0 {
            let (row, element) = (operation.row.as_str(), element(process, *op));
            let times = found.remove(&(row, element.clone())).unwrap_or(0);
            match operation.stage {
                Stage::Ok if times == 0 => {
                    wrong.push(format!("{element} was acknowledged and is not in {row}"))
                }
                Stage::Fail if times > 0 => wrong.push(format!("{element} was refused and is in {row}")),
                _ if times > 1 => wrong.push(format!("{element} is {times} times in {row}")),
                _ => {}
            }
        }
        wrong.extend(
            found.keys().map(|(row, element)| format!("{element} is in {row} and nobody put it there")),
        );
        verdict(wrong)
    }
}

fn wrong_counter(row: &str, operations: &[&Operation], is: i64) -> Option<String> {
    let amounts = |stages: &[Stage]| -> Vec<i128> {
        let these = operations.iter().filter(|op| stages.contains(&op.stage));
        these.map(|op| i128::from(op.amount)).collect()
    };
    let acknowledged: i128 = amounts(&[Stage::Ok]).iter().sum();
    let unknown = amounts(&[Stage::Invoke, Stage::Info]);
    let least: i128 = unknown.iter().filter(|amount| **amount < 0).sum();
    let most: i128 = unknown.iter().filter(|amount| **amount > 0).sum();
    let rest = i128::from(is) - acknowledged;
    let why = if rest < least || rest > most {
        format!("{} unknown operations add {least} to {most}", unknown.len())
    } else if !may_be_a_sum(&unknown, rest) {
        format!("no part of {unknown:?} makes the rest")
    } else {
        return None;
    };
    Some(format!("{row} is {is}: {acknowledged} were acknowledged, and {why}"))
}

/// Whether some of the amounts make the sum, as far as that can be told.
fn may_be_a_sum(amounts: &[i128], sum: i128) -> bool {
    let mut sums = HashSet::from([0]);
    for amount in amounts {
        let more: Vec<i128> = sums.iter().map(|before| before + amount).collect();
        sums.extend(more);
        if sums.len() > SUMS {
            return true;
        }
    }
    sums.contains(&sum)
}

fn verdict(wrong: Vec<String>) -> Verdict {
    if wrong.is_empty() { Ok(()) } else { Err(wrong) }
}
