//! The law, on random lists: a form leaves what its operations leave one by one, however it was put together.
//!
//! A failure prints its seed; `ZMSG_SEED` begins there. `ZMSG_SOAK=n` runs n million lists of each kind.

use std::sync::Arc;

use super::model::{self, Number, Object, Pool, Rng, Step};
use super::{Class, CounterForm, Exact, Form, Kind, MapForm, NotComposable, Operation, SliceForm};
use crate::value::{Decimal, Value};

/// Of each kind.
const LISTS: u64 = 30_000;

/// Says which list it was.
struct Seed(u64);

impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("ZMSG_SEED={} repeats it", self.0);
        }
    }
}

/// Gives how many lists had one form.
fn check(one_list: impl Fn(&mut Rng) -> bool) {
    let setting = |name: &str| std::env::var(name).ok().map(|it| it.parse::<u64>().expect("a number"));
    let first = setting("ZMSG_SEED").unwrap_or(7);
    let lists = setting("ZMSG_SOAK").map_or(LISTS, |millions| millions * 1_000_000);
    let composed = (first..first + lists).filter(|seed| {
        let _seed = Seed(*seed);
        one_list(&mut Rng::new(*seed))
    });
    let composed = composed.count() as u64;
    assert!(composed > lists / 3, "only {composed} lists of {lists} had one form");
}

fn list<T>(rng: &mut Rng, one: impl Fn(&mut Rng) -> T) -> Vec<T> {
    (0..1 + rng.below(12)).map(|_| one(rng)).collect()
}

/// The form of the operations, if they have one. What is refused leaves no trace.
fn form_of(kind: Kind, operations: &[Operation]) -> Option<Form> {
    let mut form = Form::new(kind);
    for it in operations {
        let before = form.clone();
        if form.then(it).is_err() {
            assert_eq!(form, before);
            return None;
        }
        if *it == Operation::Clear {
            assert_eq!(form.bytes(), 0);
        }
    }
    Some(form)
}

fn both(one: &Form, other: &Form) -> Option<Form> {
    let mut whole = one.clone();
    if whole.followed_by(other).is_ok() {
        return Some(whole);
    }
    assert_eq!(whole, *one);
    None
}

/// Every form that the list can be given: operation by operation, and from three parts composed in either order.
fn forms(kind: Kind, operations: &[Operation], rng: &mut Rng) -> Vec<Form> {
    let identity = Form::new(kind);
    let (first, second) = (rng.below(operations.len() + 1), rng.below(operations.len() + 1));
    let (first, second) = (first.min(second), first.max(second));
    let part = |from: usize, to: usize| form_of(kind, &operations[from..to]);
    let mut found: Vec<Form> = part(0, operations.len()).into_iter().collect();
    if let (Some(a), Some(b), Some(c)) = (part(0, first), part(first, second), part(second, operations.len()))
    {
        for it in [&a, &b, &c] {
            assert_eq!(both(&identity, it).as_ref(), Some(it));
            assert_eq!(both(it, &identity).as_ref(), Some(it));
        }
        found.extend(both(&a, &b).and_then(|it| both(&it, &c)));
        found.extend(both(&b, &c).and_then(|it| both(&a, &it)));
    }
    assert!(found.windows(2).all(|it| it[0] == it[1]), "{operations:?}");
    assert!(found.windows(2).all(|it| kind != Kind::Map || it[0].bytes() == it[1].bytes()));
    found
}

fn integer(rng: &mut Rng) -> Value {
    const EDGES: [i64; 6] = [i64::MIN, i64::MIN + 1, i64::MAX, i64::MAX - 1, 1 << 62, -(1 << 32)];
    Value::Int(match rng.below(16) {
        0 => EDGES[rng.below(EDGES.len())],
        1 => rng.word() as i64,
        2 => (rng.word() as i64) >> 33,
        _ => rng.below(9) as i64 - 4,
    })
}

/// Any sign, point and exponent; now and then an integer, or more digits than can be held.
fn decimal(rng: &mut Rng) -> Value {
    let digits = |rng: &mut Rng, most: usize| -> String {
        (0..rng.below(most)).map(|_| char::from(b'0' + rng.below(10) as u8)).collect()
    };
    if rng.below(4) == 0 {
        return integer(rng);
    }
    let sign = ["", "", "+", "-"][rng.below(4)];
    let (whole, fraction) = match rng.below(60) {
        0 => (digits(rng, 45), digits(rng, 30)),
        _ => (digits(rng, 4), digits(rng, 4)),
    };
    let exponent = match rng.below(5) {
        0 => format!("e{}", rng.below(13) as i64 - 6),
        _ => String::new(),
    };
    Value::Decimal(Decimal::parse(&format!("{sign}{whole}0.{fraction}{exponent}")).unwrap())
}

fn step(rng: &mut Rng, number: fn(&mut Rng) -> Value) -> Step {
    let kind = rng.below(10);
    let number = number(rng);
    match kind {
        0..4 => Step::Inc(number),
        4..7 => Step::Dec(number),
        7..9 => Step::Mul(number),
        _ => Step::Set(number),
    }
}

