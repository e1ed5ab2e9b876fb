//! One process of the zone, as a child of this program.

use std::{path::PathBuf, process::ExitStatus, process::Stdio, time::Duration};

use anyhow::Context;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;
use service::{ProcessId, config::ProcessConfig};
use tokio::{
    sync::mpsc,
    task::AbortHandle,
    time::{Instant, sleep},
};

use super::{prepare::Prepared, restarts::Restarts};
use crate::http;

/// How often a process that starts is asked whether it is ready.
const POLL_PERIOD: Duration = Duration::from_millis(20);
/// How long it is asked that often.
const POLL_EAGERLY: Duration = Duration::from_secs(5);
/// How often it is asked afterwards.
const WATCH_PERIOD: Duration = Duration::from_millis(500);

/// What children's tasks tell the supervisor.
#[derive(Debug)]
pub(super) enum News {
    /// The run with this pid ended.
    Ended { id: ProcessId, pid: u32, status: ExitStatus },
    /// The run with this pid is in another state than before.
    State { id: ProcessId, pid: u32, state: State },
}

/// How a process is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// It does not answer yet, or not any more.
    Starting,
    /// It can't serve before these can.
    Waiting(Vec<String>),
    /// It serves.
    Ready,
    /// It ended, and is not started again.
    Down,
}

/// How children are started.
pub(super) struct Starter {
    program: PathBuf,
    zone: PathBuf,
    data: PathBuf,
    news: mpsc::Sender<News>,
}

impl Starter {
    pub(super) fn new(prepared: &Prepared, news: mpsc::Sender<News>) -> anyhow::Result<Self> {
        let program = std::env::current_exe().context("find this program's file")?;
        Ok(Self { program, zone: prepared.file.clone(), data: prepared.data.clone(), news })
    }

    /// Starts a process, and the tasks that tell when it ends and when it is ready.
    fn start(&self, config: &ProcessConfig) -> anyhow::Result<Run> {
        let mut command = tokio::process::Command::new(&self.program);
        command.args(["run", &config.id.0, "--parent", &std::process::id().to_string()]);
        command.arg("--zone").arg(&self.zone).arg("--data").arg(&self.data);
        // A group of its own: Ctrl-C is for this program, which stops the others in order.
        command.process_group(0).stdin(Stdio::null()).stdout(Stdio::null());
        // They are in the file already.
        let laid_over = std::env::vars_os().map(|(name, _)| name).filter(|name| name.to_string_lossy().starts_with("ZONE__"));
        laid_over.for_each(|name| _ = command.env_remove(name));
        let mut child = command.spawn().with_context(|| format!("start {}", config.id))?;
        let pid = child.id().with_context(|| format!("start {}: it has no process id", config.id))?;
        let (id, news) = (config.id.clone(), self.news.clone());
        tokio::spawn(async move {
            if let Ok(status) = child.wait().await {
                // The supervisor takes news until the last child has ended.
                _ = news.send(News::Ended { id, pid, status }).await;
            }
        });
        let watch = tokio::spawn(watch(config.clone(), pid, self.news.clone())).abort_handle();
        Ok(Run { pid, watch })
    }
}

/// One run of a process.
struct Run {
    pid: u32,
    watch: AbortHandle,
}

/// A process of the zone, whether it runs or not.
pub(super) struct Child {
    pub(super) config: ProcessConfig,
    pub(super) state: State,
    pub(super) restarts: Restarts,
    run: Option<Run>,
}

impl Child {
    pub(super) fn new(config: ProcessConfig) -> Self {
        Self { config, state: State::Down, restarts: Restarts::default(), run: None }
    }

    /// Starts it.
    pub(super) fn start(&mut self, starter: &Starter) -> anyhow::Result<()> {
        self.run = Some(starter.start(&self.config)?);
        self.state = State::Starting;
        Ok(())
    }

    /// Its run ended.
    pub(super) fn ended(&mut self) {
        if let Some(run) = self.run.take() {
            run.watch.abort();
        }
        self.state = State::Down;
    }

    /// The pid of its run.
    pub(super) fn pid(&self) -> Option<u32> {
        self.run.as_ref().map(|run| run.pid)
    }

    /// Sends a signal to its run. One that has ended gets none: its end is on its way as news.
    pub(super) fn signal(&self, signal: Signal) {
        if let Some(pid) = self.pid().and_then(|pid| i32::try_from(pid).ok()) {
            _ = kill(Pid::from_raw(pid), signal);
        }
    }
}

/// Tells each change of a run's state, until it is aborted.
async fn watch(config: ProcessConfig, pid: u32, news: mpsc::Sender<News>) {
    let (started, mut told) = (Instant::now(), State::Starting);
    loop {
        let state = ask(&config, pid).await.unwrap_or(State::Starting);
        if state != told {
            told = state.clone();
            if news.send(News::State { id: config.id.clone(), pid, state }).await.is_err() {
                return;
            }
        }
        let eager = told != State::Ready && started.elapsed() < POLL_EAGERLY;
        sleep(if eager { POLL_PERIOD } else { WATCH_PERIOD }).await;
    }
}

/// Asks the admin port. Another program's answer at this port is none.
async fn ask(config: &ProcessConfig, pid: u32) -> Option<State> {
    let status = http::get(http::reachable(config.admin), "/status").await.ok()?.json().ok()?;
    if status["pid"].as_u64() != Some(u64::from(pid)) {
        return None;
    }
    if status["ready"] == Value::Bool(true) {
        return Some(State::Ready);
    }
    let waiting_for = status["waiting_for"].as_array()?;
    Some(State::Waiting(waiting_for.iter().filter_map(|whom| Some(whom.as_str()?.to_owned())).collect()))
}
