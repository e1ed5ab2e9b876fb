//! How a player comes into a scene: at login, by handoff, out of homelessness, and by resume at another gate.
//!
//! Each way begins with a [`Plan`], which the shell carries out by one call to a scene, and ends in [`Presence::arrived`] or
//! [`Presence::not_arrived`]. In between the player is `Entering` with the plan's attempt, and whoever changes it meanwhile wins.

use proto::{
    ids::{AccountId, PlayerId, SessionEpoch, SessionId},
    internal::{PlayerEnter, PlayerHanded, SceneEnter, SceneEntered},
};
use tokio::time::Instant;

use super::{
    Action, Presence, Run,
    lines::{NoLine, Wish},
    players::{Fallback, Place, Player, State},
    sessions::Session,
};

/// What to ask which scene.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Plan {
    pub player: PlayerId,
    pub attempt: u64,
    pub scene: Run,
    pub request: SceneEnter,
}

/// Why a player can't enter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EnterRefused {
    /// Another session of the account is the live one.
    Replaced,
    /// The account has no session.
    NoSession,
    /// No line takes it.
    NoLine(NoLine),
}

/// What became of an enter that a scene answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// The player stands in the world.
    Here(Vec<Action>),
    /// The session is no longer the live one, or the player is elsewhere by now: the scene has to give it up.
    Void(Vec<Action>),
}

/// What a handoff asks of center.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Handed {
    /// Nothing more: the player is where it should be, or nobody waits for it.
    Done(Vec<Action>),
    /// The target has to take it.
    Enter(Plan),
}

/// What is to be done for a homeless player.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Rehome {
    Enter(Plan),
    /// It is not homeless any more, or nobody takes it yet.
    Wait,
    /// Nobody waits for it any more.
    Dropped(Vec<Action>),
}

impl Presence {
    /// The live session of the account, if it is this one.
    pub(crate) fn live(&self, account: AccountId, session: SessionId) -> Result<&Session, EnterRefused> {
        match self.sessions.get(account) {
            Some(live) if live.session == session => Ok(live),
            Some(_) => Err(EnterRefused::Replaced),
            None => Err(EnterRefused::NoSession),
        }
    }

    /// Other players of the account who have to leave the world before this one enters.
    pub(crate) fn others(&self, account: AccountId, player: PlayerId) -> Vec<(PlayerId, Run)> {
        let others = self.players.of_account(account).filter(|other| other.player != player);
        others.map(|other| (other.player, other.place.scene.clone())).collect()
    }

    /// Begins to bring a player in at login. One who is in the world is rebound where it is.
    pub(crate) fn enter(&mut self, call: &PlayerEnter, now_ms: i64) -> Result<Plan, EnterRefused> {
        let (account, player) = (AccountId(call.account), PlayerId(call.player));
        let live = self.live(account, SessionId(call.session))?.clone();
        let known = self.players.get(player);
        let (place, fallback) = match known.map(|known| (&known.place, known.state)) {
            Some((place, State::InWorld | State::Entering { fallback: Fallback::InWorld, .. })) => (place.clone(), Fallback::InWorld),
            // Whoever asks has read the map from dc, which knows it better than a scene that is gone.
            Some((_, State::Homeless { since, .. } | State::Entering { fallback: Fallback::Homeless(since), .. })) => {
                (self.place(&call.map, Wish { player, keep: 0, before: call.line })?, Fallback::Homeless(since))
            }
            Some((_, State::Entering { fallback: Fallback::Gone, .. })) | None => {
                (self.place(&call.map, Wish { player, keep: 0, before: call.line })?, Fallback::Gone)
            }
        };
        let entering = Player {
            player,
            name: call.name.clone(),
            level: call.level,
            account,
            account_name: live.account_name.clone(),
            session: live.session,
            session_epoch: live.epoch,
            owner_epoch: known.map_or(0, |known| known.owner_epoch),
            place,
            state: State::InWorld,
            online: known.is_some_and(|known| known.online),
            stray: None,
        };
        Ok(self.begin(entering, &live, fallback, call.seq, 0, now_ms))
    }

