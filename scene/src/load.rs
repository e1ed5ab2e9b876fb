//! A line under load, without sockets, for `zone bench scene`: walkers whose inputs follow from a seed, the world, and the publisher with
//! gates that only keep what they are given.

use std::{
    cell::RefCell,
    collections::{BTreeMap, HashMap},
    rc::Rc,
};

use anyhow::Context;
use bytes::Bytes;
use proto::{
    ClientMessage, Frame,
    client::CellMoves,
    ids::PlayerId,
    link::{DELIVER, GROUP_JOIN, GROUP_LEAVE, GROUP_PUBLISH, LinkFrame, Publish},
    record::PlayerRecord,
};
use service::random::Rng;

use crate::{
    game,
    publisher::{Binding, Outlet, Publisher},
    rules::MapFacts,
    world::{Effect, Enter, Input, LineConfig, Position, World},
};

/// Ticks a second.
pub const TICK_HZ: u32 = 10;
/// Side of a cell, in centimetres.
const CELL_CM: i32 = 2_500;
/// Centimetres a second, and of it what walkers walk.
const SPEED_MAX: u32 = 800;
const STEP_CM: i64 = 64;
/// Walkers that a walker of an even spread has around it.
const NEIGHBOURS: f64 = 100.0;
/// Walkers of one town.
const TOWN: usize = 250;
/// How far from its middle the walkers of a town or a crowd go, in centimetres.
const REACH_CM: i32 = 3_000;
/// Gates that the walkers' sessions are spread over.
const GATES: u64 = 2;

/// Where the walkers are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Everywhere on a map that is as large as gives each a hundred neighbours.
    Uniform,
    /// In towns of 250.
    Towns,
    /// All within sight of each other.
    Crowd,
}

/// What the clients of a tick were sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Bytes, summed over the clients.
    pub client_bytes: u64,
    /// Updates of positions, summed over the clients.
    pub updates: u64,
    /// Frames, summed over the clients.
    pub client_frames: u64,
    /// Frames on links.
    pub link_frames: u64,
}

/// A walking player.
#[derive(Clone, Copy, Debug)]
struct Walker {
    at: Position,
    goal: Position,
    home: Position,
}

/// A line with walkers.
pub struct Load {
    world: World,
    publisher: Publisher<Kept>,
    gates: Vec<Kept>,
    members: HashMap<(u64, u64), u64>,
    effects: Vec<Effect>,
    walkers: Vec<Walker>,
    reach: i32,
    side: i32,
    rng: Rng,
    tick: u64,
}

impl Load {
    /// A line on which so many walk, who were all told of each other.
    ///
    /// # Errors
    /// When there are more than a map has room for.
    pub fn open(walkers: usize, shape: Shape, client_bytes_s: u32, seed: u64) -> anyhow::Result<Self> {
        let mut rng = Rng::new(seed);
        let side = side_of(walkers, shape);
        let middle = Position { x: side / 2, y: side / 2 };
        let homes = homes(walkers, shape, side, &mut rng);
        let reach = if shape == Shape::Uniform { side } else { REACH_CM };
        let config = LineConfig {
            map: "load".into(),
            line: 1,
            width: side,
            height: side,
            cell_cm: CELL_CM,
            tick_hz: TICK_HZ,
            speed_max: SPEED_MAX,
            start: middle,
            client_bytes_s,
            save_ticks: u64::from(TICK_HZ),
            boot: 1,
        };
        let maps = BTreeMap::from([("load".to_owned(), (side, side))]);
        let facts = MapFacts {
            map: "load",
            width: side,
            height: side,
            tick_hz: TICK_HZ,
            start: middle,
            maps: &maps,
            config: &serde_json::Value::Null,
        };
        let world = World::open(config, game::open(&facts)?, rng.clone()).context("divide the map into cells: too many walkers")?;
        let gates: Vec<Kept> = (0..GATES).map(|number| Kept { number, frames: Rc::default() }).collect();
        let publisher = Publisher::new(1);
        let mut load =
            Self { world, publisher, gates, members: HashMap::new(), effects: Vec::new(), walkers: Vec::new(), reach, side, rng, tick: 0 };
        for home in homes {
            let (at, goal) = (load.place_near(home), load.place_near(home));
            load.walkers.push(Walker { at, goal, home });
        }
        load.enter_all();
        Ok(load)
    }

