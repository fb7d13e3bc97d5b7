//! The checker says yes to what may happen and no to what may not.

use std::collections::BTreeMap;

use crate::support::history::{Event, History, Recorder, Stage, Verdict, element};

/// `a1+3 ok`: the first operation of process a adds 3 to the row r and is acknowledged. Without a word it is unknown.
fn history(operations: &[&str]) -> History {
    let mut lines = String::new();
    let mut say = |process: &str, op, amount, event| {
        let (process, row) = (process.to_owned(), "r".to_owned());
        lines += &(serde_json::to_string(&Event { process, op, row, amount, event }).unwrap() + "\n");
    };
    for operation in operations {
        let (call, end) = operation.split_once(' ').unwrap_or((operation, ""));
        let (process, rest) = call.split_at(1);
        let (op, amount) = rest.split_at(1);
        let (op, amount) = (op.parse().unwrap(), amount.parse().unwrap());
        say(process, op, amount, Stage::Invoke);
        match end {
            "ok" => say(process, op, amount, Stage::Ok),
            "fail" => say(process, op, amount, Stage::Fail),
            "info" => say(process, op, amount, Stage::Info),
            _ => {}
        }
    }
    History::parse(&lines)
}

fn counters(operations: &[&str], is: i64) -> Verdict {
    history(operations).check_counters(&BTreeMap::from([("r".to_owned(), is)]))
}

fn elements(operations: &[&str], are: &[&str]) -> Verdict {
    let are = are.iter().map(|&it| it.to_owned()).collect();
    history(operations).check_elements(&BTreeMap::from([("r".to_owned(), are)]))
}

#[test]
fn without_anything_unknown_the_sum_is_exact() {
    let operations = ["a1+3 ok", "a2+4 ok", "b1+5 fail"];
    assert_eq!(counters(&operations, 7), Ok(()));
    for wrong in [6, 8, 12, 0] {
        assert!(counters(&operations, wrong).is_err(), "{wrong}");
    }
}

#[test]
fn an_unknown_operation_counts_once_or_not_at_all() {
    let operations = ["a1+3 ok", "a2+4", "b1+9 info"];
    for right in [3, 7, 12, 16] {
        assert_eq!(counters(&operations, right), Ok(()), "{right}");
    }
    // 11: a2 twice. 10 and 13 lie within the bounds and no part of the unknown makes them.
    for wrong in [2, 11, 10, 13, 17, 20] {
        assert!(counters(&operations, wrong).is_err(), "{wrong}");
    }
}

#[test]
fn what_takes_away_widens_the_bounds_downwards() {
    let operations = ["a1+3 ok", "a2-4"];
    assert!(counters(&operations, 3).is_ok() && counters(&operations, -1).is_ok());
    assert!(counters(&operations, -5).is_err() && counters(&operations, 7).is_err());
}

#[test]
fn a_row_that_nobody_named_stays_as_it_was_and_a_lost_one_is_noticed() {
    let known = history(&["a1+3 ok"]);
    assert!(known.check_counters(&BTreeMap::from([("r".to_owned(), 3), ("other".to_owned(), 1)])).is_err());
    assert!(known.check_counters(&BTreeMap::from([("r".to_owned(), 3), ("other".to_owned(), 0)])).is_ok());
    let wrong = known.check_counters(&BTreeMap::new()).unwrap_err();
    assert!(wrong[0].contains("r is 0") && wrong[0].contains("3 were acknowledged"), "{wrong:?}");
}

#[test]
fn many_unknown_operations_are_still_bounded() {
    let many: Vec<String> = (0..9).flat_map(|op| ["a", "b", "c"].map(|it| format!("{it}{op}+1"))).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    assert!(counters(&many, 27).is_ok() && counters(&many, 0).is_ok() && counters(&many, 28).is_err());
}

#[test]
fn each_acknowledged_element_is_there_once() {
    let operations = ["a1+1 ok", "a2+1", "b1+1 fail", "b2+1 info"];
    assert_eq!(element("a", 1), "a:1");
    for right in [vec!["a:1"], vec!["a:1", "a:2"], vec!["b:2", "a:2", "a:1"]] {
        assert_eq!(elements(&operations, &right), Ok(()), "{right:?}");
    }
    for (wrong, why) in [
        (vec![], "a:1 was acknowledged and is not in r"),
        (vec!["a:1", "a:1"], "a:1 is 2 times"),
        (vec!["a:1", "a:2", "a:2"], "a:2 is 2 times"),
        (vec!["a:1", "b:1"], "b:1 was refused"),
        (vec!["a:1", "c:1"], "nobody put it there"),
    ] {
        let said = elements(&operations, &wrong).unwrap_err();
        assert!(said.len() == 1 && said[0].contains(why), "{said:?}");
    }
}

#[test]
fn a_history_survives_the_death_of_its_writer() {
    let folder = tempfile::tempdir().unwrap();
    let mut one = Recorder::new(folder.path(), "one");
    let mut other = Recorder::new(folder.path(), "other");
    let begun = one.invoke(1, "r", 2);
    one.end(&begun, Stage::Info);
    one.end(&begun, Stage::Ok);
    other.invoke(1, "r", 5);
    // The line that was being written.
    let torn =
        std::fs::read_to_string(folder.path().join("other.jsonl")).unwrap() + "{\"process\":\"other\",\"o";
    std::fs::write(folder.path().join("other.jsonl"), torn).unwrap();
    let history = History::read(folder.path());
    assert_eq!((history.count(Stage::Ok), history.count(Stage::Info), history.count(Stage::Fail)), (1, 1, 0));
    assert!(history.check_counters(&BTreeMap::from([("r".to_owned(), 7)])).is_ok());
}

#[test]
fn a_history_that_contradicts_itself_is_refused() {
    let line = |op: u64, event: &str| {
        format!(r#"{{"process":"a","op":{op},"row":"r","amount":1,"event":"{event}"}}"#)
    };
    let (invoke, ok, fail) = (line(1, "invoke"), line(1, "ok"), line(1, "fail"));
    let other_row = invoke.replace("\"r\"", "\"s\"").replace("invoke", "ok");
    for lines in [vec![&ok], vec![&invoke, &invoke], vec![&invoke, &ok, &fail], vec![&invoke, &other_row]] {
        let text = lines.iter().map(|line| format!("{line}\n")).collect::<String>();
        assert!(std::panic::catch_unwind(|| History::parse(&text)).is_err(), "{text}");
    }
}
