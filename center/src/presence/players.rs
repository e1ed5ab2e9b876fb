//! Players in the world, each in one place. [`Players`] keeps its indexes true: by account, by name, and how many are in a line.

use std::collections::{BTreeMap, BTreeSet};

use proto::ids::{AccountId, PlayerId, SessionEpoch, SessionId};
use tokio::time::Instant;

use super::{Action, Presence, Run};

/// Where a player stands, or is to stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub scene: Run,
    pub map: String,
    pub line: u32,
}

/// How a player stands to its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// A scene was asked to take it; the number tells this attempt from others.
    Entering { attempt: u64, fallback: Fallback },
    /// A scene has it.
    InWorld,
    /// Its scene is gone; another, or the next run of the same, is to take it.
    Homeless { since: Instant, try_at: Instant },
}

/// What becomes of an entering player whom the scene does not take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fallback {
    /// It was nowhere before.
    Gone,
    /// It is in that scene already; only its session was to change.
    InWorld,
    /// No scene has had it since then, and it is to have one.
    Homeless(Instant),
}

/// A player who is in the world or about to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Player {
    pub player: PlayerId,
    pub name: String,
    pub level: u32,
    pub account: AccountId,
    pub account_name: String,
    /// The session it is bound to; 0: none.
    pub session: SessionId,
    pub session_epoch: SessionEpoch,
    pub owner_epoch: u64,
    pub place: Place,
    pub state: State,
    /// Whether friends see it online: it has been in the world and has not left.
    pub online: bool,
    /// Since when its session is not the live one of its account.
    pub stray: Option<Instant>,
}

/// All players in the world.
#[derive(Debug, Default)]
pub(crate) struct Players {
    all: BTreeMap<PlayerId, Player>,
    accounts: BTreeMap<AccountId, BTreeSet<PlayerId>>,
    names: BTreeMap<String, PlayerId>,
    lines: BTreeMap<(String, u32), u32>,
    attempts: u64,
}

impl Players {
    pub(crate) fn get(&self, player: PlayerId) -> Option<&Player> {
        self.all.get(&player)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Player> {
        self.all.values()
    }

    pub(crate) fn of_account(&self, account: AccountId) -> impl Iterator<Item = &Player> {
        self.accounts.get(&account).into_iter().flatten().filter_map(|player| self.all.get(player))
    }

    /// By name, whatever the case.
    pub(crate) fn named(&self, name: &str) -> Option<&Player> {
        self.names.get(&proto::names::player_key(name)).and_then(|player| self.all.get(player))
    }

    /// Online players whose names begin so, whatever the case.
    pub(crate) fn named_like<'a>(&'a self, prefix: &str) -> impl Iterator<Item = &'a Player> {
        let key = proto::names::player_key(prefix);
        let from = self.names.range(key.clone()..);
        from.take_while(move |(name, _)| name.starts_with(&key)).filter_map(|(_, player)| self.all.get(player))
    }

    /// How many are in a line, or about to be.
    pub(crate) fn at(&self, map: &str, line: u32) -> u32 {
        self.lines.get(&(map.to_owned(), line)).copied().unwrap_or(0)
    }

    pub(crate) fn online(&self) -> usize {
        self.all.values().filter(|player| player.online).count()
    }

    pub(crate) fn homeless(&self) -> usize {
        self.all.values().filter(|player| matches!(player.state, State::Homeless { .. })).count()
    }

    pub(super) fn next_attempt(&mut self) -> u64 {
        self.attempts += 1;
        self.attempts
    }

    pub(super) fn put(&mut self, player: Player) {
        self.remove(player.player);
        *self.lines.entry((player.place.map.clone(), player.place.line)).or_default() += 1;
        self.accounts.entry(player.account).or_default().insert(player.player);
        self.names.insert(proto::names::player_key(&player.name), player.player);
        self.all.insert(player.player, player);
    }

    pub(super) fn remove(&mut self, player: PlayerId) -> Option<Player> {
        let removed = self.all.remove(&player)?;
        let line = (removed.place.map.clone(), removed.place.line);
        if let Some(count) = self.lines.get_mut(&line) {
            *count -= 1;
            if *count == 0 {
                self.lines.remove(&line);
            }
        }
        if let Some(of_account) = self.accounts.get_mut(&removed.account) {
            of_account.remove(&player);
            if of_account.is_empty() {
                self.accounts.remove(&removed.account);
            }
        }
        let key = proto::names::player_key(&removed.name);
        if self.names.get(&key) == Some(&player) {
            self.names.remove(&key);
        }
        Some(removed)
    }

    /// Changes a player, its indexes too.
    pub(super) fn change(&mut self, player: PlayerId, change: impl FnOnce(&mut Player)) {
        if let Some(mut changed) = self.remove(player) {
            change(&mut changed);
            self.put(changed);
        }
    }

    /// Changes players in what no index depends on.
    pub(super) fn each_state(&mut self, mut change: impl FnMut(&Player) -> Option<State>) {
        for player in self.all.values_mut() {
            if let Some(state) = change(player) {
                player.state = state;
            }
        }
    }

    pub(super) fn set_stray(&mut self, player: PlayerId, since: Option<Instant>) {
        if let Some(player) = self.all.get_mut(&player) {
            player.stray = since;
        }
    }
}

