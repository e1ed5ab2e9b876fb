//! Where logins wait: for a hash, and for room in a full zone.
//!
//! A request that costs a hash waits as what it is, a few hundred bytes, and becomes a task when its turn comes: as many at once as keep
//! the hashers busy, and no more in a second than the valve lets through. A login whose password is good, but for which the zone has no
//! room, waits in a second queue; center is asked for its head a few times a second. Whoever waits is told how it stands ([`standing`]).
//!
//! Each login process has queues of its own, and each takes its turns, so what holds for the zone is the order within one process.

mod standing;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use proto::{
    ClientMessage, Frame,
    client::{self, Fault, FaultCode},
    names,
};
use service::{Link, config::LoginConfig, tasks::Tasks};
use tokio::{
    sync::{Notify, OwnedSemaphorePermit, Semaphore},
    time::{Instant, MissedTickBehavior, interval},
};
use tracing::Instrument;

use crate::{
    budget, faults,
    queue::{Joined, Place, Queue, Rank},
    requests::{self, Reply, Request},
    server::{Desk, finish},
};

/// Requests that are let through for each hasher: while one hashes, the next ones have asked dc who they are.
const TURNS_PER_HASHER: usize = 4;
/// How often center is asked whether there is room again.
const ASK_FOR_ROOM: Duration = Duration::from_millis(250);
/// How often those who wait are looked at, and told.
const TELL_PERIOD: Duration = Duration::from_secs(1);
/// Who waits for nobody is known by name only until its password is checked: more than so many at once wait as the others do.
const FIRST_MAX: usize = 64;

/// An account's name, and the network that it is asked for from: nobody takes another one's place by its name alone.
type Asker = (String, String);

/// Both queues of a login process.
#[derive(Debug)]
pub(crate) struct Waiting {
    desk: Arc<Desk>,
    hash: Mutex<Queue<Asker, Held>>,
    room: Mutex<Queue<String, Held>>,
    /// Who waits, by link and session: what a gate says names no more than that.
    sessions: Mutex<HashMap<(u64, u64), Key>>,
    turns: Arc<Semaphore>,
    /// Time between two that are let through.
    valve: Option<Duration>,
    joined_hash: Notify,
    joined_room: Notify,
}

/// A request that waits.
#[derive(Debug)]
struct Held {
    request: Request,
    frame: Frame,
    link: Link,
    account: String,
    since: Instant,
    /// The position that the client was told last, and when.
    told: Option<(usize, Instant)>,
}

/// In which queue, as whom.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Key {
    Hash(Asker),
    Room(String),
}

impl Waiting {
    /// Nobody waits.
    pub(crate) fn new(desk: Arc<Desk>, config: &LoginConfig) -> Self {
        Self {
            hash: Mutex::new(Queue::new(config.queue_max, config.queue_grace)),
            room: Mutex::new(Queue::new(config.queue_max, config.queue_grace)),
            sessions: Mutex::default(),
            turns: Arc::new(Semaphore::new(config.hashers.max(1) * TURNS_PER_HASHER)),
            valve: config.logins_per_s.map(|logins| Duration::from_secs(1) / logins.max(1)),
            joined_hash: Notify::new(),
            joined_room: Notify::new(),
            desk,
        }
    }

    /// Starts to let through, to ask for room, and to tell.
    pub(crate) fn start(self: &Arc<Self>, tasks: &Tasks) {
        let (hash, room, tell) = (Arc::clone(self), Arc::clone(self), Arc::clone(self));
        tasks.spawn("let logins through", async move { hash.let_through().await });
        tasks.spawn("ask for room", async move { room.ask_for_room().await });
        tasks.spawn("tell those who wait", async move { tell.tell().await });
    }

    /// A request that costs a hash, in line.
    pub(crate) fn join(&self, request: Request, frame: Frame, link: Link, account: String) {
        let asker = (account, budget::network(&request.facts.address));
        if frame.kind() == client::Login::KIND
            && let Err(fault) = requests::login::within_budget(&request, &asker.0)
        {
            return finish(request, &link, &frame, Err(fault));
        }
        let rank = self.rank(&asker.0);
        let place = (link.number(), request.session);
        let held = Held { request, frame, link, account: asker.0.clone(), since: Instant::now(), told: None };
        self.sessions().insert(place, Key::Hash(asker.clone()));
        let joined = self.hash().join(asker, rank, held);
        self.settle(joined, place);
        self.joined_hash.notify_one();
    }

