//! Migrations: files of SQL that a database has had, or has not had yet.
//!
//! Each runs once, in name order, in one transaction together with the row that says so, while an advisory lock keeps
//! other processes out. What was applied is known by name and SHA-256; a changed file is an error, because nobody can
//! know what the database looks like then. A file whose first line is `-- zmsg:no-transaction` runs statement by
//! statement, for what PostgreSQL refuses inside a transaction.

use std::fmt::Write as _;
use std::path::Path;

use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};
use crate::sql::split;
use crate::store::own_tables;

const NO_TRANSACTION: &str = "-- zmsg:no-transaction";

/// One file of SQL.
#[derive(Debug, Clone)]
pub struct Migration {
    name: String,
    text: String,
    checksum: String,
}

/// What a run of migrations did.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct MigrationReport {
    /// Names that were applied now, in order.
    pub applied: Vec<String>,
    /// Names that had been applied before.
    pub skipped: Vec<String>,
}

impl Migration {
    /// A migration from a text; `name` identifies it from now on.
    pub fn from_text(text: &str, name: &str) -> Result<Migration> {
        own_tables::refuse_reserved(name)?;
        if name.trim().is_empty() || name.contains('\0') {
            return Err(Error::config(
                "a migration needs a name that is not empty, such as \"0001_feeds.sql\"",
            ));
        }
        Migration::check(Migration::own(name, text))
    }

    /// One of the engine's own; its text is known to be good.
    pub(crate) fn own(name: &str, text: &str) -> Migration {
        let digest = Sha256::digest(text.as_bytes());
        let checksum = digest.iter().fold(String::new(), |mut hex, byte| {
            let _ = write!(hex, "{byte:02x}");
            hex
        });
        let text = text.strip_prefix('\u{feff}').unwrap_or(text).to_owned();
        Migration { name: name.to_owned(), text, checksum }
    }

    /// The name that identifies it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The SQL, without a byte order mark.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// SHA-256 of the bytes, in hexadecimal.
    pub(crate) fn checksum(&self) -> &str {
        &self.checksum
    }

    /// Whether it runs statement by statement outside of a transaction.
    pub(crate) fn without_transaction(&self) -> bool {
        self.text.lines().next().is_some_and(|line| line.trim_end() == NO_TRANSACTION)
    }

    /// Its statements, each with the number of the line that it begins on.
    pub(crate) fn statements(&self) -> Result<Vec<(&str, usize)>> {
        let pieces =
            split::split_statements(&self.text).map_err(|error| self.refuse(None, error.message()))?;
        let line =
            |piece: &str| split::line_of(&self.text, piece.as_ptr().addr() - self.text.as_ptr().addr());
        Ok(pieces.into_iter().map(|piece| (piece, line(piece))).collect())
    }

    /// An error unless the file had this checksum when it was applied.
    pub(crate) fn unchanged(&self, applied: &str) -> Result<()> {
        if self.checksum == applied {
            return Ok(());
        }
        let short = |hex: &str| hex.chars().take(12).collect::<String>();
        Err(Error::config(format!(
            "the migration {} was changed after it had been applied (SHA-256 {}… then, {}… now); restore it, and put \
             the change into a new file",
            self.name,
            short(applied),
            short(&self.checksum)
        )))
    }

    /// An error that names this file.
    pub(crate) fn refuse(&self, line: Option<usize>, why: &str) -> Error {
        let line = line.map(|line| format!(", line {line}")).unwrap_or_default();
        Error::config(format!("migration {}{line}: {why}", self.name))
    }

    fn check(self) -> Result<Migration> {
        if let Some(at) = self.text.find('\0') {
            return Err(self.refuse(Some(split::line_of(&self.text, at)), "a NUL character is no SQL"));
        }
        let statements = self.statements()?;
        for (statement, line) in &statements {
            let (first, second) = split::leading_words(statement);
            let controls = is_transaction_control(&first, &second);
            if controls && !self.without_transaction() {
                let why = format!(
                    "{first} is not allowed, because the whole file already runs in one transaction; remove it, or \
                     begin the file with `{NO_TRANSACTION}`"
                );
                return Err(self.refuse(Some(*line), &why));
            }
            if first == "COPY" && statement.to_ascii_uppercase().contains("STDIN") {
                return Err(self.refuse(Some(*line), "COPY … FROM STDIN is psql's; write INSERT statements"));
            }
        }
        Ok(self)
    }
}