impl Presence {
    /// The scene says that the player left it. What a scene says that no longer has the player is passed over, and so is the echo of
    /// an earlier stay while the scene is asked to take the player again.
    ///
    /// A client that is still there did not want to leave: its scene lost it (to another owner, or while the gate was cut off), and it
    /// gets a scene again. `try_at` leaves the gate the time to say that the session has ended after all.
    pub(crate) fn player_left(&mut self, scene: &Run, player: PlayerId, now: Instant, try_at: Instant) -> Vec<Action> {
        let Some(known) = self.players.get(player).filter(|known| known.place.scene == *scene) else { return Vec::new() };
        let played = self.sessions.get(known.account).is_some_and(|live| live.session == known.session && live.lost.is_none());
        match known.state {
            // It is not where it was to be bound anew: if the scene does not take it again, it is nowhere.
            State::Entering { attempt, fallback: Fallback::InWorld } => {
                self.players.change(player, |player| player.state = State::Entering { attempt, fallback: Fallback::Gone });
                Vec::new()
            }
            State::InWorld if played => self.make_homeless(player, now, try_at),
            State::InWorld => self.drop_player(player),
            State::Entering { .. } | State::Homeless { .. } => Vec::new(),
        }
    }

    /// The scene has given the player up because it was asked to.
    pub(crate) fn sent_out(&mut self, scene: &Run, player: PlayerId) -> Vec<Action> {
        match self.players.get(player) {
            Some(known) if known.place.scene == *scene && !matches!(known.state, State::Entering { .. }) => self.drop_player(player),
            _ => Vec::new(),
        }
    }

    /// The scene says what level the player has.
    pub(crate) fn player_level(&mut self, scene: &Run, player: PlayerId, level: u32) {
        if self.players.get(player).is_some_and(|known| known.place.scene == *scene) {
            self.players.change(player, |known| known.level = level);
        }
    }

    /// Its scene is down: whoever it had needs another.
    pub(crate) fn scene_down(&mut self, scene: &Run, now: Instant) -> Vec<Action> {
        let mut actions = self.lines.scene_down(&scene.id, now);
        self.scenes.remove(&scene.id);
        let mut homeless = false;
        self.players.each_state(|player| match player.state {
            _ if player.place.scene.id != scene.id => None,
            State::InWorld => {
                homeless = true;
                Some(State::Homeless { since: now, try_at: now })
            }
            // The rebinding call fails too, and must not leave the player in a scene that is gone.
            State::Entering { attempt, fallback: Fallback::InWorld } => {
                Some(State::Entering { attempt, fallback: Fallback::Homeless(now) })
            }
            State::Entering { .. } | State::Homeless { .. } => None,
        });
        actions.extend(homeless.then_some(Action::Rehome));
        actions
    }

    /// Takes a player out of presence.
    pub(crate) fn drop_player(&mut self, player: PlayerId) -> Vec<Action> {
        let Some(gone) = self.players.remove(player) else { return Vec::new() };
        let mut actions = Vec::new();
        if let Some(live) = self.sessions.get(gone.account).filter(|live| live.session == gone.session) {
            let party = self.parties.of(player).map(|party| party.id);
            actions.push(Action::LeaveZone { gate: live.gate.id.clone(), session: live.session, party });
        }
        actions.extend(self.parties.standing(player).map(Action::TellParty));
        if gone.online {
            actions.push(Action::TellFriends { player, name: gone.name, online: false });
        }
        actions
    }

    pub(super) fn drop_homeless_of(&mut self, account: AccountId) -> Vec<Action> {
        let homeless = |player: &&Player| matches!(player.state, State::Homeless { .. });
        let of_account: Vec<PlayerId> = self.players.of_account(account).filter(homeless).map(|player| player.player).collect();
        of_account.into_iter().flat_map(|player| self.drop_player(player)).collect()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use service::ProcessId;

    use super::*;

    pub(in crate::presence) fn player_at(number: u64, scene: &str, map: &str, line: u32) -> Player {
        Player {
            player: PlayerId(number),
            name: format!("Player{number}"),
            level: 1,
            account: AccountId(number),
            account_name: format!("a{number}"),
            session: SessionId(number),
            session_epoch: SessionEpoch(number),
            owner_epoch: 1,
            place: Place { scene: Run { id: ProcessId(scene.into()), incarnation: 1 }, map: map.into(), line },
            state: State::InWorld,
            online: true,
            stray: None,
        }
    }

    #[test]
    fn the_indexes_follow_every_change() {
        let mut players = Players::default();
        players.put(player_at(1, "scene-1", "meadow", 1));
        players.put(player_at(2, "scene-1", "meadow", 1));
        assert_eq!(players.at("meadow", 1), 2);
        players.change(PlayerId(2), |player| player.place.line = 2);
        assert_eq!((players.at("meadow", 1), players.at("meadow", 2)), (1, 1));
        assert_eq!(players.named("PLAYER2").map(|player| player.player), Some(PlayerId(2)));
        assert_eq!(players.named_like("play").count(), 2);
        assert_eq!(players.of_account(AccountId(2)).count(), 1);
        players.remove(PlayerId(2));
        assert_eq!((players.named("Player2"), players.at("meadow", 2), players.of_account(AccountId(2)).count()), (None, 0, 0));
    }

    #[test]
    fn only_the_scene_that_has_a_player_says_that_it_left() {
        let (mut presence, now) = (Presence::new(std::time::Duration::from_secs(60)), Instant::now());
        presence.players.put(player_at(1, "scene-1", "meadow", 1));
        let other = Run { id: ProcessId("scene-2".into()), incarnation: 1 };
        assert_eq!(presence.player_left(&other, PlayerId(1), now, now), []);
        let earlier = Run { id: ProcessId("scene-1".into()), incarnation: 9 };
        assert_eq!(presence.player_left(&earlier, PlayerId(1), now, now), []);
        let told = presence.player_left(&Run { id: ProcessId("scene-1".into()), incarnation: 1 }, PlayerId(1), now, now);
        assert_eq!(told, [Action::TellFriends { player: PlayerId(1), name: "Player1".into(), online: false }]);
    }
}
