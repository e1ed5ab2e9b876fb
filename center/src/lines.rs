//! Lines, as far as others do what [`crate::presence::steer`] wants: scenes that are asked to open and close them, players who look at
//! them and change from one to another.

use std::{sync::Arc, time::Duration};

use proto::{
    client::{Fault, FaultCode, LineChange, LineChanged, LineState, Lines},
    event::{self, event::Body},
    ids::PlayerId,
    internal::{CallFaultCode, LineClose, LineOpen, SceneChangeLine},
};
use service::{CallError, ProcessId, config::Role, events::Subject};
use tokio::time::Instant;

use crate::{
    center::{Center, SCENE_WITHIN},
    presence::{
        LINE_CHANGE_AFTER, Run, Speaker,
        lines::CENTER,
        players::State,
        steer::{Opening, Pauses},
    },
};

/// How often the lines are looked through.
const PERIOD: Duration = Duration::from_millis(250);
/// How long a player's change of lines may take: longer than its scene waits for what it did to be saved, and for dc.
const CHANGE_WITHIN: Duration = Duration::from_secs(15);

/// Opens and closes lines, until the process stops.
pub(crate) async fn run(center: Arc<Center>) {
    let stop = center.process.tasks.stop_token();
    while stop.run_until_cancelled(tokio::time::sleep(PERIOD)).await.is_some() {
        // Before the rebuild a line that seems missing may only not have been reported yet.
        if center.is_rebuilt() {
            let actions = center.presence().steer(Instant::now(), center.pauses());
            center.act(actions);
        }
    }
}

impl Center {
    fn pauses(&self) -> Pauses {
        match &self.process.config.role {
            Role::Center(center) => Pauses { rehome_after: center.rehome_after, line_empty: center.line_empty },
            _ => Pauses { rehome_after: Duration::ZERO, line_empty: Duration::ZERO },
        }
    }

    pub(crate) fn open_line_later(self: &Arc<Self>, opening: Opening) {
        let center = self.clone();
        self.spawn("line open", async move {
            // What came of it is in presence, and the next look at the lines does what is left to do.
            _ = center.open_line(&opening).await;
        });
    }

    /// Asks a scene to open a line, and settles in presence what came of it.
    ///
    /// # Errors
    /// When the scene gives no good answer.
    pub(crate) async fn open_line(self: &Arc<Self>, opening: &Opening) -> Result<(), CallError> {
        let call = LineOpen { map: opening.map.clone(), line: opening.line, opened_by: opening.opened_by.clone() };
        let answer = self.scene(&opening.scene, &call, SCENE_WITHIN).await;
        match answer {
            Ok(_) => {
                let actions = self.presence().line_opened(opening, Instant::now());
                self.act(actions);
                self.changed.notify_one();
                Ok(())
            }
            Err(err) => {
                tracing::warn!(scene = %opening.scene, map = opening.map, line = opening.line, "failed to open a line: {err}");
                self.presence().line_not_opened(opening, Instant::now());
                Err(err)
            }
        }
    }

    /// Makes a scene close a line. Should it not hear of it, its next report leads here again.
    pub(crate) fn close_line_later(self: &Arc<Self>, scene: Run, map: String, line: u32) {
        let center = self.clone();
        self.spawn("line close", async move {
            match center.scene(&scene, &LineClose { map, line }, SCENE_WITHIN).await {
                Err(err) if err.code() != Some(CallFaultCode::CallNotFound) => {
                    tracing::warn!(%scene, line, "failed to have a line closed: {err}");
                }
                _ => (),
            }
        });
    }

    /// Notes in the logs what became of a line.
    pub(crate) fn log_line(&self, what: &'static str, map: String, line: u32, scene: &ProcessId, by: String) {
        tracing::info!(map, line, %scene, by, "line {what}");
        metrics::counter!("paifang_center_line_changes_total", "what" => what).increment(1);
        let subject = Subject { map, line, ..Subject::default() };
        let changed = event::LineChanged { what: what.into(), scene: scene.0.clone(), by };
        self.process.events.emit(&subject, Body::LineChanged(changed));
    }

