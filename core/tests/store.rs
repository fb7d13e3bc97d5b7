//! The store: one suite over the trait, and what only PostgreSQL can show.

// Tests may spawn, read the clock, and end at the first surprise.
#![allow(clippy::disallowed_methods, clippy::unwrap_used)]

mod support;

#[path = "store/conformance.rs"]
mod conformance;
#[path = "store/hooks.rs"]
mod hooks;
#[path = "store/postgres_commit.rs"]
mod postgres_commit;
#[path = "store/postgres_faults.rs"]
mod postgres_faults;
#[path = "store/postgres_migrations.rs"]
mod postgres_migrations;
#[path = "store/postgres_values.rs"]
mod postgres_values;

#[tokio::test]
async fn postgres_conforms() {
    let database = support::database().await;
    conformance::run(&database.store().await).await;
}
