//! Single flight: per key, one load at a time, shared by everybody who waits for it.
//!
//! ```text
//!           begin            complete
//! nobody ──────────▶ flying ──────────▶ landed: every waiter has the result, errors too; nothing is kept
//!                      │ forget: later readers start a flight of their own, the waiters of this one keep it
//!                      │ guard dropped: the waiters begin anew
//! ```
//! Invariants:
//! - A flight that was joined had not been forgotten; so a read that starts after an acknowledged write, which forgets
//!   the flights of its keys, never gets the result of a load that began before it.
//! - A flight belongs to no caller: one who stops waiting fails nobody.
//! - What callers load themselves flies apart: an absence that the engine found says nothing about what they would.
//! - So do strict loads: a flight that may end in a last good value is joined by nobody who must not have one.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use foldhash::HashMap;
use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::base::service::detached;
use crate::error::{Error, ErrorKind, Result};
use crate::telemetry::Counters;

/// Flights at once. Each may hold a value; beyond this the database is far behind and callers should slow down.
const MAX_FLIGHTS: usize = 65_536;

/// What a load gives: the value, or `None` for an absence.
pub(crate) type Loaded = Option<Bytes>;

/// Who waits for the flights that began together, by their numbers. Most flights have nobody, and cost nothing here.
type Waiting = Arc<Mutex<HashMap<u64, Vec<oneshot::Sender<Result<Loaded>>>>>>;

/// The flights of a process. Clones share them.
#[derive(Clone)]
pub(crate) struct Loader(Arc<Inner>);

struct Inner {
    /// By whose they are.
    flights: [Flights; 3],
    begun: AtomicU64,
    counters: Arc<Counters>,
}

type Flights = Mutex<HashMap<Arc<str>, Flight>>;

/// Who loads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Whose {
    /// The engine, from L2 and the key's source; should that fail, the last good value.
    Engine,
    /// The engine, for readers who would rather have the source's error than a last good value.
    Strict,
    /// A caller, with a loader of its own.
    Caller,
}

struct Flight {
    number: u64,
    waiting: Waiting,
}

/// The duty to load one key. Dropping it without a result sends its waiters to begin anew.
pub(crate) struct FlightGuard {
    key: Arc<str>,
    whose: Whose,
    number: u64,
    waiting: Waiting,
    loader: Loader,
    landed: bool,
}

/// A place in somebody's flight.
pub(crate) struct Waiter {
    key: Arc<str>,
    landing: oneshot::Receiver<Result<Loaded>>,
}

/// Who loads what.
pub(crate) struct Begun {
    /// To be loaded by the caller, in the order of the keys.
    pub(crate) mine: Vec<FlightGuard>,
    /// Being loaded by others.
    pub(crate) others: Vec<Waiter>,
}

enum Role {
    Mine(FlightGuard),
    Other(Waiter),
}

impl Loader {
    /// Nothing in flight.
    pub(crate) fn new(counters: Arc<Counters>) -> Loader {
        Loader(Arc::new(Inner { flights: Default::default(), begun: AtomicU64::new(0), counters }))
    }

    /// Joins the flights of the keys that have one and begins one for each of the others. A key named twice is flown
    /// once.
    ///
    /// # Errors
    /// `Overloaded` when too many flights are under way; none was begun then.
    pub(crate) fn begin(&self, whose: Whose, keys: &[Arc<str>]) -> Result<Begun> {
        let mut begun = Begun { mine: Vec::with_capacity(keys.len()), others: Vec::new() };
        let waiting = Waiting::default();
        let mut flights = self.flights(whose).lock();
        if flights.len() + keys.len() > MAX_FLIGHTS {
            drop(flights);
            return Err(overloaded());
        }
        for key in keys {
            match self.role(whose, &mut flights, &waiting, key) {
                Role::Mine(guard) => begun.mine.push(guard),
                Role::Other(waiter) => begun.others.push(waiter),
            }
        }
        drop(flights);
        self.0.counters.waits.add(begun.others.len() as u64);
        Ok(begun)
    }

