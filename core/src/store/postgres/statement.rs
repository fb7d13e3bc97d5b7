//! Statements on one connection: prepare, bind, run one or several in one flight.

use std::collections::{HashMap, HashSet};
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

use futures_util::TryStreamExt;
use tokio_postgres::{Client, Statement};

use super::connect::Connection;
use super::decode;
use super::encode::{Param, encode};
use super::error::{Failure, Stage, sql_hash};
use crate::error::{Error, Result};
use crate::sql::split::leading_words;
use crate::sql::{Rendered, Task};
use crate::store::ExecResult;
use crate::store::migrations::is_transaction_control;
use crate::value::Row;

/// A statement that the server knows, with its columns' names.
pub(super) struct Prepared {
    statement: Statement,
    columns: Arc<[Arc<str>]>,
    wide: Arc<[bool]>,
}

/// A statement with its parameters, ready to be sent.
pub(super) struct Bound {
    prepared: Arc<Prepared>,
    params: Vec<Param>,
    sql: Arc<str>,
}

/// The text and parameters of a task that may run: nothing is left open, and it touches neither the transaction nor
/// the session.
pub(super) fn render(task: &Task) -> Result<Rendered> {
    task.check_runnable("running it")?;
    let rendered = task.render();
    let (first, second) = leading_words(&rendered.sql);
    if is_transaction_control(&first, &second) {
        return Err(Error::task(format!(
            "{first} is not allowed in a task, because connections are shared; give the tasks as a list, they run in \
             one transaction"
        )));
    }
    refuse_session_state(&first, &second, &rendered.sql)?;
    let streams = |word: &str| rendered.sql.to_ascii_uppercase().contains(word);
    if first == "COPY" && (streams("STDIN") || streams("STDOUT")) {
        return Err(Error::task(
            "COPY from or to the client is not a task; use INSERT … SELECT unnest(…) or a query",
        ));
    }
    if rendered.sql.contains('\0') {
        return Err(Error::task("the SQL text holds a NUL character, which PostgreSQL cannot take"));
    }
    Ok(rendered)
}

/// Refuses what would change the session for whoever gets the connection next. What a function does
/// (`pg_advisory_lock`, `set_config(…, false)`) and temporary tables cannot be told from the text; they do leave state.
fn refuse_session_state(first: &str, second: &str, sql: &str) -> Result<()> {
    let instead = match first {
        "SET" if matches!(second, "LOCAL" | "TRANSACTION" | "CONSTRAINTS") => return Ok(()),
        "SET" | "RESET" => "use SET LOCAL in a list of tasks, or the options of the DSN, or ALTER ROLE … SET",
        "LISTEN" | "UNLISTEN" => "listen on a connection of your own",
        "PREPARE" | "DEALLOCATE" => "statements are prepared by themselves",
        "DISCARD" => "no task leaves anything behind that it could drop",
        "DECLARE" if holds_cursor(sql) => "a cursor WITH HOLD outlives its transaction; leave WITH HOLD away",
        _ => return Ok(()),
    };
    Err(Error::task(format!(
        "{first} is not allowed in a task, because it changes the session and connections are shared; {instead}"
    )))
}

/// Whether a DECLARE says WITH HOLD, which stands before FOR.
fn holds_cursor(sql: &str) -> bool {
    let upper = sql.to_ascii_uppercase();
    let words = upper.split(|it: char| !it.is_alphanumeric() && it != '_').filter(|word| !word.is_empty());
    let head: Vec<&str> = words.take_while(|word| *word != "FOR").collect();
    head.windows(2).any(|pair| pair[1] == "HOLD" && pair[0] != "WITHOUT")
}

/// Whether a statement by itself leaves all or nothing. A procedure or a block may COMMIT on its way, and what works
/// CONCURRENTLY does so in several transactions. That word in a literal only makes us more careful.
pub(super) fn is_atomic(sql: &str) -> bool {
    match leading_words(sql).0.as_str() {
        "CALL" | "DO" => false,
        "CREATE" | "DROP" | "ALTER" | "REINDEX" => !sql.to_ascii_uppercase().contains("CONCURRENTLY"),
        _ => true,
    }
}

/// Prepares what is not prepared yet, in one flight, and gives the statements in order.
pub(super) async fn prepare(
    connection: &Connection,
    texts: &[Rendered],
) -> Vec<Result<Arc<Prepared>, Failure>> {
    let cached: Option<Vec<_>> =
        texts.iter().map(|rendered| connection.prepared(&rendered.sql).map(Ok)).collect();
    if let Some(cached) = cached {
        return cached;
    }
    // Taken out of the cache at once, because keeping new ones may empty it.
    let mut known: HashMap<&str, Result<Arc<Prepared>, Failure>> = HashMap::new();
    let mut missing = Vec::new();
    let mut seen = HashSet::new();
    for rendered in texts.iter().filter(|rendered| seen.insert(&rendered.sql)) {
        match connection.prepared(&rendered.sql) {
            Some(prepared) => drop(known.insert(&rendered.sql, Ok(prepared))),
            None => missing.push(&rendered.sql),
        }
    }
    let client = connection.client();
    let flight = in_order(missing.iter().map(|sql| prepare_one(client, sql)).collect()).await;
    for (sql, result) in missing.into_iter().zip(flight) {
        let result = result.map(Arc::new);
        if let Ok(prepared) = &result {
            connection.keep(sql.clone(), prepared.clone());
        }
        known.insert(sql, result);
    }
    texts.iter().map(|rendered| known[&*rendered.sql].clone()).collect()
}

