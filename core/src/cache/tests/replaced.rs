//! A Redis that is replaced while something is under way: by an older copy of itself, or by whatever answers next.

use super::*;

const LONG: Duration = MINUTE;

/// A Redis that is put back to what it had when it was saved.
struct GoesBack {
    server: PrivateRedis,
    redis: Redis,
}

impl GoesBack {
    async fn start() -> GoesBack {
        let server = PrivateRedis::start(&[]).await;
        let redis = server.connect(Duration::from_millis(500)).await.unwrap();
        GoesBack { server, redis }
    }

    fn process(&self) -> Process {
        process(Some(&self.redis), "zmsg")
    }

    async fn go_back(&mut self) {
        self.server.kill();
        self.server.restart().await;
        let deadline = soon();
        while self.redis.ping(soon()).await.is_err() {
            assert!(!deadline.passed(), "it does not come back");
        }
    }

    /// What is there, readable or not.
    async fn record(&self, key: &str) -> Option<Bytes> {
        self.redis.get(&Keyspace::new("zmsg").value(key), soon()).await.unwrap()
    }
}

#[tokio::test]
async fn a_fence_of_an_older_copy_lets_nothing_in() {
    // A process may have noticed by then, or not.
    for noticed in [false, true] {
        let mut space = GoesBack::start().await;
        let (one, two) = (space.process(), space.process());
        one.write("commits", "old").await;
        one.write("aborts", "old").await;
        let (first, second) = (one.fence("commits", LONG).await, one.fence("aborts", LONG).await);
        space.redis.save(soon()).await.unwrap();
        // These make the fences dirty, which the copy does not know.
        two.write("commits", "since").await;
        two.write("aborts", "since").await;
        space.go_back().await;
        if noticed {
            one.clock.advance(Duration::from_secs(1));
        }
        one.leave(&first, "commits", "before").await;
        one.lift(&second, "aborts").await;
        for key in ["commits", "aborts"] {
            assert_eq!(space.process().get(key).await, None, "{key}, noticed: {noticed}");
        }
        assert_eq!(space.record("commits").await.is_none(), noticed, "nothing, or what nobody reads");
    }
}

#[tokio::test]
async fn a_lease_of_an_older_copy_fills_nothing() {
    for noticed in [false, true] {
        let mut space = GoesBack::start().await;
        let (one, two) = (space.process(), space.process());
        let miss = one.admit("a").await;
        let lease = space.record("a").await;
        space.redis.save(soon()).await.unwrap();
        two.write("a", "since").await;
        space.go_back().await;
        if noticed {
            one.clock.advance(Duration::from_secs(1));
        }
        assert!(lease.is_some() && space.record("a").await == lease, "it is there again");
        one.fill("a", Some("before"), &miss).await;
        assert_ne!(space.record("a").await, lease, "it was filled");
        assert_eq!(space.process().get("a").await, None, "noticed: {noticed}");
    }
}

/// The answer of a server comes when this process has another one, and has made sure of that one.
#[tokio::test]
async fn a_read_that_spans_a_new_connection_believes_nothing() {
    for replaced in [false, true] {
        let mut space = GoesBack::start().await;
        let one = space.process();
        one.write("a", "old").await;
        space.redis.save(soon()).await.unwrap();
        one.caches.clear_l1();
        let key: Arc<str> = "a".into();
        let mut reading = std::pin::pin!(one.caches.get_shared(&key, soon()));
        let pending =
            std::future::poll_fn(|context| Poll::Ready(reading.as_mut().poll(context).is_pending()));
        assert!(pending.await);
        // Answers come in order: by now that of the read has come too.
        space.redis.ping(soon()).await.unwrap();
        if replaced {
            space.go_back().await;
            one.caches.trust_forever();
        }
        match reading.await {
            Lookup::Hit(data) => assert!(!replaced && data == Some(bytes("old")), "believed: {data:?}"),
            Lookup::Miss(miss) => assert!(replaced && miss.error.is_some(), "{miss:?}"),
            Lookup::Ahead(data, _) => panic!("nothing ends here: {data:?}"),
        }
        assert_eq!(one.caches.peek("a").is_some(), !replaced);
    }
}
