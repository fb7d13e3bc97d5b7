//! The bits in Redis: one marker and some chunks for each generation, all in one slot of a cluster.
//!
//! ```text
//! N:b:{.F}:G-S        marker of generation G with seed S (see `shape`), followed by the name of the server's life
//! N:b:{.F}:G-S:I      chunk I: a header that says whose it is, then its bits
//! ```
//! N is the family's namespace, F a digest of its pattern. What is not exactly so is not believed: a script finds the marker
//! equal to what the caller knows from PostgreSQL, and each chunk that it touches of the right length under its header.

use std::collections::BTreeMap;
use std::time::Duration;

use sha2::{Digest, Sha256};

use super::local::LocalBits;
use super::shape::{CHUNK_HEADER, Place, Shape};
use crate::base::Deadline;
use crate::error::{Error, ErrorKind, Result};
use crate::redis::{Keyspace, Redis, Script};

/// Chunks that a script looks at or makes; each costs it some ten microseconds.
const CHUNKS_AT_ONCE: usize = 64;
/// Keys that a script adds or asks for.
const KEYS_AT_ONCE: usize = 500;

/// What Redis says of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    No,
    Maybe,
    /// The generation is not there as it should be.
    Doubt,
}

/// How long the strings of a generation live from now on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Life {
    /// As before.
    Same,
    Forever,
    For(Duration),
}

/// Which family's bits.
#[derive(Debug, Clone)]
pub(super) struct Shelf {
    space: Keyspace,
    family: String,
}

impl Shelf {
    pub(super) fn new(namespace: &str, pattern: &str) -> Shelf {
        let digest = Sha256::digest(pattern.as_bytes());
        let family = digest[..8].iter().map(|byte| format!("{byte:02x}")).collect();
        Shelf { space: Keyspace::new(namespace), family }
    }

    fn marker(&self, shape: &Shape) -> String {
        self.space.bloom(&self.family, &format!("{}-{:016x}", shape.generation, shape.seed))
    }
}

/// The scripts and the server.
pub(super) struct Shared {
    redis: Redis,
    create: Script,
    add: Script,
    ask: Script,
    merge: Script,
    inspect: Script,
    retire: Script,
    forget: Script,
}

/// The common part, then the script.
macro_rules! script {
    ($name:literal) => {
        Script::new(concat!(
            include_str!("scripts/common.lua"),
            "\n",
            include_str!(concat!("scripts/", $name))
        ))
    };
}

impl Shared {
    pub(super) fn new(redis: Redis) -> Shared {
        Shared {
            redis,
            create: script!("create.lua"),
            add: script!("add.lua"),
            ask: script!("ask.lua"),
            merge: script!("merge.lua"),
            inspect: script!("inspect.lua"),
            retire: script!("retire.lua"),
            forget: Script::new(include_str!("scripts/forget.lua")),
        }
    }

    /// Makes an empty generation that goes away by itself unless it is completed.
    pub(super) async fn create(&self, shelf: &Shelf, shape: &Shape, life: Duration) -> Result<()> {
        let life = life.as_millis().to_string();
        for chunks in chunks_of(shape) {
            let made = self.run_on(&self.create, shelf, shape, &chunks, life.as_bytes()).await?;
            if made != 1 {
                return Err(lost("Redis does not say which server it is (INFO server, INFO replication)"));
            }
        }
        Ok(())
    }

