//! What a set-wise UPDATE makes of a JSONB object.

use super::arrays::Arrays;
use crate::ops::{Form, MapForm};
use crate::value::{Value, value_to_json};

/// The expression: the stored object without the removed keys, and with the set ones over it. What is not an object is
/// refused by `jsonb_each`, as it is when an operation runs alone.
pub(super) fn expression<'a>(
    forms: impl Iterator<Item = &'a Form> + Clone,
    stored: &str,
    arrays: &mut Arrays,
) -> String {
    let forms = forms.map(as_map);
    let value = format!("COALESCE({stored}, '{{}}')");
    let object = format!(
        "CASE jsonb_typeof({value}) WHEN 'object' THEN {value} \
         ELSE (SELECT jsonb_object_agg(j.key, j.value) FROM jsonb_each({value}) AS j) END"
    );
    let set = arrays.push("jsonb", forms.clone().map(set_keys));
    if forms.clone().all(|form| form.deletes().next().is_none()) {
        return format!("{object} || {set}");
    }
    let removed = arrays.push("jsonb", forms.map(removed_keys));
    format!("({object} - ARRAY(SELECT jsonb_array_elements_text({removed}))) || {set}")
}

/// Keys are escaped here; the values are JSON texts that were checked when they were given.
fn set_keys(form: &MapForm) -> Value {
    let mut json = String::from("{");
    for (key, value) in form.puts() {
        push_member(key, &mut json);
        json.push(':');
        json.push_str(value);
    }
    json.push('}');
    Value::Json(json.into())
}

fn removed_keys(form: &MapForm) -> Value {
    let mut json = String::from("[");
    form.deletes().for_each(|key| push_member(key, &mut json));
    json.push(']');
    Value::Json(json.into())
}

fn push_member(key: &std::sync::Arc<str>, json: &mut String) {
    if json.len() > 1 {
        json.push(',');
    }
    // A text without NUL always has a JSON form, and no key with one was accepted.
    json.push_str(&value_to_json(&Value::Text(key.clone())).unwrap_or_else(|_| "\"\"".into()));
}

fn as_map(form: &Form) -> &MapForm {
    match form {
        Form::Map(form) => form,
        _ => unreachable!("a column has one kind of cells"),
    }
}
