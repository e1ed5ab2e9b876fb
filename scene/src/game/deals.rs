//! Deals: coins and items that go to, or come from, somebody who need not be here. Sums are checked: what would not fit is refused.

use proto::{
    client::{Fault, FaultCode, SheetChanged},
    event::{CoinsChanged, event::Body},
    ids::ItemId,
};

use super::{
    bag::{BAG_MAX, item_changed, signed},
    sheet,
};
use crate::rules::{Cause, Character, Ctx, Deal, EntityId, Goods};

/// What a character would give.
pub fn offer(character: &Character, coins: u64, items: &[ItemId]) -> Result<Goods, Fault> {
    let mut goods = Goods { coins, items: Vec::with_capacity(items.len()) };
    if character.coins < coins {
        return Err(Fault::new(FaultCode::NotNow, "not so many coins are there"));
    }
    for id in items {
        let item = character.items.iter().find(|item| item.id == *id).ok_or_else(missing)?;
        if goods.items.contains(item) {
            return Err(Fault::new(FaultCode::Invalid, "an item is there twice"));
        }
        goods.items.push(item.clone());
    }
    Ok(goods)
}

/// The character after a deal.
pub fn deal(character: &Character, gives: &Goods, gets: &Goods) -> Result<Character, Fault> {
    let mut after = character.clone();
    after.coins = after.coins.checked_sub(gives.coins).ok_or_else(|| Fault::new(FaultCode::NotNow, "not so many coins are there"))?;
    let coins = after.coins.checked_add(gets.coins).filter(|coins| i64::try_from(*coins).is_ok());
    after.coins = coins.ok_or_else(|| Fault::new(FaultCode::NotNow, "that is more coins than anybody can carry"))?;
    for item in &gives.items {
        let at = after.items.iter().position(|own| own == item).ok_or_else(missing)?;
        after.items.remove(at);
    }
    after.items.extend(gets.items.iter().cloned());
    if BAG_MAX < after.items.len() && character.items.len() < after.items.len() {
        return Err(Fault::new(FaultCode::NotNow, "the bag is full"));
    }
    Ok(after)
}

/// Tells the player and the logs of a deal.
pub fn dealt(ctx: &mut Ctx<'_>, entity: EntityId, deal: &Deal) {
    let Some(character) = ctx.entity(entity).and_then(|entity| entity.character()) else { return };
    let (balance, own) = (character.coins, ctx.entity(entity).and_then(|entity| entity.player()).map_or(0, |player| player.0));
    let changed = SheetChanged { sheet: Some(sheet(character)), cause: deal.cause.name().into() };
    let (other, cause) = (deal.other.0, deal.cause.name());
    for by in [-signed(deal.gives.coins), signed(deal.gets.coins)] {
        if by != 0 {
            ctx.emit(entity, Body::CoinsChanged(CoinsChanged { by, balance, cause: cause.into(), other_player: other }));
        }
    }
    for item in &deal.gives.items {
        ctx.emit(entity, Body::ItemChanged(item_changed("moved", item, cause, other)));
    }
    // In a trade the other side tells of what it gave.
    for item in deal.gets.items.iter().filter(|_| deal.cause == Cause::Mail) {
        ctx.emit(entity, Body::ItemChanged(item_changed("moved", item, cause, own)));
    }
    ctx.send(entity, 0, &changed);
}

fn missing() -> Fault {
    Fault::new(FaultCode::NotFound, "there is no such item")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::rules::Item;

    fn items(ids: impl IntoIterator<Item = u128>) -> Vec<Item> {
        ids.into_iter().map(|id| Item { id: ItemId(id), kind: "tusk".into(), count: 1 }).collect()
    }

    proptest! {
        #[test]
        fn both_sides_of_a_deal_conserve_coins_and_items(
            have in 0..1_000u64, others: u64, coins in 0..1_200u64, back: u64, mine in 0..62u128, theirs in 0..62u128,
            given in proptest::collection::btree_set(0..64u128, 0..8), got in proptest::collection::btree_set(1_000..1_064u128, 0..8),
        ) {
            let one = Character { coins: have, items: items(0..mine), ..Character::default() };
            let two = Character { coins: others, items: items(1_000..1_000 + theirs), ..Character::default() };
            let (gives, gets) = (Goods { coins, items: items(given) }, Goods { coins: back, items: items(got) });
            let (Ok(one_after), Ok(two_after)) = (deal(&one, &gives, &gets), deal(&two, &gets, &gives)) else { return Ok(()) };
            prop_assert_eq!(u128::from(one_after.coins) + u128::from(two_after.coins), u128::from(have) + u128::from(others));
            let mut before: Vec<Item> = one.items.into_iter().chain(two.items).collect();
            let mut after: Vec<Item> = one_after.items.into_iter().chain(two_after.items).collect();
            before.sort_by_key(|item| item.id);
            after.sort_by_key(|item| item.id);
            prop_assert_eq!(before, after);
        }
    }

    #[test]
    fn only_what_is_there_can_be_offered_and_each_item_once() {
        let character = Character { coins: 5, items: items(1..=2), ..Character::default() };
        assert_eq!(offer(&character, 5, &[ItemId(2)]).unwrap(), Goods { coins: 5, items: items([2]) });
        assert_eq!(offer(&character, 6, &[]).unwrap_err().code(), FaultCode::NotNow);
        assert_eq!(offer(&character, 0, &[ItemId(3)]).unwrap_err().code(), FaultCode::NotFound);
        assert_eq!(offer(&character, 0, &[ItemId(1), ItemId(1)]).unwrap_err().code(), FaultCode::Invalid);
    }

    #[test]
    fn a_full_bag_takes_nothing_but_in_exchange() {
        let full = Character { items: items(0..BAG_MAX as u128), ..Character::default() };
        let one = |id| Goods { coins: 0, items: items([id]) };
        assert!(deal(&full, &Goods::default(), &one(99)).is_err());
        assert!(deal(&full, &one(3), &one(99)).is_ok());
    }
}
