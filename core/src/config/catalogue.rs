//! The table of settings: the loader reads it, `describe` is checked against it, and so is the README's table.

/// What a setting's value may be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Form {
    /// A time between the two bounds, in milliseconds.
    Duration(u64, u64),
    /// A time or "never".
    Ttl,
    /// A whole number between the two bounds.
    Integer(i64, i64),
    /// A number between zero and this bound.
    Fraction(f64),
    /// true or false.
    Switch,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// 1–64 characters of `A-Za-z0-9_.:-`.
    Name,
    /// A PostgreSQL connection string.
    Dsn,
    /// A Redis address or a list of cluster nodes.
    Address,
    /// A path in the file system.
    Path,
}

/// One setting.
#[derive(Debug, Clone, Copy)]
pub struct Setting {
    /// Its key; a dot leads into a group, as in `queue.addr`.
    pub name: &'static str,
    /// What its value may be.
    pub form: Form,
    /// The unit of a whole number, or "".
    pub unit: &'static str,
    /// The default as it would be written; "" is none.
    pub default: &'static str,
    /// What it changes, in one line.
    pub consequence: &'static str,
}

impl Setting {
    /// The environment variable that sets it.
    pub fn environment(&self) -> String {
        format!("ZMSG_{}", self.name.replace('.', "__").to_uppercase())
    }

    /// The key in camelCase, as JavaScript writes it.
    pub fn camel_case(&self) -> String {
        camel_case(self.name)
    }

    /// The accepted form in words.
    pub fn accepted(&self) -> String {
        match self.form {
            Form::Duration(least, most) => {
                let show = |ms| super::duration::show_duration(std::time::Duration::from_millis(ms));
                format!(
                    "a time from {} to {}, as \"500ms\", \"5s\", \"10m\" or \"24h\"",
                    show(least),
                    show(most)
                )
            }
            Form::Ttl => "a time, as \"500ms\", \"5s\", \"10m\" or \"24h\", or \"never\"".to_owned(),
            Form::Integer(least, most) => format!("a whole number from {least} to {most}"),
            Form::Fraction(most) => format!("a number from 0 to {most}"),
            Form::Switch => "true or false".to_owned(),
            Form::Choice(words) => {
                let words: Vec<String> = words.iter().map(|word| format!("\"{word}\"")).collect();
                words.join(" or ")
            }
            Form::Name => "1 to 64 letters, digits or _ . : -".to_owned(),
            Form::Dsn => "\"postgresql://user:password@host/database\" or \"host=… dbname=…\"".to_owned(),
            Form::Address => {
                "\"host:port\", a redis://, rediss:// or unix:// URL, or a list of cluster nodes".to_owned()
            }
            Form::Path => "a path".to_owned(),
        }
    }
}

/// `queue.task_delay` → `queue.taskDelay`.
pub(crate) fn camel_case(name: &str) -> String {
    let mut camel = String::with_capacity(name.len());
    let mut upper = false;
    for char in name.chars() {
        if char == '_' {
            upper = true;
        } else {
            camel.push(if upper { char.to_ascii_uppercase() } else { char });
            upper = false;
        }
    }
    camel
}

const fn setting(
    name: &'static str,
    form: Form,
    unit: &'static str,
    default: &'static str,
    consequence: &'static str,
) -> Setting {
    Setting { name, form, unit, default, consequence }
}

const MINUTE: u64 = 60_000;
const DAY: u64 = 24 * 60 * MINUTE;
const GIB: i64 = 1 << 30;

