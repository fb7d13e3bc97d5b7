//! The bus of invalidations: every process hears of every key that another one changes, and knows whether it still hears.
//!
//! ```text
//!          subscribed                    own beat came back, sent less than coherence_bound ago
//! deaf ──────────────────▶ listening ─────────────────────────────────────────────────────────▶ trusted
//!   ▲    L1 is emptied         │                                                                    │
//!   ╰── connection lost, or nothing heard ──────────────────────────────────────────────────────────╯
//! ```
//! L1 is read while the last beat that came back is young enough, also after the connection was lost: nothing in it is older
//! than the bound. L2 is read while this process listens, too: a Redis that comes back may be another one, or may not have
//! been told something while it was away.
//!
//! A message is published by the script that changes the key (`scripts/`), so there is no moment at which one has happened
//! and the other never will. A process publishes a beat several times per bound, and what comes back says that everything
//! published before it was heard as well: one connection, one order. The age of trust counts from the sending of the
//! beat. A process that was stopped, or cut off, or slow, finds its trust ended by the clock that it reads at each hit.
//!
//! In a cluster each key's changes are published by the master that has it, so a process listens at every master, and a beat
//! is sent to each: it counts once all of them have come back, each from where it was sent, and a survey that was made beside
//! it has found the same masters, of the same runs. Other masters are another session; another run is another generation.
//! As the masters tell one another as well, a change is heard once from each, and dropped more often than it had to be.
//!
//! What was missed while deaf is not known: a new subscription begins with an empty L1, and no load that began before it is
//! joined any more.
//!
//! ```text
//!  0  kind: 1 a key changed, 2 a beat, 3 everything may have changed, 4 a tag was dropped, 5 a lock is free
//!  1  sender (8 bytes)     9  length of what follows (4 bytes)
//! 13  the key, the number of the beat (8 bytes), nothing, the tag, nothing
//! ```
//! Several of them may come as one, of what was changed together. A message of another kind is of a later release, and
//! passed over. A process does not listen to its own changes: it has made them in its own memory already.

use std::collections::{BTreeSet, VecDeque};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures_util::future::try_join;
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};

use crate::base::backoff::Backoff;
use crate::base::service::StopSignal;
use crate::base::{Clock, Deadline, random};
use crate::cache::generation::Generation;
use crate::cache::l1::L1;
use crate::cache::loader::Loader;
use crate::cache::tags::Tags;
use crate::cache::trust::Trust;
use crate::error::{Error, ErrorKind, Result};
use crate::redis::{Places, Redis, Server, Subscription};
use crate::telemetry::{Counters, Histogram};

const CHANGE: u8 = 1;
const BEAT: u8 = 2;
const EMPTY: u8 = 3;
const TAG: u8 = 4;
const FREED: u8 = 5;
/// Bytes of a message before what it is about.
const HEAD: usize = 13;
/// Beats in one bound: a few may be late or lost.
const BEATS: u32 = 8;
/// The bits of a beat's number that tell its place: more than a cluster has slots.
const PLACE: u64 = 0xFFFF;

/// Where this process speaks and listens.
pub(crate) struct Address {
    prefix: String,
    sender: [u8; 8],
    channel: OnceLock<String>,
}

impl Address {
    /// The channel will lie under `prefix` and the name of the database.
    pub(crate) fn new(prefix: String) -> Address {
        Address { prefix, sender: random::word().to_be_bytes(), channel: OnceLock::new() }
    }

    pub(crate) fn belongs_to(&self, database: &str) {
        self.channel.get_or_init(|| format!("{}:{database}", self.prefix));
    }

    pub(crate) fn channel(&self) -> Result<&str> {
        let unknown = "Redis is not used before PostgreSQL has said which database its entries belong to";
        self.channel.get().map(String::as_str).ok_or_else(|| Error::new(ErrorKind::Cache, unknown))
    }

    /// The message that a key has changed.
    pub(crate) fn change_of(&self, key: &str) -> Vec<u8> {
        self.message(CHANGE, key.as_bytes())
    }

    /// The message that empties every memory.
    pub(crate) fn empty(&self) -> Vec<u8> {
        self.message(EMPTY, b"")
    }

    /// The message that a tag's entries were dropped.
    pub(crate) fn dropped_tag(&self, tag: &str) -> Vec<u8> {
        self.message(TAG, tag.as_bytes())
    }

