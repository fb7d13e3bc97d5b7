//! One WHERE fragment: text that is put in parentheses and must not be able to leave them.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use super::cache::TextCache;
use super::lexer::{Kind, Lexer, Token, position};
use super::placeholder::Placeholders;
use crate::error::{Error, Result};

/// Half of the limit of a statement, so that a statement built around its fragments is never over it.
const MAX_FRAGMENT: usize = super::statement::MAX_TEXT / 2;

/// A checked fragment. All that is known of it follows from its text.
#[derive(Debug)]
pub(super) struct Fragment {
    text: Box<str>,
    places: Placeholders,
    pub equalities: Vec<Equality>,
    /// Whether there is nothing but equalities of different columns, joined by AND.
    pub is_key: bool,
    /// The identifiers in it, as the catalogue has them.
    pub mentions: Vec<Box<str>>,
}

/// A column that every matching row has equal to a parameter.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Equality {
    pub column: String,
    /// The parameter's index in the fragment.
    pub param: usize,
    /// The cast behind it in the text, or nothing.
    pub cast: String,
}

impl PartialEq for Fragment {
    fn eq(&self, other: &Fragment) -> bool {
        self.text == other.text
    }
}

impl Eq for Fragment {}

impl Hash for Fragment {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.text.hash(state);
    }
}

thread_local! {
    static CACHE: TextCache<Fragment> = const { TextCache::new() };
}

impl Fragment {
    /// From the cache, or checked now.
    pub fn of(text: &str) -> Result<Arc<Fragment>> {
        TextCache::get(&CACHE, &[text], || Fragment::check(text))
    }

    /// The number of parameters.
    pub fn params(&self) -> usize {
        self.places.params()
    }

    /// Bytes of the text.
    pub fn len(&self) -> usize {
        self.text.len()
    }

    /// Appends the fragment in its parentheses, its parameters numbered by `number`.
    pub fn render(&self, number: impl Fn(usize) -> u32, out: &mut String) {
        out.push('(');
        self.places.render(&self.text, number, out);
        out.push(')');
    }

    fn check(text: &str) -> Result<Fragment> {
        if text.len() > MAX_FRAGMENT {
            let bytes = text.len();
            return Err(Error::task(format!(
                "WHERE text has {bytes} bytes; at most {MAX_FRAGMENT} are taken"
            )));
        }
        let tokens = tokens(text)?;
        check_balance(text, &tokens)?;
        let mut places = Placeholders::default();
        tokens.iter().for_each(|token| places.note(*token));
        let (equalities, conjuncts) = equalities(text, &tokens);
        let distinct =
            |it: &Equality| equalities.iter().filter(|other| other.column == it.column).count() == 1;
        let is_key = equalities.len() == conjuncts && equalities.iter().all(distinct);
        let mentions = tokens.iter().filter_map(|token| identifier(text, *token)).collect();
        Ok(Fragment { text: text.into(), is_key, equalities, mentions, places })
    }

    /// The text as it was given.
    pub fn text(&self) -> &str {
        &self.text
    }
}

/// The name that a token may be, as the catalogue has it: the server folds what is not quoted.
pub(super) fn identifier(text: &str, token: Token) -> Option<Box<str>> {
    let word = &text[token.start..token.end];
    match token.kind {
        Kind::Word => Some(word.to_lowercase().into()),
        Kind::Quoted => Some(word[1..word.len() - 1].replace("\"\"", "\"").into()),
        _ => None,
    }
}

fn tokens(text: &str) -> Result<Vec<Token>> {
    let mut lexer = Lexer::new(text);
    let mut tokens = Vec::new();
    let mut trailing_comment = None;
    while let Some(token) = lexer.next()? {
        match token.kind {
            Kind::Comment => trailing_comment = Some(token),
            Kind::Semicolon => {
                return Err(Error::task(format!(
                    "WHERE text holds a semicolon at {}",
                    position(text, token.start)
                )));
            }
            _ => {
                trailing_comment = None;
                tokens.push(token);
            }
        }
    }
    match trailing_comment {
        Some(comment) => {
            let at = position(text, comment.start);
            Err(Error::task(format!("WHERE text ends in a comment at {at}; put it before the condition")))
        }
        None if tokens.is_empty() => {
            Err(Error::task("WHERE text is empty; say all_rows() to change every row"))
        }
        None => Ok(tokens),
    }
}