fn counters(rng: &mut Rng, number: fn(&mut Rng) -> Value) -> bool {
    let steps = list(rng, |rng| step(rng, number));
    let Some(operations) = steps.iter().map(Step::operation).collect::<Option<Vec<_>>>() else {
        return false;
    };
    let start = if rng.below(5) == 0 { Value::Null } else { number(rng) };
    let start = Number::of(&start);
    let alone = model::count(&start, &steps);
    let forms = forms(Kind::Counter, &operations, rng);
    for form in &forms {
        let Form::Counter(form) = form else { panic!("{form:?} is no counter's") };
        assert_eq!(Some(&model::apply_counter(form, &start)), alone.last());
    }
    !forms.is_empty()
}

#[test]
fn integers_come_out_as_one_by_one() {
    check(|rng| counters(rng, integer));
}

#[test]
fn decimals_come_out_digit_by_digit() {
    check(|rng| counters(rng, decimal));
}

#[test]
fn a_sum_that_no_step_overflows_is_composed() {
    check(|rng| {
        let steps = list(rng, |rng| step(rng, |rng| Value::Int(rng.below(2_000_000) as i64 - 1_000_000)));
        let steps: Vec<Step> = steps.into_iter().filter(|it| !matches!(it, Step::Mul(_))).collect();
        let operations: Vec<Operation> = steps.iter().filter_map(Step::operation).collect();
        let alone = model::count(&Number::of(&Value::Null), &steps);
        assert!(alone.iter().all(Number::is_int8) && operations.len() == steps.len());
        form_of(Kind::Counter, &operations).expect("small integers compose");
        true
    });
}

#[test]
fn slices_come_out_as_one_by_one() {
    let pool = Pool::new();
    assert_eq!(pool.values(), 9, "as many as PostgreSQL tells apart");
    check(|rng| {
        let operations = list(rng, |rng| match rng.below(20) {
            0 => Operation::Clear,
            1..9 => Operation::Remove(pool.text(rng)),
            _ => Operation::Append(pool.text(rng)),
        });
        let start: Vec<Arc<str>> = (0..rng.below(6)).map(|_| pool.text(rng)).collect();
        let alone = pool.edit(&start, &operations);
        let forms = forms(Kind::Slice, &operations, rng);
        for form in &forms {
            let Form::Slice(form) = form else { panic!("{form:?} is no slice's") };
            assert_eq!(pool.apply_slice(form, &start), alone);
        }
        !forms.is_empty()
    });
}

#[test]
fn maps_come_out_as_one_by_one() {
    let key = |rng: &mut Rng| Arc::from(["", "a", "b", "c", "aa"][rng.below(5)]);
    let value = |rng: &mut Rng| Arc::from(["1", "null", "{}", "\"a text\""][rng.below(4)]);
    check(|rng| {
        let operations = list(rng, |rng| match rng.below(3) {
            0 => Operation::Delete(key(rng)),
            _ => Operation::Put(key(rng), value(rng)),
        });
        let start: Object = (0..rng.below(4)).map(|_| (key(rng), value(rng))).collect();
        let alone = model::change(&start, &operations);
        let forms = forms(Kind::Map, &operations, rng);
        for form in &forms {
            let Form::Map(form) = form else { panic!("{form:?} is no map's") };
            assert_eq!(model::apply_map(form, &start), alone);
        }
        !forms.is_empty()
    });
}

#[test]
fn an_overflow_is_refused_and_leaves_what_was_there() {
    let add = |n: i64| Operation::Add(Exact::of(&n.into()).unwrap());
    let mut form = Form::new(Kind::Counter);
    form.then(&add(i64::MAX)).unwrap();
    let before = form.clone();
    assert_eq!(form.then(&add(1)), Err(NotComposable));
    assert_eq!(form.followed_by(&before), Err(NotComposable));
    assert_eq!(form, before);
    form.then(&add(i64::MIN)).unwrap();
    form.then(&Operation::Multiply(Exact::ZERO)).unwrap();
    form.then(&Operation::Assign(Exact::ONE)).unwrap();
    assert!(form == Form::Counter(CounterForm::Constant(Exact::ONE)));
}

#[test]
fn operations_of_another_kind_of_cell_are_refused() {
    let operations = [
        (Kind::Counter, Operation::Add(Exact::ONE)),
        (Kind::Slice, Operation::Clear),
        (Kind::Map, Operation::Delete("k".into())),
    ];
    for kind in [Kind::Counter, Kind::Slice, Kind::Map] {
        for (its_kind, operation) in &operations {
            let mut form = Form::new(kind);
            assert_eq!(form.kind(), kind);
            assert_eq!(form.followed_by(&Form::new(*its_kind)).is_ok(), kind == *its_kind);
            assert_eq!(form.then(operation).is_ok(), kind == *its_kind, "{operation:?} on {form:?}");
        }
    }
}

#[test]
fn sums_commute_with_sums_and_products_with_products() {
    let classes = [
        Operation::Add(Exact::ONE).class(),
        Operation::Multiply(Exact::ONE).class(),
        Operation::Assign(Exact::ONE).class(),
        Operation::Append("1".into()).class(),
    ];
    assert_eq!(classes, [Class::Add, Class::Multiply, Class::Other, Class::Other]);
}

#[test]
fn nothing_shows_an_argument() {
    let mut slice = SliceForm::default();
    slice.then(&Operation::Append("canary".into())).unwrap();
    let forms = [Form::Slice(slice), Form::Map(MapForm::default())];
    let shown = format!(
        "{:?} {:?} {forms:?}",
        Operation::Put("canary".into(), "canary".into()),
        Operation::Remove("canary".into())
    );
    assert!(shown.contains("put remove [Slice form of") && !shown.contains("canary"), "{shown}");
}
