//! A player comes into the world (steps 6 and 7 of a login): rebound if it is here, else claimed or taken over from dc.

use std::time::Duration;

use proto::{
    event::{LoginStep, PlayerEntered, event::Body},
    ids::PlayerId,
    internal::{CallFault, CallFaultCode, PlayerClaim, PlayerClaimed, PlayerTake, SceneEnter, SceneEntered},
    link::Call,
};
use service::{CallError, Link, ProcessId, ProcessKind, link::fault};
use tokio::time::{Instant, sleep, timeout};

use crate::{
    line::Line,
    players::{Loss, Party, Seat, Session},
    publisher::Binding,
    saver::Stamp,
    scene::Scene,
    world::{Enter, Input},
};

/// How long a player's turn may take to come.
const TURN_WITHIN: Duration = Duration::from_secs(5);
/// How long the gate of a session may take to link to us, if center knows it and we do not yet.
const GATE_WITHIN: Duration = Duration::from_secs(3);
/// How long dc may take for one answer.
const DC_WITHIN: Duration = Duration::from_secs(3);
/// Times dc is asked.
const ATTEMPTS: u32 = 3;
/// How long center waits for the answer. Later it would have told the client that it is not let in.
const CENTER_WAITS: Duration = Duration::from_secs(20);
const _: () = assert!(GATE_WITHIN.as_secs() + TURN_WITHIN.as_secs() + (ATTEMPTS as u64) * DC_WITHIN.as_secs() < CENTER_WAITS.as_secs());

impl Scene {
    /// Takes a player.
    ///
    /// # Errors
    /// With the answer to center.
    pub(crate) async fn enter(&self, call: SceneEnter) -> Result<SceneEntered, CallFault> {
        let began = Instant::now();
        self.check_open()?;
        let link = self.gate_link(&ProcessId(call.gate.clone())).await?;
        let turn = timeout(TURN_WITHIN, self.players().turn(call.player)).await;
        let _turn = turn.map_err(|_| fault(CallFaultCode::CallUnavailable, "the player is still leaving, or on its way"))?;
        self.check_open()?;
        if let Some(seat) = self.players().get(call.player) {
            // A handoff to us is newer than a copy that we still hold.
            if call.handed_epoch <= seat.owner_epoch {
                return self.rebind(&call, seat, &link, began).await;
            }
            self.forget(&seat, "handed over anew");
        }
        self.spawn(&call, &link, began).await
    }

    async fn rebind(&self, call: &SceneEnter, seat: Seat, link: &Link, began: Instant) -> Result<SceneEntered, CallFault> {
        if call.session_epoch < seat.session.epoch {
            return Err(fault(CallFaultCode::CallReplaced, "a newer session plays this player"));
        }
        let line = self.line(seat.line).ok_or_else(|| fault(CallFaultCode::CallNoLine, "the line is closed"))?;
        let owner_epoch = seat.owner_epoch;
        let rebound = Seat {
            session: session_of(call, link),
            muted_until_ms: call.muted_until_ms,
            account_name: call.account_name.clone(),
            party: Party { friends: seat.party.friends.clone(), ..party_of(call) },
            out: None,
            lost: None,
            ..seat
        };
        let level = self.bind_again(&line, rebound, call.seq, link).await;
        let level = level.ok_or_else(|| fault(CallFaultCode::CallUnavailable, "the player is leaving"))?;
        let how = if call.seq == 0 { "resume" } else { "login" };
        self.tell_entered(&line, call.player, owner_epoch, how, None);
        self.tell_step(call, &line, how, began);
        Ok(entered(&line, level, owner_epoch))
    }

    /// A session plays a player that is here: it is told everything. Its level.
    pub(crate) async fn bind_again(&self, line: &Line, seat: Seat, seq: u32, link: &Link) -> Option<u32> {
        let player = PlayerId(seat.player);
        let binding = binding_of(&seat, link);
        let muted_ticks = muted_ticks(seat.muted_until_ms, line.facts().tick_hz);
        self.players().sit(seat);
        let level = line.rebind(Input::Rebind { player, seq, muted_ticks }, binding).await;
        self.check_link(player, line, Some(link));
        level
    }

