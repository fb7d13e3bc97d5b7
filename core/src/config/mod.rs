//! Every setting: where it comes from, its default, its check.
//!
//! Settings come from a YAML file, from `ZMSG_*` variables and from the arguments of a call; arguments win over the
//! environment, the environment over the file. [`Config::catalogue`] is the table that all three are read by: names,
//! forms, bounds and defaults stand there and nowhere else. The bindings hand their arguments over as one JSON map
//! and check nothing themselves.
//!
//! May be used by every room; uses `error` only. It opens no connection.
//!
//! Invariants:
//! - A [`Config`] that exists is complete and within its bounds; whoever holds one checks nothing again.
//! - Every error names the key, where its value came from, and what is accepted.
//! - A password is never part of an error, of Debug, or of [`Config::describe`].

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Map, Value as Json, json};

use crate::error::{Error, Result};

mod address;
mod catalogue;
mod duration;
mod file;
mod format;
mod given;
mod input;
mod secret;
mod suggest;

#[cfg(test)]
mod tests;

pub use address::RedisAddr;
pub use catalogue::{Form, Setting};
pub use duration::{
    NumberUnit, TimeArgument, Ttl, delay_from_argument, duration_from_argument, parse_duration,
};
pub use format::{Int8Format, JournalClass, OnCacheDown, QueueFallback, TimestampFormat};
pub use input::{ConfigInput, EnvironmentSource, RESERVED_ENVIRONMENT};
pub use secret::{Secret, redact};

use duration::show_duration;
use given::Given;

/// Every setting of an engine, checked. [`Config::catalogue`] has forms, bounds and consequences.
#[derive(Clone)]
pub struct Config {
    /// PostgreSQL, as a URL or as key=value words.
    pub postgres_dsn: Secret,
    /// Cache Redis; `None` runs without L2. Default localhost:6379.
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
    /// For how long a value is kept past its life, for the case that its source fails. Default 0, which is not at all.
    pub stale_ttl: Duration,
    /// How long a read waits for the source while there is a last good value. Default 0, which is for as long as it takes.
    pub source_soft_timeout: Duration,
    /// In which last part of its life a value is loaded anew. Default 0, which is never.
    pub refresh_ahead: f64,
    /// Failures of a server in a row after which it is left alone. Default 0, which is never.
    pub breaker_failures: u32,
    /// For how long. Default 5 s.
    pub breaker_pause: Duration,
    /// Longest time that a value which another process has overwritten is served. Default 2 s.
    pub coherence_bound: Duration,
    /// How long a read waits for another process that loads the same key. Default 2 s.
    pub lease_wait: Duration,
    /// What a write to the database does while Redis cannot be told of it. Default available.
    pub on_cache_down: OnCacheDown,
    /// Prefix of every Redis key. Default "zmsg".
    pub namespace: String,
    /// Longest key in bytes. Default 1 KiB.
    pub max_key_bytes: usize,
    /// Largest cached value in bytes. Default 16 MiB.
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
    /// Keys that a Bloom filter is first made for. Default 1,000,000.
    pub bloom_capacity: u64,
    /// Of the keys that do not exist, the part that a Bloom filter lets through. Default 0.01.
    pub bloom_error_rate: f64,
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
    /// Time between two flushes of aggregated writes. Default 5 s.
    pub batch_interval: Duration,
    /// Distinct rows that trigger an early flush. Default 1000.
    pub batch_size: usize,
    /// Memory for aggregated writes that wait for PostgreSQL. Default 256 MiB.
    pub batch_max_bytes: usize,
    /// For how long an aggregated write may fail with an error that usually passes. Default 10 min.
    pub batch_give_up_after: Duration,
    /// How long an aggregated write waits for room. Default 5 s.
    pub overload_timeout: Duration,
    /// What acknowledged aggregated writes survive. Default journal.
    pub journal: JournalClass,
    /// Where journals are; `None` is a folder under the user's state directory, named after the database.
    pub journal_dir: Option<PathBuf>,
    /// Disk space of this process's journal. Default 1 GiB.
    pub journal_max_bytes: u64,
    /// How long applied parts of the journal are kept. Default 10 min.
    pub journal_retain: Duration,
    /// Delayed writes.
    pub queue: QueueConfig,
    /// How long it is remembered which delayed writes were done. Default 7 days.
    pub done_retention: Duration,
    /// What int8 columns are in Node. Default bigint.
    pub int8: Int8Format,
    /// What timestamps are in Node. Default Date.
    pub timestamps: TimestampFormat,
    /// Whether the engine runs without servers; refused in this version. Default false.
    pub embedded: bool,
}

