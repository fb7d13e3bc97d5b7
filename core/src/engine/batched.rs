//! What the COMMIT of a batch or of delayed writes does to the caches: each of their keys is dropped, unless the caches
//! still hold the value that was put there with the last accepted write on it.

use std::sync::{Arc, Weak};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::join_all;

use super::again;
use crate::base::Deadline;
use crate::base::service::Services;
use crate::batch::Gate;
use crate::cache::{Caches, Stays};
use crate::error::Result;
use crate::store::{BatchHooks, DelayedKey, LastValues, QueueHooks};

/// Keys that Redis is told of at once.
const AT_ONCE: usize = 500;

/// Tells the caches.
pub(super) struct CachesFollow {
    caches: Arc<Caches>,
    gate: Arc<Gate>,
    /// A service holds this: strong, the services of a forgotten engine would keep each other.
    services: Weak<Services>,
    redis_timeout: Duration,
}

impl CachesFollow {
    pub(super) fn new(
        caches: Arc<Caches>,
        gate: Arc<Gate>,
        services: &Arc<Services>,
        redis_timeout: Duration,
    ) -> CachesFollow {
        CachesFollow { caches, gate, services: Arc::downgrade(services), redis_timeout }
    }

    async fn tell(&self, keys: &[Arc<str>], version: u64, last: LastValues<'_>) -> Result<()> {
        let _alone = self.gate.write().await;
        let deadline = Deadline::after(self.redis_timeout.saturating_mul(2));
        let (mut plain, mut kept) = (Vec::new(), Vec::new());
        for (key, value) in keys.iter().zip(last(keys)) {
            match value {
                Some(value) => kept.push((key, value)),
                None => plain.push(key),
            }
        }
        let dropped = self.caches.drop_keys(self.caches.begin(&plain), version, deadline).await;
        let unless = kept.iter().map(|(key, value)| {
            let change = self.caches.begin(std::slice::from_ref(*key));
            self.caches.drop_unless(change, Stays::Digest(*value), version, deadline)
        });
        join_all(unless).await.into_iter().fold(dropped, |all, one| all.and(one))
    }
}

impl CachesFollow {
    /// The values of accepted writes say which one they are, so that nobody has to be kept from writing.
    async fn tell_delayed(&self, keys: &[DelayedKey], version: u64) -> Result<()> {
        let deadline = Deadline::after(self.redis_timeout.saturating_mul(2));
        let plain: Vec<&Arc<str>> =
            keys.iter().filter(|it| it.sequence.is_none()).map(|it| &it.key).collect();
        let dropped = self.caches.drop_keys(self.caches.begin(&plain), version, deadline).await;
        let own = keys.iter().filter_map(|it| Some((&it.key, it.sequence?)));
        let unless = own.map(|(key, sequence)| {
            let change = self.caches.begin(std::slice::from_ref(key));
            self.caches.drop_unless(change, Stays::Since(sequence), version, deadline)
        });
        join_all(unless).await.into_iter().fold(dropped, |all, one| all.and(one))
    }

    /// What the caches could not be told: this process's own memory at least has nothing older, and Redis is told later.
    fn again(&self, failed: Vec<Arc<str>>, version: u64) {
        if failed.is_empty() {
            return;
        }
        log::warn!(
            "the caches could not follow a transaction; {} keys are dropped again later",
            failed.len()
        );
        drop(self.caches.begin(&failed));
        if let Some(services) = self.services.upgrade() {
            again::drop_later(&self.caches, &services, failed, version, self.redis_timeout);
        }
    }
}

#[async_trait]
impl BatchHooks for CachesFollow {
    async fn committed(&self, keys: Vec<Arc<str>>, version: u64, last: LastValues<'_>) {
        let mut failed: Vec<Arc<str>> = Vec::new();
        for chunk in keys.chunks(AT_ONCE) {
            // Once Redis has failed, the rest is left to the repetition: each would wait as long.
            let told = if failed.is_empty() { self.tell(chunk, version, last).await.is_ok() } else { false };
            if !told {
                failed.extend_from_slice(chunk);
            }
        }
        self.again(failed, version);
    }
}

#[async_trait]
impl QueueHooks for CachesFollow {
    async fn committed(&self, keys: Vec<DelayedKey>, version: u64) {
        let mut failed: Vec<Arc<str>> = Vec::new();
        for chunk in keys.chunks(AT_ONCE) {
            let told =
                if failed.is_empty() { self.tell_delayed(chunk, version).await.is_ok() } else { false };
            if !told {
                failed.extend(chunk.iter().map(|it| it.key.clone()));
            }
        }
        self.again(failed, version);
    }
}
