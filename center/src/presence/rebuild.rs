//! What gates and scenes report of themselves when a link comes up: from it presence is rebuilt after a restart of center, and
//! corrected after a broken link.
//!
//! Where two report the same, the higher session epoch wins; of two scenes with an equal one, that to which this center brought the
//! player, else the newer report. The other is told to give up what it has; until it does, dc's fence refuses its saves.

use std::{collections::BTreeSet, time::Duration};

use proto::{
    client::FaultCode,
    ids::{AccountId, PlayerId, SessionEpoch, SessionId},
    internal::{ActorReport, LineReport, PlayerProfile, SessionReport},
};
use service::ProcessId;
use tokio::time::Instant;

use super::{
    Action, Presence, Run,
    parties::{Change, PartyId},
    players::{Place, Player, State},
    sessions::Session,
};

/// A session claimed less long ago may not yet be in its gate's report: the claim's answer travels through login.
const YOUNG: Duration = Duration::from_secs(10);

impl Presence {
    pub(crate) fn gate_up(&mut self, gate: &Run) {
        self.gates.insert(gate.id.clone(), gate.incarnation);
    }

    /// Its sessions may come back, there or at another gate, within the window.
    pub(crate) fn gate_down(&mut self, gate: &Run, now: Instant) {
        self.gates.remove(&gate.id);
        let at_gate: Vec<SessionId> = self.sessions.iter().filter(|live| live.gate.id == gate.id).map(|live| live.session).collect();
        for session in at_gate {
            self.session_lost(&gate.id, session, now);
        }
    }

    /// After the reports of a rebuild: sessions whose gates say that they play, though no scene has a player of the account. It was
    /// between two scenes, or its scene died, while no center was there to see it.
    pub(crate) fn take_orphans(&mut self) -> Vec<(SessionId, PlayerId)> {
        let playing = std::mem::take(&mut self.playing);
        let nowhere =
            |session: &SessionId| self.sessions.of(*session).is_some_and(|live| self.players.of_account(live.account).next().is_none());
        playing.into_iter().filter(|(session, _)| nowhere(session)).collect()
    }

    /// A player whom a session plays and nobody has, as dc knows it: it is to have a scene.
    pub(crate) fn adopt_orphan(&mut self, session: SessionId, profile: &PlayerProfile, now: Instant) -> Vec<Action> {
        let Some(live) = self.sessions.of(session).filter(|live| live.account.0 == profile.account).cloned() else { return Vec::new() };
        if self.players.of_account(live.account).next().is_some() {
            return Vec::new();
        }
        let record = profile.record.clone().unwrap_or_default();
        // Its scene is not known; no run has this name.
        let nobody = Run { id: ProcessId(String::new()), incarnation: 0 };
        self.players.put(Player {
            player: PlayerId(profile.player),
            name: profile.name.clone(),
            level: record.level,
            account: live.account,
            account_name: live.account_name,
            session,
            session_epoch: live.epoch,
            owner_epoch: 0,
            place: Place { scene: nobody, map: record.map, line: record.line },
            state: State::Homeless { since: now, try_at: now },
            online: true,
            stray: None,
        });
        vec![Action::Rehome]
    }

    pub(crate) fn scene_up(&mut self, scene: &Run) {
        self.scenes.insert(scene.id.clone(), scene.incarnation);
    }

    /// All authenticated sessions of a gate.
    pub(crate) fn gate_reported(&mut self, gate: &Run, sessions: &[SessionReport], now: Instant) -> Vec<Action> {
        let mut actions = Vec::new();
        for report in sessions {
            actions.extend(self.adopt_session(gate, report, now));
        }
        let reported: BTreeSet<SessionId> = sessions.iter().map(|report| SessionId(report.session)).collect();
        let missing = |live: &&Session| live.gate.id == gate.id && !reported.contains(&live.session);
        let missing: Vec<Session> = self.sessions.iter().filter(missing).cloned().collect();
        for session in missing {
            actions.extend(self.not_reported(gate, &session, now));
        }
        actions
    }

    /// What a scene hosts and who is there. `first`: on this link, so that whoever is not in it is not there.
    pub(crate) fn scene_reported(
        &mut self,
        scene: &Run,
        lines: &[LineReport],
        actors: &[ActorReport],
        first: bool,
        now: Instant,
    ) -> Vec<Action> {
        let mut actions = self.lines.put(scene, lines);
        for actor in actors {
            actions.extend(self.adopt_actor(scene, actor, now));
        }
        if first {
            let reported: BTreeSet<PlayerId> = actors.iter().map(|actor| PlayerId(actor.player)).collect();
            let left = |player: &&Player| {
                player.place.scene == *scene && !matches!(player.state, State::Entering { .. }) && !reported.contains(&player.player)
            };
            let left: Vec<PlayerId> = self.players.iter().filter(left).map(|player| player.player).collect();
            actions.extend(left.into_iter().flat_map(|player| self.drop_player(player)));
        }
        actions.extend(first.then_some(Action::Rehome));
        actions
    }

