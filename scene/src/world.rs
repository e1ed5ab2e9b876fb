//! The world of one line: pure and deterministic. It is told everything ([`Input`]) and answers what has to be done ([`Effect`]);
//! it has no socket, no clock, no chance but the seeded one it was given, and nothing in it depends on the order of a hash table.
//!
//! It knows entering, moving, saying and seeing. Whatever makes it a game is behind [`Rules`].

mod actor;
mod agenda;
mod companions;
mod core;
mod deal;
mod encode;
mod grid;
mod hash;
mod input;
mod keyed;
mod movement;
mod reveal;
mod saves;
mod shape;
mod sight;
#[cfg(test)]
pub(crate) mod tests;
mod updates;
mod view;

use std::{collections::BTreeSet, hash::Hasher};

use proto::{
    client::{self, Fault, FaultCode},
    event::{self, event::Body},
    ids::PlayerId,
};
use service::random::Rng;

pub(crate) use self::core::Core;
use self::{actor::Actor, core::Errand, movement::Pace, reveal::Reveal};
pub use self::{
    actor::{Character, Entity, EntityId, Item, Kind, Looks},
    deal::{Cause, Deal, Goods, Pending, Sides},
    grid::{Cell, Grid, Position},
    hash::StateHash,
    input::{Class, Destination, Detail, Effect, Enter, Input, Request, SaveUnit},
    shape::CELLS_MAX,
    sight::Standpoint,
};
use crate::rules::{Ctx, Rules};

/// Everything that the line of a map is told when it opens.
#[derive(Clone, Debug)]
pub struct LineConfig {
    /// The map's name.
    pub map: String,
    /// The line's number.
    pub line: u32,
    /// Width of the map in centimetres.
    pub width: i32,
    /// Height of the map in centimetres.
    pub height: i32,
    /// Side of a cell in centimetres.
    pub cell_cm: i32,
    /// Ticks a second.
    pub tick_hz: u32,
    /// The fastest that a player may walk, in centimetres a second.
    pub speed_max: u32,
    /// Where a player without a good position stands.
    pub start: Position,
    /// Bytes a second that a client may be told of what is around it.
    pub client_bytes_s: u32,
    /// Ticks between two saves of a moving player.
    pub save_ticks: u64,
    /// Unlike that of every other line that was ever opened: items are named after it.
    pub boot: u64,
}

/// The rules and the state of one line. `step` is told everything.
pub struct World {
    core: Core,
    rules: Box<dyn Rules>,
}

impl World {
    /// Opens a line, with whatever the rules put into it; `None` if the map has no side or too many cells.
    pub fn open(config: LineConfig, mut rules: Box<dyn Rules>, rng: Rng) -> Option<Self> {
        let grid = Grid::new(config.width, config.height, config.cell_cm)?;
        let mut core = Core::new(config, grid, rng);
        rules.opened(&mut Ctx::new(&mut core));
        Some(Self { core, rules })
    }

    /// One tick: takes the inputs, lets the rules act, and says what has to be done.
    pub fn step(&mut self, inputs: &[Input], effects: &mut Vec<Effect>) {
        self.core.tick += 1;
        for input in inputs {
            self.take(input);
        }
        self.rules.tick(&mut Ctx::new(&mut self.core));
        self.run_errands();
        self.core.tell(&*self.rules, effects);
    }

    /// A number that follows from the whole state.
    pub fn hash(&self) -> u64 {
        let mut hash = StateHash::new();
        self.core.hash(&mut hash);
        self.rules.hash(&mut hash);
        hash.finish()
    }

