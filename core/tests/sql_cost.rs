//! What building a task costs; run by hand in release: `cargo test --release --test sql_cost -- --ignored --nocapture`.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::hint::black_box;

use zmsg_core::params;
use zmsg_core::sql::{BIND, Task, counter, map, slice, sql};

#[allow(clippy::disallowed_methods, reason = "a measurement needs the real clock")]
fn nanoseconds(name: &str, build: impl Fn() -> Task) {
    const ROUNDS: u32 = 200_000;
    let mut best = f64::MAX;
    for _ in 0..10 {
        let start = std::time::Instant::now();
        for _ in 0..ROUNDS {
            black_box(build());
        }
        best = best.min(start.elapsed().as_nanos() as f64 / f64::from(ROUNDS));
    }
    println!("{name}: {best:.0} ns");
}

#[test]
#[ignore = "a measurement"]
fn building_a_task() {
    let insert = "INSERT INTO feeds (id, author, content) VALUES (?, ?, ?)";
    let key = "feed_7239";
    nanoseconds("insert", || sql(insert, params![1, 2, 3]).unwrap());
    nanoseconds("upsert", || {
        let task = sql(insert, params![1, 2, 3]).unwrap();
        task.on_conflict(&["id"]).unwrap().do_update(&["content", "author"]).unwrap()
    });
    nanoseconds("counter", || {
        let likes = counter("feed_meta", "like_count").unwrap().inc(1);
        likes.where_("id = ?", params![1]).unwrap().build().unwrap()
    });
    nanoseconds("slice", || {
        let tags = slice("feed_meta", "tags").unwrap().add("tag1");
        tags.where_("id = ?", params![1]).unwrap().build().unwrap()
    });
    nanoseconds("map", || {
        let extra = map("feed_meta", "extra").unwrap().set("k", "v");
        extra.where_("id = ?", params![1]).unwrap().build().unwrap()
    });
    let like = counter("feed_meta", "like_count").unwrap().inc(1).where_("id = ?", params![BIND]).unwrap();
    let like = like.build().unwrap();
    nanoseconds("prepared counter", || like.bind(&[key.into()]).unwrap());
    nanoseconds("prepared counter, rendered", || {
        let task = like.bind(&[1.into()]).unwrap();
        black_box(task.render());
        task
    });
}
