//! The moves of an operation, each one script: nothing here can stop half-way. `scripts/common.lua` says what lies where.

use std::sync::OnceLock;
use std::time::Duration;

use bytes::Bytes;

use super::answers::{
    Cancelled, Claimed, Claims, Depth, Enqueued, How, New, Standing, Wanted, claimed_of, number, unexpected,
};
use crate::base::{Deadline, random};
use crate::error::{Error, ErrorKind, Result};
use crate::redis::{Keyspace, Redis, Script};

macro_rules! script {
    ($name:literal) => {
        Script::new(concat!(include_str!("scripts/common.lua"), include_str!(concat!("scripts/", $name))))
    };
}

const PARTS: [&str; 9] =
    ["due", "suspects", "leased", "bodies", "runs", "tails", "nexts", "befores", "state"];
/// The one queue of a namespace.
const NAME: &str = "default";

/// A queue in Redis.
pub(super) struct Lanes {
    redis: Redis,
    keys: [String; 9],
    /// The database that the operations are for.
    database: OnceLock<[u8; 16]>,
    enqueue: Script,
    claim: Script,
    begin: Script,
    settle: Script,
    extend: Script,
    cancel: Script,
    look: Script,
    pause: Script,
}

impl Lanes {
    pub(super) fn new(redis: Redis, namespace: &str) -> Lanes {
        let space = Keyspace::new(namespace);
        Lanes {
            redis,
            keys: PARTS.map(|part| space.queue(NAME, part)),
            database: OnceLock::new(),
            enqueue: script!("enqueue.lua"),
            claim: script!("claim.lua"),
            begin: script!("begin.lua"),
            settle: script!("settle.lua"),
            extend: script!("extend.lua"),
            cancel: script!("cancel.lua"),
            look: script!("look.lua"),
            pause: script!("pause.lua"),
        }
    }

    /// Says which database the operations are for.
    pub(super) fn belong_to(&self, database: [u8; 16]) {
        let _ = self.database.set(database);
    }

    /// What the queue is named by if it has no name yet: its database, and chance that is never the same, so that a queue
    /// that was lost and begins anew is another one.
    fn epoch(&self) -> Result<String> {
        let database = self.database.get().ok_or_else(|| {
            let message =
                "the queue is not used before PostgreSQL has said which database its writes are for";
            Error::new(ErrorKind::Queue, message).with_unsent()
        })?;
        Ok(format!("{:032x}/{}", u128::from_be_bytes(*database), random::operation_id()))
    }

    /// Accepts an operation; a second time it finds the first.
    pub(super) async fn enqueue(&self, new: &New<'_>, known: u64, deadline: Deadline) -> Result<Enqueued> {
        let (delay, known, epoch) = (new.delay.as_millis().to_string(), known.to_string(), self.epoch()?);
        let mark: &[u8] = if new.coalesce { b"+" } else { b"-" };
        let [op, lane, epoch] = [new.op_id, new.lane, &epoch].map(str::as_bytes);
        let args = [op, new.payload, delay.as_bytes(), lane, mark, epoch, known.as_bytes()];
        let answer = self.list(&self.enqueue, &args, deadline).await?;
        self.check(&answer)?;
        match &answer[..] {
            [new, sequence, epoch, replaced, lost] => Ok(Enqueued {
                new: new[..] == *b"1",
                standing: Standing {
                    epoch: epoch.clone(),
                    sequence: number(sequence)?,
                    lost: lost[..] == *b"1",
                },
                replaced: (!replaced.is_empty()).then(|| String::from_utf8_lossy(replaced).into_owned()),
            }),
            _ => Err(unexpected()),
        }
    }

    /// Leases operations.
    pub(super) async fn claim(
        &self,
        wanted: Wanted,
        most: usize,
        lease: Duration,
        known: u64,
        deadline: Deadline,
    ) -> Result<Claims> {
        let (most, lease) = (most.to_string(), lease.as_millis().to_string());
        let from: &[u8] = if wanted == Wanted::Due { b"due" } else { b"suspect" };
        let epoch = self.epoch()?;
        let args = [most.as_bytes(), lease.as_bytes(), epoch.as_bytes(), from];
        let answer = self.list(&self.claim, &args, deadline).await?;
        self.check(&answer)?;
        let [epoch, sequence, wait, suspects, due, now, claimed @ ..] = &answer[..] else {
            return Err(unexpected());
        };
        let (wait, sequence): (i64, u64) = (number(wait)?, number(sequence)?);
        Ok(Claims {
            standing: Standing { epoch: epoch.clone(), sequence, lost: sequence < known },
            wait: u64::try_from(wait).ok().map(Duration::from_millis),
            suspects: number(suspects)?,
            due: number(due)?,
            now_ms: number(now)?,
            claimed: claimed.chunks(5).map(claimed_of).collect::<Result<_>>()?,
        })
    }

    /// Says that the leased operations are begun; gives those that are no longer this process's, which must not be.
    pub(super) async fn begin(&self, leased: &[Claimed], deadline: Deadline) -> Result<Vec<String>> {
        let leases: Vec<(&str, u64)> = leased.iter().map(|it| (&*it.op_id, it.attempt)).collect();
        self.not_held(&self.begin, &[], &leases, deadline).await
    }

    /// Extends leases; gives those that are no longer this process's.
    pub(super) async fn extend(
        &self,
        held: &[(String, u64)],
        lease: Duration,
        deadline: Deadline,
    ) -> Result<Vec<String>> {
        let lease = lease.as_millis().to_string();
        let leases: Vec<(&str, u64)> = held.iter().map(|(op_id, attempt)| (&**op_id, *attempt)).collect();
        self.not_held(&self.extend, &[lease.as_bytes()], &leases, deadline).await
    }