    /// The inputs of the next tick: everybody takes a step.
    pub fn inputs(&mut self) -> Vec<Input> {
        let mut inputs = Vec::with_capacity(self.walkers.len());
        for index in 0..self.walkers.len() {
            let walker = self.walkers[index];
            let to = step(walker.at, walker.goal);
            self.walkers[index].at = to;
            if to == walker.goal {
                self.walkers[index].goal = self.place_near(walker.home);
            }
            inputs.push(Input::Move { player: player(index), seq: 0, to });
        }
        inputs
    }

    /// A tick of the line: the world, and what follows from it for the gates. This is what is measured.
    pub fn tick(&mut self, inputs: &[Input]) {
        self.tick += 1;
        self.effects.clear();
        self.world.step(inputs, &mut self.effects);
        for effect in self.effects.drain(..) {
            match effect {
                Effect::Publish(standpoint, frame) => self.publisher.publish(standpoint, &frame),
                Effect::Deliver(player, frame) => self.publisher.deliver(player, frame),
                Effect::Bind(player) => {
                    let outlet = self.gates[(player.0 % GATES) as usize].clone();
                    self.publisher.bind(player, Binding { session: player.0, name: String::new(), outlet });
                }
                Effect::Join(player, standpoint) => self.publisher.join(player, standpoint),
                Effect::Leave(player) => self.publisher.leave(player),
                _ => (),
            }
        }
        self.publisher.end_tick(self.tick);
    }

    /// Takes what the gates were given in the last tick, and gives what their clients would be sent.
    pub fn traffic(&mut self) -> (Traffic, Vec<Bytes>) {
        let (mut traffic, mut bodies) = (Traffic::default(), Vec::new());
        for gate in &self.gates {
            for link in gate.frames.borrow_mut().drain(..) {
                count(&link, gate.number, &mut self.members, &mut traffic);
                bodies.push(link.body);
            }
        }
        (traffic, bodies)
    }

    /// How many others a walker sees, on the mean.
    pub fn neighbours(&self) -> f64 {
        let mut cells: BTreeMap<(i32, i32), u64> = BTreeMap::new();
        let cell = |at: Position| (at.x / CELL_CM, at.y / CELL_CM);
        for walker in &self.walkers {
            *cells.entry(cell(walker.at)).or_default() += 1;
        }
        let seen = |(x, y): (i32, i32)| {
            (-1..=1).flat_map(|row| (-1..=1).map(move |column| (x + column, y + row))).filter_map(|near| cells.get(&near)).sum::<u64>()
        };
        let pairs: u64 = cells.iter().map(|(at, count)| count * (seen(*at) - 1)).sum();
        pairs as f64 / self.walkers.len().max(1) as f64
    }

    /// Whether every walker was where it wanted to be, as far as the line knows: nothing was refused.
    pub fn is_true(&self) -> bool {
        self.walkers.iter().enumerate().all(|(index, walker)| self.world.position_of(player(index)) == Some(walker.at))
    }

    fn enter_all(&mut self) {
        let enter = |(index, walker): (usize, &Walker)| {
            let record = PlayerRecord {
                player: player(index).0,
                name: format!("Walker{index}"),
                position: Some(walker.at.into()),
                ..PlayerRecord::default()
            };
            Input::Enter(Box::new(Enter { record, seq: 1, muted_ticks: 0, travelled: false }))
        };
        let enters: Vec<Input> = self.walkers.iter().enumerate().map(enter).collect();
        self.tick(&enters);
        self.traffic();
        while !self.world.has_shown_all() {
            self.tick(&[]);
            self.traffic();
        }
    }

    fn place_near(&mut self, home: Position) -> Position {
        let (reach, side) = (self.reach, self.side);
        let mut along = |home: i32| {
            let (from, to) = ((home - reach).max(0), (home + reach).min(side - 1));
            let span = u64::from((to - from).unsigned_abs()) + 1;
            from + i32::try_from(self.rng.below(span)).unwrap_or(0)
        };
        Position { x: along(home.x), y: along(home.y) }
    }
}

