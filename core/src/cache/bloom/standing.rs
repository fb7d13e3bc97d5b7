//! What PostgreSQL says of the families, and the statements that change it.
//!
//! ```text
//! registered ─ build ─▶ building ─ flip ─▶ serving ─ build ─▶ serving and building ─ flip ─▶ serving, the other retired
//!                          ╰─ give up ─▶ as before
//! closed ── a writer cannot reach the bits ──▶ open ── the flip of a build that began after the opening ──▶ closed
//! ```

use std::sync::Arc;
use std::time::Duration;

use super::shape::Shape;
use super::shared::Shelf;
use crate::base::Deadline;
use crate::cache::source::pattern::{Fit, Pattern};
use crate::error::{Error, ErrorKind, Result};
use crate::sql::{Rendered, sql, sql_of};
use crate::store::Store;
use crate::value::{Row, Value};

/// One row at least, so that a standby says that it is one also where it has no families yet: it lags behind.
const READ: &str = "SELECT namespace, pattern, serving, building, retired, opened, closed, opened_before, \
     coalesce(lease_until > clock_timestamp(), false), lags \
     FROM (SELECT pg_is_in_recovery() AS lags) AS server LEFT JOIN zmsg_bloom ON true ORDER BY namespace, pattern";
const REGISTER: &str =
    "INSERT INTO zmsg_bloom (namespace, pattern) VALUES ($1::text, $2::text) ON CONFLICT DO NOTHING";
const OPEN: &str =
    "UPDATE zmsg_bloom SET opened = opened + 1 WHERE namespace = $1::text AND pattern = $2::text";
/// One builder at a time, to save work: what keeps two apart is that each has a generation of its own.
const CLAIM: &str = "UPDATE zmsg_bloom SET builder = $3::text, generation = generation + 1, \
     lease_until = clock_timestamp() + $4::bigint * interval '1 millisecond' \
     WHERE namespace = $1::text AND pattern = $2::text AND coalesce(lease_until < clock_timestamp(), true) \
     RETURNING generation, serving";
/// A family whose bits are lost is opened with it: whoever writes meanwhile finds it open, and need not open it, which would
/// outlast the flip.
const PUBLISH: &str = "UPDATE zmsg_bloom SET building = $4::bytea, opened = opened + $5::bigint, \
     opened_before = opened + $5::bigint \
     WHERE namespace = $1::text AND pattern = $2::text AND builder = $3::text RETURNING 1";
const EXTEND: &str = "UPDATE zmsg_bloom SET lease_until = clock_timestamp() + $4::bigint * interval '1 millisecond' \
     WHERE namespace = $1::text AND pattern = $2::text AND builder = $3::text RETURNING 1";
/// Only in the place of the generation whose answers the builder has ended.
const FLIP: &str = "UPDATE zmsg_bloom SET retired = serving, serving = building, building = NULL, closed = opened_before, \
     builder = NULL, lease_until = NULL \
     WHERE namespace = $1::text AND pattern = $2::text AND builder = $3::text AND building = $4::bytea \
     AND serving IS NOT DISTINCT FROM $5::bytea RETURNING opened > closed";
const GIVE_UP: &str = "UPDATE zmsg_bloom SET building = NULL, builder = NULL, lease_until = NULL \
     WHERE namespace = $1::text AND pattern = $2::text AND builder = $3::text RETURNING 1";
const RETIRED: &str = "UPDATE zmsg_bloom SET retired = NULL \
     WHERE namespace = $1::text AND pattern = $2::text AND retired = $3::bytea";

