//! From a world's effects to link frames: which session is in which group of which gate, and who is sent what.
//!
//! A group is a standpoint. A body that many see is encoded once and sent once to each gate that has somebody in the group.

use std::collections::BTreeMap;

use proto::{
    Frame,
    ids::PlayerId,
    internal::{SessionBound, SessionUnbound},
    link::{self, LinkFrame, Notice, Publish},
};

use crate::world::Standpoint;

/// Where frames for one gate go; a live link, or a test's ear.
pub(crate) trait Outlet: Clone {
    /// Distinguishes this connection from every other.
    fn number(&self) -> u64;
    /// Takes a frame. Never waits; what a link that is down or full does not take is made up for by the next full state.
    fn put(&self, frame: LinkFrame);
}

impl Outlet for service::Link {
    fn number(&self) -> u64 {
        service::Link::number(self)
    }

    fn put(&self, frame: LinkFrame) {
        // A tick's frames leave together, at the latest when it ends. A link that refuses is down or about to be, and `on_down` tells
        // the line so.
        let _ = if frame.kind == link::TICK_END { self.send(frame) } else { self.send_soon(frame) };
    }
}

/// Which session of which gate plays a character.
#[derive(Clone, Debug)]
pub(crate) struct Binding<O> {
    pub(crate) session: u64,
    pub(crate) name: String,
    pub(crate) outlet: O,
}

/// The sessions and groups of one line.
#[derive(Debug)]
pub(crate) struct Publisher<O> {
    /// High half of the numbers of this line's groups.
    line: u32,
    gates: BTreeMap<u64, Gate<O>>,
    bound: BTreeMap<PlayerId, Bound>,
}

#[derive(Debug)]
struct Gate<O> {
    outlet: O,
    sessions: usize,
    /// Sessions in the group of a standpoint.
    members: BTreeMap<Standpoint, usize>,
}

#[derive(Debug)]
struct Bound {
    session: u64,
    gate: u64,
    /// The group that it is in.
    at: Option<Standpoint>,
}

impl<O: Outlet> Publisher<O> {
    /// Nobody yet. `line` is unlike that of every other line of this process.
    pub(crate) fn new(line: u32) -> Self {
        Self { line, gates: BTreeMap::new(), bound: BTreeMap::new() }
    }

    /// The player's session from here on. An older one is in no group any more, and if it is another one, its gate is told so.
    pub(crate) fn bind(&mut self, player: PlayerId, binding: Binding<O>) {
        let kept = self.bound.get(&player).is_some_and(|bound| bound.session == binding.session && bound.gate == binding.outlet.number());
        self.unbind(player, !kept);
        let Binding { session, name, outlet } = binding;
        let gate = outlet.number();
        outlet.put(notice(session, &SessionBound { player: player.0, player_name: name }));
        self.gates.entry(gate).or_insert_with(|| Gate { outlet, sessions: 0, members: BTreeMap::new() }).sessions += 1;
        self.bound.insert(player, Bound { session, gate, at: None });
    }

    /// The player's session leaves its group. `tell`: the gate is told that its frames are not for us any more.
    pub(crate) fn unbind(&mut self, player: PlayerId, tell: bool) {
        let Some(bound) = self.bound.remove(&player) else { return };
        let Some(gate) = self.gates.get_mut(&bound.gate) else { return };
        if let Some(standpoint) = bound.at {
            gate.leave(self.line, standpoint, bound.session);
        }
        if tell {
            gate.outlet.put(notice(bound.session, &SessionUnbound {}));
        }
        gate.sessions -= 1;
        if gate.sessions == 0 {
            self.gates.remove(&bound.gate);
        }
    }

    /// The gate of this link is gone, and its groups with it.
    pub(crate) fn gate_down(&mut self, number: u64) {
        self.gates.remove(&number);
        self.bound.retain(|_, bound| bound.gate != number);
    }

    /// The player's session joins the group of a standpoint, and leaves the one that it is in.
    pub(crate) fn join(&mut self, player: PlayerId, standpoint: Standpoint) {
        self.leave(player);
        let Some(bound) = self.bound.get_mut(&player) else { return };
        let Some(gate) = self.gates.get_mut(&bound.gate) else { return };
        bound.at = Some(standpoint);
        *gate.members.entry(standpoint).or_default() += 1;
        gate.outlet.put(membership(link::GROUP_JOIN, group(self.line, standpoint), bound.session));
    }

    /// The player's session leaves the group that it is in.
    pub(crate) fn leave(&mut self, player: PlayerId) {
        let Some(bound) = self.bound.get_mut(&player) else { return };
        let Some(gate) = self.gates.get_mut(&bound.gate) else { return };
        if let Some(standpoint) = bound.at.take() {
            gate.leave(self.line, standpoint, bound.session);
        }
    }

    /// A frame for one player.
    pub(crate) fn deliver(&self, player: PlayerId, frame: Frame) {
        let Some(bound) = self.bound.get(&player) else { return };
        let Some(gate) = self.gates.get(&bound.gate) else { return };
        gate.outlet.put(LinkFrame { kind: link::DELIVER, flags: 0, id: bound.session, body: frame.into_bytes() });
    }

    /// A frame for everybody in the group of a standpoint.
    pub(crate) fn publish(&self, standpoint: Standpoint, frame: &Frame) {
        let mut body = None;
        for gate in self.gates.values().filter(|gate| gate.members.contains_key(&standpoint)) {
            let body = body.get_or_insert_with(|| Publish { except: 0, frame: frame.clone() }.encode()).clone();
            gate.outlet.put(LinkFrame { kind: link::GROUP_PUBLISH, flags: 0, id: group(self.line, standpoint), body });
        }
    }

    /// Every gate with sessions here writes what it gathered.
    pub(crate) fn end_tick(&self, tick: u64) {
        for gate in self.gates.values() {
            gate.outlet.put(LinkFrame { kind: link::TICK_END, flags: 0, id: tick, body: bytes::Bytes::new() });
        }
    }

    /// The session that plays the player, and the connection of its gate.
    pub(crate) fn bound(&self, player: PlayerId) -> Option<(u64, &O)> {
        let bound = self.bound.get(&player)?;
        Some((bound.session, &self.gates.get(&bound.gate)?.outlet))
    }
}

impl<O: Outlet> Gate<O> {
    fn leave(&mut self, line: u32, standpoint: Standpoint, session: u64) {
        if let Some(count) = self.members.get_mut(&standpoint) {
            *count -= 1;
            if *count == 0 {
                self.members.remove(&standpoint);
            }
        }
        self.outlet.put(membership(link::GROUP_LEAVE, group(line, standpoint), session));
    }
}

/// Bits of a group's number below those of its part.
const CELL_BITS: u32 = 24;
const _: () = assert!(crate::world::CELLS_MAX < 1 << CELL_BITS);

/// The number of a standpoint's group: the line above, then its part, the cell (from 1) below.
pub(crate) fn group(line: u32, standpoint: Standpoint) -> u64 {
    (u64::from(line) << 32) | (u64::from(standpoint.part) << CELL_BITS) | (u64::from(standpoint.cell.0) + 1)
}

fn membership(kind: u16, group: u64, session: u64) -> LinkFrame {
    LinkFrame { kind, flags: 0, id: group, body: link::put_session(session) }
}

fn notice<N: Notice>(session: u64, notice: &N) -> LinkFrame {
    LinkFrame { kind: N::KIND, flags: 0, id: session, body: notice.encode_to_vec().into() }
}
