//! The one place where the driver's errors become ours.
//!
//! Nothing that may hold data is passed on: no DETAIL (`Key (email)=(…) already exists`), no HINT, no CONTEXT, and of
//! the message of a statement that ran not what it quotes: `?::regclass` quotes its argument as a table that does not
//! exist. While a statement is prepared its arguments are not at the server yet, so what is quoted then is a piece of
//! the text, unless it is a literal that could not be read. A RAISE without a code of its own is the programmer's
//! message and stays whole. The statement is named by a hash of its text.

use std::error::Error as _;

use sha2::{Digest, Sha256};
use tokio_postgres::Error as PgError;
use tokio_postgres::error::{DbError, Severity};

use crate::error::{Error, ErrorKind};

/// Why a try failed, as far as it decides about another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cause {
    /// Trying again would fail again.
    Final,
    /// A task may need what an earlier one of its list makes; running the list step by step may pass.
    Dependent,
    /// The transaction met another one and may pass if it is run again.
    Conflict,
    /// A prepared statement no longer fits the schema or the server connection; preparing it anew helps.
    Stale,
    /// The connection is gone, or nobody knows what state it is in.
    Lost,
    /// The time was over while something ran on the connection.
    Abandoned,
}

/// A failed try.
#[derive(Debug, Clone)]
pub(super) struct Failure {
    pub(super) cause: Cause,
    pub(super) error: Error,
}

/// Whether the server had seen arguments when it refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// It had only the text: a login, a PREPARE, a migration.
    Text,
    /// A statement ran with its arguments, or a COMMIT ran triggers on them.
    Running,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        Failure { cause: Cause::Final, error }
    }
}

impl Failure {
    /// What the driver reported for a statement that ran.
    pub(super) fn of(error: PgError, sql: &str) -> Failure {
        Failure::at(Stage::Running, error, sql)
    }

    /// What the driver reported for a statement at that stage.
    pub(super) fn at(stage: Stage, error: PgError, sql: &str) -> Failure {
        let mut failure = match error.as_db_error() {
            Some(refusal) => {
                Failure { cause: cause(refusal), error: refused(refusal, "the statement", stage) }
            }
            None => Failure { cause: Cause::Lost, error: lost(&error) },
        };
        if !sql.is_empty() {
            failure.error = failure.error.with("sql", sql_hash(sql));
        }
        failure
    }
}

impl From<PgError> for Failure {
    fn from(error: PgError) -> Failure {
        Failure::of(error, "")
    }
}

fn cause(refusal: &DbError) -> Cause {
    if matches!(refusal.parsed_severity(), Some(Severity::Fatal | Severity::Panic)) {
        return Cause::Lost;
    }
    match refusal.code().code() {
        "40001" | "40P01" => Cause::Conflict,
        "26000" | "42P05" => Cause::Stale,
        "0A000" if refusal.routine() == Some("RevalidateCachedQuery") => Cause::Stale,
        _ => Cause::Final,
    }
}

/// An error that the server sent; `what` it refused.
pub(super) fn refused(refusal: &DbError, what: &str, stage: Stage) -> Error {
    let code = refusal.code().code();
    let kind = if code == "57014" { ErrorKind::Timeout } else { ErrorKind::Store };
    let message = match kind {
        ErrorKind::Timeout => "PostgreSQL cancelled the statement because its time was over".to_owned(),
        _ => format!("PostgreSQL refused {what}: {}", safe_message(stage, code, refusal.message())),
    };
    let mut error =
        Error::new(kind, message).with_retryable(retryable(code)).with_sqlstate(code).with("sqlstate", code);
    for (name, value) in [
        ("constraint", refusal.constraint()),
        ("table", refusal.table()),
        ("column", refusal.column()),
        ("type", refusal.datatype()),
    ] {
        if let Some(value) = value {
            error = error.with(name, value);
        }
    }
    if code == "42P01" && refusal.message().contains("zmsg_") {
        error = error.with(
            "hint",
            "the engine's own tables are missing; open once with auto_migrate: true as a role that may create tables",
        );
    }
    error
}

