//! The moves against a model: random ones, in a real Redis, with leases that end.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use super::answers::{Cancelled, Claimed, How, New, Wanted};
use super::body::Body;
use super::lanes::Lanes;
use crate::base::{Deadline, random};
use crate::error::ErrorKind;
use crate::redis::testing::{connect, namespace};
use crate::sql::Rendered;

const LEASE: Duration = Duration::from_secs(60);
/// Shorter than any step takes.
const ENDED: Duration = Duration::ZERO;

fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(20))
}

fn body(key: Option<&str>) -> Body {
    let statements = vec![Rendered { sql: "SELECT 1".into(), params: [].into() }];
    Body { timeout: None, key: key.map(str::to_owned), invalidates: Vec::new(), statements }
}

/// SplitMix64. Source: Steele, Lea, Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014.
struct Dice(u64);

impl Dice {
    fn below(&mut self, range: std::ops::Range<u32>) -> u32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        range.start + ((word ^ (word >> 31)) % u64::from(range.end - range.start)) as u32
    }
}

/// What the queue should be.
#[derive(Default)]
struct Model {
    /// Of each lane the operations in their order, with whether each may be replaced; one without a key has its own lane.
    lanes: BTreeMap<String, VecDeque<(String, bool)>>,
    /// Leased now.
    leased: BTreeMap<String, Claimed>,
    /// Leased at some time.
    had: BTreeSet<String>,
    /// Begun at some time, with the attempt that did it last.
    begun: BTreeMap<String, u64>,
    /// What was begun when its lease ended without a word, how often.
    crashes: BTreeMap<String, u32>,
    suspects: BTreeSet<String>,
    ended: BTreeSet<String>,
    next: u32,
}

impl Model {
    fn lane(key: Option<&str>, op_id: &str) -> String {
        key.map_or_else(|| format!("alone {op_id}"), str::to_owned)
    }

    fn is_first(&self, op_id: &str) -> bool {
        self.lanes.values().any(|lane| lane.front().is_some_and(|(first, _)| first == op_id))
    }

    /// First of their lanes and nobody's.
    fn free(&self) -> BTreeSet<String> {
        let firsts = self.lanes.values().filter_map(|lane| lane.front()).map(|(op_id, _)| op_id.clone());
        firsts.filter(|op_id| !self.leased.contains_key(op_id) && !self.suspects.contains(op_id)).collect()
    }

    /// Its lease is gone and it has not ended.
    fn wait_again(&mut self, op_id: &str) {
        self.leased.remove(op_id);
        if self.crashes.contains_key(op_id) {
            self.suspects.insert(op_id.to_owned());
        }
    }

    fn end(&mut self, op_id: &str) {
        self.lanes.values_mut().for_each(|lane| lane.retain(|(it, _)| it != op_id));
        self.lanes.retain(|_, lane| !lane.is_empty());
        self.leased.remove(op_id);
        self.suspects.remove(op_id);
        self.ended.insert(op_id.to_owned());
    }

    fn waiting(&self) -> Vec<String> {
        self.lanes.values().flatten().map(|(op_id, _)| op_id.clone()).collect()
    }
}

struct Run {
    lanes: Lanes,
    model: Model,
    dice: Dice,
}

impl Run {
    async fn step(&mut self) {
        match self.dice.below(0..14) {
            0..4 => self.enqueue().await,
            4..6 => self.claim(Wanted::Due, LEASE).await,
            6 => self.claim(Wanted::Suspect, LEASE).await,
            // Its worker is never heard of again.
            7 => self.claim(Wanted::Due, ENDED).await,
            8..11 => self.settle().await,
            11..13 => self.begin().await,
            _ => self.cancel().await,
        }
        self.check().await;
    }