/// Whether a statement begins or ends a transaction (savepoints do not).
pub(crate) fn is_transaction_control(first: &str, second: &str) -> bool {
    match first {
        "BEGIN" | "COMMIT" | "END" | "ABORT" => true,
        "START" | "PREPARE" => second == "TRANSACTION",
        "ROLLBACK" => second != "TO",
        _ => false,
    }
}

/// The `*.sql` files of a directory, in the order of their names' bytes.
pub fn load_dir(path: &Path) -> Result<Vec<Migration>> {
    let unreadable = |error: std::io::Error| {
        Error::config(format!("the migrations directory {} cannot be read: {error}", path.display()))
    };
    let mut files = Vec::new();
    for entry in std::fs::read_dir(path).map_err(unreadable)? {
        let file = entry.map_err(unreadable)?.path();
        if file.extension().is_some_and(|it| it == "sql") && file.is_file() {
            files.push(file);
        }
    }
    if files.is_empty() {
        return Err(Error::config(format!("the migrations directory {} has no *.sql file", path.display())));
    }
    files.sort_by(|a, b| {
        a.file_name().map(|it| it.as_encoded_bytes()).cmp(&b.file_name().map(|it| it.as_encoded_bytes()))
    });
    files.iter().map(|file| load_file(file)).collect()
}

/// One file; its name is the file's name without the directory.
pub fn load_file(path: &Path) -> Result<Migration> {
    let unreadable =
        |why: String| Error::config(format!("the migration {} cannot be read: {why}", path.display()));
    let bytes = std::fs::read(path).map_err(|error| unreadable(error.to_string()))?;
    let text = String::from_utf8(bytes).map_err(|_| unreadable("it is not UTF-8".to_owned()))?;
    let name = path.file_name().and_then(|name| name.to_str());
    let name = name.ok_or_else(|| unreadable("its name is not UTF-8".to_owned()))?;
    Migration::from_text(&text, name)
}

/// Refuses a list that names the same migration twice.
pub(crate) fn refuse_twins(migrations: &[Migration]) -> Result<()> {
    let mut seen = std::collections::HashSet::new();
    match migrations.iter().find(|it| !seen.insert(it.name())) {
        Some(twin) => Err(Error::config(format!("the migration {} was given twice", twin.name()))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_read_in_byte_order() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["b.sql", "B.sql", "10.sql", "9.sql", "notes.txt"] {
            std::fs::write(dir.path().join(name), "select 1").unwrap();
        }
        let names: Vec<_> = load_dir(dir.path()).unwrap().iter().map(|it| it.name().to_owned()).collect();
        assert_eq!(names, ["10.sql", "9.sql", "B.sql", "b.sql"]);
    }

    #[test]
    fn missing_and_empty_directories_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let error = load_dir(dir.path()).unwrap_err();
        assert!(error.message().contains(&dir.path().display().to_string()), "{error}");
        let error = load_dir(&dir.path().join("nowhere")).unwrap_err();
        assert!(error.message().contains("nowhere"), "{error}");
    }

    #[test]
    fn transaction_control_is_refused_with_its_line() {
        for text in ["select 1;\nCOMMIT;", "select 1;\nbegin", "\nROLLBACK", "\nstart transaction", "\nEND"] {
            let error = Migration::from_text(text, "7.sql").unwrap_err();
            assert!(error.message().contains("7.sql, line 2"), "{text:?}: {error}");
        }
        for text in ["do $$ begin perform 1; end $$", "savepoint a; rollback to a", "prepare x as select 1"] {
            Migration::from_text(text, "7.sql").unwrap();
        }
        assert!(
            Migration::from_text("-- zmsg:no-transaction\r\nVACUUM;", "8.sql").unwrap().without_transaction()
        );
        assert!(Migration::from_text("select 1", "zmsg:mine").is_err());
    }

    #[test]
    fn a_byte_order_mark_is_not_sql() {
        let marked = Migration::from_text("\u{feff}-- zmsg:no-transaction\nselect 1", "a").unwrap();
        assert!(marked.without_transaction());
        assert_eq!(marked.statements().unwrap(), [("-- zmsg:no-transaction\nselect 1", 1)]);
    }
}
