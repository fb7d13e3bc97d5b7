//! Twin schemas `a` and `b` for one corner: tasks are aggregated in `a` and run alone in `b`.

use zmsg_core::engine::{FlushReport, WriteOptions, Zmsg};
use zmsg_core::sql::Task;

use crate::scene::Scene;

/// Tasks that are accepted together.
pub type Lists = Vec<Vec<Task>>;

/// Runs the lists both ways and holds the tables against each other, and the dead letters against what fails alone. In
/// texts `{s}` is the schema.
pub async fn agree(schema: &str, tables: &[&str], make: impl Fn(&str) -> Lists) -> FlushReport {
    let scene = Scene::new().await;
    let zm = scene.open().await;
    for twin in ["a", "b"] {
        let text = format!("CREATE SCHEMA {twin}; {}", schema.replace("{s}", twin));
        scene.client.batch_execute(&text).await.unwrap();
    }
    for list in make("a") {
        zm.cache_and_periodic_store(None, None, list, WriteOptions::default()).await.unwrap();
    }
    let mut refused = Vec::new();
    for list in make("b") {
        if let Err(error) = zm.sql_exec(list).await {
            refused.push(error.sqlstate().map(str::to_owned));
        }
    }
    let report = zm.flush().await.unwrap();
    for table in tables {
        let rows = [texts(&scene, "a", table).await, texts(&scene, "b", table).await];
        assert_eq!(rows[0], rows[1], "{table}: aggregated, and alone; {report:?}");
    }
    let letters: Vec<_> = dead(&zm).await;
    assert_eq!(letters, refused, "dead letters, and what fails alone");
    zm.close().await.unwrap();
    report
}

async fn dead(zm: &Zmsg) -> Vec<Option<String>> {
    let mut letters = zm.dead_letters().await.unwrap();
    let number = |op_id: &str| op_id.rsplit('-').next().and_then(|it| it.parse::<u64>().ok());
    letters.sort_by_key(|it| number(&it.op_id));
    letters.into_iter().map(|it| it.sqlstate).collect()
}

async fn texts(scene: &Scene, schema: &str, table: &str) -> Vec<String> {
    let question = format!("SELECT t::text FROM {schema}.{table} AS t ORDER BY 1");
    scene.client.query(&question, &[]).await.unwrap().iter().map(|row| row.get(0)).collect()
}

/// Each task by itself.
pub fn each(tasks: impl IntoIterator<Item = Task>) -> Lists {
    tasks.into_iter().map(|task| vec![task]).collect()
}
