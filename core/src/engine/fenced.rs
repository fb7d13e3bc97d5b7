//! A fence around a write whose transaction calls no hooks: a delayed one that runs at once.

use std::sync::Arc;

use super::order::FENCE_GUARD;
use super::state::State;
use crate::base::Deadline;
use crate::cache::{Fence, NewValue, Settle};
use crate::config::OnCacheDown;
use crate::error::{ErrorKind, Result};

/// The fence, and the changes that the transaction will make.
pub(super) struct Fenced {
    state: Arc<State>,
    fence: Option<Fence>,
    /// All keys: that of the write first.
    keys: Vec<Arc<str>>,
    /// Of the write's own key, and of the others.
    changes: [Settle; 2],
}

impl Fenced {
    /// Before the transaction, which has to be over at the deadline.
    ///
    /// # Errors
    /// If Redis failed and `on_cache_down` is `strict`.
    pub(super) async fn begin(
        state: &Arc<State>,
        key: Option<&str>,
        others: &[String],
        deadline: Deadline,
    ) -> Result<Fenced> {
        let others = others.iter().map(String::as_str).filter(|it| key != Some(it));
        let keys: Vec<Arc<str>> = key.into_iter().chain(others).map(Arc::from).collect();
        let life = deadline.remaining() + FENCE_GUARD;
        let fence = match state.fence(&keys, life, state.cache_deadline()).await {
            Err(error) if state.config.on_cache_down == OnCacheDown::Strict => return Err(error),
            fence => fence.ok(),
        };
        let (own, others) = keys.split_at(usize::from(key.is_some()));
        let changes = [own, others].map(|keys| state.caches.begin_commit(keys));
        Ok(Fenced { state: state.clone(), fence, keys, changes })
    }

    /// After it; says whether the caches followed. Only what committed just now leaves its value.
    pub(super) async fn end(self, ran: &Result<bool>, value: Option<NewValue>) -> bool {
        let Fenced { state, fence, keys, changes: [own, others] } = self;
        let (caches, deadline) = (&state.caches, state.cache_deadline());
        let done = match (ran, fence) {
            (Err(error), fence) if error.kind() != ErrorKind::CommitUnknown => {
                [own, others].into_iter().for_each(Settle::call_off);
                if let Some(fence) = fence {
                    caches.lift(&fence, &keys, deadline).await;
                }
                return true;
            }
            (Ok(_), Some(fence)) => {
                let value = value.filter(|_| matches!(ran, Ok(true)));
                let dropped = caches.leave_nothing(&fence, others, deadline).await;
                let own = match value {
                    Some(value) if !own.keys().is_empty() => {
                        caches.leave_value(&fence, own, value, deadline).await
                    }
                    _ => caches.leave_nothing(&fence, own, deadline).await,
                };
                dropped.and(own)
            }
            // Nobody knows, or nobody was kept out: what may be there is dropped, and a fence ends by itself.
            (ran, _) => {
                if ran.is_err() {
                    state.drop_again_later(keys.clone());
                }
                state.drop_all(vec![own, others]).await
            }
        };
        if done.is_err() {
            state.tell_later(&keys).await;
        }
        done.is_ok()
    }
}
