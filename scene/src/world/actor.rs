//! What stands in a world: entities, and of players also what is kept of them.

use bytes::Bytes;
use proto::{client, ids::ItemId, ids::PlayerId, record::PlayerRecord};

use super::{
    deal::Pending,
    grid::{Cell, Position},
    movement::Budget,
    reveal::Reveal,
    sight::Standpoint,
};

/// Names an entity of a line while the line is open. From 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntityId(pub u32);

/// What an entity is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Somebody's character.
    Player,
    /// Moved by the rules.
    Npc,
    /// Stands and leads elsewhere.
    Portal,
}

impl From<Kind> for client::EntityKind {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Player => client::EntityKind::Player,
            Kind::Npc => client::EntityKind::Npc,
            Kind::Portal => client::EntityKind::Portal,
        }
    }
}

/// What the rules show of an entity to everybody near. Nothing here means anything to the world itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Looks {
    /// Level, or 0.
    pub level: u32,
    /// Hit points left.
    pub hp: u32,
    /// Hit points when unhurt; 0: it has none.
    pub hp_max: u32,
}

/// An item of a player.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Item {
    /// Its name for ever.
    pub id: ItemId,
    /// A key of the rules' item table.
    pub kind: String,
    /// How many it stands for.
    pub count: u32,
}

/// What the rules keep of a player. Saved with it; the world itself neither reads nor changes it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Character {
    /// Level.
    pub level: u32,
    /// Experience.
    pub experience: u64,
    /// Coins.
    pub coins: u64,
    /// Items, in the order in which they were got.
    pub items: Vec<Item>,
    /// Hit points left.
    pub hp: u32,
    /// Whatever else the rules want to find again.
    pub rules: Bytes,
}

impl Character {
    /// From a record. Items without a good id, which no scene writes, are left out.
    pub fn of(record: &PlayerRecord) -> Self {
        let item = |item: &client::Item| Some(Item { id: ItemId::from_bytes(&item.id)?, kind: item.kind.clone(), count: item.count });
        Self {
            level: record.level,
            experience: record.experience,
            coins: record.coins,
            items: record.items.iter().filter_map(item).collect(),
            hp: record.hp,
            rules: record.rules.clone(),
        }
    }

    /// The items as they travel.
    pub fn items_out(&self) -> Vec<client::Item> {
        self.items.iter().map(|item| client::Item { id: item.id.to_bytes(), kind: item.kind.clone(), count: item.count }).collect()
    }
}

/// One that can be seen.
#[derive(Clone, Debug, Hash)]
pub struct Entity {
    pub(super) id: EntityId,
    pub(super) kind: Kind,
    pub(super) name: String,
    pub(super) position: Position,
    pub(super) looks: Looks,
    pub(super) link_lost: bool,
    /// The cell it is in.
    pub(super) cell: Cell,
    /// The cell in which the watchers were last told of it; none: they were not.
    pub(super) shown: Option<Cell>,
    pub(super) changed: bool,
    /// Whether this tick's news have it.
    pub(super) listed: bool,
    pub(super) actor: Option<Box<Actor>>,
}

/// What only players have.
#[derive(Clone, Debug, Hash)]
pub struct Actor {
    pub(super) player: PlayerId,
    pub(super) account: u64,
    pub(super) created_ms: i64,
    pub(super) character: Character,
    pub(super) budget: Budget,
    /// Journeys that were begun and not ended: meanwhile the player neither acts nor changes.
    pub(super) frozen: u32,
    /// The deal for which it is held: meanwhile it does not change.
    pub(super) pending: Option<Box<Pending>>,
    pub(super) muted_until: u64,
    /// From where its session sees: the group that it is in.
    pub(super) view: Option<Standpoint>,
    pub(super) reveal: Reveal,
    /// The last tick in which it was corrected.
    pub(super) corrected: u64,
    pub(super) unsaved_steps: bool,
    pub(super) unsampled_steps: bool,
}

impl Entity {
    /// Its id.
    pub fn id(&self) -> EntityId {
        self.id
    }

    /// What it is.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where it is.
    pub fn position(&self) -> Position {
        self.position
    }

    /// What it looks like.
    pub fn looks(&self) -> Looks {
        self.looks
    }

    /// Whose character it is.
    pub fn player(&self) -> Option<PlayerId> {
        self.actor.as_ref().map(|actor| actor.player)
    }

    /// Whether it is a player on its way to another line, or held for a deal, who neither acts nor can be acted on.
    pub fn is_frozen(&self) -> bool {
        self.actor.as_ref().is_some_and(|actor| 0 < actor.frozen || actor.pending.is_some())
    }

    /// What the rules keep of it, if it is a player.
    pub fn character(&self) -> Option<&Character> {
        self.actor.as_ref().map(|actor| &actor.character)
    }

    pub(super) fn out(&self) -> client::Entity {
        client::Entity {
            entity: self.id.0,
            kind: client::EntityKind::from(self.kind).into(),
            name: self.name.clone(),
            position: Some(self.position.into()),
            level: self.looks.level,
            hp: self.looks.hp,
            hp_max: self.looks.hp_max,
            link_lost: self.link_lost,
            cell: self.cell.0,
        }
    }
}
