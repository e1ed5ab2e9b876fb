//! The state of a line and the operations on it that keep it whole: entities, the grid, and what the tick has to tell.

use std::{
    collections::{BTreeMap, BTreeSet},
    hash::{Hash, Hasher},
};

use proto::{
    ClientMessage, Frame,
    client::{Corrected, Fault},
    event::{FaultShown, event::Body},
    ids::{ItemId, PlayerId},
    record::PlayerRecord,
};
use service::random::Rng;

use super::{
    LineConfig,
    actor::{Actor, Character, Entity, EntityId, Kind, Looks},
    agenda::{Agenda, own_tick},
    companions::Companions,
    deal::Sides,
    grid::{Cell, Grid, Member, Position},
    hash::StateHash,
    input::{Destination, Detail, Effect},
    keyed::Keyed,
    saves::Marks,
    sight::{Standpoint, Views},
};

/// Ticks that lie so far back that nothing happened in them.
const LONG_AGO: u32 = u32::MAX / 2;

/// What a world is but for its rules.
#[derive(Clone, Debug)]
pub struct Core {
    pub(super) config: LineConfig,
    pub(super) tick: u64,
    pub(super) rng: Rng,
    pub(super) entities: Keyed<EntityId, Entity>,
    pub(super) players: Keyed<PlayerId, EntityId>,
    pub(super) grid: Grid,
    pub(super) views: Views,
    /// Players who were not shown all of their cells yet.
    pub(super) revealing: BTreeSet<PlayerId>,
    pub(super) companions: Companions,
    pub(super) detail: Detail,
    pub(super) time_permille: u32,
    pub(super) agenda: Agenda<(PlayerId, Errand)>,
    pub(super) news: News,
    next_entity: u32,
    items_made: u64,
}

/// What has to be done for a player some time after it walked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Errand {
    /// Save where it is.
    Save,
    /// Tell the logs where it is.
    Sample,
}

/// What one tick has to tell; empty between ticks.
#[derive(Clone, Debug, Default)]
pub struct News {
    /// Effects in the order in which they happened.
    pub(super) happened: Vec<Effect>,
    /// Entities that are new, changed, or may be in another cell, each once, in the order in which it first was.
    pub(super) listed: Vec<EntityId>,
    /// Players who may stand elsewhere than their session sees from.
    pub(super) shifted: Vec<PlayerId>,
    /// Shown entities that are no more, with the cell in which they were shown.
    pub(super) gone: Vec<(EntityId, Cell)>,
    /// Players that are told everything anew.
    pub(super) arrivals: BTreeMap<PlayerId, Arrival>,
    pub(super) marks: Marks,
    pub(super) left: Vec<(PlayerId, Option<PlayerRecord>)>,
    pub(super) frozen: BTreeSet<PlayerId>,
    pub(super) held: Vec<(PlayerId, Result<Box<Sides>, Fault>)>,
    pub(super) travels: Vec<(PlayerId, Destination)>,
}

/// Why a player is told everything anew.
#[derive(Clone, Copy, Debug)]
pub struct Arrival {
    pub(super) seq: u32,
    /// A session is bound, too; otherwise the bound one is put somewhere else.
    pub(super) bind: bool,
}

impl Core {
    pub(super) fn new(config: LineConfig, grid: Grid, rng: Rng) -> Self {
        Self {
            config,
            tick: 0,
            rng,
            entities: Keyed::default(),
            players: Keyed::default(),
            grid,
            views: Views::default(),
            revealing: BTreeSet::new(),
            companions: Companions::default(),
            detail: Detail::Full,
            time_permille: 1_000,
            agenda: Agenda::default(),
            news: News::default(),
            next_entity: 1,
            items_made: 0,
        }
    }

    pub(super) fn entity_of(&self, player: PlayerId) -> Option<&Entity> {
        self.entities.get(self.players.get(&player)?)
    }

    pub(super) fn actor(&self, player: PlayerId) -> Option<&Actor> {
        self.entity_of(player)?.actor.as_deref()
    }

    pub(super) fn actor_of(&mut self, player: PlayerId) -> Option<&mut Actor> {
        self.entities.get_mut(self.players.get(&player)?)?.actor.as_deref_mut()
    }

    /// Puts a new entity on the map; positions off the map are moved to its edge.
    pub(crate) fn spawn(&mut self, kind: Kind, name: &str, at: Position, looks: Looks, actor: Option<Box<Actor>>) -> EntityId {
        let position = self.grid.clamp(at);
        let (id, cell) = (EntityId(self.next_entity), self.grid.cell_of(position));
        self.next_entity = self.next_entity.checked_add(1).expect("a line does not make four thousand million entities");
        if let Some(actor) = &actor {
            self.players.insert(actor.player, id);
        }
        let name = name.to_owned();
        let entity = Entity { id, kind, name, position, looks, link_lost: false, cell, shown: None, changed: false, listed: true, actor };
        let long_ago = self.wire_tick().wrapping_sub(LONG_AGO);
        let member = Member { entity: id, at: position, moved: long_ago, stirred: long_ago, is_player: kind == Kind::Player };
        self.entities.insert(id, entity);
        self.grid.insert(cell, member);
        self.news.listed.push(id);
        id
    }

