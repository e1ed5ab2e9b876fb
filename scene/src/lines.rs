//! The lines of this process. None opens by itself: center says which of the maps that the zone file lets this scene host have a line
//! here, with which number, and which is to close.
//!
//! A line that closes takes nobody any more. Everybody on it is brought to a line that center picks, as through a portal but to the same
//! place; when it is empty its thread ends.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use anyhow::Context;
use proto::internal::{CallFault, CallFaultCode, Done, LineClose, LineOpen, LineReport, SceneReport};
use service::{Process, config::SceneConfig, link::fault};
use tokio::{
    sync::{Semaphore, mpsc},
    task::JoinSet,
    time::sleep,
};

use crate::{
    DcLedger,
    line::{Line, LineFacts, Reports, Stand},
    open_rules,
    rules::OpenRules,
    saver::{Lost, Saver},
    scene::Scene,
    world::{LineConfig, Position, StateHash, World},
};

/// How often center is told how the lines are.
const REPORT_PERIOD: Duration = Duration::from_secs(1);
/// Players brought off a closing line at once.
const MOVES_MAX: usize = 32;
/// How long a closing line waits before it tries again to bring off who could not go.
const MOVE_AGAIN_AFTER: Duration = Duration::from_millis(500);

/// What opens lines, and those that are open.
pub(crate) struct Lines {
    process: Process,
    config: SceneConfig,
    rules: OpenRules,
    reports: Reports,
    /// Told when the thread of a line panics.
    panicked: mpsc::Sender<()>,
    open: Mutex<Open>,
}

#[derive(Default)]
struct Open {
    lines: BTreeMap<u32, Line>,
    /// The index of the next line: none is used twice, as groups at gates are named after it.
    next: u32,
}

impl Open {
    fn at(&self, map: &str, number: u32) -> Option<&Line> {
        self.lines.values().find(|line| line.facts().map == map && line.facts().line == number)
    }
}

impl Lines {
    /// No line yet.
    ///
    /// # Errors
    /// When the rules refuse what the zone file says of a map that this scene may host.
    pub(crate) fn new(
        process: Process,
        config: SceneConfig,
        rules: OpenRules,
        reports: Reports,
        panicked: mpsc::Sender<()>,
    ) -> anyhow::Result<Self> {
        for map in &config.maps {
            open_rules(&process.zone, map, Position { x: 0, y: 0 }, rules)?;
        }
        Ok(Self { process, config, rules, reports, panicked, open: Mutex::default() })
    }

    /// Every line, closing ones too.
    pub(crate) fn all(&self) -> Vec<Line> {
        self.lock().lines.values().cloned().collect()
    }

    /// The line of an index.
    pub(crate) fn get(&self, index: u32) -> Option<Line> {
        self.lock().lines.get(&index).cloned()
    }

    /// The line of a map and number.
    pub(crate) fn at(&self, map: &str, number: u32) -> Option<Line> {
        self.lock().at(map, number).cloned()
    }

    /// The first line of a map that takes players.
    pub(crate) fn of_map(&self, map: &str) -> Option<Line> {
        let mut lines = self.all();
        lines.retain(|line| line.facts().map == map && !line.is_closing());
        lines.into_iter().min_by_key(|line| line.facts().line)
    }

    fn remove(&self, index: u32) {
        self.lock().lines.remove(&index);
    }

    /// Opens a line; its thread runs when this returns.
    fn open(&self, scene: &Scene, call: &LineOpen) -> anyhow::Result<()> {
        let world = self.world(&call.map, call.line)?;
        let mut open = self.lock();
        if open.at(&call.map, call.line).is_some() {
            return Ok(()); // asked for twice at once
        }
        let maps = &self.process.zone.world.maps;
        let map = maps.get(&call.map).context("find the map")?;
        let turn = maps.keys().position(|name| *name == call.map).unwrap_or_default() + maps.len() * (call.line.max(1) as usize - 1);
        let facts = LineFacts {
            index: open.next,
            turn: u32::try_from(turn).unwrap_or(u32::MAX),
            map: call.map.clone(),
            line: call.line,
            players_max: map.players_max,
            tick_hz: self.process.zone.world.tick_hz,
            overload: self.process.zone.world.overload,
            opened_by: call.opened_by.clone(),
        };
        let line = Line::new(facts, Saver::new(self.process.run_name()));
        line.start(world, self.reports.clone(), self.panicked.clone()).context("start the line's thread")?;
        scene.spawn_task("saver", line.saver().clone().run(DcLedger(scene.clone()), self.process.random.clone()));
        open.next = open.next.checked_add(1).context("number the line")?;
        open.lines.insert(line.facts().index, line);
        Ok(())
    }

    fn world(&self, map: &str, line: u32) -> anyhow::Result<World> {
        let zone = &self.process.zone;
        let facts = zone.world.maps.get(map).with_context(|| format!("open {map}: the zone has no such map"))?;
        let start = match &zone.world.start {
            start if start.map == map => Position { x: start.x, y: start.y },
            _ => Position { x: facts.width_cm / 2, y: facts.height_cm / 2 },
        };
        let tick_hz = zone.world.tick_hz;
        let rules = open_rules(zone, map, start, self.rules)?;
        let save_ticks = self.config.save_period.as_millis() * u128::from(tick_hz) / 1_000;
        let config = LineConfig {
            map: map.to_owned(),
            line,
            width: facts.width_cm,
            height: facts.height_cm,
            cell_cm: zone.world.cell_cm,
            tick_hz,
            speed_max: zone.world.speed_max_cm_s.unsigned_abs(),
            start,
            client_bytes_s: zone.world.client_bytes_max_s,
            save_ticks: u64::try_from(save_ticks).unwrap_or(u64::MAX).max(1),
            boot: self.boot_number(map, line),
        };
        World::open(config, rules, self.process.random.split()).with_context(|| format!("open {map}: too large for its cells"))
    }

