//! Coins, experience and items: how they come, are used, and change hands. Sums are checked: what would not fit is refused.

use proto::{
    client::{Fault, FaultCode, Give, SheetChanged, UseItem},
    event::{CoinsChanged, ItemChanged, LevelReached, event::Body},
    ids::ItemId,
};

use super::{decode, levels, npcs::Species, sheet};
use crate::rules::{Character, Ctx, EntityId, Item, Request};

/// Items that a player can carry.
pub const BAG_MAX: usize = 60;
/// How far something can be handed, in centimetres.
const HAND_REACH: u32 = 300;
/// Hit points that a potion brings back.
const POTION_HP: u32 = 50;
const POTION: &str = "potion";

/// Tells a player what it has now, when that is safe.
pub fn sheet_changed(ctx: &mut Ctx<'_>, entity: EntityId, seq: u32, cause: &str) {
    let Some(character) = ctx.entity(entity).and_then(|entity| entity.character()) else { return };
    let changed = SheetChanged { sheet: Some(sheet(character)), cause: cause.to_owned() };
    ctx.send_when_safe(entity, seq, &changed);
}

/// What a killed NPC is worth: experience, coins, sometimes an item.
pub fn reward(ctx: &mut Ctx<'_>, killer: EntityId, level: u32, species: Species) {
    let coins = 1 + ctx.below(5 * u64::from(level));
    let item = match ctx.below(6) {
        0 => Some(POTION),
        1 | 2 => Some(species.loot()),
        _ => None,
    };
    let id = ctx.item_id();
    let Some(character) = ctx.character_mut(killer) else { return };
    character.experience = character.experience.saturating_add(20 * u64::from(level));
    let risen = rise(character);
    let paid = character.coins.checked_add(coins).map(|balance| {
        character.coins = balance;
        CoinsChanged { by: signed(coins), balance, cause: "kill".into(), other_player: 0 }
    });
    let found = item.filter(|_| character.items.len() < BAG_MAX).map(|kind| Item { id, kind: kind.to_owned(), count: 1 });
    character.items.extend(found.clone());
    let looks = levels::looks(character);
    ctx.set_looks(killer, looks);
    if let Some(paid) = paid {
        ctx.emit(killer, Body::CoinsChanged(paid));
    }
    if let Some(item) = found {
        ctx.emit(killer, Body::ItemChanged(item_changed("created", &item, "kill", 0)));
    }
    if let Some(level) = risen {
        ctx.emit(killer, Body::LevelReached(LevelReached { level }));
    }
    sheet_changed(ctx, killer, 0, "kill");
}

/// Raises a character to the level that its experience gives; who rises is healed.
fn rise(character: &mut Character) -> Option<u32> {
    let level = levels::level_of(character.experience);
    if level <= character.level {
        return None;
    }
    character.level = level;
    character.hp = levels::hp_max(level);
    Some(level)
}

/// Drinks a potion.
pub fn use_item(ctx: &mut Ctx<'_>, entity: EntityId, request: &Request) -> Result<(), Fault> {
    let id = item_id(&decode::<UseItem>(request)?.item)?;
    let character = ctx.character_mut(entity).ok_or_else(gone)?;
    let at = position_of(character, id)?;
    if character.items[at].kind != POTION {
        return Err(Fault::new(FaultCode::NotNow, "it can't be used"));
    }
    let item = character.items.remove(at);
    character.hp = character.hp.saturating_add(POTION_HP).min(levels::hp_max(character.level));
    let looks = levels::looks(character);
    ctx.set_looks(entity, looks);
    ctx.emit(entity, Body::ItemChanged(item_changed("destroyed", &item, "use", 0)));
    sheet_changed(ctx, entity, request.seq, "use");
    Ok(())
}

/// Hands coins, an item, or both to a player near by. Both players are saved in one commit.
pub fn give(ctx: &mut Ctx<'_>, giver: EntityId, request: &Request) -> Result<(), Fault> {
    let give: Give = decode(request)?;
    let taker = EntityId(give.entity);
    let item = if give.item.is_empty() { None } else { Some(item_id(&give.item)?) };
    if give.coins == 0 && item.is_none() {
        return Err(Fault::new(FaultCode::Invalid, "give coins, an item, or both"));
    }
    check_taker(ctx, giver, taker)?;
    let (from, to) = (player(ctx, giver)?, player(ctx, taker)?);
    let (giver_after, taker_after, moved) = exchange(character(ctx, giver)?, character(ctx, taker)?, give.coins, item)?;
    let (kept, got) = (giver_after.coins, taker_after.coins);
    // Both could be looked up a moment ago, so both can now: neither changes without the other.
    *ctx.character_mut(giver).ok_or_else(gone)? = giver_after;
    *ctx.character_mut(taker).ok_or_else(gone)? = taker_after;
    ctx.save_together(giver, taker);
    if 0 < give.coins {
        let by = signed(give.coins);
        ctx.emit(giver, Body::CoinsChanged(CoinsChanged { by: -by, balance: kept, cause: "give".into(), other_player: to }));
        ctx.emit(taker, Body::CoinsChanged(CoinsChanged { by, balance: got, cause: "receive".into(), other_player: from }));
    }
    if let Some(item) = moved {
        ctx.emit(giver, Body::ItemChanged(item_changed("moved", &item, "give", to)));
    }
    sheet_changed(ctx, giver, request.seq, "give");
    sheet_changed(ctx, taker, 0, "receive");
    Ok(())
}

