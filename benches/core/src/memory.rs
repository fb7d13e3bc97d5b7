//! What does no I/O: the L1 hit, ids, building tasks.

use std::future::Future;
use std::hint::black_box;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use zmsg_core::engine::{WriteOptions, Zmsg};
use zmsg_core::error::Result;
use zmsg_core::sql;

use crate::measure::{Line, Target, sync, sync_pair};

const HOT_KEYS: u32 = 1_000;
const CALLS: u32 = 200_000;

pub async fn measure(zmsg: &Zmsg, lines: &mut Vec<Line>) -> Result<()> {
    l1_hit(zmsg, lines).await?;
    ids(zmsg, lines)?;
    tasks(lines)
}

async fn l1_hit(zmsg: &Zmsg, lines: &mut Vec<Line>) -> Result<()> {
    let keys: Vec<String> = (0..HOT_KEYS).map(|key| format!("feed_{key}")).collect();
    let value = Bytes::from(vec![b'x'; 230]);
    let moka: moka::sync::Cache<String, Bytes> = moka::sync::Cache::new(100_000);
    for key in &keys {
        zmsg.cache_only(key, value.clone(), WriteOptions::default()).await?;
        moka.insert(key.clone(), value.clone());
    }
    // A hit is ready at the first poll: no runtime takes part.
    let mut context = Context::from_waker(Waker::noop());
    let (ours, raw) = sync_pair(
        CALLS,
        |call| {
            let found = pin!(zmsg.get(&keys[(call % HOT_KEYS) as usize])).poll(&mut context);
            assert!(matches!(black_box(found), Poll::Ready(Ok(Some(_)))), "a hit");
        },
        |call| {
            assert!(black_box(moka.get(&keys[(call % HOT_KEYS) as usize])).is_some(), "a hit");
        },
    );
    lines.push(Line {
        name: "get, L1 hit, 1,000 hot keys",
        ours_ns: ours,
        peer: Some(("moka get + clone", raw)),
        target: Target::Ratio(0.5),
    });
    Ok(())
}

fn ids(zmsg: &Zmsg, lines: &mut Vec<Line>) -> Result<()> {
    // Below 4,096 per millisecond: longer bursts measure the layout's own limit.
    let bare = sync(2_000, |_| {
        let _ = black_box(zmsg.next_id_number());
    });
    let prefixed = sync(2_000, |_| {
        let _ = black_box(zmsg.next_id("feed"));
    });
    lines.push(Line { name: "next_id, bare", ours_ns: bare, peer: None, target: Target::Nanoseconds(30.0) });
    lines.push(Line {
        name: "next_id(\"feed\")",
        ours_ns: prefixed,
        peer: None,
        target: Target::Nanoseconds(80.0),
    });
    Ok(())
}

fn tasks(lines: &mut Vec<Line>) -> Result<()> {
    let mut add = |name, bound, ns| {
        lines.push(Line { name, ours_ns: ns, peer: None, target: Target::Nanoseconds(bound) })
    };
    const INSERT: &str = "INSERT INTO feeds (id, content) VALUES (?, ?)";
    let id: std::sync::Arc<str> = "feed_7239000000000000001".into();
    let arg = |id: &std::sync::Arc<str>| zmsg_core::value::Value::Text(id.clone());
    add(
        "task: insert",
        100.0,
        sync(CALLS, |_| {
            let _ = black_box(sql::sql(INSERT, [arg(&id), arg(&id)]));
        }),
    );
    add(
        "task: upsert",
        150.0,
        sync(CALLS, |_| {
            let task = sql::sql(INSERT, [arg(&id), arg(&id)])
                .and_then(|task| task.on_conflict(&["id"]))
                .and_then(|it| it.do_update(&["content"]));
            let _ = black_box(task);
        }),
    );
    add(
        "task: counter",
        100.0,
        sync(CALLS, |_| {
            let task = sql::counter("feed_meta", "like_count")
                .map(|it| it.inc(1))
                .and_then(|it| it.where_("id = ?", [arg(&id)]))
                .and_then(|it| it.build());
            let _ = black_box(task);
        }),
    );
    add(
        "task: slice",
        150.0,
        sync(CALLS, |_| {
            let task = sql::slice("feed_meta", "tags")
                .map(|it| it.add("tag"))
                .and_then(|it| it.where_("id = ?", [arg(&id)]))
                .and_then(|it| it.build());
            let _ = black_box(task);
        }),
    );
    add(
        "task: map",
        150.0,
        sync(CALLS, |_| {
            let task = sql::map("feed_meta", "extra")
                .map(|it| it.set("k", "v"))
                .and_then(|it| it.where_("id = ?", [arg(&id)]))
                .and_then(|it| it.build());
            let _ = black_box(task);
        }),
    );
    Ok(())
}
