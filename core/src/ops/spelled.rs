//! A form as the shortest list of operations that comes to it: what a statement of its own is made from.

use super::{CounterForm, Exact, Form, MapForm, Operation, SliceForm};

impl Form {
    /// At least one operation, so that NULL becomes what an empty cell reads as.
    pub(crate) fn operations(&self) -> Vec<Operation> {
        match self {
            Form::Counter(form) => counter(*form),
            Form::Slice(form) => slice(form),
            Form::Map(form) => map(form),
        }
    }
}

fn counter(form: CounterForm) -> Vec<Operation> {
    match form {
        CounterForm::Constant(it) => vec![Operation::Assign(it)],
        CounterForm::Affine { times: Exact::ONE, plus } => vec![Operation::Add(plus)],
        CounterForm::Affine { times, plus: Exact::ZERO } => vec![Operation::Multiply(times)],
        CounterForm::Affine { times, plus } => vec![Operation::Multiply(times), Operation::Add(plus)],
    }
}

fn slice(form: &SliceForm) -> Vec<Operation> {
    let appended = form.appended().into_iter().map(|(at, text)| (at, Operation::Append(text.clone())));
    let removed = form.removed().into_iter().map(|(at, text)| (at, Operation::Remove(text.clone())));
    let mut placed: Vec<(u32, Operation)> = appended.chain(removed).collect();
    placed.sort_by_key(|(at, _)| *at);
    let cleared = form.cleared().then_some(Operation::Clear);
    cleared.into_iter().chain(placed.into_iter().map(|(_, operation)| operation)).collect()
}

fn map(form: &MapForm) -> Vec<Operation> {
    let puts = form.puts().map(|(key, value)| Operation::Put(key.clone(), value.clone()));
    puts.chain(form.deletes().map(|key| Operation::Delete(key.clone()))).collect()
}

#[cfg(test)]
mod tests {
    use super::super::Kind;
    use super::*;
    use crate::value::Value;

    #[test]
    fn a_form_spelled_out_composes_to_itself() {
        let number = |it: i64| Exact::of(&Value::Int(it)).unwrap();
        let lists: [(Kind, Vec<Operation>); 4] = [
            (Kind::Counter, vec![Operation::Add(number(2)), Operation::Multiply(number(3))]),
            (Kind::Counter, vec![Operation::Add(number(2)), Operation::Assign(number(3))]),
            (
                Kind::Slice,
                vec![
                    Operation::Clear,
                    Operation::Append("1".into()),
                    Operation::Remove("2".into()),
                    Operation::Append("1".into()),
                ],
            ),
            (Kind::Map, vec![Operation::Put("a".into(), "1".into()), Operation::Delete("b".into())]),
        ];
        for (kind, list) in lists {
            let (mut form, mut again) = (Form::new(kind), Form::new(kind));
            list.iter().for_each(|it| form.then(it).unwrap());
            form.operations().iter().for_each(|it| again.then(it).unwrap());
            assert_eq!(form.operations(), again.operations());
        }
        assert_eq!(Form::new(Kind::Counter).operations(), [Operation::Add(Exact::ZERO)]);
    }
}