    /// Takes an entity off the map. A player's session stays bound until the end of the tick.
    pub(super) fn despawn(&mut self, id: EntityId) -> Option<Entity> {
        let entity = self.entities.remove(&id)?;
        self.grid.remove(entity.cell, id);
        if let Some(shown) = entity.shown {
            self.news.gone.push((id, shown));
        }
        if let Some(actor) = &entity.actor {
            self.players.remove(&actor.player);
            self.news.arrivals.remove(&actor.player);
            self.revealing.remove(&actor.player);
            self.companions.forget(actor.player);
            if let Some(view) = actor.view {
                self.grid.unwatch(view.cell);
                self.views.leave(view);
            }
        }
        Some(entity)
    }

    /// Moves an entity, whoever wants it; positions off the map are moved to its edge.
    pub(crate) fn put(&mut self, id: EntityId, to: Position) {
        let to = self.grid.clamp(to);
        let (cell, now) = (self.grid.cell_of(to), self.wire_tick());
        let Some(entity) = self.entities.get_mut(&id).filter(|entity| entity.position != to) else { return };
        entity.position = to;
        let old = std::mem::replace(&mut entity.cell, cell);
        if old != cell && !std::mem::replace(&mut entity.listed, true) {
            self.news.listed.push(id);
        }
        if let Some(actor) = &mut entity.actor {
            note_steps(actor, self.tick, &self.config, &mut self.agenda);
            if actor.view.is_some_and(|view| view != self.views.standpoint(&self.grid, cell, to)) {
                self.news.shifted.push(actor.player);
            }
        }
        if old == cell {
            if let Some(member) = self.grid.member_mut(cell, id) {
                (member.at, member.moved) = (to, now);
            }
        } else if let Some(member) = self.grid.remove(old, id) {
            self.grid.insert(cell, Member { at: to, moved: now, ..member });
        }
    }

    /// Changes what everybody sees of an entity.
    pub(super) fn change(&mut self, id: EntityId, change: impl FnOnce(&mut Entity)) {
        let now = self.wire_tick();
        let Some(entity) = self.entities.get_mut(&id) else { return };
        change(entity);
        entity.changed = true;
        if !std::mem::replace(&mut entity.listed, true) {
            self.news.listed.push(id);
        }
        let cell = entity.cell;
        if let Some(member) = self.grid.member_mut(cell, id) {
            member.stirred = now;
        }
    }

    /// The player is told everything anew at the end of the tick.
    pub(super) fn arrive(&mut self, player: PlayerId, seq: u32, bind: bool) {
        let arrival = self.news.arrivals.entry(player).or_insert(Arrival { seq, bind });
        arrival.seq = arrival.seq.max(seq);
        arrival.bind |= bind;
    }

    pub(super) fn deliver<M: ClientMessage>(&mut self, player: PlayerId, seq: u32, message: &M) {
        self.news.happened.push(Effect::Deliver(player, Frame::encode(seq, message)));
    }

    pub(super) fn fault(&mut self, player: PlayerId, seq: u32, fault: Fault) {
        self.deliver(player, seq, &fault);
        self.news.happened.push(Effect::Event(player, Body::FaultShown(FaultShown { code: fault.code, text: fault.text })));
    }

    /// A request of a player who is not here: the shell, which may know its session, refuses it.
    pub(super) fn absent(&mut self, player: PlayerId, seq: u32) {
        if seq != 0 {
            self.news.happened.push(Effect::Absent(player, seq));
        }
    }

    /// Tells a player where its character is; at most once a tick.
    pub(crate) fn correct(&mut self, player: PlayerId) {
        let tick = self.tick;
        let Some(position) = self.entity_of(player).map(Entity::position) else { return };
        let Some(actor) = self.actor_of(player) else { return };
        if actor.corrected < tick {
            actor.corrected = tick;
            self.deliver(player, 0, &Corrected { position: Some(position.into()) });
        }
    }

    /// From now on the player neither acts nor changes.
    pub(super) fn freeze(&mut self, player: PlayerId) {
        if let Some(actor) = self.actor_of(player) {
            actor.frozen = actor.frozen.saturating_add(1);
        }
    }

    /// A new item's name: the line's number of this run, and a count.
    pub(crate) fn item_id(&mut self) -> ItemId {
        self.items_made = self.items_made.checked_add(1).expect("a line does not make 2^64 items");
        ItemId(u128::from(self.config.boot) << 64 | u128::from(self.items_made))
    }

