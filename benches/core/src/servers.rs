//! What asks Redis and PostgreSQL: writes to the cache, writes through it, many reads at once.

use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use futures_util::future::join_all;
use redis::AsyncCommands;
use zmsg_core::config::{Config, ConfigInput};
use zmsg_core::engine::{WriteOptions, Zmsg};
use zmsg_core::sql;
use zmsg_core::value::Value;

use crate::measure::{Line, Target, async_pair};

pub type Failure = Box<dyn std::error::Error + Send + Sync>;

const SCHEMA: &str = "zmsg_bench";

pub struct Servers {
    pub zmsg: Zmsg,
    redis: redis::aio::MultiplexedConnection,
    pub postgres: tokio_postgres::Client,
    journals: tempfile::TempDir,
}

fn variable(name: &str) -> Result<String, Failure> {
    std::env::var(name)
        .map_err(|_| format!("{name} is not set; run \"make bench\", which starts the servers").into())
}

/// The DSN with the schema of the benchmark in front of the search path.
fn in_schema(dsn: &str) -> String {
    let joint = if dsn.contains('?') { '&' } else { '?' };
    format!("{dsn}{joint}options=-csearch_path%3D{SCHEMA}")
}

async fn engine(journals: &std::path::Path, settings: &[(&str, serde_json::Value)]) -> Result<Zmsg, Failure> {
    let mut arguments = serde_json::Map::new();
    let mut set = |key: &str, value: serde_json::Value| drop(arguments.insert(key.to_owned(), value));
    set("postgres_dsn", in_schema(&variable("ZMSG_POSTGRES_DSN")?).into());
    set("namespace", format!("zmsg-bench-{}", std::process::id()).into());
    set("default_ttl", "10m".into());
    set("journal_dir", journals.display().to_string().into());
    settings.iter().for_each(|(key, value)| set(key, value.clone()));
    let config = Config::resolve(ConfigInput { arguments, ..ConfigInput::default() })?;
    Ok(Zmsg::open(config).await?)
}

impl Servers {
    pub async fn open() -> Result<Servers, Failure> {
        let (dsn, addr) = (variable("ZMSG_POSTGRES_DSN")?, variable("ZMSG_REDIS_ADDR")?);
        let url = if addr.contains("://") { addr } else { format!("redis://{addr}") };
        let redis = redis::Client::open(url)?.get_multiplexed_async_connection().await?;
        let (postgres, connection) = tokio_postgres::connect(&in_schema(&dsn), tokio_postgres::NoTls).await?;
        tokio::spawn(connection);
        let setup = format!(
            "DROP SCHEMA IF EXISTS {SCHEMA} CASCADE; CREATE SCHEMA {SCHEMA}; CREATE TABLE rows (id text PRIMARY KEY, content text)"
        );
        postgres.batch_execute(&setup).await?;
        let journals = tempfile::tempdir()?;
        let zmsg = engine(journals.path(), &[]).await?;
        Ok(Servers { zmsg, redis, postgres, journals })
    }

    /// Another engine, which flushes only when it is told to and has room for everything.
    pub async fn another(&self, settings: &[(&str, serde_json::Value)]) -> Result<Zmsg, Failure> {
        let roomy = [
            ("batch_interval", "24h".into()),
            ("batch_size", 10_000_000.into()),
            ("batch_max_bytes", (16_u64 << 30).into()),
            ("journal_max_bytes", (8_u64 << 30).into()),
        ];
        engine(self.journals.path(), &[&roomy, settings].concat()).await
    }

    /// The Redis of the queue.
    pub async fn queue(&self) -> Result<redis::aio::MultiplexedConnection, Failure> {
        let addr = variable("ZMSG_QUEUE__ADDR")?;
        let url = if addr.contains("://") { addr } else { format!("redis://{addr}") };
        // Of a million commands some wait for a while.
        let patient = redis::AsyncConnectionConfig::new()
            .set_response_timeout(Some(std::time::Duration::from_secs(60)));
        Ok(redis::Client::open(url)?.get_multiplexed_async_connection_with_config(&patient).await?)
    }

    pub async fn close(self) -> Result<(), Failure> {
        self.zmsg.close().await?;
        self.postgres.batch_execute(&format!("DROP SCHEMA {SCHEMA} CASCADE")).await?;
        Ok(())
    }

    /// All of it, or `only` one verb.
    pub async fn measure(&self, only: &str, lines: &mut Vec<Line>) -> Result<(), Failure> {
        let value = Bytes::from(vec![b'x'; 230]);
        let wanted = |verb: &str| only.is_empty() || only == verb;
        if wanted("cache_only") {
            self.cache_only(lines, &value).await;
        }
        if wanted("cache_and_store") {
            self.cache_and_store(lines, &value).await?;
        }
        if wanted("get_many") {
            self.get_many(lines, &value).await?;
        }
        Ok(())
    }

    async fn set(&self, key: String, value: Bytes) {
        let mut redis = self.redis.clone();
        let done: redis::RedisResult<()> = redis.set_ex(key, value.as_ref(), 600).await;
        done.expect("Redis takes a SET");
    }

