//! One server or a cluster: send a command, reconnect.

use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ::redis::aio::ConnectionLike;
use ::redis::cluster::{ClusterClient, ClusterConfig};
use ::redis::cluster_async::ClusterConnection;
use ::redis::cluster_routing::{Route, RoutingInfo, SingleNodeRoutingInfo, SlotAddr};
use ::redis::{
    Client, Cmd, ConnectionAddr, ConnectionInfo, ProtocolVersion, RedisError, RedisResult, Value, cmd,
};
use tokio::sync::watch;

use crate::base::{Clock, Deadline};
use crate::config::{RedisAddr, Secret};
use crate::error::{Error, Result};
use crate::redis::connection::{Connection, Server};
use crate::redis::failure::{self, Failure};
use crate::redis::masters::Masters;
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
    Cluster { connection: ClusterConnection, masters: Box<Masters>, endpoint: String },
}

pub(super) struct Single {
    connection: Connection,
    /// Since when nothing was answered, on the monotonic clock; 0 if the last command was.
    silent_since_ms: AtomicU64,
    dead_after: Duration,
    clock: Clock,
    endpoint: String,
}

impl Link {
    /// A link that connects with its first command.
    pub(super) fn new(settings: &RedisSettings) -> Result<Link> {
        match &settings.addr {
            RedisAddr::Single(addr) => Ok(Link::Single(Box::new(Single::new(addr, settings)?))),
            RedisAddr::Cluster(nodes) => new_cluster(nodes, settings),
        }
    }

    pub(super) fn endpoint(&self) -> &str {
        match self {
            Link::Single(single) => &single.endpoint,
            Link::Cluster { endpoint, .. } => endpoint,
        }
    }

    /// The server, as the last connection to it saw it; of a cluster all masters as one, as the last survey saw them.
    pub(super) fn server(&self) -> watch::Receiver<Server> {
        match self {
            Link::Single(single) => single.connection.server(),
            Link::Cluster { masters, .. } => masters.server(),
        }
    }

    /// The way to the only server.
    pub(super) fn client(&self) -> Option<&Client> {
        match self {
            Link::Single(single) => Some(single.connection.client()),
            Link::Cluster { .. } => None,
        }
    }

    /// The masters of a cluster.
    pub(super) fn masters(&self) -> Option<&Masters> {
        match self {
            Link::Single(_) => None,
            Link::Cluster { masters, .. } => Some(masters),
        }
    }

    /// Sends to whichever node the command's keys belong to.
    async fn send(&self, cmd: &Cmd) -> RedisResult<Value> {
        match self {
            Link::Single(single) => single.connection.send(cmd).await,
            Link::Cluster { connection, .. } => connection.clone().req_packed_command(cmd).await,
        }
        .and_then(Value::extract_error)
    }

    /// Sends a command without keys to one and the same node each time.
    async fn send_to_first(&self, cmd: &Cmd) -> RedisResult<Value> {
        match self {
            Link::Single(_) => self.send(cmd).await,
            Link::Cluster { connection, .. } => {
                let route = RoutingInfo::SingleNode(SingleNodeRoutingInfo::SpecificNode(Route::new(
                    0,
                    SlotAddr::Master,
                )));
                connection.clone().route_command(cmd.clone(), route).await.and_then(Value::extract_error)
            }
        }
    }

    /// After a command that was given up: makes a new connection if this one seems dead. The crate would wait on it for
    /// ever, and the system sees nothing wrong with a peer that takes bytes and never answers.
    fn note_silence(&self, waited: Duration) {
        if let Link::Single(single) = self {
            single.note_silence(waited);
        }
    }

    fn note_answer(&self) {
        if let Link::Single(single) = self
            && single.silent_since_ms.load(Ordering::Relaxed) != 0
        {
            single.silent_since_ms.store(0, Ordering::Relaxed);
        }
    }
}

impl Single {
    fn new(addr: &Secret, settings: &RedisSettings) -> Result<Single> {
        let info = parse(addr, settings)?;
        let endpoint = address::endpoint(info.addr());
        let client = if is_tls(&info) {
            Client::build_with_tls(info, address::certificates(settings)?)
        } else {
            Client::open(info)
        };
        let client = client.map_err(|error| Failure::Reported(error).at_connect(&endpoint))?;
        let clock = Clock::system();
        Ok(Single {
            connection: Connection::new(client, settings.connect_timeout, clock.clone()),
            silent_since_ms: AtomicU64::new(0),
            dead_after: dead_after(settings),
            clock,
            endpoint,
        })
    }

    fn note_silence(&self, waited: Duration) {
        let now = self.clock.mono_ms();
        let begun = now.saturating_sub(waited.as_millis() as u64).max(1);
        let first = self.silent_since_ms.compare_exchange(0, begun, Ordering::Relaxed, Ordering::Relaxed);
        let since = first.map_or_else(|since| since, |_| begun);
        if u128::from(now.saturating_sub(since)) >= self.dead_after.as_millis() {
            self.connection.renew();
        }
    }
}

/// Silence after which a connection counts as dead, whether its bytes arrive (seen here) or not (seen by the system).
fn dead_after(settings: &RedisSettings) -> Duration {
    settings.command_timeout.saturating_mul(2).max(Duration::from_secs(1))
}

fn new_cluster(nodes: &[Secret], settings: &RedisSettings) -> Result<Link> {
    let infos = nodes.iter().map(|node| parse(node, settings)).collect::<Result<Vec<_>>>()?;
    let Some(first) = infos.first().cloned() else {
        return Err(Error::config(
            "redis_addr: the list of cluster nodes is empty; name at least one host:port",
        ));
    };
    let endpoint = infos.iter().map(|info| address::endpoint(info.addr())).collect::<Vec<_>>().join(", ");
    let nodes = infos.iter().map(|info| {
        let (info, tls) = (info.clone(), is_tls(info));
        if tls { Client::build_with_tls(info, address::certificates(settings)?) } else { Client::open(info) }
            .map_err(|error| Failure::Reported(error).at_connect(&endpoint))
    });
    let nodes = nodes.collect::<Result<Vec<_>>>()?;
    let masters = Box::new(Masters::new(nodes, settings.connect_timeout, settings.command_timeout));
    let mut builder = ClusterClient::builder(infos)
        .retries(1)
        .min_retry_wait(10)
        .max_retry_wait(50)
        .tcp_settings(first.tcp_settings().clone());
    // With RESP2 the loss of a connection shows in the next survey only.
    if first.redis_settings().protocol() != ProtocolVersion::RESP2 {
        builder = builder.push_sender(masters.on_push());
    }
    if is_tls(&first) {
        builder = builder.certs(address::certificates(settings)?);
    }
    let client = builder.build().map_err(|error| Failure::Reported(error).at_connect(&endpoint))?;
    let config = ClusterConfig::new()
        .set_connection_timeout(settings.connect_timeout)
        .set_response_timeout(settings.command_timeout);
    Ok(Link::Cluster {
        connection: client.get_pending_async_connection_with_config(config),
        masters,
        endpoint,
    })
}

fn parse(addr: &Secret, settings: &RedisSettings) -> Result<ConnectionInfo> {
    address::parse(addr.expose(), dead_after(settings))
}

fn is_tls(info: &ConnectionInfo) -> bool {
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
            Err(error) if may_repeat(&error, repeat) => attempt().await,
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
            Ok(_) => self.0.link.note_answer(),
            Err(_) => self.0.link.note_silence(allowed),
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
