//! Many bots that one task keeps: it acts for each when its time has come, and fetches what their connections have brought a few times a
//! second. No arrival wakes anybody, so a bot costs little more than the system calls of its moves.
//!
//! Time is a wheel of [`SLOTS`] slots that turns once in the bots' move period; every bot has its place in one of them.

use std::time::Duration;

use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{Instant, sleep_until},
};

use super::{
    BEHIND_MAX, BotOptions, Phase,
    bot::End,
    walker::{Action, Walker},
};
use crate::{connection::Connection, fault::ConnectionError, quiet::QuietConnection};

/// Bots of one herd at most: their turn in a slot takes well below a millisecond.
pub(super) const BOTS_MAX: usize = 500;
/// Slots of the wheel.
const SLOTS: usize = 20;

/// The handle of a herd. It lives as long as somebody holds one.
#[derive(Clone)]
pub(super) struct Herd(mpsc::Sender<Member>);

struct Member {
    walker: Box<Walker>,
    connection: QuietConnection,
    back: oneshot::Sender<(Box<Walker>, End)>,
}

impl Herd {
    /// Starts a herd.
    pub(super) fn start(options: &BotOptions, phase: watch::Receiver<Phase>) -> Self {
        let (handle, newcomers) = mpsc::channel(BOTS_MAX);
        let slot = options.move_period() / SLOTS as u32;
        let fetch_every = options.drain_hz.map_or(1, |drain_hz| options.hz / drain_hz.clamp(1, options.hz)) as usize;
        let wheel = Wheel { slots: (0..SLOTS).map(|_| Vec::new()).collect(), turn: 0, fetch_every, phase, acting: false };
        tokio::spawn(wheel.run(newcomers, slot));
        Self(handle)
    }

    /// Keeps a bot until its connection is lost or the run is over.
    pub(super) async fn keep(&self, walker: Box<Walker>, connection: Connection) -> (Box<Walker>, End) {
        let session = connection.session().clone();
        let connection = match QuietConnection::new(connection) {
            Ok(connection) => connection,
            Err(error) => return (walker, End::Lost(session, error)),
        };
        let (back, ended) = oneshot::channel();
        // A herd ends after its last handle.
        assert!(self.0.send(Member { walker, connection, back }).await.is_ok(), "the herd has not ended");
        ended.await.expect("a herd gives every bot back")
    }
}

struct Wheel {
    slots: Vec<Vec<Member>>,
    turn: usize,
    /// Turns of the whole wheel between two fetches of a bot.
    fetch_every: usize,
    phase: watch::Receiver<Phase>,
    acting: bool,
}

impl Wheel {
    async fn run(mut self, mut newcomers: mpsc::Receiver<Member>, slot: Duration) {
        let mut due = Instant::now();
        loop {
            tokio::select! {
                biased;
                newcomer = newcomers.recv() => match newcomer {
                    Some(newcomer) => self.take_in(newcomer),
                    None => return,
                },
                () = sleep_until(due) => {
                    self.turn(due);
                    due += slot;
                    if BEHIND_MAX < due.elapsed() {
                        self.leave_out();
                        due = Instant::now();
                    }
                }
            }
        }
    }

    fn take_in(&mut self, newcomer: Member) {
        if self.acting {
            newcomer.walker.trail.sees(Instant::now());
        }
        let emptiest = self.slots.iter_mut().min_by_key(|slot| slot.len());
        emptiest.expect("the wheel has slots").push(newcomer);
    }

    /// The machine is too slow: what was missed is left out, and counted.
    fn leave_out(&self) {
        for member in self.slots.iter().flatten() {
            member.walker.shared.totals.error("behind schedule");
        }
    }

    /// One slot's bots have their turn.
    fn turn(&mut self, due: Instant) {
        let phase = *self.phase.borrow_and_update();
        match phase {
            Phase::Over => return self.give_back(),
            Phase::Acting { .. } if !self.acting => self.begin(),
            Phase::Acting { .. } => {}
            Phase::Gathering => self.acting = false,
        }
        let (place, round) = (self.turn % SLOTS, self.turn / SLOTS);
        self.turn += 1;
        let slot = &mut self.slots[place];
        let mut index = 0;
        while let Some(member) = slot.get_mut(index) {
            let fetches = (round + index).is_multiple_of(self.fetch_every);
            match member.turn(self.acting.then_some(due), fetches) {
                Ok(()) => index += 1,
                Err(error) => slot.swap_remove(index).lost(error),
            }
        }
    }

    fn begin(&mut self) {
        self.acting = true;
        self.slots.iter().flatten().for_each(|member| member.walker.trail.sees(Instant::now()));
    }

    fn give_back(&mut self) {
        for member in self.slots.iter_mut().flat_map(std::mem::take) {
            member.over();
        }
    }
}

impl Member {
    fn turn(&mut self, acts: Option<Instant>, fetches: bool) -> Result<(), ConnectionError> {
        if let Some(due) = acts {
            match self.walker.act(due) {
                Action::Move(to) => self.connection.send(&to)?,
                Action::Attack(attack) => self.connection.send(&attack)?,
                Action::Nothing => {}
            }
        }
        if !fetches {
            return Ok(());
        }
        let (now, walker) = (Instant::now(), &mut self.walker);
        let fetched = self.connection.fetch(now, |frame| walker.take(frame, now));
        walker.report(self.connection.received_bytes());
        fetched?;
        let silence = self.connection.session().silence_max();
        if self.connection.silent_for() < silence { Ok(()) } else { Err(ConnectionError::Silent(silence)) }
    }

    fn lost(self, error: ConnectionError) {
        self.end(|quiet| End::Lost(quiet.session().clone(), error));
    }

    fn over(self) {
        self.end(|quiet| {
            let session = quiet.session().clone();
            quiet.into_connection().map_or_else(|error| End::Lost(session, error), End::Over)
        });
    }

    fn end(self, how: impl FnOnce(QuietConnection) -> End) {
        // Nobody waits any more: its task was cancelled.
        _ = self.back.send((self.walker, how(self.connection)));
    }
}
