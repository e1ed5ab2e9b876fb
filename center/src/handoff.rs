//! From scene to scene: which scene takes a player that wants to go to a map, and what follows when dc has recorded the handoff.

use std::sync::Arc;

use proto::{
    ids::{AccountId, PlayerId},
    internal::{CallFault, CallFaultCode, Done, LinePick, LinePicked, PlayerHanded, ProfileFind},
};
use service::link::fault;
use tokio::time::Instant;

use crate::{
    center::{Center, now_ms, unavailable},
    enter::refused,
    presence::{
        Run,
        enter::{EnterRefused, Handed, unknown_player},
        lines::Wish,
        players::Player,
    },
};

impl Center {
    /// Which scene and line takes a player that wants to go to this map?
    pub(crate) fn on_line_pick(self: &Arc<Self>, call: &LinePick) -> Result<LinePicked, CallFault> {
        self.open()?;
        let wish = Wish { player: PlayerId(call.player), keep: call.line, before: 0 };
        let picked = self.presence().pick(&call.map, wish);
        let (scene, line) = picked.map_err(|why| refused(EnterRefused::NoLine(why)))?;
        Ok(LinePicked { scene: scene.to_string(), line })
    }

    /// A scene has given a player up to another, or moved it between its own lines.
    pub(crate) async fn on_handed(self: &Arc<Self>, call: PlayerHanded, source: Run) -> Result<Done, CallFault> {
        self.trader_moved(PlayerId(call.player));
        let _held = self.hold(AccountId(call.account)).await?;
        if !self.is_rebuilt() {
            return Err(unavailable("center is still learning who is online"));
        }
        if call.scene.parse::<Run>().is_err() {
            return Err(fault(CallFaultCode::CallInvalid, format!("`{}` is no run of a scene", call.scene)));
        }
        let known = self.known(&call, &source).await?;
        let handed = self.presence().handed(&call, &source, known, now_ms(), Instant::now());
        match handed {
            Handed::Done(actions) => self.act(actions),
            Handed::Enter(plan) => {
                // A player whom the target does not take is homeless now, and center's affair: the source has done its part.
                if let Err(fault) = self.carry_out(&plan).await {
                    tracing::info!(player = call.player, scene = call.scene, "the target did not take the player: {}", fault.text);
                }
            }
        }
        Ok(Done {})
    }

    async fn known(&self, call: &PlayerHanded, source: &Run) -> Result<Player, CallFault> {
        let known = self.presence().players.get(PlayerId(call.player)).cloned();
        if let Some(known) = known {
            return Ok(known);
        }
        let find = ProfileFind { name: String::new(), player: call.player };
        let profile = self.dc(&find).await.map_err(|err| unavailable(format!("dc does not say who the player is: {err}")))?;
        let level = profile.record.map_or(1, |record| record.level);
        Ok(unknown_player(call, source, profile.name, level))
    }
}
