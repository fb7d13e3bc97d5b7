//! Cuts PostgreSQL text into tokens, just finely enough to know which `?` is a parameter and which `;` ends a statement.
//!
//! The rules are those of the server's own scanner with `standard_conforming_strings = on` (the store checks
//! that setting at connect). What the scanner and the server could read differently is refused, not guessed.

use crate::error::{Error, Result};

/// What a piece of text is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A keyword or an unquoted identifier.
    Word,
    /// `"…"`.
    Quoted,
    /// A string of any kind, dollar-quoted ones too.
    Text,
    /// A number.
    Number,
    /// `?`, to be bound.
    Param,
    /// `??`, a question mark that belongs to an operator.
    Question,
    /// `( [`.
    Open,
    /// `) ]`.
    Close,
    /// `;`.
    Semicolon,
    /// `-- …` or `/* … */`.
    Comment,
    /// Any other character, one at a time.
    Other(u8),
}

/// A token and where it stands, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Token {
    pub kind: Kind,
    pub start: usize,
    pub end: usize,
}

/// The scanner; [`Lexer::next`] until it gives `None`.
pub(super) struct Lexer<'a> {
    text: &'a str,
    bytes: &'a [u8],
    at: usize,
    /// Whether `?` is ours and the placeholders of others are a mistake.
    placeholders: bool,
}

