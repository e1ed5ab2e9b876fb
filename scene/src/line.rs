//! One line of a map: a thread that ticks its world at a fixed rate, and the handle by which the rest of the process reaches it.
//!
//! I/O never delays a tick, nor a tick I/O: what is for the line waits in its [`queue`], what comes from it goes to queues of others
//! that never wait (links, the saver, events).

mod ladder;
mod outputs;
pub(crate) mod queue;
pub(crate) mod schedule;

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{SystemTime, UNIX_EPOCH},
};

use proto::{
    Frame,
    client::Fault,
    ids::{ItemId, PlayerId},
    record::PlayerRecord,
};
use service::config::OverloadConfig;
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};

use self::{
    ladder::Ladder,
    outputs::Outputs,
    queue::Queue,
    schedule::{Schedule, TickTimes, first_in},
};
pub(crate) use self::{ladder::Stand, outputs::Reports};
use crate::{
    publisher::Binding,
    saver::Saver,
    world::{Deal, Destination, Effect, Enter, Goods, Input, Sides, World},
};

/// What a line is told.
#[derive(Debug)]
pub(crate) enum Order {
    /// What a client sent, or what needs no answer.
    Input(Input),
    /// A player comes; answered with its level when its client, if it has one, was told.
    Enter(Box<Enter>, Option<Binding<service::Link>>, oneshot::Sender<u32>),
    /// Another session plays a player that is here; answered as `Enter`.
    Rebind(Input, Binding<service::Link>, oneshot::Sender<u32>),
    /// A player goes; answered with its record. The flag: its session is told that it is bound no more.
    Leave(PlayerId, bool, oneshot::Sender<PlayerRecord>),
    /// A player is about to go to another line; answered with its record.
    Freeze(PlayerId, oneshot::Sender<PlayerRecord>),
    /// What a player would give; answered at once.
    Look(PlayerId, u64, Vec<ItemId>, oneshot::Sender<Result<Goods, Fault>>),
    /// Whether a player may go elsewhere by its own wish; answered at once.
    MayLeave(PlayerId, oneshot::Sender<Result<(), Fault>>),
    /// A player is held for a deal; answered with its two sides, or why it is not.
    Hold(PlayerId, Box<Deal>, oneshot::Sender<Result<Box<Sides>, Fault>>),
    /// The link with this number is down.
    GateDown(u64),
    /// Everybody leaves, and the line ends; answered with their records.
    Close(oneshot::Sender<Vec<PlayerRecord>>),
}

/// A player that wants to go elsewhere, frozen.
#[derive(Debug)]
pub(crate) struct Journey {
    pub(crate) player: PlayerId,
    pub(crate) to: Destination,
    pub(crate) record: PlayerRecord,
}

/// How a line stands.
#[derive(Debug)]
pub(crate) struct LineStatus {
    pub(crate) players: usize,
    pub(crate) entities: usize,
    pub(crate) times: TickTimes,
    pub(crate) overruns: u64,
    /// What it leaves out because its ticks take too long.
    pub(crate) stand: Stand,
}

/// The handle of a line. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Line(Arc<Shared>);

struct Shared {
    facts: LineFacts,
    queue: Queue<Order>,
    status: Mutex<LineStatus>,
    saver: Saver,
    closing: AtomicBool,
}

/// What does not change of a line.
#[derive(Clone, Debug)]
pub(crate) struct LineFacts {
    /// Place among the lines of this process.
    pub(crate) index: u32,
    /// Place among the lines of the zone, from 0.
    pub(crate) turn: u32,
    pub(crate) map: String,
    pub(crate) line: u32,
    pub(crate) players_max: u32,
    pub(crate) tick_hz: u32,
    pub(crate) overload: OverloadConfig,
    /// `center`, or a GM's name.
    pub(crate) opened_by: String,
}

impl Line {
    pub(crate) fn new(facts: LineFacts, saver: Saver) -> Self {
        let status = LineStatus { players: 0, entities: 0, times: TickTimes::new(), overruns: 0, stand: Stand::FULL };
        Self(Arc::new(Shared { facts, queue: Queue::new(), status: Mutex::new(status), saver, closing: AtomicBool::new(false) }))
    }

    pub(crate) fn facts(&self) -> &LineFacts {
        &self.0.facts
    }

    pub(crate) fn saver(&self) -> &Saver {
        &self.0.saver
    }

