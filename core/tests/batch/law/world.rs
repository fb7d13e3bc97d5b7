//! Twin tables, and how they are played and compared.

use fastrand::Rng;
use tokio_postgres::Client;
use zmsg_core::engine::{WriteOptions, Zmsg};
use zmsg_core::value::{Decimal, Value};

use super::moves::{Move, Style};

/// What identifies a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Int,
    Text,
    Uuid,
    /// Of an integer and a text.
    Pair,
    /// Texts that differ in case are one row.
    Folded,
    /// Texts that differ in blanks at the end are one row.
    Padded,
    Numeric,
    /// Several rows of each key.
    Many,
    /// The same, and texts that differ in case are one key.
    FoldedMany,
}

impl Kind {
    pub const ALL: [Kind; 9] = [
        Kind::Int,
        Kind::Text,
        Kind::Uuid,
        Kind::Pair,
        Kind::Folded,
        Kind::Padded,
        Kind::Numeric,
        Kind::Many,
        Kind::FoldedMany,
    ];

    pub fn is_unique(self) -> bool {
        !matches!(self, Kind::Many | Kind::FoldedMany)
    }

    fn columns(self) -> &'static str {
        match self {
            Kind::Int => "id bigint PRIMARY KEY",
            Kind::Text => "id text PRIMARY KEY",
            Kind::Uuid => "id uuid PRIMARY KEY",
            Kind::Pair => "p integer, q text, PRIMARY KEY (q, p)",
            Kind::Folded => "id text COLLATE folded PRIMARY KEY",
            Kind::Padded => "id char(12) PRIMARY KEY",
            Kind::Numeric => "id numeric PRIMARY KEY",
            Kind::Many => "id integer",
            Kind::FoldedMany => "id text COLLATE folded",
        }
    }

    /// The key of a row; `other` spells it differently if there is a way.
    pub fn key(self, row: usize, other: bool) -> Vec<Value> {
        let n = row as i64;
        let text = |it: String| vec![Value::text(it)];
        match self {
            Kind::Int | Kind::Many if other => text(n.to_string()),
            Kind::Int | Kind::Many => vec![n.into()],
            Kind::Text => text(format!("k{n}")),
            Kind::Uuid => {
                let bytes = (row as u128 * 0x0123_4567_89ab).to_be_bytes();
                let spelled = format!("{:032x}", u128::from_be_bytes(bytes));
                if other { text(spelled) } else { vec![Value::Uuid(bytes)] }
            }
            Kind::Pair => vec![(n % 20).into(), Value::text(format!("q{}", n / 20))],
            Kind::Folded | Kind::FoldedMany => text(format!("{}{n}", if other { "Key" } else { "key" })),
            Kind::Padded => text(format!("k{n}{}", if other { "   " } else { "" })),
            Kind::Numeric => {
                let text = format!("{n}{}", if other { ".00" } else { "" });
                vec![Decimal::parse(&text).unwrap().into()]
            }
        }
    }

    pub fn key_columns(self) -> &'static [&'static str] {
        match self {
            Kind::Pair => &["p", "q"],
            _ => &["id"],
        }
    }
}

/// The columns that operations change.
pub const COLUMNS: [&str; 8] = ["i2", "i4", "i8", "num", "price", "f", "tags", "extra"];

pub struct World {
    pub kind: Kind,
    pub rows: usize,
    /// A table keeps its types for as long as an engine knows it.
    a: String,
    b: String,
}

/// One table as texts: each row's key, then its columns.
type Texts = Vec<Vec<Option<String>>>;

impl World {
    /// A third of the rows is missing, some values are NULL.
    pub async fn new(client: &Client, kind: Kind, rows: usize, rng: &mut Rng) -> World {
        let starts = if rng.bool() { " DEFAULT 100" } else { "" };
        let (a, b) = (format!("a_{kind:?}").to_lowercase(), format!("b_{kind:?}").to_lowercase());
        let schema = format!(
            "CREATE COLLATION IF NOT EXISTS folded (provider = icu, locale = 'und-u-ks-level2', deterministic = false); \
             DROP TABLE IF EXISTS {a}, {b}; \
             CREATE TABLE {a} ({}, note text, i2 smallint, i4 integer{starts}, i8 bigint{starts}, num numeric, \
             price numeric(10,2), f float8, tags jsonb, extra jsonb); CREATE INDEX ON {a} ({})",
            kind.columns(),
            kind.key_columns()[0]
        );
        client.batch_execute(&schema).await.unwrap();
        let mut values = Vec::new();
        for row in 0..rows {
            let copies = if kind.is_unique() { usize::from(rng.u8(..3) > 0) } else { rng.usize(..3) };
            for copy in 0..copies {
                values.push(row_text(kind, row, copy, rng));
            }
        }
        for part in values.chunks(500) {
            client.batch_execute(&format!("INSERT INTO {a} VALUES {}", part.join(", "))).await.unwrap();
        }
        let twin = format!("CREATE TABLE {b} (LIKE {a} INCLUDING ALL); INSERT INTO {b} SELECT * FROM {a}");
        client.batch_execute(&twin).await.unwrap();
        World { kind, rows, a, b }
    }

