//! The shell side of a tick: orders become inputs and are answered, effects go to gates, the saver, the logs.

use std::collections::BTreeMap;

use proto::{
    Frame,
    client::{Fault, FaultCode},
    event::{OverloadChanged, event::Body},
    ids::PlayerId,
    record::PlayerRecord,
};
use service::{
    Link,
    events::{Events, Subject},
};
use tokio::sync::{mpsc, oneshot};

use super::{Journey, Line, Order, Stand};
use crate::{
    players::Players,
    publisher::{Binding, Publisher},
    saver::Saver,
    world::{Effect, Input, SaveUnit, Sides, World},
};

/// Where a line reports what others have to do.
#[derive(Clone)]
pub(crate) struct Reports {
    pub(crate) players: Players,
    pub(crate) events: Events,
    /// Journeys begun. At most one a player: a frozen player begins no second one.
    pub(crate) journeys: mpsc::UnboundedSender<(u32, Journey)>,
    /// Players that are not ours any more. At most one a player.
    pub(crate) lost: mpsc::UnboundedSender<u64>,
    /// Levels reached; told to center, which reads the newest.
    pub(crate) levels: mpsc::UnboundedSender<(u64, u32)>,
}

/// What the line's thread keeps beside the world.
pub(super) struct Outputs {
    line: Line,
    saver: Saver,
    reports: Reports,
    publisher: Publisher<Link>,
    coming: BTreeMap<PlayerId, (Option<Binding<Link>>, oneshot::Sender<u32>)>,
    leaving: BTreeMap<PlayerId, (bool, oneshot::Sender<PlayerRecord>)>,
    freezing: BTreeMap<PlayerId, oneshot::Sender<PlayerRecord>>,
    holding: BTreeMap<PlayerId, oneshot::Sender<Result<Box<Sides>, Fault>>>,
}

impl Outputs {
    pub(super) fn new(line: Line, reports: Reports) -> Self {
        let publisher = Publisher::new(line.facts().index);
        let saver = line.saver().clone();
        let (coming, leaving, freezing, holding) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        Self { line, saver, reports, publisher, coming, leaving, freezing, holding }
    }

    /// Notes who waits for an answer. Returns what the world is told.
    pub(super) fn expect(&mut self, order: Order) -> Option<Input> {
        match order {
            Order::Input(input) => return Some(input),
            Order::Enter(enter, binding, done) => {
                self.coming.insert(PlayerId(enter.record.player), (binding, done));
                return Some(Input::Enter(enter));
            }
            Order::Rebind(input, binding, done) => {
                if let Input::Rebind { player, .. } = &input {
                    self.coming.insert(*player, (Some(binding), done));
                }
                return Some(input);
            }
            Order::Leave(player, unbind, done) => {
                self.leaving.insert(player, (unbind, done));
                return Some(Input::Leave(player));
            }
            Order::Freeze(player, done) => {
                self.freezing.insert(player, done);
                return Some(Input::Freeze(player));
            }
            Order::Hold(player, deal, done) => {
                self.holding.insert(player, done);
                return Some(Input::Hold { player, deal });
            }
            Order::GateDown(number) => self.publisher.gate_down(number),
            Order::Look(..) | Order::MayLeave(..) | Order::Close(_) => (),
        }
        None
    }

    /// As [`Outputs::expect`] for the end of the line, when everybody leaves and stays bound: center finds them another scene.
    pub(super) fn expect_all(&mut self, leaves: &[Input]) -> Vec<oneshot::Receiver<PlayerRecord>> {
        let mut left = Vec::with_capacity(leaves.len());
        for input in leaves {
            let Input::Leave(player) = input else { continue };
            let (done, record) = oneshot::channel();
            self.leaving.insert(*player, (false, done));
            left.push(record);
        }
        left
    }

