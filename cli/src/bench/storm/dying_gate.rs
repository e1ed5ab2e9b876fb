//! The gate part: a gate dies under thousands of players, who come back at the other one by their tickets, while those who are there play on.

use std::{collections::BTreeMap, path::Path};

use anyhow::Context;
use client::{
    Address,
    bots::{Comeback, Returns, Tally},
};
use indicatif::ProgressBar;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde::Serialize;
use tokio::time::timeout;

use super::{
    Args,
    memory::{Memory, Resident, Span},
    moments::{BackAfter, Rate},
    others::{self, Laps, Noticed, beside, lap, pass},
    zone_file::Wanted,
};
use crate::{
    bench::zone::rig::{Rig, ZoneProcess},
    bots::crew::{Crew, Plan},
};

/// The gate that dies, and the one that stays.
const DIES: &str = "gate-1";
const STAYS: &str = "gate-2";
/// Bots of one process, so that a process has room for them.
const BOTS_A_PROCESS: u32 = 5_000;

/// What came out.
#[derive(Debug, Serialize)]
pub(super) struct Figures {
    pub(super) players: u64,
    pub(super) back: Back,
    /// Passwords that login hashed meanwhile.
    pub(super) hashes: u64,
    pub(super) others: Noticed,
    /// 10 s after the last one was back, if nothing else was asked for.
    pub(super) whereabouts: Whereabouts,
    /// Positions that nobody was at, as the players saw them, and players that saw nothing move.
    pub(super) wrong_updates: u64,
    pub(super) blind: u64,
    pub(super) memory: BTreeMap<String, Resident>,
    /// Processes that died.
    pub(super) deaths: Vec<String>,
}

/// How the players came back.
#[derive(Debug, Serialize)]
pub(super) struct Back {
    /// By their tickets,
    pub(super) resumed: usize,
    /// or because that was not possible.
    pub(super) logged_in_anew: u64,
    /// Players that were not back in time.
    pub(super) not_back: u64,
    /// Attempts that failed, by reason.
    pub(super) refused: BTreeMap<String, u64>,
    /// Since the gate was killed; none when not all are back.
    pub(super) after: Option<BackAfter>,
    pub(super) resumes: Rate,
    /// Connections that the gate which stayed took meanwhile.
    pub(super) connections: u64,
    pub(super) connections_per_s: f64,
}

/// Where everybody is, as the zone has it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Whereabouts {
    pub(super) expected: u64,
    /// Whom center calls online,
    pub(super) online: u64,
    /// sessions that it knows,
    pub(super) sessions: u64,
    /// and players that the scenes have; more than expected: somebody is in two places.
    pub(super) in_lines: u64,
}

impl Figures {
    /// Whether everybody came back without a hash, nobody twice, and nobody else was harmed.
    pub(super) fn is_good(&self) -> bool {
        let all_back = self.back.not_back == 0 && self.hashes == 0;
        let saw_right = self.wrong_updates == 0 && self.blind == 0 && self.others.harmed == 0;
        all_back && saw_right && self.whereabouts.are_right() && self.deaths == [DIES]
    }
}

impl Whereabouts {
    fn are_right(&self) -> bool {
        [self.online, self.sessions, self.in_lines].iter().all(|count| *count == self.expected)
    }

    async fn read(rig: &Rig, expected: u64) -> anyhow::Result<Self> {
        let mut found = Self { expected, ..Self::default() };
        for process in &rig.processes {
            match process.kind.as_str() {
                "center" => {
                    let detail = detail(process).await?;
                    found.online = detail["online"].as_u64().context("understand center's status")?;
                    found.sessions = detail["sessions"].as_u64().context("understand center's status")?;
                }
                "scene" => {
                    let detail = detail(process).await?;
                    let lines = detail["lines"].as_array().context("understand a scene's status")?;
                    found.in_lines += lines.iter().filter_map(|line| line["players"].as_u64()).sum::<u64>();
                }
                _ => {}
            }
        }
        Ok(found)
    }
}

async fn detail(process: &ZoneProcess) -> anyhow::Result<serde_json::Value> {
    Ok(process.get("/status").await?.json()?["detail"].take())
}

