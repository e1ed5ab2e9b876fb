//! A dc in memory, by the rules of owner, epoch and version.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use proto::{
    client::Position,
    internal::{
        CallFault, CallFaultCode, Commit, Committed, Done, PlayerClaim, PlayerClaimed, PlayerHandedOff, PlayerHandoff, PlayerRelease,
        PlayerSave, UnitResult,
    },
    link::{Call, LinkFrame},
    record::PlayerRecord,
};
use service::{Handler, IncomingCall, Link, Links, Process, link::fault};
use tempfile::TempDir;
use tokio::{sync::Notify, time::timeout};

use super::super::WITHIN;

#[derive(Clone, Debug)]
struct Kept {
    owner: String,
    epoch: u64,
    version: u64,
    record: PlayerRecord,
}

struct State {
    players: Mutex<BTreeMap<u64, Kept>>,
    commits: Mutex<Vec<Commit>>,
    committed: Notify,
    lose_answers: AtomicBool,
}

/// The process. Players 1 to 9 are there, with 100 coins.
pub struct FakeDc {
    state: Arc<State>,
    _links: Links,
}

impl FakeDc {
    pub async fn start(zone: &service::Zone, data: &TempDir) -> Self {
        let player = |player: u64| {
            let position = Some(Position { x: 10_000, y: 10_000 });
            let (name, map) = (format!("P{player}"), "meadow".to_owned());
            let record = PlayerRecord { player, account: player, name, map, position, coins: 100, ..PlayerRecord::default() };
            (player, Kept { owner: String::new(), epoch: 0, version: 1, record })
        };
        let state = Arc::new(State {
            players: Mutex::new((1..10).map(player).collect()),
            commits: Mutex::default(),
            committed: Notify::new(),
            lose_answers: AtomicBool::new(false),
        });
        let process = Process::for_test(zone, "dc-1", data.path());
        let links = Links::start(&process, Arc::new(Calls(state.clone()))).await.unwrap();
        Self { state, _links: links }
    }

    /// From now on commits are carried out, but answered UNAVAILABLE, as a link that breaks in between would have it.
    pub fn lose_answers(&self, lose: bool) {
        self.state.lose_answers.store(lose, Ordering::Relaxed);
    }

    pub fn owner_of(&self, player: u64) -> String {
        self.state.players.lock().unwrap()[&player].owner.clone()
    }

    pub fn record(&self, player: u64) -> PlayerRecord {
        self.state.players.lock().unwrap()[&player].record.clone()
    }

    pub fn put(&self, player: u64, at: Position) {
        self.state.players.lock().unwrap().get_mut(&player).unwrap().record.position = Some(at);
    }

    /// Somebody else claims the player.
    pub fn steal(&self, player: u64) {
        let mut players = self.state.players.lock().unwrap();
        let kept = players.get_mut(&player).unwrap();
        (kept.owner, kept.epoch) = ("somebody/1".into(), kept.epoch + 1);
    }

    /// Waits for a commit.
    pub async fn commits_of(&self, good: impl Fn(&Commit) -> bool) {
        let seen = async {
            loop {
                let committed = self.state.committed.notified();
                if self.state.commits.lock().unwrap().iter().any(&good) {
                    return;
                }
                committed.await;
            }
        };
        timeout(WITHIN, seen).await.expect("such a commit comes");
    }
}

struct Calls(Arc<State>);

impl Handler for Calls {
    async fn on_up(&self, _: &Link) {}
    async fn on_down(&self, _: &Link) {}
    async fn on_frame(&self, _: &Link, _: LinkFrame) {}

    async fn on_call(&self, _: &Link, call: IncomingCall) {
        let mut players = self.0.players.lock().unwrap();
        match call.kind {
            PlayerClaim::KIND => {
                let claim: PlayerClaim = call.parse().unwrap();
                let claimed = players.get_mut(&claim.player).map(|kept| {
                    (kept.owner, kept.epoch) = (claim.owner, kept.epoch + 1);
                    PlayerClaimed { record: Some(kept.record.clone()), epoch: kept.epoch, version: kept.version }
                });
                call.answer::<PlayerClaim>(claimed.ok_or_else(|| fault(CallFaultCode::CallNotFound, "no such player")));
            }
            Commit::KIND => {
                let commit: Commit = call.parse().unwrap();
                let units = commit.units.iter().map(|unit| {
                    let refused = unit.saves.iter().find_map(|save| check(&players, save).err());
                    if refused.is_none() {
                        unit.saves.iter().for_each(|one| apply(&mut players, one));
                    }
                    refused.map_or_else(UnitResult::default, |fault| UnitResult { refused: fault.code, text: fault.text })
                });
                let answer = Committed { units: units.collect(), durability: commit.durability };
                // Before anybody hears of the commit, who may then want the next answers to be lost.
                let lost = self.0.lose_answers.load(Ordering::Relaxed);
                self.0.commits.lock().unwrap().push(commit);
                self.0.committed.notify_waiters();
                call.answer::<Commit>(if lost { Err(fault(CallFaultCode::CallUnavailable, "lost")) } else { Ok(answer) });
            }
            PlayerRelease::KIND => {
                let save = call.parse::<PlayerRelease>().unwrap().save.unwrap();
                let answer = check(&players, &save).map(|()| {
                    apply(&mut players, &save);
                    players.get_mut(&save.player).unwrap().owner.clear();
                    Done {}
                });
                call.answer::<PlayerRelease>(answer);
            }
            PlayerHandoff::KIND => {
                let handoff: PlayerHandoff = call.parse().unwrap();
                let save = handoff.save.unwrap();
                let answer = check(&players, &save).map(|()| {
                    apply(&mut players, &save);
                    let kept = players.get_mut(&save.player).unwrap();
                    (kept.owner, kept.epoch) = (handoff.to, kept.epoch + 1);
                    PlayerHandedOff { epoch: kept.epoch }
                });
                call.answer::<PlayerHandoff>(answer);
            }
            _ => call.unknown(),
        }
    }
}

fn check(players: &BTreeMap<u64, Kept>, save: &PlayerSave) -> Result<(), CallFault> {
    let kept = &players[&save.player];
    if kept.owner != save.owner || kept.epoch != save.epoch {
        return Err(fault(CallFaultCode::CallStaleOwner, "another owner"));
    }
    let resent = kept.version == save.version && Some(&kept.record) == save.record.as_ref();
    if resent || save.version == kept.version + 1 { Ok(()) } else { Err(fault(CallFaultCode::CallStaleVersion, "a gap, or other bytes")) }
}

fn apply(players: &mut BTreeMap<u64, Kept>, save: &PlayerSave) {
    let kept = players.get_mut(&save.player).unwrap();
    (kept.version, kept.record) = (save.version, save.record.clone().unwrap());
}
