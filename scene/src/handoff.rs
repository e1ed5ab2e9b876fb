//! A player goes to another line, of another map or of the same: on this process, or handed to another scene by one durable record in
//! dc. Center says which line; while it is away one of this process will do.
//!
//! Until dc has recorded the handoff the source is the owner, with the player frozen; from then on it may only delete its copy.
//! [`Attempt`] is the rule for what each answer of dc means.

use std::time::Duration;

use proto::{
    client::{Fault, FaultCode},
    event::{HandoffDone, event::Body},
    ids::PlayerId,
    internal::{CallFault, CallFaultCode, Done, LinePick, LinePicked, PlayerHanded, PlayerHandoff, SceneChangeLine, SceneTeleport},
    record::PlayerRecord,
};
use service::{CallError, ProcessKind, link::fault};
use tokio::time::{Instant, sleep};

use crate::{
    leave,
    line::{Journey, Line, Order},
    players::Seat,
    saver::{Lost, Stamp},
    scene::Scene,
    world::{Destination, Input, Position},
};

/// How long center may take to pick a line.
const PICK_WITHIN: Duration = Duration::from_secs(3);
/// How long what the player did before may take to be saved.
const SAVED_WITHIN: Duration = Duration::from_secs(5);
/// How long dc may take for one answer.
const DC_WITHIN: Duration = Duration::from_secs(3);
/// How long center may take to bring the player into its new scene, before it is asked again.
const HANDED_WITHIN: Duration = Duration::from_secs(15);
/// Mean pause before somebody is asked again.
const RETRY_PAUSE: Duration = Duration::from_millis(200);

/// Why a journey did not take place.
enum Stay {
    /// The player stays and is told so.
    Told(Fault),
    /// The player is not ours any more.
    Lost,
}

impl From<Lost> for Stay {
    fn from(_: Lost) -> Self {
        Stay::Lost
    }
}

/// The handoff in dc, over however many attempts.
#[derive(Debug, Default)]
pub(crate) struct Attempt {
    /// An earlier attempt may have been carried out.
    unknown: bool,
}

/// What follows from an answer of dc.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Recorded: the target owns the player, with this epoch.
    Handed(u64),
    /// Ask the same again.
    Again,
    /// Not recorded, and never will be: the source is still the owner.
    Stay,
    /// Somebody else is the owner.
    Lost,
}

impl Attempt {
    /// Takes an answer.
    pub(crate) fn next(&mut self, answer: Result<u64, &CallError>) -> Next {
        let err = match answer {
            Ok(epoch) => return Next::Handed(epoch),
            Err(err) => err,
        };
        match (err, err.code()) {
            (_, Some(CallFaultCode::CallStaleOwner | CallFaultCode::CallStaleVersion | CallFaultCode::CallNotFound)) => Next::Lost,
            (_, Some(CallFaultCode::CallInternal)) | (CallError::Down(..) | CallError::Timeout(..) | CallError::Malformed(..), _) => {
                self.unknown = true;
                Next::Again
            }
            // Not done this time; an earlier attempt may have been.
            (CallError::NoLink(_), _) | (_, Some(CallFaultCode::CallUnavailable)) if self.unknown => Next::Again,
            _ => Next::Stay,
        }
    }
}

impl Scene {
    /// A journey that the rules began.
    pub(crate) async fn travel(&self, line: u32, journey: Journey) {
        let Journey { player, to, record } = journey;
        let _turn = self.players().turn(player.0).await;
        let Some(line) = self.line(line) else { return };
        // Whoever had the turn before may have let the player leave.
        let Some(seat) = self.players().get(player.0).filter(|seat| seat.line == line.facts().index) else { return };
        // Told to the client by whoever ends the journey.
        let _ = self.go(&line, &seat, to, record).await;
    }

    /// A GM puts a player somewhere.
    ///
    /// # Errors
    /// With the answer to center.
    pub(crate) async fn teleport(&self, call: SceneTeleport) -> Result<(), CallFault> {
        let not_here = || fault(CallFaultCode::CallNotFound, "the player is not here");
        let to = Destination { map: call.map, position: call.position.map(Position::from).unwrap_or_default() };
        self.check_place(&to)?;
        let _turn = self.players().turn(call.player).await;
        let seat = self.players().get(call.player).ok_or_else(not_here)?;
        let line = self.line(seat.line).ok_or_else(not_here)?;
        let record = line.freeze(PlayerId(call.player)).await.ok_or_else(not_here)?;
        match self.go(&line, &seat, to, record).await {
            Ok(()) => Ok(()),
            Err(Stay::Told(told)) => Err(fault(CallFaultCode::CallUnavailable, told.text)),
            Err(Stay::Lost) => Err(not_here()),
        }
    }