    /// The session is over; its place is kept for a while.
    pub(crate) fn gone(&self, link: u64, session: u64) {
        let key = self.sessions().remove(&(link, session));
        match key {
            Some(Key::Hash(asker)) => drop(self.hash().leave(&asker, Instant::now())),
            Some(Key::Room(account)) => drop(self.room().leave(&account, Instant::now())),
            None => (),
        }
    }

    /// The link is down, and all its sessions are over.
    pub(crate) fn link_gone(&self, link: u64) {
        let sessions: Vec<u64> = self.sessions().keys().filter(|(of, _)| *of == link).map(|(_, session)| *session).collect();
        sessions.into_iter().for_each(|session| self.gone(link, session));
    }

    /// Nobody waits any more: each is told to come again.
    pub(crate) fn close(&self) {
        let now = Instant::now();
        while let Some(held) = self.next_to_hash(now).or_else(|| self.next_for_room(now).map(|(_, held)| held)) {
            let fault = faults::unavailable(self.desk.retry_ms());
            finish(held.request, &held.link, &held.frame, Err(fault));
        }
    }

    /// What `/status` says.
    pub(crate) fn status(&self) -> serde_json::Value {
        let longest = [standing::longest(&mut self.hash()), standing::longest(&mut self.room())].into_iter().max().unwrap_or_default();
        serde_json::json!({ "logins": self.hash().len(), "room": self.room().len(), "longest_s": longest.as_secs_f64() })
    }

    // ---- waiting for a hash

    async fn let_through(self: Arc<Self>) {
        let stopped = self.desk.tasks().stopped();
        tokio::pin!(stopped);
        let mut valve = self.valve.map(|period| {
            let mut valve = interval(period);
            valve.set_missed_tick_behavior(MissedTickBehavior::Delay);
            valve
        });
        loop {
            let next = async {
                // Never closed.
                let turn = Arc::clone(&self.turns).acquire_owned().await.ok()?;
                if let Some(valve) = &mut valve {
                    valve.tick().await;
                }
                loop {
                    if let Some(held) = self.next_to_hash(Instant::now()) {
                        return Some((turn, held));
                    }
                    self.joined_hash.notified().await;
                }
            };
            tokio::select! {
                () = &mut stopped => return,
                next = next => {
                    let Some((turn, held)) = next else { return };
                    self.run(turn, held);
                }
            }
        }
    }

    fn run(self: &Arc<Self>, turn: OwnedSemaphorePermit, held: Held) {
        let waiting = Arc::clone(self);
        let span = tracing::info_span!("request", session = held.request.session, name = held.frame.info().map(|info| info.name));
        let task = async move {
            let place = match waiting.desk.place() {
                Ok(place) => place,
                Err(fault) => return finish(held.request, &held.link, &held.frame, Err(fault)),
            };
            let answer = requests::answer(&held.request, &held.frame).await;
            drop(turn);
            waiting.hash().passed(Instant::now());
            match answer {
                Ok(Reply::ZoneFull) => waiting.wait_for_room(held),
                answer => finish(held.request, &held.link, &held.frame, answer),
            }
            drop(place);
        };
        self.desk.tasks().spawn("request", task.instrument(span));
    }

    // ---- waiting for room

    fn wait_for_room(&self, held: Held) {
        if !held.request.running.lives() {
            return;
        }
        let (place, account) = ((held.link.number(), held.request.session), held.account.clone());
        let rank = self.rank(&account);
        self.sessions().insert(place, Key::Room(account.clone()));
        let held = Held { since: Instant::now(), told: None, ..held };
        let joined = {
            let mut room = self.room();
            let joined = room.join(account, rank, held);
            self.desk.set_waiting_for_room(room.len());
            joined
        };
        self.settle(joined, place);
        self.joined_room.notify_one();
    }

