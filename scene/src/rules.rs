//! The interface behind which a game stands: what a studio writes implements [`Rules`], and does everything through [`Ctx`].
//!
//! The world calls the rules in the middle of a tick, one line after another's thread, so they neither wait nor look at a clock;
//! [`crate::game`] is the example.

use std::collections::BTreeMap;

use proto::{
    ClientMessage, Frame,
    client::{self, Fault, FaultCode},
    event::event::Body,
    ids::{ItemId, PlayerId},
};

pub use crate::world::{
    Cause, Character, Class, Deal, Destination, Entity, EntityId, Goods, Item, Kind, Looks, Position, Request, StateHash,
};
use crate::world::{Core, Effect};

/// The rules of one line. The same calls in the same order have to give the same answers: no clock, no chance but
/// [`Ctx::below`], no iteration over hash tables.
pub trait Rules: Send {
    /// The line opens: put into it what is always there.
    fn opened(&mut self, ctx: &mut Ctx<'_>);
    /// A character read from its record, before it is shown: mend what the rules would not have written.
    fn admit(&self, character: &mut Character);
    /// What others see of a character.
    fn looks(&self, character: &Character) -> Looks;
    /// What its own client sees of a character.
    fn sheet(&self, character: &Character) -> client::Sheet;
    /// Whether a player's character can walk now.
    fn may_walk(&self, entity: &Entity) -> bool;
    /// Whether a player may go to another line of the map because it likes to; `tick` is now.
    ///
    /// # Errors
    /// With what the client is told.
    fn may_leave(&self, entity: &Entity, tick: u64) -> Result<(), Fault> {
        let _ = (entity, tick);
        Ok(())
    }
    /// A player came.
    fn entered(&mut self, ctx: &mut Ctx<'_>, entity: EntityId);
    /// A player goes; it is still there.
    fn left(&mut self, ctx: &mut Ctx<'_>, entity: EntityId);
    /// A player walked.
    fn moved(&mut self, ctx: &mut Ctx<'_>, entity: EntityId);
    /// A player's client sent a message that the world does not know.
    ///
    /// # Errors
    /// With what the client is told; nothing may have changed then.
    fn request(&mut self, ctx: &mut Ctx<'_>, entity: EntityId, request: &Request) -> Result<(), Fault>;
    /// A tick's own doings, after all requests.
    fn tick(&mut self, ctx: &mut Ctx<'_>);
    /// What a character would give, described; refused if it has not got it. A game without deals refuses all.
    ///
    /// # Errors
    /// With what the client is told.
    fn offer(&self, character: &Character, coins: u64, items: &[ItemId]) -> Result<Goods, Fault> {
        let _ = (character, coins, items);
        Err(Fault::new(FaultCode::NotNow, "nothing changes hands in this game"))
    }
    /// The character as it is when it has given and got these; refused if that can't be. Nothing else of it may differ.
    ///
    /// # Errors
    /// With what the client is told.
    fn deal(&self, character: &Character, gives: &Goods, gets: &Goods) -> Result<Character, Fault> {
        let _ = (character, gives, gets);
        Err(Fault::new(FaultCode::NotNow, "nothing changes hands in this game"))
    }
    /// A deal took place, and is safe: the character has it already. Tell its client and the logs.
    fn dealt(&mut self, ctx: &mut Ctx<'_>, entity: EntityId, deal: &Deal) {
        let _ = (ctx, entity, deal);
    }
    /// Everything that the rules remember, into the world's hash.
    fn hash(&self, to: &mut StateHash);
}

/// What rules are told of the map when its line opens.
#[derive(Clone, Debug)]
pub struct MapFacts<'a> {
    /// The map's name.
    pub map: &'a str,
    /// Width in centimetres.
    pub width: i32,
    /// Height in centimetres.
    pub height: i32,
    /// Ticks a second.
    pub tick_hz: u32,
    /// Where players begin.
    pub start: Position,
    /// Every map of the zone with its width and height, this one too.
    pub maps: &'a BTreeMap<String, (i32, i32)>,
    /// What the zone file says for the rules; null if nothing.
    pub config: &'a serde_json::Value,
}

/// Makes the rules of a line; refuses a configuration that it does not understand, naming the key.
pub type OpenRules = fn(&MapFacts<'_>) -> anyhow::Result<Box<dyn Rules>>;

/// Entities of one line within the reach of rules, in the middle of a tick.
pub struct Ctx<'a> {
    core: &'a mut Core,
}

impl<'a> Ctx<'a> {
    pub(crate) fn new(core: &'a mut Core) -> Self {
        Self { core }
    }

    /// The tick, from 1 when the line opened.
    pub fn tick(&self) -> u64 {
        self.core.tick()
    }

    /// A number below `end`, by chance.
    pub fn below(&mut self, end: u64) -> u64 {
        self.core.below(end)
    }

    /// A name for a new item, unique in the zone for ever.
    pub fn item_id(&mut self) -> ItemId {
        self.core.item_id()
    }

    /// An entity, if it is here.
    pub fn entity(&self, entity: EntityId) -> Option<&Entity> {
        self.core.entity(entity)
    }

    /// Those at most `distance` centimetres from a place, cell by cell.
    pub fn near(&self, at: Position, distance: u32) -> Vec<EntityId> {
        self.core.near(at, distance)
    }

    /// Whether a player sees the entity's cell. What nobody sees may sleep.
    pub fn is_watched(&self, entity: EntityId) -> bool {
        self.core.is_watched(entity)
    }

    /// Puts an entity that is no player on the map.
    pub fn spawn(&mut self, kind: Kind, name: &str, at: Position, looks: Looks) -> EntityId {
        self.core.spawn(kind, name, at, looks, None)
    }

    /// Takes an entity that is no player off the map.
    pub fn despawn(&mut self, entity: EntityId) {
        self.core.despawn_plain(entity);
    }

    /// Moves an entity that is no player.
    pub fn walk(&mut self, entity: EntityId, to: Position) {
        if self.entity(entity).is_some_and(|entity| entity.player().is_none()) {
            self.core.put(entity, to);
        }
    }

    /// Puts a player somewhere else on this map, and tells its client.
    pub fn place(&mut self, entity: EntityId, to: Position) {
        let Some(player) = self.free_player(entity) else { return };
        self.core.put(entity, to);
        self.core.correct(player);
    }

    /// Changes what others see of an entity.
    pub fn set_looks(&mut self, entity: EntityId, looks: Looks) {
        self.core.set_looks(entity, looks);
    }

    /// What the rules keep of a player. None if it is none, or on its way to another line, when nothing of it may change.
    pub fn character_mut(&mut self, entity: EntityId) -> Option<&mut Character> {
        self.free_player(entity)?;
        self.core.character_mut(entity)
    }

    /// Sends a message to one player; `seq` is the request that it answers, or 0.
    pub fn send<M: ClientMessage>(&mut self, entity: EntityId, seq: u32, message: &M) {
        if let Some(player) = self.player(entity) {
            self.core.happen(Effect::Deliver(player, Frame::encode(seq, message)));
        }
    }

    /// Sends a message to one player when this tick's state of it is synced; marks it for saving so.
    pub fn send_when_safe<M: ClientMessage>(&mut self, entity: EntityId, seq: u32, message: &M) {
        if let Some(player) = self.player(entity) {
            self.core.marks().hold(player, Frame::encode(seq, message));
        }
    }

    /// Sends a message to everybody who sees the entity's cell.
    pub fn tell_near<M: ClientMessage>(&mut self, entity: EntityId, message: &M) {
        self.core.publish_at(entity, &Frame::encode(0, message));
    }

    /// Marks a player for saving at the end of the tick.
    pub fn save(&mut self, entity: EntityId, class: Class) {
        if let Some(player) = self.player(entity) {
            self.core.marks().save(player, class);
        }
    }

    /// Marks two players for saving in one commit: both or neither.
    pub fn save_together(&mut self, one: EntityId, two: EntityId) {
        if let (Some(one), Some(two)) = (self.player(one), self.player(two)) {
            self.core.marks().tie(one, two);
        }
    }

    /// Sends a player to a place on this or another map. From here on it neither acts nor changes, until it is there, or is told
    /// that it can't be.
    pub fn travel(&mut self, entity: EntityId, to: Destination) {
        if let Some(player) = self.free_player(entity) {
            self.core.travel(player, to);
        }
    }

    /// Emits a behaviour event about a player.
    pub fn emit(&mut self, entity: EntityId, body: Body) {
        if let Some(player) = self.player(entity) {
            self.core.happen(Effect::Event(player, body));
        }
    }

    fn player(&self, entity: EntityId) -> Option<PlayerId> {
        self.entity(entity)?.player()
    }

    fn free_player(&self, entity: EntityId) -> Option<PlayerId> {
        self.entity(entity).filter(|entity| !entity.is_frozen())?.player()
    }
}