    /// The message that a lock is free.
    pub(crate) fn freed(&self) -> Vec<u8> {
        self.message(FREED, b"")
    }

    fn message(&self, kind: u8, rest: &[u8]) -> Vec<u8> {
        // Longer than 4 GiB is nothing that Redis takes.
        let length = u32::try_from(rest.len()).unwrap_or(u32::MAX);
        [&[kind], &self.sender[..], &length.to_be_bytes(), rest].concat()
    }

    /// What a message says, one after the other.
    fn understand<'a>(&self, mut message: &'a [u8]) -> impl Iterator<Item = Heard<'a>> {
        std::iter::from_fn(move || {
            let (head, rest) = message.split_first_chunk::<HEAD>()?;
            let (kind, sender, length) = (head[0], &head[1..9], &head[9..]);
            let length = length.iter().fold(0, |length, &byte| length << 8 | usize::from(byte));
            let (said, next) = rest.split_at_checked(length)?;
            message = next;
            let own = *sender == self.sender;
            Some(match kind {
                CHANGE if !own => std::str::from_utf8(said).map_or(Heard::Nothing, Heard::Change),
                EMPTY if !own => Heard::Everything,
                TAG if !own => std::str::from_utf8(said).map_or(Heard::Nothing, Heard::Tag),
                FREED => Heard::Freed,
                BEAT if own => {
                    said.try_into().map_or(Heard::Nothing, |beat| Heard::OwnBeat(u64::from_be_bytes(beat)))
                }
                _ => Heard::Nothing,
            })
        })
    }
}

