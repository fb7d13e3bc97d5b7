//! Identifiers given to builders: checked, and always emitted quoted.

use std::fmt;
use std::sync::Arc;

use super::cache::TextCache;
use crate::error::{Error, Result};

thread_local! {
    static TABLES: TextCache<Name> = const { TextCache::new() };
    static COLUMNS: TextCache<Name> = const { TextCache::new() };
}

/// PostgreSQL cuts longer names silently, so that two of them could become one.
const MAX_BYTES: usize = 63;
const MAX_PARTS: usize = 3;

/// A name of one to three parts. `Display` is the quoted form, the only one that enters a statement.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Name {
    quoted: Arc<str>,
    last: Arc<str>,
}

impl Name {
    /// `schema.table` or `database.schema.table`, dots outside quotes separate. `what` names it in errors.
    pub(super) fn dotted(text: &str, what: &str) -> Result<Name> {
        Name::parse(text, what, MAX_PARTS)
    }

    /// A name without a qualifier.
    pub(super) fn column(text: &str, what: &str) -> Result<Name> {
        Name::parse(text, what, 1)
    }

    /// A table's name, from the cache if it was seen before.
    pub(super) fn of_table(text: &str) -> Result<Arc<Name>> {
        TextCache::get(&TABLES, &[text], || Name::dotted(text, "table"))
    }

    /// A column's name, from the cache if it was seen before.
    pub(super) fn of_column(text: &str) -> Result<Arc<Name>> {
        TextCache::get(&COLUMNS, &[text], || Name::column(text, "column"))
    }

    fn parse(text: &str, what: &str, max_parts: usize) -> Result<Name> {
        let refuse = |rule: &str| Err(Error::task(format!("{what} {}: {rule}", shown(text))));
        let mut quoted = String::with_capacity(text.len() + 2);
        let mut rest = text;
        for parts in 1.. {
            if parts > max_parts {
                return refuse(match max_parts {
                    1 => "one part, without a qualifier; put quotes around a name that holds a dot",
                    _ => {
                        "at most three parts, database.schema.name; put quotes around a part that holds a dot"
                    }
                });
            }
            let (part, tail) = match split(rest) {
                Ok(it) => it,
                Err(rule) => return refuse(rule),
            };
            if let Some(rule) = broken_rule(&part) {
                return refuse(rule);
            }
            push_quoted(&mut quoted, &part);
            match tail {
                Some(tail) => rest = tail,
                None => return Ok(Name { quoted: quoted.into(), last: part.into() }),
            }
            quoted.push('.');
        }
        unreachable!("the loop ends at the last part or with an error")
    }

    /// The whole name, quoted.
    pub fn quoted(&self) -> &str {
        &self.quoted
    }

    /// The last part as the catalogue has it, without quotes.
    pub fn last(&self) -> &str {
        &self.last
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.quoted)
    }
}

/// The first part with its quotes undone, and what follows its dot.
fn split(text: &str) -> Result<(String, Option<&str>), &'static str> {
    let Some(inner) = text.strip_prefix('"') else {
        return Ok(match text.split_once('.') {
            Some((part, tail)) => (part.to_owned(), Some(tail)),
            None => (text.to_owned(), None),
        });
    };
    let mut part = String::new();
    let mut rest = inner;
    loop {
        let Some((before, after)) = rest.split_once('"') else { return Err("a quote is not closed") };
        part.push_str(before);
        match after.as_bytes().first() {
            None => return Ok((part, None)),
            Some(b'.') => return Ok((part, Some(&after[1..]))),
            Some(b'"') => {
                part.push('"');
                rest = &after[1..];
            }
            Some(_) => return Err("only a dot may follow a closing quote"),
        }
    }
}

fn broken_rule(part: &str) -> Option<&'static str> {
    if part.is_empty() {
        Some("a name must not be empty")
    } else if part.len() > MAX_BYTES {
        Some("a name has at most 63 bytes")
    } else if part.contains('\0') {
        Some("a name must not hold a NUL character")
    } else {
        None
    }
}

pub(super) fn push_quoted(out: &mut String, part: &str) {
    out.push('"');
    for char in part.chars() {
        if char == '"' {
            out.push('"');
        }
        out.push(char);
    }
    out.push('"');
}

/// The text as given, shortened, for a message.
fn shown(text: &str) -> String {
    let head: String = text.chars().take(80).collect();
    let more = if head.len() < text.len() { "…" } else { "" };
    format!("{head:?}{more}")
}

/// Several names, quoted and separated by commas.
pub(super) fn list(names: &[Arc<Name>]) -> String {
    let mut out = String::new();
    for name in names {
        if !out.is_empty() {
            out.push_str(", ");
        }
        out.push_str(name.quoted());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_quoted_whatever_they_hold() {
        for (given, quoted, last) in [
            ("feeds", r#""feeds""#, "feeds"),
            ("Feeds", r#""Feeds""#, "Feeds"),
            ("public.feeds", r#""public"."feeds""#, "feeds"),
            ("db.public.feeds", r#""db"."public"."feeds""#, "feeds"),
            (r#""We.ird""#, r#""We.ird""#, "We.ird"),
            (r#"a."b.c".d"#, r#""a"."b.c"."d""#, "d"),
            (r#""say ""hi""""#, r#""say ""hi""""#, r#"say "hi""#),
            (r#"a"b"#, r#""a""b""#, r#"a"b"#),
            (r#"x; DROP TABLE y --"#, r#""x; DROP TABLE y --""#, "x; DROP TABLE y --"),
            ("größe", r#""größe""#, "größe"),
        ] {
            let name = Name::dotted(given, "table").unwrap();
            assert_eq!((name.quoted(), name.last()), (quoted, last), "{given}");
        }
    }

    #[test]
    fn errors_name_the_identifier_and_the_rule() {
        let long = "x".repeat(64);
        for (given, rule) in [
            ("", "empty"),
            ("a.", "empty"),
            (".a", "empty"),
            (r#""""#, "empty"),
            ("a.b.c.d", "three parts"),
            (r#""a"#, "not closed"),
            (r#""a"b"#, "only a dot"),
            ("a\0b", "NUL"),
            (&*long, "63 bytes"),
            (&*"ä".repeat(32), "63 bytes"),
        ] {
            let message = Name::dotted(given, "table").unwrap_err().to_string();
            assert!(message.starts_with("table \"") && message.contains(rule), "{given:?}: {message}");
        }
        assert!(Name::dotted(&"x".repeat(63), "table").is_ok());
        assert!(Name::column("a.b", "column").unwrap_err().to_string().contains("without a qualifier"));
    }
}
