//! INSERTs of one row and of one text, as one INSERT of many rows.

use super::Rendered;
use super::lexer::{Kind, Lexer, Token};
use crate::value::Value;

/// Rows of one statement.
const MOST_ROWS: usize = 512;
/// Parameters of one statement, below what the protocol can count.
const MOST_PARAMS: usize = 32_000;

/// An INSERT with one tuple of VALUES, and the further rows that joined it.
pub(crate) struct MultiRow {
    first: Rendered,
    /// Where the tuple stands in the text.
    tuple: std::ops::Range<usize>,
    params: Vec<Value>,
    rows: usize,
}

impl MultiRow {
    /// `None` unless it is `INSERT INTO … VALUES (…)`, with or without ON CONFLICT DO NOTHING, whose parameters are all in
    /// the tuple, in order.
    pub(crate) fn of(statement: &Rendered) -> Option<MultiRow> {
        let tuple = tuple_of(&statement.sql)?;
        let params = statement.params.to_vec();
        let fits = !params.is_empty() && params.len() <= MOST_PARAMS / 2;
        fits.then(|| MultiRow { first: statement.clone(), tuple, params, rows: 1 })
    }

    /// Takes a further row; `false` if it is of another text, or there is no room.
    pub(crate) fn take(&mut self, next: &Rendered) -> bool {
        let same = next.sql == self.first.sql;
        let room = self.rows < MOST_ROWS && self.params.len() + next.params.len() <= MOST_PARAMS;
        if same && room {
            self.params.extend_from_slice(&next.params);
            self.rows += 1;
        }
        same && room
    }

    /// The statement of all rows.
    pub(crate) fn rendered(self) -> Rendered {
        let (text, width) = (&self.first.sql, self.first.params.len());
        let tuple = &text[self.tuple.clone()];
        let mut sql = String::with_capacity(text.len() + self.rows * (tuple.len() + 8));
        sql.push_str(&text[..self.tuple.start]);
        for row in 0..self.rows {
            if row > 0 {
                sql.push_str(", ");
            }
            push_numbered(tuple, row * width, &mut sql);
        }
        sql.push_str(&text[self.tuple.end..]);
        Rendered { sql: sql.into(), params: self.params.into() }
    }
}

/// The tuple with its parameters counted from `first`.
fn push_numbered(tuple: &str, first: usize, out: &mut String) {
    let mut from = 0;
    for (digits, number) in parameters(tuple, &tokens(tuple).unwrap_or_default()) {
        out.push_str(&tuple[from..digits.start]);
        out.push_str(&(first + number).to_string());
        from = digits.end;
    }
    out.push_str(&tuple[from..]);
}

fn tokens(text: &str) -> Option<Vec<Token>> {
    let mut lexer = Lexer::without_placeholders(text);
    let mut tokens = Vec::new();
    while let Some(token) = lexer.next().ok()? {
        if token.kind != Kind::Comment {
            tokens.push(token);
        }
    }
    Some(tokens)
}

/// `$1` is a dollar and a number to the lexer: where the digits stand, and what they say.
fn parameters(text: &str, tokens: &[Token]) -> Vec<(std::ops::Range<usize>, usize)> {
    let pairs = tokens.windows(2).filter(|pair| {
        pair[0].kind == Kind::Other(b'$') && pair[1].kind == Kind::Number && pair[0].end == pair[1].start
    });
    pairs
        .filter_map(|pair| Some((pair[1].start..pair[1].end, text[pair[1].start..pair[1].end].parse().ok()?)))
        .collect()
}

fn tuple_of(text: &str) -> Option<std::ops::Range<usize>> {
    let tokens = tokens(text)?;
    let word = |token: &Token| match token.kind {
        Kind::Word => text[token.start..token.end].to_ascii_uppercase(),
        _ => String::new(),
    };
    if word(tokens.first()?) != "INSERT" || tokens.iter().any(|token| word(token) == "RETURNING") {
        return None;
    }
    let values = tokens.iter().position(|token| word(token) == "VALUES")?;
    let open = values + 1;
    if tokens.get(open)?.kind != Kind::Open {
        return None;
    }
    let mut depth = 0;
    let close = open
        + tokens[open..].iter().position(|token| {
            depth += i32::from(token.kind == Kind::Open) - i32::from(token.kind == Kind::Close);
            depth == 0
        })?;
    let rest = &tokens[close + 1..];
    let alone = rest.first().is_none_or(|token| word(token) == "ON" || token.kind == Kind::Semicolon);
    let outside = [&tokens[..open], rest].iter().any(|part| !parameters(text, part).is_empty());
    // Before VALUES there may be a SELECT or WITH; then the tuple is not the INSERT's own. Anywhere else a SELECT may read
    // what the INSERT before it left. DO UPDATE may not meet one row twice in a statement.
    let plain =
        tokens.iter().all(|token| !matches!(&*word(token), "SELECT" | "WITH" | "OVERRIDING" | "UPDATE"));
    (alone && !outside && plain).then(|| tokens[open].start..tokens[close].end)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::sql;

    fn rendered(text: &str, values: &[i64]) -> Rendered {
        sql(text, values.iter().map(|it| Value::Int(*it)).collect::<Vec<_>>()).unwrap().render()
    }

    #[test]
    fn rows_of_one_text_become_one_statement() {
        let text = "INSERT INTO t (a, b) VALUES (?, coalesce(?, '$1')) ON CONFLICT (a) DO NOTHING";
        let mut many = MultiRow::of(&rendered(text, &[1, 2])).unwrap();
        assert!(many.take(&rendered(text, &[3, 4])));
        assert!(!many.take(&rendered("INSERT INTO t (a, b) VALUES (?, ?)", &[3, 4])));
        let made = many.rendered();
        assert_eq!(
            &*made.sql,
            "INSERT INTO t (a, b) VALUES ($1, coalesce($2, '$1')), ($3, coalesce($4, '$1')) ON CONFLICT (a) DO NOTHING"
        );
        assert!(*made.params == [1, 2, 3, 4].map(Value::Int));
    }

    #[test]
    fn what_is_not_one_tuple_of_values_stays_alone() {
        for (text, count) in [
            ("INSERT INTO t (a) SELECT ?", 1),
            ("INSERT INTO t (a) VALUES (?), (?)", 2),
            ("INSERT INTO t (a) VALUES (?) RETURNING a", 1),
            ("INSERT INTO t (a) VALUES (?) ON CONFLICT (a) DO UPDATE SET a = ?", 2),
            ("INSERT INTO t (a) VALUES (?) ON CONFLICT (a) DO update SET n = t.n + 1", 1),
            ("UPDATE t SET a = ?", 1),
            ("INSERT INTO t (a) VALUES (1)", 0),
        ] {
            assert!(MultiRow::of(&rendered(text, &vec![1; count])).is_none(), "{text}");
        }
    }
}