    /// Loads one key, or waits for whoever does. `load` runs to its end even if every caller stops waiting.
    ///
    /// `load` should have a time limit of its own, not its caller's: others may join who can wait longer.
    pub(crate) async fn load<F>(
        &self,
        whose: Whose,
        key: &Arc<str>,
        load: impl FnOnce() -> F,
    ) -> Result<Loaded>
    where
        F: Future<Output = Result<Loaded>> + Send + 'static,
    {
        loop {
            let Begun { mine, others } = self.begin(whose, std::slice::from_ref(key))?;
            if let Some(guard) = mine.into_iter().next() {
                return guard.fly(load()).await;
            }
            for waiter in others {
                if let Some(landed) = waiter.wait().await {
                    return landed;
                }
            }
        }
    }

    /// Detaches a key's flight: those in it keep it, nobody joins it any more.
    pub(crate) fn forget(&self, key: &str) {
        self.0.flights.iter().for_each(|flights| drop(flights.lock().remove(key)));
    }

    /// Detaches every flight.
    pub(crate) fn forget_all(&self) {
        self.0.flights.iter().for_each(|flights| flights.lock().clear());
    }

    /// Flights that can be joined.
    #[cfg(test)]
    pub(crate) fn flying(&self) -> usize {
        self.0.flights.iter().map(|flights| flights.lock().len()).sum()
    }

    fn flights(&self, whose: Whose) -> &Flights {
        &self.0.flights[whose as usize]
    }

    fn role(
        &self,
        whose: Whose,
        flights: &mut HashMap<Arc<str>, Flight>,
        waiting: &Waiting,
        key: &Arc<str>,
    ) -> Role {
        if let Some(Flight { number, waiting }) = flights.get(key) {
            let (sender, landing) = oneshot::channel();
            let mut waiting = waiting.lock();
            let waiters = waiting.entry(*number).or_default();
            if waiters.len() == waiters.capacity() {
                // Before it grows, those leave who have stopped waiting.
                waiters.retain(|waiter| !waiter.is_closed());
            }
            waiters.push(sender);
            return Role::Other(Waiter { key: key.clone(), landing });
        }
        let number = self.0.begun.fetch_add(1, Ordering::Relaxed);
        flights.insert(key.clone(), Flight { number, waiting: waiting.clone() });
        let (key, waiting, loader) = (key.clone(), waiting.clone(), self.clone());
        Role::Mine(FlightGuard { key, whose, number, waiting, loader, landed: false })
    }
}

fn overloaded() -> Error {
    Error::new(
        ErrorKind::Overloaded,
        format!("more than {MAX_FLIGHTS} loads from the database are under way"),
    )
}

impl FlightGuard {
    /// The key to load.
    pub(crate) fn key(&self) -> &Arc<str> {
        &self.key
    }

    /// Lands: gives the result to everybody in the flight.
    pub(crate) fn complete(mut self, result: &Result<Loaded>) {
        self.landed = true;
        for waiter in self.leave() {
            let _ = waiter.send(result.clone());
        }
    }

    /// Runs the load to its end and lands.
    pub(crate) fn fly(
        self,
        load: impl Future<Output = Result<Loaded>> + Send + 'static,
    ) -> impl Future<Output = Result<Loaded>> + Send {
        detached(async move {
            let result = load.await;
            self.complete(&result);
            result
        })
    }

    /// Takes the flight out of sight and gives who is in it: a reader either is among them or begins anew.
    fn leave(&self) -> Vec<oneshot::Sender<Result<Loaded>>> {
        let mut flights = self.loader.flights(self.whose).lock();
        if let Some((key, flight)) = flights.remove_entry(&self.key)
            && flight.number != self.number
        {
            // After a `forget` another flight has taken the place.
            flights.insert(key, flight);
        }
        drop(flights);
        self.waiting.lock().remove(&self.number).unwrap_or_default()
    }
}

