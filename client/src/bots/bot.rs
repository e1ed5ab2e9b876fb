//! One bot: a task that logs it in, lets it play, and brings it back when its connection is lost.
//!
//! While it plays it reads everything at once in that same task, or a [`Herd`] keeps it, which reads now and then.

use std::{
    ops::ControlFlow,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};

use super::{
    BEHIND_MAX, Phase, Profile, Shared, comeback,
    herd::Herd,
    login::{self, Account, LOGIN_WITHIN},
    trader,
    walker::{Action, Walker},
};
use crate::{connection::Connection, fault::ConnectionError, random::Random, session::Session};

/// How a bot's play ended.
pub(super) enum End {
    /// The run is over.
    Over(Connection),
    /// Its connection is lost.
    Lost(Session, ConnectionError),
}

/// The whole life of a bot. With a herd, that keeps it while it plays.
pub(crate) async fn live(shared: Arc<Shared>, number: usize, started: Instant, mut phase: watch::Receiver<Phase>, herd: Option<Herd>) {
    let options = &shared.options;
    let mut random = Random::new(options.seed.wrapping_add((number as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)));
    let pause = Duration::from_secs(1) / options.logins_per_s.max(1);
    let place = u32::try_from(number - options.first).unwrap_or(u32::MAX);
    sleep_until(started + pause.saturating_mul(place)).await;
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
    if options.profile == Profile::LoginStorm {
        inside.connection.leave().await;
        shared.totals.settle();
        return Box::pin(storm(&shared, number, &mut random, &mut phase)).await;
    }
    shared.totals.logged_in(inside.took);
    shared.totals.settle();
    if options.profile == Profile::Trade {
        return Box::pin(trader::live(shared, number, inside, random, &mut phase)).await;
    }
    let walker = Box::new(Walker::new(shared.clone(), number, &inside.entered, random, herd.is_none()));
    Box::pin(play(walker, inside.connection, herd, phase)).await;
}

/// Plays until the run is over, and comes back if the run says so.
async fn play(mut walker: Box<Walker>, mut connection: Connection, herd: Option<Herd>, mut phase: watch::Receiver<Phase>) {
    loop {
        let end = match &herd {
            Some(herd) => {
                let end;
                (walker, end) = herd.keep(walker, connection).await;
                end
            }
            None => read_at_once(&mut walker, connection, &mut phase).await,
        };
        walker.trail.looks_away();
        let (session, error) = match end {
            End::Over(connection) => return connection.leave().await,
            End::Lost(session, error) => (session, error),
        };
        // First: nobody is to read of so many lost connections and none away.
        if walker.shared.options.reconnect.is_some() {
            walker.goes_missing();
        }
        walker.shared.totals.disconnects.fetch_add(1, Relaxed);
        walker.shared.totals.error(&login::name_of(&error));
        match Box::pin(comeback::come_back(&mut walker, &session, &error, &mut phase)).await {
            Some(back) => connection = back,
            None => return,
        }
    }
}

/// Reads everything as it comes, and acts when the schedule says so.
async fn read_at_once(walker: &mut Walker, mut connection: Connection, phase: &mut watch::Receiver<Phase>) -> End {
    let period = walker.shared.options.move_period();
    let mut due = None;
    phase.mark_changed();
    loop {
        let next_act = due.unwrap_or_else(|| Instant::now() + Duration::from_secs(3600));
        let silence = connection.session().silence_max();
        let end = tokio::select! {
            now = next_phase(phase) => match now {
                Phase::Acting { since } => {
                    walker.trail.sees(Instant::now());
                    due = Some(since.max(Instant::now()) + walker.random.up_to(period));
                    ControlFlow::Continue(())
                }
                Phase::Gathering => {
                    due = None;
                    ControlFlow::Continue(())
                }
                Phase::Over => return End::Over(connection),
            },
            () = sleep_until(next_act), if due.is_some() => {
                let acted = act(walker, &mut connection, next_act);
                due = Some(next_due(walker, next_act + period));
                if connection.silent_for() < silence { acted } else { ControlFlow::Break(ConnectionError::Silent(silence)) }
            }
            frame = connection.next() => match frame {
                Ok(frame) => {
                    walker.take(&frame, Instant::now());
                    walker.report(connection.received_bytes());
                    ControlFlow::Continue(())
                }
                Err(error) => ControlFlow::Break(error),
            },
        };
        if let ControlFlow::Break(error) = end {
            walker.report(connection.received_bytes());
            return End::Lost(connection.session().clone(), error);
        }
    }
}

fn act(walker: &mut Walker, connection: &mut Connection, due: Instant) -> ControlFlow<ConnectionError> {
    let queued = match walker.act(due) {
        Action::Move(to) => connection.queue(&to),
        Action::Attack(attack) => connection.queue(&attack),
        Action::Nothing => return ControlFlow::Continue(()),
    };
    queued.map_or_else(ControlFlow::Break, |_| ControlFlow::Continue(()))
}

fn next_due(walker: &Walker, next: Instant) -> Instant {
    if next.elapsed() < BEHIND_MAX {
        return next;
    }
    walker.shared.totals.error("behind schedule");
    Instant::now()
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
                inside.connection.leave().await;
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