/// Both sides as they are after the deal, and what changed hands; nothing has changed yet.
fn exchange(giver: &Character, taker: &Character, coins: u64, item: Option<ItemId>) -> Result<(Character, Character, Option<Item>), Fault> {
    let (mut giver, mut taker) = (giver.clone(), taker.clone());
    giver.coins = giver.coins.checked_sub(coins).ok_or_else(|| Fault::new(FaultCode::NotNow, "you do not have so many coins"))?;
    taker.coins = taker.coins.checked_add(coins).ok_or_else(|| Fault::new(FaultCode::NotNow, "the other can't carry so many coins"))?;
    let Some(id) = item else { return Ok((giver, taker, None)) };
    let at = position_of(&giver, id)?;
    if BAG_MAX <= taker.items.len() {
        return Err(Fault::new(FaultCode::NotNow, "the other's bag is full"));
    }
    let item = giver.items.remove(at);
    taker.items.push(item.clone());
    Ok((giver, taker, Some(item)))
}

fn check_taker(ctx: &Ctx<'_>, giver: EntityId, taker: EntityId) -> Result<(), Fault> {
    let here = ctx.entity(giver).ok_or_else(gone)?;
    let there = ctx.entity(taker).filter(|there| there.player().is_some());
    let there = there.ok_or_else(|| Fault::new(FaultCode::NotFound, "there is no such player"))?;
    if giver == taker {
        return Err(Fault::new(FaultCode::Invalid, "that is yourself"));
    }
    if there.is_frozen() {
        return Err(Fault::retry(FaultCode::NotNow, "the other is on its way", 1_000));
    }
    if !here.position().is_within(there.position(), HAND_REACH) {
        return Err(Fault::new(FaultCode::OutOfRange, "too far away"));
    }
    Ok(())
}

fn character<'a>(ctx: &'a Ctx<'_>, entity: EntityId) -> Result<&'a Character, Fault> {
    ctx.entity(entity).and_then(|entity| entity.character()).ok_or_else(gone)
}

fn player(ctx: &Ctx<'_>, entity: EntityId) -> Result<u64, Fault> {
    ctx.entity(entity).and_then(|entity| entity.player()).map(|player| player.0).ok_or_else(gone)
}

fn position_of(character: &Character, id: ItemId) -> Result<usize, Fault> {
    character.items.iter().position(|item| item.id == id).ok_or_else(|| Fault::new(FaultCode::NotFound, "you have no such item"))
}

fn item_id(bytes: &[u8]) -> Result<ItemId, Fault> {
    ItemId::from_bytes(bytes).ok_or_else(|| Fault::new(FaultCode::Invalid, "an item's id has 16 bytes"))
}

pub(super) fn item_changed(what: &str, item: &Item, cause: &str, to_player: u64) -> ItemChanged {
    let (kind, count) = (item.kind.clone(), item.count);
    ItemChanged { what: what.into(), item: item.id.to_string(), item_kind: kind, count, cause: cause.into(), to_player }
}

/// For events, whose changes have a sign; balances have all bits.
pub(super) fn signed(coins: u64) -> i64 {
    i64::try_from(coins).unwrap_or(i64::MAX)
}

fn gone() -> Fault {
    Fault::new(FaultCode::NotNow, "not possible now")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn character(coins: u64, items: u128) -> Character {
        let items = (0..items).map(|id| Item { id: ItemId(id), kind: POTION.into(), count: 1 }).collect();
        Character { coins, items, level: 1, ..Character::default() }
    }

    proptest! {
        #[test]
        fn a_deal_conserves_coins_and_items(have: u64, others: u64, coins: u64, mine in 0..62u128, theirs in 0..62u128, item in proptest::option::of(0..62u128)) {
            let (giver, mut taker) = (character(have, mine), character(others, theirs));
            taker.items.iter_mut().for_each(|item| item.id = ItemId(item.id.0 + 1_000));
            let before = u128::from(have) + u128::from(others);
            match exchange(&giver, &taker, coins, item.map(ItemId)) {
                Ok((giver, taker, _)) => {
                    prop_assert_eq!(u128::from(giver.coins) + u128::from(taker.coins), before);
                    prop_assert_eq!(giver.items.len() + taker.items.len(), usize::try_from(mine + theirs).unwrap());
                    let mut ids: Vec<ItemId> = giver.items.iter().chain(&taker.items).map(|item| item.id).collect();
                    ids.sort_unstable();
                    ids.dedup();
                    prop_assert_eq!(ids.len(), usize::try_from(mine + theirs).unwrap());
                }
                Err(_) => {
                    let full = item.is_some() && BAG_MAX <= taker.items.len();
                    let missing = item.is_some_and(|item| mine <= item);
                    prop_assert!(have < coins || others.checked_add(coins).is_none() || full || missing);
                }
            }
        }
    }

    #[test]
    fn who_has_the_experience_rises_and_is_healed() {
        let mut character = Character { level: 1, experience: 299, hp: 1, ..Character::default() };
        assert_eq!(rise(&mut character), Some(2));
        assert_eq!((character.level, character.hp), (2, levels::hp_max(2)));
        assert_eq!(rise(&mut character), None);
    }
}