    /// It takes nobody any more; false: that was so already.
    pub(crate) fn begin_closing(&self) -> bool {
        !self.0.closing.swap(true, Ordering::AcqRel)
    }

    /// Whether it takes nobody any more.
    pub(crate) fn is_closing(&self) -> bool {
        self.0.closing.load(Ordering::Acquire)
    }

    /// Reads how the line stands.
    pub(crate) fn status<T>(&self, read: impl FnOnce(&LineStatus) -> T) -> T {
        read(&self.lock_status())
    }

    /// Gives the line what a client sent, of `bytes` bytes; false if there is no room.
    pub(crate) fn input(&self, input: Input, bytes: usize) -> bool {
        self.0.queue.push_input(Order::Input(input), bytes)
    }

    /// Gives the line an order of the process.
    pub(crate) fn order(&self, order: Order) {
        self.0.queue.push(order);
    }

    /// A player comes; its level. None: it is here already, or the line has ended.
    pub(crate) async fn enter(&self, enter: Enter, binding: Option<Binding<service::Link>>) -> Option<u32> {
        let (done, entered) = oneshot::channel();
        self.order(Order::Enter(Box::new(enter), binding, done));
        entered.await.ok()
    }

    /// Another session plays a player that is here; its level. None: it is not here.
    pub(crate) async fn rebind(&self, input: Input, binding: Binding<service::Link>) -> Option<u32> {
        let (done, bound) = oneshot::channel();
        self.order(Order::Rebind(input, binding, done));
        bound.await.ok()
    }

    /// A player goes; its record. None: it is not here.
    pub(crate) async fn leave(&self, player: PlayerId, unbind: bool) -> Option<PlayerRecord> {
        let (done, left) = oneshot::channel();
        self.order(Order::Leave(player, unbind, done));
        left.await.ok()
    }

    /// A player neither acts nor changes from here on; its record. None: it is not here.
    pub(crate) async fn freeze(&self, player: PlayerId) -> Option<PlayerRecord> {
        let (done, frozen) = oneshot::channel();
        self.order(Order::Freeze(player, done));
        frozen.await.ok()
    }

    /// A frozen player stays, and is told why.
    pub(crate) fn unfreeze(&self, player: PlayerId, fault: Option<Fault>) {
        self.order(Order::Input(Input::Unfreeze { player, fault }));
    }

    /// What a player would give, described. None: the line has ended.
    pub(crate) async fn look(&self, player: PlayerId, coins: u64, items: Vec<ItemId>) -> Option<Result<Goods, Fault>> {
        let (done, looked) = oneshot::channel();
        self.order(Order::Look(player, coins, items, done));
        looked.await.ok()
    }

    /// Whether a player may go elsewhere by its own wish. None: the line has ended.
    pub(crate) async fn may_leave(&self, player: PlayerId) -> Option<Result<(), Fault>> {
        let (done, answer) = oneshot::channel();
        self.order(Order::MayLeave(player, done));
        answer.await.ok()
    }

    /// Nothing that a player has changes from here on; it with and without the deal, or why it is not held. None: the line has ended.
    pub(crate) async fn hold(&self, player: PlayerId, deal: Deal) -> Option<Result<Box<Sides>, Fault>> {
        let (done, held) = oneshot::channel();
        self.order(Order::Hold(player, Box::new(deal), done));
        held.await.ok()
    }

    /// A held player is free; `done`: with the deal. `tell` goes to its client.
    pub(crate) fn settle(&self, player: PlayerId, done: bool, tell: Option<Frame>) {
        self.order(Order::Input(Input::Settle { player, done, tell }));
    }

    /// Everybody leaves, and the line ends; their records.
    pub(crate) async fn close(&self) -> Vec<PlayerRecord> {
        let (done, closed) = oneshot::channel();
        self.order(Order::Close(done));
        closed.await.unwrap_or_default()
    }

    /// Starts the line's thread. `panicked` is told when it ends so.
    pub(crate) fn start(&self, world: World, reports: Reports, panicked: mpsc::Sender<()>) -> std::io::Result<()> {
        let line = self.clone();
        let outputs = Outputs::new(self.clone(), reports);
        let name = format!("{}/{}", self.0.facts.map, self.0.facts.line);
        thread::Builder::new().name(name).spawn(move || {
            let _closes = Closes(line.clone(), panicked);
            let ladder = Ladder::new(line.facts().overload, line.facts().tick_hz);
            Ticker { line, world, outputs, ladder, inputs: Vec::new(), effects: Vec::new(), tick: 0, stand: None }.run();
        })?;
        Ok(())
    }

