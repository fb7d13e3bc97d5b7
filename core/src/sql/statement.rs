//! A whole statement: lexed once per distinct text and thread, then shared.

use std::sync::{Arc, OnceLock};

use super::cache::TextCache;
use super::fragment::identifier;
use super::lexer::{Kind, Lexer, position};
use super::outline::{Outline, Sketch, Verb};
use super::placeholder::Placeholders;
use crate::error::{Error, Result};

/// PostgreSQL would take more; a text of this size is a value that was pasted into it.
pub(super) const MAX_TEXT: usize = 1 << 20;
/// The wire protocol counts parameters in 16 bits.
pub(super) const MAX_PARAMS: usize = 65_535;

/// What is known of a statement's text, arguments apart.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Statement {
    /// With `$1 …` for `?`.
    pub sql: Arc<str>,
    /// The number of parameters.
    pub params: usize,
    /// Where a further clause goes: before a trailing semicolon or comment.
    pub body_end: usize,
    pub outline: Outline,
    mentions: OnceLock<Box<[Box<str>]>>,
}

thread_local! {
    static CACHE: TextCache<Statement> = const { TextCache::new() };
}

impl Statement {
    /// From the cache, or lexed now.
    pub fn of(text: &str) -> Result<Arc<Statement>> {
        TextCache::get(&CACHE, &[text], || Statement::lex(text))
    }

    /// A read of the engine's own.
    pub fn own(sql: Arc<str>) -> Statement {
        let outline = Outline { verb: Verb::Select, on_conflict: false, returning: false, writes: false };
        Statement { body_end: sql.len(), sql, params: 0, outline, mentions: OnceLock::new() }
    }

    fn lex(text: &str) -> Result<Statement> {
        check_size("the statement", text)?;
        let mut lexer = Lexer::new(text);
        let mut places = Placeholders::default();
        let mut sketch = Sketch::new();
        let (mut body_end, mut ended) = (0, false);
        while let Some(token) = lexer.next()? {
            match token.kind {
                Kind::Comment => continue,
                Kind::Semicolon if sketch.at_top() => {
                    ended = body_end > 0;
                    continue;
                }
                _ if ended => {
                    let at = position(text, token.start);
                    return Err(Error::task(format!("a task is one statement; a second one starts at {at}")));
                }
                _ => {}
            }
            places.note(token);
            sketch.push(token, text);
            body_end = token.end;
        }
        if body_end == 0 {
            return Err(Error::task("the statement is empty"));
        }
        Statement::finish(text, &places, body_end, sketch.outline())
    }

    fn finish(text: &str, places: &Placeholders, body_end: usize, outline: Outline) -> Result<Statement> {
        if outline.verb == Verb::Transaction {
            return Err(Error::task(
                "a task cannot begin or end a transaction; give a list of tasks to run them in one",
            ));
        }
        if places.params() > MAX_PARAMS {
            return Err(Error::task(format!(
                "the statement has {} placeholders; PostgreSQL takes at most {MAX_PARAMS}",
                places.params()
            )));
        }
        let mut sql = String::with_capacity(text.len() + places.params() * 3);
        places.render(&text[..body_end], |index| index as u32 + 1, &mut sql);
        let rendered_end = sql.len();
        sql.push_str(&text[body_end..]);
        let (sql, params, mentions) = (sql.into(), places.params(), OnceLock::new());
        Ok(Statement { sql, params, body_end: rendered_end, outline, mentions })
    }

    /// The same statement with a further clause.
    pub fn with_clause(&self, clause: &str, outline: Outline) -> Result<Statement> {
        let (body, tail) = self.sql.split_at(self.body_end);
        let sql: String = [body, clause, tail].concat();
        check_size("the statement", &sql)?;
        Ok(Statement {
            sql: sql.into(),
            params: self.params,
            body_end: self.body_end + clause.len(),
            outline,
            mentions: OnceLock::new(),
        })
    }

    /// The identifiers in it, keywords among them, as the catalogue would have them.
    pub fn mentions(&self) -> &[Box<str>] {
        self.mentions.get_or_init(|| names_in(&self.sql).into())
    }
}

/// Stands among the names of a statement that may be about any table: DO and CALL run what their text does not show, and
/// an identifier of the form U&"…" is spelt in escapes.
pub(crate) const ANYTHING: &str = "*";

/// The identifiers in a statement as PostgreSQL takes it, keywords among them, each once.
pub(crate) fn names_in(sql: &str) -> Vec<Box<str>> {
    let mut lexer = Lexer::without_placeholders(sql);
    let mut names: Vec<Box<str>> = Vec::new();
    // What does not lex is refused elsewhere.
    while let Ok(Some(token)) = lexer.next() {
        names.extend(identifier(sql, token));
    }
    let runs_more = names.first().is_some_and(|first| matches!(&**first, "do" | "call"));
    if runs_more || sql.contains("U&\"") || sql.contains("u&\"") {
        names.push(ANYTHING.into());
    }
    names.sort_unstable();
    names.dedup();
    names
}

pub(super) fn check_size(what: &str, text: &str) -> Result<()> {
    if text.len() <= MAX_TEXT {
        return Ok(());
    }
    Err(Error::task(format!(
        "{what} has {} bytes; at most {MAX_TEXT} are taken, pass values as arguments",
        text.len()
    )))
}
