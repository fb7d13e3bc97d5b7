//! The pattern of a key family.

use crate::error::{Error, Result};
use crate::value::Value;

/// A checked pattern: literals with holes between them.
#[derive(Debug)]
pub(in crate::cache) struct Pattern {
    text: String,
    /// One more than there are holes; those at the ends may be empty, those between may not.
    literals: Vec<String>,
    holes: Vec<Hole>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hole {
    /// `*`: the argument is the whole key.
    WholeKey,
    /// `{name}`: a text.
    Text,
    /// `{name:int}`: a 64-bit integer in the form that it is printed in.
    Int,
}

/// How a key fits.
#[derive(Debug, PartialEq)]
pub(in crate::cache) enum Fit {
    /// With these arguments.
    Args(Vec<Value>),
    /// In shape, but a part is not of its type.
    Unparsable,
    /// Not.
    No,
}

impl Pattern {
    /// Checks and reads a pattern.
    pub(in crate::cache) fn parse(text: &str) -> Result<Pattern> {
        if text.is_empty() {
            return Err(Error::task(
                "source pattern: it is empty; write one like \"feed_*\" or \"user:{id:int}\"",
            ));
        }
        Parser { text, literals: vec![String::new()], holes: Vec::new(), names: Vec::new() }.run()
    }

    /// As it was written.
    pub(in crate::cache) fn text(&self) -> &str {
        &self.text
    }

    /// The number of arguments it gives.
    pub(super) fn arguments(&self) -> usize {
        self.holes.len()
    }

    /// Whether it fits the same keys, if types are left aside.
    pub(super) fn same_shape(&self, other: &Pattern) -> bool {
        self.literals == other.literals
    }

    /// Patterns of a higher rank are tried first.
    pub(super) fn rank(&self) -> (usize, usize) {
        (self.literals[0].len(), self.literals.iter().map(String::len).sum())
    }

    /// Fits a key. A hole takes one character or more, up to the next literal's first place; the last one takes all that
    /// is left before the end.
    pub(in crate::cache) fn fit(&self, key: &str) -> Fit {
        let Some(runs) = self.runs(key) else { return Fit::No };
        let args: Option<Vec<Value>> =
            self.holes.iter().zip(runs).map(|(hole, run)| hole.argument(key, run)).collect();
        args.map_or(Fit::Unparsable, Fit::Args)
    }

    fn runs<'k>(&self, key: &'k str) -> Option<Vec<&'k str>> {
        let (first, rest) = self.literals.split_first()?;
        let mut left = key.strip_prefix(first.as_str())?;
        let Some((last, between)) = rest.split_last() else { return left.is_empty().then(Vec::new) };
        let mut runs = Vec::with_capacity(self.holes.len());
        for literal in between {
            let least = left.chars().next()?.len_utf8();
            let at = least + left[least..].find(literal.as_str())?;
            runs.push(&left[..at]);
            left = &left[at + literal.len()..];
        }
        let run = left.strip_suffix(last.as_str())?;
        runs.push(run);
        (!run.is_empty()).then_some(runs)
    }
}

impl Hole {
    fn argument(self, key: &str, run: &str) -> Option<Value> {
        let text = if self == Hole::WholeKey { key } else { run };
        match self {
            // Two spellings of one number would be two keys of one row, of which a write reaches one.
            Hole::Int => text.parse::<i64>().ok().filter(|int| int.to_string() == text).map(Value::Int),
            // No text in PostgreSQL holds a NUL, so no row has such a key.
            _ => (!text.contains('\0')).then(|| Value::text(text)),
        }
    }
}

struct Parser<'a> {
    text: &'a str,
    literals: Vec<String>,
    holes: Vec<Hole>,
    names: Vec<&'a str>,
}

impl<'a> Parser<'a> {
    fn run(mut self) -> Result<Pattern> {
        let mut at = 0;
        while let Some(next) = self.text[at..].chars().next() {
            match next {
                '{' => at = self.part(at)?,
                '}' => return Err(self.error(at, "`}` without a `{` before it")),
                '*' => at = self.star(at)?,
                other => {
                    self.literals.last_mut().expect("there is always a literal").push(other);
                    at += other.len_utf8();
                }
            }
        }
        Ok(Pattern { text: self.text.to_owned(), literals: self.literals, holes: self.holes })
    }

    fn star(&mut self, at: usize) -> Result<usize> {
        if at + 1 != self.text.len() {
            return Err(self.error(
                at,
                "`*` may only be the last character; name parts in braces, as \"user:{id}:name\"",
            ));
        }
        if !self.holes.is_empty() {
            return Err(self.error(at, "a pattern has either parts in braces or a `*` at its end, not both"));
        }
        self.hole(Hole::WholeKey);
        Ok(at + 1)
    }