    async fn enqueue(&mut self) {
        let key = (self.dice.below(0..5) > 0).then(|| format!("k{}", self.dice.below(0..4)));
        // Now and then one that is there or was.
        let op_id = match self.dice.below(0..8) {
            0 if self.model.next > 0 => format!("op{}", self.dice.below(0..self.model.next)),
            _ => {
                self.model.next += 1;
                format!("op{}", self.model.next - 1)
            }
        };
        let coalesce = key.is_some() && self.dice.below(0..2) == 0;
        let (lane, payload) = (key.as_deref().unwrap_or_default(), body(key.as_deref()).encode());
        let new = New { op_id: &op_id, lane, payload: &payload, delay: Duration::ZERO, coalesce };
        let sent = self.lanes.enqueue(&new, 0, soon()).await;
        let enqueued = sent.expect("Redis is there");
        let there = self.model.waiting().contains(&op_id);
        assert_eq!(enqueued.new, !there, "{op_id}");
        if there {
            return;
        }
        self.model.ended.remove(&op_id);
        self.model.had.remove(&op_id);
        self.model.begun.remove(&op_id);
        self.model.crashes.remove(&op_id);
        let name = Model::lane(key.as_deref(), &op_id);
        let lane = self.model.lanes.entry(name).or_default();
        let last = lane.back().cloned();
        let replaced = last.filter(|(last, may)| coalesce && *may && !self.model.had.contains(last));
        if let Some((replaced, _)) = &replaced {
            lane.pop_back();
            self.model.ended.insert(replaced.clone());
        }
        lane.push_back((op_id, coalesce));
        assert_eq!(enqueued.replaced, replaced.map(|(op_id, _)| op_id));
    }

    async fn claim(&mut self, wanted: Wanted, lease: Duration) {
        let most = if wanted == Wanted::Suspect { 1 } else { self.dice.below(1..4) as usize };
        let claims = self.lanes.claim(wanted, most, lease, 0, soon()).await.expect("Redis is there");
        let from = if wanted == Wanted::Suspect { self.model.suspects.clone() } else { self.model.free() };
        let claimed: Vec<&str> = claims.claimed.iter().map(|it| &*it.op_id).collect();
        assert_eq!(claimed.len(), most.min(from.len()), "{claimed:?} of {from:?}");
        assert!(claimed.iter().all(|op_id| from.contains(*op_id)), "{claimed:?} of {from:?}");
        for one in claims.claimed {
            self.model.suspects.remove(&one.op_id);
            self.model.had.insert(one.op_id.clone());
            assert_eq!(one.crashes, self.model.crashes.get(&one.op_id).copied().unwrap_or(0));
            self.model.leased.insert(one.op_id.clone(), one);
        }
        if lease == ENDED {
            // Some of them die with what they have begun.
            if self.dice.below(0..2) == 0 {
                self.begin().await;
            }
            self.expire().await;
        }
    }

    /// Begins some of what is leased, and something that is nobody's.
    async fn begin(&mut self) {
        let mut some: Vec<Claimed> = self.model.leased.values().cloned().collect();
        some.retain(|_| self.dice.below(0..2) == 0);
        let late =
            self.model.leased.values().next().map(|it| Claimed { attempt: it.attempt - 1, ..it.clone() });
        let gone = self.model.ended.first().map(|op_id| Claimed::only(op_id.clone(), 1));
        let sent: Vec<Claimed> = some.iter().cloned().chain(late.clone()).chain(gone.clone()).collect();
        if sent.is_empty() {
            return;
        }
        // Twice, as when an answer was lost.
        for _ in 0..2 {
            let lost = self.lanes.begin(&sent, soon()).await.expect("Redis is there");
            let expected: Vec<String> = late.iter().chain(&gone).map(|it| it.op_id.clone()).collect();
            assert_eq!(lost, expected);
        }
        self.model.begun.extend(some.into_iter().map(|it| (it.op_id, it.attempt)));
    }

    /// The next look finds out, whatever it looks for.
    async fn expire(&mut self) {
        // Redis counts milliseconds.
        tokio::time::sleep(Duration::from_millis(2)).await;
        self.lanes.claim(Wanted::Due, 0, LEASE, 0, soon()).await.expect("Redis is there");
        let (depth, _) = self.lanes.look(&[], soon()).await.expect("Redis is there");
        let held: Vec<String> = self.model.leased.keys().cloned().collect();
        if held.is_empty() {
            return;
        }
        let attempts: Vec<(String, u64)> =
            held.iter().map(|op_id| (op_id.clone(), self.model.leased[op_id].attempt)).collect();
        let lost = self.lanes.extend(&attempts, LEASE, soon()).await.expect("Redis is there");
        assert_eq!(depth.leased as usize, held.len() - lost.len());
        for op_id in lost {
            if self.model.begun.get(&op_id) == Some(&self.model.leased[&op_id].attempt) {
                *self.model.crashes.entry(op_id.clone()).or_default() += 1;
            }
            self.model.wait_again(&op_id);
        }
    }

