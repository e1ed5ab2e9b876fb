//! What a walking or fighting bot is, whoever reads its connection: where it stands, where it goes next, and what it makes of what it
//! hears.

use std::sync::{Arc, atomic::Ordering::Relaxed};

use prost::Message;
use proto::{
    ClientMessage, Frame,
    client::{
        Attack, CellChanges, CellGone, CellMoves, CellSnapshot, Corrected, Entered, Entity, EntityKind, Fault, FaultCode, Move, Position,
        TimeFactor,
    },
};
use tokio::time::Instant;

use super::{
    Profile, Shared,
    count::updates,
    latency::{Trail, Watcher},
    profile::Wanderer,
    role, stride,
};
use crate::{events::Event, random::Random, world_view::WorldView};

/// So near a bot strikes.
const STRIKE_CM: i64 = 200;
/// It strikes in every so many-th of its actions.
const STRIKE_EVERY: u64 = 5;

/// Among bots that drain their sockets, the others look at one of so many of those that they see.
const LOOK_AT_ONE_OF: u32 = 4;

/// What a bot does when it is due to act.
pub(super) enum Action {
    Move(Move),
    Attack(Attack),
    /// It waits for its next blow.
    Nothing,
}

/// See the module.
pub(super) struct Walker {
    pub(super) shared: Arc<Shared>,
    pub(super) number: usize,
    pub(super) random: Random,
    pub(super) trail: Arc<Trail>,
    /// None: it counts what moves, and does not look at who.
    watcher: Option<Watcher>,
    /// Only a fighter needs to know who stands where.
    world: Option<WorldView>,
    wanderer: Wanderer,
    home: Position,
    entity: u32,
    position: Position,
    /// Reused, so that the most frequent message costs no allocation.
    moves: CellMoves,
    acts: u64,
    /// Whether it lost its connection, and has not heard yet where it stands now.
    is_missing: bool,
    /// Positions received that are not in the totals yet.
    updates: u64,
    /// Bytes of the present connection that are in the totals.
    counted_bytes: u64,
}

impl Walker {
    /// A bot that has entered. `watches`: it looks at whom it sees.
    pub(super) fn new(shared: Arc<Shared>, number: usize, entered: &Entered, mut random: Random, watches: bool) -> Self {
        let trail = shared.trails[&role(&shared.prefix, number)].clone();
        let home = entered.position.unwrap_or_default();
        let wanderer = wanderer(&shared, entered, home, &mut random);
        // Where most bots only count, the few that measure see more than they need for that, and looking is what costs them most.
        let look_at_one_of = if shared.options.drain_hz.is_some() { LOOK_AT_ONE_OF } else { 1 };
        let world = (shared.options.profile == Profile::Fight).then(WorldView::default);
        let mut walker = Self {
            shared,
            number,
            random,
            trail,
            watcher: watches.then(|| Watcher::new(look_at_one_of)),
            world,
            wanderer,
            home,
            entity: 0,
            position: home,
            moves: CellMoves::default(),
            acts: 0,
            is_missing: false,
            updates: 0,
            counted_bytes: 0,
        };
        walker.entered(entered);
        walker
    }

    /// Its connection is lost, and it is to come back.
    pub(super) fn goes_missing(&mut self) {
        if !std::mem::replace(&mut self.is_missing, true) {
            self.shared.totals.away.fetch_add(1, Relaxed);
        }
    }

    /// It can't come back.
    pub(super) fn stays_away(&mut self) {
        if std::mem::replace(&mut self.is_missing, false) {
            self.shared.totals.away.fetch_sub(1, Relaxed);
            self.shared.totals.returns().gave_up();
        }
    }

    /// Whether it is to come back, and does not know yet where it stands.
    pub(super) const fn is_missing(&self) -> bool {
        self.is_missing
    }

    /// It has another connection.
    pub(super) fn reconnected(&mut self) {
        self.counted_bytes = 0;
    }

    /// What it does now, which it was due to do at `due`.
    pub(super) fn act(&mut self, due: Instant) -> Action {
        self.acts = self.acts.wrapping_add(1);
        let prey = self.prey().map(|entity| (entity.entity, entity.position.unwrap_or_default()));
        let to = match prey {
            Some((entity, at)) if stride::distance(self.position, at) <= STRIKE_CM => {
                let strikes = self.acts.is_multiple_of(STRIKE_EVERY);
                return if strikes { Action::Attack(Attack { entity }) } else { Action::Nothing };
            }
            Some((_, at)) => self.wanderer.step(self.position, at),
            None => self.wanderer.wander(self.position, &mut self.random),
        };
        self.position = to;
        self.trail.goes(to, due);
        self.shared.totals.moves_sent.fetch_add(1, Relaxed);
        Action::Move(Move { to: Some(to) })
    }

