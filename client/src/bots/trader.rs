//! A trading bot: earns coins and items by fights for a while, is counted, trades with other bots at random while it goes through portals,
//! and is counted again. Both times it logs in anew, so what is counted is what the zone has kept. What it says in a trade: [`Haggler`].

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use proto::{
    ClientMessage, Frame,
    client::{
        Attack, Corrected, Entered, Entity, EntityKind, Fault, FaultCode, Position, Sheet, SheetChanged, TradeEnded, TradeSettled,
        TradeState, UsePortal,
    },
};
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};

use super::{
    Phase, Shared,
    bot::acting,
    haggle::{Haggler, Say},
    login::{self, Account, In, LOGIN_WITHIN},
    profile::{MOVE_PERIOD, Profile, Wanderer},
    role, stride,
};
use crate::{connection::Connection, events::Event, fault::ConnectionError, random::Random, world_view::WorldView};

/// So near a bot strikes, or uses a portal.
const REACH_CM: i64 = 200;
/// It strikes in every so many-th of its actions.
const STRIKE_EVERY: u64 = 5;
/// How long it earns: so long, but no more than half of the run.
const EARN_MAX: Duration = Duration::from_secs(40);
/// Pause between journeys, from half of it up to one and a half.
const TRIP_PAUSE: Duration = Duration::from_secs(12);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Earn,
    Trade,
}

/// The whole life of a bot that is in the world.
pub(super) async fn live(shared: Arc<Shared>, number: usize, inside: In, random: Random, phase: &mut watch::Receiver<Phase>) {
    let Some(since) = acting(phase).await else { return };
    let mut trader = Trader::new(shared, number, inside, random);
    let earned = since + EARN_MAX.min(trader.shared.options.duration / 2);
    trader.play(Stage::Earn, phase, Some(earned)).await;
    let before = trader.log_in_anew().await;
    trader.shared.totals.market.counted(before, false);
    if before_is_over(phase) {
        trader.play(Stage::Trade, phase, None).await;
    }
    let after = trader.log_in_anew().await;
    trader.shared.totals.market.counted(after, true);
    if let Some(connection) = trader.connection.take() {
        connection.leave().await;
    }
}

fn before_is_over(phase: &watch::Receiver<Phase>) -> bool {
    *phase.borrow() != Phase::Over
}

struct Trader {
    shared: Arc<Shared>,
    number: usize,
    random: Random,
    connection: Option<Connection>,
    world: WorldView,
    wanderer: Wanderer,
    position: Position,
    sheet: Sheet,
    haggler: Haggler,
    next_trip: Instant,
    acts: u64,
}

impl Trader {
    fn new(shared: Arc<Shared>, number: usize, inside: In, mut random: Random) -> Self {
        let wanderer = wanderer(&inside.entered, &mut random);
        let now = Instant::now();
        let mut trader = Self {
            shared,
            number,
            random,
            connection: Some(inside.connection),
            world: WorldView::default(),
            wanderer,
            position: Position::default(),
            sheet: Sheet::default(),
            haggler: Haggler::new(now),
            next_trip: now,
            acts: 0,
        };
        trader.entered(&inside.entered);
        trader
    }

    /// Acts until the run or the stage is over; comes back by itself if the run says so.
    async fn play(&mut self, stage: Stage, phase: &mut watch::Receiver<Phase>, until: Option<Instant>) {
        self.next_trip = Instant::now() + self.random.up_to(TRIP_PAUSE);
        let until = until.unwrap_or_else(|| Instant::now() + Duration::from_secs(86_400));
        while *phase.borrow() != Phase::Over && Instant::now() < until {
            let Some(connection) = self.connection.take() else {
                if self.shared.options.reconnect.is_none() {
                    return;
                }
                self.log_in().await;
                if self.connection.is_none() {
                    return;
                }
                continue;
            };
            if let Err(error) = self.play_on(stage, connection, phase, until).await {
                self.shared.totals.disconnects.fetch_add(1, Relaxed);
                self.shared.totals.error(&login::name_of(&error));
            }
        }
    }

