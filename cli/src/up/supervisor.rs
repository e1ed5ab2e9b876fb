//! The life of the zone: start all, restart who dies, stop kind by kind.

use std::{
    collections::BTreeMap,
    os::unix::process::ExitStatusExt,
    process::{ExitCode, ExitStatus},
    time::Duration,
};

use nix::sys::signal::Signal;
use service::{
    ProcessId, ProcessKind,
    process::{SHUTDOWN_GRACE, STOP_MAX},
};
use tokio::{
    sync::mpsc,
    time::{Instant, timeout_at},
};

use super::{
    child::{Child, News, Starter, State},
    prepare::Prepared,
    report::Report,
};

/// A process that has not stopped by itself after this long is killed.
const STOP_TIMEOUT: Duration = Duration::from_secs(SHUTDOWN_GRACE.as_secs() + 8);
// Who still saves must not be killed.
const _: () = assert!(STOP_MAX.as_millis() < STOP_TIMEOUT.as_millis());
/// News that may wait; those who tell it then wait too.
const NEWS_MAX: usize = 64;

/// Starts the zone and runs it until a signal, or the end of center, stops it.
pub(super) async fn run(prepared: Prepared, report: Report) -> anyhow::Result<ExitCode> {
    // Before there is anything to stop: a signal between must not end this program without its children.
    let shutdown = service::signal::shutdown();
    let (sender, news) = mpsc::channel(NEWS_MAX);
    let starter = Starter::new(&prepared, sender)?;
    let children = prepared.zone.processes.values().map(|config| (config.id.clone(), Child::new(config.clone()))).collect();
    let mut supervisor = Supervisor { prepared, starter, news, children, report, settled: false };
    supervisor.start_all();
    let why = supervisor.supervise(shutdown).await;
    Ok(supervisor.stop_all(&why).await)
}

struct Supervisor {
    prepared: Prepared,
    starter: Starter,
    news: mpsc::Receiver<News>,
    children: BTreeMap<ProcessId, Child>,
    report: Report,
    /// Whether the zone has been told of: it was ready as a whole, or as far as it can be without those that stay down.
    settled: bool,
}

impl Supervisor {
    fn start_all(&mut self) {
        self.report.starting(&self.prepared);
        for child in self.children.values_mut() {
            if let Err(err) = child.start(&self.starter) {
                self.report.gave_up(child, &format!("failed to {err:#}"), &self.prepared);
            }
        }
    }

    /// Ends, with the reason, when the zone is to stop.
    async fn supervise(&mut self, shutdown: impl Future<Output = ()>) -> String {
        let mut signal = std::pin::pin!(shutdown);
        loop {
            tokio::select! {
                () = &mut signal => return "asked to".into(),
                Some(news) = self.news.recv() => {
                    if let Some(why) = self.on_news(news) {
                        return why;
                    }
                }
            }
        }
    }

    /// Returns why the zone is to stop, if it is.
    fn on_news(&mut self, news: News) -> Option<String> {
        match news {
            News::State { id, pid, state } => {
                self.on_state(&id, pid, state);
                None
            }
            News::Ended { id, pid, status } => self.on_end(&id, pid, status),
        }
    }

    fn on_state(&mut self, id: &ProcessId, pid: u32, state: State) {
        // News of an earlier run may come late.
        let Some(child) = self.children.get_mut(id).filter(|child| child.pid() == Some(pid)) else { return };
        let before = std::mem::replace(&mut child.state, state);
        self.report.state(child, &before);
        self.tell_when_settled();
    }

    /// Before the zone is ready: tells for whom it waits; and what there is, as soon as no more is to come.
    fn tell_when_settled(&mut self) {
        if self.settled {
            return;
        }
        self.report.progress(self.children.values());
        if self.children.values().all(|child| self.is_settled(child)) {
            self.settled = true;
            self.report.ready(&self.prepared, self.children.values());
        }
    }

    /// Whether a process serves, stays down, or waits for nobody but such as stay down.
    fn is_settled(&self, child: &Child) -> bool {
        let down = |id: &String| self.children.get(&ProcessId(id.clone())).is_some_and(|child| child.state == State::Down);
        match &child.state {
            State::Ready | State::Down => true,
            State::Waiting(whom) => !whom.is_empty() && whom.iter().all(down),
            State::Starting => false,
        }
    }

    fn on_end(&mut self, id: &ProcessId, pid: u32, status: ExitStatus) -> Option<String> {
        let child = self.children.get_mut(id).filter(|child| child.pid() == Some(pid))?;
        child.ended();
        // A death is no success: center ended in order, which it does when the countdown of `zone gm server shutdown` has run out,
        // or when somebody stopped it alone.
        if child.config.kind() == ProcessKind::Center && status.success() {
            return Some(format!("{id} ended in order: a GM's countdown ran out, or it was told to stop"));
        }
        self.report.died(child, status);
        if !child.restarts.allow(std::time::Instant::now()) {
            let why = format!("it died {} times within {} s", super::restarts::RESTARTS_MAX + 1, super::restarts::PERIOD.as_secs());
            self.report.gave_up(child, &why, &self.prepared);
            self.tell_when_settled();
        } else if let Err(err) = child.start(&self.starter) {
            self.report.gave_up(child, &format!("failed to {err:#}"), &self.prepared);
        } else {
            self.report.restarted(child);
        }
        None
    }

    /// Stops kind by kind, those that players speak to first.
    async fn stop_all(mut self, why: &str) -> ExitCode {
        self.report.stopping(why);
        let mut in_order = true;
        for kind in ProcessKind::ALL {
            in_order &= self.stop(kind).await;
        }
        self.report.stopped(in_order);
        if in_order { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }

    /// Stops the processes of a kind; `false` if one did not end as it should.
    async fn stop(&mut self, kind: ProcessKind) -> bool {
        let running = |child: &&Child| child.config.kind() == kind && child.pid().is_some();
        for child in self.children.values().filter(running) {
            self.report.stopping_process(child);
            child.signal(Signal::SIGTERM);
        }
        let mut in_order = true;
        let mut deadline = Instant::now() + STOP_TIMEOUT;
        while self.children.values().any(|child| running(&child)) {
            match timeout_at(deadline, self.news.recv()).await {
                Ok(Some(News::Ended { id, pid, status })) => in_order &= self.on_stopped(&id, pid, status),
                Ok(Some(News::State { .. })) => (),
                // A killed process ends at once; its news may still take a moment.
                Ok(None) | Err(_) => {
                    in_order = false;
                    deadline = Instant::now() + STOP_TIMEOUT;
                    for child in self.children.values().filter(running) {
                        self.report.killed(child, STOP_TIMEOUT);
                        child.signal(Signal::SIGKILL);
                    }
                }
            }
        }
        in_order
    }

    fn on_stopped(&mut self, id: &ProcessId, pid: u32, status: ExitStatus) -> bool {
        let Some(child) = self.children.get_mut(id).filter(|child| child.pid() == Some(pid)) else { return true };
        // One that had just begun has no handler for the signal yet, and nothing to save.
        let begun = child.state == State::Starting && status.signal() == Some(Signal::SIGTERM as i32);
        child.ended();
        let in_order = status.success() || begun;
        self.report.process_stopped(child, status, in_order);
        in_order
    }
}
