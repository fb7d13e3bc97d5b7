//! What is bound to a delayed write shows up in no error and in no line of the log, whatever goes wrong.

use std::sync::Mutex;
use std::time::Duration;

use zmsg_core::engine::{DelayOptions, Zmsg};
use zmsg_core::error::Error;
use zmsg_core::sql::{Task, params, sql};

use crate::redis::Meddler;
use crate::scene::{Scene, after};
use crate::support::engine::until;
use crate::support::servers::RedisServer;

const SECRET: &str = "canary";

/// Keeps every line, of whichever crate.
struct Lines(Mutex<Vec<String>>);

static LINES: Lines = Lines(Mutex::new(Vec::new()));

impl log::Log for Lines {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        let line = format!("{} {}: {}", record.level(), record.target(), record.args());
        self.0.lock().unwrap().push(line);
    }

    fn flush(&self) {}
}

fn assert_silent(error: &Error) {
    let everything = format!("{error} {error:?} {:?}", std::error::Error::source(error));
    assert!(!everything.contains(SECRET), "{everything}");
}

async fn send(zm: &Zmsg, task: Task, options: DelayOptions) -> Result<(), Error> {
    zm.cache_and_delay_store(Some("k"), None, task, options).await?.done().await
}

#[tokio::test]
async fn nothing_that_is_bound_is_told() {
    log::set_logger(&LINES).unwrap();
    log::set_max_level(log::LevelFilter::Trace);
    let mut server = RedisServer::start().await;
    let scene = Scene::new().await;
    scene.client.batch_execute("CREATE TABLE users (email text PRIMARY KEY, n int)").await.unwrap();
    let setup = scene.setup.clone().with_queue("addr", server.addr.as_str()).with_queue("retry_max", 0);
    let zm = setup.with("redis_timeout", "300ms").open().await;
    let secret = |text: &str| sql(text, params![SECRET]).unwrap();
    send(&zm, secret("INSERT INTO users (email) VALUES (?)"), after(0)).await.unwrap();
    let refused = [
        "INSERT INTO users (email) VALUES (?)",
        "INSERT INTO users (n) VALUES (?::text::int)",
        "UPDATE users SET n = (?::text::regclass)::oid::int",
    ];
    for text in refused {
        assert_silent(&send(&zm, secret(text), after(0)).await.unwrap_err());
    }
    let limited = DelayOptions { task_timeout: Some(Duration::from_millis(50)), ..after(0) };
    let slow = secret("INSERT INTO users (email) SELECT ?::text FROM pg_sleep(5)");
    assert_silent(&send(&zm, slow, limited).await.unwrap_err());
    // A letter that cannot be written says why it cannot, and what it was for.
    let refuse = "ALTER TABLE zmsg_dead ADD CONSTRAINT nothing CHECK (key <> 'k') NOT VALID";
    scene.client.batch_execute(refuse).await.unwrap();
    let unwritten = zm.cache_and_delay_store(Some("k"), None, secret(refused[0]), after(0)).await.unwrap();
    until("it is tried again", async || zm.stats().queue_retried >= 1).await;
    scene.client.batch_execute("ALTER TABLE zmsg_dead DROP CONSTRAINT nothing").await.unwrap();
    assert_silent(&unwritten.done().await.unwrap_err());
    for letter in zm.dead_letters().await.unwrap() {
        assert!(!format!("{letter:?}").contains(SECRET), "{letter:?}");
        assert_silent(&zm.retry_dead(letter.id).await.unwrap_err());
    }
    // A Redis that somebody has been at, and none.
    let redis = Meddler::at(&server.addr).await;
    redis.run(scene.setup.namespace(), &["DEL", "@bodies"]).await;
    redis.run(scene.setup.namespace(), &["SET", "@bodies", "a text"]).await;
    assert_silent(&send(&zm, secret(refused[0]), after(0)).await.unwrap_err());
    server.kill();
    assert_silent(&send(&zm, secret(refused[0]), after(0)).await.unwrap_err());
    zm.close().await.unwrap();
    let lines = LINES.0.lock().unwrap();
    assert!(lines.iter().any(|line| line.contains("is a dead letter")), "it listens");
    let told: Vec<&String> = lines.iter().filter(|line| line.contains(SECRET)).collect();
    assert!(told.is_empty(), "{told:#?}");
}