    /// Does what the world said, in its order.
    pub(super) fn give_out(&mut self, tick: u64, effects: &mut Vec<Effect>, world: &World) {
        let (mut saves, mut bound, mut answers) = (Vec::new(), Vec::new(), Vec::new());
        for effect in effects.drain(..) {
            match effect {
                Effect::Publish(standpoint, frame) => self.publisher.publish(standpoint, &frame),
                Effect::Deliver(player, frame) => self.publisher.deliver(player, frame),
                Effect::Bind(player) => bound.extend(self.bind(player)),
                Effect::Join(player, standpoint) => self.publisher.join(player, standpoint),
                Effect::Leave(player) => self.publisher.leave(player),
                Effect::Unbind(player) => {
                    let tell = self.leaving.get(&player).is_none_or(|(tell, _)| *tell);
                    self.publisher.unbind(player, tell);
                }
                Effect::Save(unit) => saves.push(unit),
                Effect::Left(_) | Effect::Frozen(_) | Effect::Held(..) | Effect::Travel(..) => answers.push(effect),
                Effect::Level(player, level) => {
                    let _ = self.reports.levels.send((player.0, level));
                }
                Effect::Event(player, body) => {
                    self.reports.events.emit(&self.subject(player), body);
                }
                Effect::MoveRefused(_) => {
                    metrics::counter!("paifang_scene_moves_refused_total", "map" => self.line.facts().map.clone()).increment(1);
                }
                Effect::Refused(player) => drop(self.coming.remove(&player)),
                Effect::Absent(player, seq) => {
                    let fault = Fault::retry(FaultCode::Unavailable, "your character is not here", 1_000);
                    self.reports.players.deliver(player.0, Frame::encode(seq, &fault));
                }
            }
        }
        self.publisher.end_tick(tick);
        self.save(saves);
        // After the saves: whoever is told that a player left may take it out of the saver at once.
        for effect in answers {
            self.answer(effect);
        }
        for (player, done) in bound {
            self.welcome(player, done, world);
        }
        // Whoever is not here gets no answer, which is one.
        self.leaving.clear();
        self.freezing.clear();
        self.holding.clear();
        self.coming.clear();
    }

    fn answer(&mut self, effect: Effect) {
        match effect {
            Effect::Left(record) => answer(self.leaving.remove(&PlayerId(record.player)).map(|(_, done)| done), record),
            Effect::Held(player, sides) => {
                let now_ms = crate::now_ms();
                let sides = sides.map(|mut sides| {
                    (sides.before.seen_ms, sides.after.seen_ms) = (now_ms, now_ms);
                    sides
                });
                if let Some(done) = self.holding.remove(&player) {
                    // Whoever asked waits as long as the line lives.
                    let _ = done.send(sides);
                }
            }
            Effect::Frozen(record) => answer(self.freezing.remove(&PlayerId(record.player)), record),
            Effect::Travel(player, to, mut record) => {
                record.seen_ms = crate::now_ms();
                let _ = self.reports.journeys.send((self.line.facts().index, Journey { player, to, record }));
            }
            _ => (),
        }
    }

    fn bind(&mut self, player: PlayerId) -> Option<(PlayerId, oneshot::Sender<u32>)> {
        let (binding, done) = self.coming.remove(&player)?;
        // A link that went down after it was looked up is never reported down again.
        if let Some(binding) = binding.filter(|binding| binding.outlet.is_up()) {
            self.publisher.bind(player, binding);
        }
        Some((player, done))
    }

    /// The player's client has been told everything: what is said to it from elsewhere comes after that.
    fn welcome(&self, player: PlayerId, done: oneshot::Sender<u32>, world: &World) {
        if let Some((session, link)) = self.publisher.bound(player) {
            self.reports.players.bound(player.0, session, link.clone());
        }
        let _ = done.send(world.looks_of(player).map_or(0, |looks| looks.level));
    }

    fn save(&self, mut units: Vec<SaveUnit>) {
        let now_ms = crate::now_ms();
        for record in units.iter_mut().flat_map(|unit| &mut unit.records) {
            record.seen_ms = now_ms;
        }
        for player in self.saver.mark(units) {
            let _ = self.reports.lost.send(player);
        }
    }

    /// What is left out, in the metrics.
    pub(super) fn measure_overload(&self, now: Stand) {
        let labels = self.labels();
        metrics::gauge!("paifang_scene_overload_rung", &labels).set(f64::from(now.rung as u8));
        metrics::gauge!("paifang_scene_time_permille", &labels).set(f64::from(now.time_permille));
    }

    fn labels(&self) -> [(&'static str, String); 2] {
        let facts = self.line.facts();
        [("map", facts.map.clone()), ("line", facts.line.to_string())]
    }

    /// The line leaves out more, or less, than before.
    pub(super) fn tell_overload(&self, before: Stand, now: Stand) {
        let facts = self.line.facts();
        self.measure_overload(now);
        metrics::counter!("paifang_scene_overload_steps_total", &self.labels()).increment(1);
        let subject = Subject { map: facts.map.clone(), line: facts.line, ..Subject::default() };
        let (from, to) = (before.rung.name().to_owned(), now.rung.name().to_owned());
        self.reports.events.emit(&subject, Body::OverloadChanged(OverloadChanged { from, to, permille: now.time_permille }));
        tracing::info!(
            map = facts.map,
            line = facts.line,
            "the ticks take {}: left out is {}",
            if before.rung < now.rung { "too long" } else { "less" },
            now.rung.name()
        );
    }

    fn subject(&self, player: PlayerId) -> Subject {
        self.reports.players.subject(player.0, self.line.facts())
    }
}

fn answer(asks: Option<oneshot::Sender<PlayerRecord>>, mut record: PlayerRecord) {
    record.seen_ms = crate::now_ms();
    if let Some(asks) = asks {
        // Whoever asked may have given up.
        let _ = asks.send(record);
    }
}