    async fn ask_for_room(self: Arc<Self>) {
        let stopped = self.desk.tasks().stopped();
        tokio::pin!(stopped);
        loop {
            let round = async {
                if self.room().is_empty() {
                    self.joined_room.notified().await;
                }
                while self.let_one_in().await {}
                tokio::time::sleep(ASK_FOR_ROOM).await;
            };
            tokio::select! {
                () = &mut stopped => return,
                () = round => (),
            }
        }
    }

    /// Asks center to take the next one; whether it did, so that the one after it may try.
    async fn let_one_in(&self) -> bool {
        let Some((place, held)) = self.next_for_room(Instant::now()) else {
            self.desk.set_waiting_for_room(self.room().len());
            return false;
        };
        match requests::login::take_place(&held.request, &held.account).await {
            Ok(Reply::ZoneFull) => {
                self.wait_on(place, held);
                false
            }
            answer => {
                {
                    let mut room = self.room();
                    room.passed(Instant::now());
                    self.desk.set_waiting_for_room(room.len());
                }
                finish(held.request, &held.link, &held.frame, answer);
                true
            }
        }
    }

    fn wait_on(&self, place: Place, held: Held) {
        let (session, account) = ((held.link.number(), held.request.session), held.account.clone());
        let lives = held.request.running.lives();
        let put_back = {
            let mut room = self.room();
            let put_back = room.put_back(place, account.clone(), held);
            self.desk.set_waiting_for_room(room.len());
            put_back
        };
        if let Err(held) = put_back {
            // While center was asked, a newer connection of the account joined the queue.
            return finish(held.request, &held.link, &held.frame, Err(replaced()));
        }
        self.sessions().insert(session, Key::Room(account));
        if !lives {
            self.gone(session.0, session.1);
        }
    }

    // ---- both

    /// Who waits for nobody: those whom the zone file names, and who had a place for the zone's next room.
    fn rank(&self, account: &str) -> Rank {
        let passes = self.desk.zone.players.queue_pass.contains(account) || self.room().is_away(&account.to_owned());
        let first = passes && self.hash().count(Rank::First) < FIRST_MAX;
        if first { Rank::First } else { Rank::Ordinary }
    }

    fn settle(&self, joined: Joined<Held>, place: (u64, u64)) {
        let (held, fault) = match joined {
            Joined::Waits | Joined::Back => return,
            Joined::Replaced(before) => {
                self.sessions().remove(&(before.link.number(), before.request.session));
                (before, replaced())
            }
            Joined::Full(held) => {
                self.sessions().remove(&place);
                let fault = Fault::retry(FaultCode::Busy, "too many wait to log in", self.desk.retry_ms());
                (held, fault)
            }
        };
        finish(held.request, &held.link, &held.frame, Err(fault));
    }

    fn next_to_hash(&self, now: Instant) -> Option<Held> {
        let (_, _, held) = self.hash().next(now)?;
        self.sessions().remove(&(held.link.number(), held.request.session));
        Some(held)
    }

    fn next_for_room(&self, now: Instant) -> Option<(Place, Held)> {
        let (place, _, held) = self.room().next(now)?;
        self.sessions().remove(&(held.link.number(), held.request.session));
        Some((place, held))
    }

    fn hash(&self) -> MutexGuard<'_, Queue<Asker, Held>> {
        self.hash.lock().expect("no holder of the queue panics")
    }

    fn room(&self) -> MutexGuard<'_, Queue<String, Held>> {
        self.room.lock().expect("no holder of the queue panics")
    }

    fn sessions(&self) -> MutexGuard<'_, HashMap<(u64, u64), Key>> {
        self.sessions.lock().expect("no holder of the sessions panics")
    }
}

fn replaced() -> Fault {
    Fault::new(FaultCode::LoggedInElsewhere, "another connection took this one's place in the queue")
}

/// The account that a request is about, if it costs a hash and names one that can be.
pub(crate) fn account(frame: &Frame) -> Option<String> {
    let account = match frame.kind() {
        client::Login::KIND => frame.decode::<client::Login>().ok()?.account,
        client::Register::KIND => frame.decode::<client::Register>().ok()?.account,
        _ => return None,
    };
    names::account(&account)
}
