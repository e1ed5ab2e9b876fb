//! A player leaves the world: out of its line, saved, given back to dc, told to center.

use std::time::Duration;

use proto::{
    event::{self, event::Body},
    ids::PlayerId,
    internal::{PlayerLeft, PlayerRelease, PlayerSave},
    record::PlayerRecord,
};
use service::ProcessKind;
use tokio::{sync::Semaphore, task::JoinSet, time::sleep};

use crate::{
    line::{Line, Order},
    players::Seat,
    saver::{Lost, Stamp, is_final},
    scene::Scene,
    world::Input,
};

/// How long dc may take for one answer.
const DC_WITHIN: Duration = Duration::from_secs(5);
/// Mean pause before dc is asked again.
const RETRY_PAUSE: Duration = Duration::from_millis(300);
/// Players given back at once when the scene stops.
const RELEASES_MAX: usize = 64;

impl Scene {
    /// A player leaves; saved and given back when this returns. `session`: only if it is still played by this one.
    /// False: it is not here (any more).
    pub(crate) async fn leave(&self, player: u64, reason: &str, session: Option<u64>) -> bool {
        let _turn = self.players().turn(player).await;
        let Some(seat) = self.players().get(player) else { return false };
        if session.is_some_and(|session| session != seat.session.session) {
            return false;
        }
        let Some(line) = self.line(seat.line) else { return false };
        // A line that has closed answers nothing, and whoever closed it gives everybody back.
        let Some(record) = line.leave(PlayerId(player), true).await else { return false };
        let position = record.position;
        let reason = match self.give_back(&line, player, record).await {
            Ok(()) => reason,
            Err(Lost) => "ownership lost",
        };
        self.tell_left(&seat, &line, reason, position).await;
        true
    }

    /// Saves what a player was at the end and gives it up in dc; its messages that wait for a save go out before.
    pub(crate) async fn give_back(&self, line: &Line, player: u64, record: PlayerRecord) -> Result<(), Lost> {
        let stamp = line.saver().take_out(player).await?;
        self.release(player, stamp, record).await
    }

    async fn release(&self, player: u64, stamp: Stamp, record: PlayerRecord) -> Result<(), Lost> {
        let call = PlayerRelease { save: Some(save(self.run_name(), player, stamp, record)) };
        let links = self.links().await;
        loop {
            let Err(err) = links.call(ProcessKind::Dc, &call, DC_WITHIN).await else { return Ok(()) };
            if err.code().is_some_and(is_final) {
                tracing::warn!(player, "failed to give a player back: {err}");
                return Err(Lost);
            }
            tracing::debug!(player, "dc does not take a player back yet: {err}");
            sleep(self.random().jitter(RETRY_PAUSE)).await;
        }
    }

    /// The player is not here any more: tells center and the logs.
    pub(crate) async fn tell_left(&self, seat: &Seat, line: &Line, reason: &str, position: Option<proto::client::Position>) {
        let subject = self.players().subject(seat.player, line.facts());
        self.players().remove(seat.player);
        let played_ms = u64::try_from(seat.since.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.events().emit(&subject, Body::PlayerLeft(event::PlayerLeft { reason: reason.into(), position, played_ms }));
        self.tell_center(&PlayerLeft { player: seat.player, reason: reason.into() }).await;
        metrics::counter!("paifang_scene_left_total").increment(1);
    }

    /// A player is not ours any more: its copy goes at once, unsaved.
    pub(crate) async fn drop_lost(&self, player: u64) {
        let _turn = self.players().turn(player).await;
        let Some(seat) = self.players().get(player) else { return };
        let Some(line) = self.line(seat.line) else { return };
        // It may have come back meanwhile.
        if line.saver().has(player) {
            return;
        }
        tracing::warn!(player, name = seat.name, "another owner has this player; its copy here is dropped");
        metrics::counter!("paifang_scene_ownership_lost_total").increment(1);
        line.order(Order::Input(Input::Drop(PlayerId(player))));
        self.tell_left(&seat, &line, "ownership lost", None).await;
    }

    /// Drops a copy that is known to be old, to make room for the new one.
    pub(crate) fn forget(&self, seat: &Seat, why: &str) {
        tracing::warn!(player = seat.player, why, "an old copy is dropped");
        self.players().remove(seat.player);
        let Some(line) = self.line(seat.line) else { return };
        line.order(Order::Input(Input::Drop(PlayerId(seat.player))));
        for lost in line.saver().lose(seat.player).into_iter().filter(|lost| *lost != seat.player) {
            self.report_lost(lost);
        }
    }

    /// Everybody leaves; saved and given back when this returns. Center is not told: it finds them another scene, or this one again.
    pub(crate) async fn leave_all(&self) {
        // Of whoever is held dc decides what it has; none are held anew.
        while 0 < self.deals().held() {
            sleep(Duration::from_millis(20)).await;
        }
        let permits = std::sync::Arc::new(Semaphore::new(RELEASES_MAX));
        let mut leaving = JoinSet::new();
        for line in self.lines().all() {
            for record in line.close().await {
                let (scene, line, permits) = (self.clone(), line.clone(), permits.clone());
                leaving.spawn(async move {
                    let _permit = permits.acquire().await;
                    let player = record.player;
                    if scene.give_back(&line, player, record).await.is_err() {
                        tracing::warn!(player, "a player was not ours to give back");
                    }
                    scene.players().remove(player);
                });
            }
        }
        while leaving.join_next().await.is_some() {}
        // Whoever was leaving already, or on its way, gets its time too.
        while !self.players().is_empty() {
            sleep(Duration::from_millis(20)).await;
        }
    }
}

/// The save that follows a stamp.
pub(crate) fn save(owner: String, player: u64, stamp: Stamp, record: PlayerRecord) -> PlayerSave {
    PlayerSave { player, owner, epoch: stamp.epoch, version: stamp.version + 1, record: Some(record) }
}