    async fn play_on(
        &mut self,
        stage: Stage,
        mut connection: Connection,
        phase: &mut watch::Receiver<Phase>,
        until: Instant,
    ) -> Result<(), ConnectionError> {
        let mut due = Instant::now() + self.random.up_to(MOVE_PERIOD);
        let silence = connection.session().silence_max();
        while Instant::now() < until {
            tokio::select! {
                changed = phase.wait_for(|phase| *phase == Phase::Over) => {
                    drop(changed);
                    break;
                }
                () = sleep_until(due) => {
                    due = (due + MOVE_PERIOD).max(Instant::now());
                    if silence <= connection.silent_for() {
                        return Err(ConnectionError::Silent(silence));
                    }
                    match stage {
                        Stage::Earn => self.earn(&mut connection)?,
                        Stage::Trade => self.act(&mut connection)?,
                    }
                }
                frame = connection.next() => self.take(&frame?),
            }
        }
        self.connection = Some(connection);
        Ok(())
    }

    /// Says goodbye, and comes back: what the character has then is what the zone has kept. None: it could not come back.
    async fn log_in_anew(&mut self) -> Option<Sheet> {
        if let Some(connection) = self.connection.take() {
            connection.leave().await;
        }
        // Spread out, as at the start.
        let share = Duration::from_secs(1) * u32::try_from(self.shared.options.count).unwrap_or(u32::MAX);
        let pause = self.random.up_to(share / self.shared.options.logins_per_s.max(1));
        tokio::time::sleep(pause).await;
        self.log_in().await;
        self.connection.as_ref().map(|_| self.sheet.clone())
    }

    async fn log_in(&mut self) {
        self.haggler.forget();
        let mut random = Random::new(self.random.next_u64());
        match login::login(&self.shared, self.number, Account::Exists, &mut random, Instant::now() + LOGIN_WITHIN).await {
            Ok(inside) => {
                self.entered(&inside.entered);
                self.connection = Some(inside.connection);
            }
            Err(error) => self.shared.totals.error(&error.name()),
        }
    }

    fn earn(&mut self, connection: &mut Connection) -> Result<(), ConnectionError> {
        self.acts = self.acts.wrapping_add(1);
        let alive = |entity: &Entity| entity.kind() == EntityKind::Npc && 0 < entity.hp;
        let Some((prey, at)) = self.nearest(alive) else {
            // Where the NPCs of the sample zone's first map are.
            return self.walk(connection, Position { x: 12_500, y: 12_500 });
        };
        if REACH_CM < stride::distance(self.position, at) {
            return self.walk(connection, at);
        }
        if self.acts.is_multiple_of(STRIKE_EVERY) { connection.queue(&Attack { entity: prey }).map(drop) } else { Ok(()) }
    }

    fn act(&mut self, connection: &mut Connection) -> Result<(), ConnectionError> {
        let now = Instant::now();
        self.haggle(connection, now)?;
        if now < self.next_trip {
            return Ok(());
        }
        let Some((_, portal)) = self.nearest(|entity| entity.kind() == EntityKind::Portal) else { return Ok(()) };
        if REACH_CM < stride::distance(self.position, portal) {
            return self.walk(connection, portal);
        }
        self.next_trip = now + TRIP_PAUSE / 2 + self.random.up_to(TRIP_PAUSE);
        connection.queue(&UsePortal {}).map(drop)
    }