    fn adopt_session(&mut self, gate: &Run, report: &SessionReport, now: Instant) -> Vec<Action> {
        let (session, account) = (SessionId(report.session), AccountId(report.account));
        let epoch = SessionEpoch(report.session_epoch);
        self.sessions.saw(epoch);
        if session.0 == 0 || account.0 == 0 {
            return Vec::new();
        }
        let reported = Session {
            session,
            account,
            account_name: report.account_name.clone(),
            epoch,
            gate: gate.clone(),
            address: report.address.clone(),
            since: now,
            lost: None,
        };
        let mut actions = match self.sessions.get(account).cloned() {
            Some(live) if live.session == session && live.gate.id != gate.id => {
                let text = "the session goes on at another gate".into();
                return vec![Action::Close { gate: gate.id.clone(), session, code: FaultCode::LoggedInElsewhere, text }];
            }
            Some(live) if live.session != session && epoch <= live.epoch => return vec![reported.closed_by_a_newer()],
            Some(live) if live.session == session => {
                self.sessions.put(Session { epoch: epoch.max(live.epoch), since: live.since, ..reported });
                Vec::new()
            }
            _ => self.sessions.put(reported).iter().map(Session::closed_by_a_newer).collect(),
        };
        if report.player != 0 {
            self.playing.insert(session, PlayerId(report.player));
            actions.push(Action::JoinZone { gate: gate.id.clone(), session });
        }
        actions
    }

    fn not_reported(&mut self, gate: &Run, session: &Session, now: Instant) -> Vec<Action> {
        if now.duration_since(session.since) < YOUNG {
            return Vec::new();
        }
        if session.gate.incarnation == gate.incarnation {
            return self.session_forgotten(session.session);
        }
        // The gate was started anew and remembers nothing; the client may still come back with its ticket.
        self.session_lost(&gate.id, session.session, now);
        Vec::new()
    }

    fn adopt_actor(&mut self, scene: &Run, actor: &ActorReport, now: Instant) -> Vec<Action> {
        let (player, account) = (PlayerId(actor.player), AccountId(actor.account));
        let epoch = SessionEpoch(actor.session_epoch);
        self.sessions.saw(epoch);
        let leave = |scene: &Run, player| Action::Leave { scene: scene.clone(), player, reason: "the player is in another scene" };
        let other = self.players.of_account(account).find(|other| other.player != player).cloned();
        if let Some(other) = &other
            && epoch <= other.session_epoch
        {
            return vec![leave(scene, player)];
        }
        let known = self.players.get(player).cloned();
        let mut actions = Vec::new();
        match &known {
            Some(known) if matches!(known.state, State::Entering { .. }) && epoch <= known.session_epoch => {
                return if known.place.scene.id == scene.id { Vec::new() } else { vec![leave(scene, player)] };
            }
            // From before the scene was told of the newer session; a homeless one is told again.
            Some(known) if epoch < known.session_epoch && known.place.scene == *scene => return Vec::new(),
            Some(known) if epoch < known.session_epoch => return vec![leave(scene, player)],
            Some(known) if self.entered_there(known) && known.place.scene.id != scene.id => return vec![leave(scene, player)],
            Some(known) if known.place.scene.id != scene.id => actions.push(leave(&known.place.scene, player)),
            _ => (),
        }
        if let Some(other) = other {
            actions.extend(self.drop_player(other.player));
            actions.push(leave(&other.place.scene, other.player));
        }
        actions.extend(self.adopt_session_of(actor, now));
        let adopted = if known.is_none() { self.adopt_party_of(actor, now) } else { None };
        let party = self.parties.of(player).map_or(PartyId(0), |party| party.id);
        actions.extend((party != PartyId(actor.party)).then_some(Action::TellScene { player }));
        self.players.put(Player {
            player,
            name: actor.name.clone(),
            level: actor.level,
            account,
            account_name: actor.account_name.clone(),
            session: SessionId(actor.session),
            session_epoch: epoch,
            owner_epoch: known.filter(|known| known.place.scene == *scene).map_or(0, |known| known.owner_epoch),
            place: Place { scene: scene.clone(), map: actor.map.clone(), line: actor.line },
            state: State::InWorld,
            online: true,
            stray: None,
        });
        actions.extend(adopted.map(Action::TellParty));
        actions
    }

    /// The party of a player of whom this center has not heard before.
    fn adopt_party_of(&mut self, actor: &ActorReport, now: Instant) -> Option<Change> {
        let (who, leader) = ((PlayerId(actor.player), actor.name.as_str()), PlayerId(actor.party_leader));
        self.parties.adopt(who, PartyId(actor.party), leader, now)
    }

    /// Whether this center brought the player to where it is known to be, and that scene is still here: then dc has fenced off every
    /// earlier stay, and another scene that reports the player with the same session tells of one.
    fn entered_there(&self, known: &Player) -> bool {
        let linked = self.scenes.get(&known.place.scene.id) == Some(&known.place.scene.incarnation);
        linked && known.state == State::InWorld && 0 < known.owner_epoch
    }

    /// A session that only a scene tells of: its gate is gone, or has not reported yet. Until a gate has it, it counts as lost.
    fn adopt_session_of(&mut self, actor: &ActorReport, now: Instant) -> Vec<Action> {
        let (session, account) = (SessionId(actor.session), AccountId(actor.account));
        let epoch = SessionEpoch(actor.session_epoch);
        let newer = self.sessions.get(account).is_none_or(|live| live.epoch < epoch && live.session != session);
        if session.0 == 0 || !newer {
            return Vec::new();
        }
        let gate = self.gate_run(&actor.gate);
        let (account_name, address) = (actor.account_name.clone(), String::new());
        let lost = Some(now);
        let replaced = self.sessions.put(Session { session, account, account_name, epoch, gate, address, since: now, lost });
        replaced.iter().map(Session::closed_by_a_newer).collect()
    }
}
