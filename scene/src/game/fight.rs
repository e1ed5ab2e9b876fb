//! Fights: one strike a second, both ways, at arm's length.

use proto::{
    client::{Attack, Fault, FaultCode, Struck},
    event,
    event::event::Body,
};

use super::{Game, bag, decode, levels};
use crate::rules::{Class, Ctx, EntityId, Kind, Looks, Request};

/// How far a strike reaches, in centimetres.
pub const REACH: u32 = 300;
/// Seconds for which a player counts as in a fight after a strike.
const FIGHT_S: u64 = 5;

impl Game {
    pub(super) fn attack(&mut self, ctx: &mut Ctx<'_>, attacker: EntityId, request: &Request) -> Result<(), Fault> {
        let target = EntityId(decode::<Attack>(request)?.entity);
        self.check_attack(ctx, attacker, target)?;
        self.ready_at.insert(attacker, ctx.tick() + u64::from(self.tick_hz));
        let Some(level) = ctx.entity(attacker).map(|entity| entity.looks().level) else { return Ok(()) };
        let damage = 6 + 2 * level + chance(ctx, 6);
        let Some(mut looks) = ctx.entity(target).map(|entity| entity.looks()) else { return Ok(()) };
        looks.hp = looks.hp.saturating_sub(damage);
        struck(ctx, attacker, target, damage, looks);
        if 0 < looks.hp {
            ctx.set_looks(target, looks);
            if let Some(npc) = self.npcs.get_mut(&target) {
                npc.foe = Some(attacker);
            }
            return Ok(());
        }
        let species = self.npcs.get(&target).and_then(|npc| self.herds.get(npc.herd)).map(|herd| herd.species);
        self.kill_npc(ctx, target);
        if let Some(species) = species {
            bag::reward(ctx, attacker, looks.level, species);
        }
        Ok(())
    }

    fn check_attack(&self, ctx: &Ctx<'_>, attacker: EntityId, target: EntityId) -> Result<(), Fault> {
        let here = ctx.entity(attacker).ok_or_else(|| Fault::new(FaultCode::NotNow, "you are not here"))?;
        let there = ctx.entity(target).ok_or_else(|| Fault::new(FaultCode::NotFound, "there is no such entity"))?;
        if there.kind() != Kind::Npc {
            return Err(Fault::new(FaultCode::Invalid, "only NPCs can be attacked"));
        }
        if !here.position().is_within(there.position(), REACH) {
            return Err(Fault::new(FaultCode::OutOfRange, "too far away"));
        }
        let wait = self.ready_at.get(&attacker).map_or(0, |ready| ready.saturating_sub(ctx.tick()));
        if 0 < wait {
            let wait_ms = u32::try_from(wait * 1_000 / u64::from(self.tick_hz.max(1))).unwrap_or(1_000);
            return Err(Fault::retry(FaultCode::NotNow, "on cool-down", wait_ms));
        }
        Ok(())
    }

    /// Whether an NPC is after a player, or the player has struck within the last seconds.
    pub(super) fn fights(&self, player: EntityId, tick: u64) -> bool {
        let hunted = self.npcs.values().any(|npc| npc.foe == Some(player));
        let calm_at = self.ready_at.get(&player).map_or(0, |ready| ready + (FIGHT_S - 1) * u64::from(self.tick_hz));
        hunted || tick < calm_at
    }

    /// An NPC at arm's length of its foe strikes as often as it can.
    pub(super) fn strike_back(&mut self, ctx: &mut Ctx<'_>, npc: EntityId, foe: EntityId) {
        let tick = ctx.tick();
        let Some(level) = ctx.entity(npc).map(|npc| npc.looks().level) else { return };
        let Some(mind) = self.npcs.get_mut(&npc).filter(|mind| mind.ready_at <= tick) else { return };
        mind.ready_at = tick + u64::from(self.tick_hz);
        let damage = 2 + 2 * level + chance(ctx, 4);
        let Some(character) = ctx.character_mut(foe) else { return };
        character.hp = character.hp.saturating_sub(damage);
        let looks = levels::looks(character);
        struck(ctx, npc, foe, damage, looks);
        if 0 < looks.hp {
            ctx.set_looks(foe, looks);
            ctx.save(foe, Class::D0);
        } else {
            mind.foe = None;
            self.die(ctx, foe);
        }
    }

    /// A player dies: it stands up at the start, unhurt.
    fn die(&mut self, ctx: &mut Ctx<'_>, entity: EntityId) {
        let Some(character) = ctx.character_mut(entity) else { return };
        character.hp = levels::hp_max(character.level);
        let looks = levels::looks(character);
        ctx.set_looks(entity, looks);
        ctx.place(entity, self.start);
        bag::sheet_changed(ctx, entity, 0, "death");
    }
}

/// Tells everybody near of a strike, and the logs.
fn struck(ctx: &mut Ctx<'_>, attacker: EntityId, target: EntityId, damage: u32, after: Looks) {
    let died = after.hp == 0;
    ctx.tell_near(target, &Struck { attacker: attacker.0, target: target.0, damage, hp: after.hp, died });
    let name = |id: EntityId| ctx.entity(id).map(|entity| entity.name().to_owned()).unwrap_or_default();
    let fight = event::Fight { attacker: name(attacker), target: name(target), damage, died };
    for side in [attacker, target] {
        ctx.emit(side, Body::Fight(fight.clone()));
    }
}

fn chance(ctx: &mut Ctx<'_>, end: u64) -> u32 {
    u32::try_from(ctx.below(end)).unwrap_or(0)
}
