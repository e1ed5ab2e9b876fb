//! A scene: the authoritative ticks of the lines that it hosts. It promises that what happens is decided here alone, in ticks that
//! no I/O delays; that a player's record is written by one scene only; and that nothing of worth is told before it is safe in dc.
//! It does not know sockets of clients: it speaks to sessions and groups at gates.
//!
//! Read in this order: [`world`] (the pure rules of a line), [`rules`] (the interface behind which a game stands) and [`game`] (the
//! example); then the shell: `line` (the thread that ticks a world), `publisher` (effects to gates), `saver` (effects to dc),
//! `players` (who is here), `scene` (what arrives on links), `lines` (which lines are open), `forward` (what clients send), `enter`, `leave` and `handoff` (how
//! players come and go), `deal`, `trade` and `mail` (how goods change hands beyond a line).
#![forbid(unsafe_code)]

mod deal;
mod enter;
mod forward;
pub mod game;
mod handoff;
mod leave;
mod line;
mod lines;
pub mod load;
mod mail;
mod players;
mod publisher;
pub mod rules;
mod saver;
mod scene;
mod trade;
pub mod world;

use std::{sync::Arc, time::Duration};

use anyhow::{Context, bail};
use proto::{
    event::{LoginStep, event::Body},
    internal::{Commit, Committed},
};
use service::{
    Links, Process, ProcessKind, Zone, admin,
    config::{Role, SceneConfig},
};
use tokio::{sync::mpsc, time::timeout};

use self::{
    line::{Journey, Line, Reports},
    lines::Lines,
    players::Players,
    rules::{MapFacts, OpenRules, Rules},
    saver::{Ledger, Outcome},
    scene::Scene,
    world::Position,
};

/// How long giving everybody back may take at a stop; less than what the process has in all.
const DRAIN_WITHIN: Duration = Duration::from_secs(15);
const _: () = assert!(DRAIN_WITHIN.as_secs() < service::process::SHUTDOWN_GRACE.as_secs());
/// How often players whose time is over are looked for.
const SWEEP: Duration = Duration::from_millis(500);

/// Runs a scene with the example game until the process stops; everybody is saved and given back when it returns.
///
/// # Errors
/// When the rules refuse a map of this scene, an address is taken, or not everybody could be saved.
pub async fn run(process: Process) -> anyhow::Result<()> {
    run_with(process, game::open).await
}

/// Runs a scene with the rules of a game.
///
/// # Errors
/// As [`run`].
pub async fn run_with(process: Process, rules: OpenRules) -> anyhow::Result<()> {
    let config = scene_config(&process)?;
    let players = Players::default();
    let (lost_out, lost) = mpsc::unbounded_channel();
    let (journeys_out, journeys) = mpsc::unbounded_channel();
    let (levels_out, levels) = mpsc::unbounded_channel();
    let (panicked_out, mut panicked) = mpsc::channel(1);
    let events = process.events.clone();
    let reports = Reports { players: players.clone(), events, journeys: journeys_out, lost: lost_out.clone(), levels: levels_out };
    let lines = Lines::new(process.clone(), config, rules, reports, panicked_out)?;
    let scene = Scene::new(process.clone(), lines, players, lost_out);
    process.ready.wait_for(process.zone.of(ProcessKind::Dc).map(|dc| dc.id.0.clone()).collect());
    let links = Links::start(&process, Arc::new(scene.clone())).await.context("take links")?;
    scene.set_links(links.clone());
    process.events.send_to(&process, links.clone());
    admin::serve(&process, links, detail(&scene), axum::Router::new()).await.context("serve the admin port")?;

    scene.spawn_task("reports", attend(scene.clone(), lost, journeys, levels));
    scene.spawn_task("sweep", sweep(scene.clone(), process.tasks.stop_token()));
    scene.spawn_task("line reports", scene.clone().report_lines_for_ever(process.tasks.stop_token()));

    tokio::select! {
        () = process.tasks.stopped() => stop(&scene).await,
        _ = panicked.recv() => {
            // The players of the other lines are still to be saved.
            let saved = stop(&scene).await.err();
            bail!("run the lines: the thread of one panicked{}", saved.map(|err| format!("; then failed to {err:#}")).unwrap_or_default())
        }
    }
}

/// Wall-clock milliseconds since 1970, for records and events only.
pub(crate) fn now_ms() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

fn scene_config(process: &Process) -> anyhow::Result<SceneConfig> {
    match &process.config.role {
        Role::Scene(config) => Ok(config.clone()),
        _ => bail!("run {} as a scene: it is a {}", process.id(), process.config.kind()),
    }
}

/// What the example game would refuse of the zone file, one text a map that a scene could not open: key and reason.
pub fn problems(zone: &Zone) -> Vec<String> {
    let opened = zone.world.maps.keys().map(|map| open_rules(zone, map, Position { x: 0, y: 0 }, game::open));
    // The outermost context says that a map was to be opened; the key below it names the map too.
    let told = |err: &anyhow::Error| err.chain().skip(1).map(ToString::to_string).collect::<Vec<_>>().join(": ");
    opened.filter_map(|rules| Some(told(&rules.err()?))).collect()
}

