//! What time ends: lost sessions, players whom nobody plays any more, and the waiting of the homeless.

use std::time::Duration;

use proto::ids::{PlayerId, SessionId};
use tokio::time::Instant;

use super::{
    Action, LINE_CHANGE_AFTER, Presence,
    players::{Player, State},
    sessions::Session,
};

/// A gate that lives ends its lost sessions itself; center does it this much later.
const SPARE: Duration = Duration::from_secs(10);
/// A scene sends out players without a session itself; center asks it this much later.
const STRAY_SPARE: Duration = Duration::from_secs(15);
/// How much longer a homeless player waits whose map nobody hosts: each try asks dc.
const ELSEWHERE_AFTER: Duration = Duration::from_secs(4);
/// How much longer a homeless player waits for its own line to be opened anew, before another one will do.
const OPENED_WITHIN: Duration = Duration::from_secs(5);

impl Presence {
    /// Ends what is over.
    pub(crate) fn sweep(&mut self, now: Instant, now_ms: i64) -> Vec<Action> {
        self.nonces.retain(|_, expires| now_ms < *expires);
        self.mutes.retain(|_, until| now_ms < *until);
        let over: Vec<SessionId> = self.sessions.iter().filter(|live| self.is_over(live, now)).map(|live| live.session).collect();
        let mut actions: Vec<Action> = over.into_iter().flat_map(|session| self.session_forgotten(session)).collect();
        actions.extend(self.send_out_strays(now));
        self.line_changes.retain(|_, last| now.duration_since(*last) < LINE_CHANGE_AFTER);
        let players = &self.players;
        let online = |player| players.get(player).is_some_and(|player| player.online);
        actions.extend(self.parties.sweep(now, self.resume_window, online).into_iter().map(Action::TellParty));
        actions
    }

    /// Homeless players whom a scene may take now. They are not due again before `again`, and those whose map nobody hosts, as far as
    /// is known here, not before [`ELSEWHERE_AFTER`]: dc may know better.
    pub(crate) fn homeless_due(&mut self, now: Instant, rehome_after: Duration, again: Instant) -> Vec<PlayerId> {
        let mut due = Vec::new();
        let lines = &self.lines;
        self.players.each_state(|player| match player.state {
            State::Homeless { since, try_at } if try_at <= now => {
                let home = lines.hosts(&player.place.scene.id, &player.place.map);
                let waited = now.duration_since(since);
                let coming = lines.is_coming(&player.place.map, player.place.line) && waited < rehome_after + OPENED_WITHIN;
                (!coming && (home || rehome_after <= waited)).then(|| {
                    due.push(player.player);
                    let try_at = if lines.has(&player.place.map) { again } else { again + ELSEWHERE_AFTER };
                    State::Homeless { since, try_at }
                })
            }
            _ => None,
        });
        due
    }

    fn is_over(&self, live: &Session, now: Instant) -> bool {
        let gate_lives = self.gates.get(&live.gate.id) == Some(&live.gate.incarnation);
        let window = if gate_lives { self.resume_window + SPARE } else { self.resume_window };
        live.lost.is_some_and(|lost| window <= now.duration_since(lost))
    }

    fn send_out_strays(&mut self, now: Instant) -> Vec<Action> {
        let mut actions = Vec::new();
        let mut homeless = Vec::new();
        let mut changed = Vec::new();
        for player in self.players.iter() {
            let stray = !self.sessions.is_live(player.account, player.session);
            match player.state {
                State::Entering { .. } => (),
                State::Homeless { .. } if stray => homeless.push(player.player),
                State::InWorld if stray => {
                    let since = player.stray.unwrap_or(now);
                    let over = self.resume_window + STRAY_SPARE <= now.duration_since(since);
                    if over {
                        actions.push(stray_leaves(player));
                    }
                    changed.push((player.player, Some(if over { now } else { since })));
                }
                State::InWorld | State::Homeless { .. } if player.stray.is_some() => changed.push((player.player, None)),
                State::InWorld | State::Homeless { .. } => (),
            }
        }
        for (player, since) in changed {
            self.players.set_stray(player, since);
        }
        actions.extend(homeless.into_iter().flat_map(|player| self.drop_player(player)));
        actions
    }
}

fn stray_leaves(player: &Player) -> Action {
    Action::Leave { scene: player.place.scene.clone(), player: player.player, reason: "its session is over" }
}
