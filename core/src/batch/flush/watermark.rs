//! How far a journal is applied, as PostgreSQL has it.

use crate::base::Deadline;
use crate::error::{Error, ErrorKind, Result};
use crate::sql::{Rendered, sql};
use crate::store::{Access, StepFailure, Store};
use crate::value::Value;

/// Moves the watermark from `lo` to `hi`, and raises in the server if it is not at `lo`: of statements that were sent
/// ahead, those of a dead connection may still arrive, and nobody is there to look at a count.
const ADVANCE: &str = "WITH moved AS (UPDATE zmsg_journals SET watermark = $3::int8, moved_at = now() \
     WHERE stream = $1::uuid AND watermark = $2::int8 RETURNING 1) SELECT 1 / count(*) FROM moved";

/// Numbers the transaction among those that touch its rows (see `zmsg_ver`), unless it is no longer the one that moved the
/// watermark: then something in the batch ended that one, there is no number, and the batch does not count as applied.
const NUMBER: &str =
    "SELECT nextval('zmsg_ver') FROM zmsg_journals WHERE stream = $1::uuid AND watermark = $2::int8";

/// The last number that the database drew for a transaction.
const LAST_VERSION: &str = "SELECT COALESCE(pg_sequence_last_value('zmsg_ver'::regclass), 0)";

/// 128 random bits that name a journal.
pub(crate) type Stream = [u8; 16];

pub(super) fn advance(stream: Stream, lo: u64, hi: u64) -> Rendered {
    let params = [Value::Uuid(stream), Value::Int(lo as i64), Value::Int(hi as i64)];
    Rendered { sql: ADVANCE.into(), params: params.into() }
}

/// The last statement of a batch that ends at `hi`.
pub(super) fn number(stream: Stream, hi: u64) -> Rendered {
    Rendered { sql: NUMBER.into(), params: [Value::Uuid(stream), Value::Int(hi as i64)].into() }
}

/// Where it is; `None` if there is no row.
pub(crate) async fn read(store: &dyn Store, stream: Stream, deadline: Deadline) -> Result<Option<u64>> {
    let question = sql("SELECT watermark FROM zmsg_journals WHERE stream = ?", &[Value::Uuid(stream)])?;
    let rows = store.query(&question, deadline).await?;
    match rows.first().map(|row| row.values.as_slice()) {
        None => Ok(None),
        Some([Value::Int(at)]) => Ok(Some(at.unsigned_abs())),
        Some(_) => Err(Error::new(ErrorKind::Internal, "a watermark could not be read")),
    }
}

/// A number that no transaction which is committed by now is above.
pub(crate) async fn last_version(store: &dyn Store, deadline: Deadline) -> Result<u64> {
    let rows = store.query(&sql(LAST_VERSION, &[])?, deadline).await?;
    match rows.first().map(|row| row.values.as_slice()) {
        Some([Value::Int(version)]) => Ok(version.unsigned_abs()),
        _ => Err(Error::new(ErrorKind::Internal, "the last number of zmsg_ver could not be read")),
    }
}

/// Makes the row at zero, unless there is one.
pub(crate) async fn register(
    store: &dyn Store,
    stream: Stream,
    owner: &str,
    deadline: Deadline,
) -> Result<()> {
    let text = "INSERT INTO zmsg_journals (stream, watermark, owner) VALUES (?, 0, ?) ON CONFLICT (stream) DO NOTHING";
    execute(store, sql(text, [Value::Uuid(stream), Value::text(owner)])?.render(), deadline).await
}

/// Deletes the row of a journal whose folder was put aside.
pub(crate) async fn forget(store: &dyn Store, stream: Stream, deadline: Deadline) -> Result<()> {
    let text = "DELETE FROM zmsg_journals WHERE stream = ?";
    execute(store, sql(text, &[Value::Uuid(stream)])?.render(), deadline).await
}

/// These can be repeated, so that a lost connection is not a riddle.
async fn execute(store: &dyn Store, statement: Rendered, deadline: Deadline) -> Result<()> {
    let mut transaction = store.begin(Access::Any, deadline).await.map_err(step_error)?;
    transaction.run(&[statement]).await.map_err(step_error)?;
    transaction.commit().await.map_err(|failure| match failure {
        crate::store::CommitFailure::Again(error)
        | crate::store::CommitFailure::Refused(error)
        | crate::store::CommitFailure::Unknown(error) => error,
    })
}

pub(super) fn step_error(failure: StepFailure) -> Error {
    match failure {
        StepFailure::Again(error) | StepFailure::Refused { error, .. } => error,
    }
}