    /// What is saved of a player; `seen_ms` is the shell's, which has a clock.
    pub(super) fn record(&self, player: PlayerId) -> Option<PlayerRecord> {
        self.entity_of(player).and_then(|entity| self.record_of(entity))
    }

    pub(super) fn record_of(&self, entity: &Entity) -> Option<PlayerRecord> {
        let actor = entity.actor.as_ref()?;
        let character = &actor.character;
        Some(PlayerRecord {
            player: actor.player.0,
            account: actor.account,
            name: entity.name.clone(),
            map: self.config.map.clone(),
            line: self.config.line,
            position: Some(entity.position.into()),
            level: character.level,
            experience: character.experience,
            coins: character.coins,
            items: character.items_out(),
            hp: character.hp,
            rules: character.rules.clone(),
            created_ms: actor.created_ms,
            seen_ms: 0,
        })
    }

    // What the rules reach through `Ctx`.

    pub(crate) fn tick(&self) -> u64 {
        self.tick
    }

    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.rng.below(end)
    }

    pub(crate) fn entity(&self, id: EntityId) -> Option<&Entity> {
        self.entities.get(&id)
    }

    pub(crate) fn near(&self, at: Position, distance: u32) -> Vec<EntityId> {
        let members = self.grid.near(at, distance).flat_map(|cell| self.grid.members(cell));
        members.filter(|member| member.at.is_within(at, distance)).map(|member| member.entity).collect()
    }

    pub(crate) fn is_watched(&self, id: EntityId) -> bool {
        self.entities.get(&id).is_some_and(|entity| 0 < self.grid.watchers(entity.cell))
    }

    pub(crate) fn despawn_plain(&mut self, id: EntityId) {
        if self.entities.get(&id).is_some_and(|entity| entity.actor.is_none()) {
            self.despawn(id);
        }
    }

    pub(crate) fn character_mut(&mut self, id: EntityId) -> Option<&mut Character> {
        Some(&mut self.entities.get_mut(&id)?.actor.as_mut()?.character)
    }

    pub(crate) fn set_looks(&mut self, id: EntityId, looks: Looks) {
        let Some(entity) = self.entities.get(&id).filter(|entity| entity.looks != looks) else { return };
        if entity.looks.level < looks.level
            && let Some(player) = entity.player()
        {
            self.news.happened.push(Effect::Level(player, looks.level));
        }
        self.change(id, |entity| entity.looks = looks);
    }

    pub(crate) fn happen(&mut self, effect: Effect) {
        self.news.happened.push(effect);
    }

    pub(crate) fn marks(&mut self) -> &mut Marks {
        &mut self.news.marks
    }

    pub(crate) fn publish_at(&mut self, id: EntityId, frame: &Frame) {
        if let Some(cell) = self.entities.get(&id).map(|entity| entity.cell) {
            self.publish_around(cell, frame);
        }
    }

    /// Tells everybody who sees a cell.
    pub(super) fn publish_around(&mut self, cell: Cell, frame: &Frame) {
        for from in self.grid.around(cell) {
            let Some(view) = self.views.get_mut(from) else { continue };
            view.owe(frame.bytes().len());
            let publish = |part| Effect::Publish(Standpoint { cell: from, part }, frame.clone());
            self.news.happened.extend(view.parts().map(publish));
        }
    }

    pub(crate) fn travel(&mut self, player: PlayerId, to: Destination) {
        self.freeze(player);
        self.news.travels.push((player, to));
    }

    /// Ticks on the wire have 32 bits; clients compare them only with their neighbours.
    pub(super) fn wire_tick(&self) -> u32 {
        u32::try_from(self.tick & u64::from(u32::MAX)).expect("masked")
    }

    pub(super) fn hash(&self, to: &mut StateHash) {
        self.tick.hash(to);
        to.write_u64(self.rng.state());
        self.next_entity.hash(to);
        self.items_made.hash(to);
        (self.detail, self.time_permille).hash(to);
        for id in self.entities.sorted_keys() {
            self.entities[&id].hash(to);
        }
    }
}

/// Seconds between two samples of where a moving player is.
const SAMPLE_S: u64 = 5;

/// A player walked: it is to be saved and sampled, each in a tick of its own.
pub(super) fn note_steps(actor: &mut Actor, now: u64, config: &LineConfig, agenda: &mut Agenda<(PlayerId, Errand)>) {
    let own = |period: u64| own_tick(now, period, actor.player.0);
    if !std::mem::replace(&mut actor.unsaved_steps, true) {
        agenda.put(own(config.save_ticks), (actor.player, Errand::Save));
    }
    if !std::mem::replace(&mut actor.unsampled_steps, true) {
        agenda.put(own(SAMPLE_S * u64::from(config.tick_hz)), (actor.player, Errand::Sample));
    }
}