    fn check_place(&self, to: &Destination) -> Result<(), CallFault> {
        let Some(map) = self.zone().world.maps.get(&to.map) else {
            return Err(fault(CallFaultCode::CallInvalid, format!("there is no map `{}`", to.map)));
        };
        let holds = (0..map.width_cm).contains(&to.position.x) && (0..map.height_cm).contains(&to.position.y);
        if holds { Ok(()) } else { Err(fault(CallFaultCode::CallInvalid, format!("that place is not on {}", to.map))) }
    }

    /// Brings a frozen player elsewhere, or unfreezes it and tells it why not.
    async fn go(&self, line: &Line, seat: &Seat, to: Destination, record: PlayerRecord) -> Result<(), Stay> {
        let player = PlayerId(seat.player);
        if to.map == line.facts().map {
            line.unfreeze(player, None);
            line.order(Order::Input(Input::Teleport { player, to: to.position }));
            return Ok(());
        }
        let outcome = match self.pick_or_own(seat.player, &to.map).await {
            Ok(picked) => self.go_to(line, seat, picked, to, record).await,
            Err(stay) => Err(stay),
        };
        match &outcome {
            Ok(()) => (),
            Err(Stay::Told(fault)) => line.unfreeze(player, Some(fault.clone())),
            Err(Stay::Lost) => {
                self.report_lost(player.0);
            }
        }
        outcome
    }

    /// A player wants to be on another line of its map, which center has looked at.
    ///
    /// # Errors
    /// With the answer to center; INVALID has a text for the client.
    pub(crate) async fn wish_line(&self, call: SceneChangeLine) -> Result<Done, CallFault> {
        let refused = |text: &str| fault(CallFaultCode::CallInvalid, text);
        let not_here = || fault(CallFaultCode::CallNotFound, "the player is not here");
        let turn = self.players().try_turn(call.player);
        let _turn = turn.ok_or_else(|| refused("you are on your way, or in a deal"))?;
        let seat = self.players().get(call.player).ok_or_else(not_here)?;
        let line = self.line(seat.line).ok_or_else(not_here)?;
        line.may_leave(PlayerId(call.player)).await.ok_or_else(not_here)?.map_err(|why| refused(&why.text))?;
        let picked = LinePicked { scene: call.scene, line: call.line };
        match self.go_over(&line, &seat, picked).await {
            Ok(()) => Ok(Done {}),
            Err(Stay::Told(told)) => Err(refused(&told.text)),
            Err(Stay::Lost) => Err(not_here()),
        }
    }

    /// Brings a player off a line that closes, if it is still there and another line takes it.
    pub(crate) async fn move_off(&self, line: &Line, player: u64) {
        let _turn = self.players().turn(player).await;
        let Some(seat) = self.players().get(player).filter(|seat| seat.line == line.facts().index) else { return };
        let picked = self.pick(player, &line.facts().map, line.facts().line).await;
        let moved = match picked {
            Ok(picked) => self.go_over(line, &seat, picked).await,
            Err(err) => Err(stay(&line.facts().map, &err)),
        };
        if let Err(Stay::Told(why)) = moved {
            tracing::debug!(player, "can't be brought off a closing line yet: {}", why.text);
        }
    }

    /// To another line of the same map, to the same place. Whoever stays is told nothing.
    async fn go_over(&self, line: &Line, seat: &Seat, picked: LinePicked) -> Result<(), Stay> {
        let player = PlayerId(seat.player);
        let record = line.freeze(player).await.ok_or(Stay::Lost)?;
        let position = record.position.map(Position::from).unwrap_or_default();
        let to = Destination { map: line.facts().map.clone(), position };
        let outcome = self.go_to(line, seat, picked, to, record).await;
        match &outcome {
            Ok(()) => (),
            Err(Stay::Told(_)) => line.unfreeze(player, None),
            Err(Stay::Lost) => self.report_lost(seat.player),
        }
        outcome
    }

