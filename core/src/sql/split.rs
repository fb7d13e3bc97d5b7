//! Where one SQL statement ends and the next begins, for text that PostgreSQL itself has not parsed yet.

use super::lexer::{Kind, Lexer};
use super::outline::Sketch;
use crate::error::Result;

/// The statements of a text, without the semicolons between them; pieces that hold only blanks and comments are
/// left out. The pieces are slices of `text`, so that their offsets can be told.
pub(crate) fn split_statements(text: &str) -> Result<Vec<&str>> {
    let mut lexer = Lexer::without_placeholders(text);
    let mut pieces = Vec::new();
    let (mut start, mut sketch, mut holds_words) = (0, Sketch::new(), false);
    while let Some(token) = lexer.next()? {
        match token.kind {
            Kind::Comment => {}
            Kind::Semicolon if sketch.at_top() => {
                if holds_words {
                    pieces.push(text[start..token.start].trim());
                }
                (start, sketch, holds_words) = (token.end, Sketch::new(), false);
            }
            _ => {
                sketch.push(token, text);
                holds_words = true;
            }
        }
    }
    if holds_words {
        pieces.push(text[start..].trim());
    }
    Ok(pieces)
}

/// The first words of a statement, in upper case, comments skipped; at most two.
pub(crate) fn leading_words(statement: &str) -> (String, String) {
    let mut lexer = Lexer::without_placeholders(statement);
    let mut word = || loop {
        match lexer.next() {
            Ok(Some(token)) if token.kind == Kind::Comment => {}
            Ok(Some(token)) if token.kind == Kind::Word => {
                return statement[token.start..token.end].to_ascii_uppercase();
            }
            _ => return String::new(),
        }
    };
    (word(), word())
}

/// The 1-based line of a byte offset.
pub(crate) fn line_of(text: &str, offset: usize) -> usize {
    text.as_bytes()[..offset.min(text.len())].iter().filter(|byte| **byte == b'\n').count() + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_top_level_semicolons_split() {
        let cases: &[(&str, &[&str])] = &[
            ("a; b ;\n c", &["a", "b", "c"]),
            ("-- only; a comment\n;; /* ; /* ; */ ; */ ;", &[]),
            (
                "select ';' ; select E'\\';' ; select \"a;b\"",
                &["select ';'", "select E'\\';'", "select \"a;b\""],
            ),
            ("select 'it''s; fine'; b", &["select 'it''s; fine'", "b"]),
            ("do $$ begin; end; $$; b", &["do $$ begin; end; $$", "b"]),
            ("do $a$ $$ ; $b$ ; $a$; b", &["do $a$ $$ ; $b$ ; $a$", "b"]),
            ("select a$x$; b", &["select a$x$", "b"]),
            ("select $1; b", &["select $1", "b"]),
            ("select a ?| b, c ?& d, 5 %s, $1$2; b", &["select a ?| b, c ?& d, 5 %s, $1$2", "b"]),
            (
                "create function f() begin atomic select case when 1=1 then 2 end; select 3; end; b",
                &["create function f() begin atomic select case when 1=1 then 2 end; select 3; end", "b"],
            ),
            ("begin; b", &["begin", "b"]),
            ("éa$ü$;", &["éa$ü$"]),
        ];
        for (text, want) in cases {
            assert_eq!(split_statements(text).unwrap(), *want, "{text:?}");
        }
    }

    #[test]
    fn what_does_not_end_is_named_with_its_line() {
        for text in ["a;\n'open", "a;\n\"open", "a;\n$x$ open $$", "a;\n/* open /* */", "a;\nE'open\\'"] {
            let error = split_statements(text).expect_err(text);
            assert!(error.message().contains("line 2"), "{text:?}: {error}");
        }
    }

    #[test]
    fn leading_words_skip_comments() {
        assert_eq!(leading_words("/* x */ -- y\n rollback\nto a"), ("ROLLBACK".into(), "TO".into()));
        assert_eq!(leading_words(" (select 1)"), (String::new(), "SELECT".into()));
    }
}
