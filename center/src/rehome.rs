//! Players whose scene is gone get another, and what time ends is ended.

use std::{sync::Arc, time::Duration};

use proto::{
    ids::{AccountId, PlayerId, SessionId},
    internal::{CallFaultCode, ProfileFind},
};
use tokio::{sync::Semaphore, time::Instant};

use crate::{
    center::{Center, now_ms},
    presence::enter::Rehome,
};

/// Players who are brought to a scene at once, so that a scene that comes back is not overrun.
const AT_ONCE_MAX: usize = 64;
/// How long a player whom no scene took waits for the next try.
pub(crate) const RETRY_AFTER: Duration = Duration::from_secs(1);
/// How often the homeless are looked through even if nothing happened.
const PERIOD: Duration = Duration::from_millis(500);

/// Finds the homeless a scene, until the process stops.
pub(crate) async fn run(center: Arc<Center>) {
    let stop = center.process.tasks.stop_token();
    let slots = Arc::new(Semaphore::new(AT_ONCE_MAX));
    let work = async {
        loop {
            rehome_due(&center, &slots).await;
            tokio::select! {
                () = center.homeless.notified() => (),
                () = tokio::time::sleep(PERIOD) => (),
            }
        }
    };
    _ = stop.run_until_cancelled(work).await;
}

/// Ends sessions and players whose time is over, until the process stops.
pub(crate) async fn sweep(center: Arc<Center>) {
    let stop = center.process.tasks.stop_token();
    while stop.run_until_cancelled(tokio::time::sleep(Duration::from_secs(1))).await.is_some() {
        // Before the rebuild a session may only look lost.
        if center.is_rebuilt() {
            let actions = center.presence().sweep(Instant::now(), now_ms());
            center.act(actions);
            center.end_stale_trades();
        }
        center.gauge();
    }
}

async fn rehome_due(center: &Arc<Center>, slots: &Arc<Semaphore>) {
    let now = Instant::now();
    if !center.is_rebuilt() {
        return;
    }
    let due = center.presence().homeless_due(now, center.rehome_after(), now + RETRY_AFTER);
    for player in due {
        let Ok(slot) = slots.clone().acquire_owned().await else { return };
        let task = center.clone();
        center.spawn("rehome", async move {
            task.rehome(player).await;
            drop(slot);
        });
    }
}

impl Center {
    /// After the rebuild: finds a scene for players of whom only the gates tell.
    pub(crate) fn adopt_orphans(self: &Arc<Self>) {
        let orphans = self.presence().take_orphans();
        if orphans.is_empty() {
            return;
        }
        tracing::info!(players = orphans.len(), "clients play whom no scene has; finding them one");
        let center = self.clone();
        self.spawn("adopt orphans", async move {
            for (session, player) in orphans {
                center.adopt_orphan(session, player).await;
            }
        });
    }

    /// Asks dc until it answers: the client has nobody else who could help it.
    async fn adopt_orphan(self: &Arc<Self>, session: SessionId, player: PlayerId) {
        let find = ProfileFind { name: String::new(), player: player.0 };
        let profile = loop {
            match self.dc(&find).await {
                Ok(profile) => break profile,
                Err(err) if err.is_transient() => tracing::debug!(%player, "dc does not say who a player is: {err}"),
                Err(err) => return tracing::warn!(%player, %session, "failed to find a player a scene: {err}"),
            }
            tokio::time::sleep(RETRY_AFTER).await;
        };
        let Ok(_held) = self.hold(AccountId(profile.account)).await else { return };
        let actions = self.presence().adopt_orphan(session, &profile, Instant::now());
        self.act(actions);
    }

    async fn rehome(self: &Arc<Self>, player: PlayerId) {
        let Some(account) = self.presence().players.get(player).map(|known| known.account) else { return };
        let Ok(_held) = self.hold(account).await else { return };
        let saved = match self.dc(&ProfileFind { name: String::new(), player: player.0 }).await {
            Ok(profile) => profile.record,
            Err(err) if err.code() == Some(CallFaultCode::CallNotFound) => None,
            // Nor could a scene claim the player now.
            Err(err) => return tracing::debug!(%player, "dc does not say where a homeless player is: {err}"),
        };
        let saved = saved.as_ref().map(|record| (record.map.as_str(), record.line));
        let next = self.presence().rehome(player, saved, now_ms());
        match next {
            Rehome::Wait => (),
            Rehome::Dropped(actions) => self.act(actions),
            Rehome::Enter(plan) => {
                let taken = self.carry_out(&plan).await;
                let outcome = if taken.is_ok() { "ok" } else { "refused" };
                metrics::counter!("paifang_center_rehomed_total", "outcome" => outcome).increment(1);
                match taken {
                    Ok(_) => tracing::debug!(%player, scene = %plan.scene, "re-homed a player"),
                    Err(fault) => tracing::info!(%player, scene = %plan.scene, "failed to re-home a player: {}", fault.text),
                }
            }
        }
    }
}
