//! Spawn, stop, wait: every task of a process is spawned here, and a stop waits for all of them, within a grace period.
//!
//! A stop has two steps. [`Tasks::stopped`]: take nothing new, drain. [`Tasks::ended`]: the process has drained; what served the
//! drain (links, events, the admin port) ends too.

use std::{future::Future, time::Duration};

use anyhow::Context;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::Instrument;

/// The tasks of a process. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Tasks {
    tracker: TaskTracker,
    stop: CancellationToken,
    end: CancellationToken,
}

impl Tasks {
    /// No tasks yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Runs a task that the stop waits for. It has to watch [`Tasks::stop_token`] or [`Tasks::end_token`] if it does not end by itself.
    pub fn spawn<F>(&self, name: &'static str, task: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.tracker.spawn(task.instrument(tracing::info_span!("task", name)));
    }

    /// The same for one of thousands: without a span of its own, which costs more memory than many a task.
    pub fn spawn_one_of_many<F>(&self, task: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.tracker.spawn(task);
    }

    /// Is cancelled when the process is to stop.
    pub fn stop_token(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// Is cancelled when the process has drained.
    pub fn end_token(&self) -> CancellationToken {
        self.end.clone()
    }

    /// Ends when the process is to stop. Cancel-safe.
    pub async fn stopped(&self) {
        self.stop.cancelled().await;
    }

    /// Ends when the process has drained. Cancel-safe.
    pub async fn ended(&self) {
        self.end.cancelled().await;
    }

    /// Whether the process is to stop.
    pub fn is_stopping(&self) -> bool {
        self.stop.is_cancelled()
    }

    /// Asks all tasks to stop and to end, and waits for them. Whatever has to drain first is told by [`Tasks::stop_token`] and awaited
    /// before.
    ///
    /// # Errors
    /// When they did not end within `grace`.
    pub async fn stop(&self, grace: Duration) -> anyhow::Result<()> {
        self.stop.cancel();
        self.end.cancel();
        self.tracker.close();
        tokio::time::timeout(grace, self.tracker.wait())
            .await
            .with_context(|| format!("stop {} tasks within {} s", self.tracker.len(), grace.as_secs()))
    }
}
