//! Where key families are read from: patterns, each with a template of SQL.
//!
//! ```text
//! "feed_*"                        the whole key fills the task's only `?`
//! "user:{uid:int}:post:{pid}"     the parts fill the `?`s in order
//! "site:config"                   one key; the task has no `?`
//! ```
//! Of the patterns that fit a key, the one with the longest literal prefix counts, then the one with more literal text.
//! Two patterns that fit the same keys for their shape are refused when the second is declared.

pub(super) mod pattern;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::RwLock;

use crate::cache::source::pattern::{Fit, Pattern};
use crate::config::Ttl;
use crate::error::{Error, Result};
use crate::sql::Task;
use crate::value::Value;

/// How long what a source gives is kept; `None` is the configured life.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct SourceLife {
    /// Of a value.
    pub(crate) ttl: Option<Ttl>,
    /// Of an absence.
    pub(crate) absent_ttl: Option<Duration>,
    /// Of a value that is not fresh any more.
    pub(crate) stale_ttl: Option<Duration>,
    /// In which last part of its life a value is loaded anew.
    pub(crate) refresh_ahead: Option<f64>,
    /// How long a read waits for the source while there is a last good value; zero is for as long as it takes.
    pub(crate) soft_timeout: Option<Duration>,
}

/// A declared source.
#[derive(Debug)]
pub(crate) struct Source {
    pattern: Pattern,
    task: Task,
    /// How long its results are kept.
    pub(crate) life: SourceLife,
    /// Whether its family has a Bloom filter.
    pub(crate) bloom: bool,
    told_oversized: AtomicBool,
}

/// Which source a key has.
#[derive(Debug)]
pub(crate) enum Match {
    /// This one, with the arguments for its task.
    Source(Arc<Source>, Vec<Value>),
    /// One whose typed parts the key does not fit: it is absent.
    Unparsable,
    /// None.
    Unsourced,
}

/// Every declared source.
#[derive(Default)]
pub(crate) struct SourceTable(RwLock<Arc<[Arc<Source>]>>);

impl Source {
    /// The pattern as it was declared.
    pub(crate) fn pattern(&self) -> &str {
        self.pattern.text()
    }

    /// Logs, the first time, that the source gave a value too long to be kept.
    pub(crate) fn note_oversized(&self, length: usize, limit: usize) {
        if !self.told_oversized.swap(true, Ordering::Relaxed) {
            let pattern = self.pattern();
            log::warn!(
                "source {pattern:?} gave a value of {length} bytes, which is not cached: the limit is {limit} \
                 (max_value_bytes); every read of such a key is a query"
            );
        }
    }

    /// The statement that reads a key.
    pub(crate) fn task(&self, args: &[Value]) -> Result<Task> {
        if args.is_empty() { Ok(self.task.clone()) } else { self.task.bind(args) }
    }
}

impl SourceTable {
    /// Declares a source.
    ///
    /// # Errors
    /// `Task` for a pattern that is none, for one that another has already, and for a task whose open placeholders are
    /// not as many as the pattern's parts.
    pub(crate) fn declare(&self, pattern: &str, task: Task, life: SourceLife, bloom: bool) -> Result<()> {
        let open = task.open_placeholders();
        self.add(pattern, task, open, life, bloom)
    }

    fn add(&self, pattern: &str, task: Task, open: usize, life: SourceLife, bloom: bool) -> Result<()> {
        let pattern = Pattern::parse(pattern)?;
        let parts = pattern.arguments();
        if parts != open {
            return Err(Error::task(format!(
                "source {:?}: the pattern gives {parts} value(s), the task has {open} open placeholder(s)",
                pattern.text()
            )));
        }
        let mut table = self.0.write();
        if let Some(other) = table.iter().find(|other| other.pattern.same_shape(&pattern)) {
            return Err(Error::task(format!(
                "source {:?} fits the same keys as {:?}, which is declared already",
                pattern.text(),
                other.pattern()
            )));
        }
        let mut all: Vec<_> = table.iter().cloned().collect();
        all.push(Arc::new(Source { pattern, task, life, bloom, told_oversized: AtomicBool::new(false) }));
        all.sort_by_key(|source| std::cmp::Reverse(source.pattern.rank()));
        *table = all.into();
        Ok(())
    }

