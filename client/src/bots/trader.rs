//! A trading bot: earns coins and items by fights for the first third of the run, is counted, trades with other bots at random while it
//! goes through portals, and is counted again. Both times it logs in anew, so what is counted is what the zone has kept.

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use bytes::Bytes;
use proto::{
    ClientMessage, Frame,
    client::{
        Attack, Corrected, Entered, Entity, EntityKind, Fault, Position, Sheet, SheetChanged, TradeCancel, TradeConfirm, TradeEnded,
        TradeOpen, TradeSet, TradeSettled, TradeState, UsePortal,
    },
};
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};

use super::{
    Phase, Shared,
    bot::{acting, leave},
    login::{self, Account, In, LOGIN_WITHIN},
    profile::{MOVE_PERIOD, Profile, Wanderer},
    role, stride,
};
use crate::{connection::Connection, events::Event, fault::ConnectionError, random::Random, world_view::WorldView};

/// So near a bot strikes, or uses a portal.
const REACH_CM: i64 = 200;
/// It strikes in every so many-th of its actions.
const STRIKE_EVERY: u64 = 5;
/// A trade that takes longer is given up.
const TRADE_WITHIN: Duration = Duration::from_secs(15);
/// Pauses between trades, and between journeys, up to.
const TRADE_PAUSE: Duration = Duration::from_secs(2);
const TRIP_PAUSE: Duration = Duration::from_secs(12);
/// One of so many trades is cancelled rather than confirmed.
const CANCEL_ONE_OF: u64 = 10;
/// Items that are offered at the most.
const ITEMS_MAX: usize = 3;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Earn,
    Trade,
}

