//! A line, a gate that knows groups and nothing else, and clients that believe what they are told.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
};

use proto::{
    ClientMessage, Frame,
    client::{self, CellChanges, CellGone, CellMoves, CellSnapshot, Entered, Said},
    link::{DELIVER, GROUP_JOIN, GROUP_LEAVE, GROUP_PUBLISH, LinkFrame, Publish, get_session},
};

use crate::{
    publisher::{Binding, Outlet, Publisher},
    world::{Effect, Input, World},
};

/// A gate: groups, and what each session was sent.
#[derive(Clone, Default)]
struct Ear(Rc<RefCell<EarState>>);

#[derive(Default)]
struct EarState {
    groups: BTreeMap<u64, BTreeSet<u64>>,
    sent: BTreeMap<u64, Vec<Frame>>,
}

impl Outlet for Ear {
    fn number(&self) -> u64 {
        1
    }

    fn put(&self, frame: LinkFrame) {
        let mut ear = self.0.borrow_mut();
        match frame.kind {
            GROUP_JOIN => {
                let joined = ear.groups.entry(frame.id).or_default().insert(get_session(&frame.body).unwrap());
                assert!(joined, "joined twice");
            }
            GROUP_LEAVE => {
                let left = ear.groups.get_mut(&frame.id).is_some_and(|group| group.remove(&get_session(&frame.body).unwrap()));
                assert!(left, "left a group that it was not in");
            }
            GROUP_PUBLISH => {
                let publish = Publish::decode(frame.body).unwrap();
                let members: Vec<u64> = ear.groups.get(&frame.id).into_iter().flatten().copied().collect();
                assert!(!members.is_empty(), "published to nobody");
                for session in members {
                    ear.sent.entry(session).or_default().push(publish.frame.clone());
                }
            }
            DELIVER => ear.sent.entry(frame.id).or_default().push(Frame::from_bytes(frame.body).unwrap()),
            _ => (),
        }
    }
}

/// A client that believes what it is told.
#[derive(Debug, Default)]
pub(super) struct Believer {
    entered: Option<Entered>,
    cells: BTreeSet<u32>,
    /// Entities with the cell in which they are.
    entities: BTreeMap<u32, (u32, client::Entity)>,
    pub(super) said: Vec<String>,
}

impl Believer {
    fn take(&mut self, frame: &Frame) {
        // What its session was sent before it entered (anew) is not for it.
        if self.entered.is_none() && frame.kind() != Entered::KIND {
            return;
        }
        match frame.kind() {
            Entered::KIND => *self = Self { entered: Some(frame.decode().unwrap()), ..Self::default() },
            CellSnapshot::KIND => {
                let snapshot: CellSnapshot = frame.decode().unwrap();
                self.cells.insert(snapshot.cell);
                self.put_all(snapshot.cell, snapshot.entities);
            }
            CellGone::KIND => {
                let gone: CellGone = frame.decode().unwrap();
                assert!(self.cells.remove(&gone.cell), "a cell that was not seen is gone");
                self.entities.retain(|_, (cell, _)| *cell != gone.cell);
            }
            CellChanges::KIND => {
                let changes: CellChanges = frame.decode().unwrap();
                assert!(self.cells.contains(&changes.cell), "told of a cell that it does not see");
                for left in changes.left {
                    self.entities.remove(&left.entity).filter(|(cell, _)| *cell != changes.cell).map(|kept| {
                        // It went to a cell that is seen, and that cell told of it first.
                        self.entities.insert(left.entity, kept)
                    });
                }
                self.put_all(changes.cell, changes.entered);
                self.put_all(changes.cell, changes.changed);
            }
            CellMoves::KIND => {
                let moves: CellMoves = frame.decode().unwrap();
                assert!(self.cells.contains(&moves.cell), "told of a cell that it does not see");
                for ((entity, x), y) in moves.entity.iter().zip(moves.x).zip(moves.y) {
                    let known = self.entities.get_mut(entity).filter(|(cell, _)| *cell == moves.cell);
                    known.expect("moves are of entities that the client knows").1.position = Some(client::Position { x, y });
                }
            }
            Said::KIND => self.said.push(frame.decode::<Said>().unwrap().text),
            _ => (),
        }
    }

    fn put_all(&mut self, cell: u32, entities: Vec<client::Entity>) {
        self.entities.extend(entities.into_iter().map(|entity| (entity.entity, (cell, entity))));
    }
}

/// A line, its gate, and a client a player.
pub(super) struct Table {
    pub(super) world: World,
    publisher: Publisher<Ear>,
    ear: Ear,
    pub(super) clients: BTreeMap<u64, Believer>,
    /// Whether frames of moves that are no keyframes are lost on the way.
    pub(super) drops_moves: bool,
    pub(super) effects: Vec<Effect>,
}

impl Table {
    pub(super) fn new(world: World) -> Self {
        let (publisher, ear, clients) = (Publisher::new(3), Ear::default(), BTreeMap::new());
        Self { world, publisher, ear, clients, drops_moves: false, effects: Vec::new() }
    }

    /// One tick; the session of a player has its number.
    pub(super) fn step(&mut self, inputs: &[Input]) {
        self.effects.clear();
        self.world.step(inputs, &mut self.effects);
        for effect in self.effects.clone() {
            match effect {
                Effect::Bind(player) => {
                    let binding = Binding { session: player.0, name: String::new(), outlet: self.ear.clone() };
                    self.publisher.bind(player, binding);
                    self.clients.entry(player.0).or_default();
                }
                Effect::Join(player, cell) => self.publisher.join(player, cell),
                Effect::Leave(player, cell) => self.publisher.leave(player, cell),
                Effect::Publish(cell, frame) => self.publisher.publish(cell, &frame),
                Effect::Deliver(player, frame) => self.publisher.deliver(player, frame),
                Effect::Unbind(player) => {
                    self.publisher.unbind(player, true);
                    self.clients.remove(&player.0);
                }
                _ => (),
            }
        }
        let sent = std::mem::take(&mut self.ear.0.borrow_mut().sent);
        for (session, frames) in sent {
            let Some(client) = self.clients.get_mut(&session) else { continue };
            for frame in frames {
                let lost = self.drops_moves && frame.decode::<CellMoves>().is_ok_and(|moves| !moves.keyframe);
                if !lost {
                    client.take(&frame);
                }
            }
        }
    }

    /// Every client sees what is there.
    pub(super) fn check(&self) {
        let core = &self.world.core;
        assert_eq!(core.players.len(), self.clients.len());
        for (player, id) in &core.players {
            let client = &self.clients[&player.0];
            assert_eq!(client.entered.as_ref().map(|entered| entered.entity), Some(id.0));
            let here = core.entities[id].cell;
            let cells: BTreeSet<u32> = core.grid.around(here).map(|cell| cell.0).collect();
            assert_eq!(client.cells, cells, "player {player}");
            let there: BTreeMap<u32, (u32, client::Entity)> = core
                .entities
                .values()
                .filter(|entity| cells.contains(&entity.cell.0))
                .map(|entity| (entity.id.0, (entity.cell.0, entity.out())))
                .collect();
            assert_eq!(client.entities, there, "player {player}");
        }
    }
}
