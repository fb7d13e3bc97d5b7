//! Runs `tests/scenarios/*.json` through the Rust API. Python and Node run the same files.

mod chain;
mod delayed;
mod json;
#[path = "../support/mod.rs"]
mod support;
mod toolbox;
mod verbs;

use std::collections::HashMap;
use std::path::Path;

use serde_json::Value as Json;
use zmsg_core::config::{Config, ConfigInput};
use zmsg_core::engine::{Receipt, Zmsg};
use zmsg_core::error::{Error, Result};

/// One scenario at work: its database, its namespace, its engines.
struct Stage {
    base: serde_json::Map<String, Json>,
    engines: HashMap<String, Zmsg>,
    /// Of the writes that a step gave a name.
    receipts: HashMap<String, Receipt>,
}

impl Stage {
    async fn engine(&mut self, name: &str) -> Result<Zmsg> {
        if let Some(engine) = self.engines.get(name) {
            return Ok(engine.clone());
        }
        let engine = Zmsg::open(self.config(None)?).await?;
        self.engines.insert(name.to_owned(), engine.clone());
        Ok(engine)
    }

    fn config(&self, over: Option<&Json>) -> Result<Config> {
        let mut arguments = self.base.clone();
        for (key, value) in over.and_then(Json::as_object).into_iter().flatten() {
            arguments.insert(key.clone(), value.clone());
        }
        Config::resolve(ConfigInput { arguments, ..ConfigInput::default() })
    }
}

async fn run_file(name: &str) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/scenarios");
    let text = std::fs::read_to_string(folder.join(name)).expect("the scenario file can be read");
    let scenarios: Vec<Json> = serde_json::from_str(&text).expect("the scenario file is a JSON array");
    assert!(!scenarios.is_empty(), "{name} has scenarios");
    for scenario in &scenarios {
        let title = scenario["name"].as_str().expect("a scenario has a name");
        run(&format!("{name}: {title}"), scenario).await;
    }
}

async fn run(title: &str, scenario: &Json) {
    let database = support::database().await;
    let mut base = scenario["config"].as_object().cloned().unwrap_or_default();
    base.insert("postgres_dsn".into(), database.dsn.clone().into());
    base.insert("namespace".into(), support::namespace().into());
    let journals = tempfile::tempdir().expect("a folder for journals");
    base.insert("journal_dir".into(), journals.path().join("journal").to_string_lossy().into());
    base.entry("redis_addr").or_insert_with(|| support::redis_addr().into());
    let mut stage = Stage { base, engines: HashMap::new(), receipts: HashMap::new() };
    let schema = Path::new(env!("CARGO_MANIFEST_DIR")).join("../schema");
    let first = stage.engine("a").await.expect("the engine opens");
    first.load_dir(&schema).expect("schema/ is there").migrate().await.expect("schema/ applies");
    for (index, step) in scenario["steps"].as_array().expect("a scenario has steps").iter().enumerate() {
        let outcome = verbs::run(&mut stage, step).await;
        check(&format!("{title}, step {} {step}", index + 1), step, outcome);
    }
    for engine in stage.engines.values() {
        engine.close().await.expect("the engine closes");
    }
}

/// Compares what came back with `expect`, or what was raised with `error`.
fn check(place: &str, step: &Json, outcome: Result<Json>) {
    match (outcome, step.get("error")) {
        (Ok(got), None) => {
            let verb = step["do"].as_str().expect("a step has a verb");
            if let Some(expected) = step.get("expect") {
                let fits = if verbs::compares_some_keys(verb) {
                    json::includes(&got, expected)
                } else {
                    json::equal(&got, expected)
                };
                assert!(fits, "{place}\n  gave {got}");
            }
        }
        (Ok(got), Some(expected)) => panic!("{place}\n  should fail with {expected}, but gave {got}"),
        (Err(error), None) => panic!("{place}\n  failed: {error:?}"),
        (Err(error), Some(expected)) => check_error(place, &error, expected),
    }
}

fn check_error(place: &str, error: &Error, expected: &Json) {
    assert_eq!(error.code(), expected["code"], "{place}\n  failed with {error:?}");
    if let Some(part) = expected["message"].as_str() {
        assert!(error.to_string().contains(part), "{place}\n  failed with {error:?}");
    }
    if let Some(sqlstate) = expected["sqlstate"].as_str() {
        assert_eq!(error.sqlstate(), Some(sqlstate), "{place}\n  failed with {error:?}");
    }
    if let Some(retryable) = expected["retryable"].as_bool() {
        assert_eq!(error.retryable(), retryable, "{place}\n  failed with {error:?}");
    }
    assert!(!error.to_string().contains("canary"), "{place}\n  shows a secret: {error}");
}

macro_rules! files {
    ($($name:ident),* $(,)?) => {
        $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            run_file(concat!(stringify!($name), ".json")).await;
        })*

        #[test]
        fn every_file_is_run() {
            let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/scenarios");
            let mut found: Vec<String> = std::fs::read_dir(folder)
                .expect("the folder can be read")
                .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
                .filter_map(|name| name.strip_suffix(".json").map(str::to_owned))
                .collect();
            found.sort();
            assert_eq!(found, [$(stringify!($name)),*]);
        }
    };
}

files!(delayed, engine, periodic, reading, sql, toolbox, writing);