/// The whole life of a bot that is in the world.
pub(super) async fn live(shared: Arc<Shared>, number: usize, inside: In, random: Random, phase: &mut watch::Receiver<Phase>) {
    let Some(since) = acting(phase).await else { return };
    let mut trader = Trader::new(shared, number, inside, random);
    let earned = since + trader.shared.options.duration / 3;
    trader.play(Stage::Earn, phase, Some(earned)).await;
    let before = trader.log_in_anew().await;
    trader.shared.totals.market.counted(before, false);
    if before_is_over(phase) {
        trader.play(Stage::Trade, phase, None).await;
    }
    let after = trader.log_in_anew().await;
    trader.shared.totals.market.counted(after, true);
    if let Some(connection) = trader.connection.take() {
        leave(connection).await;
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
    trade: Option<Trade>,
    next_trade: Instant,
    next_trip: Instant,
    acts: u64,
}

struct Trade {
    id: Bytes,
    since: Instant,
    offered: bool,
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
            trade: None,
            next_trade: now,
            next_trip: now,
            acts: 0,
        };
        trader.entered(&inside.entered);
        trader
    }

    /// Acts until the run or the stage is over; comes back by itself if the run says so.
    async fn play(&mut self, stage: Stage, phase: &mut watch::Receiver<Phase>, until: Option<Instant>) {
        self.next_trade = Instant::now() + self.random.up_to(TRADE_PAUSE);
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
                frame = connection.next() => {
                    let frame = frame?;
                    self.take(&frame, &mut connection)?;
                }
            }
        }
        self.connection = Some(connection);
        Ok(())
    }

    /// Says goodbye, and comes back: what the character has then is what the zone has kept. None: it could not come back.
    async fn log_in_anew(&mut self) -> Option<Sheet> {
        if let Some(connection) = self.connection.take() {
            leave(connection).await;
        }
        // Spread out, as at the start.
        let share = Duration::from_secs(1) * u32::try_from(self.shared.options.count).unwrap_or(u32::MAX);
        let pause = self.random.up_to(share / self.shared.options.logins_per_s.max(1));
        tokio::time::sleep(pause).await;
        self.log_in().await;
        self.connection.as_ref().map(|_| self.sheet.clone())
    }

    async fn log_in(&mut self) {
        self.trade = None;
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
        if let Some(late) = self.trade.take_if(|trade| TRADE_WITHIN < now - trade.since) {
            self.shared.totals.error("trade not ended in time");
            connection.queue(&TradeCancel { id: late.id })?;
        }
        if self.trade.is_none() && self.next_trade <= now && self.shared.totals.market.is_open(&self.shared) {
            self.next_trade = now + self.random.up_to(TRADE_PAUSE);
            self.open(connection)?;
        }
        if now < self.next_trip {
            return Ok(());
        }
        let Some((_, portal)) = self.nearest(|entity| entity.kind() == EntityKind::Portal) else { return Ok(()) };
        if REACH_CM < stride::distance(self.position, portal) {
            return self.walk(connection, portal);
        }
        self.next_trip = now + self.random.up_to(TRIP_PAUSE);
        connection.queue(&UsePortal {}).map(drop)
    }

    fn open(&mut self, connection: &mut Connection) -> Result<(), ConnectionError> {
        let others = self.shared.options.count.saturating_sub(1);
        if others == 0 {
            return Ok(());
        }
        let skip = usize::try_from(self.random.next_u64() % others as u64).unwrap_or(0) + 1;
        let other = (self.number + skip) % self.shared.options.count;
        let id = u128::from(Random::fresh().next_u64()) << 64 | u128::from(self.random.next_u64());
        let id = Bytes::copy_from_slice(&id.to_be_bytes());
        connection.queue(&TradeOpen { id, with: role(&self.shared.prefix, other) }).map(drop)
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

    fn take(&mut self, frame: &Frame, connection: &mut Connection) -> Result<(), ConnectionError> {
        match frame.kind() {
            Entered::KIND => decoded(frame, |entered: Entered| self.entered(&entered)),
            Corrected::KIND => decoded(frame, |corrected: Corrected| self.position = corrected.position.unwrap_or_default()),
            SheetChanged::KIND => decoded(frame, |changed: SheetChanged| self.sheet = changed.sheet.unwrap_or_default()),
            TradeState::KIND => {
                if let Ok(state) = frame.decode::<TradeState>() {
                    self.trade_on(&state, connection)?;
                }
            }
            TradeEnded::KIND => decoded(frame, |ended: TradeEnded| {
                self.shared.totals.market.ended.fetch_add(1, Relaxed);
                self.trade = self.trade.take().filter(|trade| trade.id != ended.id);
            }),
            TradeSettled::KIND => decoded(frame, |settled: TradeSettled| {
                if settled.done {
                    self.shared.totals.market.done.fetch_add(1, Relaxed);
                }
                self.trade = self.trade.take().filter(|trade| trade.id != settled.id);
            }),
            Fault::KIND => decoded(frame, |fault: Fault| {
                use proto::client::FaultCode::{Invalid, NotFound, NotNow, OutOfRange};
                // Others trade, travel, and strike first.
                if ![Invalid, NotFound, NotNow, OutOfRange].contains(&fault.code()) {
                    self.shared.totals.error(fault.code().as_str_name());
                }
            }),
            _ => (),
        }
        if let Some(event) = Event::from_frame(frame) {
            self.world.apply(&event);
        }
        Ok(())
    }

    /// Offers something once, then agrees to whatever it is, or does not.
    fn trade_on(&mut self, state: &TradeState, connection: &mut Connection) -> Result<(), ConnectionError> {
        let known = self.trade.as_ref().is_some_and(|trade| trade.id == state.id);
        if !known {
            self.trade = Some(Trade { id: state.id.clone(), since: Instant::now(), offered: false });
        }
        let Some(trade) = &mut self.trade else { return Ok(()) };
        if !trade.offered {
            trade.offered = true;
            let coins = self.random.next_u64() % (self.sheet.coins / 2 + 1);
            let count = usize::try_from(self.random.next_u64()).unwrap_or(0) % (ITEMS_MAX + 1);
            let items = self.sheet.items.iter().rev().take(count).map(|item| item.id.clone()).collect();
            return connection.queue(&TradeSet { id: state.id.clone(), coins, items }).map(drop);
        }
        if state.confirmed_by_me {
            return Ok(());
        }
        match self.random.next_u64() % CANCEL_ONE_OF {
            0 => connection.queue(&TradeCancel { id: state.id.clone() }).map(drop),
            _ => connection.queue(&TradeConfirm { id: state.id.clone(), revision: state.revision }).map(drop),
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
