//! What a world is told, and what it answers.

use std::collections::BTreeSet;

use bytes::Bytes;
use proto::{Frame, client::Fault, event::event::Body, ids::PlayerId, record::PlayerRecord};

use super::{
    deal::{Deal, Sides},
    grid::Position,
    sight::Standpoint,
};

/// What happens to a world from outside, in the order in which it happens.
#[derive(Clone, Debug)]
pub enum Input {
    /// A player comes; refused ([`Effect::Refused`]) if it is here.
    Enter(Box<Enter>),
    /// Another session, or the same one anew, plays a player that is here: it is told everything again.
    Rebind {
        /// Who.
        player: PlayerId,
        /// The request that this answers, or 0.
        seq: u32,
        /// Ticks for which it may not speak.
        muted_ticks: u64,
    },
    /// The connection is lost.
    SessionLost(PlayerId),
    /// The connection is back, and nothing was missed.
    SessionBack(PlayerId),
    /// The player goes, and its record is wanted.
    Leave(PlayerId),
    /// The player is not ours any more: it goes, and nothing of it may be saved.
    Drop(PlayerId),
    /// The client wants its character to be there.
    Move {
        /// Who.
        player: PlayerId,
        /// The request, or 0.
        seq: u32,
        /// Where to.
        to: Position,
    },
    /// The client says something to those near.
    Say {
        /// Who.
        player: PlayerId,
        /// The request, or 0.
        seq: u32,
        /// What.
        text: String,
    },
    /// A message that only the rules understand.
    Request(Request),
    /// A GM puts the player somewhere on this map.
    Teleport {
        /// Who.
        player: PlayerId,
        /// Where to.
        to: Position,
    },
    /// From now on the player may not speak for so many ticks; 0: it may.
    Mute {
        /// Who.
        player: PlayerId,
        /// For how long.
        ticks: u64,
    },
    /// Whom the player is with: what these do it sees before what others do, when it can't be shown all.
    Party {
        /// Who.
        player: PlayerId,
        /// Its party; 0: none.
        party: u64,
        /// Its friends, here or not.
        friends: BTreeSet<PlayerId>,
    },
    /// The player is about to go to another line; its record is wanted ([`Effect::Frozen`]). Each freeze needs an unfreeze.
    Freeze(PlayerId),
    /// Hold the player for a deal, if the rules allow it; answered by [`Effect::Held`]. One that is held has to be settled.
    Hold {
        /// Who.
        player: PlayerId,
        /// Its side.
        deal: Box<Deal>,
    },
    /// The deal took place, or did not, and the player is free.
    Settle {
        /// Who.
        player: PlayerId,
        /// Whether it took place.
        done: bool,
        /// For its client, after what the rules say.
        tell: Option<Frame>,
    },
    /// What the line leaves out from now on, because its ticks take too long.
    Overload {
        /// Which updates.
        detail: Detail,
        /// How many thousandths of the clock's time pass in the world.
        time_permille: u32,
    },
    /// A journey has ended and the player stays; it is told why.
    Unfreeze {
        /// Who.
        player: PlayerId,
        /// Why.
        fault: Option<Fault>,
    },
}

/// Which updates of positions are told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Detail {
    /// All.
    #[default]
    Full,
    /// Of what is farther away, less often.
    FartherRarer,
    /// So, and of everything only in every second tick.
    HalfRate,
}

/// A player that comes.
#[derive(Clone, Debug)]
pub struct Enter {
    /// All of it. Its position is taken if it is on the map.
    pub record: PlayerRecord,
    /// The request that this answers, or 0.
    pub seq: u32,
    /// Ticks for which it may not speak.
    pub muted_ticks: u64,
    /// It comes from another place of the world: where it is has to be saved at once.
    pub travelled: bool,
}

/// A message that only the rules understand.
#[derive(Clone, Debug)]
pub struct Request {
    /// Whose client sent it.
    pub player: PlayerId,
    /// The request, or 0.
    pub seq: u32,
    /// Its number in the table of kinds.
    pub kind: u16,
    /// Its body, not yet looked at.
    pub body: Bytes,
}

/// How safe a save has to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// In the memory of dc: for positions.
    D0,
    /// Synced: for whatever has worth.
    D2,
}

/// Players that are saved together or not at all, and what waits for it.
#[derive(Clone, Debug, PartialEq)]
pub struct SaveUnit {
    /// How safe it has to be.
    pub class: Class,
    /// Whole records, by player.
    pub records: Vec<PlayerRecord>,
    /// Delivered when the save is acknowledged, in this order.
    pub held: Vec<(PlayerId, Frame)>,
}

/// A place on another map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination {
    /// The map's name.
    pub map: String,
    /// Where on it.
    pub position: Position,
}

/// What the shell has to do, in this order.
#[derive(Clone, Debug)]
pub enum Effect {
    /// A frame for everybody who stands there.
    Publish(Standpoint, Frame),
    /// A frame for one player.
    Deliver(PlayerId, Frame),
    /// The player's session is bound from here on; it is in no group yet.
    Bind(PlayerId),
    /// The player's session joins the group of those who stand there. It is in none.
    Join(PlayerId, Standpoint),
    /// The player's session leaves its group.
    Leave(PlayerId),
    /// The player is gone: its session leaves its group.
    Unbind(PlayerId),
    /// Save these.
    Save(SaveUnit),
    /// The player left; what it was at the end. Answers [`Input::Leave`].
    Left(PlayerRecord),
    /// The player is frozen; what it is. Answers [`Input::Freeze`].
    Frozen(PlayerRecord),
    /// The player is held, with its two sides; or why it is not. Answers [`Input::Hold`].
    Held(PlayerId, Result<Box<Sides>, Fault>),
    /// The rules want the player elsewhere; it is frozen until the shell has it leave, or unfreezes it.
    Travel(PlayerId, Destination, PlayerRecord),
    /// The player rose to this level.
    Level(PlayerId, u32),
    /// A behaviour event about a player.
    Event(PlayerId, Body),
    /// The player wanted to be where it could not; counted.
    MoveRefused(PlayerId),
    /// [`Input::Enter`] of a player who is here.
    Refused(PlayerId),
    /// What a client asked for with this number found its player gone; its session may still be known outside.
    Absent(PlayerId, u32),
}