/// What a message says.
enum Heard<'a> {
    Change(&'a str),
    Everything,
    Tag(&'a str),
    Freed,
    OwnBeat(u64),
    Nothing,
}

/// The ear of a process.
pub(crate) struct Bus {
    redis: Redis,
    address: Arc<Address>,
    l1: L1,
    loader: Loader,
    tags: Arc<Tags>,
    /// Somebody gave a lock back.
    pub(super) freed: Notify,
    trust: Arc<Trust>,
    clock: Clock,
    counters: Arc<Counters>,
    bound: Duration,
    connect_timeout: Duration,
    pub(super) lag: Histogram,
    before: OnceLock<BeforeListening>,
    generation: Arc<Generation>,
    /// The number of the connection to Redis whose server is known to be up to date; 0 while this process does not listen.
    valid: AtomicU64,
    server: watch::Receiver<Server>,
    /// The database is known, or trust has come, or a connection was lost.
    moved: Notify,
    failure: Mutex<Option<Error>>,
}

/// What has to be done before what is heard counts, within a time.
pub(crate) type BeforeListening =
    Arc<dyn Fn(Deadline) -> Pin<Box<dyn Future<Output = Result<()>> + Send>> + Send + Sync>;

/// Everything that a bus needs.
pub(crate) struct BusParts {
    pub(crate) redis: Redis,
    pub(crate) address: Arc<Address>,
    pub(crate) generation: Arc<Generation>,
    pub(crate) l1: L1,
    pub(crate) loader: Loader,
    pub(crate) tags: Arc<Tags>,
    pub(crate) trust: Arc<Trust>,
    pub(crate) clock: Clock,
    pub(crate) counters: Arc<Counters>,
    pub(crate) bound: Duration,
    pub(crate) connect_timeout: Duration,
}

impl Bus {
    /// Deaf.
    pub(crate) fn new(parts: BusParts) -> Bus {
        let BusParts {
            redis,
            address,
            generation,
            l1,
            loader,
            tags,
            trust,
            clock,
            counters,
            bound,
            connect_timeout,
        } = parts;
        let server = redis.server();
        Bus {
            redis,
            address,
            l1,
            loader,
            tags,
            freed: Notify::new(),
            trust,
            clock,
            counters,
            bound,
            connect_timeout,
            lag: Histogram::default(),
            before: OnceLock::new(),
            valid: AtomicU64::new(0),
            server,
            generation,
            moved: Notify::new(),
            failure: Mutex::new(None),
        }
    }

    pub(crate) fn belongs_to(&self, database: &str) {
        self.address.belongs_to(database);
        self.moved.notify_waiters();
    }

    pub(crate) fn before_listening(&self, hook: BeforeListening) {
        let _ = self.before.set(hook);
    }

    /// Whether this process hears the others, and talks to the server that it heard of.
    pub(crate) fn is_heard(&self) -> bool {
        self.heard().is_some()
    }

    /// The same, with the number of the connection on which that server may be read.
    pub(crate) fn heard(&self) -> Option<u64> {
        let valid = self.valid.load(Ordering::Acquire);
        let heard =
            valid != 0 && valid == self.server.borrow().number && self.trust.holds(self.clock.mono_ms());
        heard.then_some(valid)
    }

    #[cfg(test)]
    pub(crate) fn trust_forever(&self) {
        self.trust.forever();
        self.valid.store(self.server.borrow().number.max(1), Ordering::Release);
    }

    /// Waits for trust.
    ///
    /// # Errors
    /// Why there is none.
    pub(crate) async fn joined(&self, deadline: Deadline) -> Result<()> {
        let waiting = async {
            loop {
                let moved = self.moved.notified();
                if self.is_heard() {
                    return Ok(());
                }
                // No patience helps where a right is missing.
                if let Some(refused) = self.failure.lock().take_if(|why| why.kind() == ErrorKind::Config) {
                    return Err(refused);
                }
                moved.await;
            }
        };
        match deadline.run("waiting for the bus of invalidations", waiting).await {
            Ok(ended) => ended,
            Err(late) => Err(self.failure.lock().take().unwrap_or(late)),
        }
    }

    /// Listens until it is told to stop.
    pub(crate) async fn run(self: Arc<Bus>, mut stop: StopSignal) {
        let mut backoff = Backoff::new(Duration::from_millis(20), Duration::from_secs(1));
        loop {
            let ended = tokio::select! {
                () = stop.stopped() => return self.trust.end(),
                ended = self.session(&mut backoff) => ended,
            };
            // Nothing is heard any more. L1 goes on until the bound has passed; Redis may be another one when it is back.
            self.valid.store(0, Ordering::Release);
            log::debug!("the bus of invalidations was lost: {ended}");
            *self.failure.lock() = Some(ended);
            self.moved.notify_waiters();
            tokio::select! {
                () = stop.stopped() => return,
                () = tokio::time::sleep(backoff.next_delay()) => {}
            }
        }
    }

    /// From subscribing to the loss of the connection; gives why.
    async fn session(&self, backoff: &mut Backoff) -> Error {
        let channel = loop {
            let moved = self.moved.notified();
            if let Ok(channel) = self.address.channel() {
                break channel;
            }
            moved.await;
        };
        let deadline = Deadline::after(self.connect_timeout);
        let mut heard = match self.redis.subscribe(channel, deadline).await {
            Ok(subscription) => subscription,
            Err(error) => return error,
        };
        self.trust.end();
        // In this order: what is loaded from here on is told of, and what Redis was not told while it was away is known
        // to it before anybody reads there.
        self.loader.forget_all();
        self.tags.forget_all();
        self.l1.clear();
        if let Err(error) = self.validate(heard.places()).await {
            return error;
        }
        let error = self.listen(channel, &mut heard, backoff).await;
        self.counters.bus_losses.inc();
        error
    }

    /// Sees to it that what is read on the connection to Redis is what every process was told: of a server that was
    /// restarted or replaced nothing is, and of one that was away not before it heard what it has missed.
    async fn validate(&self, places: &Places) -> Result<()> {
        let deadline = Deadline::after(self.connect_timeout);
        loop {
            self.redis.look(deadline).await?;
            let number = self.server.borrow().number;
            if !self.redis.are_all(places) {
                return Err(away("the masters of the cluster are others"));
            }
            self.generation.renew(deadline).await?;
            if let Some(before) = self.before.get() {
                before(deadline).await?;
            }
            if self.server.borrow().number == number {
                self.valid.store(number, Ordering::Release);
                self.moved.notify_waiters();
                return Ok(());
            }
        }
    }

    async fn listen(&self, channel: &str, heard: &mut Subscription, backoff: &mut Backoff) -> Error {
        let places = &heard.places().clone();
        let (mut beats, mut server) = (Beats::of(places), self.server.clone());
        let mut sending = None;
        let pause = self.bound / BEATS;
        let mut next_beat = tokio::time::interval(pause);
        next_beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut last_back = self.clock.mono_ms();
        loop {
            tokio::select! {
                message = heard.next() => {
                    let Some((place, message)) = message else { return away("a connection was closed") };
                    for said in self.address.understand(&message) {
                        match said {
                            Heard::Change(key) => self.hear(key),
                            Heard::Everything => self.hear_of_everything(),
                            Heard::Tag(tag) => self.hear_of_tag(tag),
                            Heard::Freed => self.freed.notify_waiters(),
                            Heard::OwnBeat(number) => {
                                if let Some(sent) = beats.back(number, place) {
                                    last_back = self.believe(&sent, backoff);
                                }
                            }
                            Heard::Nothing => {}
                        }
                    }
                }
                _ = next_beat.tick(), if sending.is_none() => {
                    let silent_ms = self.clock.mono_ms().saturating_sub(last_back);
                    if u128::from(silent_ms) > 2 * self.bound.as_millis() {
                        return away("nothing was heard any more");
                    }
                    sending = Some(Box::pin(self.beat(channel, places, beats.next(&self.clock))));
                }
                changed = server.changed() => {
                    if changed.is_err() {
                        return away("the engine is gone");
                    }
                    if let Err(error) = self.validate(places).await {
                        return error;
                    }
                    // Nothing was listened to meanwhile.
                    last_back = self.clock.mono_ms();
                }
                sent = async { match &mut sending { Some(sending) => sending.await, None => Ok(0) } },
                    if sending.is_some() =>
                {
                    sending = None;
                    match sent {
                        Ok(number) => {
                            let surveyed = places.count();
                            if let Some(sent) = beats.back(number + surveyed as u64, surveyed) {
                                last_back = self.believe(&sent, backoff);
                            }
                        }
                        Err(error) => *self.failure.lock() = Some(error),
                    }
                }
            }
        }
    }

    /// Sends a beat to each place, and sees whether they are still all, and of the runs that they were; gives its number.
    async fn beat(&self, channel: &str, places: &Places, number: u64) -> Result<u64> {
        let within = Deadline::after(self.bound);
        let message = |place: usize| self.address.message(BEAT, &(number + place as u64).to_be_bytes());
        let telling = self.redis.publish_at(places, channel, message, within);
        if !places.may_change() {
            return telling.await.map(|()| number);
        }
        let valid = self.valid.load(Ordering::Acquire);
        try_join(telling, self.redis.look(within)).await?;
        if self.server.borrow().number == valid { Ok(number) } else { Err(away("it is another one")) }
    }

    fn hear(&self, key: &str) {
        self.counters.invalidations_received.inc();
        self.l1.hear(key);
        self.loader.forget(key);
    }

    fn hear_of_everything(&self) {
        self.counters.invalidations_received.inc();
        self.l1.clear();
        self.loader.forget_all();
    }

    fn hear_of_tag(&self, tag: &str) {
        self.counters.invalidations_received.inc();
        self.tags.dropped(tag);
        // Which keys have the tag is not known.
        self.loader.forget_all();
    }

    /// A beat has come back from everywhere; gives when.
    fn believe(&self, sent: &Beat, backoff: &mut Backoff) -> u64 {
        *backoff = Backoff::new(Duration::from_millis(20), Duration::from_secs(1));
        self.lag.record(Duration::from_nanos(self.clock.mono_ns().saturating_sub(sent.ns)));
        self.trust.extend(sent.ms.saturating_add(self.bound.as_millis() as u64));
        self.moved.notify_waiters();
        self.clock.mono_ms()
    }
}

fn away(why: &str) -> Error {
    Error::new(ErrorKind::Cache, format!("the bus of invalidations in Redis: {why}"))
}

/// The beats that have not come back from everywhere.
struct Beats {
    sent: VecDeque<Beat>,
    /// From how many places each has to come back. Behind those of the bus it is the survey, where there is one.
    places: usize,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Beat {
    /// The one that is sent to the first place; the numbers of the next ones follow.
    number: u64,
    /// When it was sent, on the clock that ends trust, and on the precise one.
    ms: u64,
    ns: u64,
    /// Where it is still waited for.
    missing: BTreeSet<usize>,
}

impl Beats {
    fn of(places: &Places) -> Beats {
        Beats { sent: VecDeque::new(), places: places.count() + usize::from(places.may_change()) }
    }

    /// A new one, sent now.
    fn next(&mut self, clock: &Clock) -> u64 {
        let number = random::word() & !PLACE;
        let missing = (0..self.places).collect();
        self.sent.push_back(Beat { number, ms: clock.mono_ms(), ns: clock.mono_ns(), missing });
        if self.sent.len() > 4 * BEATS as usize {
            self.sent.pop_front();
        }
        number
    }

    /// What has come back at one place, if it is the last one of its beat; older beats do not count any more then. What was
    /// sent to another place came by a way that may lose something.
    fn back(&mut self, number: u64, place: usize) -> Option<Beat> {
        let number = number.checked_sub(place as u64).filter(|number| number & PLACE == 0)?;
        let at = self.sent.iter().position(|sent| sent.number == number)?;
        self.sent[at].missing.remove(&place);
        if self.sent[at].missing.is_empty() { self.sent.drain(..=at).next_back() } else { None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_beat_counts_once_and_ends_those_before_it() {
        let (mut beats, clock) = (Beats::of(&Places::Single), Clock::manual(0));
        let [first, second, third] = [(); 3].map(|()| beats.next(&clock));
        assert_eq!(beats.back(second, 0).map(|beat| beat.number), Some(second));
        assert_eq!(beats.back(second, 0), None);
        assert_eq!(beats.back(first, 0), None);
        assert_eq!(beats.back(third, 0).map(|beat| beat.number), Some(third));
    }

    #[test]
    fn a_beat_of_a_cluster_counts_once_it_is_back_from_every_master_and_the_survey() {
        let masters = (0..3).map(|port| ("host".to_owned(), port)).collect();
        let (mut beats, clock) = (Beats::of(&Places::Masters(masters)), Clock::manual(0));
        let [first, second] = [(); 2].map(|()| beats.next(&clock));
        for number in [first, second] {
            assert_eq!(beats.back(number, 0), None);
            assert_eq!(beats.back(number + 1, 1), None);
            assert_eq!(beats.back(number + 2, 1), None, "by the bus between the masters");
        }
        assert_eq!(beats.back(second, 3), None, "a beat is no survey");
        assert_eq!(beats.back(second + 3, 3), None);
        assert_eq!(beats.back(second + 2, 2).map(|beat| beat.number), Some(second));
        assert_eq!(beats.back(first + 2, 2), None, "an older one");
    }

    #[test]
    fn messages_that_come_as_one_are_all_heard_up_to_what_is_cut_off() {
        let addresses = [(); 2].map(|()| Address::new("bus".to_owned()));
        let of_later = addresses[0].message(200, b"anything");
        let beat = addresses[1].message(BEAT, &7_u64.to_be_bytes());
        let said =
            [addresses[0].change_of("a"), of_later, beat, addresses[0].change_of(""), addresses[0].freed()];
        let heard = |text: &[u8], address: &Address| -> Vec<String> {
            let name = |heard| match heard {
                Heard::Change(key) => format!("changed {key:?}"),
                Heard::Everything => "everything".to_owned(),
                Heard::Tag(tag) => format!("tag {tag:?}"),
                Heard::Freed => "freed".to_owned(),
                Heard::OwnBeat(beat) => format!("beat {beat}"),
                Heard::Nothing => "nothing".to_owned(),
            };
            address.understand(text).map(name).collect()
        };
        let text = said.concat();
        assert_eq!(
            heard(&text, &addresses[1]),
            [r#"changed "a""#, "nothing", "beat 7", r#"changed """#, "freed"]
        );
        assert_eq!(heard(&text, &addresses[0]), ["nothing", "nothing", "nothing", "nothing", "freed"]);
        for length in 0..text.len() {
            let whole = said
                .iter()
                .scan(0, |end, it| {
                    *end += it.len();
                    Some(*end)
                })
                .filter(|end| *end <= length);
            assert_eq!(heard(&text[..length], &addresses[1]).len(), whole.count(), "{length} bytes");
        }
    }

    #[test]
    fn trust_ends_with_its_time_and_never_goes_back() {
        let trust = Trust::none();
        assert!(!trust.holds(0));
        trust.extend(100);
        trust.extend(50);
        assert!(trust.holds(99) && !trust.holds(100));
        trust.end();
        assert!(!trust.holds(1));
        assert!(Trust::always().holds(u64::MAX - 1));
    }
}
