//! One server or a cluster: send a command, reconnect.

use std::future::Future;
use std::time::Duration;

use ::redis::{Client, Cmd, ConnectionAddr, ConnectionInfo, RedisError, RedisResult, Value, cmd};
use tokio::sync::watch;

use crate::base::{Clock, Deadline};
use crate::config::{RedisAddr, Secret};
use crate::error::Result;
use crate::redis::cluster::Cluster;
use crate::redis::connection::{Connection, Server};
use crate::redis::failure::{self, Failure};
use crate::redis::masters::Masters;
use crate::redis::silence::Silence;
use crate::redis::{Redis, RedisSettings, address};

/// Whether a command whose connection was lost may be sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Repeat {
    /// Reads and drops: doing it twice does no harm.
    Safe,
    /// Anything that an older writer must not do after a newer one.
    Never,
}

pub(super) enum Link {
    Single(Box<Single>),
    Cluster(Box<Cluster>),
}

pub(super) struct Single {
    connection: Connection,
    silence: Silence,
    endpoint: String,
}

impl Link {
    /// A link that connects with its first command.
    pub(super) fn new(settings: &RedisSettings) -> Result<Link> {
        match &settings.addr {
            RedisAddr::Single(addr) => Ok(Link::Single(Box::new(Single::new(addr, settings)?))),
            RedisAddr::Cluster(nodes) => Ok(Link::Cluster(Box::new(Cluster::new(nodes, settings)?))),
        }
    }

    pub(super) fn endpoint(&self) -> &str {
        match self {
            Link::Single(single) => &single.endpoint,
            Link::Cluster(cluster) => &cluster.endpoint,
        }
    }

    /// The server, as the last connection to it saw it; of a cluster all masters as one, as the last survey saw them.
    pub(super) fn server(&self) -> watch::Receiver<Server> {
        match self {
            Link::Single(single) => single.connection.server(),
            Link::Cluster(cluster) => cluster.masters.server(),
        }
    }

    /// The way to the only server.
    pub(super) fn client(&self) -> Option<&Client> {
        match self {
            Link::Single(single) => Some(single.connection.client()),
            Link::Cluster(_) => None,
        }
    }

    /// The masters of a cluster.
    pub(super) fn masters(&self) -> Option<&Masters> {
        match self {
            Link::Single(_) => None,
            Link::Cluster(cluster) => Some(&cluster.masters),
        }
    }

    /// Sends to whichever node the command's keys belong to.
    async fn send(&self, cmd: &Cmd) -> RedisResult<Value> {
        match self {
            Link::Single(single) => single.connection.send(cmd).await,
            Link::Cluster(cluster) => cluster.send(cmd).await,
        }
        .and_then(Value::extract_error)
    }

    /// Sends a command without keys to one and the same node each time.
    async fn send_to_first(&self, cmd: &Cmd) -> RedisResult<Value> {
        match self {
            Link::Single(_) => self.send(cmd).await,
            Link::Cluster(cluster) => cluster.send_to_first(cmd).await.and_then(Value::extract_error),
        }
    }

    /// After a command that was given up: makes a new connection if this one seems dead.
    fn note_silence(&self, waited: Duration) {
        match self {
            Link::Single(single) if single.silence.is_death_after(waited) => single.connection.renew(),
            Link::Cluster(cluster) if cluster.silence.is_death_after(waited) => cluster.renew(),
            _ => {}
        }
    }

    fn note_answer(&self) {
        match self {
            Link::Single(single) => single.silence.end(),
            Link::Cluster(cluster) => cluster.silence.end(),
        }
    }

    /// Whether this end of a command only says that it has waited for long enough: the crate's own limit, for each node of
    /// a cluster, is that of a command.
    fn is_silence(&self, done: &RedisResult<Value>) -> bool {
        matches!(self, Link::Cluster(_)) && done.as_ref().is_err_and(RedisError::is_timeout)
    }
}

impl Single {
    fn new(addr: &Secret, settings: &RedisSettings) -> Result<Single> {
        let info = parse(addr, settings)?;
        let endpoint = address::endpoint(info.addr());
        let client = open(info, settings, &endpoint)?;
        let clock = Clock::system();
        let silence = Silence::new(dead_after(settings), clock.clone());
        Ok(Single { connection: Connection::new(client, settings.connect_timeout, clock), silence, endpoint })
    }
}