fn player(index: usize) -> PlayerId {
    PlayerId(index as u64 + 1)
}

fn side_of(walkers: usize, shape: Shape) -> i32 {
    let density = match shape {
        Shape::Uniform => NEIGHBOURS,
        Shape::Towns => NEIGHBOURS / 4.0,
        Shape::Crowd => return 4 * REACH_CM,
    };
    let sight = f64::from(3 * CELL_CM);
    // Saturates; the world refuses what is too large.
    ((walkers as f64 / density).sqrt() * sight).max(sight) as i32
}

fn homes(walkers: usize, shape: Shape, side: i32, rng: &mut Rng) -> Vec<Position> {
    let middle = Position { x: side / 2, y: side / 2 };
    if shape != Shape::Towns {
        return vec![middle; walkers];
    }
    let mut anywhere = || i32::try_from(rng.below(u64::from(side.unsigned_abs()))).unwrap_or(0);
    let towns: Vec<Position> = (0..walkers.div_ceil(TOWN)).map(|_| Position { x: anywhere(), y: anywhere() }).collect();
    (0..walkers).map(|index| towns[index / TOWN]).collect()
}

fn step(from: Position, to: Position) -> Position {
    let along = |from: i32, to: i32| i64::from(to) - i64::from(from);
    let (x, y) = (along(from.x, to.x), along(from.y, to.y));
    let distance = (x * x + y * y).isqrt();
    if distance <= STEP_CM {
        return to;
    }
    let part = |from: i32, along: i64| i32::try_from(i64::from(from) + along * STEP_CM / distance).unwrap_or(from);
    Position { x: part(from.x, x), y: part(from.y, y) }
}

fn count(link: &LinkFrame, gate: u64, members: &mut HashMap<(u64, u64), u64>, traffic: &mut Traffic) {
    traffic.link_frames += 1;
    let group = (gate, link.id);
    match link.kind {
        GROUP_JOIN => *members.entry(group).or_default() += 1,
        GROUP_LEAVE => *members.entry(group).or_default() -= 1,
        GROUP_PUBLISH => {
            if let Some(publish) = Publish::decode(link.body.clone()) {
                sent(&publish.frame, members.get(&group).copied().unwrap_or(0), traffic);
            }
        }
        DELIVER => {
            if let Ok(frame) = Frame::from_bytes(link.body.clone()) {
                sent(&frame, 1, traffic);
            }
        }
        _ => (),
    }
}

fn sent(frame: &Frame, clients: u64, traffic: &mut Traffic) {
    traffic.client_frames += clients;
    traffic.client_bytes += clients * frame.bytes().len() as u64;
    if frame.kind() == CellMoves::KIND
        && let Ok(moves) = frame.decode::<CellMoves>()
    {
        traffic.updates += clients * proto::moves::read(&moves.moved).count() as u64;
    }
}

/// A gate that keeps what it is given.
#[derive(Clone, Debug)]
struct Kept {
    number: u64,
    frames: Rc<RefCell<Vec<LinkFrame>>>,
}

impl Outlet for Kept {
    fn number(&self) -> u64 {
        self.number
    }

    fn put(&self, frame: LinkFrame) {
        self.frames.borrow_mut().push(frame);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_walks_and_everybody_is_told() {
        for shape in [Shape::Uniform, Shape::Towns, Shape::Crowd] {
            let mut load = Load::open(200, shape, 1_000_000, 1).unwrap();
            for _ in 0..20 {
                let inputs = load.inputs();
                load.tick(&inputs);
                let (traffic, _) = load.traffic();
                // Everybody sees at least itself walk.
                assert!(200 <= traffic.updates && traffic.updates <= 200 * 200, "{shape:?}: {traffic:?}");
            }
            assert!(load.is_true(), "{shape:?}");
        }
    }

    #[test]
    fn one_seed_is_one_run() {
        let run = || {
            let mut load = Load::open(100, Shape::Towns, 30_000, 7).unwrap();
            let inputs = load.inputs();
            load.tick(&inputs);
            load.traffic().0
        };
        assert_eq!(run(), run());
    }
}