/// Every setting, in the order of the documentation.
#[rustfmt::skip]
pub(crate) const SETTINGS: &[Setting] = &[
    setting("postgres_dsn", Form::Dsn, "", "", "The database that holds the rows; required."),
    setting("redis_addr", Form::Address, "", "localhost:6379", "The cache shared by all processes (L2); null runs without it."),
    setting("l1_max_cost", Form::Integer(0, 1024 * GIB), "bytes", "104857600", "Memory held by L1, keys and overhead counted; 0 caches nothing in the process."),
    setting("l1_ttl", Form::Duration(1, 365 * DAY), "", "60s", "Longest stay of a value in L1, so the longest time a process may serve what something else than zmsg has changed."),
    setting("default_ttl", Form::Ttl, "", "24h", "Life of a cached value whose call names none."),
    setting("absent_ttl", Form::Duration(1, 365 * DAY), "", "30s", "How long a key that the database does not have is remembered as absent."),
    setting("ttl_jitter", Form::Fraction(0.5), "", "0.05", "TTLs are moved by up to ± this fraction, so that values cached together do not expire together."),
    setting("stale_ttl", Form::Duration(0, 365 * DAY), "", "0ms", "How long a value is kept past its life, to be served if its source fails; 0 is not at all."),
    setting("source_soft_timeout", Form::Duration(0, DAY), "", "0ms", "How long a read waits for the source while there is a value kept by stale_ttl; 0 is as long as it takes."),
    setting("refresh_ahead", Form::Fraction(0.9), "", "0.0", "In which last part of its life a value is loaded anew in the background, so that nobody waits when it ends; 0 is never."),
    setting("breaker_failures", Form::Integer(0, 10_000), "failures", "0", "How often in a row Redis, or PostgreSQL for a source, must be away or silent before it is left alone for breaker_pause; 0 is never."),
    setting("breaker_pause", Form::Duration(10, 10 * MINUTE), "", "5s", "How long a server that keeps failing is left alone before it is tried again."),
    setting("coherence_bound", Form::Duration(100, MINUTE), "", "2s", "Longest time that a process which is cut off from the others serves what one of them has overwritten; then it asks the database."),
    setting("lease_wait", Form::Duration(10, MINUTE), "", "2s", "How long a read waits for another process that loads the same key before it asks the database itself."),
    setting("on_cache_down", Form::Choice(&["available", "strict"]), "", "available", "What a write to the database does while Redis cannot be told of it: commit, and tell it later, or fail before the database is touched."),
    setting("namespace", Form::Name, "", "zmsg", "Prefix of every Redis key; services that share a Redis each have their own."),
    setting("max_key_bytes", Form::Integer(1, 64 * 1024), "bytes", "1024", "Longer keys are refused before any I/O."),
    setting("max_value_bytes", Form::Integer(1, GIB / 2), "bytes", "16777216", "Larger values are refused before any I/O."),
    setting("connect_timeout", Form::Duration(1, 10 * MINUTE), "", "5s", "Time to reach a server before it counts as away."),
    setting("timeout", Form::Duration(1, DAY), "", "30s", "Time of a call that names none."),
    setting("redis_timeout", Form::Duration(1, 10 * MINUTE), "", "1s", "Time of one Redis command before the cache counts as away and the read goes to the database."),
    setting("pool_size", Form::Integer(1, 10_000), "connections", "10", "PostgreSQL connections of this process; further calls wait for one."),
    setting("source_concurrency", Form::Integer(1, 100_000), "queries", "32", "Source queries in flight at once; further misses wait, so that a cold cache cannot flood the database."),
    setting("bloom_capacity", Form::Integer(1, 100_000_000), "keys", "1000000", "Keys that a Bloom filter is first made for; a fuller one is built anew for twice as many."),
    setting("bloom_error_rate", Form::Fraction(0.5), "", "0.01", "Of the keys that do not exist, the part that a Bloom filter lets through to the database, at least 0.000001; a tenth of it costs half as many bits again."),
    setting("start_degraded", Form::Switch, "", "false", "Whether open succeeds although a server is away."),
    setting("auto_migrate", Form::Switch, "", "true", "Whether the engine's own tables are created and migrated at open."),
    setting("id_grant", Form::Duration(1_000, DAY), "", "10m", "How long ids can be made without reaching PostgreSQL."),
    setting("tls_ca", Form::Path, "", "", "PEM file of the CA that signed the servers' certificates; none uses the system's."),
    setting("tls_cert", Form::Path, "", "", "PEM file of the client certificate; goes with tls_key."),
    setting("tls_key", Form::Path, "", "", "PEM file of the client key; goes with tls_cert."),
    setting("batch_interval", Form::Duration(1, DAY), "", "5s", "Time between two flushes of aggregated writes."),
    setting("batch_size", Form::Integer(1, 10_000_000), "rows", "1000", "Distinct rows that trigger an early flush."),
    setting("batch_max_bytes", Form::Integer(1024 * 1024, 1024 * GIB), "bytes", "268435456", "Memory for aggregated writes that wait for PostgreSQL; at the bound calls wait."),
    setting("batch_give_up_after", Form::Duration(1, 7 * DAY), "", "10m", "For how long an aggregated write may fail with an error that usually passes (a lock, a conflict, its time) before it is a dead letter; it holds up what was accepted after it."),
    setting("overload_timeout", Form::Duration(1, DAY), "", "5s", "How long an aggregated write waits for room before it fails with OverloadedError."),
    setting("journal", Form::Choice(&["journal", "journal_fsync", "memory"]), "", "journal", "What acknowledged aggregated writes survive: a kill -9, a loss of power as well, or nothing."),
    setting("journal_dir", Form::Path, "", "", "Folder of the journals, one for each database; none is a folder under the user's state directory, named after the database."),
    setting("journal_max_bytes", Form::Integer(16 * 1024 * 1024, 1024 * GIB), "bytes", "1073741824", "Disk space of this process's journal; at the bound calls wait."),
    setting("journal_retain", Form::Duration(1, 365 * DAY), "", "10m", "How long applied parts of the journal are kept, should the database lose them; less at journal_max_bytes."),
    setting("queue.addr", Form::Address, "", "", "The Redis that holds delayed writes; none uses redis_addr."),
    setting("queue.concurrency", Form::Integer(1, 10_000), "tasks", "10", "Delayed writes that run at once in this process."),
    setting("queue.task_delay", Form::Duration(1, 365 * DAY), "", "1s", "Delay of a delayed write whose call names none."),
    setting("queue.worker", Form::Switch, "", "true", "Whether this process runs delayed writes; with false it only accepts them."),
    setting("queue.lease", Form::Duration(1_000, 10 * MINUTE), "", "10s", "After how long the delayed writes of a process that went away run elsewhere."),
    setting("queue.task_timeout", Form::Duration(1, DAY), "", "30s", "Time of one try of a delayed write whose call names none."),
    setting("queue.retry_max", Form::Integer(0, 10_000), "tries", "20", "How often a delayed write is tried again before it is a dead letter; an absent server does not count."),
    setting("queue.allow_eviction", Form::Switch, "", "false", "Whether delayed writes may be kept in a Redis that evicts keys, and so loses them without a word."),
    setting("queue.fallback", Form::Choice(&["error", "sync"]), "", "error", "What a delayed write does that Redis did not accept: fail, or run at once, out of order."),
    setting("done_retention", Form::Duration(DAY, 365 * DAY), "", "168h", "How long PostgreSQL remembers which delayed writes were done; older ones are dead letters."),
    setting("int8", Form::Choice(&["bigint", "string", "number"]), "", "bigint", "What int8 columns are in Node; a number that is not exact raises."),
    setting("timestamps", Form::Choice(&["date", "string"]), "", "date", "What timestamps are in Node; strings keep microseconds."),
    setting("embedded", Form::Switch, "", "false", "Runs without servers; not part of this version."),
];

/// The setting of that key.
pub(crate) fn find(name: &str) -> Option<&'static Setting> {
    SETTINGS.iter().find(|setting| setting.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_other_styles() {
        let delay = find("queue.task_delay").unwrap();
        assert_eq!(delay.environment(), "ZMSG_QUEUE__TASK_DELAY");
        assert_eq!(delay.camel_case(), "queue.taskDelay");
        assert_eq!(camel_case("l1_max_cost"), "l1MaxCost");
    }

    #[test]
    fn no_key_stands_twice_and_every_line_says_something() {
        let mut names: Vec<&str> = SETTINGS.iter().map(|setting| setting.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), SETTINGS.len());
        assert!(
            SETTINGS
                .iter()
                .all(|setting| setting.consequence.ends_with('.') && !setting.accepted().is_empty())
        );
    }
}