    async fn go_to(&self, line: &Line, seat: &Seat, picked: LinePicked, to: Destination, record: PlayerRecord) -> Result<(), Stay> {
        if picked.scene != self.run_name() {
            return self.hand_off(line, seat, picked, to, record).await;
        }
        let target = self.lines().at(&to.map, picked.line).filter(|target| !target.is_closing() && target.facts().index != seat.line);
        match target {
            Some(target) => self.change_line(line, &target, seat, to, record).await,
            None => Err(Stay::Told(Fault::retry(FaultCode::Unavailable, format!("{} can't be reached now", to.map), 1_000))),
        }
    }

    /// From one line of this process to another: the owner stays.
    async fn change_line(&self, line: &Line, target: &Line, seat: &Seat, to: Destination, record: PlayerRecord) -> Result<(), Stay> {
        if target.facts().players_max as usize <= self.players().on_line(target.facts().index) {
            return Err(Stay::Told(Fault::retry(FaultCode::Busy, format!("{} is full", to.map), 5_000)));
        }
        let stamp = self.take_out(line, seat.player).await?;
        line.leave(PlayerId(seat.player), false).await;
        // What happened to the session since the journey began is in the seat of now.
        let now = self.players().get(seat.player).unwrap_or_else(|| seat.clone());
        let lost = now.lost;
        let moved = Seat { line: target.facts().index, out: None, ..now };
        let record = arrive(record, &to, target.facts().line);
        target.saver().add(seat.player, stamp);
        let link = self.links().await.get(&moved.session.gate).filter(|link| link.number() == moved.session.link);
        // Without its gate it stands on the new line unseen by its client, until it is rebound or leaves.
        self.place(target, moved, record, 0, true, link.as_ref()).await.ok_or(Stay::Lost)?;
        if lost.is_some() {
            target.order(Order::Input(Input::SessionLost(PlayerId(seat.player))));
        }
        self.tell_entered(target, seat.player, seat.owner_epoch, "portal", Some(to.position.into()));
        self.tell_handed(handed(seat, self.run_name(), &to, target.facts().line, seat.owner_epoch));
        Ok(())
    }

    /// To another scene: one durable record in dc makes it the owner.
    async fn hand_off(&self, line: &Line, seat: &Seat, picked: LinePicked, to: Destination, record: PlayerRecord) -> Result<(), Stay> {
        let began = Instant::now();
        let stamp = self.take_out(line, seat.player).await?;
        let record = arrive(record, &to, picked.line);
        let epoch = match self.record_handoff(seat.player, stamp, record, &picked.scene).await {
            Next::Handed(epoch) => epoch,
            Next::Lost => return Err(Stay::Lost),
            Next::Stay | Next::Again => {
                line.saver().add(seat.player, stamp);
                return Err(Stay::Told(Fault::retry(FaultCode::Unavailable, "the way is closed for a moment", 1_000)));
            }
        };
        line.leave(PlayerId(seat.player), true).await;
        let now = self.players().remove(seat.player).unwrap_or_else(|| seat.clone());
        let took_us = u32::try_from(began.elapsed().as_micros()).unwrap_or(u32::MAX);
        let done = HandoffDone { from_scene: self.run_name(), to_scene: picked.scene.clone(), owner_epoch: epoch, took_us };
        let mut subject = self.players().subject(seat.player, line.facts());
        (subject.account, subject.player_name, subject.session) = (now.account, now.name.clone(), now.session.session);
        self.events().emit(&subject, Body::HandoffDone(done));
        metrics::histogram!("paifang_scene_handoff_seconds").record(began.elapsed().as_secs_f64());
        self.tell_handed(handed(&now, picked.scene, &to, picked.line, epoch));
        Ok(())
    }

    /// The line of a map that center picks; while it is away, one of this process.
    async fn pick_or_own(&self, player: u64, map: &str) -> Result<LinePicked, Stay> {
        match self.pick(player, map, 0).await {
            Ok(picked) => Ok(picked),
            Err(err) => match self.lines().of_map(map).filter(|_| err.is_transient()) {
                Some(own) => Ok(LinePicked { scene: self.run_name(), line: own.facts().line }),
                None => Err(stay(map, &err)),
            },
        }
    }