    /// What the source of a key says of lives; nothing if it has none.
    pub(crate) fn life_of(&self, key: &str) -> SourceLife {
        let table = self.0.read().clone();
        let source = table.iter().find(|source| !matches!(source.pattern.fit(key), Fit::No));
        source.map_or_else(SourceLife::default, |source| source.life)
    }

    /// The source of a key.
    pub(crate) fn find(&self, key: &str) -> Match {
        let table = self.0.read().clone();
        for source in table.iter() {
            match source.pattern.fit(key) {
                Fit::Args(args) => return Match::Source(source.clone(), args),
                Fit::Unparsable => return Match::Unparsable,
                Fit::No => {}
            }
        }
        Match::Unsourced
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;
    use crate::sql::sql;

    fn table(declared: &[(&str, &str)]) -> SourceTable {
        let table = SourceTable::default();
        for (pattern, text) in declared {
            add(&table, pattern, text).unwrap();
        }
        table
    }

    fn add(table: &SourceTable, pattern: &str, text: &str) -> Result<()> {
        table.add(
            pattern,
            sql("SELECT 1", &[]).unwrap(),
            text.matches('?').count(),
            SourceLife::default(),
            false,
        )
    }

    fn found(table: &SourceTable, key: &str) -> String {
        match table.find(key) {
            Match::Source(source, args) => format!("{} {}", source.pattern(), args.len()),
            Match::Unparsable => "unparsable".into(),
            Match::Unsourced => "unsourced".into(),
        }
    }

    #[test]
    fn the_longest_literal_prefix_wins_in_any_order() {
        let mut declared = vec![
            ("feed_*", "SELECT content FROM feeds WHERE id = ?"),
            ("feed_meta_*", "SELECT likes FROM metas WHERE id = ?"),
            ("feed_meta_{id:int}_raw", "SELECT raw FROM metas WHERE id = ?"),
            ("user:{uid:int}", "SELECT name FROM users WHERE id = ?"),
            ("user:{uid:int}:post:{pid}", "SELECT body FROM posts WHERE user_id = ? AND id = ?"),
        ];
        for _ in 0..declared.len() {
            declared.rotate_left(1);
            let table = table(&declared);
            assert_eq!(found(&table, "feed_1"), "feed_* 1");
            assert_eq!(found(&table, "feed_meta_1"), "feed_meta_* 1");
            assert_eq!(found(&table, "feed_meta_1_raw"), "feed_meta_{id:int}_raw 1");
            assert_eq!(found(&table, "feed_meta_x_raw"), "unparsable");
            assert_eq!(found(&table, "user:7"), "user:{uid:int} 1");
            assert_eq!(found(&table, "user:7:post:a"), "user:{uid:int}:post:{pid} 2");
            assert_eq!(found(&table, "user:x"), "unparsable");
            assert_eq!(found(&table, "other"), "unsourced");
            assert_eq!(found(&table, "feed_"), "unsourced");
        }
    }

    #[test]
    fn equal_patterns_and_wrong_counts_are_refused_by_name() {
        let table = table(&[("user:{a}", "SELECT ? ")]);
        for same in ["user:{a}", "user:{b}", "user:{b:int}", "user:*"] {
            let error = add(&table, same, "SELECT ?").unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Task);
            let text = error.to_string();
            assert!(text.contains("\"user:{a}\"") && text.contains(same), "{text}");
        }
        let error = add(&table, "x:{a}:{b}", "SELECT ?").unwrap_err();
        assert!(error.to_string().contains("gives 2 value(s), the task has 1 open"), "{error}");
        table.declare("site", sql("SELECT 1", &[]).unwrap(), SourceLife::default(), false).unwrap();
        assert_eq!(found(&table, "site"), "site 0");
    }
}
