//! Links that come and go, and the reports that gates and scenes send first on a new one, put together from their parts.

use std::{collections::BTreeMap, sync::Arc};

use proto::internal::{ActorReport, GateReport, LineReport, SceneReport, SessionReport};
use service::{Link, ProcessId, ProcessKind};
use tokio::time::Instant;

use crate::{center::Center, presence::Run};

/// Entries of one report at most. More? The link is closed: a peer that reports without end is broken.
const ENTRIES_MAX: usize = 500_000;

/// What the linked gates and scenes have reported.
#[derive(Debug, Default)]
pub(crate) struct Reports(BTreeMap<ProcessId, Reporter>);

/// A linked gate or scene.
#[derive(Debug)]
struct Reporter {
    link: u64,
    kind: ProcessKind,
    run: Run,
    /// It has reported in full on this link.
    complete: bool,
    sessions: Vec<SessionReport>,
    lines: Vec<LineReport>,
    actors: Vec<ActorReport>,
}

impl Reporter {
    fn entries(&self) -> usize {
        self.sessions.len() + self.lines.len() + self.actors.len()
    }
}

impl Reports {
    /// Gates and scenes that are linked and have not reported in full.
    pub(crate) fn awaited(&self) -> Vec<ProcessId> {
        self.0.iter().filter(|(_, reporter)| !reporter.complete).map(|(id, _)| id.clone()).collect()
    }

    fn of(&mut self, link: &Link) -> Option<&mut Reporter> {
        self.0.get_mut(&link.peer().id).filter(|reporter| reporter.link == link.number())
    }
}

impl Center {
    /// A link is up.
    pub(crate) fn peer_up(self: &Arc<Self>, link: &Link) {
        let peer = link.peer();
        if matches!(peer.kind, ProcessKind::Gate | ProcessKind::Scene) {
            let run = Run::of(peer);
            let fresh = Reporter {
                link: link.number(),
                kind: peer.kind,
                run: run.clone(),
                complete: false,
                sessions: Vec::new(),
                lines: Vec::new(),
                actors: Vec::new(),
            };
            let earlier = self.reports().0.insert(peer.id.clone(), fresh);
            if let Some(earlier) = earlier {
                self.run_down(earlier.kind, &earlier.run);
            }
            match peer.kind {
                ProcessKind::Gate => self.presence().gate_up(&run),
                _ => self.presence().scene_up(&run),
            }
        }
        self.changed.notify_one();
    }

    /// A link is down. One that was replaced meanwhile changes nothing.
    pub(crate) fn peer_down(self: &Arc<Self>, link: &Link) {
        let known = self.reports().of(link).is_some();
        if known && let Some(gone) = self.reports().0.remove(&link.peer().id) {
            self.run_down(gone.kind, &gone.run);
        }
        self.changed.notify_one();
    }

    fn run_down(self: &Arc<Self>, kind: ProcessKind, run: &Run) {
        let now = Instant::now();
        match kind {
            ProcessKind::Gate => self.presence().gate_down(run, now),
            _ => {
                let actions = self.presence().scene_down(run, now);
                self.act(actions);
            }
        }
    }

    /// A part of a gate's report.
    pub(crate) fn on_gate_report(self: &Arc<Self>, link: &Link, report: GateReport) {
        let whole = {
            let mut reports = self.reports();
            let Some(reporter) = reports.of(link) else { return };
            reporter.sessions.extend(report.sessions);
            if bounded(reporter, link) && !report.more {
                reporter.complete = true;
                Some((reporter.run.clone(), std::mem::take(&mut reporter.sessions)))
            } else {
                None
            }
        };
        let Some((run, sessions)) = whole else { return };
        tracing::info!(gate = %run, sessions = sessions.len(), "gate reported");
        let actions = self.presence().gate_reported(&run, &sessions, Instant::now());
        self.act(actions);
        if self.is_rebuilt() {
            self.adopt_orphans();
        }
        self.changed.notify_one();
    }

    /// A part of a scene's report.
    pub(crate) fn on_scene_report(self: &Arc<Self>, link: &Link, report: SceneReport) {
        let whole = {
            let mut reports = self.reports();
            let Some(reporter) = reports.of(link) else { return };
            reporter.lines.extend(report.lines);
            reporter.actors.extend(report.actors);
            if bounded(reporter, link) && !report.more {
                let first = !std::mem::replace(&mut reporter.complete, true);
                Some((reporter.run.clone(), std::mem::take(&mut reporter.lines), std::mem::take(&mut reporter.actors), first))
            } else {
                None
            }
        };
        let Some((run, lines, actors, first)) = whole else { return };
        if first {
            tracing::info!(scene = %run, lines = lines.len(), players = actors.len(), "scene reported");
        }
        let actions = self.presence().scene_reported(&run, &lines, &actors, first, Instant::now());
        self.act(actions);
        self.changed.notify_one();
    }
}

fn bounded(reporter: &Reporter, link: &Link) -> bool {
    let bounded = reporter.entries() <= ENTRIES_MAX;
    if !bounded {
        tracing::error!(peer = %reporter.run, "a report of more than {ENTRIES_MAX} entries; closing the link");
        link.close();
    }
    bounded
}