impl<'a> Lexer<'a> {
    pub fn new(text: &'a str) -> Lexer<'a> {
        Lexer { text, bytes: text.as_bytes(), at: 0, placeholders: true }
    }

    /// For a text as PostgreSQL takes it: `?` and `%` are operators, `$1` is a parameter of the server's.
    pub fn without_placeholders(text: &'a str) -> Lexer<'a> {
        Lexer { placeholders: false, ..Lexer::new(text) }
    }

    /// The next token, white space skipped.
    pub fn next(&mut self) -> Result<Option<Token>> {
        self.skip_while(is_space);
        let start = self.at;
        let Some(byte) = self.peek(0) else { return Ok(None) };
        let kind = match byte {
            0 => return Err(self.error("NUL character", start)),
            b'\'' => self.quoted(start, b'\'', Kind::Text, "string")?,
            b'"' => self.quoted(start, b'"', Kind::Quoted, "quoted identifier")?,
            b'-' if self.peek(1) == Some(b'-') => self.line_comment(),
            b'/' if self.peek(1) == Some(b'*') => self.block_comment()?,
            b'$' => self.dollar()?,
            b'?' if self.placeholders => self.question()?,
            b'%' if self.placeholders => self.percent()?,
            b'0'..=b'9' => self.number(),
            b'.' if self.peek(1).is_some_and(|it| it.is_ascii_digit()) => self.number(),
            _ if is_word_start(byte) => self.word()?,
            _ => self.single(byte),
        };
        Ok(Some(Token { kind, start, end: self.at }))
    }

    fn peek(&self, ahead: usize) -> Option<u8> {
        self.bytes.get(self.at + ahead).copied()
    }

    fn skip_while(&mut self, test: impl Fn(u8) -> bool) {
        while self.peek(0).is_some_and(&test) {
            self.at += 1;
        }
    }

    fn error(&self, what: &str, at: usize) -> Error {
        Error::task(format!("{what} at {}", position(self.text, at)))
    }

    fn single(&mut self, byte: u8) -> Kind {
        self.at += 1;
        match byte {
            b'(' | b'[' => Kind::Open,
            b')' | b']' => Kind::Close,
            b';' => Kind::Semicolon,
            _ => Kind::Other(byte),
        }
    }

    /// From an opening quote to its end; a doubled quote is one of the text. `U&'…'`, `B'…'`, `X'…'` and `N'…'`
    /// end by the same rule, so that their prefix needs no care.
    fn quoted(&mut self, start: usize, quote: u8, kind: Kind, name: &str) -> Result<Kind> {
        self.at += 1;
        loop {
            match self.peek(0) {
                Some(byte) if byte == quote => {
                    self.at += 1;
                    if self.peek(0) != Some(quote) {
                        return Ok(kind);
                    }
                    self.at += 1;
                }
                Some(0) => return Err(self.error("NUL character", self.at)),
                Some(_) => self.at += 1,
                None => return Err(self.error(&format!("unterminated {name} that starts"), start)),
            }
        }
    }

    /// `E'…'` from its quote on. A part that follows on a later line is still an `E` string without saying so.
    fn escape_string(&mut self, start: usize) -> Result<Kind> {
        loop {
            self.escape_part(start)?;
            match self.continuation() {
                Some(quote) => self.at = quote,
                None => return Ok(Kind::Text),
            }
        }
    }

    fn escape_part(&mut self, start: usize) -> Result<()> {
        self.at += 1;
        loop {
            match self.peek(0) {
                Some(b'\\') => self.at += if self.peek(1).is_some_and(|it| it != 0) { 2 } else { 1 },
                Some(b'\'') if self.peek(1) == Some(b'\'') => self.at += 2,
                Some(b'\'') => {
                    self.at += 1;
                    return Ok(());
                }
                Some(0) => return Err(self.error("NUL character", self.at)),
                Some(_) => self.at += 1,
                None => return Err(self.error("unterminated E'…' string that starts", start)),
            }
        }
    }

    /// Where the string goes on, if only space with a line break (and line comments) lies before the next quote.
    fn continuation(&self) -> Option<usize> {
        let mut at = self.at;
        let mut line_break = false;
        loop {
            match self.bytes.get(at)? {
                b'\'' if line_break => return Some(at),
                b'-' if self.bytes.get(at + 1) == Some(&b'-') => {
                    at += self.bytes[at..].iter().position(|it| matches!(it, b'\n' | b'\r'))?;
                }
                byte if is_space(*byte) => {
                    line_break |= matches!(byte, b'\n' | b'\r');
                    at += 1;
                }
                _ => return None,
            }
        }
    }

    fn line_comment(&mut self) -> Kind {
        self.skip_while(|it| !matches!(it, b'\n' | b'\r' | 0));
        Kind::Comment
    }

    fn block_comment(&mut self) -> Result<Kind> {
        let start = self.at;
        let mut depth = 0;
        loop {
            match (self.peek(0), self.peek(1)) {
                (Some(b'/'), Some(b'*')) => (depth, self.at) = (depth + 1, self.at + 2),
                (Some(b'*'), Some(b'/')) => (depth, self.at) = (depth - 1, self.at + 2),
                (Some(0), _) => return Err(self.error("NUL character", self.at)),
                (Some(_), _) => self.at += 1,
                (None, _) => return Err(self.error("unterminated comment that starts", start)),
            }
            if depth == 0 {
                return Ok(Kind::Comment);
            }
        }
    }

    /// `$tag$…$tag$`. A `$` within an identifier never comes here: [`Lexer::word`] takes it.
    fn dollar(&mut self) -> Result<Kind> {
        let start = self.at;
        let rest = &self.bytes[start + 1..];
        let digit = rest.first().is_some_and(u8::is_ascii_digit);
        if digit && self.placeholders {
            return Err(self.error("$n is not a placeholder here, use ? for each argument: $", start));
        }
        let tag = rest.iter().take_while(|it| is_word_start(**it) || it.is_ascii_digit()).count();
        if digit || rest.get(tag) != Some(&b'$') {
            self.at += 1;
            return Ok(Kind::Other(b'$'));
        }
        let delimiter = &self.text[start..start + tag + 2];
        let body = start + delimiter.len();
        let Some(length) = self.text[body..].find(delimiter) else {
            return Err(self.error(&format!("unterminated {delimiter} string that starts"), start));
        };
        if let Some(nul) = self.text[body..body + length].find('\0') {
            return Err(self.error("NUL character", body + nul));
        }
        self.at = body + length + delimiter.len();
        Ok(Kind::Text)
    }

    /// `?` or `??`.
    ///
    /// `?|` and `?&` are operators on JSONB to one reader and a parameter before a bit operator to another: refused.
    /// `?||` and `?&&` have one reading in practice, a parameter before a concatenation or an overlap (the geometric
    /// `?||` is written `??||`), and so are accepted. A lone `@` directly before `?` is the jsonpath operator `@?`.
    fn question(&mut self) -> Result<Kind> {
        let start = self.at;
        if self.peek(1) == Some(b'?') {
            self.at += 2;
            return Ok(Kind::Question);
        }
        if let Some(next @ (b'|' | b'&')) = self.peek(1)
            && self.peek(2) != Some(next)
        {
            let op = char::from(next);
            let advice = format!(
                "write the operator ?{op} as ??{op}, or put a space after a ? that is a parameter: ?{op}"
            );
            return Err(self.error(&advice, start));
        }
        let before = |back: usize| start.checked_sub(back).map(|at| self.bytes[at]);
        if before(1) == Some(b'@') && !before(2).is_some_and(is_operator) {
            return Err(self.error(
                "write the operator @? as @??, or put a space before a ? that is a parameter: @?",
                start - 1,
            ));
        }
        self.at += 1;
        Ok(Kind::Param)
    }

    /// `%`, unless it is a placeholder of another library. `a % s` and `a %size` stay the remainder.
    fn percent(&mut self) -> Result<Kind> {
        let rest = &self.text[self.at + 1..];
        let after = |it: &str| !it.as_bytes().first().is_some_and(|it| is_word(*it));
        let named = || {
            let (name, tail) = rest.strip_prefix('(')?.split_once(')')?;
            Some(!name.is_empty() && name.bytes().all(is_word) && after(tail.strip_prefix('s')?))
        };
        if rest.strip_prefix('s').is_some_and(after) || named() == Some(true) {
            return Err(self.error("%s is not a placeholder here, use ? for each argument: %", self.at));
        }
        Ok(self.single(b'%'))
    }

    fn number(&mut self) -> Kind {
        let radix = matches!(self.peek(1), Some(b'x' | b'X' | b'o' | b'O' | b'b' | b'B'));
        if self.peek(0) == Some(b'0') && radix && self.peek(2).is_some_and(|it| it.is_ascii_hexdigit()) {
            self.at += 2;
            self.skip_while(|it| it.is_ascii_hexdigit() || it == b'_');
            return Kind::Number;
        }
        self.skip_while(|it| it.is_ascii_digit() || it == b'_');
        if self.peek(0) == Some(b'.') {
            self.at += 1;
            self.skip_while(|it| it.is_ascii_digit() || it == b'_');
        }
        if matches!(self.peek(0), Some(b'e' | b'E')) {
            let sign = usize::from(matches!(self.peek(1), Some(b'+' | b'-')));
            if self.peek(1 + sign).is_some_and(|it| it.is_ascii_digit()) {
                self.at += 1 + sign;
                self.skip_while(|it| it.is_ascii_digit() || it == b'_');
            }
        }
        Kind::Number
    }

    fn word(&mut self) -> Result<Kind> {
        let start = self.at;
        self.skip_while(is_word);
        let escape = matches!(&self.bytes[start..self.at], b"e" | b"E") && self.peek(0) == Some(b'\'');
        if escape { self.escape_string(start) } else { Ok(Kind::Word) }
    }
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c)
}

fn is_word_start(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || byte == b'_' || byte >= 0x80
}

/// Whether the byte can go on an identifier, so that `$1` right after it would become a part of it.
pub(super) fn is_word(byte: u8) -> bool {
    is_word_start(byte) || byte.is_ascii_digit() || byte == b'$'
}

fn is_operator(byte: u8) -> bool {
    b"+-*/<>=~!@#%^&|`?".contains(&byte)
}

/// "line 2, column 7", both from 1, the column in characters.
pub(super) fn position(text: &str, at: usize) -> String {
    let before = &text[..at];
    let line = before.bytes().filter(|it| *it == b'\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or("").chars().count() + 1;
    format!("line {line}, column {column}")
}