/// Brings a zone up, and kills a gate of it.
pub(super) async fn measure(args: &Args, folder: &Path, bar: &ProgressBar) -> anyhow::Result<Figures> {
    let everybody = args.players + args.others;
    let wanted = Wanted { players: everybody, maps: args.maps, cheap: true, valve: None };
    bar.set_message("gate: bringing the zone up");
    let rig = Rig::start(folder, &wanted.zone_file()).await?;
    let [dying, staying] = both_gates(&rig)?;
    bar.set_message(format!("gate: {} players come into the world", args.players));
    let comeback = Comeback { gates: vec![staying.clone()], spread: args.within, ..Comeback::default() };
    let processes = args.players.div_ceil(BOTS_A_PROCESS);
    let mut players = Crew::start(&Plan { processes, ..others::plan(args, vec![dying], args.players, args.logins_per_s, Some(comeback)) })?;
    others::gathered(&mut players, args.players, args.logins_per_s).await?;
    let mut others = others::start(args, vec![staying], args.logins_per_s)?;
    others::gathered(&mut others, args.others, args.logins_per_s).await?;
    let (stormed, laps) = Box::pin(storm(args, &rig, &mut players, &mut others, bar)).await?;
    let whereabouts = Whereabouts::read(&rig, everybody.into()).await?;
    let (players_ended, others_ended) = tokio::try_join!(others::ended(players), others::ended(others))?;
    let mut rig = rig;
    let deaths = rig.deaths();
    rig.stop().await?;
    Ok(figures(args, stormed, &players_ended, Noticed::of(&laps, &others_ended), whereabouts, deaths))
}

fn both_gates(rig: &Rig) -> anyhow::Result<[Address; 2]> {
    // In the order of the processes, which is that of their names.
    rig.gates(false)?.try_into().ok().context("find two gates")
}

/// What was read while it stormed.
struct Stormed {
    killed_us: u64,
    is_over: bool,
    hashes: u64,
    connections: u64,
    memory: BTreeMap<String, Resident>,
}

async fn storm(args: &Args, rig: &Rig, players: &mut Crew, others: &mut Crew, bar: &ProgressBar) -> anyhow::Result<(Stormed, Laps)> {
    let memory = Memory::watch(&rig.processes);
    let (gate, living, login) = (process(rig, DIES)?, process(rig, STAYS)?, process(rig, "login-1")?);
    bar.set_message("gate: measuring before the storm");
    laps(players, others).await?;
    walk_on(players, others, args.warm_up).await?;
    laps(players, others).await?;
    walk_on(players, others, args.duration).await?;
    let (_, before) = laps(players, others).await?;
    let (hashes, connections) = (hashes(login).await?, accepts(living).await?);
    memory.is(Span::During);
    bar.set_message(format!("gate: {DIES} is dead, {} players come back", args.players));
    let killed_us = Returns::now_us();
    end(gate)?;
    let lost = u64::from(args.players);
    let all_back = async { players.until(|progress| lost <= progress.disconnects && progress.away == 0).await };
    let is_over = beside(others, async { timeout(args.back_within, all_back).await.ok().transpose() }).await?.is_some();
    let (_, during) = laps(players, others).await?;
    memory.is(Span::After);
    let (hashes, connections) = (self::hashes(login).await?.saturating_sub(hashes), accepts(living).await?.saturating_sub(connections));
    bar.set_message("gate: the storm is over");
    watch_restarted(&memory, gate).await;
    walk_on(players, others, args.settle).await?;
    let (_, after) = laps(players, others).await?;
    Ok((Stormed { killed_us, is_over, hashes, connections, memory: memory.seen() }, Laps { before, during, after }))
}

async fn laps(players: &mut Crew, others: &mut Crew) -> anyhow::Result<(Tally, Tally)> {
    tokio::try_join!(lap(players), lap(others))
}

async fn walk_on(players: &mut Crew, others: &mut Crew, span: std::time::Duration) -> anyhow::Result<()> {
    beside(players, beside(others, pass(span))).await
}

fn process<'a>(rig: &'a Rig, id: &str) -> anyhow::Result<&'a ZoneProcess> {
    rig.processes.iter().find(|process| process.id == id).with_context(|| format!("find {id}"))
}

/// Without a word to anybody.
fn end(process: &ZoneProcess) -> anyhow::Result<()> {
    let pid = i32::try_from(process.pid).with_context(|| format!("read the process id of {}", process.id))?;
    kill(Pid::from_raw(pid), Signal::SIGKILL).with_context(|| format!("kill {}", process.id))
}