    /// Runs a script about leases; gives those that are no longer this process's.
    async fn not_held(
        &self,
        script: &Script,
        first: &[&[u8]],
        leases: &[(&str, u64)],
        deadline: Deadline,
    ) -> Result<Vec<String>> {
        let epoch = self.epoch()?;
        let attempts: Vec<String> = leases.iter().map(|(_, attempt)| attempt.to_string()).collect();
        let mut args = vec![epoch.as_bytes()];
        args.extend(first);
        for ((op_id, _), attempt) in leases.iter().zip(&attempts) {
            args.extend([op_id.as_bytes(), attempt.as_bytes()]);
        }
        let answer = self.list(script, &args, deadline).await?;
        self.check(&answer)?;
        let [_, _, lost @ ..] = &answer[..] else { return Err(unexpected()) };
        Ok(lost.iter().map(|op_id| String::from_utf8_lossy(op_id).into_owned()).collect())
    }

    /// Ends leases; gives how many were still this process's.
    pub(super) async fn settle(&self, ended: &[(&Claimed, How)], deadline: Deadline) -> Result<u64> {
        let texts: Vec<[String; 2]> = ended
            .iter()
            .map(|(claimed, how)| [claimed.attempt.to_string(), how.delay_ms().to_string()])
            .collect();
        let epoch = self.epoch()?;
        let mut args: Vec<&[u8]> = Vec::with_capacity(1 + 5 * ended.len());
        args.push(epoch.as_bytes());
        for ((claimed, how), [attempt, delay]) in ended.iter().zip(&texts) {
            args.extend([
                claimed.op_id.as_bytes(),
                attempt.as_bytes(),
                &claimed.lane,
                how.word(),
                delay.as_bytes(),
            ]);
        }
        let settled = self.redis.eval_int(&self.settle, &self.keys(), &args, deadline).await;
        u64::try_from(settled.map_err(of_queue)?).map_err(|_| self.of_another())
    }

    /// Takes an operation back; gives its key and its sequence if it had one and is taken back.
    pub(super) async fn cancel(
        &self,
        op_id: &str,
        deadline: Deadline,
    ) -> Result<(Cancelled, Option<(String, u64)>)> {
        let args = [op_id.as_bytes(), self.epoch()?.as_bytes()].map(<[u8]>::to_vec);
        let answer = self.list(&self.cancel, &[&args[0], &args[1]], deadline).await?;
        self.check(&answer)?;
        let [how, lane, sequence] = &answer[..] else { return Err(unexpected()) };
        let entry = (String::from_utf8_lossy(lane).into_owned(), number(sequence)?);
        Ok(match &how[..] {
            b"1" => (Cancelled::Yes, Some(entry).filter(|(lane, _)| !lane.is_empty())),
            b"2" => (Cancelled::Started, None),
            _ => (Cancelled::Unknown, None),
        })
    }

    /// How the queue stands, and which of these operations have not ended.
    pub(super) async fn look(&self, ops: &[String], deadline: Deadline) -> Result<(Depth, Vec<bool>)> {
        let epoch = self.epoch()?;
        let args: Vec<&[u8]> = std::iter::once(&epoch).chain(ops).map(String::as_bytes).collect();
        let answer = self.list(&self.look, &args, deadline).await?;
        self.check(&answer)?;
        let numbers: Vec<u64> = answer.iter().map(number).collect::<Result<_>>()?;
        let [all, scheduled, due, suspects, leased, oldest_due_ms, paused, counted @ ..] = &numbers[..]
        else {
            return Err(unexpected());
        };
        let [done, retried, dead, replaced, cancelled, damaged, there @ ..] = counted else {
            return Err(unexpected());
        };
        let depth = Depth {
            all: *all,
            scheduled: *scheduled,
            due: *due,
            suspects: *suspects,
            leased: *leased,
            oldest_due_ms: *oldest_due_ms,
            paused: *paused == 1,
            done: *done,
            retried: *retried,
            dead: *dead,
            replaced: *replaced,
            cancelled: *cancelled,
            damaged: *damaged,
        };
        Ok((depth, there.iter().map(|it| *it == 1).collect()))
    }

    pub(super) async fn pause(&self, paused: bool, deadline: Deadline) -> Result<()> {
        let word: &[u8] = if paused { b"1" } else { b"0" };
        let epoch = self.epoch()?;
        let done = self.redis.eval_int(&self.pause, &self.keys(), &[word, epoch.as_bytes()], deadline).await;
        if done.map_err(of_queue)? == 1 { Ok(()) } else { Err(self.of_another()) }
    }

    /// A script answers with the queue's epoch alone if it is another database's.
    fn check(&self, answer: &[Bytes]) -> Result<()> {
        match answer {
            [_] => Err(self.of_another()),
            _ => Ok(()),
        }
    }

    fn of_another(&self) -> Error {
        Error::config(format!(
            "the queue of this namespace in Redis at {} belongs to another database; give each database a namespace of its \
             own, or delete the keys of the queue if what waits there may be lost",
            self.redis.endpoint()
        ))
    }

    fn keys(&self) -> Vec<&str> {
        self.keys.iter().map(String::as_str).collect()
    }

    async fn list(&self, script: &Script, args: &[&[u8]], deadline: Deadline) -> Result<Vec<Bytes>> {
        self.redis.eval_list(script, &self.keys(), args, deadline).await.map_err(of_queue)
    }
}

/// An error of the cache is one of the queue here.
fn of_queue(error: Error) -> Error {
    match error.kind() {
        // Redis refused it for want of memory, and certainly.
        ErrorKind::Cache if error.message().contains("OOM") => {
            error.with_kind(ErrorKind::Overloaded).with_unsent()
        }
        ErrorKind::Cache => error.with_kind(ErrorKind::Queue),
        _ => error,
    }
}