    /// `{name}` or `{name:int}`.
    fn part(&mut self, at: usize) -> Result<usize> {
        if at > 0 && self.text.as_bytes()[at - 1] == b'}' {
            return Err(
                self.error(at, "two parts need a literal between them, or nobody knows where one ends")
            );
        }
        let inner = &self.text[at + 1..];
        let Some(length) = inner.find(['{', '}']).filter(|&end| inner[end..].starts_with('}')) else {
            return Err(self.error(at, "`{` without a `}` after it"));
        };
        let (name, kind) = match inner[..length].split_once(':') {
            Some((name, "int")) => (name, Hole::Int),
            Some((_, kind)) => {
                return Err(self.error(at, &format!("{kind:?} is no type of a part; there is only \"int\"")));
            }
            None => (&inner[..length], Hole::Text),
        };
        if !is_name(name) {
            return Err(self.error(at, "a part is named by letters, digits and `_`, as {id} or {id:int}"));
        }
        if self.names.contains(&name) {
            return Err(self.error(at, &format!("there are two parts named {name:?}")));
        }
        self.names.push(name);
        self.hole(kind);
        Ok(at + length + 2)
    }

    fn hole(&mut self, hole: Hole) {
        self.holes.push(hole);
        self.literals.push(String::new());
    }

    fn error(&self, at: usize, what: &str) -> Error {
        let position = self.text[..at].chars().count() + 1;
        Error::task(format!("source pattern {:?}, character {position}: {what}", self.text))
    }
}

fn is_name(text: &str) -> bool {
    let starts_well = text.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_');
    starts_well && text.chars().all(|it| it.is_ascii_alphanumeric() || it == '_')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn fit(pattern: &str, key: &str) -> Fit {
        Pattern::parse(pattern).unwrap().fit(key)
    }

    fn texts(parts: &[&str]) -> Fit {
        Fit::Args(parts.iter().map(|&part| Value::text(part)).collect())
    }

    #[test]
    fn keys_fit_or_do_not() {
        assert_eq!(fit("feed_*", "feed_12"), texts(&["feed_12"]));
        assert_eq!(fit("feed_*", "feed_"), Fit::No);
        assert_eq!(fit("*", "anything"), texts(&["anything"]));
        assert_eq!(fit("site", "site"), Fit::Args(vec![]));
        assert_eq!(fit("site", "sites"), Fit::No);
        assert_eq!(fit("u:{a}:p:{b}", "u:1:p:2"), texts(&["1", "2"]));
        assert_eq!(fit("u:{a}:p:{b}", "u:1:p:2:p:3"), texts(&["1", "2:p:3"]));
        assert_eq!(fit("u:{a}:p:{b}", "u::p:2"), Fit::No);
        assert_eq!(fit("u:{a}:p:{b}", "u:1:p:"), Fit::No);
        assert_eq!(fit("{a}/{b}.json", "é/x.json.json"), texts(&["é", "x.json"]));
        assert_eq!(fit("{a}-{b}", "--b"), texts(&["-", "b"]));
        assert_eq!(fit("日{a}本", "日語本"), texts(&["語"]));
    }

    #[test]
    fn integers_are_read_in_their_one_form() {
        let int = |number| Fit::Args(vec![Value::Int(number)]);
        assert_eq!(fit("u:{id:int}", "u:-12"), int(-12));
        assert_eq!(fit("u:{id:int}", "u:9223372036854775807"), int(i64::MAX));
        for other in ["u:9223372036854775808", "u:007", "u:+7", "u:-0", "u: 7", "u:7a", "u:٧", "u:1e3"] {
            assert_eq!(fit("u:{id:int}", other), Fit::Unparsable, "{other}");
        }
        assert_eq!(fit("u:{id}", "u:a\0b"), Fit::Unparsable, "no row has it");
    }

    #[test]
    fn a_malformed_pattern_is_an_error_with_its_place() {
        for (bad, position, word) in [
            ("user:{id", 6, "without a `}`"),
            ("user:{a{b}}", 6, "without a `}`"),
            ("user}", 5, "without a `{`"),
            ("*_feed", 1, "last character"),
            ("a*b*", 2, "last character"),
            ("é:{id}*", 7, "not both"),
            ("{a}{b}", 4, "literal between"),
            ("{a}:{a}", 5, "two parts named \"a\""),
            ("{}", 1, "named by letters"),
            ("{1a}", 1, "named by letters"),
            ("{id:uuid}", 1, "only \"int\""),
        ] {
            let text = Pattern::parse(bad).expect_err(bad).to_string();
            assert!(text.contains(&format!("character {position}:")) && text.contains(word), "{bad}: {text}");
        }
        assert!(Pattern::parse("").is_err());
    }

    proptest! {
        #[test]
        fn nothing_panics(pattern in "[a-z{}*:_é]{0,12}", key in "[a-z{}*:_é0-9]{0,16}") {
            if let Ok(pattern) = Pattern::parse(&pattern) {
                let _ = pattern.fit(&key);
            }
        }

        #[test]
        fn parts_without_the_separator_come_back(a in "[^:]{1,8}", b in "[^:\0]{1,8}") {
            prop_assume!(!a.contains('\0'));
            let key = format!("u:{a}:p:{b}");
            prop_assert_eq!(fit("u:{a}:p:{b}", &key), texts(&[&a, &b]));
        }
    }
}
