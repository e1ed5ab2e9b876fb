//! Who is here: for each player its line, its session and gate, and whether its connection is lost; and one turn at a time for
//! whatever changes that.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use proto::{Frame, ids::PlayerId, internal::ActorReport};
use service::{Link, ProcessId, events::Subject};
use tokio::{sync::OwnedMutexGuard, time::Instant};

use crate::{line::LineFacts, world::Input};

/// How much longer than the resume window a session that a living gate reported lost may be silent: the gate ends it in time.
const GATE_MARGIN: Duration = Duration::from_secs(10);

/// The session of a player.
#[derive(Clone, Debug)]
pub(crate) struct Session {
    pub(crate) session: u64,
    pub(crate) epoch: u64,
    pub(crate) gate: ProcessId,
    /// The run of the gate: another run has no such session.
    pub(crate) gate_incarnation: u64,
    /// The number of the link to the gate.
    pub(crate) link: u64,
}

/// Why a session is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Loss {
    /// Its gate said so.
    Socket,
    /// The link to its gate is down.
    Gate,
    /// Another session of the account takes over.
    Replaced,
}

/// Whom a player is with, as center says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Party {
    /// 0: it is in none.
    pub(crate) id: u64,
    /// The player who leads it.
    pub(crate) leader: u64,
    pub(crate) friends: Vec<u64>,
}

impl Party {
    /// What the world is told.
    pub(crate) fn input(&self, player: u64) -> Input {
        let friends = self.friends.iter().copied().map(PlayerId).collect();
        Input::Party { player: PlayerId(player), party: self.id, friends }
    }
}

/// A player that is here.
#[derive(Clone, Debug)]
pub(crate) struct Seat {
    pub(crate) player: u64,
    pub(crate) name: String,
    pub(crate) account: u64,
    pub(crate) account_name: String,
    pub(crate) level: u32,
    /// Index of its line.
    pub(crate) line: u32,
    pub(crate) owner_epoch: u64,
    pub(crate) session: Session,
    pub(crate) muted_until_ms: i64,
    pub(crate) party: Party,
    /// The link by which its client can be told more than the line tells; none until the client has been told everything.
    pub(crate) out: Option<Link>,
    /// Why its session is lost, and when it leaves if nothing changes.
    pub(crate) lost: Option<(Loss, Instant)>,
    pub(crate) since: Instant,
    /// It came by a login whose last step is still to come.
    pub(crate) logging_in: bool,
}

/// All players of this process. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Players(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    seats: BTreeMap<u64, Seat>,
    by_session: BTreeMap<u64, u64>,
    turns: BTreeMap<u64, Arc<tokio::sync::Mutex<()>>>,
}

/// The turn of one player: nobody else lets it enter, leave or travel meanwhile.
pub(crate) struct Turn {
    players: Players,
    player: u64,
    guard: Option<OwnedMutexGuard<()>>,
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut inner = self.players.lock();
        drop(self.guard.take());
        // The table's own is the last: nobody waits.
        if inner.turns.get(&self.player).is_some_and(|turn| Arc::strong_count(turn) == 1) {
            inner.turns.remove(&self.player);
        }
    }
}

impl Players {
    /// Waits for the player's turn. Cancel-safe.
    pub(crate) async fn turn(&self, player: u64) -> Turn {
        let mutex = self.lock().turns.entry(player).or_default().clone();
        let mut turn = Turn { players: self.clone(), player, guard: None };
        turn.guard = Some(mutex.lock_owned().await);
        turn
    }

    /// The player's turn, if nobody has it.
    pub(crate) fn try_turn(&self, player: u64) -> Option<Turn> {
        let mutex = self.lock().turns.entry(player).or_default().clone();
        let mut turn = Turn { players: self.clone(), player, guard: None };
        turn.guard = Some(mutex.try_lock_owned().ok()?);
        Some(turn)
    }

    /// The player, if it is here.
    pub(crate) fn get(&self, player: u64) -> Option<Seat> {
        self.lock().seats.get(&player).cloned()
    }

    /// A player is here from now on, or here with another session.
    pub(crate) fn sit(&self, seat: Seat) {
        let mut inner = self.lock();
        if let Some(old) = inner.seats.get(&seat.player) {
            let session = old.session.session;
            inner.by_session.remove(&session);
        }
        inner.by_session.insert(seat.session.session, seat.player);
        inner.seats.insert(seat.player, seat);
    }

