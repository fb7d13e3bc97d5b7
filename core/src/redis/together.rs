//! A script about one key that many callers run at once: their runs go together, in one command.
//!
//! ```text
//! few under way    ─▶ its own command, at once
//! many under way   ─▶ waits for its turn ─▶ one command with all that has come meanwhile
//! ```
//! So nobody waits for a timer, and the price of a command and of what a script publishes is shared as soon as Redis is what
//! all of them wait for. Nor does anybody wait for another caller, who may have stopped polling: what goes together is sent
//! by tasks of its own, on the runtime of whoever came first. In a cluster each run goes by itself: what one script is about
//! has to lie on one node.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ::redis::Value;
use futures_util::future::join_all;
use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::base::{Deadline, service};
use crate::error::{Error, ErrorKind, Result};
use crate::redis::Redis;
use crate::redis::commands::{Script, number};
use crate::redis::failure::{self, Failure};

/// Runs that go by themselves at once.
const BY_THEMSELVES: usize = 8;
/// Commands that are sent with whatever waits; further ones only with as many runs as a command may have.
const ABREAST: usize = 2;
/// Runs that may be under way together: as many as the engine does in one flight, so that a Redis far away is not slower for
/// it than with a command for each.
const UNDER_WAY: usize = 512;
/// Bytes of a run that always goes by itself: sharing a command saves it little, and would hold up the others.
const LONG: usize = 16 * 1024;

/// The two forms of a script whose answer is a number: about one key, and about many.
pub(crate) struct Together {
    one: Script,
    /// Takes a list of keys and, behind the argument that all share, each one's own arguments; answers with a list, in which a
    /// string is the code of an error.
    many: Script,
    at_most: usize,
    /// The server wants what one script is about to lie in one slot: it is a cluster behind one address.
    scattered: AtomicBool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    by_themselves: usize,
    senders: usize,
    /// Those of them whose command is under way.
    sending: usize,
    /// In the order of their tickets.
    waiting: VecDeque<Run>,
    tickets: u64,
}

/// A run that waits.
struct Run {
    ticket: u64,
    key: String,
    args: Flat,
    answer: oneshot::Sender<Result<i64>>,
}

/// Arguments one behind the other: keeping each by itself would cost as much as sending it.
struct Flat {
    bytes: Vec<u8>,
    lengths: Vec<usize>,
}

impl Flat {
    fn of(args: &[&[u8]]) -> Flat {
        Flat { bytes: args.concat(), lengths: args.iter().map(|arg| arg.len()).collect() }
    }

    fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.lengths.iter().scan(&self.bytes[..], |rest, &length| {
            let (arg, next) = rest.split_at_checked(length)?;
            *rest = next;
            Some(arg)
        })
    }
}

/// How a run goes.
enum Way<'a> {
    ByItself(ByItself<'a>),
    /// It waits; if there is a sender, the caller has to start it.
    Together(Waiting, Option<Sender>),
}

/// What the caller of a run that waits has of it.
struct Waiting {
    ticket: u64,
    answer: oneshot::Receiver<Result<i64>>,
}

/// A run that goes by itself, until it is back or its caller went away.
struct ByItself<'a>(&'a Together);

/// Whoever sends what waits, until nothing does.
struct Sender {
    together: Arc<Together>,
    is_sending: bool,
    has_left: bool,
}

impl Together {
    /// Of both forms; the second one is about `at_most` keys at once.
    pub(crate) fn new(one: &'static str, many: &'static str, at_most: usize) -> Together {
        let (one, many) = (Script::new(one), Script::new(many));
        Together { one, many, at_most, scattered: AtomicBool::new(false), state: Mutex::default() }
    }

    fn enter(self: &Arc<Together>, key: &str, args: &[&[u8]]) -> Way<'_> {
        let mut state = self.state.lock();
        if state.senders == 0 && state.by_themselves < BY_THEMSELVES {
            state.by_themselves += 1;
            return Way::ByItself(ByItself(self));
        }
        let (sender, answer) = oneshot::channel();
        let args = Flat::of(args);
        state.tickets += 1;
        let ticket = state.tickets;
        state.waiting.push_back(Run { ticket, key: key.to_owned(), args, answer: sender });
        let free = state.senders - state.sending;
        let full =
            state.waiting.len() >= self.at_most * (free + 1) && state.senders < UNDER_WAY / self.at_most;
        let sender = (full || free == 0 && state.senders < ABREAST).then(|| {
            state.senders += 1;
            Sender { together: self.clone(), is_sending: false, has_left: false }
        });
        Way::Together(Waiting { ticket, answer }, sender)
    }

    /// Takes a run back; says whether it still waited.
    fn take_back(&self, ticket: u64) -> bool {
        let mut state = self.state.lock();
        let found = state.waiting.binary_search_by_key(&ticket, |run| run.ticket);
        found.is_ok_and(|at| state.waiting.remove(at).is_some())
    }
}

impl Drop for ByItself<'_> {
    fn drop(&mut self) {
        self.0.state.lock().by_themselves -= 1;
    }
}

impl Sender {
    /// Back from sending. Says whether nobody waits; the sender has left then, at the same moment.
    fn is_done(&mut self) -> bool {
        let mut state = self.together.state.lock();
        state.sending -= usize::from(std::mem::take(&mut self.is_sending));
        if state.waiting.is_empty() {
            state.senders -= 1;
            self.has_left = true;
        }
        self.has_left
    }