/// Settings of the delay queue.
#[derive(Clone, Debug)]
pub struct QueueConfig {
    /// Redis of the queue; `None` uses the cache's, see [`Config::queue_addr`].
    pub addr: Option<RedisAddr>,
    /// Delayed writes that run at once in this process. Default 10.
    pub concurrency: usize,
    /// Delay of a delayed write whose call names none. Default 1 s.
    pub task_delay: Duration,
    /// Whether this process runs delayed writes. Default true.
    pub worker: bool,
    /// How long a worker has what it took without saying that it is still there. Default 10 s.
    pub lease: Duration,
    /// Time of one try of a delayed write whose call names none. Default 30 s.
    pub task_timeout: Duration,
    /// Tries after the first one. Default 20.
    pub retry_max: u32,
    /// Whether Redis may evict keys. Default false.
    pub allow_eviction: bool,
    /// What is done with a write that Redis did not accept. Default: it fails.
    pub fallback: QueueFallback,
}

impl Config {
    /// Reads a YAML file and the process's `ZMSG_*` variables, which win over the file.
    ///
    /// # Errors
    /// `Config`: the file cannot be read, a key is unknown, a value is refused, `postgres_dsn` is missing.
    pub fn load(path: impl AsRef<Path>) -> Result<Config> {
        Config::resolve(ConfigInput { file: Some(path.as_ref().to_owned()), ..ConfigInput::default() })
    }

    /// Makes a configuration from file, environment and arguments.
    ///
    /// # Errors
    /// `Config`, as [`Config::load`].
    pub fn resolve(input: ConfigInput) -> Result<Config> {
        let mut config = Config::with_defaults()?;
        for given in input::collect(&input)? {
            config.set(&given)?;
        }
        config.check()?;
        Ok(config)
    }

    /// The same configuration with some keys replaced.
    ///
    /// # Errors
    /// `Config`: a key is unknown or a value refused.
    pub fn overridden(&self, arguments: &Map<String, Json>, numbers: NumberUnit) -> Result<Config> {
        let mut config = self.clone();
        for given in input::from_arguments(arguments, numbers)? {
            config.set(&given)?;
        }
        config.check()?;
        Ok(config)
    }