impl Drop for FlightGuard {
    fn drop(&mut self) {
        if !self.landed {
            self.leave();
        }
    }
}

impl Waiter {
    /// The key that is being loaded.
    pub(crate) fn key(&self) -> &Arc<str> {
        &self.key
    }

    /// The result of the flight; `None` if it was given up, so that the key should be begun anew.
    pub(crate) async fn wait(self) -> Option<Result<Loaded>> {
        self.landing.await.ok()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use tokio::sync::oneshot;

    use super::*;

    fn loader() -> Loader {
        Loader::new(Arc::new(Counters::default()))
    }

    fn value(text: &'static str) -> Result<Loaded> {
        Ok(Some(Bytes::from_static(text.as_bytes())))
    }

    #[tokio::test]
    async fn many_readers_one_load() {
        let (loader, key) = (loader(), Arc::<str>::from("a"));
        let loads = Arc::new(AtomicU32::new(0));
        let readers = (0..100).map(|_| {
            let (loader, key, loads) = (loader.clone(), key.clone(), loads.clone());
            async move {
                let load = || async move {
                    loads.fetch_add(1, Ordering::SeqCst);
                    tokio::task::yield_now().await;
                    value("v")
                };
                loader.load(Whose::Engine, &key, load).await
            }
        });
        for result in futures_util::future::join_all(readers).await {
            assert_eq!(result.unwrap(), value("v").unwrap());
        }
        assert_eq!(loads.load(Ordering::SeqCst), 1);
        assert_eq!(loader.0.counters.waits.get(), 99);
        assert_eq!(loader.flying(), 0);
    }

    #[tokio::test]
    async fn an_error_is_told_to_everybody_once() {
        let (loader, key) = (loader(), Arc::<str>::from("a"));
        let fail = || async { Err(Error::new(ErrorKind::Store, "down")) };
        let (first, second) = futures_util::future::join(
            loader.load(Whose::Engine, &key, fail),
            loader.load(Whose::Engine, &key, fail),
        )
        .await;
        assert_eq!(first.unwrap_err().kind(), ErrorKind::Store);
        assert_eq!(second.unwrap_err().kind(), ErrorKind::Store);
        assert_eq!(
            loader.load(Whose::Engine, &key, || async { value("v") }).await.unwrap(),
            value("v").unwrap(),
            "not kept"
        );
    }

    #[tokio::test]
    #[allow(clippy::disallowed_methods)]
    async fn a_cancelled_leader_fails_nobody() {
        let (loader, key) = (loader(), Arc::<str>::from("a"));
        let (open, gate) = oneshot::channel::<()>();
        let (started_sender, started) = oneshot::channel::<()>();
        let leader = {
            let (loader, key) = (loader.clone(), key.clone());
            tokio::spawn(async move {
                let load = || async move {
                    started_sender.send(()).unwrap();
                    gate.await.unwrap();
                    value("v")
                };
                loader.load(Whose::Engine, &key, load).await
            })
        };
        started.await.unwrap();
        let waiter = loader
            .begin(Whose::Engine, std::slice::from_ref(&key))
            .unwrap()
            .others
            .pop()
            .expect("a flight to join");
        leader.abort();
        assert!(leader.await.unwrap_err().is_cancelled());
        open.send(()).unwrap();
        assert_eq!(waiter.wait().await.unwrap().unwrap(), value("v").unwrap());
    }

    #[tokio::test]
    async fn a_forgotten_flight_is_kept_by_its_waiters_and_joined_by_nobody() {
        let (loader, key) = (loader(), Arc::<str>::from("a"));
        let old = loader.begin(Whose::Engine, std::slice::from_ref(&key)).unwrap().mine.pop().unwrap();
        let early = loader.begin(Whose::Engine, std::slice::from_ref(&key)).unwrap().others.pop().unwrap();
        loader.forget(&key);
        let new = loader
            .begin(Whose::Engine, std::slice::from_ref(&key))
            .unwrap()
            .mine
            .pop()
            .expect("a flight of its own");
        old.complete(&value("old"));
        assert_eq!(early.wait().await.unwrap().unwrap(), value("old").unwrap());
        assert_eq!(loader.flying(), 1, "the old flight's end leaves the new one alone");
        let late = loader
            .begin(Whose::Engine, std::slice::from_ref(&key))
            .unwrap()
            .others
            .pop()
            .expect("the new flight");
        new.complete(&value("new"));
        assert_eq!(late.wait().await.unwrap().unwrap(), value("new").unwrap());
        assert_eq!(loader.flying(), 0);
    }

    #[tokio::test]
    async fn a_guard_given_up_sends_its_waiters_to_begin_anew() {
        let (loader, key) = (loader(), Arc::<str>::from("a"));
        let guard = loader.begin(Whose::Engine, std::slice::from_ref(&key)).unwrap().mine.pop().unwrap();
        let reader = loader.load(Whose::Engine, &key, || async { value("second") });
        let (read, ()) = futures_util::future::join(reader, async { drop(guard) }).await;
        assert_eq!(read.unwrap(), value("second").unwrap());
        assert_eq!(loader.flying(), 0);
    }

    #[tokio::test]
    async fn a_panic_is_an_error_of_its_own_caller() {
        let (loader, key) = (loader(), Arc::<str>::from("a"));
        let bad = loader.load(Whose::Engine, &key, || async { panic!("boom") }).await;
        assert_eq!(bad.unwrap_err().kind(), ErrorKind::Internal);
        assert_eq!(loader.flying(), 0);
    }

    #[test]
    fn a_batch_joins_what_flies_and_begins_the_rest() {
        let loader = loader();
        let keys: Vec<Arc<str>> = ["a", "b", "c", "b"].map(Arc::from).to_vec();
        let first = loader.begin(Whose::Engine, &keys[..1]).unwrap();
        let batch = loader.begin(Whose::Engine, &keys).unwrap();
        let names = |guards: &[FlightGuard]| guards.iter().map(|it| it.key().to_string()).collect::<Vec<_>>();
        assert_eq!(names(&first.mine), ["a"]);
        assert_eq!(names(&batch.mine), ["b", "c"]);
        assert_eq!(batch.others.iter().map(|it| it.key().to_string()).collect::<Vec<_>>(), ["a", "b"]);
        drop((first, batch));
        assert_eq!(loader.flying(), 0);
    }

    #[tokio::test]
    async fn callers_and_the_strict_fly_apart_and_a_write_detaches_all() {
        let (loader, key) = (loader(), Arc::<str>::from("a"));
        let keys = std::slice::from_ref(&key);
        let engines = loader.begin(Whose::Engine, keys).unwrap().mine.pop().unwrap();
        let _strict = loader.begin(Whose::Strict, keys).unwrap().mine.pop().expect("its own");
        let callers = loader.begin(Whose::Caller, keys).unwrap().mine.pop().expect("its own");
        let waiter = loader.begin(Whose::Caller, keys).unwrap().others.pop().unwrap();
        engines.complete(&Ok(None));
        assert_eq!(loader.flying(), 2);
        loader.forget(&key);
        assert_eq!(loader.flying(), 0);
        callers.complete(&value("v"));
        assert_eq!(waiter.wait().await.unwrap().unwrap(), value("v").unwrap());
    }

    #[test]
    fn flights_are_bounded() {
        let loader = loader();
        let keys: Vec<Arc<str>> = (0..MAX_FLIGHTS).map(|n| n.to_string().into()).collect();
        let all = loader.begin(Whose::Engine, &keys).unwrap();
        assert_eq!(loader.begin(Whose::Engine, &["x".into()]).err().unwrap().kind(), ErrorKind::Overloaded);
        drop(all);
        assert!(loader.begin(Whose::Engine, &["x".into()]).is_ok());
    }
}