    async fn spawn(&self, call: &SceneEnter, link: &Link, began: Instant) -> Result<SceneEntered, CallFault> {
        let wanted = self.lines().at(&call.map, call.line).filter(|line| !line.is_closing());
        let no_line = || fault(CallFaultCode::CallNoLine, format!("{} has no line {} here that takes players", call.map, call.line));
        let line = wanted.ok_or_else(no_line)?;
        // Who was here before, or was handed to us, is let in even if the line is full: it has nowhere else to be.
        let newcomer = call.seq != 0 && call.handed_epoch == 0;
        if newcomer && line.facts().players_max as usize <= self.players().on_line(line.facts().index) {
            return Err(fault(CallFaultCode::CallNoLine, format!("{} is full", call.map)));
        }
        let claimed = self.own(call).await?;
        let mut record = claimed.record.ok_or_else(|| fault(CallFaultCode::CallInternal, "dc gave no record"))?;
        let line = if record.map == call.map { line } else { self.lines().of_map(&record.map).unwrap_or(line) };
        if record.map != line.facts().map {
            record.position = None;
        }
        let how = how(call);
        let position = record.position;
        let seat = Seat {
            player: call.player,
            name: record.name.clone(),
            account: call.account,
            account_name: call.account_name.clone(),
            level: record.level,
            line: line.facts().index,
            owner_epoch: claimed.epoch,
            session: session_of(call, link),
            muted_until_ms: call.muted_until_ms,
            party: party_of(call),
            out: None,
            lost: None,
            since: Instant::now(),
            logging_in: how == "login",
        };
        line.saver().add(call.player, Stamp { epoch: claimed.epoch, version: claimed.version });
        let level = self.place(&line, seat, record, call.seq, how != "login", Some(link)).await;
        let level = level.ok_or_else(|| fault(CallFaultCode::CallUnavailable, "the line has ended"))?;
        self.tell_entered(&line, call.player, claimed.epoch, how, position);
        self.tell_step(call, &line, how, began);
        Ok(entered(&line, level, claimed.epoch))
    }

    /// Puts a player that is ours on a line; without a link its client learns nothing. Its level.
    pub(crate) async fn place(
        &self,
        line: &Line,
        seat: Seat,
        record: proto::record::PlayerRecord,
        seq: u32,
        travelled: bool,
        link: Option<&Link>,
    ) -> Option<u32> {
        let player = PlayerId(seat.player);
        let binding = link.map(|link| binding_of(&seat, link));
        let muted_ticks = muted_ticks(seat.muted_until_ms, line.facts().tick_hz);
        let party = seat.party.input(player.0);
        self.players().sit(seat);
        let level = line.enter(Enter { record, seq, muted_ticks, travelled }, binding).await;
        if level.is_none() {
            line.saver().lose(player.0);
            self.players().remove(player.0);
        }
        line.order(crate::line::Order::Input(party));
        self.players().change(player.0, |seat| seat.level = level.unwrap_or(seat.level));
        self.check_link(player, line, link);
        level
    }

    /// A link that went down before the player was seated was not counted as its loss.
    fn check_link(&self, player: PlayerId, line: &Line, link: Option<&Link>) {
        if link.is_some_and(Link::is_up) {
            return;
        }
        let until = Instant::now() + self.resume_window();
        self.players().change(player.0, |seat| {
            seat.lost.get_or_insert((Loss::Gate, until));
        });
        line.order(crate::line::Order::Input(Input::SessionLost(player)));
    }

