//! What the COMMIT of a batch does to the caches: each of its keys is dropped, unless the caches still hold the value
//! that was put there with the last operation on it.

use std::sync::{Arc, Weak};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::join_all;

use super::again;
use crate::base::Deadline;
use crate::base::service::Services;
use crate::batch::Gate;
use crate::cache::Caches;
use crate::error::Result;
use crate::store::{BatchHooks, LastValues};

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
            self.caches.drop_unless(change, value, version, deadline)
        });
        join_all(unless).await.into_iter().fold(dropped, |all, one| all.and(one))
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
                // This process's own memory at least has nothing older.
                drop(self.caches.begin(chunk));
                failed.extend_from_slice(chunk);
            }
        }
        if !failed.is_empty() {
            log::warn!("the caches could not follow a flush; {} keys are dropped again later", failed.len());
            if let Some(services) = self.services.upgrade() {
                again::drop_later(&self.caches, &services, failed, version, self.redis_timeout);
            }
        }
    }
}
