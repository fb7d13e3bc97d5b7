//! One connection at a time: made by the first command that needs it, and anew by the first one after its loss.
//!
//! Each has a number, which moves before the first command can be sent on it, and knows which run of which server it leads
//! to. So whoever keeps what a server said can tell whether he is still talking to the same one.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ::redis::aio::{ConnectionLike, MultiplexedConnection};
use ::redis::{AsyncConnectionConfig, Client, Cmd, RedisError, RedisResult, Value, cmd};
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::base::Clock;
use crate::redis::commands::find_in_info;

/// Commands that can wait for the connection at once before senders wait for room; the crate's 50 is for less.
const SEND_QUEUE: usize = 1_024;

/// A server as one connection saw it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Server {
    /// The number of the connection; 0 before the first.
    pub(crate) number: u64,
    /// What the server calls this run of it; empty if it may not be asked.
    pub(crate) run: Arc<str>,
    /// Whether that is so now: not of a cluster of which a part cannot be asked, and may have become another one.
    pub(crate) is_current: bool,
}

pub(super) struct Connection {
    client: Client,
    connect_timeout: Duration,
    clock: Clock,
    current: Mutex<Option<Attempt>>,
    attempts: AtomicU64,
    server: watch::Sender<Server>,
}

/// A connection, or the way to it. Whoever needs it helps it along.
#[derive(Clone)]
struct Attempt {
    number: u64,
    made_at_ms: u64,
    connection: Shared<BoxFuture<'static, RedisResult<MultiplexedConnection>>>,
}

impl Connection {
    /// Not made yet.
    pub(super) fn new(client: Client, connect_timeout: Duration, clock: Clock) -> Connection {
        let server = watch::Sender::new(Server { number: 0, run: "".into(), is_current: true });
        Connection {
            client,
            connect_timeout,
            clock,
            current: Mutex::new(None),
            attempts: AtomicU64::new(0),
            server,
        }
    }

    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    /// The server of the last connection that was made.
    pub(super) fn server(&self) -> watch::Receiver<Server> {
        self.server.subscribe()
    }

    /// Sends a command, once.
    pub(super) async fn send(&self, cmd: &Cmd) -> RedisResult<Value> {
        loop {
            let Attempt { number, connection, .. } = self.attempt();
            // An attempt that failed is not repeated from memory.
            let mut connection = connection.await.inspect_err(|_| self.give_up(number))?;
            // One that took so long that another was begun leads nobody knows where.
            if self.is_current(number) {
                let sent = connection.req_packed_command(cmd).await;
                return sent.inspect_err(|error| {
                    if is_lost(error) {
                        self.give_up(number);
                    }
                });
            }
        }
    }

    /// Waits for the way to a connection.
    pub(super) async fn is_made(&self) -> RedisResult<()> {
        let Attempt { number, connection, .. } = self.attempt();
        connection.await.map(|_| ()).inspect_err(|_| self.give_up(number))
    }

    /// Gives up what is there, once a second at most; the next command makes another one.
    pub(super) fn renew(&self) {
        let mut current = self.current.lock();
        let now = self.clock.mono_ms();
        if current.as_ref().is_some_and(|it| now.saturating_sub(it.made_at_ms) >= 1_000) {
            *current = None;
        }
    }

    fn is_current(&self, number: u64) -> bool {
        self.current.lock().as_ref().is_some_and(|attempt| attempt.number == number)
    }

    fn give_up(&self, number: u64) {
        let mut current = self.current.lock();
        if current.as_ref().is_some_and(|attempt| attempt.number == number) {
            *current = None;
        }
    }

    fn attempt(&self) -> Attempt {
        let mut current = self.current.lock();
        let make = || {
            let number = self.attempts.fetch_add(1, Ordering::Relaxed) + 1;
            let connection = connect(self.client.clone(), self.connect_timeout, self.server.clone(), number);
            Attempt { number, made_at_ms: self.clock.mono_ms(), connection: connection.boxed().shared() }
        };
        current.get_or_insert_with(make).clone()
    }
}

/// Never times a command out: that would add to what [`crate::redis::Redis::send`] allows.
async fn connect(
    client: Client,
    within: Duration,
    server: watch::Sender<Server>,
    number: u64,
) -> RedisResult<MultiplexedConnection> {
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(within))
        .set_response_timeout(None)
        .set_pipeline_buffer_size(SEND_QUEUE);
    let mut connection = client.get_multiplexed_async_connection_with_config(&config).await?;
    let run =
        match connection.req_packed_command(cmd("INFO").arg("server")).await.and_then(Value::extract_error) {
            Ok(info) => find_in_info(&info, "run_id").unwrap_or_default(),
            // A user whose ACL forbids INFO still connects.
            Err(error) if error.code() == Some("NOPERM") => String::new(),
            Err(error) => return Err(error),
        };
    server.send_if_modified(|known| {
        let newer = known.number < number;
        if newer {
            *known = Server { number, run: run.into(), is_current: true };
        }
        newer
    });
    Ok(connection)
}

fn is_lost(error: &RedisError) -> bool {
    error.is_unrecoverable_error() || error.is_io_error()
}
