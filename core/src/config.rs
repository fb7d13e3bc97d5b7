//! STUB, replaced by the config room.

use std::path::PathBuf;
use std::time::Duration;

/// How long a cached value lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ttl {
    /// No expiry.
    Never,
    /// From the write on.
    For(Duration),
}

/// Every setting of an engine, checked. Fields are listed with unit, default and consequence.
#[derive(Clone)]
pub struct Config {
    /// PostgreSQL, as a URL or as key=value words.
    pub postgres_dsn: Secret,
    /// Cache Redis; `None` runs without L2.
    pub redis_addr: Option<RedisAddr>,
    /// Bytes held by L1, keys and overhead counted. Default 104857600.
    pub l1_max_cost: u64,
    /// Longest stay of a value in L1. Default 60 s.
    pub l1_ttl: Duration,
    /// Life of a cached value whose call names none. Default 24 h.
    pub default_ttl: Ttl,
    /// Life of a cached absence. Default 30 s.
    pub absent_ttl: Duration,
    /// TTLs are moved by up to ± this fraction. Default 0.05.
    pub ttl_jitter: f64,
    /// Prefix of every Redis key. Default "zmsg".
    pub namespace: String,
    /// Longest key. Default 1 KiB.
    pub max_key_bytes: usize,
    /// Largest cached value. Default 16 MiB.
    pub max_value_bytes: usize,
    /// Time to reach a server. Default 5 s.
    pub connect_timeout: Duration,
    /// Time of a call that names none. Default 30 s.
    pub timeout: Duration,
    /// Time of one Redis command before the tier counts as away. Default 1 s.
    pub redis_timeout: Duration,
    /// PostgreSQL connections. Default 10.
    pub pool_size: usize,
    /// Source queries in flight at once. Default 32.
    pub source_concurrency: usize,
    /// Whether `open` succeeds when a server is away. Default false.
    pub start_degraded: bool,
    /// Whether the engine's own tables migrate themselves at open. Default true.
    pub auto_migrate: bool,
    /// Time that a granted node id is good for. Default 10 min.
    pub id_grant: Duration,
    /// PEM file of the CA that signed the servers' certificates. Default: the system's store.
    pub tls_ca: Option<PathBuf>,
    /// PEM file of the client certificate.
    pub tls_cert: Option<PathBuf>,
    /// PEM file of the client key.
    pub tls_key: Option<PathBuf>,
    // … batch_interval, batch_size, queue { addr, concurrency, task_delay }, int8, timestamps
}

/// A text whose Debug shows nothing.
#[derive(Clone)]
pub struct Secret(String);

impl Secret {
    /// Wraps.
    pub fn new(text: impl Into<String>) -> Secret {
        Secret(text.into())
    }

    /// The text itself; only a driver's connect call needs it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

/// Where a Redis is: one URL, or several nodes of a cluster.
#[derive(Clone, Debug)]
pub enum RedisAddr {
    /// `redis://`, `rediss://` or `unix://` URL.
    Single(Secret),
    /// The same, several.
    Cluster(Vec<Secret>),
}