    async fn settle(&mut self) {
        let held: Vec<Claimed> = self.model.leased.values().cloned().collect();
        let Some(one) = held.get(self.dice.below(0..held.len().max(1) as u32) as usize).cloned() else {
            return;
        };
        let how = match self.dice.below(0..4) {
            0 => How::Dead,
            1 => How::Error(Duration::ZERO),
            2 => How::Again(Duration::ZERO),
            _ => How::Done,
        };
        // One that comes back too late is not heard.
        let stale = Claimed { attempt: one.attempt - 1, ..one.clone() };
        assert_eq!(self.lanes.settle(&[(&stale, how)], soon()).await.expect("Redis is there"), 0);
        assert_eq!(self.lanes.settle(&[(&one, how)], soon()).await.expect("Redis is there"), 1);
        match how {
            How::Done | How::Dead => self.model.end(&one.op_id),
            How::Error(_) | How::Again(_) => self.model.wait_again(&one.op_id),
        }
    }

    async fn cancel(&mut self) {
        if self.model.next == 0 {
            return;
        }
        let op_id = format!("op{}", self.dice.below(0..self.model.next));
        let expected = match () {
            () if !self.model.waiting().contains(&op_id) => Cancelled::Unknown,
            () if self.model.begun.contains_key(&op_id) => Cancelled::Started,
            () if self.model.waiting().contains(&op_id) => Cancelled::Yes,
            () => Cancelled::Unknown,
        };
        assert_eq!(self.lanes.cancel(&op_id, soon()).await.expect("Redis is there").0, expected, "{op_id}");
        if expected == Cancelled::Yes {
            self.model.end(&op_id);
        }
    }

    async fn check(&self) {
        let model = &self.model;
        let ops: Vec<String> = (0..model.next).map(|n| format!("op{n}")).collect();
        let (depth, there) = self.lanes.look(&ops, soon()).await.expect("Redis is there");
        let waiting: BTreeSet<String> = model.waiting().into_iter().collect();
        for (op_id, there) in ops.iter().zip(there) {
            assert_eq!(there, waiting.contains(op_id), "{op_id}");
        }
        let found = (depth.all, depth.due + depth.scheduled, depth.suspects, depth.leased);
        let sizes =
            [waiting.len(), model.free().len(), model.suspects.len(), model.leased.len()].map(|it| it as u64);
        assert_eq!(found, (sizes[0], sizes[1], sizes[2], sizes[3]));
        assert!(model.leased.keys().chain(&model.suspects).all(|op_id| model.is_first(op_id)));
        assert_eq!(depth.damaged, 0);
    }
}

#[tokio::test]
async fn random_moves_keep_each_lane_in_order_and_lose_nothing() {
    let seed =
        std::env::var("ZMSG_TEST_SEED").ok().and_then(|it| it.parse().ok()).unwrap_or_else(random::word);
    println!("ZMSG_TEST_SEED={seed}");
    let rounds = if std::env::var_os("ZMSG_SOAK").is_some() { 200 } else { 8 };
    for round in 0..rounds {
        let lanes = Lanes::new(connect().await, &namespace());
        lanes.belong_to([7; 16]);
        let mut run = Run { lanes, model: Model::default(), dice: Dice(seed.wrapping_add(round)) };
        for _ in 0..250 {
            run.step().await;
        }
        // Whatever is left can be brought to its end.
        while !run.model.waiting().is_empty() {
            run.claim(Wanted::Suspect, LEASE).await;
            run.claim(Wanted::Due, LEASE).await;
            run.settle().await;
            run.check().await;
        }
        let (depth, _) = run.lanes.look(&[], soon()).await.expect("Redis is there");
        assert_eq!(depth.all, 0);
    }
}

