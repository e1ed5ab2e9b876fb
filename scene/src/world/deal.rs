//! Deals: what a player gives to, or gets from, somebody who need not be on this line. The world holds the player, so that nothing that
//! it has changes, until the shell knows from dc whether the deal took place; meanwhile it may walk and speak.

use proto::{
    Frame,
    client::{self, Fault, FaultCode},
    ids::{ItemId, PlayerId},
    record::PlayerRecord,
};

use super::{
    World,
    actor::{Character, Item},
    input::Effect,
};
use crate::rules::Ctx;

/// Coins and items.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Goods {
    /// Coins.
    pub coins: u64,
    /// Items.
    pub items: Vec<Item>,
}

impl Goods {
    /// From the wire; none if an item has no good id.
    pub fn of(goods: &client::Goods) -> Option<Self> {
        let item = |item: &client::Item| Some(Item { id: ItemId::from_bytes(&item.id)?, kind: item.kind.clone(), count: item.count });
        Some(Self { coins: goods.coins, items: goods.items.iter().map(item).collect::<Option<_>>()? })
    }

    /// As they travel.
    pub fn out(&self) -> client::Goods {
        let item = |item: &Item| client::Item { id: item.id.to_bytes(), kind: item.kind.clone(), count: item.count };
        client::Goods { coins: self.coins, items: self.items.iter().map(item).collect() }
    }
}

/// Why goods change hands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cause {
    /// Two players trade.
    Trade,
    /// A mail is sent, or taken.
    Mail,
}

impl Cause {
    /// For events and clients.
    pub fn name(self) -> &'static str {
        match self {
            Cause::Trade => "trade",
            Cause::Mail => "mail",
        }
    }
}

/// One player's side of what changes hands.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Deal {
    /// Why.
    pub cause: Cause,
    /// With whom.
    pub other: PlayerId,
    /// What it gives.
    pub gives: Goods,
    /// What it gets.
    pub gets: Goods,
}

/// A deal for which a player is held.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Pending {
    deal: Deal,
    after: Character,
}

/// A held player without the deal, and with it.
#[derive(Clone, Debug, PartialEq)]
pub struct Sides {
    /// As it is.
    pub before: PlayerRecord,
    /// As it is if the deal takes place.
    pub after: PlayerRecord,
}

impl World {
    /// What a player would give, described; nothing changes.
    ///
    /// # Errors
    /// When it has not got it, or is on its way elsewhere.
    pub fn look(&self, player: PlayerId, coins: u64, items: &[ItemId]) -> Result<Goods, Fault> {
        let entity = self.core.entity_of(player).ok_or_else(away)?;
        if entity.is_frozen() {
            return Err(away());
        }
        self.rules.offer(entity.character().ok_or_else(away)?, coins, items)
    }

    pub(super) fn hold(&mut self, player: PlayerId, deal: &Deal) {
        let sides = self.try_hold(player, deal);
        self.core.news.held.push((player, sides));
    }

    fn try_hold(&mut self, player: PlayerId, deal: &Deal) -> Result<Box<Sides>, Fault> {
        let entity = self.core.entity_of(player).filter(|entity| !entity.is_frozen()).ok_or_else(away)?;
        let after = self.rules.deal(entity.character().ok_or_else(away)?, &deal.gives, &deal.gets)?;
        let before = self.core.record(player).ok_or_else(away)?;
        let sides = Sides { after: with(before.clone(), &after), before };
        if let Some(actor) = self.core.actor_of(player) {
            actor.pending = Some(Box::new(Pending { deal: deal.clone(), after }));
        }
        Ok(Box::new(sides))
    }

    /// The deal is over, and the player is free; `tell` goes to its client.
    pub(super) fn settle(&mut self, player: PlayerId, done: bool, tell: Option<&Frame>) {
        let pending = self.core.actor_of(player).and_then(|actor| actor.pending.take());
        if let Some(pending) = pending.filter(|_| done)
            && let Some(id) = self.core.players.get(&player).copied()
        {
            if let Some(character) = self.core.character_mut(id) {
                *character = pending.after;
            }
            self.rules.dealt(&mut Ctx::new(&mut self.core), id, &pending.deal);
        }
        if let Some(frame) = tell {
            self.core.happen(Effect::Deliver(player, frame.clone()));
        }
    }
}

fn with(record: PlayerRecord, character: &Character) -> PlayerRecord {
    PlayerRecord {
        level: character.level,
        experience: character.experience,
        coins: character.coins,
        items: character.items_out(),
        hp: character.hp,
        rules: character.rules.clone(),
        ..record
    }
}

fn away() -> Fault {
    Fault::retry(FaultCode::NotNow, "on the way elsewhere, or in another deal", 1_000)
}