async fn prepare_one(client: &Client, sql: &str) -> Result<Prepared, Failure> {
    let statement = client.prepare(sql).await.map_err(|error| Failure::at(Stage::Text, error, sql))?;
    for column in statement.columns() {
        decode::check(column.name(), column.type_()).map_err(|error| error.with("sql", sql_hash(sql)))?;
    }
    let columns = statement.columns().iter().map(|column| column.name().into()).collect();
    let wide = statement.columns().iter().map(|column| decode::is_wide(column.type_())).collect();
    Ok(Prepared { statement, columns, wide })
}

/// Encodes the arguments for the types that the server inferred.
pub(super) fn bind(prepared: Arc<Prepared>, rendered: &Rendered) -> Result<Bound> {
    let types = prepared.statement.params();
    if types.len() != rendered.params.len() {
        return Err(Error::task(format!(
            "the statement takes {} arguments but {} were given",
            types.len(),
            rendered.params.len()
        ))
        .with("sql", sql_hash(&rendered.sql)));
    }
    let numbered = rendered.params.iter().zip(types).enumerate();
    let params = numbered.map(|(index, (value, ty))| encode(value, ty, index + 1)).collect::<Result<_>>();
    let params = params.map_err(|error| error.with("sql", sql_hash(&rendered.sql)))?;
    Ok(Bound { prepared, params, sql: rendered.sql.clone() })
}

/// Runs a statement; it is sent when the future is polled for the first time.
pub(super) async fn run(client: &Client, bound: &Bound) -> Result<ExecResult, Failure> {
    let failed = |error| Failure::of(error, &bound.sql);
    let stream = client.query_raw(&bound.prepared.statement, &bound.params).await.map_err(failed)?;
    let mut stream = std::pin::pin!(stream);
    let mut rows = Vec::new();
    while let Some(row) = stream.try_next().await.map_err(failed)? {
        let values = decode::row(&row).map_err(|error| error.with("sql", sql_hash(&bound.sql)))?;
        let Prepared { columns, wide, .. } = &*bound.prepared;
        rows.push(Row { columns: columns.clone(), wide: wide.clone(), values });
    }
    Ok(ExecResult { rows_affected: stream.rows_affected().unwrap_or(0), rows })
}

/// Runs futures that each send when first polled: all are sent in order before the first answer is awaited, and the
/// answers, which come in that order too, are taken one after the other.
pub(super) async fn in_order<F: Future>(futures: Vec<F>) -> Vec<F::Output> {
    let mut pinned: Vec<Pin<Box<F>>> = futures.into_iter().map(Box::pin).collect();
    let mut done: Vec<Option<F::Output>> = poll_fn(|context| {
        Poll::Ready(
            pinned
                .iter_mut()
                .map(|future| match future.as_mut().poll(context) {
                    Poll::Ready(output) => Some(output),
                    Poll::Pending => None,
                })
                .collect(),
        )
    })
    .await;
    let mut outputs = Vec::with_capacity(pinned.len());
    for (future, early) in pinned.into_iter().zip(done.drain(..)) {
        outputs.push(match early {
            Some(output) => output,
            None => future.await,
        });
    }
    outputs
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    fn rendered(text: &str) -> Result<Rendered> {
        render(&crate::sql::sql(text, &[][..])?)
    }

    #[test]
    fn what_would_stay_in_the_session_is_refused() {
        for text in [
            "SET work_mem = '1GB'",
            "set session search_path = x",
            "SET ROLE somebody",
            "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
            "/* x */ RESET ALL",
            "LISTEN news",
            "UNLISTEN *",
            "PREPARE x AS SELECT 1",
            "DEALLOCATE ALL",
            "DISCARD ALL",
            "DECLARE c CURSOR WITH HOLD FOR SELECT 1",
            "DECLARE c CURSOR WITH /* x */ HOLD FOR SELECT 1",
        ] {
            let error = rendered(text).expect_err(text);
            assert_eq!(error.kind(), ErrorKind::Task, "{text}");
            assert!(error.message().contains("not allowed in a task"), "{text}: {error}");
        }
        for text in [
            "SET LOCAL work_mem = '1GB'",
            "SET TRANSACTION READ ONLY",
            "SET CONSTRAINTS ALL IMMEDIATE",
            "SHOW work_mem",
            "NOTIFY news",
            "DECLARE c CURSOR FOR SELECT 'WITH HOLD'",
            "DECLARE c CURSOR WITHOUT HOLD FOR SELECT 1",
        ] {
            rendered(text).expect(text);
        }
    }

    #[test]
    fn what_commits_on_its_way_is_not_atomic() {
        for text in [
            "call p()",
            "-- x\nDO 'x'",
            "CREATE INDEX CONCURRENTLY i ON t (a)",
            "REINDEX TABLE CONCURRENTLY t",
        ] {
            assert!(!is_atomic(text), "{text}");
        }
        for text in ["INSERT INTO t VALUES (1)", "CREATE INDEX i ON t (a)", "VACUUM"] {
            assert!(is_atomic(text), "{text}");
        }
    }
}
