//! The example game: NPCs that wander and strike back, levels, coins, items, portals. It does everything through [`Ctx`]; the rest
//! of the scene knows nothing of it, and another game takes its place by another [`open`].

mod bag;
mod config;
mod deals;
mod fight;
mod levels;
mod npcs;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, VecDeque},
    hash::Hash,
};

use proto::{
    ClientMessage,
    client::{self, Attack, Fault, FaultCode, Give, UseItem, UsePortal},
    ids::ItemId,
};

use self::{
    config::{GameConfig, Herd, Portal},
    npcs::Npc,
};
use crate::rules::{
    Character, Ctx, Deal, Destination, Entity, EntityId, Goods, Kind, Looks, MapFacts, Position, Request, Rules, StateHash,
};

/// How near a portal has to be, in centimetres.
const PORTAL_REACH: u32 = 300;

/// The game on one line.
struct Game {
    tick_hz: u32,
    start: Position,
    herds: Vec<Herd>,
    portals_planned: Vec<Portal>,
    portals: BTreeMap<EntityId, Destination>,
    npcs: BTreeMap<EntityId, Npc>,
    /// Ticks in which an NPC of a herd comes back, by rising tick.
    respawns: VecDeque<(u64, usize)>,
    /// The tick from which a player can strike again.
    ready_at: BTreeMap<EntityId, u64>,
}

/// The rules of the game on a map.
///
/// # Errors
/// When the zone file says something that the game does not understand; names the map and the key.
pub fn open(facts: &MapFacts<'_>) -> anyhow::Result<Box<dyn Rules>> {
    let config = GameConfig::parse(facts)?;
    Ok(Box::new(Game {
        tick_hz: facts.tick_hz,
        start: facts.start,
        herds: config.herds,
        portals_planned: config.portals,
        portals: BTreeMap::new(),
        npcs: BTreeMap::new(),
        respawns: VecDeque::new(),
        ready_at: BTreeMap::new(),
    }))
}

impl Rules for Game {
    fn opened(&mut self, ctx: &mut Ctx<'_>) {
        for portal in std::mem::take(&mut self.portals_planned) {
            let id = ctx.spawn(Kind::Portal, &portal.name, portal.at, Looks::default());
            self.portals.insert(id, portal.to);
        }
        for herd in 0..self.herds.len() {
            for _ in 0..self.herds[herd].count {
                self.spawn_npc(ctx, herd);
            }
        }
    }

    fn admit(&self, character: &mut Character) {
        character.level = levels::level_of(character.experience);
        let hp_max = levels::hp_max(character.level);
        // A new character has no hit points yet; a dead one is not saved.
        character.hp = if character.hp == 0 { hp_max } else { character.hp.min(hp_max) };
    }

    fn looks(&self, character: &Character) -> Looks {
        levels::looks(character)
    }

    fn sheet(&self, character: &Character) -> client::Sheet {
        sheet(character)
    }

    fn may_walk(&self, entity: &Entity) -> bool {
        0 < entity.looks().hp
    }

    fn may_leave(&self, entity: &Entity, tick: u64) -> Result<(), Fault> {
        if self.fights(entity.id(), tick) { Err(Fault::new(FaultCode::NotNow, "you are in a fight")) } else { Ok(()) }
    }

    fn entered(&mut self, _: &mut Ctx<'_>, _: EntityId) {}

    fn left(&mut self, _: &mut Ctx<'_>, entity: EntityId) {
        self.ready_at.remove(&entity);
    }

    fn moved(&mut self, _: &mut Ctx<'_>, _: EntityId) {}

    fn request(&mut self, ctx: &mut Ctx<'_>, entity: EntityId, request: &Request) -> Result<(), Fault> {
        match request.kind {
            Attack::KIND => self.attack(ctx, entity, request),
            UseItem::KIND => bag::use_item(ctx, entity, request),
            Give::KIND => bag::give(ctx, entity, request),
            UsePortal::KIND => self.use_portal(ctx, entity),
            _ => Err(Fault::new(FaultCode::UnknownKind, "this game has no such request")),
        }
    }

    fn offer(&self, character: &Character, coins: u64, items: &[ItemId]) -> Result<Goods, Fault> {
        deals::offer(character, coins, items)
    }

    fn deal(&self, character: &Character, gives: &Goods, gets: &Goods) -> Result<Character, Fault> {
        deals::deal(character, gives, gets)
    }

    fn dealt(&mut self, ctx: &mut Ctx<'_>, entity: EntityId, deal: &Deal) {
        deals::dealt(ctx, entity, deal);
    }

    fn tick(&mut self, ctx: &mut Ctx<'_>) {
        self.tick_npcs(ctx);
    }

    fn hash(&self, to: &mut StateHash) {
        self.npcs.hash(to);
        self.respawns.hash(to);
        self.ready_at.hash(to);
    }
}

impl Game {
    fn use_portal(&self, ctx: &mut Ctx<'_>, entity: EntityId) -> Result<(), Fault> {
        let here = ctx.entity(entity).map(Entity::position).unwrap_or_default();
        let portal = ctx.near(here, PORTAL_REACH).into_iter().find_map(|near| self.portals.get(&near));
        let to = portal.ok_or_else(|| Fault::new(FaultCode::OutOfRange, "there is no portal here"))?;
        ctx.travel(entity, to.clone());
        Ok(())
    }
}

/// What a player sees of its own character.
fn sheet(character: &Character) -> client::Sheet {
    client::Sheet {
        level: character.level,
        experience: character.experience,
        coins: character.coins,
        hp: character.hp,
        hp_max: levels::hp_max(character.level),
        items: character.items_out(),
    }
}

/// The message of a request.
fn decode<M: ClientMessage>(request: &Request) -> Result<M, Fault> {
    M::decode(request.body.clone()).map_err(|_| Fault::new(FaultCode::Malformed, format!("the body is no {}", M::INFO.name)))
}