/// Silence after which a connection counts as dead, whether its bytes arrive (seen here) or not (seen by the system).
pub(super) fn dead_after(settings: &RedisSettings) -> Duration {
    settings.command_timeout.saturating_mul(2).max(Duration::from_secs(1))
}

/// A client of one server.
pub(super) fn open(info: ConnectionInfo, settings: &RedisSettings, endpoint: &str) -> Result<Client> {
    let client = if is_tls(&info) {
        Client::build_with_tls(info, address::certificates(settings)?)
    } else {
        Client::open(info)
    };
    client.map_err(|error| Failure::Reported(error).at_connect(endpoint))
}

pub(super) fn parse(addr: &Secret, settings: &RedisSettings) -> Result<ConnectionInfo> {
    address::parse(addr.expose(), dead_after(settings))
}

pub(super) fn is_tls(info: &ConnectionInfo) -> bool {
    matches!(info.addr(), ConnectionAddr::TcpTls { .. })
}

impl Redis {
    /// Sends one command within the caller's deadline and the time of a command.
    pub(super) async fn send(&self, cmd: &Cmd, repeat: Repeat, deadline: Deadline) -> Result<Value> {
        let sent = self.send_within(cmd, repeat, deadline, self.0.command_timeout).await;
        sent.map_err(|failure| failure.of_command(self.endpoint()))
    }

    /// The same, to one and the same node of a cluster each time.
    pub(super) async fn send_to_first(&self, cmd: &Cmd, deadline: Deadline) -> Result<Value> {
        let sent = self.limited(
            deadline,
            self.0.command_timeout,
            self.twice(Repeat::Safe, || self.0.link.send_to_first(cmd)),
        );
        sent.await.map_err(|failure| failure.of_command(self.endpoint()))
    }

    /// Waits for the connection, no longer than for a command. One that was made before counts, whatever became of it.
    pub(super) async fn is_connected(&self) -> Result<()> {
        let Link::Single(single) = &self.0.link else { return Ok(()) };
        let within = self.0.command_timeout;
        let failure = match Deadline::after(within).run("", single.connection.is_made()).await {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(error)) => Failure::Reported(error),
            Err(_) => {
                self.0.link.note_silence(within);
                Failure::Silent(within)
            }
        };
        Err(failure.of_command(self.endpoint()))
    }

    /// Sees that it is there, and which server that is: after it, [`Redis::server`] is known. In a cluster every master
    /// has to answer.
    pub(crate) async fn look(&self, deadline: Deadline) -> Result<()> {
        match self.0.link.masters() {
            None => self.send(&cmd("PING"), Repeat::Safe, deadline).await.map(|_| ()),
            Some(masters) => {
                masters.survey(deadline).await.map_err(|failure| failure.of_command(self.endpoint()))
            }
        }
    }

    pub(super) async fn send_within(
        &self,
        cmd: &Cmd,
        repeat: Repeat,
        deadline: Deadline,
        within: Duration,
    ) -> Result<Value, Failure> {
        self.limited(deadline, within, self.twice(repeat, || self.0.link.send(cmd))).await
    }

    /// A second try on the connection that follows the lost one: the first command after an outage finds the old
    /// failure, and is the one that starts the new attempt.
    async fn twice<F: Future<Output = RedisResult<Value>>>(
        &self,
        repeat: Repeat,
        attempt: impl Fn() -> F,
    ) -> RedisResult<Value> {
        match attempt().await {
            // Boxed, as every call would carry the room for it.
            Err(error) if may_repeat(&error, repeat) => Box::pin(attempt()).await,
            other => other,
        }
    }

    async fn limited(
        &self,
        deadline: Deadline,
        within: Duration,
        work: impl Future<Output = RedisResult<Value>>,
    ) -> Result<Value, Failure> {
        let limit = deadline.at_most(within);
        let allowed = limit.remaining();
        let done = limit.run("", work).await;
        match &done {
            Ok(done) if !self.0.link.is_silence(done) => self.0.link.note_answer(),
            _ => self.0.link.note_silence(allowed),
        }
        match done {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => Err(Failure::Reported(error)),
            Err(_) if deadline.passed() => Err(Failure::Late(deadline)),
            Err(_) => Err(Failure::Silent(within)),
        }
    }
}

fn may_repeat(error: &RedisError, repeat: Repeat) -> bool {
    failure::was_never_sent(error) || (repeat == Repeat::Safe && failure::is_of_the_connection(error))
}
