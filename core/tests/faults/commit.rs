//! A connection cut around its COMMIT: the outcome is found out, and the caches follow it.

use std::time::Duration;

use zmsg_core::engine::{WriteOptions, Zmsg};
use zmsg_core::error::ErrorKind;

use crate::scene::{Scene, declare, insert, some, text, write};
use crate::support::engine::until;
use crate::support::proxy::{Cut, Proxy};

async fn behind(scene: &Scene, proxy: &Proxy) -> Zmsg {
    let zmsg = scene.setup.clone().postgres_behind(proxy, &scene.database).open().await;
    declare(&zmsg);
    zmsg
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cut_on_either_side_it_takes_effect_once_and_is_cached() {
    let scene = Scene::new().await;
    let proxy = Proxy::start(&scene.database.dsn).await;
    let (zmsg, view) = (behind(&scene, &proxy).await, scene.redis_view().await);
    for (cut, key) in [(Cut::BeforeCommit, "feed_before"), (Cut::AfterCommit, "feed_after")] {
        proxy.arm(cut);
        // A plain INSERT: running it again after it was committed would be refused.
        let written =
            zmsg.cache_and_store(Some(key), some("v"), insert(key, "v"), WriteOptions::default()).await;
        assert!(written.unwrap().cached, "{cut:?}");
        assert_eq!(scene.row(key).await.as_deref(), Some("v"));
        assert_eq!(zmsg.peek(key).unwrap(), some("v"));
        assert_eq!(view.get(key).await.unwrap(), some("v"));
    }
    assert_eq!((proxy.cuts_made(), scene.rows().await), (2, 2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outcome_that_nobody_can_tell_leaves_nothing_cached() {
    let scene = Scene::new().await;
    let proxy = Proxy::start(&scene.database.dsn).await;
    let (zmsg, view) = (behind(&scene, &proxy).await, scene.redis_view().await);
    write(&zmsg, "feed_1", "old").await.unwrap();
    zmsg.cache_only("list", text("old"), WriteOptions::default()).await.unwrap();
    proxy.arm(Cut::AfterCommit);
    proxy.refuse_after_cut();
    let options = WriteOptions { invalidates: vec!["list".into()], ..WriteOptions::default() };
    let brief = zmsg.with_timeout(Some(Duration::from_millis(700)));
    let task = crate::scene::put("feed_1", "new");
    let error = brief.cache_and_store(Some("feed_1"), some("new"), task, options).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::CommitUnknown, "{error}");
    assert!(!error.retryable() && error.op_id().is_some());
    for key in ["feed_1", "list"] {
        assert_eq!(zmsg.peek_entry(key).unwrap(), None, "{key}");
        assert_eq!(view.get(key).await.unwrap(), None, "{key}");
    }
    // What a read may have cached while nobody knew is dropped again.
    zmsg.cache_only("list", text("from before"), WriteOptions::default()).await.unwrap();
    until("the second drop", async || zmsg.peek_entry("list").unwrap().is_none()).await;
    // It was committed, as the next reader finds out.
    let other = scene.engine().await;
    assert_eq!(other.get("feed_1").await.unwrap(), some("new"));
}
