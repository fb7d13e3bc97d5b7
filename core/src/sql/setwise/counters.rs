//! What a set-wise UPDATE makes of a counter.

use super::arrays::Arrays;
use crate::ops::{CounterForm, Exact, Form};
use crate::value::Value;

/// The expression: as simple as the forms of this set allow.
///
/// Numbers travel as `int8` if all of them are integers, else as `numeric`; a float column computes in floating point
/// either way, because the server converts to it.
pub(super) fn expression<'a>(
    forms: impl Iterator<Item = &'a Form> + Clone,
    stored: &str,
    arrays: &mut Arrays,
) -> String {
    let forms = forms.map(as_counter);
    let numbers = |form: &CounterForm| match *form {
        CounterForm::Affine { times, plus } => (times, plus),
        CounterForm::Constant(it) => (Exact::ZERO, it),
    };
    let whole = forms.clone().all(|form| {
        let (times, plus) = numbers(form);
        times.is_integer() && plus.is_integer()
    });
    let ty = if whole { "int8" } else { "numeric" };
    let plus = arrays.push(ty, forms.clone().map(|form| numbers(form).1.to_value()));
    let constant = |form: &CounterForm| matches!(form, CounterForm::Constant(_));
    if forms.clone().all(constant) {
        return plus;
    }
    let added =
        forms.clone().all(|form| matches!(form, CounterForm::Affine { times, .. } if *times == Exact::ONE));
    if added {
        return format!("COALESCE({stored}, 0) + {plus}");
    }
    let times = arrays.push(ty, forms.clone().map(|form| numbers(form).0.to_value()));
    let changed = format!("COALESCE({stored}, 0) * {times} + {plus}");
    if !forms.clone().any(constant) {
        return changed;
    }
    let constants = arrays.push("bool", forms.map(|form| Value::Bool(constant(form))));
    format!("CASE WHEN {constants} THEN {plus} ELSE {changed} END")
}

fn as_counter(form: &Form) -> &CounterForm {
    match form {
        Form::Counter(form) => form,
        _ => unreachable!("a column has one kind of cells"),
    }
}
