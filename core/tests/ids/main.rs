//! Ids made by real processes on a real PostgreSQL: no two are ever the same, whatever happens to the processes.
//!
//! Clocks that step and pauses of hours are in the model tests of the `id` room, where time can be moved.

// Tests may spawn, read the clock, and end at the first surprise.
#![allow(clippy::disallowed_methods, clippy::unwrap_used)]

mod maker;
#[path = "../support/mod.rs"]
mod support;

use std::collections::HashSet;

use maker::Maker;
use support::engine::{Setup, until};
use support::{TestDatabase, database};
use zmsg_core::error::ErrorKind;

const PROCESSES: usize = 16;
/// 2024-01-01, from which the milliseconds of an id count.
const EPOCH_MS: i64 = 1_704_067_200_000;

fn node(id: i64) -> i64 {
    (id >> 12) & 1023
}

fn unix_ms(id: i64) -> i64 {
    (id >> 22) + EPOCH_MS
}

/// All nodes in use for ever, but these.
async fn leave_free(database: &TestDatabase, nodes: &[i32]) {
    let taken = "UPDATE zmsg_nodes SET owner = 'test', ceiling_ms = CASE WHEN node_id = ANY($1) THEN 0 ELSE 4000000000000 END";
    assert_eq!(database.client().await.execute(taken, &[&nodes]).await.unwrap(), 1024);
}

async fn ceiling(database: &TestDatabase, node: i32) -> i64 {
    let ask = "SELECT ceiling_ms FROM zmsg_nodes WHERE node_id = $1";
    database.client().await.query_one(ask, &[&node]).await.unwrap().get(0)
}

/// Waits until PostgreSQL's clock has passed the ceiling of a node.
async fn grant_ended(database: &TestDatabase, node: i32) {
    let client = database.client().await;
    let ask = "SELECT ceiling_ms <= extract(epoch FROM clock_timestamp()) * 1000 FROM zmsg_nodes WHERE node_id = $1";
    until("the end of the grant", async || client.query_one(ask, &[&node]).await.unwrap().get(0)).await;
}

fn all_new(seen: &mut HashSet<i64>, ids: &[i64], who: &str) {
    for &id in ids {
        assert!(id > 0 && seen.insert(id), "{who} repeated {id}");
    }
}

/// A database with the engine's own tables.
async fn prepared() -> (TestDatabase, Setup) {
    let database = database().await;
    let setup = Setup::of(&database);
    setup.open().await.close().await.unwrap();
    (database, setup)
}

#[tokio::test]
async fn sixteen_processes_started_at_once_never_agree() {
    // Empty: they race for the engine's own tables too.
    let database = database().await;
    let soak = std::env::var_os("ZMSG_SOAK").is_some();
    let each = if soak { 100_000_000 / PROCESSES } else { 65_536 };
    let mut makers: Vec<Maker> = (0..PROCESSES).map(|_| Maker::start(&database.dsn, "10m")).collect();
    makers.iter_mut().for_each(Maker::opened);
    makers.iter_mut().for_each(|maker| maker.ask(each));
    let streams: Vec<_> = makers.iter_mut().map(|maker| maker.made().expect("ids")).collect();
    let nodes: HashSet<i64> = streams.iter().map(|ids| node(ids.first())).collect();
    assert_eq!(nodes.len(), PROCESSES, "each has a node of its own");
    // Merged in order, so that any number of them fits into memory.
    let (mut total, mut last) = (0, i64::MIN);
    for id in maker::merge(streams) {
        assert!(id > last, "{id} comes after {last}");
        last = id;
        total += 1;
    }
    assert_eq!(total, PROCESSES * each);
    makers.into_iter().for_each(|maker| maker.process.close());
}

#[tokio::test]
async fn a_stopped_owner_goes_on_with_another_node_or_not_at_all() {
    let (database, setup) = prepared().await;
    leave_free(&database, &[7]).await;
    let mut seen = HashSet::new();
    let mut first = Maker::start(&database.dsn, "1s");
    first.opened();
    let before = first.make(5_000).unwrap();
    all_new(&mut seen, &before, "the first owner");
    first.process.stop();
    grant_ended(&database, 7).await;

    let second = setup.open().await;
    let from_second: Vec<i64> = (0..5_000).map(|_| second.next_id_number().unwrap()).collect();
    all_new(&mut seen, &from_second, "the second owner");
    assert!(from_second.iter().all(|&id| node(id) == 7));
    assert!(before.last() < from_second.first(), "the new owner begins above the old one's end");

    first.process.go_on();
    for _ in 0..20 {
        // Its grant is over and no other node is free.
        assert_eq!(first.make(100).unwrap_err(), "id");
    }
    leave_free_beside(&database, 9).await;
    let mut after = Vec::new();
    until("another node", async || first.make(100).inspect(|ids| after.extend(ids)).is_ok()).await;
    assert!(after.iter().all(|&id| node(id) == 9));
    all_new(&mut seen, &after, "the first owner, back again");
    let more: Vec<i64> = (0..5_000).map(|_| second.next_id_number().unwrap()).collect();
    all_new(&mut seen, &more, "the second owner, later");
    first.process.close();
    second.close().await.unwrap();
}