    /// Every move on both tables, in order; then the flush.
    pub async fn play(&self, zm: &Zmsg, moves: &[Move], rng: &mut Rng) {
        let mut at = 0;
        while at < moves.len() {
            let count = if rng.u8(..8) == 0 { rng.usize(1..4).min(moves.len() - at) } else { 1 };
            let tasks: Vec<_> = moves[at..at + count].iter().map(|it| it.task(&self.a)).collect();
            zm.cache_and_periodic_store(None, None, tasks, WriteOptions::default()).await.unwrap();
            at += count;
        }
        for part in moves.chunks(300) {
            let part: Vec<&Move> = part.iter().filter(|it| !it.superseded).collect();
            if part.is_empty() {
                continue;
            }
            let tasks: Vec<_> = part.iter().map(|it| it.task(&self.b)).collect();
            if let Err(error) = zm.sql_exec(tasks).await {
                let told: Vec<String> = part.iter().map(|it| it.told(&self.b)).collect();
                panic!("an operation fails by itself: {error}\n{}", told.join("\n"));
            }
        }
        let report = zm.flush().await.unwrap();
        assert_eq!(report.dead, 0, "{report:?}: {:?}", zm.dead_letters().await.unwrap());
    }

    pub async fn compare(&self, client: &Client, moves: &[Move], style: &Style) {
        let (a, b) = (self.texts(client, &self.a).await, self.texts(client, &self.b).await);
        let different = a.iter().zip(&b).find(|(a, b)| !same_row(a, b));
        if let Some((a, b)) = different {
            let key = self.of_text(a);
            let told: Vec<String> = moves
                .iter()
                .filter(|it| it.row.is_none() || key.is_none() || it.row == key)
                .map(|it| it.told(&self.a))
                .collect();
            panic!("{:?} {style:?}\naggregated {a:?}\nalone      {b:?}\n{}", self.kind, told.join("\n"));
        }
        assert_eq!(a.len(), b.len(), "{:?} {style:?}: one table has more rows", self.kind);
    }

    /// The number of the row that a table's row is.
    fn of_text(&self, texts: &[Option<String>]) -> Option<usize> {
        let shown = |key: &Value| match key {
            Value::Int(it) => it.to_string(),
            Value::Text(it) => it.trim_end().to_lowercase(),
            Value::Decimal(it) => it.as_str().trim_end_matches(".00").to_owned(),
            Value::Uuid(it) => format!("{:032x}", u128::from_be_bytes(*it)),
            _ => String::new(),
        };
        let plain = |text: &str| match self.kind {
            Kind::Uuid => text.replace('-', ""),
            _ => text.trim_end().trim_end_matches(".00").to_lowercase(),
        };
        let mine: Vec<String> =
            texts[..self.kind.key_columns().len()].iter().flatten().map(|it| plain(it)).collect();
        (0..self.rows).find(|row| self.kind.key(*row, false).iter().map(shown).collect::<Vec<_>>() == mine)
    }

    async fn texts(&self, client: &Client, table: &str) -> Texts {
        let keys = self.kind.key_columns().iter().map(|it| format!("{it}::text"));
        let columns = keys
            .chain(["note".to_owned()])
            .chain(COLUMNS.iter().map(|it| format!("{it}::text")))
            .collect::<Vec<_>>();
        let (count, list) = (columns.len(), columns.join(", "));
        let order: Vec<String> = columns.iter().map(|it| format!("({it}) COLLATE \"C\"")).collect();
        // The number of a copy is in its note, so that copies are compared with their like.
        let question = format!("SELECT {list} FROM {table} ORDER BY {}", order.join(", "));
        let rows = client.query(&question, &[]).await.unwrap();
        rows.iter().map(|row| (0..count).map(|at| row.get(at)).collect()).collect()
    }
}

fn row_text(kind: Kind, row: usize, copy: usize, rng: &mut Rng) -> String {
    // Of keys with several spellings the table has either, and of keys with several rows both.
    let spelled = rng.bool() && kind != Kind::Padded;
    let keys: Vec<String> = kind.key(row, spelled).iter().map(literal).collect();
    let mut values = vec![keys.join(", "), format!("'copy {copy}'")];
    for column in COLUMNS {
        let value = match column {
            _ if rng.u8(..4) == 0 => "NULL".to_owned(),
            "i2" => rng.i32(-100..100).to_string(),
            "num" => ["1.5", "0.250", "-3", "2.0"][rng.usize(..4)].to_owned(),
            "price" => format!("{}.{:02}", rng.u8(..90), rng.u8(..100)),
            "f" => ["0.5", "1.25", "-2"][rng.usize(..3)].to_owned(),
            "tags" => ["'[]'", "'[1, 2, 1.0]'", r#"'["a", null, {"x": 1}]'"#][rng.usize(..3)].to_owned(),
            "extra" => ["'{}'", r#"'{"k1": 1, "k2": [1]}'"#, r#"'{"é": null}'"#][rng.usize(..3)].to_owned(),
            _ => rng.i32(-1_000..1_000).to_string(),
        };
        values.push(value);
    }
    format!("({})", values.join(", "))
}

fn literal(value: &Value) -> String {
    match value {
        Value::Int(it) => it.to_string(),
        Value::Decimal(it) => it.as_str().to_owned(),
        Value::Text(it) => format!("'{it}'"),
        Value::Uuid(it) => format!("'{:032x}'", u128::from_be_bytes(*it)),
        other => panic!("{other:?} is no key"),
    }
}

fn same_row(a: &[Option<String>], b: &[Option<String>]) -> bool {
    let float = a.len() - 3;
    let near = |a: &str, b: &str| {
        let (a, b): (f64, f64) = (a.parse().unwrap(), b.parse().unwrap());
        (a - b).abs() <= 1e-6_f64.max(b.abs() * 1e-9)
    };
    a.iter().zip(b).enumerate().all(|(at, (a, b))| match (a, b) {
        (Some(a), Some(b)) if at == float => near(a, b),
        _ => a == b,
    })
}