    /// Those whose turn it is.
    fn turn(&mut self) -> Vec<Run> {
        let mut state = self.together.state.lock();
        state.sending += 1;
        self.is_sending = true;
        let mut turn = Vec::new();
        while turn.len() < self.together.at_most
            && let Some(run) = state.waiting.pop_front()
        {
            // Who went away does not want it any more.
            if !run.answer.is_closed() {
                turn.push(run);
            }
        }
        turn
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        if !self.has_left {
            let mut state = self.together.state.lock();
            state.sending -= usize::from(self.is_sending);
            state.senders -= 1;
        }
    }
}

impl Redis {
    /// Runs a script about one key, alone or together with others that came at the same time. `shared` is the same at every
    /// run of the script, and there are equally many `args`.
    pub(crate) async fn eval_together(
        &self,
        script: &Arc<Together>,
        key: &str,
        shared: &[u8],
        args: &[&[u8]],
        deadline: Deadline,
    ) -> Result<i64> {
        let length = args.iter().map(|arg| arg.len()).sum::<usize>();
        let goes_alone = length >= LONG || self.0.link.masters().is_some();
        let by_itself = if goes_alone || script.scattered.load(Ordering::Relaxed) {
            None
        } else {
            match script.enter(key, args) {
                Way::ByItself(place) => Some(place),
                Way::Together(waiting, sender) => {
                    if let Some(sender) = sender {
                        self.start(sender, shared);
                    }
                    // Boxed, as every call would carry the room for it.
                    return Box::pin(self.wait_for(script, waiting, deadline)).await;
                }
            }
        };
        let args: Vec<&[u8]> = std::iter::once(shared).chain(args.iter().copied()).collect();
        let answer = self.eval_int(&script.one, &[key], &args, deadline).await;
        drop(by_itself);
        answer
    }

    fn start(&self, mut sender: Sender, shared: &[u8]) {
        let (redis, shared) = (self.clone(), shared.to_vec());
        drop(service::detached(async move {
            while !sender.is_done() {
                // Before it takes anybody along: who waits may still go away, and what is under way cannot be stopped.
                let connected = redis.is_connected().await;
                let turn = sender.turn();
                match connected {
                    Ok(()) if turn.is_empty() => {}
                    Ok(()) => redis.run_all(&sender.together, &shared, turn).await,
                    Err(error) => fail(turn, &error),
                }
            }
            Ok(())
        }));
    }

    /// Half the time of a command until it is sent, then as long as that takes. A caller who has two of them learns the end of
    /// what was sent, so that no change comes after he has counted it as failed.
    async fn wait_for(&self, script: &Together, mut waiting: Waiting, deadline: Deadline) -> Result<i64> {
        let patience = self.0.command_timeout / 2;
        let answer = match deadline.at_most(patience).run("", &mut waiting.answer).await {
            Ok(answer) => Ok(answer),
            Err(_) if !script.take_back(waiting.ticket) => deadline.run("", waiting.answer).await,
            Err(late) => Err(late),
        };
        match answer {
            Ok(answer) => answer.unwrap_or_else(|_| Err(Error::closed())),
            Err(_) if deadline.passed() => Err(Failure::Late(deadline).of_command(self.endpoint())),
            Err(_) => {
                let endpoint = self.endpoint();
                let told =
                    format!("a command for Redis at {endpoint} waited for {patience:?} and was not sent");
                Err(Error::new(ErrorKind::Cache, told).with_unsent())
            }
        }
    }

    async fn run_all(&self, script: &Together, shared: &[u8], runs: Vec<Run>) {
        let keys: Vec<&str> = runs.iter().map(|run| run.key.as_str()).collect();
        let own = runs.iter().flat_map(|run| run.args.iter());
        let args: Vec<&[u8]> = std::iter::once(shared).chain(own).collect();
        let within = self.0.command_timeout;
        // The time of one command, also where the server has to be given the text first.
        let deadline = Deadline::after(within);
        let answers = match self.eval_or_fail(&script.many, &keys, &args, deadline).await {
            Ok(Value::Array(answers)) if answers.len() == runs.len() => Ok(answers),
            Ok(other) => Err(self.unexpected("EVAL", &other)),
            Err(failure) if failure.is_about_keys() => {
                if failure.is_about_slots() {
                    script.scattered.store(true, Ordering::Relaxed);
                }
                return self.run_each(script, shared, runs, deadline).await;
            }
            Err(Failure::Late(_)) => Err(Failure::Silent(within).of_command(self.endpoint())),
            Err(failure) => Err(failure.of_command(self.endpoint())),
        };
        match answers {
            Ok(answers) => {
                for (run, answer) in runs.into_iter().zip(answers) {
                    drop(run.answer.send(number(&answer).ok_or_else(|| self.refused(&answer))));
                }
            }
            Err(error) => fail(runs, &error),
        }
    }

    /// What was refused as a whole, before it began, because of some of its keys.
    async fn run_each(&self, script: &Together, shared: &[u8], runs: Vec<Run>, deadline: Deadline) {
        let each = runs.into_iter().map(async |run| {
            let args: Vec<&[u8]> = std::iter::once(shared).chain(run.args.iter()).collect();
            let answer = self.eval_int(&script.one, &[&run.key], &args, deadline).await;
            drop(run.answer.send(answer));
        });
        join_all(each).await;
    }

    fn refused(&self, answer: &Value) -> Error {
        match answer {
            Value::BulkString(code) => {
                let what = match &code[..] {
                    b"NOPERM" => failure::FORBIDDEN_IN_SCRIPT.into(),
                    code => String::from_utf8_lossy(code),
                };
                Error::new(ErrorKind::Cache, format!("Redis at {}: {what}", self.endpoint()))
            }
            other => self.unexpected("EVAL", other),
        }
    }
}

fn fail(runs: Vec<Run>, error: &Error) {
    runs.into_iter().for_each(|run| drop(run.answer.send(Err(error.clone()))));
}
