//! Redis: connection, reconnection, time and the few commands that the engine needs.
//!
//! Shared by `cache/` and the queue. This room alone knows the redis crate; nothing of it shows in a signature, so that
//! another driver, or another server that speaks the protocol, changes nothing outside.
//!
//! Invariants:
//! - Every command ends within `redis_timeout` and within the caller's deadline, with a typed error if it must:
//!   `Timeout` when the caller's deadline passed, `Cache` when Redis was away, slow or refused.
//! - A connection that was lost, or that takes commands and answers none, is replaced by itself. Nobody has to open the
//!   engine again.
//! - A command that changes something is never sent twice: only reads, drops, and what certainly was not sent, are
//!   repeated on a new connection. (On a cluster the crate repeats once by itself, which redirections need.)
//! - No message holds a password, a key's value or the text of a server's reply: a reply may quote what was sent.
//!
//! | file | what lives there |
//! |---|---|
//! | `address` | what a user may write as an address, and TLS |
//! | `link` | one server or a cluster: send a command, reconnect |
//! | `connection` | one connection, made anew after its loss |
//! | `cluster` | a cluster, as the crate leads there |
//! | `silence` | how long nothing has been answered |
//! | `masters` | the masters of a cluster, each on a connection of its own |
//! | `commands` | the narrow interface |
//! | `together` | many runs of one script in one command |
//! | `scan` | walking over keys |
//! | `subscription` | listening to a channel |
//! | `clock` | Redis' time, estimated |
//! | `keys` | the layout of the key space |
//! | `failure` | the crate's errors, told as ours |

mod address;
mod clock;
mod cluster;
mod commands;
mod connection;
mod failure;
mod keys;
mod link;
mod masters;
mod scan;
mod silence;
mod subscription;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod together;

pub(crate) use clock::RedisClock;
pub(crate) use commands::Script;
pub(crate) use connection::Server;
pub(crate) use keys::Keyspace;
pub(crate) use scan::Scan;
pub(crate) use subscription::{Places, Subscription};
pub(crate) use together::Together;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::base::Deadline;
use crate::config::{Config, RedisAddr};
use crate::error::{Error, ErrorKind, Result};

/// How to reach a Redis.
#[derive(Debug, Clone)]
pub(crate) struct RedisSettings {
    /// One server or the nodes of a cluster.
    pub(crate) addr: RedisAddr,
    /// Time for one attempt to connect, handshake included.
    pub(crate) connect_timeout: Duration,
    /// Time for one command.
    pub(crate) command_timeout: Duration,
    /// PEM file of the CA; `None` is the system's store.
    pub(crate) tls_ca: Option<PathBuf>,
    /// PEM file of the client certificate; goes with `tls_key`.
    pub(crate) tls_cert: Option<PathBuf>,
    /// PEM file of the client key; goes with `tls_cert`.
    pub(crate) tls_key: Option<PathBuf>,
    /// Whether a server that is away fails [`Redis::connect`].
    pub(crate) start_degraded: bool,
}

impl RedisSettings {
    /// Those of the cache; `None` if the configuration names no Redis.
    pub(crate) fn of_cache(config: &Config) -> Option<RedisSettings> {
        RedisSettings::of(config, config.redis_addr.as_ref())
    }

    /// Those of the queue, if it has a Redis of its own.
    pub(crate) fn of_queue(config: &Config) -> Option<RedisSettings> {
        RedisSettings::of(config, config.queue.addr.as_ref())
    }

    fn of(config: &Config, addr: Option<&RedisAddr>) -> Option<RedisSettings> {
        Some(RedisSettings {
            addr: addr?.clone(),
            connect_timeout: config.connect_timeout,
            command_timeout: config.redis_timeout,
            tls_ca: config.tls_ca.clone(),
            tls_cert: config.tls_cert.clone(),
            tls_key: config.tls_key.clone(),
            start_degraded: config.start_degraded,
        })
    }
}

/// A Redis. Clones are cheap and share the connection, on which any number of commands can be under way.
#[derive(Clone)]
pub(crate) struct Redis(Arc<Inner>);

struct Inner {
    link: link::Link,
    command_timeout: Duration,
}

/// The oldest server that zmsg runs on.
const OLDEST_MAJOR: u32 = 6;

impl Redis {
    /// Connects and checks that the server is new enough.
    ///
    /// With `start_degraded` a server that cannot be reached is only logged, and commands fail until it can be.
    ///
    /// # Errors
    /// `Config` for an address that is none, for TLS files that cannot be read, for a refused password and for a
    /// server older than Redis 6; `Cache` for a server that did not answer within `connect_timeout`.
    pub(crate) async fn connect(settings: &RedisSettings) -> Result<Redis> {
        let link = link::Link::new(settings)?;
        let redis = Redis(Arc::new(Inner { link, command_timeout: settings.command_timeout }));
        match redis.check_server(settings.connect_timeout).await {
            Ok(()) => Ok(redis),
            Err(error) if settings.start_degraded && error.kind() == ErrorKind::Cache => {
                log::warn!("starting without Redis: {error}");
                Ok(redis)
            }
            Err(error) => Err(error),
        }
    }

    /// Where it is, as `host:port`, a path, or several of them; never with a password.
    pub(crate) fn endpoint(&self) -> &str {
        self.0.link.endpoint()
    }

    /// The server, as the last connection to it saw it; it moves before a command is sent on another one. Of a cluster it is
    /// all masters as one, and moves when one of them is another one.
    pub(crate) fn server(&self) -> tokio::sync::watch::Receiver<Server> {
        self.0.link.server()
    }

    /// The number of the last connection that was made: while it stays, the server is the same.
    pub(crate) fn connection(&self) -> u64 {
        self.server().borrow().number
    }

    async fn check_server(&self, within: Duration) -> Result<()> {
        let Some(version) = self.server_version(within).await? else { return Ok(()) };
        let major = version.split('.').next().and_then(|major| major.parse::<u32>().ok());
        if major.is_some_and(|major| major < OLDEST_MAJOR) {
            let endpoint = self.endpoint();
            return Err(Error::config(format!(
                "Redis at {endpoint} is version {version}; zmsg needs Redis {OLDEST_MAJOR} or later, or Valkey"
            )));
        }
        Ok(())
    }

    /// The version the server calls itself; `None` if it may not be asked.
    async fn server_version(&self, within: Duration) -> Result<Option<String>> {
        let mut info = ::redis::cmd("INFO");
        info.arg("server");
        let answer = self.send_within(&info, link::Repeat::Safe, Deadline::after(within), within).await;
        match answer {
            Ok(value) => Ok(commands::find_in_info(&value, "redis_version")),
            // A user whose ACL forbids INFO still connects.
            Err(failure) if failure.is_forbidden() => Ok(None),
            Err(failure) => Err(failure.at_connect(self.endpoint())),
        }
    }
}