    /// The player is here no more.
    pub(crate) fn remove(&self, player: u64) -> Option<Seat> {
        let mut inner = self.lock();
        let seat = inner.seats.remove(&player)?;
        inner.by_session.remove(&seat.session.session);
        Some(seat)
    }

    /// Changes what is known of a player that is here.
    pub(crate) fn change(&self, player: u64, change: impl FnOnce(&mut Seat)) {
        if let Some(seat) = self.lock().seats.get_mut(&player) {
            change(seat);
        }
    }

    /// The player of a session of this link, and the index of its line.
    pub(crate) fn route(&self, session: u64, link: u64) -> Option<(u64, u32)> {
        let inner = self.lock();
        let seat = inner.seats.get(inner.by_session.get(&session)?)?;
        (seat.session.link == link).then_some((seat.player, seat.line))
    }

    /// The session's client has been told everything: from here on others may tell it more.
    pub(crate) fn bound(&self, player: u64, session: u64, link: Link) {
        self.change(player, |seat| {
            if seat.session.session == session && seat.session.link == link.number() {
                seat.out = Some(link);
            }
        });
    }

    /// A frame for a player's client, if it has one.
    pub(crate) fn deliver(&self, player: u64, frame: Frame) {
        let inner = self.lock();
        let Some(seat) = inner.seats.get(&player) else { return };
        if let Some(link) = &seat.out {
            // A link that is down loses the session, which is then told everything anew.
            let _ = link.deliver(seat.session.session, frame);
        }
    }

    /// Whom events of a player are about.
    pub(crate) fn subject(&self, player: u64, line: &LineFacts) -> Subject {
        let inner = self.lock();
        let place = Subject { player, map: line.map.clone(), line: line.line, ..Subject::default() };
        let Some(seat) = inner.seats.get(&player) else { return place };
        Subject { account: seat.account, player_name: seat.name.clone(), session: seat.session.session, ..place }
    }

    /// The connection of a session is lost; it leaves after the window if nothing changes. Returns its player and line.
    pub(crate) fn lose(&self, session: u64, link: u64, loss: Loss, window: Duration) -> Option<(u64, u32)> {
        let (player, line) = self.route(session, link)?;
        let margin = if loss == Loss::Socket { GATE_MARGIN } else { Duration::ZERO };
        self.change(player, |seat| seat.lost = Some((loss, Instant::now() + window + margin)));
        Some((player, line))
    }

    /// The connection of a session is back. Returns its player and line.
    pub(crate) fn regain(&self, session: u64, link: u64) -> Option<(u64, u32)> {
        let (player, line) = self.route(session, link)?;
        self.change(player, |seat| seat.lost = None);
        Some((player, line))
    }

    /// A gate's link is down: all its sessions are lost. Returns their players and lines.
    pub(crate) fn lose_gate(&self, link: u64, window: Duration) -> Vec<(u64, u32)> {
        let until = Instant::now() + window;
        let mut inner = self.lock();
        let seats = inner.seats.values_mut().filter(|seat| seat.session.link == link);
        seats
            .map(|seat| {
                seat.out = None;
                // A loss that the gate itself reported stays one: its end is near, and the client is not there to be told anything.
                seat.lost.get_or_insert((Loss::Gate, until));
                (seat.player, seat.line)
            })
            .collect()
    }

    /// Players whose sessions live at this run of a gate, but whose link to us broke.
    pub(crate) fn cut_off(&self, gate: &ProcessId, incarnation: u64) -> Vec<u64> {
        let cut_off = |seat: &&Seat| {
            seat.session.gate == *gate
                && seat.session.gate_incarnation == incarnation
                && seat.lost.is_some_and(|(loss, _)| loss == Loss::Gate)
        };
        self.lock().seats.values().filter(cut_off).map(|seat| seat.player).collect()
    }

    /// Players who were lost for too long, with their sessions; each is told once.
    pub(crate) fn overdue(&self, now: Instant) -> Vec<(u64, u64)> {
        let mut inner = self.lock();
        let overdue = inner.seats.values_mut().filter(|seat| seat.lost.is_some_and(|(_, until)| until <= now));
        overdue
            .map(|seat| {
                seat.lost = seat.lost.map(|(loss, _)| (loss, now + Duration::from_secs(3_600)));
                (seat.player, seat.session.session)
            })
            .collect()
    }