    /// The lines of the map that a player is on.
    pub(crate) fn line_list(&self, speaker: &Speaker, seq: u32) {
        let lines = self.presence().lines_for(speaker.player, &speaker.map);
        let lines = lines.into_iter().map(|(line, players, full)| LineState { line, players, full }).collect();
        self.tell(&speaker.gate, speaker.session, seq, &Lines { map: speaker.map.clone(), line: speaker.line, lines });
    }

    /// A player goes to another line of its map.
    pub(crate) async fn line_change(self: &Arc<Self>, speaker: &Speaker, seq: u32, change: &LineChange) -> Result<(), Fault> {
        let (scene, to) = self.line_for(speaker, change.line)?;
        if self.trades().of(speaker.player) {
            return Err(Fault::new(FaultCode::NotNow, "you are trading"));
        }
        if !self.presence().may_change_line(speaker.player, Instant::now()) {
            let text = format!("you have just changed lines; wait {} s", LINE_CHANGE_AFTER.as_secs());
            return Err(Fault::retry(FaultCode::NotNow, text, u32::try_from(LINE_CHANGE_AFTER.as_millis()).unwrap_or(u32::MAX)));
        }
        let call = SceneChangeLine { player: speaker.player.0, scene: to.to_string(), line: change.line };
        if let Err(err) = self.scene(&scene, &call, CHANGE_WITHIN).await {
            self.presence().forget_line_change(speaker.player);
            return Err(not_changed(speaker.player, err));
        }
        metrics::counter!("paifang_center_line_wishes_total").increment(1);
        self.tell(&speaker.gate, speaker.session, seq, &LineChanged { map: speaker.map.clone(), line: change.line });
        Ok(())
    }

    /// The scene that has a player, and the one with the line to which it may go.
    fn line_for(&self, speaker: &Speaker, line: u32) -> Result<(Run, Run), Fault> {
        let presence = self.presence();
        let moving = || Fault::retry(FaultCode::NotNow, "you are on the way elsewhere", 1_000);
        let known = presence.players.get(speaker.player).filter(|known| known.state == State::InWorld).ok_or_else(moving)?;
        let map = &known.place.map;
        if known.place.line == line {
            return Err(Fault::new(FaultCode::Invalid, format!("you are on line {line} of {map}")));
        }
        let to = presence.lines.get(map, line).ok_or_else(|| Fault::new(FaultCode::NotFound, format!("{map} has no line {line}")))?;
        if presence.takes(map, line, to, speaker.player) {
            Ok((known.place.scene.clone(), to.scene.clone()))
        } else {
            Err(Fault::retry(FaultCode::NotNow, format!("line {line} of {map} takes nobody now"), 5_000))
        }
    }

    /// What `/status` and `zone gm lines` say of the lines; of one map, if it is named.
    pub(crate) fn lines_status(&self, of_map: Option<&str>) -> Vec<serde_json::Value> {
        let presence = self.presence();
        let shown = presence.lines.iter().filter(|((map, _), _)| of_map.is_none_or(|wanted| wanted == map));
        let line = |((map, number), line): (&(String, u32), &crate::presence::lines::Line)| {
            serde_json::json!({
                "map": map,
                "line": number,
                "scene": line.scene.id,
                "players": presence.players.at(map, *number),
                "soft_cap": presence.lines.soft_cap(map, line),
                "players_max": line.players_max,
                "state": line.moving_to.as_ref().map_or_else(|| line.state.name().to_owned(), |to| format!("moving to {}", to.id)),
                "tick_p99_ms": f64::from(line.tick_p99_us) / 1_000.0,
                "overloaded": line.overloaded,
                "opened_by": if line.opened_by.is_empty() { CENTER } else { &line.opened_by },
            })
        };
        shown.map(line).collect()
    }
}

/// Why a player stays on its line: its scene's own words where it decided.
fn not_changed(player: PlayerId, err: CallError) -> Fault {
    match err {
        CallError::Refused(said) if said.code() == CallFaultCode::CallInvalid => Fault::new(FaultCode::NotNow, said.text),
        err => {
            tracing::debug!(%player, "a change of lines came to nothing: {err}");
            Fault::retry(FaultCode::NotNow, "you can't change lines at the moment", 1_000)
        }
    }
}