/// One operation that is accepted, and the means to lease it.
struct Single {
    lanes: Lanes,
}

impl Single {
    async fn new() -> Single {
        let lanes = Lanes::new(connect().await, &namespace());
        lanes.belong_to([7; 16]);
        let single = Single { lanes };
        single.accept("first").await;
        single
    }

    async fn accept(&self, payload: &str) {
        let payload = payload.as_bytes();
        let new = New { op_id: "op", lane: "k", payload, delay: Duration::ZERO, coalesce: false };
        assert!(self.lanes.enqueue(&new, 0, soon()).await.expect("Redis is there").new);
    }

    /// Leases it, for no longer than until the next look.
    async fn lease(&self, wanted: Wanted) -> Vec<Claimed> {
        // Redis counts milliseconds.
        tokio::time::sleep(Duration::from_millis(2)).await;
        self.lanes.claim(wanted, 1, ENDED, 0, soon()).await.expect("Redis is there").claimed
    }
}

#[tokio::test]
async fn a_lease_under_which_nothing_was_begun_ends_without_a_crash() {
    let single = Single::new().await;
    // Workers that died at once, or never had Redis' answer.
    for _ in 0..5 {
        let claimed = single.lease(Wanted::Due).await;
        assert_eq!((claimed.len(), claimed[0].crashes), (1, 0));
    }
    let claimed = single.lease(Wanted::Due).await;
    assert!(single.lanes.begin(&claimed, soon()).await.expect("Redis is there").is_empty());
    assert_eq!(single.lease(Wanted::Due).await.len(), 0, "it runs alone from now on");
    let claimed = single.lease(Wanted::Suspect).await;
    assert_eq!(claimed[0].crashes, 1);
    let claimed = single.lease(Wanted::Suspect).await;
    assert_eq!(claimed[0].crashes, 1, "the second worker did not begin it, and it stays alone");
}

#[tokio::test]
async fn a_worker_does_not_begin_what_was_taken_back_even_if_its_name_is_used_again() {
    let single = Single::new().await;
    let first = single.lanes.claim(Wanted::Due, 1, LEASE, 0, soon()).await.expect("Redis is there").claimed;
    assert_eq!(single.lanes.cancel("op", soon()).await.expect("Redis is there").0, Cancelled::Yes);
    single.accept("second").await;
    let second = single.lanes.claim(Wanted::Due, 1, LEASE, 0, soon()).await.expect("Redis is there").claimed;
    assert_eq!(second[0].payload, "second");
    assert_eq!(single.lanes.begin(&first, soon()).await.expect("Redis is there"), ["op"]);
    assert!(single.lanes.begin(&second, soon()).await.expect("Redis is there").is_empty());
    assert_eq!(single.lanes.cancel("op", soon()).await.expect("Redis is there").0, Cancelled::Started);
}

#[tokio::test]
async fn what_is_another_databases_is_neither_begun_nor_ended_nor_looked_at() {
    let (redis, namespace) = (connect().await, namespace());
    let [own, other] = [[7; 16], [8; 16]].map(|database| {
        let lanes = Lanes::new(redis.clone(), &namespace);
        lanes.belong_to(database);
        lanes
    });
    let single = Single { lanes: own };
    single.accept("first").await;
    let leased = single.lanes.claim(Wanted::Due, 1, LEASE, 0, soon()).await.expect("Redis is there").claimed;
    let held = [("op".to_owned(), leased[0].attempt)];
    let refused = [
        other.begin(&leased, soon()).await.map(drop),
        other.extend(&held, LEASE, soon()).await.map(drop),
        other.settle(&[(&leased[0], How::Done)], soon()).await.map(drop),
        other.look(&["op".to_owned()], soon()).await.map(drop),
    ];
    for refused in refused {
        assert_eq!(refused.expect_err("it is not theirs").kind(), ErrorKind::Config);
    }
    assert_eq!(single.lanes.settle(&[(&leased[0], How::Done)], soon()).await.expect("Redis is there"), 1);
}
