//! A scenario's chain of calls as a task.

use serde_json::Value as Json;
use zmsg_core::engine::Tasks;
use zmsg_core::error::Result;
use zmsg_core::sql::{self, Arg, BIND, Column, Counter, Map, OnConflict, Slice, Table, Task};

use crate::json;

/// What a chain is in the middle of.
enum Made {
    Task(Task),
    OnConflict(OnConflict),
    Table(Table),
    Column(Column),
    Counter(Counter),
    Slice(Slice),
    Map(Map),
}

pub fn tasks(written: &Json) -> Result<Tasks> {
    match written["all"].as_array() {
        Some(chains) => Ok(chains.iter().map(task).collect::<Result<Vec<Task>>>()?.into()),
        None => task(written).map(Tasks::from),
    }
}

pub fn task(chain: &Json) -> Result<Task> {
    let calls = chain.as_array().expect("a chain is an array of calls");
    let mut made = start(&calls[0])?;
    for call in &calls[1..] {
        made = step(made, call)?;
    }
    match made {
        Made::Task(task) => Ok(task),
        Made::Counter(it) => it.build(),
        Made::Slice(it) => it.build(),
        Made::Map(it) => it.build(),
        _ => panic!("the chain ends before it is a task: {chain}"),
    }
}

fn parts(call: &Json) -> (&str, &[Json]) {
    let (name, arguments) = call.as_array().and_then(|call| call.split_first()).expect("a call is an array");
    (name.as_str().expect("a call begins with its name"), arguments)
}

fn arg(json: &Json) -> Arg {
    match json::tagged(json) {
        Some(("bind", _)) => BIND,
        _ => Arg::from(json::to_value(json)),
    }
}

fn args(arguments: &[Json]) -> Vec<Arg> {
    arguments.iter().map(arg).collect()
}

fn name(json: &Json) -> String {
    json::text(json).expect("a name")
}

fn start(call: &Json) -> Result<Made> {
    let (verb, arguments) = parts(call);
    let first = name(&arguments[0]);
    Ok(match verb {
        "sql" => Made::Task(sql::sql(&first, args(&arguments[1..]))?),
        "table" => Made::Table(sql::table(&first)?),
        "counter" => Made::Counter(sql::counter(&first, &name(&arguments[1]))?),
        "slice" => Made::Slice(sql::slice(&first, &name(&arguments[1]))?),
        "map" => Made::Map(sql::map(&first, &name(&arguments[1]))?),
        other => panic!("unknown start {other}"),
    })
}

fn step(made: Made, call: &Json) -> Result<Made> {
    let (verb, arguments) = parts(call);
    let names: Vec<String> = if matches!(verb, "on_conflict" | "do_update" | "returning") {
        arguments.iter().map(name).collect()
    } else {
        Vec::new()
    };
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    Ok(match (made, verb) {
        (Made::Task(task), "on_conflict") => Made::OnConflict(task.on_conflict(&names)?),
        (Made::OnConflict(clause), "do_update") => Made::Task(clause.do_update(&names)?),
        (Made::OnConflict(clause), "do_nothing") => Made::Task(clause.do_nothing()?),
        (Made::Task(task), "returning") => Made::Task(task.returning(&names)?),
        (Made::Task(task), "batch_key") => Made::Task(task.with_batch_key(&name(&arguments[0]))),
        // Rust needs no callable: a template is bound as it is.
        (Made::Task(task), "prepare") => {
            task.check_template()?;
            Made::Task(task)
        }
        (Made::Task(task), "call") => {
            Made::Task(task.bind(&arguments.iter().map(json::to_value).collect::<Vec<_>>())?)
        }
        (Made::Table(table), "column") => Made::Column(table.column(&name(&arguments[0]))?),
        (Made::Column(column), "counter") => Made::Counter(column.counter()),
        (Made::Column(column), "slice") => Made::Slice(column.slice()),
        (Made::Column(column), "map") => Made::Map(column.map()),
        (Made::Counter(it), "inc") => Made::Counter(it.inc(arg(&arguments[0]))),
        (Made::Counter(it), "dec") => Made::Counter(it.dec(arg(&arguments[0]))),
        (Made::Counter(it), "mul") => Made::Counter(it.mul(arg(&arguments[0]))),
        (Made::Counter(it), "set") => Made::Counter(it.set(arg(&arguments[0]))),
        (Made::Counter(it), "clean") => Made::Counter(it.clean()),
        (Made::Slice(it), "add") => Made::Slice(it.add(arg(&arguments[0]))),
        (Made::Slice(it), "delete") => Made::Slice(it.delete(arg(&arguments[0]))),
        (Made::Slice(it), "clean") => Made::Slice(it.clean()),
        (Made::Map(it), "set") => Made::Map(it.set(arg(&arguments[0]), arg(&arguments[1]))),
        (Made::Map(it), "delete") => Made::Map(it.delete(arg(&arguments[0]))),
        (Made::Counter(it), verb) => shared(it, verb, arguments, &names, Made::Counter)?,
        (Made::Slice(it), verb) => shared(it, verb, arguments, &names, Made::Slice)?,
        (Made::Map(it), verb) => shared(it, verb, arguments, &names, Made::Map)?,
        (_, other) => panic!("{other} does not follow here: {call}"),
    })
}

/// The steps that every builder has.
fn shared<K>(
    builder: sql::Builder<K>,
    verb: &str,
    arguments: &[Json],
    names: &[&str],
    wrap: impl FnOnce(sql::Builder<K>) -> Made,
) -> Result<Made> {
    Ok(wrap(match verb {
        "where" => builder.where_(&name(&arguments[0]), args(&arguments[1..]))?,
        "or_insert" => {
            let columns = arguments[0].as_object().expect("columns");
            let columns: Vec<(&str, Arg)> =
                columns.iter().map(|(column, value)| (column.as_str(), arg(value))).collect();
            builder.or_insert(&columns)?
        }
        "batch_key" => builder.batch_key(&name(&arguments[0])),
        "all_rows" => builder.all_rows(),
        "returning" => builder.returning(names)?,
        "build" | "prepare" => return builder.build().map(Made::Task),
        other => panic!("unknown step {other}"),
    }))
}