    fn haggle(&mut self, connection: &mut Connection, now: Instant) -> Result<(), ConnectionError> {
        if self.haggler.gives_up(now) {
            self.shared.totals.error("trade not ended in time");
        }
        let with = self.shared.totals.market.is_open(&self.shared).then(|| self.somebody()).flatten();
        let Some(say) = self.haggler.say(now, &self.sheet, with, &mut self.random) else { return Ok(()) };
        let seq = match say {
            Say::Open(open) => connection.queue(&open),
            Say::Set(set) => connection.queue(&set),
            Say::Confirm(confirm) => connection.queue(&confirm),
            Say::Cancel(cancel) => connection.queue(&cancel),
        }?;
        self.haggler.said(seq, now);
        Ok(())
    }

    /// Another bot, by chance.
    fn somebody(&mut self) -> Option<String> {
        let others = self.shared.options.count.checked_sub(1).filter(|others| 0 < *others)?;
        let skip = usize::try_from(self.random.next_u64() % others as u64).unwrap_or(0) + 1;
        Some(role(&self.shared.prefix, (self.number + skip) % self.shared.options.count))
    }

    fn walk(&mut self, connection: &mut Connection, to: Position) -> Result<(), ConnectionError> {
        self.position = self.wanderer.step(self.position, to);
        self.shared.totals.moves_sent.fetch_add(1, Relaxed);
        connection.queue(&proto::client::Move { to: Some(self.position) }).map(drop)
    }

    fn nearest(&self, wanted: impl Fn(&Entity) -> bool) -> Option<(u32, Position)> {
        let far = |entity: &&Entity| stride::distance(self.position, entity.position.unwrap_or_default());
        let nearest = self.world.entities().filter(|entity| wanted(entity)).min_by_key(far)?;
        Some((nearest.entity, nearest.position.unwrap_or_default()))
    }

    fn take(&mut self, frame: &Frame) {
        match frame.kind() {
            Entered::KIND => decoded(frame, |entered: Entered| self.entered(&entered)),
            Corrected::KIND => decoded(frame, |corrected: Corrected| self.position = corrected.position.unwrap_or_default()),
            SheetChanged::KIND => decoded(frame, |changed: SheetChanged| self.sheet = changed.sheet.unwrap_or_default()),
            TradeState::KIND => decoded(frame, |state: TradeState| {
                self.haggler.shown(state, frame.seq(), Instant::now(), &mut self.random);
            }),
            TradeEnded::KIND => decoded(frame, |ended: TradeEnded| {
                self.shared.totals.market.ended.fetch_add(1, Relaxed);
                self.haggler.over(&ended.id, frame.seq());
            }),
            TradeSettled::KIND => decoded(frame, |settled: TradeSettled| {
                if settled.done {
                    self.shared.totals.market.done.fetch_add(1, Relaxed);
                }
                self.haggler.over(&settled.id, frame.seq());
            }),
            Fault::KIND => decoded(frame, |fault: Fault| self.refused(frame.seq(), &fault)),
            _ => (),
        }
        if let Some(event) = Event::from_frame(frame) {
            self.world.apply(&event);
        }
    }

    fn refused(&mut self, seq: u32, fault: &Fault) {
        use FaultCode::{Invalid, NotFound, NotNow, OutOfRange};
        self.haggler.refused(seq, fault, Instant::now());
        // Others trade, travel, and strike first.
        if ![Invalid, NotFound, NotNow, OutOfRange].contains(&fault.code()) {
            self.shared.totals.error(fault.code().as_str_name());
        }
    }

    fn entered(&mut self, entered: &Entered) {
        self.world.entered(entered.clone());
        self.wanderer = wanderer(entered, &mut self.random);
        self.position = entered.position.unwrap_or_default();
        self.sheet = entered.sheet.clone().unwrap_or_default();
    }
}

fn wanderer(entered: &Entered, random: &mut Random) -> Wanderer {
    let home = entered.position.unwrap_or_default();
    Wanderer::new(home, Profile::Trade.reach(), (entered.width, entered.height), entered.speed_max, random)
}

fn decoded<M: ClientMessage>(frame: &Frame, take: impl FnOnce(M)) {
    if let Ok(message) = frame.decode() {
        take(message);
    }
}