    /// Makes this process the owner of the player.
    async fn own(&self, call: &SceneEnter) -> Result<PlayerClaimed, CallFault> {
        let owner = self.run_name();
        if 0 < call.handed_epoch {
            return self.ask_dc(&PlayerTake { player: call.player, owner, epoch: call.handed_epoch }).await;
        }
        self.ask_dc(&PlayerClaim { player: call.player, owner }).await
    }

    async fn ask_dc<C: Call>(&self, call: &C) -> Result<C::Answer, CallFault> {
        let links = self.links().await;
        let mut attempt = 1;
        loop {
            match links.call(ProcessKind::Dc, call, DC_WITHIN).await {
                Ok(answer) => return Ok(answer),
                Err(err) if err.is_transient() && attempt < ATTEMPTS => attempt += 1,
                Err(CallError::Refused(refused)) => return Err(refused),
                Err(err) => return Err(fault(CallFaultCode::CallUnavailable, err.to_string())),
            }
            sleep(self.random().jitter(Duration::from_millis(100))).await;
        }
    }

    async fn gate_link(&self, gate: &ProcessId) -> Result<Link, CallFault> {
        let links = self.links().await;
        let until = Instant::now() + GATE_WITHIN;
        loop {
            if let Some(link) = links.get(gate).filter(|link| link.peer().kind == ProcessKind::Gate) {
                return Ok(link);
            }
            if until < Instant::now() {
                return Err(fault(CallFaultCode::CallUnavailable, format!("no link to {gate}")));
            }
            sleep(Duration::from_millis(50)).await;
        }
    }

    fn check_open(&self) -> Result<(), CallFault> {
        if self.is_draining() { Err(fault(CallFaultCode::CallUnavailable, "the scene is stopping")) } else { Ok(()) }
    }

    /// Logs that a player came.
    pub(crate) fn tell_entered(&self, line: &Line, player: u64, owner_epoch: u64, how: &str, position: Option<proto::client::Position>) {
        metrics::counter!("paifang_scene_entered_total", "how" => how.to_owned()).increment(1);
        let subject = self.players().subject(player, line.facts());
        self.events().emit(&subject, Body::PlayerEntered(PlayerEntered { position, owner_epoch, how: how.into() }));
    }

    fn tell_step(&self, call: &SceneEnter, line: &Line, how: &str, began: Instant) {
        if how == "login" {
            let took_us = u32::try_from(began.elapsed().as_micros()).unwrap_or(u32::MAX);
            let step = LoginStep { step: 7, ok: true, detail: "bound".into(), took_us, account_name: call.account_name.clone() };
            self.events().emit(&self.players().subject(call.player, line.facts()), Body::LoginStep(step));
        }
    }
}

fn binding_of(seat: &Seat, link: &Link) -> Binding<Link> {
    Binding { session: seat.session.session, name: seat.name.clone(), outlet: link.clone() }
}

/// Ticks until a wall-clock time.
pub(crate) fn muted_ticks(until_ms: i64, tick_hz: u32) -> u64 {
    let left_ms = u64::try_from(until_ms.saturating_sub(crate::now_ms())).unwrap_or(0);
    left_ms.saturating_mul(u64::from(tick_hz)).div_ceil(1_000)
}

fn how(call: &SceneEnter) -> &'static str {
    match call {
        _ if 0 < call.handed_epoch => "portal",
        _ if call.seq != 0 => "login",
        _ => "rehomed",
    }
}

fn session_of(call: &SceneEnter, link: &Link) -> Session {
    Session {
        session: call.session,
        epoch: call.session_epoch,
        gate: link.peer().id.clone(),
        gate_incarnation: link.peer().incarnation,
        link: link.number(),
    }
}

fn party_of(call: &SceneEnter) -> Party {
    Party { id: call.party, leader: call.party_leader, friends: Vec::new() }
}

fn entered(line: &Line, level: u32, owner_epoch: u64) -> SceneEntered {
    SceneEntered { map: line.facts().map.clone(), line: line.facts().line, level, owner_epoch }
}
