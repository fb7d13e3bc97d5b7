//! Reads the sources and holds the rooms to `docs/architecture.md`: who may use whom, which driver lives where, no file
//! that nobody uses.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Room → the rooms it may use. A room may always use itself.
const MAY_USE: &[(&str, &[&str])] = &[
    (
        "engine",
        &[
            "cache",
            "batch",
            "queue",
            "id",
            "store",
            "redis",
            "sql",
            "ops",
            "config",
            "value",
            "base",
            "sys",
            "telemetry",
            "error",
        ],
    ),
    ("cache", &["store", "redis", "sql", "ops", "config", "value", "base", "sys", "telemetry", "error"]),
    ("batch", &["store", "redis", "sql", "ops", "config", "value", "base", "sys", "telemetry", "error"]),
    ("queue", &["store", "redis", "sql", "ops", "config", "value", "base", "sys", "telemetry", "error"]),
    ("id", &["store", "redis", "sql", "ops", "config", "value", "base", "sys", "telemetry", "error"]),
    ("redis", &["config", "base", "error"]),
    ("store", &["sql", "ops", "config", "value", "base", "error"]),
    ("sql", &["ops", "value", "error"]),
    ("ops", &["value", "error"]),
    ("config", &["error"]),
    ("value", &["error"]),
    ("base", &["error"]),
    ("telemetry", &["error"]),
    ("sys", &["error"]),
    ("error", &[]),
];

/// Crate → the only places under `src` that may name it.
const DRIVERS: &[(&str, &[&str])] = &[
    ("quick_cache", &["cache/l1"]),
    ("redis", &["redis/"]),
    ("tokio_postgres", &["store/postgres"]),
    ("tokio_postgres_rustls", &["store/postgres"]),
    ("deadpool", &["store/postgres"]),
    ("fastrand", &["base/"]),
    ("rustix", &["base/", "sys/"]),
    ("libc", &["sys/"]),
    ("memmap2", &["sys/"]),
];

fn sources() -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut folders = vec![root.clone()];
    let mut found = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("the source folder can be read") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let relative = path.strip_prefix(&root).expect("below src").to_owned();
                found.push((relative, fs::read_to_string(&path).expect("sources are text")));
            }
        }
    }
    assert!(found.len() > 20, "the sources were found");
    found.sort();
    found
}

fn room(path: &Path) -> String {
    let first = path.iter().next().expect("a path has a part").to_string_lossy();
    first.trim_end_matches(".rs").to_owned()
}

/// Every identifier that follows `prefix` in the code, braces expanded: `crate::{a::B, c}` gives a and c.
fn named_after<'t>(text: &'t str, prefix: &str) -> BTreeSet<&'t str> {
    let mut names = BTreeSet::new();
    let word =
        |text: &'t str| &text[..text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len())];
    for (at, _) in text.match_indices(prefix) {
        let before = text[..at].chars().next_back();
        if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':' || c == '$') {
            continue;
        }
        let rest = &text[at + prefix.len()..];
        let Some(list) = rest.strip_prefix('{') else {
            names.insert(word(rest));
            continue;
        };
        let (mut depth, mut start) = (0, true);
        for (index, c) in list.char_indices() {
            match c {
                '{' => depth += 1,
                '}' if depth == 0 => break,
                '}' => depth -= 1,
                ',' if depth == 0 => start = true,
                c if c.is_whitespace() => {}
                _ if start && depth == 0 => {
                    names.insert(word(&list[index..]));
                    start = false;
                }
                _ => {}
            }
        }
    }
    names
}

/// The code without comments, so that a doc link is no use.
fn code(text: &str) -> String {
    text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

#[test]
fn rooms_use_only_what_they_may() {
    let allowed: BTreeMap<&str, &[&str]> = MAY_USE.iter().copied().collect();
    let mut wrong = Vec::new();
    for (path, text) in sources().iter().filter(|(path, _)| path.extension().is_some_and(|it| it == "rs")) {
        let from = room(path);
        if from == "lib" {
            continue;
        }
        let Some(may) = allowed.get(from.as_str()) else {
            wrong.push(format!("{}: room {from} is not in the plan", path.display()));
            continue;
        };
        for to in named_after(&code(text), "crate::") {
            let is_room = allowed.contains_key(to);
            if is_room && to != from && !may.contains(&to) {
                wrong.push(format!("{}: {from} may not use {to}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn drivers_stay_in_their_room() {
    let mut wrong = Vec::new();
    for (path, text) in sources().iter().filter(|(path, _)| path.extension().is_some_and(|it| it == "rs")) {
        let code = code(text);
        for (driver, homes) in DRIVERS {
            let names = [format!("{driver}::"), format!("use {driver};"), format!("use ::{driver}")];
            let named = names.iter().any(|name| {
                code.match_indices(name.as_str()).any(|(at, _)| {
                    let before = code[..at].chars().next_back();
                    !before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':')
                })
            });
            if named && !homes.iter().any(|home| path.to_string_lossy().starts_with(home)) {
                wrong.push(format!("{}: {driver} belongs to {homes:?}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn unsafe_code_is_allowed_in_sys_only() {
    for (path, text) in sources() {
        let loosens = code(&text).contains("allow(unsafe_code)");
        assert!(!loosens || room(&path) == "sys", "{} allows unsafe code", path.display());
    }
}

#[test]
fn every_file_is_used() {
    let sources = sources();
    for (path, _) in &sources {
        let name = path.file_name().expect("a file").to_string_lossy().into_owned();
        let parent = path.parent().expect("below src");
        let used = if path.extension().is_some_and(|it| it == "rs") {
            let stem = name.trim_end_matches(".rs");
            let (module, homes) = if stem == "mod" {
                let folder = parent.file_name().expect("a folder").to_string_lossy().into_owned();
                (folder, parent.parent().expect("below src").to_owned())
            } else {
                (stem.to_owned(), parent.to_owned())
            };
            stem == "lib"
                || sources.iter().any(|(other, text)| {
                    let declares_here = other == &homes.join("mod.rs")
                        || other == &homes.with_extension("rs")
                        || (homes.as_os_str().is_empty() && other == Path::new("lib.rs"));
                    declares_here && declares(text, &module)
                })
        } else {
            sources.iter().any(|(_, text)| text.contains(&name) && text.contains("include_str!"))
        };
        assert!(used, "nobody uses {}", path.display());
    }
}

fn declares(text: &str, module: &str) -> bool {
    text.lines().any(|line| {
        let line = line.trim_start();
        let line = line.strip_prefix("pub(crate) ").or_else(|| line.strip_prefix("pub ")).unwrap_or(line);
        let line = line.strip_prefix("pub(super) ").unwrap_or(line);
        line.strip_prefix("mod ").and_then(|rest| rest.strip_suffix(';')).is_some_and(|name| name == module)
    })
}

#[test]
fn the_reader_of_uses_sees_what_it_should() {
    let text = "use crate::{a::B, c, d::{e, f}};\nlet x = crate::g::h(); other_crate::i::j();";
    assert_eq!(named_after(text, "crate::"), BTreeSet::from(["a", "c", "d", "g"]));
}