    async fn cache_only(&self, lines: &mut Vec<Line>, value: &Bytes) {
        let ours = |n: u32| async move {
            self.zmsg
                .cache_only(&format!("c{n}"), value.clone(), WriteOptions::default())
                .await
                .expect("Redis takes a value");
        };
        let raw = |n: u32| self.set(format!("raw:c{n}"), value.clone());
        let (alone, raw_alone) = async_pair(
            500,
            || async move {
                for n in 0..500 {
                    ours(n).await
                }
            },
            || async move {
                for n in 0..500 {
                    raw(n).await
                }
            },
        )
        .await;
        lines.push(Line {
            name: "cache_only, sequential",
            ours_ns: alone,
            peer: Some(("SET round trip, unfenced", raw_alone)),
            target: Target::Ratio(1.2),
        });
        let (many, raw_many) = async_pair(
            5_000,
            || async move {
                for _ in 0..5 {
                    join_all((0..1_000).map(ours)).await;
                }
            },
            || async move {
                for _ in 0..5 {
                    join_all((0..1_000).map(raw)).await;
                }
            },
        )
        .await;
        // At least 0.45 times the throughput: at most 1 / 0.45 times the time.
        lines.push(Line {
            name: "cache_only, 1,000 concurrent",
            ours_ns: many,
            peer: Some(("SET, 1,000 concurrent, unfenced", raw_many)),
            target: Target::Ratio(1.0 / 0.45),
        });
    }

    async fn cache_and_store(&self, lines: &mut Vec<Line>, value: &Bytes) -> Result<(), Failure> {
        const INSERT: &str = "INSERT INTO rows (id, content) VALUES (?, ?)";
        let next = AtomicU64::new(0);
        let next = &next;
        let statement = self.postgres.prepare("INSERT INTO rows (id, content) VALUES ($1, $2)").await?;
        let statement = &statement;
        let ours = || async move {
            for _ in 0..200 {
                let id = format!("row_{}", next.fetch_add(1, Ordering::Relaxed));
                let task = sql::sql(INSERT, vec![Value::text(id.as_str()), Value::text("content")])
                    .expect("a fine task");
                self.zmsg
                    .cache_and_store(Some(&id), Some(value.clone()), task, WriteOptions::default())
                    .await
                    .expect("stored");
            }
        };
        let by_hand = |sets: u32| async move {
            for _ in 0..200 {
                let id = format!("raw_{}", next.fetch_add(1, Ordering::Relaxed));
                self.postgres.batch_execute("BEGIN").await.expect("begun");
                self.postgres.execute(statement, &[&id, &"content"]).await.expect("inserted");
                self.postgres.batch_execute("COMMIT").await.expect("committed");
                for _ in 0..sets {
                    self.set(id.clone(), value.clone()).await;
                }
            }
        };
        // Two and a half Redis round trips are what the target adds.
        let raw = || by_hand(2);
        let (stored, raw_stored) = async_pair(200, ours, raw).await;
        lines.push(Line {
            name: "cache_and_store",
            ours_ns: stored,
            peer: Some(("INSERT + COMMIT + 2 SET", raw_stored)),
            target: Target::Ratio(1.0),
        });
        // What people write today: a writer that dies between the two, or overlaps with another, leaves an old value.
        let (stored, unfenced) = async_pair(200, ours, || by_hand(1)).await;
        lines.push(Line {
            name: "cache_and_store, price of coherence",
            ours_ns: stored,
            peer: Some(("INSERT + COMMIT, SET, unfenced", unfenced)),
            target: Target::Price,
        });
        Ok(())
    }

    async fn get_many(&self, lines: &mut Vec<Line>, value: &Bytes) -> Result<(), Failure> {
        // Sets of 100 keys that another engine wrote, each read once: L1 has none of them.
        const SETS: u32 = 8 * 50;
        let namespace = self.zmsg.config().namespace.clone();
        let arguments = serde_json::json!({ "postgres_dsn": in_schema(&variable("ZMSG_POSTGRES_DSN")?), "namespace": namespace });
        let serde_json::Value::Object(arguments) = arguments else { unreachable!("an object was written") };
        let writer =
            Zmsg::open(Config::resolve(ConfigInput { arguments, ..ConfigInput::default() })?).await?;
        let keys: Vec<Vec<String>> =
            (0..SETS).map(|set| (0..100).map(|key| format!("many_{set}_{key}")).collect()).collect();
        for set in &keys {
            join_all(set.iter().map(|key| writer.cache_only(key, value.clone(), WriteOptions::default())))
                .await;
            join_all(set.iter().map(|key| self.set(format!("raw:{key}"), value.clone()))).await;
        }
        writer.close().await?;
        let turn = (AtomicU64::new(0), AtomicU64::new(0));
        let (turn, keys) = (&turn, &keys);
        let ours = || async move {
            for _ in 0..50 {
                let set = &keys[turn.0.fetch_add(1, Ordering::Relaxed) as usize];
                let found = self.zmsg.get_many(set).await.expect("read");
                assert!(found.iter().all(Option::is_some), "every key is in Redis");
            }
        };
        let raw = || async move {
            for _ in 0..50 {
                let set = &keys[turn.1.fetch_add(1, Ordering::Relaxed) as usize];
                let names: Vec<String> = set.iter().map(|key| format!("raw:{key}")).collect();
                let found: Vec<Option<Vec<u8>>> = self.redis.clone().mget(names).await.expect("read");
                assert!(found.iter().all(Option::is_some), "every key is in Redis");
            }
        };
        let (many, raw_many) = async_pair(50, ours, raw).await;
        lines.push(Line {
            name: "get_many(100), all in L2",
            ours_ns: many,
            peer: Some(("MGET of 100", raw_many)),
            target: Target::Ratio(1.3),
        });
        Ok(())
    }
}