    /// Begins to bring a handed-over player into its target. `source` is the scene that gave it up.
    pub(crate) fn handed(&mut self, call: &PlayerHanded, source: &Run, known: Player, now_ms: i64, now: Instant) -> Handed {
        let Ok(target) = call.scene.parse::<Run>() else { return Handed::Done(Vec::new()) };
        let place = Place { scene: target, map: call.map.clone(), line: call.line };
        if place.scene == *source {
            return Handed::Done(self.moved(known, place, call.owner_epoch));
        }
        if call.owner_epoch <= known.owner_epoch && known.state == State::InWorld {
            // Told again, or overtaken by a later stay: dc has fenced this handoff off.
            return Handed::Done(Vec::new());
        }
        let Ok(live) = self.live(AccountId(call.account), SessionId(call.session)).cloned() else {
            // The session ended on the way: what the handoff saved is the truth, and nobody waits for the player.
            return Handed::Done(self.drop_player(known.player));
        };
        let linked = self.scenes.get(&place.scene.id) == Some(&place.scene.incarnation);
        let mut entering = Player { place, session: live.session, session_epoch: live.epoch, online: true, ..known };
        if !linked || self.is_cut_off(&live) {
            entering.state = State::Homeless { since: now, try_at: now };
            self.players.put(entering);
            return Handed::Done(vec![Action::Rehome]);
        }
        Handed::Enter(self.begin(entering, &live, Fallback::Homeless(now), 0, call.owner_epoch, now_ms))
    }

    /// Begins to bind a player in the world to its session at another gate.
    pub(crate) fn rebind(&mut self, player: PlayerId, gate: &Run, now_ms: i64) -> Option<Plan> {
        let known = self.players.get(player).filter(|known| known.state == State::InWorld)?.clone();
        let live = Session { gate: gate.clone(), ..self.sessions.get(known.account)?.clone() };
        Some(self.begin(known, &live, Fallback::InWorld, 0, 0, now_ms))
    }

    /// Begins to find a homeless player another scene. `saved`: the map and line that dc has, if it has them.
    pub(crate) fn rehome(&mut self, player: PlayerId, saved: Option<(&str, u32)>, now_ms: i64) -> Rehome {
        let Some(known) = self.players.get(player).cloned() else { return Rehome::Wait };
        let State::Homeless { since, .. } = known.state else { return Rehome::Wait };
        let Some(live) = self.sessions.get(known.account).filter(|live| live.session == known.session).cloned() else {
            return Rehome::Dropped(self.drop_player(player));
        };
        if self.is_cut_off(&live) {
            return Rehome::Wait;
        }
        let (map, line) = saved.unwrap_or((&known.place.map, known.place.line));
        let Ok(place) = self.place(map, Wish { player, keep: line, before: 0 }) else { return Rehome::Wait };
        Rehome::Enter(self.begin(Player { place, ..known }, &live, Fallback::Homeless(since), 0, 0, now_ms))
    }

    /// The scene has taken the player.
    pub(crate) fn arrived(&mut self, plan: &Plan, entered: &SceneEntered, now: Instant) -> Arrival {
        let Some(known) = self.entering(plan).cloned() else {
            // A report was quicker; if it named another scene, this one has to give the player up.
            let elsewhere = self.players.get(plan.player).is_none_or(|known| known.place.scene != plan.scene);
            return if elsewhere { Arrival::Void(Vec::new()) } else { Arrival::Here(Vec::new()) };
        };
        let Some(live) = self.sessions.get(known.account).filter(|live| live.session == known.session).cloned() else {
            return Arrival::Void(self.drop_player(plan.player));
        };
        let linked = self.scenes.get(&plan.scene.id) == Some(&plan.scene.incarnation);
        let newly_online = !known.online;
        let name = known.name;
        self.players.change(plan.player, |player| {
            player.state = if linked { State::InWorld } else { State::Homeless { since: now, try_at: now } };
            player.place.map = entered.map.clone();
            player.place.line = entered.line;
            player.level = entered.level;
            player.owner_epoch = entered.owner_epoch;
            player.online = true;
            player.stray = None;
        });
        let mut actions = vec![Action::JoinZone { gate: live.gate.id, session: live.session }, Action::TellScene { player: plan.player }];
        actions.extend(self.parties.standing(plan.player).map(Action::TellParty));
        if newly_online {
            actions.push(Action::TellFriends { player: plan.player, name, online: true });
        }
        if !linked {
            actions.push(Action::Rehome);
        }
        Arrival::Here(actions)
    }

