//! What operations mean, said a second time and without any form: each is applied alone, to the value that the one
//! before it left. And what the server makes of a form, in the words of the statement that will be written for it.

mod number;
mod random;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::Value as Json;

use super::{CounterForm, Exact, MapForm, Operation, SliceForm};
use crate::value::Value;
pub(super) use number::Number;
pub(super) use random::Rng;

/// A step of a counter as the caller gives it.
#[derive(Clone)]
pub(super) enum Step {
    Inc(Value),
    Dec(Value),
    Mul(Value),
    Set(Value),
}

impl Step {
    /// `None` if the number cannot be held.
    pub(super) fn operation(&self) -> Option<Operation> {
        Some(match self {
            Step::Inc(n) => Operation::Add(Exact::of(n)?),
            Step::Dec(n) => Operation::Add(Exact::of(n)?.negated()?),
            Step::Mul(n) => Operation::Multiply(Exact::of(n)?),
            Step::Set(n) => Operation::Assign(Exact::of(n)?),
        })
    }

    fn apply(&self, x: &Number) -> Number {
        match self {
            Step::Inc(n) => x.plus(&Number::of(n)),
            Step::Dec(n) => x.plus(&Number::of(n).negated()),
            Step::Mul(n) => x.times(&Number::of(n)),
            Step::Set(n) => Number::of(n),
        }
    }
}

/// What each step leaves; the last one is the result.
pub(super) fn count(start: &Number, steps: &[Step]) -> Vec<Number> {
    let mut x = start.clone();
    let after = |step: &Step| {
        x = step.apply(&x);
        x.clone()
    };
    steps.iter().map(after).collect()
}

pub(super) fn apply_counter(form: &CounterForm, start: &Number) -> Number {
    let number = |it: &Exact| Number::of(&it.to_value());
    match form {
        CounterForm::Affine { times, plus } => start.times(&number(times)).plus(&number(plus)),
        CounterForm::Constant(it) => number(it),
    }
}

/// JSON texts, several of which are one value for PostgreSQL.
pub(super) struct Pool {
    texts: Vec<Arc<str>>,
    meanings: BTreeMap<Arc<str>, String>,
}

impl Pool {
    pub(super) fn new() -> Pool {
        let texts: Vec<Arc<str>> = [
            "1",
            "1.0",
            "1e0",
            "10e-1",
            "2",
            "-0",
            "0",
            "\"1\"",
            "\"a\"",
            "\"\\u0061\"",
            "null",
            "[1]",
            "[ 1.0]",
            r#"{"a":1,"b":2}"#,
            r#"{"b":2, "a":1.0}"#,
            r#"{"a":9,"a":1,"b":2}"#,
            r#"{"a":1}"#,
        ]
        .map(Arc::from)
        .into();
        let meanings = texts.iter().map(|it| (it.clone(), meaning(it))).collect();
        Pool { texts, meanings }
    }

    pub(super) fn text(&self, rng: &mut Rng) -> Arc<str> {
        self.texts[rng.below(self.texts.len())].clone()
    }

    /// How many different ones.
    pub(super) fn values(&self) -> usize {
        self.meanings.values().collect::<BTreeSet<_>>().len()
    }

    /// As `=` of jsonb.
    fn equal(&self, one: &Arc<str>, other: &Arc<str>) -> bool {
        self.meanings[one] == self.meanings[other]
    }

    /// Each operation alone.
    pub(super) fn edit(&self, start: &[Arc<str>], operations: &[Operation]) -> Vec<Arc<str>> {
        let mut array = start.to_vec();
        for it in operations {
            match it {
                Operation::Append(text) => array.push(text.clone()),
                Operation::Remove(text) => array.retain(|element| !self.equal(element, text)),
                Operation::Clear => array.clear(),
                other => panic!("{other:?} is not for slices"),
            }
        }
        array
    }

    pub(super) fn apply_slice(&self, form: &SliceForm, start: &[Arc<str>]) -> Vec<Arc<str>> {
        let removed = form.removed();
        let goes = |text: &Arc<str>, after: Option<u32>| {
            removed.iter().any(|(at, it)| after.is_none_or(|after| *at > after) && self.equal(it, text))
        };
        let base = if form.cleared() { &[] } else { start };
        let base = base.iter().filter(|it| !goes(it, None)).cloned();
        let appended = form.appended();
        base.chain(appended.iter().filter(|(at, it)| !goes(it, Some(*at))).map(|(_, it)| (*it).clone()))
            .collect()
    }
}

/// The same for texts that are equal as jsonb.
fn meaning(text: &str) -> String {
    fn plain(json: &mut Json) {
        match json {
            // What is whole here is small; -0 is 0.
            Json::Number(it) => *json = Json::from(it.as_f64().expect("a small number") + 0.0),
            Json::Array(items) => items.iter_mut().for_each(plain),
            Json::Object(members) => members.values_mut().for_each(plain),
            _ => {}
        }
    }
    let mut json: Json = serde_json::from_str(text).expect("the pool holds JSON");
    plain(&mut json);
    json.sort_all_objects();
    json.to_string()
}

pub(super) type Object = BTreeMap<Arc<str>, Arc<str>>;

/// Each operation alone.
pub(super) fn change(start: &Object, operations: &[Operation]) -> Object {
    let mut object = start.clone();
    for it in operations {
        match it {
            Operation::Put(key, value) => drop(object.insert(key.clone(), value.clone())),
            Operation::Delete(key) => drop(object.remove(key)),
            other => panic!("{other:?} is not for maps"),
        }
    }
    object
}

pub(super) fn apply_map(form: &MapForm, start: &Object) -> Object {
    let mut object = start.clone();
    form.deletes().for_each(|key| drop(object.remove(key)));
    object.extend(form.puts().map(|(key, value)| (key.clone(), value.clone())));
    object
}