    /// The nearest NPC that lives, for a fighter.
    fn prey(&self) -> Option<&Entity> {
        let alive = |entity: &&Entity| entity.kind() == EntityKind::Npc && entity.hp > 0;
        let far = |entity: &&Entity| stride::distance(self.position, entity.position.unwrap_or_default());
        self.world.as_ref()?.entities().filter(alive).min_by_key(far)
    }

    /// Hears a frame.
    pub(super) fn take(&mut self, frame: &Frame, now: Instant) {
        match frame.kind() {
            CellMoves::KIND => self.saw_moves(frame, now),
            CellSnapshot::KIND | CellChanges::KIND | CellGone::KIND => self.saw_who(frame, now),
            Entered::KIND => self.with(frame, |bot, entered: &Entered| bot.entered(entered)),
            Corrected::KIND => self.with(frame, |bot, corrected: &Corrected| {
                bot.shared.totals.error("corrected");
                bot.put(corrected.position.unwrap_or_default());
            }),
            Fault::KIND => self.with(frame, |bot, fault: &Fault| bot.refused(fault)),
            TimeFactor::KIND => self.with(frame, |bot, factor: &TimeFactor| bot.wanderer.pace(factor.permille)),
            _ => {}
        }
        if let Some(world) = &mut self.world
            && let Some(event) = Event::from_frame(frame)
        {
            world.apply(&event);
        }
    }

    /// Adds what it heard to the totals.
    pub(super) fn report(&mut self, received_bytes: u64) {
        let totals = &self.shared.totals;
        totals.updates_received.fetch_add(std::mem::take(&mut self.updates), Relaxed);
        totals.bytes_received.fetch_add(received_bytes.saturating_sub(self.counted_bytes), Relaxed);
        self.counted_bytes = received_bytes;
        if let Some(watcher) = &mut self.watcher {
            watcher.hand_over(self.shared.totals.latency.of(self.number));
        }
    }

    fn saw_moves(&mut self, frame: &Frame, now: Instant) {
        self.trail.sees(now);
        let Some(watcher) = &mut self.watcher else {
            match updates(&frame.body()) {
                Some(updates) => self.updates = self.updates.saturating_add(updates),
                None => self.shared.totals.error("malformed message"),
            }
            return;
        };
        self.moves.clear();
        if self.moves.merge(frame.body()).is_err() {
            return self.shared.totals.error("malformed message");
        }
        self.updates = self.updates.saturating_add(watcher.moves(&self.moves, now));
    }

    fn saw_who(&mut self, frame: &Frame, now: Instant) {
        let (Some(mut watcher), shared) = (self.watcher.take(), self.shared.clone()) else { return };
        let (own, trails) = (self.entity, &shared.trails);
        match frame.kind() {
            CellSnapshot::KIND => self.with(frame, |_, snapshot: &CellSnapshot| watcher.snapshot(snapshot, own, trails, now)),
            CellChanges::KIND => self.with(frame, |_, changes: &CellChanges| watcher.changes(changes, own, trails, now)),
            _ => self.with(frame, |_, gone: &CellGone| watcher.gone(gone)),
        }
        self.watcher = Some(watcher);
    }

    fn with<M: ClientMessage>(&mut self, frame: &Frame, take: impl FnOnce(&mut Self, &M)) {
        match frame.decode() {
            Ok(message) => take(self, &message),
            Err(_) => self.shared.totals.error("malformed message"),
        }
    }

    /// A fighter's strikes may miss: the prey moves, dies, or the fighter does.
    fn refused(&self, fault: &Fault) {
        let misses = [FaultCode::NotFound, FaultCode::OutOfRange, FaultCode::NotNow];
        if self.world.is_none() || !misses.contains(&fault.code()) {
            self.shared.totals.error(fault.code().as_str_name());
        }
    }

    /// The world begins anew.
    pub(super) fn entered(&mut self, entered: &Entered) {
        if let Some(watcher) = &mut self.watcher {
            watcher.forget();
        }
        self.entity = entered.entity;
        self.wanderer = wanderer(&self.shared, entered, self.home, &mut self.random);
        self.put(entered.position.unwrap_or_default());
        self.is_back();
    }

    /// It knows where it stands.
    pub(super) fn is_back(&mut self) {
        if std::mem::replace(&mut self.is_missing, false) {
            self.shared.totals.away.fetch_sub(1, Relaxed);
            self.shared.totals.returns().inside();
        }
    }

    fn put(&mut self, at: Position) {
        self.position = at;
        self.trail.was_put(at);
    }
}

fn wanderer(shared: &Shared, entered: &Entered, home: Position, random: &mut Random) -> Wanderer {
    let options = &shared.options;
    Wanderer::of(options.profile, home, (entered.width, entered.height), entered.speed_max, options.move_period(), random)
}
