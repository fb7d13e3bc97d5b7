//! What a set-wise UPDATE makes of a JSONB array.

use std::sync::Arc;

use super::arrays::Arrays;
use crate::ops::{Form, SliceForm};
use crate::value::Value;

/// The expression. Without removals it is a concatenation. With them, stored elements (position 0) and appended ones
/// (positions from 1) go in order, except those equal to a removed value of a later position: what two texts mean to
/// `jsonb` only the server knows.
pub(super) fn expression<'a>(
    forms: impl Iterator<Item = &'a Form> + Clone,
    stored: &str,
    arrays: &mut Arrays,
) -> String {
    let forms = forms.map(as_slice);
    let base = base(forms.clone(), stored, arrays);
    if forms.clone().all(|form| form.removed().is_empty()) {
        let appended = arrays.push("jsonb", forms.map(|form| elements(form.appended())));
        return format!("{base} || {appended}");
    }
    let appended = arrays.push("jsonb", forms.clone().map(|form| positioned(form.appended())));
    let removed = arrays.push("jsonb", forms.map(|form| positioned(form.removed())));
    format!(
        "(SELECT COALESCE(jsonb_agg(x.e ORDER BY x.p, x.n), '[]') FROM (\
         SELECT 0 AS p, b.n, b.e FROM jsonb_array_elements({base}) WITH ORDINALITY AS b (e, n) \
         UNION ALL \
         SELECT (a.e->>0)::int, 0, a.e->1 FROM jsonb_array_elements({appended}) AS a (e)) AS x \
         WHERE NOT EXISTS (SELECT FROM jsonb_array_elements({removed}) AS r (e) \
         WHERE r.e->1 = x.e AND (r.e->>0)::int > x.p))"
    )
}

/// The stored array, or an empty one where the form begins with a clear. `jsonb_array_length` refuses what is none.
fn base<'a>(forms: impl Iterator<Item = &'a SliceForm> + Clone, stored: &str, arrays: &mut Arrays) -> String {
    if forms.clone().all(SliceForm::cleared) {
        return "'[]'::jsonb".to_owned();
    }
    let value = format!("COALESCE({stored}, '[]')");
    let checked = format!("CASE WHEN jsonb_array_length({value}) >= 0 THEN {value} END");
    if !forms.clone().any(SliceForm::cleared) {
        return checked;
    }
    let cleared = arrays.push("bool", forms.map(|form| Value::Bool(form.cleared())));
    format!("CASE WHEN {cleared} THEN '[]'::jsonb ELSE {checked} END")
}

fn elements(entries: Vec<(u32, &Arc<str>)>) -> Value {
    let texts: Vec<&str> = entries.into_iter().map(|(_, text)| &**text).collect();
    Value::Json(format!("[{}]", texts.join(",")).into())
}

/// `[[position, element], …]`, positions from 1.
fn positioned(entries: Vec<(u32, &Arc<str>)>) -> Value {
    let entries: Vec<String> =
        entries.into_iter().map(|(at, text)| format!("[{},{text}]", u64::from(at) + 1)).collect();
    Value::Json(format!("[{}]", entries.join(",")).into())
}

fn as_slice(form: &Form) -> &SliceForm {
    match form {
        Form::Slice(form) => form,
        _ => unreachable!("a column has one kind of cells"),
    }
}
