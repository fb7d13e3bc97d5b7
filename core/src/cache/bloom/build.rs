//! One build: a new generation that holds every key of the family.
//!
//! ```text
//! claimed ─▶ strings in Redis ─▶ published: writers add ─▶ known to all ─▶ older transactions ended ─▶ scanned ─▶ merged
//!                                                                                                      ▼
//!                                                         larger, from the beginning ◀─ too many keys ─┴─▶ complete ─▶ flip
//! ```
//! The builder may die or be stopped anywhere: its generation has a seed of its own, goes away in Redis by itself, and
//! answers only by the flip, which finds it published. After [`LEASE`] somebody else begins anew.

use std::time::Duration;

use super::known::KNOWN_TO_ALL;
use super::local::LocalBits;
use super::shape::{Shape, Wanted};
use super::shared::{Life, Shared};
use super::standing::{Claimed, Register, Standing};
use super::{Declared, Filters};
use crate::base::crash::crash;
use crate::base::service::StopSignal;
use crate::base::{Deadline, random};
use crate::error::{Error, ErrorKind, Result};
use crate::sql::{Rendered, sql};
use crate::store::{Access, StepFailure};
use crate::value::Value;

/// For how long nobody else builds without a sign of life.
const LEASE: Duration = Duration::from_secs(15);
/// How often there is one.
const SIGN: Duration = Duration::from_secs(3);
/// How long an unfinished generation stays in Redis without a sign of life.
const UNFINISHED: Duration = Duration::from_secs(600);
/// How long a retired one stays, for writers that do not know yet.
const RETIRED: Duration = Duration::from_secs(30);
/// Keys that are in memory at once.
const PAGE: usize = 5_000;
/// Time of one statement.
const STEP: Duration = Duration::from_secs(10);
/// Time of a scan.
const SCAN: Duration = Duration::from_secs(6 * 3_600);
/// Between two looks whether the older transactions have ended.
const LOOK: Duration = Duration::from_millis(50);
const SAY_EVERY_MS: u64 = 10_000;

const OWN_ID: &str = "SELECT txid_current()";
const OLDEST_ID: &str = "SELECT txid_snapshot_xmin(txid_current_snapshot())";

/// How a build ended that did not fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Built {
    /// It answers.
    Serving,
    /// It answers as soon as a writer that could not reach it can.
    StillOpen,
    /// Somebody else builds.
    NotNow,
}

/// A build under way.
struct Build<'a> {
    filters: &'a Filters,
    shared: &'a Shared,
    standing: &'a Standing,
    declared: &'a Declared,
    register: Register<'a>,
    signed_ms: u64,
    said_ms: u64,
}

/// What a scan has found.
struct Found {
    bits: LocalBits,
    /// Keys of the family.
    keys: u64,
}

impl Filters {
    /// Builds a generation for so many keys, or more if there are more. `lost`: the one that serves is of no use any more.
    pub(super) async fn build(
        &self,
        standing: &Standing,
        declared: &Declared,
        mut wanted: Wanted,
        lost: bool,
        stop: &mut StopSignal,
    ) -> Result<Built> {
        let Some(shared) = &self.shared else { return Ok(Built::NotNow) };
        loop {
            let register = Register { store: &*self.store, name: &standing.name };
            let claimed = register.claim(&self.builder, LEASE, Deadline::after(STEP)).await?;
            let Some(Claimed { generation, serving }) = claimed else { return Ok(Built::NotNow) };
            let shape = Shape::new(generation, random::word(), wanted);
            let now_ms = self.known.now_ms();
            let mut build = Build {
                filters: self,
                shared,
                standing,
                declared,
                register,
                signed_ms: now_ms,
                said_ms: now_ms,
            };
            if serving != standing.serving_text {
                // Somebody else was faster: what was seen of the one that served is of no use.
                build.give_up().await;
                return Ok(Built::NotNow);
            }
            let ended = tokio::select! {
                () = stop.stopped() => Err(Error::closed()),
                ended = build.run(&shape, lost) => ended,
            };
            match ended {
                Ok(Step::Flipped { open }) => {
                    return Ok(if open { Built::StillOpen } else { Built::Serving });
                }
                Ok(Step::TooSmall { keys }) => {
                    build.give_up().await;
                    // Room for as many again, so that it lasts.
                    wanted.capacity = keys.saturating_mul(2).max(wanted.capacity.saturating_mul(2));
                }
                Err(error) => {
                    build.give_up().await;
                    return Err(error);
                }
            }
        }
    }

