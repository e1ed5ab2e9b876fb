//! When center can serve: dc is linked and has told what center keeps of it, and every linked gate and scene has reported in full.
//! At the start scenes that are not linked are waited for a while, so that presence is whole from the first answer on.

use std::{sync::Arc, time::Duration};

use proto::{
    ids::AccountId,
    internal::{SanctionKind, SanctionList},
};
use service::ProcessKind;

use crate::{center::Center, gm};

/// How long scenes that are members but not linked are waited for at the start.
const SCENES_WITHIN: Duration = Duration::from_secs(3);
/// How often it is looked at even if nothing changed.
const PERIOD: Duration = Duration::from_millis(100);
/// How long a failed preparation waits for the next.
const PREPARE_AGAIN_AFTER: Duration = Duration::from_millis(500);
/// Mutes that are read at the start, more than any zone has in force.
const MUTES_MAX: u32 = 10_000;

/// Keeps readiness true, until the process stops.
pub(crate) async fn run(center: Arc<Center>) {
    let stop = center.process.tasks.stop_token();
    let watch = async {
        let (mut prepared, mut lines_open) = (false, false);
        loop {
            let waits = center.waits_for();
            let dc = !center.links_of(ProcessKind::Dc).is_empty();
            if dc && !prepared {
                prepared = center.prepare().await;
            }
            match (waits.is_empty(), prepared) {
                (true, true) => center.serve(&mut lines_open),
                (true, false) => center.process.ready.wait_for(center.members(ProcessKind::Dc)),
                (false, _) => center.process.ready.wait_for(waits),
            }
            tokio::select! {
                () = center.changed.notified() => (),
                () = tokio::time::sleep(PERIOD) => (),
            }
        }
    };
    _ = stop.run_until_cancelled(watch).await;
}

impl Center {
    /// Presence is whole. Center serves as soon as there is a line of every map that a scene is here for.
    fn serve(self: &Arc<Self>, lines_open: &mut bool) {
        if !self.is_rebuilt() {
            self.set_rebuilt();
            self.homeless.notify_one();
            {
                let presence = self.presence();
                tracing::info!(sessions = presence.sessions.len(), online = presence.players.online(), "presence is built");
            }
            self.adopt_orphans();
        }
        let awaited = if *lines_open { Vec::new() } else { self.presence().lines.awaited() };
        if awaited.is_empty() {
            *lines_open = true;
            self.process.ready.set();
        } else {
            self.process.ready.wait_for(awaited.into_iter().map(|scene| scene.0).collect());
        }
    }

    fn waits_for(&self) -> Vec<String> {
        let mut waits = Vec::new();
        if self.links_of(ProcessKind::Dc).is_empty() {
            waits.extend(self.members(ProcessKind::Dc));
        }
        waits.extend(self.reports().awaited().into_iter().map(|id| id.0));
        if !self.is_rebuilt() && self.started.elapsed() < SCENES_WITHIN {
            let linked = self.links_of(ProcessKind::Scene);
            let missing = |id: &String| !linked.iter().any(|link| link.peer().id.0 == *id);
            waits.extend(self.members(ProcessKind::Scene).into_iter().filter(missing));
        }
        waits
    }

    fn members(&self, kind: ProcessKind) -> Vec<String> {
        self.process.members.now().iter().filter(|member| member.kind == kind).map(|member| member.id.0.clone()).collect()
    }

    async fn prepare(self: &Arc<Self>) -> bool {
        let prepared = async {
            self.load_mutes().await?;
            gm::bootstrap::first_account(self).await
        };
        match prepared.await {
            Ok(()) => true,
            Err(err) => {
                tracing::warn!("failed to prepare: {err:#}");
                tokio::time::sleep(PREPARE_AGAIN_AFTER).await;
                false
            }
        }
    }

    async fn load_mutes(&self) -> anyhow::Result<()> {
        let list = SanctionList { kind: SanctionKind::Mute.into(), account: 0, address: String::new(), limit: MUTES_MAX };
        let mutes = self.dc(&list).await.map_err(|err| anyhow::anyhow!("load the mutes in force: {err}"))?;
        let mut presence = self.presence();
        for mute in mutes.sanctions {
            presence.mute(AccountId(mute.account), until(mute.until_ms));
        }
        Ok(())
    }

    /// What `/status` says of center.
    pub(crate) fn status(&self) -> serde_json::Value {
        let lines = self.lines_status(None);
        let presence = self.presence();
        serde_json::json!({
            "online": presence.players.online(),
            "sessions": presence.sessions.len(),
            "lines": lines,
            "homeless": presence.players.homeless(),
            "rebuilt": self.is_rebuilt(),
        })
    }

    /// Sets the gauges, and lets go of what is kept of players who are gone.
    pub(crate) fn gauge(&self) {
        let presence = self.presence();
        metrics::gauge!("paifang_center_sessions_count").set(presence.sessions.len() as f64);
        metrics::gauge!("paifang_center_online_count").set(presence.players.online() as f64);
        metrics::gauge!("paifang_center_homeless_count").set(presence.players.homeless() as f64);
        metrics::gauge!("paifang_center_lines_count").set(presence.lines.open() as f64);
        self.relations.retain(|player| presence.players.get(player).is_some());
    }
}

/// The end of a sanction as presence keeps it: without end is the farthest time.
pub(crate) fn until(until_ms: i64) -> i64 {
    if until_ms == 0 { i64::MAX } else { until_ms }
}
