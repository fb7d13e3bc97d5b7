//! Hooks that write down what they were told.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use zmsg_core::error::{Error, Result};
use zmsg_core::sql::Rendered;
use zmsg_core::store::{CommitHooks, ExecResult, Outcome};

type Action = Box<dyn Fn(u32) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync>;

/// Records the calls; may fail, or act, before the COMMIT.
#[derive(Default)]
pub struct Recorder {
    calls: Mutex<Vec<String>>,
    results: Mutex<Vec<(u64, usize)>>,
    fail_in: Option<&'static str>,
    before_commit: Option<Action>,
}

impl Recorder {
    /// Only records.
    pub fn new() -> Arc<Recorder> {
        Arc::default()
    }

    /// Fails in the hook of that name.
    pub fn failing(hook: &'static str) -> Arc<Recorder> {
        Arc::new(Recorder { fail_in: Some(hook), ..Recorder::default() })
    }

    /// Acts before every COMMIT; the action gets the number of the run, from 1.
    pub fn acting<F: Future<Output = ()> + Send + 'static>(
        action: impl Fn(u32) -> F + Send + Sync + 'static,
    ) -> Arc<Recorder> {
        let before_commit: Action = Box::new(move |run| Box::pin(action(run)));
        Arc::new(Recorder { before_commit: Some(before_commit), ..Recorder::default() })
    }

    /// The calls so far, in order.
    pub fn calls(&self) -> Vec<String> {
        self.calls.lock().unwrap().clone()
    }

    /// Of the last run that came to its COMMIT: rows affected and rows returned, per task.
    pub fn results(&self) -> Vec<(u64, usize)> {
        self.results.lock().unwrap().clone()
    }

    fn note(&self, call: &str) -> Result<()> {
        self.calls.lock().unwrap().push(call.to_owned());
        if self.fail_in == Some(call) { Err(Error::task("the hook says no")) } else { Ok(()) }
    }
}

#[async_trait]
impl CommitHooks for Recorder {
    async fn before_tasks(&self, run: u32) -> Result<()> {
        let earlier = self.calls().iter().filter(|call| *call == "before_tasks").count();
        assert_eq!(run as usize, earlier + 1, "runs are counted from 1");
        self.note("before_tasks")
    }

    async fn before_commit(&self, version: u64, results: &[ExecResult]) -> Result<Option<Rendered>> {
        assert!(version > 0);
        *self.results.lock().unwrap() = results.iter().map(|it| (it.rows_affected, it.rows.len())).collect();
        self.note("before_commit")?;
        if let Some(action) = &self.before_commit {
            let run = self.calls().iter().filter(|call| *call == "before_commit").count() as u32;
            action(run).await;
        }
        Ok(None)
    }

    async fn after(&self, outcome: &Outcome) {
        let name = match outcome {
            Outcome::Committed(_) => "committed",
            Outcome::Aborted(_) => "aborted",
            Outcome::Unknown(_) => "unknown",
        };
        self.note(name).unwrap();
    }
}
