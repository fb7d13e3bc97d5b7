//! A script about one key that many callers run at once: their runs go together, in one command.
//!
//! ```text
//! few under way    ─▶ its own command, at once
//! many under way   ─▶ waits for its turn ─▶ one command with all that has come meanwhile
//! ```
//! So nobody waits for a timer, and the price of a command and of what a script publishes is shared as soon as Redis is what
//! all of them wait for. Nor does anybody wait for another caller, who may have stopped polling: what goes together is sent
//! by tasks of its own. In a cluster each run goes by itself: what one script is about has to lie on one node.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use ::redis::Value;
use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::base::{Deadline, service};
use crate::error::{Error, ErrorKind, Result};
use crate::redis::Redis;
use crate::redis::commands::{Script, number};
use crate::redis::failure::Failure;

/// Runs that go by themselves at once.
const BY_THEMSELVES: usize = 8;
/// Commands under way with runs that go together.
const ABREAST: usize = 4;
/// Bytes of a run that always goes by itself: sharing a command saves it little, and would hold up the others.
const LONG: usize = 16 * 1024;

/// The two forms of a script whose answer is a number: about one key, and about many.
pub(crate) struct Together {
    one: Script,
    /// Takes a list of keys and, behind the argument that all share, each one's own arguments; answers with a list, in which a
    /// string is the code of an error.
    many: Script,
    at_most: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    by_themselves: usize,
    senders: usize,
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
    has_left: bool,
}

impl Together {
    /// Of both forms; the second one is about `at_most` keys at once.
    pub(crate) fn new(one: &'static str, many: &'static str, at_most: usize) -> Together {
        Together { one: Script::new(one), many: Script::new(many), at_most, state: Mutex::default() }
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
        let sender = (state.senders < ABREAST).then(|| {
            state.senders += 1;
            Sender { together: self.clone(), has_left: false }
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
    /// Those whose turn it is. If there are none, the sender has left at the same moment.
    fn turn(&mut self) -> Vec<Run> {
        let mut state = self.together.state.lock();
        let mut turn = Vec::new();
        while turn.len() < self.together.at_most
            && let Some(run) = state.waiting.pop_front()
        {
            // Who went away does not want it any more.
            if !run.answer.is_closed() {
                turn.push(run);
            }
        }
        if turn.is_empty() {
            state.senders -= 1;
            self.has_left = true;
        }
        turn
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        if !self.has_left {
            self.together.state.lock().senders -= 1;
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
        let by_itself = if length >= LONG || self.0.link.masters().is_some() {
            None
        } else {
            match script.enter(key, args) {
                Way::ByItself(place) => Some(place),
                Way::Together(waiting, sender) => {
                    if let Some(sender) = sender {
                        self.start(sender, shared);
                    }
                    return self.wait_for(script, waiting, deadline).await;
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
            loop {
                let turn = sender.turn();
                if turn.is_empty() {
                    return Ok(());
                }
                redis.run_all(&sender.together, &shared, turn).await;
            }
        }));
    }

    /// Half the time of a command until it is sent, then as long as that takes: so a caller with one and a half of it learns
    /// the end of what was sent, and no change comes after its caller has counted it as failed.
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
            Err(_) => Err(Failure::Silent(patience).of_command(self.endpoint())),
        }
    }

    async fn run_all(&self, script: &Together, shared: &[u8], runs: Vec<Run>) {
        let keys: Vec<&str> = runs.iter().map(|run| run.key.as_str()).collect();
        let own = runs.iter().flat_map(|run| run.args.iter());
        let args: Vec<&[u8]> = std::iter::once(shared).chain(own).collect();
        // Whoever has less time than a command waits for his part of it only.
        let none = Deadline::after(Duration::MAX);
        let answers = match self.eval(&script.many, &keys, &args, none).await {
            Ok(Value::Array(answers)) if answers.len() == runs.len() => Ok(answers),
            Ok(other) => Err(self.unexpected("EVAL", &other)),
            Err(error) => Err(error),
        };
        match answers {
            Ok(answers) => {
                for (run, answer) in runs.into_iter().zip(answers) {
                    drop(run.answer.send(number(&answer).ok_or_else(|| self.refused(&answer))));
                }
            }
            Err(error) => runs.into_iter().for_each(|run| drop(run.answer.send(Err(error.clone())))),
        }
    }

    fn refused(&self, answer: &Value) -> Error {
        match answer {
            Value::BulkString(code) => {
                let code = String::from_utf8_lossy(code);
                Error::new(ErrorKind::Cache, format!("Redis at {}: {code}", self.endpoint()))
            }
            other => self.unexpected("EVAL", other),
        }
    }
}