/// Watches the memory of the process that was started in the place of one that died; if it is not there yet, it is not watched.
async fn watch_restarted(memory: &Memory, died: &ZoneProcess) {
    let Ok(answer) = died.get("/status").await else { return };
    let pid = answer.json().ok().and_then(|status| status["pid"].as_u64()?.try_into().ok());
    if let Some(pid) = pid.filter(|pid| *pid != died.pid) {
        memory.also(format!("{} (restarted)", died.id), pid);
    }
}

/// Passwords that a login has hashed so far.
async fn hashes(login: &ZoneProcess) -> anyhow::Result<u64> {
    Ok(login.get("/metrics").await?.metric("paifang_login_hash_seconds_count") as u64)
}

/// Connections that a gate has taken so far.
async fn accepts(gate: &ZoneProcess) -> anyhow::Result<u64> {
    Ok(gate.get("/metrics").await?.metric("paifang_gate_accepts_total") as u64)
}

fn figures(args: &Args, stormed: Stormed, ended: &Tally, others: Noticed, whereabouts: Whereabouts, deaths: Vec<String>) -> Figures {
    let report = ended.report();
    let returns = &ended.returns;
    let after = BackAfter::of(&returns.inside_us, stormed.killed_us, args.players as usize).filter(|_| stormed.is_over);
    let missing = u64::from(args.players).saturating_sub(returns.inside_us.len() as u64);
    let resumes = Rate::of(&returns.resumed_us);
    let storm_s = after.map_or(args.back_within.as_secs_f64(), |after| after.all_s);
    Figures {
        players: ended.logged_in,
        back: Back {
            resumed: resumes.count,
            logged_in_anew: returns.anew,
            not_back: missing.max(u64::from(!stormed.is_over)),
            refused: returns.refused.clone(),
            after,
            resumes,
            connections: stormed.connections,
            connections_per_s: stormed.connections as f64 / storm_s.max(1.0),
        },
        hashes: stormed.hashes,
        others,
        whereabouts,
        wrong_updates: report.wrong_updates(),
        blind: report.blind(),
        memory: stormed.memory,
        deaths,
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use client::bots::Profile;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        args: Args,
    }

    /// Two players and two others; both players were killed at second 10 and were back at 11 and 14.
    fn storm(is_over: bool, ended: impl FnOnce(&mut Tally)) -> Figures {
        let args = Cli::parse_from(["storm", "--players", "2", "--others", "2"]).args;
        let mut tally = Tally { count: 2, logged_in: 2, disconnects: 2, ..Tally::of_nobody(Profile::Walk) };
        tally.returns.resumed_us = vec![13_900_000, 10_900_000];
        tally.returns.inside_us = vec![14_000_000, 11_000_000];
        ended(&mut tally);
        let stormed = Stormed { killed_us: 10_000_000, is_over, hashes: 0, connections: 2, memory: BTreeMap::new() };
        let whereabouts = Whereabouts { expected: 4, online: 4, sessions: 4, in_lines: 4 };
        figures(&args, stormed, &tally, Noticed::default(), whereabouts, vec![DIES.to_owned()])
    }

    #[test]
    fn all_who_resumed_are_back_after_what_it_took_the_last_one() {
        let figures = storm(true, |_| ());
        assert!(figures.is_good(), "{figures:?}");
        assert_eq!((figures.back.resumed, figures.back.not_back, figures.back.connections_per_s), (2, 0, 0.5));
        assert_eq!(figures.back.after, Some(BackAfter { p50_s: 1.0, p99_s: 4.0, all_s: 4.0 }));
    }

    #[test]
    fn who_is_not_back_fails_it_and_there_is_no_time_for_all() {
        let late = storm(false, |_| ());
        assert_eq!((late.back.not_back, late.back.after, late.is_good()), (1, None, false), "back after the bound is not back");
        let missing = storm(false, |tally| tally.returns.inside_us.truncate(1));
        assert_eq!((missing.back.not_back, missing.back.after, missing.is_good()), (1, None, false));
    }

    #[test]
    fn nothing_else_may_go_wrong() {
        let spoilt: [fn(&mut Figures); 7] = [
            |figures| figures.hashes = 1,
            |figures| figures.whereabouts.in_lines = 5,
            |figures| figures.whereabouts.online = 3,
            |figures| figures.others.harmed = 1,
            |figures| figures.blind = 1,
            |figures| figures.wrong_updates = 1,
            |figures| figures.deaths.push("login-1".into()),
        ];
        for (index, spoil) in spoilt.iter().enumerate() {
            let mut figures = storm(true, |_| ());
            spoil(&mut figures);
            assert!(!figures.is_good(), "{index}: {figures:?}");
        }
    }
}
