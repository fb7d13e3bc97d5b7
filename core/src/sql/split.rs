//! Where one SQL statement ends and the next begins, for text that PostgreSQL itself has not parsed yet.
//!
//! Knows literals (`'…'`, `E'…'`, `"…"`, `$tag$…$tag$`), both kinds of comments, and the one place where a semicolon
//! does not end a statement: the `BEGIN ATOMIC … END` body of an SQL-standard function.

use crate::error::{Error, Result};

/// The statements of a text, without the semicolons between them; pieces that hold only blanks and comments are
/// left out. The pieces are slices of `text`, so that their offsets can be told.
pub(crate) fn split_statements(text: &str) -> Result<Vec<&str>> {
    let mut scanner = Scanner { text, at: 0 };
    let mut pieces = Vec::new();
    let mut start = 0;
    let mut body = Body::default();
    let mut holds_words = false;
    while let Some((token, from)) = scanner.next_token()? {
        match token {
            Token::Semicolon if body.depth == 0 => {
                if holds_words {
                    pieces.push(text[start..from].trim());
                }
                (start, body, holds_words) = (scanner.at, Body::default(), false);
                continue;
            }
            Token::Word => body.word(&text[from..scanner.at]),
            Token::Semicolon | Token::Other => body.previous_was_begin = false,
        }
        holds_words = true;
    }
    if holds_words {
        pieces.push(text[start..].trim());
    }
    Ok(pieces)
}

/// The first words of a statement, in upper case, comments skipped; at most two.
pub(crate) fn leading_words(statement: &str) -> (String, String) {
    let mut scanner = Scanner { text: statement, at: 0 };
    let mut word = || match scanner.next_token() {
        Ok(Some((Token::Word, from))) => statement[from..scanner.at].to_ascii_uppercase(),
        _ => String::new(),
    };
    (word(), word())
}

/// The 1-based line of a byte offset.
pub(crate) fn line_of(text: &str, offset: usize) -> usize {
    text.as_bytes()[..offset.min(text.len())].iter().filter(|byte| **byte == b'\n').count() + 1
}

/// How deep we are in `BEGIN ATOMIC … END`; `CASE` has its own END.
#[derive(Default)]
struct Body {
    depth: u32,
    previous_was_begin: bool,
}

impl Body {
    fn word(&mut self, word: &str) {
        let is = |keyword: &str| word.eq_ignore_ascii_case(keyword);
        if self.previous_was_begin && is("ATOMIC") || self.depth > 0 && is("CASE") {
            self.depth += 1;
        } else if self.depth > 0 && is("END") {
            self.depth -= 1;
        }
        self.previous_was_begin = is("BEGIN");
    }
}

#[derive(PartialEq, Eq, Clone, Copy)]
enum Token {
    Semicolon,
    Word,
    Other,
}

struct Scanner<'a> {
    text: &'a str,
    at: usize,
}

impl Scanner<'_> {
    fn rest(&self) -> &str {
        &self.text[self.at..]
    }

    /// The next token that is neither blank nor comment, and where it starts.
    fn next_token(&mut self) -> Result<Option<(Token, usize)>> {
        loop {
            let from = self.at;
            let Some(first) = self.rest().chars().next() else { return Ok(None) };
            let rest = self.rest();
            let token = match first {
                it if it.is_whitespace() => {
                    self.at += it.len_utf8();
                    continue;
                }
                '-' if rest.starts_with("--") => {
                    self.at += rest.find('\n').unwrap_or(rest.len());
                    continue;
                }
                '/' if rest.starts_with("/*") => {
                    self.skip_block_comment()?;
                    continue;
                }
                ';' => {
                    self.at += 1;
                    Token::Semicolon
                }
                '\'' => self.skip_quoted('\'', false)?,
                '"' => self.skip_quoted('"', false)?,
                'e' | 'E' if rest[1..].starts_with('\'') => {
                    self.at += 1;
                    self.skip_quoted('\'', true)?
                }
                '$' => self.skip_dollar()?,
                it if is_word_start(it) => {
                    self.at += rest.find(|c| !is_word_part(c)).unwrap_or(rest.len());
                    Token::Word
                }
                it if it.is_ascii_digit() => {
                    // Digits run on into letters, so that the `$` of `1$a$` opens nothing.
                    self.at += rest.find(|c| !is_word_part(c)).unwrap_or(rest.len());
                    Token::Other
                }
                it => {
                    self.at += it.len_utf8();
                    Token::Other
                }
            };
            return Ok(Some((token, from)));
        }
    }

    fn skip_quoted(&mut self, quote: char, backslash: bool) -> Result<Token> {
        let from = self.at;
        let mut chars = self.rest().char_indices().skip(1).peekable();
        while let Some((offset, it)) = chars.next() {
            if backslash && it == '\\' {
                chars.next();
            } else if it == quote {
                if chars.peek().is_some_and(|(_, next)| *next == quote) {
                    chars.next();
                } else {
                    self.at = from + offset + 1;
                    return Ok(Token::Other);
                }
            }
        }
        Err(self.unterminated("quoted text", from))
    }

    /// `$tag$ … $tag$`, or a lone `$` (of `$1`).
    fn skip_dollar(&mut self) -> Result<Token> {
        let from = self.at;
        let rest = self.rest();
        let tag_end = rest[1..].find(|c: char| !(is_word_part(c) && c != '$')).map(|at| at + 1);
        let opens = tag_end.is_some_and(|end| rest[end..].starts_with('$'))
            && !rest[1..].starts_with(|c: char| c.is_ascii_digit());
        let (Some(end), true) = (tag_end, opens) else {
            self.at += 1;
            return Ok(Token::Other);
        };
        let tag = &rest[..=end];
        let Some(close) = rest[tag.len()..].find(tag) else {
            return Err(self.unterminated("dollar-quoted text", from));
        };
        self.at = from + tag.len() + close + tag.len();
        Ok(Token::Other)
    }

    fn skip_block_comment(&mut self) -> Result<()> {
        let from = self.at;
        let mut depth = 0;
        while !self.rest().is_empty() {
            if self.rest().starts_with("/*") {
                depth += 1;
                self.at += 2;
            } else if self.rest().starts_with("*/") {
                depth -= 1;
                self.at += 2;
                if depth == 0 {
                    return Ok(());
                }
            } else {
                self.at += self.rest().chars().next().map_or(1, char::len_utf8);
            }
        }
        Err(self.unterminated("comment", from))
    }

    fn unterminated(&self, what: &str, from: usize) -> Error {
        Error::task(format!("the {what} that begins on line {} does not end", line_of(self.text, from)))
    }
}

fn is_word_start(it: char) -> bool {
    it.is_ascii_alphabetic() || it == '_' || !it.is_ascii()
}

fn is_word_part(it: char) -> bool {
    is_word_start(it) || it.is_ascii_digit() || it == '$'
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