/// One family.
#[derive(Debug)]
pub(super) struct Standing {
    /// Its namespace and its pattern as it was declared.
    pub(super) name: Name,
    /// `None` if a later release wrote it in a way that this one does not know: any key may fit.
    pattern: Option<Pattern>,
    pub(super) shelf: Shelf,
    /// The generation that answers.
    pub(super) serving: Option<Shape>,
    /// Its marker as it is written there.
    pub(super) serving_text: Option<Arc<[u8]>>,
    /// The one that is being built.
    pub(super) building: Option<Shape>,
    /// The one whose strings are to be removed.
    pub(super) retired: Option<Shape>,
    pub(super) opened: i64,
    pub(super) closed: i64,
    pub(super) opened_before: i64,
    /// Whether somebody builds.
    pub(super) leased: bool,
    /// Whether there is a generation that this release cannot read, and so cannot add to.
    pub(super) strange: bool,
    /// While it is open: since when this process knows, on the monotonic clock.
    pub(super) open_since_ms: Option<u64>,
}

/// Names a family.
pub(super) type Name = (String, String);

impl Standing {
    pub(super) fn fits(&self, key: &str) -> bool {
        self.pattern.as_ref().is_none_or(|pattern| matches!(pattern.fit(key), Fit::Args(_)))
    }

    pub(super) fn is_open(&self) -> bool {
        self.opened > self.closed
    }

    /// Whether everybody who may say "no" has known for long enough that it is open.
    pub(super) fn is_open_to_all(&self, now_ms: u64, wait: Duration) -> bool {
        let since = self.open_since_ms.filter(|_| self.is_open());
        since.is_some_and(|since| u128::from(now_ms.saturating_sub(since)) >= wait.as_millis())
    }

    /// Whether it is closed, or, for who cannot add to what is being built either, will be by the flip.
    pub(super) fn needs_opening(&self, cannot_add_to_building: bool) -> bool {
        !self.is_open() || ((cannot_add_to_building || self.strange) && !self.stays_open())
    }

    /// Whether it was opened after the build began, so that the flip leaves it open.
    pub(super) fn stays_open(&self) -> bool {
        self.opened > self.opened_before
    }
}

/// Every family of every namespace; `before` is what was known, of which an opening that goes on keeps its time.
pub(super) async fn read(
    store: &dyn Store,
    before: &[Arc<Standing>],
    now_ms: impl Fn() -> u64,
    deadline: Deadline,
) -> Result<Vec<Arc<Standing>>> {
    let rows = store.query(&sql(READ, ())?, deadline).await?;
    let now_ms = now_ms();
    if rows.iter().any(|row| row.values.last() != Some(&Value::Bool(false))) {
        return Err(Error::new(
            ErrorKind::Store,
            "the state of Bloom filters has to be read from the primary, not a standby",
        ));
    }
    let families = rows.iter().filter(|row| row.values.first() != Some(&Value::Null));
    let read = families.map(|row| {
        let mut standing = standing_of(row)?;
        if standing.is_open() {
            // What had been opened last by then was never closed, so that nobody has said "no" in between.
            let goes_on = |it: &&Arc<Standing>| it.name == standing.name && it.opened > standing.closed;
            let since = before.iter().find(goes_on).and_then(|it| it.open_since_ms);
            standing.open_since_ms = Some(since.unwrap_or(now_ms));
        }
        Ok(Arc::new(standing))
    });
    read.collect()
}

fn standing_of(row: &Row) -> Result<Standing> {
    let shape = |value: &Value| match value {
        Value::Bytes(marker) => Shape::decode(marker),
        _ => None,
    };
    let strange = |value: &Value| *value != Value::Null && shape(value).is_none();
    match row.values.as_slice() {
        [
            Value::Text(namespace),
            Value::Text(pattern),
            serving,
            building,
            retired,
            Value::Int(opened),
            Value::Int(closed),
            Value::Int(opened_before),
            Value::Bool(leased),
            _,
        ] => {
            let parsed = Pattern::parse(pattern).ok();
            Ok(Standing {
                name: (namespace.to_string(), pattern.to_string()),
                shelf: Shelf::new(namespace, pattern),
                serving: shape(serving),
                serving_text: text(serving),
                building: shape(building),
                retired: shape(retired),
                opened: *opened,
                closed: *closed,
                opened_before: *opened_before,
                leased: *leased,
                strange: parsed.is_none() || strange(serving) || strange(building),
                pattern: parsed,
                open_since_ms: None,
            })
        }
        _ => Err(Error::new(ErrorKind::Store, "a row of zmsg_bloom could not be read")),
    }
}

