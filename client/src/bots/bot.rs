//! One bot: a task that owns its connection, reads everything, and acts when its schedule says so.

use std::{
    ops::ControlFlow,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use prost::Message;
use proto::{
    ClientMessage, Frame,
    client::{
        Attack, Bye, CellChanges, CellGone, CellMoves, CellSnapshot, Corrected, Entered, Entity, EntityKind, Fault, FaultCode, Move,
        Position,
    },
};
use tokio::{
    sync::watch,
    time::{Instant, sleep_until, timeout},
};

use super::{
    Phase, Profile, Shared,
    latency::{Trail, Watcher},
    login::{self, Account, In, LOGIN_WITHIN},
    profile::{MOVE_PERIOD, Wanderer},
    report::BLIND,
    role, stride, trader,
};
use crate::{
    connection::{Backoff, Connection},
    events::Event,
    fault::ConnectionError,
    random::Random,
    world_view::WorldView,
};

/// A bot that is so far behind its schedule leaves out what it missed, and counts it: the machine is too slow for the bots.
const BEHIND_MAX: Duration = Duration::from_secs(2);
/// How long the gate may take to close after `Bye`.
const BYE_WITHIN: Duration = Duration::from_secs(3);
/// A bot that walks sees at least itself. One that saw nothing move for so long when the run ends is in no world any more.
const BLIND_AFTER: Duration = Duration::from_secs(5);
/// So near a bot strikes.
const STRIKE_CM: i64 = 200;
/// It strikes in every so many-th of its actions.
const STRIKE_EVERY: u64 = 5;

/// The whole life of a bot.
pub(crate) async fn live(shared: Arc<Shared>, number: usize, started: Instant, mut phase: watch::Receiver<Phase>) {
    let mut random = Random::new(shared.options.seed.wrapping_add((number as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)));
    let pause = Duration::from_secs(1) / shared.options.logins_per_s.max(1);
    sleep_until(started + pause.saturating_mul(u32::try_from(number).unwrap_or(u32::MAX))).await;
    let first = login::login(&shared, number, Account::MayBeMissing, &mut random, Instant::now() + LOGIN_WITHIN).await;
    let inside = match first {
        Ok(inside) => inside,
        Err(error) => {
            shared.totals.login_failed.fetch_add(1, Relaxed);
            shared.totals.error(&error.name());
            shared.totals.settle();
            return;
        }
    };
    if shared.options.profile == Profile::LoginStorm {
        leave(inside.connection).await;
        shared.totals.settle();
        return Box::pin(storm(&shared, number, &mut random, &mut phase)).await;
    }
    shared.totals.logged_in(inside.took);
    shared.totals.settle();
    if shared.options.profile == Profile::Trade {
        return Box::pin(trader::live(shared, number, inside, random, &mut phase)).await;
    }
    let mut bot = Bot::new(shared, number, inside, random);
    Box::pin(bot.play(&mut phase)).await;
}

/// Logs in and leaves, each time when it is due, however long the last time took.
async fn storm(shared: &Shared, number: usize, random: &mut Random, phase: &mut watch::Receiver<Phase>) {
    let Some(since) = acting(phase).await else { return };
    let every = Duration::from_secs(1) * u32::try_from(shared.options.count).unwrap_or(u32::MAX) / shared.options.logins_per_s.max(1);
    let every = every.max(Duration::from_secs(2));
    let mut due = since + random.up_to(every);
    loop {
        tokio::select! {
            () = sleep_until(due) => {}
            _ = phase.changed() => return,
        }
        match login::login(shared, number, Account::Exists, random, Instant::now() + LOGIN_WITHIN).await {
            Ok(inside) => {
                shared.totals.logged_in(due.elapsed());
                leave(inside.connection).await;
            }
            Err(error) => {
                shared.totals.login_failed.fetch_add(1, Relaxed);
                shared.totals.error(&error.name());
            }
        }
        if *phase.borrow() == Phase::Over {
            return;
        }
        due += every;
    }
}

pub(super) async fn acting(phase: &mut watch::Receiver<Phase>) -> Option<Instant> {
    match *phase.wait_for(|phase| *phase != Phase::Gathering).await.ok()? {
        Phase::Acting { since } => Some(since),
        _ => None,
    }
}

async fn next_phase(phase: &mut watch::Receiver<Phase>) -> Phase {
    match phase.changed().await {
        Ok(()) => *phase.borrow(),
        Err(_) => Phase::Over,
    }
}

/// Says goodbye and reads on until the gate closes.
pub(super) async fn leave(mut connection: Connection) {
    // A connection that is lost now needs no goodbye.
    if connection.queue(&Bye {}).is_ok() {
        let _ = timeout(BYE_WITHIN, async { while connection.next().await.is_ok() {} }).await;
    }
}

struct Bot {
    shared: Arc<Shared>,
    number: usize,
    random: Random,
    connection: Option<Connection>,
    trail: Arc<Trail>,
    watcher: Watcher,
    /// Only a fighter needs to know who stands where.
    world: Option<WorldView>,
    wanderer: Wanderer,
    home: Position,
    entity: u32,
    position: Position,
    /// Reused, so that the most frequent message costs no allocation.
    moves: CellMoves,
    acts: u64,
    acting: bool,
    /// When something was last seen to move; before that, when the bot came in.
    saw: Instant,
    bytes_before: u64,
}

impl Bot {
    fn new(shared: Arc<Shared>, number: usize, inside: In, mut random: Random) -> Self {
        let trail = shared.trails[&role(&shared.prefix, number)].clone();
        let home = inside.entered.position.unwrap_or_default();
        let profile = shared.options.profile;
        let wanderer = wanderer(&inside.entered, home, profile, &mut random);
        let mut bot = Self {
            shared,
            number,
            random,
            connection: Some(inside.connection),
            trail,
            watcher: Watcher::default(),
            world: (profile == Profile::Fight).then(WorldView::default),
            wanderer,
            home,
            entity: 0,
            position: home,
            moves: CellMoves::default(),
            acts: 0,
            acting: false,
            saw: Instant::now(),
            bytes_before: 0,
        };
        bot.entered(&inside.entered);
        bot
    }

    async fn play(&mut self, phase: &mut watch::Receiver<Phase>) {
        let mut due = None;
        while let Some(mut connection) = self.connection.take() {
            let next_act = due.unwrap_or_else(|| Instant::now() + Duration::from_secs(3600));
            let silence = connection.session().silence_max();
            let end = tokio::select! {
                now = next_phase(phase) => match now {
                    Phase::Acting { since } => {
                        (self.acting, self.saw) = (true, Instant::now());
                        self.bytes_before = connection.received_bytes();
                        due = Some(since + self.random.up_to(MOVE_PERIOD));
                        ControlFlow::Continue(())
                    }
                    Phase::Gathering => ControlFlow::Continue(()),
                    Phase::Over => {
                        self.count_bytes(&connection);
                        self.watcher.hand_over(&self.shared.totals.latency, true);
                        if BLIND_AFTER < self.saw.elapsed() {
                            self.shared.totals.error(BLIND);
                        }
                        return leave(connection).await;
                    }
                },
                () = sleep_until(next_act), if due.is_some() => {
                    let acted = self.act(&mut connection, next_act);
                    due = Some(self.next_due(next_act));
                    if connection.silent_for() < silence { acted } else { ControlFlow::Break(ConnectionError::Silent(silence)) }
                }
                frame = connection.next() => match frame {
                    Ok(frame) => {
                        self.take(&frame);
                        ControlFlow::Continue(())
                    }
                    Err(error) => ControlFlow::Break(error),
                },
            };
            match end {
                ControlFlow::Continue(()) => self.connection = Some(connection),
                ControlFlow::Break(error) => {
                    self.count_bytes(&connection);
                    self.shared.totals.disconnects.fetch_add(1, Relaxed);
                    self.shared.totals.error(&login::name_of(&error));
                    Box::pin(self.come_back(&connection, &error, phase)).await;
                    due = due.map(|_| Instant::now() + self.random.up_to(MOVE_PERIOD));
                }
            }
        }
        self.watcher.hand_over(&self.shared.totals.latency, true);
    }

    fn next_due(&mut self, due: Instant) -> Instant {
        let next = due + MOVE_PERIOD;
        if next.elapsed() < BEHIND_MAX {
            return next;
        }
        self.shared.totals.error("behind schedule");
        Instant::now()
    }

    /// Resumes, or logs in again; if neither is possible, or the run ends meanwhile, the bot has ended.
    async fn come_back(&mut self, lost: &Connection, error: &ConnectionError, phase: &mut watch::Receiver<Phase>) {
        let Some(backoff) = self.shared.options.reconnect.clone() else { return };
        let shared = self.shared.clone();
        let mut random = self.random.clone();
        self.random.next_u64();
        let back = async {
            if error.is_resumable()
                && let Some(connection) = resume(&shared, self.number, lost, &backoff, &mut random).await
            {
                return Some((connection, None));
            }
            let inside = login::login(&shared, self.number, Account::Exists, &mut random, Instant::now() + LOGIN_WITHIN).await;
            inside.inspect_err(|error| shared.totals.error(&error.name())).ok().map(|inside| (inside.connection, Some(inside.entered)))
        };
        tokio::select! {
            back = back => if let Some((connection, entered)) = back {
                if let Some(entered) = entered {
                    self.shared.totals.error("logged in again");
                    self.entered(&entered);
                }
                self.bytes_before = 0;
                self.connection = Some(connection);
            },
            _ = phase.wait_for(|phase| *phase == Phase::Over) => {}
        }
    }

    fn count_bytes(&self, connection: &Connection) {
        if self.acting {
            let received = connection.received_bytes().saturating_sub(self.bytes_before);
            self.shared.totals.bytes_received.fetch_add(received, Relaxed);
        }
    }

    fn act(&mut self, connection: &mut Connection, due: Instant) -> ControlFlow<ConnectionError> {
        self.acts = self.acts.wrapping_add(1);
        let prey = self.prey().map(|entity| (entity.entity, entity.position.unwrap_or_default()));
        let to = match prey {
            Some((entity, at)) if stride::distance(self.position, at) <= STRIKE_CM => {
                if !self.acts.is_multiple_of(STRIKE_EVERY) {
                    return ControlFlow::Continue(());
                }
                return sent(connection.queue(&Attack { entity }));
            }
            Some((_, at)) => self.wanderer.step(self.position, at),
            None => self.wanderer.wander(self.position, &mut self.random),
        };
        self.position = to;
        self.trail.goes(to, due);
        self.shared.totals.moves_sent.fetch_add(1, Relaxed);
        sent(connection.queue(&Move { to: Some(to) }))
    }

    /// The nearest NPC that lives, for a fighter.
    fn prey(&self) -> Option<&Entity> {
        let alive = |entity: &&Entity| entity.kind() == EntityKind::Npc && entity.hp > 0;
        let far = |entity: &&Entity| stride::distance(self.position, entity.position.unwrap_or_default());
        self.world.as_ref()?.entities().filter(alive).min_by_key(far)
    }

    fn take(&mut self, frame: &Frame) {
        let now = Instant::now();
        match frame.kind() {
            CellMoves::KIND => {
                self.moves.clear();
                if self.moves.merge(frame.body()).is_err() {
                    return self.shared.totals.error("malformed message");
                }
                let updates = self.watcher.moves(&self.moves, now);
                self.saw = now;
                if self.acting {
                    self.shared.totals.updates_received.fetch_add(updates, Relaxed);
                }
                self.watcher.hand_over(&self.shared.totals.latency, false);
            }
            CellSnapshot::KIND => self.with(frame, |bot, snapshot: &CellSnapshot| {
                bot.watcher.snapshot(snapshot, bot.entity, &bot.shared.trails, now);
            }),
            CellChanges::KIND => self.with(frame, |bot, changes: &CellChanges| {
                bot.watcher.changes(changes, bot.entity, &bot.shared.trails, now);
            }),
            CellGone::KIND => self.with(frame, |bot, gone: &CellGone| bot.watcher.gone(gone)),
            Entered::KIND => self.with(frame, |bot, entered: &Entered| bot.entered(entered)),
            Corrected::KIND => self.with(frame, |bot, corrected: &Corrected| {
                bot.shared.totals.error("corrected");
                bot.put(corrected.position.unwrap_or_default());
            }),
            Fault::KIND => self.with(frame, |bot, fault: &Fault| bot.refused(fault)),
            _ => {}
        }
        if let Some(world) = &mut self.world
            && let Some(event) = Event::from_frame(frame)
        {
            world.apply(&event);
        }
    }

    fn with<M: ClientMessage>(&mut self, frame: &Frame, take: impl FnOnce(&mut Self, &M)) {
        match frame.decode() {
            Ok(message) => take(self, &message),
            Err(_) => self.shared.totals.error("malformed message"),
        }
    }

    /// A fighter's strikes may miss: the prey moves, dies, or the fighter does.
    fn refused(&self, fault: &Fault) {
        let misses = [FaultCode::NotFound, FaultCode::OutOfRange, FaultCode::NotNow];
        if self.world.is_none() || !misses.contains(&fault.code()) {
            self.shared.totals.error(fault.code().as_str_name());
        }
    }

    fn entered(&mut self, entered: &Entered) {
        self.watcher.forget();
        self.entity = entered.entity;
        self.wanderer = wanderer(entered, self.home, self.shared.options.profile, &mut self.random);
        self.put(entered.position.unwrap_or_default());
    }

    fn put(&mut self, at: Position) {
        self.position = at;
        self.trail.was_put(at);
    }
}

fn wanderer(entered: &Entered, home: Position, profile: Profile, random: &mut Random) -> Wanderer {
    Wanderer::new(home, profile.reach(), (entered.width, entered.height), entered.speed_max, random)
}

async fn resume(shared: &Shared, number: usize, lost: &Connection, backoff: &Backoff, random: &mut Random) -> Option<Connection> {
    // Its own gate first, and the others in turn.
    let gates = &shared.options.gates;
    let mut turned = gates.clone();
    turned.rotate_left(number % gates.len());
    let back = Connection::reconnect(&turned, &shared.options.connect, lost.session(), backoff, random);
    match Box::pin(back).await {
        Ok((connection, _)) => {
            shared.totals.resumed.fetch_add(1, Relaxed);
            Some(connection)
        }
        Err(error) => {
            shared.totals.error(&login::name_of(&error));
            None
        }
    }
}

fn sent<T>(queued: Result<T, ConnectionError>) -> ControlFlow<ConnectionError> {
    match queued {
        Ok(_) => ControlFlow::Continue(()),
        Err(error) => ControlFlow::Break(error),
    }
}