/// Makes the rules of a map's line.
fn open_rules(zone: &Zone, map: &str, start: Position, rules: OpenRules) -> anyhow::Result<Box<dyn Rules>> {
    let facts = zone.world.maps.get(map).with_context(|| format!("open {map}: the zone has no such map"))?;
    let maps = zone.world.maps.iter().map(|(name, map)| (name.clone(), (map.width_cm, map.height_cm))).collect();
    let (width, height, tick_hz) = (facts.width_cm, facts.height_cm, zone.world.tick_hz);
    rules(&MapFacts { map, width, height, tick_hz, start, maps: &maps, config: &facts.rules }).with_context(|| format!("open {map}"))
}

/// Does what lines report; until the lines are gone.
async fn attend(
    scene: Scene,
    mut lost: mpsc::UnboundedReceiver<u64>,
    mut journeys: mpsc::UnboundedReceiver<(u32, Journey)>,
    mut levels: mpsc::UnboundedReceiver<(u64, u32)>,
) {
    let end = scene.end_token();
    loop {
        tokio::select! {
            biased;
            () = end.cancelled() => return,
            Some(player) = lost.recv() => {
                let own = scene.clone();
                scene.spawn_task("drop lost", async move { own.drop_lost(player).await });
            }
            Some((line, journey)) = journeys.recv() => {
                let own = scene.clone();
                scene.spawn_task("travel", async move { own.travel(line, journey).await });
            }
            Some((player, level)) = levels.recv() => scene.tell_level(player, level).await,
            else => return,
        }
    }
}

/// Lets players leave whose connection was lost for too long.
async fn sweep(scene: Scene, stop: tokio_util::sync::CancellationToken) {
    let mut ticks = tokio::time::interval(SWEEP);
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            now = ticks.tick() => {
                for (player, session) in scene.players().overdue(now) {
                    let own = scene.clone();
                    scene.spawn_task("leave", async move { own.leave(player, "timed out", Some(session)).await; });
                }
            }
        }
    }
}

/// Takes nobody any more, saves everybody and gives them back.
async fn stop(scene: &Scene) -> anyhow::Result<()> {
    scene.drain();
    let drained = timeout(DRAIN_WITHIN, scene.leave_all()).await;
    for line in scene.lines().all() {
        line.saver().close();
    }
    let unsaved: usize = scene.lines().all().iter().map(|line| line.saver().dirty()).sum();
    drained.with_context(|| format!("save everybody within {} s: {unsaved} are not saved", DRAIN_WITHIN.as_secs()))
}

/// dc, as the savers see it.
struct DcLedger(Scene);

impl Ledger for DcLedger {
    async fn commit(&self, commit: &Commit) -> Option<Committed> {
        let began = tokio::time::Instant::now();
        let links = self.0.links().await;
        let answer = links.call(ProcessKind::Dc, commit, saver::COMMIT_WITHIN).await;
        metrics::histogram!("paifang_scene_commit_seconds").record(began.elapsed().as_secs_f64());
        match answer {
            Ok(committed) => Some(committed),
            Err(err) => {
                metrics::counter!("paifang_scene_commits_repeated_total").increment(1);
                tracing::debug!("a commit has to be sent again: {err}");
                None
            }
        }
    }

    fn on_outcome(&self, outcome: Outcome) {
        for (player, frame) in outcome.deliver {
            self.0.players().deliver(player, frame);
        }
        for player in outcome.lost {
            self.0.report_lost(player);
        }
        for why in outcome.refused {
            tracing::warn!("dc did not take a save: {why}");
        }
        for player in outcome.first {
            self.first_saved(player);
        }
    }
}

impl DcLedger {
    /// Step 9 of a login: the player is saved by its scene for the first time.
    fn first_saved(&self, player: u64) {
        let Some(seat) = self.0.players().get(player).filter(|seat| seat.logging_in) else { return };
        self.0.players().change(player, |seat| seat.logging_in = false);
        let Some(line) = self.0.line(seat.line) else { return };
        let took_us = u32::try_from(seat.since.elapsed().as_micros()).unwrap_or(u32::MAX);
        let step = LoginStep { step: 9, ok: true, detail: "saved".into(), took_us, account_name: seat.account_name };
        self.0.events().emit(&self.0.players().subject(player, line.facts()), Body::LoginStep(step));
    }
}

/// What `/status` says of lines and savers.
fn detail(scene: &Scene) -> admin::Detail {
    let scene = scene.clone();
    Arc::new(move || {
        let line = |line: &Line| {
            let facts = line.facts();
            line.status(|status| {
                let [p50, p99, max] = status.times.figures_ms();
                serde_json::json!({
                    "map": facts.map, "line": facts.line, "closing": line.is_closing(), "players": status.players, "entities": status.entities,
                    "tick_ms": { "p50": p50, "p99": p99, "max": max }, "overruns": status.overruns,
                    "left_out": status.stand.rung.name(), "time_permille": status.stand.time_permille,
                    "ticks_us": status.times.counts_us(),
                })
            })
        };
        let dirty: usize = scene.lines().all().iter().map(|line| line.saver().dirty()).sum();
        serde_json::json!({
            "lines": scene.lines().all().iter().map(line).collect::<Vec<_>>(),
            "saver": { "dirty": dirty },
        })
    })
}