/// What a builder is given.
pub(super) struct Claimed {
    /// The number of its generation.
    pub(super) generation: u64,
    /// The marker of the one that answers now, and until the claim is over.
    pub(super) serving: Option<Arc<[u8]>>,
}

/// Statements about one family.
pub(super) struct Register<'a> {
    pub(super) store: &'a dyn Store,
    pub(super) name: &'a Name,
}

impl Register<'_> {
    pub(super) async fn register(&self, deadline: Deadline) -> Result<()> {
        self.run(REGISTER, [], deadline).await.map(|_| ())
    }

    pub(super) async fn open(&self, deadline: Deadline) -> Result<()> {
        self.run(OPEN, [], deadline).await.map(|_| ())
    }

    /// A new generation, if nobody else builds.
    pub(super) async fn claim(
        &self,
        builder: &str,
        lease: Duration,
        deadline: Deadline,
    ) -> Result<Option<Claimed>> {
        let given = self.run(CLAIM, [Value::text(builder), milliseconds(lease)], deadline).await?;
        Ok(match given.as_ref().map(|row| row.values.as_slice()) {
            Some([Value::Int(generation), serving]) => {
                Some(Claimed { generation: generation.unsigned_abs(), serving: text(serving) })
            }
            _ => None,
        })
    }

    pub(super) async fn publish(
        &self,
        builder: &str,
        shape: &Shape,
        lost: bool,
        deadline: Deadline,
    ) -> Result<bool> {
        let args = [Value::text(builder), marker(shape), Value::Int(i64::from(lost))];
        Ok(self.run(PUBLISH, args, deadline).await?.is_some())
    }

    pub(super) async fn extend(&self, builder: &str, lease: Duration, deadline: Deadline) -> Result<bool> {
        let args = [Value::text(builder), milliseconds(lease)];
        Ok(self.run(EXTEND, args, deadline).await?.is_some())
    }

    /// Lets a generation answer in the place of another; says whether the family is open all the same, or nothing if it is
    /// not this builder's turn.
    pub(super) async fn flip(
        &self,
        builder: &str,
        shape: &Shape,
        before: Option<&[u8]>,
        deadline: Deadline,
    ) -> Result<Option<bool>> {
        let before = before.map_or(Value::Null, |marker| Value::Bytes(marker.into()));
        let args = [Value::text(builder), marker(shape), before];
        let flipped = self.run(FLIP, args, deadline).await?;
        Ok(flipped.map(|row| row.values.first() == Some(&Value::Bool(true))))
    }

    pub(super) async fn give_up(&self, builder: &str, deadline: Deadline) -> Result<()> {
        self.run(GIVE_UP, [Value::text(builder)], deadline).await.map(|_| ())
    }

    pub(super) async fn forget_retired(&self, shape: &Shape, deadline: Deadline) -> Result<()> {
        self.run(RETIRED, [marker(shape)], deadline).await.map(|_| ())
    }

    /// The first row.
    async fn run<const N: usize>(
        &self,
        text: &str,
        args: [Value; N],
        deadline: Deadline,
    ) -> Result<Option<Row>> {
        let name = [Value::text(self.name.0.as_str()), Value::text(self.name.1.as_str())];
        let params: Vec<Value> = name.into_iter().chain(args).collect();
        let task = sql_of(Rendered { sql: text.into(), params: params.into() });
        let done = self.store.execute(&task, deadline).await?;
        Ok(done.rows.into_iter().next())
    }
}

fn text(marker: &Value) -> Option<Arc<[u8]>> {
    match marker {
        Value::Bytes(bytes) => Some(bytes.clone()),
        _ => None,
    }
}

fn marker(shape: &Shape) -> Value {
    Value::Bytes(shape.encode().as_slice().into())
}

fn milliseconds(time: Duration) -> Value {
    Value::Int(i64::try_from(time.as_millis()).unwrap_or(i64::MAX))
}
