//! A fence around a write whose transaction calls no hooks: a delayed one that runs at once.

use std::sync::Arc;

use super::order::FENCE_GUARD;
use super::state::State;
use crate::base::Deadline;
use crate::cache::{Fence, NewValue, Settle};
use crate::error::{ErrorKind, Result};

/// The fence, and the changes that the transaction will make.
pub(super) struct Fenced {
    state: Arc<State>,
    fence: Option<Fence>,
    key: Option<Arc<str>>,
    others: Vec<Arc<str>>,
    changes: Vec<Settle>,
}

impl Fenced {
    /// Before the transaction, which has to be over at the deadline.
    pub(super) async fn begin(
        state: &Arc<State>,
        key: Option<&str>,
        others: &[String],
        deadline: Deadline,
    ) -> Fenced {
        let key: Option<Arc<str>> = key.map(Arc::from);
        let others: Vec<Arc<str>> = others
            .iter()
            .filter(|it| key.as_deref() != Some(it.as_str()))
            .map(|it| it.as_str().into())
            .collect();
        let all: Vec<Arc<str>> = key.iter().chain(&others).cloned().collect();
        let life = deadline.remaining() + FENCE_GUARD;
        let fence = state.caches.fence(&all, life, state.cache_deadline()).await.ok();
        let changes = key.iter().map(std::slice::from_ref).chain([&others[..]]);
        let changes = changes.map(|keys| state.caches.begin(keys)).collect();
        Fenced { state: state.clone(), fence, key, others, changes }
    }

    /// After it; says whether the caches followed. Only what committed just now leaves its value.
    pub(super) async fn end(self, ran: &Result<Option<u64>>, value: Option<NewValue>) -> bool {
        let Fenced { state, fence, key, others, changes } = self;
        let (caches, deadline) = (&state.caches, state.cache_deadline());
        let aborted = ran.as_ref().is_err_and(|error| error.kind() != ErrorKind::CommitUnknown);
        let mut value = value.filter(|_| matches!(ran, Ok(Some(_))));
        let mut done = Ok(());
        if aborted {
            changes.into_iter().for_each(Settle::call_off);
            if let Some(fence) = &fence {
                let all: Vec<Arc<str>> = key.into_iter().chain(others).collect();
                caches.lift(fence, &all, deadline).await;
            }
            return true;
        }
        for change in changes {
            let one = match (&fence, value.take_if(|_| key.as_slice() == change.keys())) {
                (Some(fence), Some(value)) => caches.leave_value(fence, change, value, deadline).await,
                (Some(fence), None) => caches.leave_nothing(fence, change, deadline).await,
                (None, _) => state.drop_keys(change).await,
            };
            done = done.and(one);
        }
        done.is_ok()
    }
}
