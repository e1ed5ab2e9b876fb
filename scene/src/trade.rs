//! A player's side of a trade. Center knows both sides and has dc commit them as one unit; see [`crate::deal`] for how each ends.

use std::time::Duration;

use proto::{
    Frame,
    client::{Fault, TradeSettled},
    ids::{ItemId, PlayerId},
    internal::{CallFault, CallFaultCode, Done, GoodsLook, GoodsSeen, TradeOutcome, TradePrepare, TradePrepared, TradeSettle},
};
use service::link::fault;
use tokio::time::timeout;

use crate::{
    deal::{DealId, Verdict},
    scene::Scene,
    world::{Cause, Deal, Goods},
};

/// How long a held player waits to hear of its trade before dc is asked: longer than center tries.
const VERDICT_WITHIN: Duration = Duration::from_secs(12);

impl Scene {
    /// What a player would give.
    ///
    /// # Errors
    /// With the answer to center.
    pub(crate) async fn goods_look(&self, call: GoodsLook) -> Result<GoodsSeen, CallFault> {
        let seat = self.players().get(call.player).ok_or_else(not_here)?;
        let line = self.line(seat.line).ok_or_else(not_here)?;
        let items = call.items.iter().map(|id| ItemId::from_bytes(id)).collect::<Option<Vec<_>>>();
        let items = items.ok_or_else(|| fault(CallFaultCode::CallInvalid, "an item's id has 16 bytes"))?;
        let goods = line.look(PlayerId(call.player), call.coins, items).await.ok_or_else(not_here)?;
        Ok(GoodsSeen { goods: Some(goods.map_err(told)?.out()) })
    }

    /// Holds a player for a trade.
    ///
    /// # Errors
    /// With the answer to center.
    pub(crate) async fn trade_prepare(&self, call: TradePrepare) -> Result<TradePrepared, CallFault> {
        let malformed = || fault(CallFaultCode::CallInvalid, "malformed goods or id");
        let id = deal_id(&call.id).ok_or_else(malformed)?;
        let goods = |goods: &Option<proto::client::Goods>| Goods::of(goods.as_ref()?);
        let (Some(gives), Some(gets)) = (goods(&call.gives), goods(&call.gets)) else { return Err(malformed()) };
        let busy = || fault(CallFaultCode::CallUnavailable, "the player is held for this trade already");
        let verdict = self.deals().expect(id, call.player).ok_or_else(busy)?;
        let deal = Deal { cause: Cause::Trade, other: PlayerId(call.other), gives, gets };
        let held = match self.hold(call.player, deal).await {
            Ok(held) => held,
            Err(why) => {
                self.deals().forget(id, call.player);
                return Err(told(why));
            }
        };
        let save = held.save(self.run_name());
        let scene = self.clone();
        self.spawn_task("trade", async move {
            let verdict = match timeout(VERDICT_WITHIN, verdict).await {
                Ok(Ok(verdict)) => verdict,
                _ => Verdict::Unknown,
            };
            scene.deals().forget(id, held.player);
            let settled = |done| Some(Frame::encode(0, &TradeSettled { id: id.to_vec().into(), done }));
            let done = scene.end_deal(held, id, verdict, settled).await;
            metrics::counter!("paifang_scene_trades_total", "outcome" => if done { "done" } else { "undone" }).increment(1);
        });
        Ok(TradePrepared { save: Some(save) })
    }

    /// What became of a trade.
    ///
    /// # Errors
    /// NOT_FOUND when nobody is held for it.
    pub(crate) fn trade_settle(&self, call: &TradeSettle) -> Result<Done, CallFault> {
        let verdict = match call.outcome() {
            TradeOutcome::TradeApplied => Verdict::Applied,
            TradeOutcome::TradeNotApplied => Verdict::NotApplied,
            TradeOutcome::TradeUnknown => Verdict::Unknown,
        };
        let heard = deal_id(&call.id).is_some_and(|id| self.deals().tell(id, call.player, verdict));
        if heard { Ok(Done {}) } else { Err(fault(CallFaultCode::CallNotFound, "nobody is held for this trade")) }
    }
}

/// The id of a deal, which has 16 bytes.
pub(crate) fn deal_id(bytes: &[u8]) -> Option<DealId> {
    bytes.try_into().ok()
}

fn told(fault_told: Fault) -> CallFault {
    fault(CallFaultCode::CallInvalid, fault_told.text)
}

fn not_here() -> CallFault {
    fault(CallFaultCode::CallNotFound, "the player is not here")
}