    /// Asks center for a line; `keep`: of this number, if it can be.
    async fn pick(&self, player: u64, map: &str, keep: u32) -> Result<LinePicked, CallError> {
        let pick = LinePick { player, map: map.to_owned(), line: keep };
        self.links().await.call(ProcessKind::Center, &pick, PICK_WITHIN).await
    }

    async fn take_out(&self, line: &Line, player: u64) -> Result<Stamp, Stay> {
        let away = || Stay::Told(Fault::retry(FaultCode::Unavailable, "what you did is not saved yet", 1_000));
        line.saver().take_out_within(player, SAVED_WITHIN).await?.ok_or_else(away)
    }

    async fn record_handoff(&self, player: u64, stamp: Stamp, record: PlayerRecord, to: &str) -> Next {
        let call = PlayerHandoff { save: Some(leave::save(self.run_name(), player, stamp, record)), to: to.to_owned() };
        let links = self.links().await;
        let mut attempt = Attempt::default();
        loop {
            let answer = links.call(ProcessKind::Dc, &call, DC_WITHIN).await;
            let next = attempt.next(answer.as_ref().map(|answer| answer.epoch));
            match next {
                Next::Again => sleep(self.random().jitter(RETRY_PAUSE)).await,
                next => return next,
            }
        }
    }

    /// Tells center where a player is now, until it has heard it.
    fn tell_handed(&self, handed: PlayerHanded) {
        let scene = self.clone();
        self.spawn_task("tell handed", async move {
            let links = scene.links().await;
            loop {
                match links.call(ProcessKind::Center, &handed, HANDED_WITHIN).await {
                    Ok(_) => return,
                    Err(err) if err.is_transient() && !scene.is_draining() => {
                        tracing::debug!(player = handed.player, "tell center again: {err}");
                    }
                    Err(err) => {
                        tracing::warn!(player = handed.player, map = handed.map, "failed to bring a player into its new scene: {err}");
                        return;
                    }
                }
                sleep(scene.random().jitter(RETRY_PAUSE)).await;
            }
        });
    }
}

fn stay(map: &str, err: &CallError) -> Stay {
    tracing::debug!(map, "no line: {err}");
    Stay::Told(Fault::retry(FaultCode::Unavailable, format!("{map} can't be reached now"), 1_000))
}

/// The record of a player as it arrives.
fn arrive(record: PlayerRecord, to: &Destination, line: u32) -> PlayerRecord {
    PlayerRecord { map: to.map.clone(), line, position: Some(to.position.into()), ..record }
}

fn handed(seat: &Seat, scene: String, to: &Destination, line: u32, owner_epoch: u64) -> PlayerHanded {
    PlayerHanded {
        player: seat.player,
        scene,
        map: to.map.clone(),
        line,
        owner_epoch,
        session: seat.session.session,
        gate: seat.session.gate.0.clone(),
        session_epoch: seat.session.epoch,
        account: seat.account,
        account_name: seat.account_name.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(code: CallFaultCode) -> CallError {
        CallError::Refused(fault(code, "no"))
    }

    fn timed_out() -> CallError {
        CallError::Timeout(service::ProcessId("dc-1".into()), "PlayerHandoff", DC_WITHIN)
    }

    #[test]
    fn what_was_surely_not_done_lets_the_player_stay() {
        for err in [CallError::NoLink(ProcessKind::Dc), refused(CallFaultCode::CallUnavailable), refused(CallFaultCode::CallInvalid)] {
            assert_eq!(Attempt::default().next(Err(&err)), Next::Stay, "{err:?}");
        }
    }

    #[test]
    fn what_may_have_been_done_is_asked_until_it_is_known() {
        let mut attempt = Attempt::default();
        assert_eq!(attempt.next(Err(&timed_out())), Next::Again);
        assert_eq!(attempt.next(Err(&CallError::NoLink(ProcessKind::Dc))), Next::Again, "no link now says nothing of before");
        assert_eq!(attempt.next(Err(&refused(CallFaultCode::CallUnavailable))), Next::Again);
        assert_eq!(attempt.next(Ok(7)), Next::Handed(7));
    }

    #[test]
    fn another_owner_ends_it() {
        let mut attempt = Attempt::default();
        attempt.next(Err(&timed_out()));
        assert_eq!(attempt.next(Err(&refused(CallFaultCode::CallStaleOwner))), Next::Lost);
        assert_eq!(Attempt::default().next(Err(&refused(CallFaultCode::CallStaleVersion))), Next::Lost);
    }
}
