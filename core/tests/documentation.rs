//! Holds the tables of the documentation to the catalogues of the code.
//!
//! `ZMSG_TEST_WRITE=1` rewrites the README's table of settings instead of comparing it.

use std::fs;
use std::path::{Path, PathBuf};

use zmsg_core::config::{Config, Form, Setting};
use zmsg_core::error::CATALOGUE;

const BEGIN: &str = "<!-- settings:begin -->\n";
const END: &str = "<!-- settings:end -->\n";

fn page(name: &str) -> (PathBuf, String) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(name);
    let text = fs::read_to_string(&path).expect("the page is there");
    (path, text)
}

fn kind(setting: &Setting) -> String {
    match setting.form {
        Form::Duration(..) => "time".to_owned(),
        Form::Ttl => "time or `never`".to_owned(),
        Form::Integer(..) => setting.unit.to_owned(),
        Form::Fraction(most) => format!("0 to {most}"),
        Form::Switch => "`true`, `false`".to_owned(),
        Form::Choice(words) => words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", "),
        Form::Name => "name".to_owned(),
        Form::Dsn => "connection string".to_owned(),
        Form::Address => "address".to_owned(),
        Form::Path => "path".to_owned(),
    }
}

fn settings_table() -> String {
    let mut table = "| key | type | default | consequence |\n|---|---|---|---|\n".to_owned();
    for setting in Config::catalogue() {
        let default =
            if setting.default.is_empty() { "–".to_owned() } else { format!("`{}`", setting.default) };
        table +=
            &format!("| `{}` | {} | {default} | {} |\n", setting.name, kind(setting), setting.consequence);
    }
    table
}

#[test]
fn the_readme_lists_every_setting_with_its_default() {
    let (path, text) = page("README.md");
    let (before, rest) = text.split_once(BEGIN).expect("the table has a beginning");
    let (table, after) = rest.split_once(END).expect("the table has an end");
    let wanted = settings_table();
    if std::env::var_os("ZMSG_TEST_WRITE").is_some() {
        fs::write(path, format!("{before}{BEGIN}{wanted}{END}{after}")).expect("the page can be written");
    } else {
        assert!(
            table == wanted,
            "run ZMSG_TEST_WRITE=1 cargo test -p zmsg-core --test documentation; wanted:\n{wanted}"
        );
    }
}

#[test]
fn the_guide_lists_every_error() {
    let (_, text) = page("docs/guides/errors.md");
    for info in CATALOGUE {
        let retryable = if info.retryable { "yes" } else { "no" };
        let line = format!("| `{}` | `{}` | {retryable} | ", info.class, info.code);
        assert!(text.contains(&line), "the guide lacks {line:?}");
    }
}