    /// Adds keys; false if the generation is not there as it should be.
    pub(super) async fn add(
        &self,
        shelf: &Shelf,
        shape: &Shape,
        places: &[Place],
        deadline: Deadline,
    ) -> Result<bool> {
        for places in places.chunks(KEYS_AT_ONCE) {
            let call = Call::new(shelf, shape, places, b"");
            if self.redis.eval_int(&self.add, &call.keys(), &call.args(), deadline).await? != 1 {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Asks for keys, one answer each, in order.
    pub(super) async fn ask(
        &self,
        shelf: &Shelf,
        shape: &Shape,
        places: &[Place],
        deadline: Deadline,
    ) -> Result<Vec<Answer>> {
        let mut all = Vec::with_capacity(places.len());
        let hashes = shape.hashes().to_string();
        for places in places.chunks(KEYS_AT_ONCE) {
            let call = Call::new(shelf, shape, places, hashes.as_bytes());
            let answer = self.redis.eval_list(&self.ask, &call.keys(), &call.args(), deadline).await?;
            let letters = answer.first().filter(|letters| letters.len() == places.len());
            let mut answers = vec![Answer::Doubt; places.len()];
            for (&at, letter) in call.order.iter().zip(letters.iter().flat_map(|it| it.iter())) {
                answers[at] = match letter {
                    b'0' => Answer::No,
                    b'1' => Answer::Maybe,
                    _ => Answer::Doubt,
                };
            }
            all.append(&mut answers);
        }
        Ok(all)
    }

    /// Sets the bits that a scan has found.
    pub(super) async fn merge(
        &self,
        shelf: &Shelf,
        shape: &Shape,
        found: &LocalBits,
        life: Duration,
    ) -> Result<()> {
        let (marker, text, length) = (shelf.marker(shape), shape.encode(), shape.chunk_len().to_string());
        let life = life.as_millis().to_string();
        for chunk in 0..shape.chunks() {
            let header = shape.chunk_header(chunk);
            let bits = [&header[..], &found.chunk(chunk)].concat();
            let name = format!("{marker}:{chunk}");
            let keys = [marker.as_str(), &name, &format!("{marker}:found")];
            let args: [&[u8]; 5] = [&text, length.as_bytes(), life.as_bytes(), &header, &bits];
            if self.redis.eval_int(&self.merge, &keys, &args, patience()).await? != 1 {
                return Err(lost("Redis lost the filter while it was built"));
            }
        }
        Ok(())
    }

    /// Ends the answers of a generation, to which writers can still add for a time. False if it is not there as it should
    /// be: a server out of reach may have it, and answer from it.
    pub(super) async fn retire(&self, shelf: &Shelf, shape: &Shape, life: Duration) -> Result<bool> {
        let life = life.as_millis().to_string();
        Ok(self.run_on(&self.retire, shelf, shape, &[], life.as_bytes()).await? == 1)
    }

    /// Removes what there is of a generation after a time, also on another server than it was made on, or in part.
    pub(super) async fn forget(&self, shelf: &Shelf, shape: &Shape, after: Duration) -> Result<()> {
        let (marker, after) = (shelf.marker(shape), after.as_millis().to_string());
        for chunks in chunks_of(shape) {
            let names: Vec<String> = chunks.iter().map(|chunk| format!("{marker}:{chunk}")).collect();
            let keys: Vec<&str> =
                [marker.as_str()].into_iter().chain(names.iter().map(String::as_str)).collect();
            self.redis.eval_int(&self.forget, &keys, &[after.as_bytes()], patience()).await?;
        }
        Ok(())
    }

    /// The bits that are set in all chunks, which live that long from now on; `None` if something is not as it should be.
    pub(super) async fn inspect(&self, shelf: &Shelf, shape: &Shape, life: Life) -> Result<Option<u64>> {
        let mut set = 0;
        for chunks in chunks_of(shape) {
            match self.inspect_some(shelf, shape, &chunks, life).await? {
                Some(some) => set += some,
                None => return Ok(None),
            }
        }
        Ok(Some(set))
    }

    /// The part of the bits that are set in a few chunks from this one on.
    pub(super) async fn sample(&self, shelf: &Shelf, shape: &Shape, from: u32) -> Result<Option<f64>> {
        let most = (CHUNKS_AT_ONCE as u32).min(shape.chunks());
        let chunks: Vec<u32> = (0..most).map(|at| (from % shape.chunks() + at) % shape.chunks()).collect();
        let set = self.inspect_some(shelf, shape, &chunks, Life::Same).await?;
        Ok(set.map(|set| set as f64 / (u64::from(most) * shape.chunk_bits()) as f64))
    }

    async fn inspect_some(
        &self,
        shelf: &Shelf,
        shape: &Shape,
        chunks: &[u32],
        life: Life,
    ) -> Result<Option<u64>> {
        let life = match life {
            Life::Same => String::new(),
            Life::Forever => "0".to_owned(),
            Life::For(time) => time.as_millis().max(1).to_string(),
        };
        let set = self.run_on(&self.inspect, shelf, shape, chunks, life.as_bytes()).await?;
        Ok(u64::try_from(set).ok())
    }

    /// A script whose arguments are the headers of chunks.
    async fn run_on(
        &self,
        script: &Script,
        shelf: &Shelf,
        shape: &Shape,
        chunks: &[u32],
        third: &[u8],
    ) -> Result<i64> {
        let (marker, text, length) = (shelf.marker(shape), shape.encode(), shape.chunk_len().to_string());
        let names: Vec<String> = chunks.iter().map(|chunk| format!("{marker}:{chunk}")).collect();
        let headers: Vec<_> = chunks.iter().map(|&chunk| shape.chunk_header(chunk)).collect();
        let keys: Vec<&str> = [marker.as_str()].into_iter().chain(names.iter().map(String::as_str)).collect();
        let first: [&[u8]; 3] = [&text, length.as_bytes(), third];
        let args: Vec<&[u8]> = first.into_iter().chain(headers.iter().map(|it| &it[..])).collect();
        self.redis.eval_int(script, &keys, &args, patience()).await
    }
}

/// Keys and arguments of a script about keys, chunk by chunk.
struct Call {
    names: Vec<String>,
    args: Vec<Vec<u8>>,
    /// Which of the keys is the n-th in the script's order.
    order: Vec<usize>,
}

impl Call {
    fn new(shelf: &Shelf, shape: &Shape, places: &[Place], third: &[u8]) -> Call {
        let mut by_chunk: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
        for (at, place) in places.iter().enumerate() {
            by_chunk.entry(place.chunk).or_default().push(at);
        }
        let marker = shelf.marker(shape);
        let mut call = Call {
            names: vec![marker.clone()],
            args: vec![shape.encode().to_vec(), shape.chunk_len().to_string().into_bytes(), third.to_vec()],
            order: Vec::with_capacity(places.len()),
        };
        for (chunk, ats) in by_chunk {
            let bits = ats.iter().flat_map(|&at| &places[at].bits);
            let bits = bits.flat_map(|bit| (bit + CHUNK_HEADER as u32 * 8).to_be_bytes()).collect();
            call.names.push(format!("{marker}:{chunk}"));
            call.args.extend([shape.chunk_header(chunk).to_vec(), bits]);
            call.order.extend(ats);
        }
        call
    }

    fn keys(&self) -> Vec<&str> {
        self.names.iter().map(String::as_str).collect()
    }

    fn args(&self) -> Vec<&[u8]> {
        self.args.iter().map(Vec::as_slice).collect()
    }
}

fn chunks_of(shape: &Shape) -> Vec<Vec<u32>> {
    let all: Vec<u32> = (0..shape.chunks()).collect();
    all.chunks(CHUNKS_AT_ONCE).map(<[u32]>::to_vec).collect()
}

fn lost(what: &str) -> Error {
    Error::new(ErrorKind::Cache, what.to_owned())
}

/// For what no caller waits for; one command ends after `redis_timeout` anyway.
fn patience() -> Deadline {
    Deadline::after(Duration::from_secs(60))
}