async fn leave_free_beside(database: &TestDatabase, node: i32) {
    let free = "UPDATE zmsg_nodes SET ceiling_ms = 0 WHERE node_id = $1";
    assert_eq!(database.client().await.execute(free, &[&node]).await.unwrap(), 1);
}

#[tokio::test]
async fn a_killed_owner_leaves_its_ids_to_nobody() {
    let (database, _) = prepared().await;
    leave_free(&database, &[3]).await;
    let mut last = 0;
    for round in 0..3 {
        let mut maker = Maker::start(&database.dsn, "1s");
        maker.opened();
        // Ahead of the clock as far as it goes, which is where a successor could meet it.
        let ids = maker.make(60_000).unwrap();
        assert!(ids.iter().all(|&id| node(id) == 3));
        assert!(ids[0] > last, "round {round}: {} is not above {last}", ids[0]);
        last = *ids.last().unwrap();
        maker.process.kill();
        grant_ended(&database, 3).await;
    }
}

#[tokio::test]
async fn closing_gives_the_node_back_at_once() {
    let (database, setup) = prepared().await;
    leave_free(&database, &[5]).await;
    let mut floor = 0;
    for _ in 0..3 {
        let engine = setup.open().await;
        let ids: Vec<i64> = (0..10_000).map(|_| engine.next_id_number().unwrap()).collect();
        assert!(unix_ms(ids[0]) >= floor, "the next owner starts at the ceiling or above it");
        let granted = ceiling(&database, 5).await;
        engine.close().await.unwrap();
        assert_eq!(engine.next_id_number().unwrap_err().kind(), ErrorKind::Closed);
        floor = ceiling(&database, 5).await;
        assert!(floor < granted, "lowered");
        assert_eq!(floor, unix_ms(*ids.last().unwrap()) + 1, "to the first millisecond without an id");
    }
}

#[tokio::test]
async fn no_free_node_is_an_error_that_says_so() {
    let (database, setup) = prepared().await;
    leave_free(&database, &[]).await;
    let error = setup.try_open().await.err().expect("no node");
    assert_eq!(error.kind(), ErrorKind::Id);
    assert!(error.to_string().contains("1024") && error.to_string().contains("in use"), "{error}");
    // The one that is free goes to one of two.
    leave_free(&database, &[1023]).await;
    let (one, other) = tokio::join!(setup.try_open(), setup.try_open());
    assert_eq!(usize::from(one.is_ok()) + usize::from(other.is_ok()), 1);
    let (winner, loser) = if one.is_ok() { (one, other) } else { (other, one) };
    assert_eq!(loser.err().unwrap().kind(), ErrorKind::Id);
    assert_eq!(node(winner.unwrap().next_id_number().unwrap()), 1023);
}

#[tokio::test]
async fn grants_are_durable_whatever_the_database_says() {
    let (database, setup) = prepared().await;
    // Deferred, so that it sees the setting that the COMMIT will see.
    let watch = "CREATE TABLE seen (owner text, setting text);
        CREATE FUNCTION watch() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            INSERT INTO seen VALUES (new.owner, current_setting('synchronous_commit')); RETURN NULL; END $$;
        CREATE CONSTRAINT TRIGGER watch AFTER UPDATE ON zmsg_nodes DEFERRABLE INITIALLY DEFERRED
            FOR EACH ROW EXECUTE FUNCTION watch();";
    let client = database.client().await;
    client.batch_execute(watch).await.unwrap();
    let name: String = client.query_one("SELECT current_database()::text", &[]).await.unwrap().get(0);
    client.batch_execute(&format!("ALTER DATABASE {name} SET synchronous_commit = off")).await.unwrap();
    let zmsg = setup.with("id_grant", "1s").open().await;
    zmsg.next_id_number().unwrap();
    // One that takes, and two that extend.
    let settings = async || -> Vec<String> {
        let rows = client.query("SELECT setting FROM seen", &[]).await.unwrap();
        rows.iter().map(|row| row.get(0)).collect()
    };
    until("grants were extended", async || settings().await.len() >= 3).await;
    assert!(settings().await.iter().all(|setting| setting == "on"), "{:?}", settings().await);
    // The setting ends with the statement.
    let rows = zmsg.query(support::task("SHOW synchronous_commit", &[])).await.unwrap();
    assert_eq!(rows[0].values, ["off".into()]);
    zmsg.close().await.unwrap();
}