    /// Every setting: key, form, default, consequence.
    pub fn catalogue() -> &'static [Setting] {
        catalogue::SETTINGS
    }

    /// Redis of the queue, which is the cache's unless `queue.addr` says otherwise.
    pub fn queue_addr(&self) -> Option<&RedisAddr> {
        self.queue.addr.as_ref().or(self.redis_addr.as_ref())
    }

    /// Every setting applied from the catalogue; the values written here are replaced at once.
    fn with_defaults() -> Result<Config> {
        let none = Duration::ZERO;
        let mut config = Config {
            postgres_dsn: Secret::new(""),
            redis_addr: None,
            l1_max_cost: 0,
            l1_ttl: none,
            default_ttl: Ttl::Never,
            absent_ttl: none,
            ttl_jitter: 0.0,
            stale_ttl: none,
            source_soft_timeout: none,
            refresh_ahead: 0.0,
            breaker_failures: 0,
            breaker_pause: none,
            namespace: String::new(),
            max_key_bytes: 0,
            max_value_bytes: 0,
            coherence_bound: none,
            lease_wait: none,
            on_cache_down: OnCacheDown::default(),
            connect_timeout: none,
            timeout: none,
            redis_timeout: none,
            pool_size: 0,
            source_concurrency: 0,
            bloom_capacity: 0,
            bloom_error_rate: 0.0,
            start_degraded: false,
            auto_migrate: false,
            id_grant: none,
            tls_ca: None,
            tls_cert: None,
            tls_key: None,
            batch_interval: none,
            batch_size: 0,
            batch_max_bytes: 0,
            batch_give_up_after: none,
            overload_timeout: none,
            journal: JournalClass::default(),
            journal_dir: None,
            journal_max_bytes: 0,
            journal_retain: none,
            queue: QueueConfig {
                addr: None,
                concurrency: 0,
                task_delay: none,
                worker: false,
                lease: none,
                task_timeout: none,
                retry_max: 0,
                allow_eviction: false,
                fallback: QueueFallback::default(),
            },
            done_retention: none,
            int8: Int8Format::default(),
            timestamps: TimestampFormat::default(),
            embedded: false,
        };
        for given in catalogue::SETTINGS.iter().filter_map(Given::default_of) {
            config.set(&given)?;
        }
        Ok(config)
    }

    /// Applies one value.
    fn set(&mut self, given: &Given) -> Result<()> {
        match given.setting.name {
            "postgres_dsn" => self.postgres_dsn = given.dsn()?,
            "redis_addr" => self.redis_addr = given.address()?,
            "l1_max_cost" => self.l1_max_cost = given.integer()?,
            "l1_ttl" => self.l1_ttl = given.duration()?,
            "default_ttl" => self.default_ttl = given.ttl()?,
            "absent_ttl" => self.absent_ttl = given.duration()?,
            "ttl_jitter" => self.ttl_jitter = given.fraction()?,
            "stale_ttl" => self.stale_ttl = given.duration()?,
            "source_soft_timeout" => self.source_soft_timeout = given.duration()?,
            "refresh_ahead" => self.refresh_ahead = given.fraction()?,
            "breaker_failures" => self.breaker_failures = given.size()? as u32,
            "breaker_pause" => self.breaker_pause = given.duration()?,
            "coherence_bound" => self.coherence_bound = given.duration()?,
            "lease_wait" => self.lease_wait = given.duration()?,
            "on_cache_down" => self.on_cache_down = OnCacheDown::from_word(given.choice()?),
            "namespace" => self.namespace = given.name()?,
            "max_key_bytes" => self.max_key_bytes = given.size()?,
            "max_value_bytes" => self.max_value_bytes = given.size()?,
            "connect_timeout" => self.connect_timeout = given.duration()?,
            "timeout" => self.timeout = given.duration()?,
            "redis_timeout" => self.redis_timeout = given.duration()?,
            "pool_size" => self.pool_size = given.size()?,
            "source_concurrency" => self.source_concurrency = given.size()?,
            "bloom_capacity" => self.bloom_capacity = given.integer()?,
            "bloom_error_rate" => self.bloom_error_rate = error_rate(given)?,
            "start_degraded" => self.start_degraded = given.switch()?,
            "auto_migrate" => self.auto_migrate = given.switch()?,
            "id_grant" => self.id_grant = given.duration()?,
            "tls_ca" => self.tls_ca = Some(given.path()?),
            "tls_cert" => self.tls_cert = Some(given.path()?),
            "tls_key" => self.tls_key = Some(given.path()?),
            "batch_interval" => self.batch_interval = given.duration()?,
            "batch_size" => self.batch_size = given.size()?,
            "batch_max_bytes" => self.batch_max_bytes = given.size()?,
            "batch_give_up_after" => self.batch_give_up_after = given.duration()?,
            "overload_timeout" => self.overload_timeout = given.duration()?,
            "journal" => self.journal = JournalClass::from_word(given.choice()?),
            "journal_dir" => self.journal_dir = Some(given.path()?),
            "journal_max_bytes" => self.journal_max_bytes = given.integer()?,
            "journal_retain" => self.journal_retain = given.duration()?,
            "queue.addr" => self.queue.addr = given.address()?,
            "queue.concurrency" => self.queue.concurrency = given.size()?,
            "queue.task_delay" => self.queue.task_delay = given.duration()?,
            "queue.worker" => self.queue.worker = given.switch()?,
            "queue.lease" => self.queue.lease = given.duration()?,
            "queue.task_timeout" => self.queue.task_timeout = given.duration()?,
            "queue.retry_max" => self.queue.retry_max = given.size()? as u32,
            "queue.allow_eviction" => self.queue.allow_eviction = given.switch()?,
            "queue.fallback" => self.queue.fallback = QueueFallback::from_word(given.choice()?),
            "done_retention" => self.done_retention = given.duration()?,
            "int8" => self.int8 = Int8Format::from_word(given.choice()?),
            "timestamps" => self.timestamps = TimestampFormat::from_word(given.choice()?),
            "embedded" => self.embedded = not_embedded(given)?,
            name => {
                return Err(Error::config(format!(
                    "the setting {name} is in the catalogue and has no field"
                )));
            }
        }
        Ok(())
    }

    /// What concerns more than one key.
    fn check(&self) -> Result<()> {
        if self.postgres_dsn.expose().is_empty() {
            return Err(Error::config(
                "postgres_dsn is not set; give it as an argument, in the environment variable ZMSG_POSTGRES_DSN or in \
                 the configuration file, as \"postgresql://user:password@host/database\" (the embedded mode, which \
                 needs none, is not part of this version)",
            ));
        }
        match (&self.tls_cert, &self.tls_key) {
            (Some(_), None) => {
                Err(Error::config("tls_cert is set without tls_key; a client certificate needs its key"))
            }
            (None, Some(_)) => {
                Err(Error::config("tls_key is set without tls_cert; a client key needs its certificate"))
            }
            _ => Ok(()),
        }
    }

    /// Every setting by key, for people: times as texts, connection strings without their passwords.
    pub fn describe(&self) -> Json {
        let address = |addr: Option<&RedisAddr>| addr.map_or(Json::Null, RedisAddr::describe);
        json!({
            "postgres_dsn": redact(self.postgres_dsn.expose()),
            "redis_addr": address(self.redis_addr.as_ref()),
            "l1_max_cost": self.l1_max_cost,
            "l1_ttl": show_duration(self.l1_ttl),
            "default_ttl": self.default_ttl.to_string(),
            "absent_ttl": show_duration(self.absent_ttl),
            "ttl_jitter": self.ttl_jitter,
            "stale_ttl": show_duration(self.stale_ttl),
            "source_soft_timeout": show_duration(self.source_soft_timeout),
            "refresh_ahead": self.refresh_ahead,
            "breaker_failures": self.breaker_failures,
            "breaker_pause": show_duration(self.breaker_pause),
            "coherence_bound": show_duration(self.coherence_bound),
            "lease_wait": show_duration(self.lease_wait),
            "on_cache_down": self.on_cache_down.word(),
            "namespace": self.namespace,
            "max_key_bytes": self.max_key_bytes,
            "max_value_bytes": self.max_value_bytes,
            "connect_timeout": show_duration(self.connect_timeout),
            "timeout": show_duration(self.timeout),
            "redis_timeout": show_duration(self.redis_timeout),
            "pool_size": self.pool_size,
            "source_concurrency": self.source_concurrency,
            "bloom_capacity": self.bloom_capacity,
            "bloom_error_rate": self.bloom_error_rate,
            "done_retention": show_duration(self.done_retention),
            "start_degraded": self.start_degraded,
            "auto_migrate": self.auto_migrate,
            "id_grant": show_duration(self.id_grant),
            "tls_ca": self.tls_ca,
            "tls_cert": self.tls_cert,
            "tls_key": self.tls_key,
            "batch_interval": show_duration(self.batch_interval),
            "batch_size": self.batch_size,
            "batch_max_bytes": self.batch_max_bytes,
            "batch_give_up_after": show_duration(self.batch_give_up_after),
            "overload_timeout": show_duration(self.overload_timeout),
            "journal": self.journal.word(),
            "journal_dir": self.journal_dir,
            "journal_max_bytes": self.journal_max_bytes,
            "journal_retain": show_duration(self.journal_retain),
            "queue": {
                "addr": address(self.queue_addr()),
                "concurrency": self.queue.concurrency,
                "task_delay": show_duration(self.queue.task_delay),
                "worker": self.queue.worker,
                "lease": show_duration(self.queue.lease),
                "task_timeout": show_duration(self.queue.task_timeout),
                "retry_max": self.queue.retry_max,
                "allow_eviction": self.queue.allow_eviction,
                "fallback": self.queue.fallback.word(),
            },
            "int8": self.int8.word(),
            "timestamps": self.timestamps.word(),
            "embedded": self.embedded,
        })
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Config {}", self.describe())
    }
}

/// Below a millionth a key would have more bits than are good for anything.
fn error_rate(given: &Given) -> Result<f64> {
    match given.fraction()? {
        rate if rate >= 1e-6 => Ok(rate),
        _ => Err(Error::config("bloom_error_rate has to be a number from 0.000001 to 0.5, as 0.01")
            .with("source", &given.origin)),
    }
}

fn not_embedded(given: &Given) -> Result<bool> {
    match given.switch()? {
        true => Err(Error::config(
            "embedded is true, and the embedded mode is not part of this version; set postgres_dsn instead",
        )
        .with("source", &given.origin)),
        false => Ok(false),
    }
}
