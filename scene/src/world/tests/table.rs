//! A line, a gate that knows groups and nothing else, and clients that read what they are sent as every client does. The gate may lose moves,
//! and hold back what is for a client that lost its connection, as a gate does until it resumes.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
};

use ::client::{Event, WorldView};
use proto::{
    ClientMessage, Frame,
    client::{CellMoves, Entered, Entity, Said},
    ids::PlayerId,
    kinds::Delivery,
    link::{DELIVER, GROUP_JOIN, GROUP_LEAVE, GROUP_PUBLISH, LinkFrame, Publish, get_session},
};
use service::random::Rng;

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
                let session = get_session(&frame.body).unwrap();
                assert!(ear.groups.values().all(|group| !group.contains(&session)), "in two groups");
                ear.groups.entry(frame.id).or_default().insert(session);
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

/// One client.
#[derive(Debug, Default)]
pub(super) struct Watcher {
    pub(super) view: WorldView,
    pub(super) said: Vec<String>,
    /// Bytes of the last tick.
    pub(super) bytes: usize,
    /// Updates of positions of the last tick.
    pub(super) updates: usize,
    /// What was sent while it was away, but for moves; none: it is here.
    missed: Option<Vec<Frame>>,
}

impl Watcher {
    fn receive(&mut self, frames: Vec<Frame>, loses: impl Fn(&Frame) -> bool) {
        (self.bytes, self.updates) = (frames.iter().map(|frame| frame.bytes().len()).sum(), 0);
        for frame in frames.into_iter().filter(|frame| !loses(frame)) {
            match &mut self.missed {
                Some(missed) if frame.info().unwrap().delivery == Delivery::Frame => drop((missed, frame)),
                Some(missed) => missed.push(frame),
                None => self.read(&frame),
            }
        }
    }

    fn read(&mut self, frame: &Frame) {
        // What its session was sent before it entered (anew) is not for it.
        if self.view.world().is_none() && frame.kind() != Entered::KIND {
            return;
        }
        if let Ok(moves) = frame.decode::<CellMoves>() {
            self.updates += proto::moves::read(&moves.moved).count();
        }
        match Event::from_frame(frame).unwrap() {
            Event::Said(Said { text, .. }) => self.said.push(text),
            event => self.view.apply(&event),
        }
    }
}

/// A line, its gate, and a client a player.
pub(super) struct Table {
    pub(super) world: World,
    publisher: Publisher<Ear>,
    ear: Ear,
    pub(super) clients: BTreeMap<u64, Watcher>,
    /// Of a hundred messages about moves so many are lost on the way.
    pub(super) loses_percent: u64,
    pub(super) rng: Rng,
    pub(super) effects: Vec<Effect>,
}

impl Table {
    pub(super) fn new(world: World) -> Self {
        let (publisher, ear, clients) = (Publisher::new(3), Ear::default(), BTreeMap::new());
        Self { world, publisher, ear, clients, loses_percent: 0, rng: Rng::new(3), effects: Vec::new() }
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
                Effect::Join(player, standpoint) => self.publisher.join(player, standpoint),
                Effect::Leave(player) => self.publisher.leave(player),
                Effect::Publish(standpoint, frame) => self.publisher.publish(standpoint, &frame),
                Effect::Deliver(player, frame) => self.publisher.deliver(player, frame),
                Effect::Unbind(player) => {
                    self.publisher.unbind(player, true);
                    self.clients.remove(&player.0);
                }
                _ => (),
            }
        }
        let mut sent = std::mem::take(&mut self.ear.0.borrow_mut().sent);
        for (session, client) in &mut self.clients {
            let lost = self.rng.below(100) < self.loses_percent;
            client.receive(sent.remove(session).unwrap_or_default(), |frame| lost && frame.kind() == CellMoves::KIND);
        }
    }

    /// A client's connection is lost, or comes back and brings what was missed.
    pub(super) fn connect(&mut self, player: u64, connected: bool) {
        let Some(client) = self.clients.get_mut(&player) else { return };
        match client.missed.take() {
            missed if !connected => client.missed = Some(missed.unwrap_or_default()),
            Some(missed) => missed.iter().for_each(|frame| client.read(frame)),
            None => (),
        }
    }

    /// The client of one player goes to another line with it.
    pub(super) fn take_client(&mut self, player: u64) -> Option<Watcher> {
        self.clients.remove(&player)
    }

    /// Every client sees what is there, where it is.
    pub(super) fn check(&self) {
        assert_eq!(self.world.core.players.len(), self.clients.len());
        for player in self.world.player_ids() {
            let there = self.there(player);
            let seen: BTreeMap<u32, Entity> =
                self.clients[&player.0].view.entities().map(|entity| (entity.entity, entity.clone())).collect();
            assert_eq!(seen, there, "player {player}");
        }
    }

    /// Every client that is connected sees exactly who is there, wherever it takes them to be.
    pub(super) fn check_existence(&self) {
        let placeless = |entity: &Entity| Entity { position: None, ..entity.clone() };
        for player in self.world.player_ids() {
            let client = &self.clients[&player.0];
            if self.is_shown_to(player.0) && client.missed.is_none() {
                let there: Vec<Entity> = self.there(player).values().map(placeless).collect();
                assert_eq!(client.view.entities().map(placeless).collect::<Vec<_>>(), there, "player {player}");
            }
        }
    }

    /// Whether every player was shown all of its cells.
    pub(super) fn is_shown(&self) -> bool {
        self.world.has_shown_all()
    }

    /// Whether one player was.
    pub(super) fn is_shown_to(&self, player: u64) -> bool {
        self.world.core.actor(PlayerId(player)).is_some_and(|actor| actor.reveal.is_done())
    }

    /// What a player should see, and whether its client sees the right cells of the right line as the right entity.
    fn there(&self, player: PlayerId) -> BTreeMap<u32, Entity> {
        let core = &self.world.core;
        let (client, own) = (&self.clients[&player.0], core.entity_of(player).unwrap());
        assert_eq!(client.view.world().map(|entered| entered.entity), Some(own.id.0));
        let cells: BTreeSet<u32> = core.grid.around(own.cell).map(|cell| cell.0).collect();
        assert_eq!(*client.view.cells(), cells, "player {player}");
        let members = core.grid.around(own.cell).flat_map(|cell| core.grid.members(cell));
        members.map(|member| (member.entity.0, core.entities[&member.entity].out())).collect()
    }
}