    /// Lets the strings of a retired generation go.
    pub(super) async fn clear_retired(&self, standing: &Standing) -> Result<()> {
        let (Some(shape), Some(shared)) = (&standing.retired, &self.shared) else { return Ok(()) };
        shared.forget(&standing.shelf, shape, RETIRED).await?;
        let register = Register { store: &*self.store, name: &standing.name };
        register.forget_retired(shape, Deadline::after(STEP)).await
    }
}

enum Step {
    Flipped { open: bool },
    TooSmall { keys: u64 },
}

impl Build<'_> {
    async fn run(&mut self, shape: &Shape, lost: bool) -> Result<Step> {
        let (shelf, builder) = (&self.standing.shelf, &self.filters.builder);
        self.shared.create(shelf, shape, UNFINISHED).await?;
        crash!("bloom.before_publish");
        if !self.register.publish(builder, shape, lost, Deadline::after(STEP)).await? {
            return Err(overtaken());
        }
        crash!("bloom.after_publish");
        self.rest(KNOWN_TO_ALL, shape).await?;
        self.older_transactions_end(shape).await?;
        let found = self.scan(shape).await?;
        if found.keys > shape.wanted.capacity && shape.may_grow() {
            return Ok(Step::TooSmall { keys: found.keys });
        }
        self.shared.merge(shelf, shape, &found.bits, UNFINISHED).await?;
        crash!("bloom.after_merge");
        if self.shared.inspect(shelf, shape, Life::Forever).await?.is_none() {
            return Err(Error::new(ErrorKind::Cache, "Redis lost the filter while it was built"));
        }
        self.silence_the_one_before(lost).await?;
        let before = self.standing.serving_text.as_deref();
        let flipped = self.register.flip(builder, shape, before, Deadline::after(STEP)).await?;
        crash!("bloom.after_flip");
        let open = flipped.ok_or_else(overtaken)?;
        log::info!(
            "the Bloom filter of {:?} is built: generation {}, {} keys, {} bytes",
            self.standing.name.1,
            shape.generation,
            found.keys,
            shape.bits() / 8
        );
        Ok(Step::Flipped { open })
    }

    /// From the flip on writers add to the new generation alone, while readers who do not know yet ask the one before: by
    /// then it has to give no answer any more. One that is lost gives none, as the family is open since the publication.
    async fn silence_the_one_before(&self, lost: bool) -> Result<()> {
        let Some(before) = self.standing.serving.as_ref().filter(|_| !lost) else { return Ok(()) };
        if self.shared.retire(&self.standing.shelf, before, RETIRED).await? {
            return Ok(());
        }
        self.filters.suspect(&self.standing.name, before);
        Err(Error::new(ErrorKind::Cache, "Redis has lost the generation that this one was to follow"))
    }

    /// Waits, with signs of life.
    async fn rest(&mut self, time: Duration, shape: &Shape) -> Result<()> {
        let until = self.filters.known.now_ms() + time.as_millis() as u64 + 1;
        loop {
            let left = until.saturating_sub(self.filters.known.now_ms());
            if left == 0 {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(left).min(SIGN / 2)).await;
            self.sign(shape).await?;
        }
    }

    /// Until every transaction has ended that had its id before now: whoever has a later one knew of this generation.
    async fn older_transactions_end(&mut self, shape: &Shape) -> Result<()> {
        let own = self.id(OWN_ID).await?;
        while self.id(OLDEST_ID).await? <= own {
            self.say("waits for transactions that began before it").await;
            self.rest(LOOK, shape).await?;
        }
        Ok(())
    }

    async fn id(&self, text: &str) -> Result<i64> {
        // Not as a read: drawing an id is what it is for.
        let done = self.filters.store.execute(&sql(text, ())?, Deadline::after(STEP)).await?;
        match done.rows.first().and_then(|row| row.values.first()) {
            Some(Value::Int(id)) => Ok(*id),
            _ => Err(Error::new(ErrorKind::Internal, "an id of a transaction could not be read")),
        }
    }

    /// Every key that the query gives, page by page. Beyond the capacity they are only counted.
    async fn scan(&mut self, shape: &Shape) -> Result<Found> {
        let query = self.declared.keys.render();
        let mut found = Found { bits: LocalBits::new(shape), keys: 0 };
        let begun = self.filters.store.begin(Access::Any, Deadline::after(SCAN)).await;
        let mut transaction = begun.map_err(error_of)?;
        let cursor = Rendered {
            sql: format!("DECLARE zmsg_bloom_keys NO SCROLL CURSOR FOR {}", query.sql).into(),
            params: query.params,
        };
        let fetch = Rendered { sql: format!("FETCH {PAGE} FROM zmsg_bloom_keys").into(), params: [].into() };
        transaction.run(&[cursor]).await.map_err(error_of)?;
        let mut others = 0_u64;
        loop {
            let page = transaction.run(std::slice::from_ref(&fetch)).await.map_err(error_of)?;
            let rows = page.into_iter().next().map(|it| it.rows).unwrap_or_default();
            if rows.is_empty() {
                break;
            }
            crash!("bloom.mid_scan");
            for row in rows {
                match row.values.first() {
                    Some(Value::Text(key)) if self.standing.fits(key) => {
                        found.keys += 1;
                        if found.keys <= shape.wanted.capacity || !shape.may_grow() {
                            found.bits.add(&shape.place(key));
                        }
                    }
                    _ => others += 1,
                }
            }
            self.sign(shape).await?;
            self.say(&format!("has read {} keys", found.keys)).await;
        }
        transaction.roll_back().await;
        if found.keys == 0 && others > 0 {
            return Err(Error::task(format!(
                "keys of source {:?}: none of the {others} rows is a key of the pattern; the first column has to be the whole \
                 key, as text",
                self.standing.name.1
            )));
        }
        Ok(found)
    }

    /// Says that this builder is there, every now and then.
    async fn sign(&mut self, shape: &Shape) -> Result<()> {
        let now_ms = self.filters.known.now_ms();
        if u128::from(now_ms - self.signed_ms) < SIGN.as_millis() {
            return Ok(());
        }
        self.signed_ms = now_ms;
        let (shelf, builder) = (&self.standing.shelf, &self.filters.builder);
        let there = self.shared.inspect(shelf, shape, Life::For(UNFINISHED)).await?;
        if there.is_none() || !self.register.extend(builder, LEASE, Deadline::after(STEP)).await? {
            return Err(overtaken());
        }
        Ok(())
    }

    async fn say(&mut self, what: &str) {
        let now_ms = self.filters.known.now_ms();
        if now_ms - self.said_ms >= SAY_EVERY_MS {
            self.said_ms = now_ms;
            log::info!("the build of the Bloom filter of {:?} {what}", self.standing.name.1);
        }
    }

    async fn give_up(&self) {
        if let Err(error) = self.register.give_up(&self.filters.builder, Deadline::after(STEP)).await {
            log::debug!("a build of a Bloom filter could not be given up and will be taken over: {error}");
        }
    }
}

fn error_of(failure: StepFailure) -> Error {
    match failure {
        StepFailure::Again(error) | StepFailure::Refused { error, .. } => error,
    }
}

fn overtaken() -> Error {
    let message = "Redis lost the filter while it was built, or somebody else builds it";
    Error::new(ErrorKind::Cache, message)
}
