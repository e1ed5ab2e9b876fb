//! NPCs: they wander around their herd's place, follow and strike who struck them, and sleep where nobody watches.

use super::{Game, config::Herd};
use crate::rules::{Ctx, EntityId, Kind, Looks, Position};

/// Seconds from an NPC's death to the next of its herd.
const RESPAWN_S: u64 = 10;
/// How fast NPCs walk, in centimetres a second.
const SPEED: u32 = 250;
/// Farther than this from its foe an NPC forgets it.
const SIGHT: u32 = 1_500;

/// What an NPC can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Species(usize);

struct SpeciesFacts {
    name: &'static str,
    loot: &'static str,
}

const SPECIES: [SpeciesFacts; 4] = [
    SpeciesFacts { name: "boar", loot: "hide" },
    SpeciesFacts { name: "wolf", loot: "fang" },
    SpeciesFacts { name: "bear", loot: "claw" },
    SpeciesFacts { name: "bandit", loot: "ring" },
];

impl Species {
    pub fn by_name(name: &str) -> Option<Self> {
        SPECIES.iter().position(|facts| facts.name == name).map(Self)
    }

    pub fn names() -> String {
        SPECIES.map(|facts| facts.name).join(", ")
    }

    pub fn name(self) -> &'static str {
        SPECIES[self.0].name
    }

    /// What it sometimes leaves behind, beside potions.
    pub fn loot(self) -> &'static str {
        SPECIES[self.0].loot
    }
}

/// What an NPC has in mind.
#[derive(Debug, Hash)]
pub struct Npc {
    pub herd: usize,
    pub foe: Option<EntityId>,
    /// The tick from which it can strike again.
    pub ready_at: u64,
    goal: Option<Position>,
    rests_until: u64,
}

/// Hit points of an NPC when unhurt.
pub fn hp_max(level: u32) -> u32 {
    20 + 15 * level
}

impl Game {
    pub(super) fn spawn_npc(&mut self, ctx: &mut Ctx<'_>, index: usize) {
        let Some(herd) = self.herds.get(index) else { return };
        let at = place_in(ctx, herd);
        let hp = hp_max(herd.level);
        let id = ctx.spawn(Kind::Npc, herd.species.name(), at, Looks { level: herd.level, hp, hp_max: hp });
        self.npcs.insert(id, Npc { herd: index, foe: None, ready_at: 0, goal: None, rests_until: 0 });
    }

    /// An NPC dies; another of its herd comes in a while.
    pub(super) fn kill_npc(&mut self, ctx: &mut Ctx<'_>, id: EntityId) {
        ctx.despawn(id);
        if let Some(npc) = self.npcs.remove(&id) {
            self.respawns.push_back((ctx.tick() + RESPAWN_S * u64::from(self.tick_hz), npc.herd));
        }
    }

    pub(super) fn tick_npcs(&mut self, ctx: &mut Ctx<'_>) {
        while let Some((_, herd)) = self.respawns.pop_front_if(|(due, _)| *due <= ctx.tick()) {
            self.spawn_npc(ctx, herd);
        }
        let awake: Vec<EntityId> =
            self.npcs.iter().filter(|(id, npc)| npc.foe.is_some() || ctx.is_watched(**id)).map(|(id, _)| *id).collect();
        for id in awake {
            match self.foe_of(ctx, id) {
                Some(foe) => self.hunt(ctx, id, foe),
                None => self.wander(ctx, id),
            }
        }
    }

    /// Whom the NPC is after and still sees.
    fn foe_of(&mut self, ctx: &Ctx<'_>, id: EntityId) -> Option<(EntityId, Position)> {
        let npc = self.npcs.get_mut(&id)?;
        let here = ctx.entity(id)?.position();
        let foe = npc.foe.and_then(|foe| ctx.entity(foe));
        let foe = foe.filter(|foe| !foe.is_frozen() && foe.position().is_within(here, SIGHT)).map(|foe| (foe.id(), foe.position()));
        npc.foe = foe.map(|(id, _)| id);
        foe
    }

    fn hunt(&mut self, ctx: &mut Ctx<'_>, id: EntityId, (foe, at): (EntityId, Position)) {
        let Some(here) = ctx.entity(id).map(|npc| npc.position()) else { return };
        if here.is_within(at, super::fight::REACH) {
            self.strike_back(ctx, id, foe);
        } else {
            self.step_towards(ctx, id, here, at);
        }
    }

    fn wander(&mut self, ctx: &mut Ctx<'_>, id: EntityId) {
        let Some(here) = ctx.entity(id).map(|npc| npc.position()) else { return };
        let Some(npc) = self.npcs.get_mut(&id) else { return };
        if ctx.tick() < npc.rests_until {
            return;
        }
        let Some(goal) = npc.goal else {
            npc.goal = self.herds.get(npc.herd).map(|herd| place_in(ctx, herd));
            return;
        };
        if here == goal {
            npc.goal = None;
            npc.rests_until = ctx.tick() + u64::from(self.tick_hz) * (2 + ctx.below(5));
        } else {
            self.step_towards(ctx, id, here, goal);
        }
    }

    fn step_towards(&self, ctx: &mut Ctx<'_>, id: EntityId, here: Position, goal: Position) {
        let step = i64::from(SPEED / self.tick_hz.max(1)).max(1);
        let along = |from: i32, to: i32| i64::from(to) - i64::from(from);
        let (x, y) = (along(here.x, goal.x), along(here.y, goal.y));
        let distance = i64::try_from((x.unsigned_abs().pow(2) + y.unsigned_abs().pow(2)).isqrt()).unwrap_or(i64::MAX);
        if distance <= step {
            return ctx.walk(id, goal);
        }
        let part = |from: i32, along: i64| i32::try_from(i64::from(from) + along * step / distance).unwrap_or(from);
        ctx.walk(id, Position { x: part(here.x, x), y: part(here.y, y) });
    }
}

/// A place in the herd's range, by chance.
fn place_in(ctx: &mut Ctx<'_>, herd: &Herd) -> Position {
    let within = herd.within.unsigned_abs();
    let mut offset = || i64::try_from(ctx.below(2 * u64::from(within) + 1)).unwrap_or(0) - i64::from(within);
    let add = |from: i32, by: i64| i32::try_from(i64::from(from) + by).unwrap_or(from);
    for _ in 0..4 {
        let at = Position { x: add(herd.middle.x, offset()), y: add(herd.middle.y, offset()) };
        if at.is_within(herd.middle, within) {
            return at;
        }
    }
    herd.middle
}