fn lost(error: &PgError) -> Error {
    let io = error.source().and_then(|source| source.downcast_ref::<std::io::Error>());
    let message = match io {
        Some(io) => format!("the connection to PostgreSQL failed: {io}"),
        None if error.is_closed() => "the connection to PostgreSQL was closed".to_owned(),
        None => format!("the connection to PostgreSQL failed: {error}"),
    };
    Error::new(ErrorKind::Store, message).with_retryable(true)
}

/// Whether the same call may pass later: connection, conflicts, resources, restarts, locks, a read-only standby, a disk
/// that failed.
fn retryable(code: &str) -> bool {
    matches!(code, "40001" | "40P01" | "55P03" | "57014" | "57P01" | "57P02" | "57P03" | "57P05" | "25006")
        || code.starts_with("08")
        || code.starts_with("53")
        || code.starts_with("58")
}

/// The first digits of the SHA-256 of a statement's text: finds it in logs without showing it.
pub(super) fn sql_hash(sql: &str) -> String {
    Sha256::digest(sql.as_bytes()).iter().take(6).map(|byte| format!("{byte:02x}")).collect()
}

/// Whether what a message quotes can only be names, or is meant to be read. Class 23 quotes constraints, tables and
/// columns; P0001 is a RAISE.
fn quotes_names(stage: Stage, code: &str) -> bool {
    match stage {
        Stage::Text => !code.starts_with("22"),
        Stage::Running => code.starts_with("23") || code == "P0001",
    }
}

/// The message, without what it may quote from the data.
fn safe_message(stage: Stage, code: &str, message: &str) -> String {
    const OPENING: &[char] = &['"', '«', '»', '„', '“', '”', '‘', '\'', '`', '「'];
    const CLOSING: &[char] = &['"', '«', '»', '“', '”', '’', '\'', '」'];
    if quotes_names(stage, code) {
        return message.to_owned();
    }
    // Greedy, because the data may hold quotes too.
    match (message.find(OPENING), message.rfind(CLOSING)) {
        (Some(from), Some(to)) if from < to => {
            let after = message[to..].chars().next().map_or(to, |quote| to + quote.len_utf8());
            format!("{}…{}", &message[..from], &message[after..])
        }
        (Some(from), _) => format!("{}…", &message[..from]),
        _ => message.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_lose_what_may_be_data() {
        let cases = [
            (
                "22P02",
                "invalid input syntax for type integer: \"canary\"",
                "invalid input syntax for type integer: …",
            ),
            ("22003", "value \"99\"canary\" is out of range", "value … is out of range"),
            (
                "22P02",
                "ungültige Eingabesyntax für Typ integer: „canary“",
                "ungültige Eingabesyntax für Typ integer: …",
            ),
            ("22P02", "half \"canary", "half …"),
            ("22003", "integer out of range", "integer out of range"),
            ("42P01", "relation \"canary\" does not exist", "relation … does not exist"),
            ("23505", "violates \"t_key\"", "violates \"t_key\""),
            ("P0001", "no \"such\" post", "no \"such\" post"),
        ];
        for (code, message, want) in cases {
            assert_eq!(safe_message(Stage::Running, code, message), want);
        }
        let missing = "column \"likes\" does not exist";
        assert_eq!(safe_message(Stage::Text, "42703", missing), missing);
        let literal = safe_message(Stage::Text, "22P02", "invalid input: \"canary\"");
        assert_eq!(literal, "invalid input: …");
    }

    #[test]
    fn what_passes_by_itself_is_retryable() {
        for code in ["08006", "40001", "40P01", "53300", "57P01", "57P03", "55P03", "58030"] {
            assert!(retryable(code), "{code}");
        }
        for code in ["22003", "23505", "42601", "28P01", "57P04"] {
            assert!(!retryable(code), "{code}");
        }
    }
}