    /// The scene has not taken the player. `unknown`: it may have, all the same.
    pub(crate) fn not_arrived(&mut self, plan: &Plan, unknown: bool, now: Instant, try_at: Instant) -> Vec<Action> {
        let Some(State::Entering { fallback, .. }) = self.entering(plan).map(|known| known.state) else { return Vec::new() };
        let linked = self.scenes.get(&plan.scene.id) == Some(&plan.scene.incarnation);
        match fallback {
            Fallback::Gone => {
                let mut actions = self.drop_player(plan.player);
                if unknown && linked {
                    actions.push(Action::Leave { scene: plan.scene.clone(), player: plan.player, reason: "not entered in time" });
                }
                actions
            }
            Fallback::InWorld if linked => {
                self.players.change(plan.player, |player| player.state = State::InWorld);
                Vec::new()
            }
            Fallback::InWorld => self.make_homeless(plan.player, now, try_at),
            Fallback::Homeless(since) => self.make_homeless(plan.player, since, try_at),
        }
    }

    pub(super) fn make_homeless(&mut self, player: PlayerId, since: Instant, try_at: Instant) -> Vec<Action> {
        self.players.change(player, |player| player.state = State::Homeless { since, try_at });
        vec![Action::Rehome]
    }

    /// The run of the gate that had the session is gone, and the client has not come back: bound to the gate's next run, which knows no
    /// such session, its player would be sent out at once. Its resume brings it into the world.
    fn is_cut_off(&self, live: &Session) -> bool {
        live.lost.is_some() && self.gates.get(&live.gate.id) != Some(&live.gate.incarnation)
    }

    fn entering(&self, plan: &Plan) -> Option<&Player> {
        let this = |state| matches!(state, State::Entering { attempt, .. } if attempt == plan.attempt);
        self.players.get(plan.player).filter(|known| this(known.state))
    }

    fn place(&self, map: &str, wish: Wish) -> Result<Place, EnterRefused> {
        let (scene, line) = self.pick(map, wish).map_err(EnterRefused::NoLine)?;
        Ok(Place { scene, map: map.into(), line })
    }

    fn moved(&mut self, known: Player, place: Place, owner_epoch: u64) -> Vec<Action> {
        let stays = matches!(known.state, State::InWorld) && known.place.scene == place.scene;
        if stays || self.players.get(known.player).is_none() {
            let player = known.player;
            self.players.put(Player { place, owner_epoch, state: State::InWorld, online: true, ..known });
            return self.parties.standing(player).map(Action::TellParty).into_iter().collect();
        }
        Vec::new()
    }

    fn begin(&mut self, mut entering: Player, live: &Session, fallback: Fallback, seq: u32, handed_epoch: u64, now_ms: i64) -> Plan {
        let attempt = self.players.next_attempt();
        entering.state = State::Entering { attempt, fallback };
        let party = self.parties.of(entering.player);
        let request = SceneEnter {
            session: live.session.0,
            gate: live.gate.id.0.clone(),
            session_epoch: live.epoch.0,
            account: entering.account.0,
            account_name: entering.account_name.clone(),
            player: entering.player.0,
            map: entering.place.map.clone(),
            line: entering.place.line,
            seq,
            muted_until_ms: self.muted_until(entering.account, now_ms),
            handed_epoch,
            party: party.map_or(0, |party| party.id.0),
            party_leader: party.map_or(0, |party| party.leader().0),
        };
        let plan = Plan { player: entering.player, attempt, scene: entering.place.scene.clone(), request };
        self.players.put(entering);
        plan
    }
}

/// A player of whom only what its handoff says is known: center started while it was between two scenes.
pub(crate) fn unknown_player(call: &PlayerHanded, source: &Run, name: String, level: u32) -> Player {
    Player {
        player: PlayerId(call.player),
        name,
        level,
        account: AccountId(call.account),
        account_name: call.account_name.clone(),
        session: SessionId(call.session),
        session_epoch: SessionEpoch(call.session_epoch),
        owner_epoch: 0,
        place: Place { scene: source.clone(), map: String::new(), line: 0 },
        state: State::InWorld,
        online: true,
        stray: None,
    }
}