    /// Who is here, by rising number.
    pub fn player_ids(&self) -> impl Iterator<Item = PlayerId> + '_ {
        self.core.players.sorted_keys().into_iter()
    }

    /// What a player that is here looks like.
    pub fn looks_of(&self, player: PlayerId) -> Option<Looks> {
        self.core.entity_of(player).map(Entity::looks)
    }

    /// Whether a player may go elsewhere by its own wish.
    ///
    /// # Errors
    /// With what its client is told.
    pub fn may_leave(&self, player: PlayerId) -> Result<(), Fault> {
        match self.core.entity_of(player) {
            Some(entity) if !entity.is_frozen() => self.rules.may_leave(entity, self.core.tick),
            _ => Err(Fault::retry(FaultCode::NotNow, "you are on your way, or in a deal", 1_000)),
        }
    }

    /// Where a player that is here is.
    pub fn position_of(&self, player: PlayerId) -> Option<Position> {
        self.core.entity_of(player).map(Entity::position)
    }

    /// Whether every player was shown all that is in the cells that it sees.
    pub fn has_shown_all(&self) -> bool {
        self.core.revealing.is_empty()
    }

    /// Players here.
    pub fn players(&self) -> usize {
        self.core.players.len()
    }

    /// Entities here, players included.
    pub fn entities(&self) -> usize {
        self.core.entities.len()
    }

    fn take(&mut self, input: &Input) {
        match input {
            Input::Enter(enter) => self.enter(enter),
            Input::Rebind { player, seq, muted_ticks } => self.rebind(*player, *seq, *muted_ticks),
            Input::SessionLost(player) => self.set_link_lost(*player, true),
            Input::SessionBack(player) => self.set_link_lost(*player, false),
            Input::Leave(player) => self.leave(*player, true),
            Input::Drop(player) => self.leave(*player, false),
            Input::Move { player, seq, to } => self.walk(*player, *seq, *to),
            Input::Say { player, seq, text } => self.say(*player, *seq, text),
            Input::Request(request) => self.request(request),
            Input::Teleport { player, to } => self.teleport(*player, *to),
            Input::Mute { player, ticks } => self.mute(*player, *ticks),
            Input::Party { player, party, friends } => self.set_party(*player, *party, friends),
            Input::Freeze(player) => {
                self.core.freeze(*player);
                self.core.news.frozen.insert(*player);
            }
            Input::Hold { player, deal } => self.hold(*player, deal),
            Input::Settle { player, done, tell } => self.settle(*player, *done, tell.as_ref()),
            Input::Overload { detail, time_permille } => self.overload(*detail, *time_permille),
            Input::Unfreeze { player, fault } => self.unfreeze(*player, fault.as_ref()),
        }
    }

    fn enter(&mut self, enter: &Enter) {
        let record = &enter.record;
        let player = PlayerId(record.player);
        if self.core.players.contains_key(&player) {
            return self.core.news.happened.push(Effect::Refused(player));
        }
        let position = record.position.map(Position::from).filter(|at| self.core.grid.holds(*at)).unwrap_or(self.core.config.start);
        let mut character = Character::of(record);
        self.rules.admit(&mut character);
        let looks = self.rules.looks(&character);
        let actor = Actor {
            player,
            account: record.account,
            created_ms: record.created_ms,
            character,
            budget: movement::Budget::default(),
            frozen: 0,
            pending: None,
            muted_until: self.core.tick.saturating_add(enter.muted_ticks),
            view: None,
            reveal: Reveal::default(),
            corrected: 0,
            unsaved_steps: false,
            unsampled_steps: false,
        };
        let id = self.core.spawn(Kind::Player, &record.name, position, looks, Some(Box::new(actor)));
        self.core.arrive(player, enter.seq, true);
        self.core.news.marks.save(player, if enter.travelled { Class::D2 } else { Class::D0 });
        self.rules.entered(&mut Ctx::new(&mut self.core), id);
    }

    fn rebind(&mut self, player: PlayerId, seq: u32, muted_ticks: u64) {
        self.mute(player, muted_ticks);
        self.set_link_lost(player, false);
        if self.core.players.contains_key(&player) {
            self.core.arrive(player, seq, true);
        }
    }

    fn set_link_lost(&mut self, player: PlayerId, lost: bool) {
        let Some(id) = self.core.entity_of(player).filter(|entity| entity.link_lost != lost).map(Entity::id) else { return };
        self.core.change(id, |entity| entity.link_lost = lost);
    }

    fn leave(&mut self, player: PlayerId, wanted: bool) {
        let Some(id) = self.core.players.get(&player).copied() else { return };
        self.rules.left(&mut Ctx::new(&mut self.core), id);
        let Some(entity) = self.core.despawn(id) else { return };
        let record = self.core.record_of(&entity);
        if let Some(record) = &record {
            self.core.news.marks.went(record.clone());
        }
        self.core.news.left.push((player, record.filter(|_| wanted)));
    }

    fn walk(&mut self, player: PlayerId, seq: u32, to: Position) {
        let (tick, pace) = (self.core.tick, Pace { speed: self.core.config.speed_max, tick_hz: self.core.config.tick_hz });
        let Some(id) = self.core.players.get(&player).copied() else { return };
        let holds = self.core.grid.holds(to);
        let Some(entity) = self.core.entities.get_mut(&id) else { return };
        let may = self.rules.may_walk(entity);
        let from = entity.position;
        let Some(actor) = entity.actor.as_mut() else { return };
        let good = holds && may && actor.frozen == 0 && actor.budget.charge(pace, tick, from, to);
        if good {
            self.core.put(id, to);
            return self.rules.moved(&mut Ctx::new(&mut self.core), id);
        }
        self.core.news.happened.push(Effect::MoveRefused(player));
        if !holds || seq != 0 {
            let text = if holds { "too fast, or not possible now" } else { "that is not on the map" };
            self.core.fault(player, seq, Fault::new(FaultCode::BadMove, text));
        }
        self.core.correct(player);
    }

    fn say(&mut self, player: PlayerId, seq: u32, text: &str) {
        let tick = self.core.tick;
        let Some(entity) = self.core.entity_of(player) else { return self.core.absent(player, seq) };
        let Some(actor) = entity.actor.as_ref() else { return };
        if tick < actor.muted_until {
            return self.core.fault(player, seq, Fault::new(FaultCode::Muted, "you may not speak now"));
        }
        if !proto::names::text(text) {
            return self.core.fault(player, seq, Fault::new(FaultCode::Invalid, proto::names::TEXT_RULE));
        }
        let said = client::Said { entity: entity.id.0, from: entity.name.clone(), text: text.to_owned() };
        let cell = entity.cell;
        self.core.publish_around(cell, &proto::Frame::encode(0, &said));
        let chat = event::Chat { channel: "say".into(), text: text.to_owned(), to: String::new() };
        self.core.news.happened.push(Effect::Event(player, Body::Chat(chat)));
    }

    fn request(&mut self, request: &Request) {
        let player = request.player;
        let Some(entity) = self.core.entity_of(player) else { return self.core.absent(player, request.seq) };
        let outcome = if entity.is_frozen() {
            Err(Fault::retry(FaultCode::NotNow, "you are on your way, or in a deal", 1_000))
        } else {
            let id = entity.id;
            self.rules.request(&mut Ctx::new(&mut self.core), id, request)
        };
        if let Err(fault) = outcome {
            self.core.fault(player, request.seq, fault);
        }
    }

    fn teleport(&mut self, player: PlayerId, to: Position) {
        let Some(id) = self.core.players.get(&player).copied() else { return };
        self.core.put(id, to);
        self.core.arrive(player, 0, false);
        self.core.news.marks.save(player, Class::D2);
    }

    fn mute(&mut self, player: PlayerId, ticks: u64) {
        let until = self.core.tick.saturating_add(ticks);
        if let Some(actor) = self.core.actor_of(player) {
            actor.muted_until = until;
        }
    }

    fn unfreeze(&mut self, player: PlayerId, fault: Option<&Fault>) {
        if let Some(actor) = self.core.actor_of(player) {
            actor.frozen = actor.frozen.saturating_sub(1);
        }
        if let Some(fault) = fault {
            self.core.fault(player, 0, fault.clone());
        }
    }

    fn set_party(&mut self, player: PlayerId, party: u64, friends: &BTreeSet<PlayerId>) {
        if self.core.players.contains_key(&player) {
            self.core.companions.set(player, party, friends);
        }
    }

    fn overload(&mut self, detail: Detail, time_permille: u32) {
        self.core.detail = detail;
        if std::mem::replace(&mut self.core.time_permille, time_permille) != time_permille {
            self.core.tell_time();
        }
    }

    /// Saves and samples where players are who walked.
    fn run_errands(&mut self) {
        for (player, errand) in self.core.agenda.due(self.core.tick) {
            let Some(entity) = self.core.entity_of(player) else { continue };
            let Some(actor) = entity.actor.as_ref() else { continue };
            if actor.pending.is_some() {
                // Its saves wait for the deal, and its steps for them.
                self.core.agenda.put(self.core.tick + u64::from(self.core.config.tick_hz.max(1)), (player, errand));
                continue;
            }
            let moved = event::PlayerMoved { position: Some(entity.position.into()) };
            let Some(actor) = self.core.actor_of(player) else { continue };
            let flag = if errand == Errand::Save { &mut actor.unsaved_steps } else { &mut actor.unsampled_steps };
            if !std::mem::take(flag) {
                continue; // of a player who left and came back meanwhile
            }
            match errand {
                Errand::Save => self.core.news.marks.save(player, Class::D0),
                Errand::Sample => self.core.news.happened.push(Effect::Event(player, Body::PlayerMoved(moved))),
            }
        }
    }
}