fn check_balance(text: &str, tokens: &[Token]) -> Result<()> {
    let mut open = Vec::new();
    for token in tokens {
        let byte = text.as_bytes()[token.start];
        let fits = match token.kind {
            Kind::Open => {
                open.push(*token);
                true
            }
            Kind::Close => open
                .pop()
                .is_some_and(|it| text.as_bytes()[it.start] == if byte == b')' { b'(' } else { b'[' }),
            _ => true,
        };
        if !fits {
            let (byte, at) = (char::from(byte), position(text, token.start));
            return Err(Error::task(format!("WHERE text closes a {byte} that it did not open, at {at}")));
        }
    }
    match open.last() {
        Some(token) => {
            Err(Error::task(format!("WHERE text leaves a bracket open at {}", position(text, token.start))))
        }
        None => Ok(()),
    }
}

/// `column = ?` and `? = column` (the parameter may have a cast), where nothing but AND joins them with the rest.
/// Anything unusual at the top level gives none: an equality that is missed costs an error, one that is wrongly
/// seen would cost a wrong row. Beside them, how many conditions are joined.
fn equalities(text: &str, tokens: &[Token]) -> (Vec<Equality>, usize) {
    let word = |token: &Token| match token.kind {
        Kind::Word => text[token.start..token.end].to_ascii_uppercase(),
        _ => String::new(),
    };
    let mut conjuncts = vec![Vec::new()];
    let (mut depth, mut params) = (0, 0);
    for token in tokens {
        depth += i32::from(token.kind == Kind::Open) - i32::from(token.kind == Kind::Close);
        let index = params;
        params += usize::from(token.kind == Kind::Param);
        match &*word(token) {
            "OR" | "BETWEEN" | "CASE" if depth == 0 => return (Vec::new(), 1),
            "AND" if depth == 0 => conjuncts.push(Vec::new()),
            _ => conjuncts.last_mut().expect("it begins with one").push((*token, index)),
        }
    }
    (conjuncts.iter().filter_map(|it| equality(text, it)).collect(), conjuncts.len())
}

fn equality(text: &str, tokens: &[(Token, usize)]) -> Option<Equality> {
    let equals = tokens.iter().position(|(token, _)| token.kind == Kind::Other(b'='))?;
    let (left, right) = (&tokens[..equals], &tokens[equals + 1..]);
    let read = |column, value| {
        let (column, (param, cast)) = (column_of(text, column)?, parameter_of(text, value)?);
        Some(Equality { column, param, cast })
    };
    read(left, right).or_else(|| read(right, left))
}

/// `column`, `table.column`, `schema.table.column`; the server folds what is not quoted.
fn column_of(text: &str, tokens: &[(Token, usize)]) -> Option<String> {
    for (index, (token, _)) in tokens.iter().enumerate() {
        let fits = match token.kind {
            Kind::Word | Kind::Quoted => index % 2 == 0,
            Kind::Other(b'.') => index % 2 == 1,
            _ => false,
        };
        if !fits {
            return None;
        }
    }
    identifier(text, tokens.last()?.0).map(String::from)
}

/// `?` or `?::type`: the parameter and its cast.
fn parameter_of(text: &str, tokens: &[(Token, usize)]) -> Option<(usize, String)> {
    let kinds: Vec<Kind> = tokens.iter().map(|(token, _)| token.kind).collect();
    let colon = Kind::Other(b':');
    let index = tokens.first()?.1;
    match kinds[..] {
        [Kind::Param] => Some((index, String::new())),
        [Kind::Param, one, two, Kind::Word] if one == colon && two == colon => {
            let last = tokens[3].0;
            Some((index, format!("::{}", &text[last.start..last.end])))
        }
        _ => None,
    }
}