    /// Everybody, for center.
    pub(crate) fn report(&self, place: impl Fn(u32) -> Option<(String, u32)>) -> Vec<ActorReport> {
        let inner = self.lock();
        let actor = |seat: &Seat| {
            let (map, line) = place(seat.line)?;
            // A session whose gate is away may come back by its ticket, which center checks.
            let held = !seat.lost.is_some_and(|(loss, _)| loss == Loss::Replaced);
            Some(ActorReport {
                player: seat.player,
                name: seat.name.clone(),
                account: seat.account,
                account_name: seat.account_name.clone(),
                session: if held { seat.session.session } else { 0 },
                gate: seat.session.gate.0.clone(),
                session_epoch: seat.session.epoch,
                map,
                line,
                level: seat.level,
                party: seat.party.id,
                party_leader: seat.party.leader,
            })
        };
        inner.seats.values().filter_map(actor).collect()
    }

    /// Whether nobody is here.
    pub(crate) fn is_empty(&self) -> bool {
        self.lock().seats.is_empty()
    }

    /// The players on a line.
    pub(crate) fn of_line(&self, line: u32) -> Vec<u64> {
        self.lock().seats.values().filter(|seat| seat.line == line).map(|seat| seat.player).collect()
    }

    /// How many players are on a line.
    pub(crate) fn on_line(&self, line: u32) -> usize {
        self.lock().seats.values().filter(|seat| seat.line == line).count()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().expect("no holder of the players panics")
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn seat(player: u64, session: u64, link: u64) -> Seat {
        let session = Session { session, epoch: 1, gate: ProcessId("gate-1".into()), gate_incarnation: 5, link };
        Seat {
            player,
            name: format!("P{player}"),
            account: player,
            account_name: String::new(),
            level: 1,
            line: 0,
            owner_epoch: 1,
            session,
            muted_until_ms: 0,
            party: Party::default(),
            out: None,
            lost: None,
            since: Instant::now(),
            logging_in: false,
        }
    }

    #[test]
    fn frames_of_an_older_session_go_nowhere() {
        let players = Players::default();
        players.sit(seat(1, 100, 1));
        players.sit(seat(1, 200, 1));
        assert_eq!(players.route(100, 1), None);
        assert_eq!(players.route(200, 1), Some((1, 0)));
        assert_eq!(players.route(200, 2), None, "another gate can't speak for it");
        players.remove(1);
        assert_eq!(players.route(200, 1), None);
    }

    #[test]
    fn a_lost_session_is_overdue_once() {
        let players = Players::default();
        players.sit(seat(1, 100, 1));
        players.sit(seat(2, 200, 1));
        let window = Duration::from_secs(60);
        players.lose(100, 1, Loss::Socket, window);
        assert_eq!(players.lose_gate(1, window).len(), 2);
        let now = Instant::now() + window + Duration::from_secs(1);
        assert_eq!(players.overdue(now), [(2, 200)], "the gate that is gone ends nothing");
        assert!(players.overdue(now).is_empty());
        assert_eq!(players.overdue(now + GATE_MARGIN), [(1, 100)]);
        assert_eq!(players.cut_off(&ProcessId("gate-1".into()), 5), [2]);
        assert!(players.cut_off(&ProcessId("gate-1".into()), 6).is_empty());
    }

    #[test]
    fn a_session_whose_gate_is_gone_is_still_reported_and_a_replaced_one_is_not() {
        let players = Players::default();
        for (player, loss) in [(1, Loss::Socket), (2, Loss::Gate), (3, Loss::Replaced)] {
            players.sit(seat(player, 100 * player, 1));
            players.lose(100 * player, 1, loss, Duration::from_secs(60));
        }
        let report = players.report(|_| Some(("meadow".into(), 1)));
        assert_eq!(report.iter().map(|actor| actor.session).collect::<Vec<_>>(), [100, 200, 0]);
    }

    #[tokio::test]
    async fn turns_of_one_player_come_one_after_another() {
        let players = Players::default();
        let turn = players.turn(1).await;
        let other = players.turn(2).await;
        let waits = tokio::spawn({
            let players = players.clone();
            async move { drop(players.turn(1).await) }
        });
        tokio::task::yield_now().await;
        assert!(!waits.is_finished());
        drop((turn, other));
        waits.await.unwrap();
        assert!(players.lock().turns.is_empty());
    }
}