    /// Unlike that of every other line of every run, so that no two items have one name.
    fn boot_number(&self, map: &str, line: u32) -> u64 {
        use std::hash::{Hash, Hasher};
        let mut hash = StateHash::new();
        (self.process.run_name(), map, line, crate::now_ms(), self.process.random.next_u64()).hash(&mut hash);
        hash.finish()
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().expect("no holder of the lines panics")
    }
}

impl Scene {
    /// Center wants a line here.
    ///
    /// # Errors
    /// With the answer to center.
    pub(crate) async fn open_line(&self, call: LineOpen) -> Result<Done, CallFault> {
        if self.is_draining() {
            return Err(fault(CallFaultCode::CallUnavailable, "the scene is stopping"));
        }
        if !self.lines().config.maps.contains(&call.map) {
            return Err(fault(CallFaultCode::CallInvalid, format!("the scene does not host {}", call.map)));
        }
        match self.lines().at(&call.map, call.line) {
            Some(line) if line.is_closing() => return Err(fault(CallFaultCode::CallUnavailable, "the earlier line still closes")),
            Some(_) => return Ok(Done {}),
            None => (),
        }
        self.lines().open(self, &call).map_err(|err| fault(CallFaultCode::CallInternal, format!("{err:#}")))?;
        tracing::info!(map = call.map, line = call.line, by = call.opened_by, "line opened");
        self.report_lines().await;
        Ok(Done {})
    }

    /// Center wants a line to close.
    ///
    /// # Errors
    /// When there is none.
    pub(crate) async fn close_line(&self, call: LineClose) -> Result<Done, CallFault> {
        let no_line = || fault(CallFaultCode::CallNotFound, format!("{} has no line {} here", call.map, call.line));
        let line = self.lines().at(&call.map, call.line).ok_or_else(no_line)?;
        if line.begin_closing() {
            let scene = self.clone();
            self.spawn_task("close line", async move { scene.empty_and_end(line).await });
            self.report_lines().await;
        }
        Ok(Done {})
    }

    /// Brings everybody off a line, and ends it. Should the process stop meanwhile, that gives back whoever is left.
    async fn empty_and_end(&self, line: Line) {
        loop {
            let players = self.players().of_line(line.facts().index);
            if players.is_empty() || self.is_draining() {
                break;
            }
            self.bring_off(&line, players).await;
            if !self.players().of_line(line.facts().index).is_empty() {
                sleep(self.random().jitter(MOVE_AGAIN_AFTER)).await;
            }
        }
        if self.is_draining() {
            return;
        }
        // Whoever came after the last look: center finds them another line.
        for record in line.close().await {
            self.send_out(&line, record).await;
        }
        line.saver().close();
        self.lines().remove(line.facts().index);
        tracing::info!(map = line.facts().map, line = line.facts().line, "line closed");
        self.report_lines().await;
    }

    async fn bring_off(&self, line: &Line, players: Vec<u64>) {
        let permits = Arc::new(Semaphore::new(MOVES_MAX));
        let mut moving = JoinSet::new();
        for player in players {
            let (scene, line, permits) = (self.clone(), line.clone(), permits.clone());
            moving.spawn(async move {
                let _permit = permits.acquire().await;
                scene.move_off(&line, player).await;
            });
        }
        while moving.join_next().await.is_some() {}
    }

    async fn send_out(&self, line: &Line, record: proto::record::PlayerRecord) {
        let (player, position) = (record.player, record.position);
        let reason = match self.give_back(line, player, record).await {
            Ok(()) => "its line has closed",
            Err(Lost) => "ownership lost",
        };
        if let Some(seat) = self.players().get(player) {
            self.tell_left(&seat, line, reason, position).await;
        }
    }

    /// How the lines of this process are.
    pub(crate) fn line_reports(&self) -> Vec<LineReport> {
        let report = |line: Line| {
            let facts = line.facts();
            let ([_, p99, _], stand) = line.status(|status| (status.times.figures_ms(), status.stand));
            let tick_ms = 1_000.0 / f64::from(facts.tick_hz.max(1));
            LineReport {
                map: facts.map.clone(),
                line: facts.line,
                players: u32::try_from(self.players().on_line(facts.index)).unwrap_or(u32::MAX),
                players_max: facts.players_max,
                // A float to int cast saturates, and a tick takes no negative time.
                tick_p99_us: (p99 * 1_000.0) as u32,
                overloaded: tick_ms < p99 || stand != Stand::FULL,
                opened_by: facts.opened_by.clone(),
                closing: line.is_closing(),
            }
        };
        self.lines().all().into_iter().map(report).collect()
    }

    async fn report_lines(&self) {
        self.tell_center(&SceneReport { lines: self.line_reports(), ..SceneReport::default() }).await;
    }

    /// Tells center how the lines are, until the process stops.
    pub(crate) async fn report_lines_for_ever(self, stop: tokio_util::sync::CancellationToken) {
        while stop.run_until_cancelled(sleep(REPORT_PERIOD)).await.is_some() {
            self.report_lines().await;
        }
    }
}