    fn lock_status(&self) -> std::sync::MutexGuard<'_, LineStatus> {
        self.0.status.lock().expect("no holder of the status panics")
    }
}

/// Closes the queue at the end of the thread, so that whoever waits for an answer learns that none will come.
struct Closes(Line, mpsc::Sender<()>);

impl Drop for Closes {
    fn drop(&mut self) {
        self.0.0.queue.close();
        if thread::panicking() {
            // Full: another line has said it already.
            let _ = self.1.try_send(());
        }
    }
}

/// The line's thread.
struct Ticker {
    line: Line,
    world: World,
    outputs: Outputs,
    ladder: Ladder,
    inputs: Vec<Input>,
    effects: Vec<Effect>,
    tick: u64,
    /// A step on the ladder that the world has not been told of.
    stand: Option<Stand>,
}

impl Ticker {
    fn run(mut self) {
        let facts = self.line.facts();
        let clock = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let mut schedule = Schedule::new(facts.tick_hz, Instant::now() + first_in(facts.turn, facts.tick_hz, clock));
        loop {
            thread::sleep(schedule.wait(Instant::now()));
            let began = Instant::now();
            let closing = self.tick();
            let now = Instant::now();
            let overrun = schedule.ticked(now);
            self.note(now, now - began, overrun);
            if let Some(stand) = self.ladder.ticked(now - began) {
                schedule.pace(stand.time_permille);
                self.stand = Some(stand);
            }
            if let Some(closing) = closing {
                self.close(closing);
                return;
            }
        }
    }

    /// One tick. Some: it was the last but one.
    fn tick(&mut self) -> Option<oneshot::Sender<Vec<PlayerRecord>>> {
        self.inputs.clear();
        if let Some(stand) = self.stand.take() {
            self.step_on_ladder(stand);
        }
        let mut closing = None;
        for order in self.line.0.queue.take() {
            match order {
                Order::Close(done) => closing = Some(done),
                Order::Look(player, coins, items, done) => {
                    // Whoever asked may have given up.
                    let _ = done.send(self.world.look(player, coins, &items));
                }
                Order::MayLeave(player, done) => {
                    let _ = done.send(self.world.may_leave(player));
                }
                order => self.inputs.extend(self.outputs.expect(order)),
            }
        }
        self.step();
        closing
    }

    fn step(&mut self) {
        self.tick += 1;
        self.effects.clear();
        self.world.step(&self.inputs, &mut self.effects);
        self.outputs.give_out(self.tick, &mut self.effects, &self.world);
    }

    /// The world, the metrics, the logs and whoever asks are told what is left out from here on.
    fn step_on_ladder(&mut self, stand: Stand) {
        self.inputs.push(Input::Overload { detail: stand.rung.detail(), time_permille: stand.time_permille });
        let before = std::mem::replace(&mut self.line.lock_status().stand, stand);
        self.outputs.tell_overload(before, stand);
    }

    /// A last tick in which everybody leaves.
    fn close(&mut self, done: oneshot::Sender<Vec<PlayerRecord>>) {
        self.inputs = self.world.player_ids().map(Input::Leave).collect();
        let left = self.outputs.expect_all(&self.inputs);
        self.step();
        // What is gone is not overloaded: the gauges would stay where they were, and the alerts with them.
        if self.line.lock_status().stand != Stand::FULL {
            self.outputs.measure_overload(Stand::FULL);
        }
        // Whoever asked has stopped waiting only if the process gave up its drain.
        let _ = done.send(left.into_iter().filter_map(|mut record| record.try_recv().ok()).collect());
    }

    fn note(&self, now: Instant, took: std::time::Duration, overrun: bool) {
        let facts = self.line.facts();
        metrics::histogram!("paifang_scene_tick_seconds", "map" => facts.map.clone()).record(took.as_secs_f64());
        let mut status = self.line.lock_status();
        status.players = self.world.players();
        status.entities = self.world.entities();
        status.times.record(now, took);
        if overrun {
            status.overruns += 1;
            metrics::counter!("paifang_scene_tick_overruns_total", "map" => facts.map.clone()).increment(1);
        }
    }
}
