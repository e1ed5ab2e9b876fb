//! Trade between two players, wherever they are. Center brings them together, has both scenes hold their player, and has dc commit both
//! records as one unit. It keeps nothing that anybody depends on: should it end at any moment, the scenes find out from dc what became
//! of the unit.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use proto::{
    client::{Fault, FaultCode, Goods, TradeCancel, TradeConfirm, TradeEnded, TradeOpen, TradeSet},
    ids::PlayerId,
    internal::{
        CallFaultCode, Commit, CommitUnit, Committed, Durability, GoodsLook, PlayerSave, TradeOutcome, TradePrepare, TradeSettle, UnitFind,
    },
};
use service::CallError;
use tokio::time::{Instant, sleep, timeout};

use crate::{
    center::{Center, SCENE_WITHIN},
    client::dc_fault,
    presence::{Run, Speaker, players::State},
    relations::is_blocked,
    trades::{Refused, Side, Trade, TradeId},
};

/// Items that one of the two may give.
const ITEMS_MAX: usize = 24;
/// How long dc may take to commit a trade. Three times this and the pauses are less than a scene waits to hear of it.
const COMMIT_WITHIN: Duration = Duration::from_secs(3);
/// Times a trade is sent to dc, and its outcome to a scene.
const TRIES: u32 = 3;
/// Pause before the next try.
const RETRY_PAUSE: Duration = Duration::from_millis(300);

impl Center {
    pub(crate) async fn trade_open(self: &Arc<Self>, speaker: &Speaker, seq: u32, open: TradeOpen) -> Result<(), Fault> {
        let id = trade_id(&open.id)?;
        let other = self.presence().players.named(&open.with).map(|other| (other.player, other.name.clone(), other.online));
        let Some((other, name, true)) = other else {
            return Err(Fault::new(FaultCode::NotFound, format!("{} is not online", open.with)));
        };
        if other == speaker.player {
            return Err(Fault::new(FaultCode::Invalid, "you can't trade with yourself"));
        }
        let relations = self.relations(speaker.player).await.map_err(|err| dc_fault(&err))?;
        if is_blocked(&relations, other) {
            return Err(Fault::new(FaultCode::Blocked, format!("you can't trade with {name}")));
        }
        if self.dc(&UnitFind { id: open.id }).await.map_err(|err| dc_fault(&err))?.applied {
            return Err(Fault::new(FaultCode::Invalid, "a trade of this id has taken place"));
        }
        for player in [speaker.player, other] {
            self.goods(player, 0, Vec::new()).await?;
        }
        let sides = [(speaker.player, speaker.name.clone()), (other, name)];
        let trade = self.trades().open(id, sides, Instant::now()).map_err(|why| refused(speaker, why))?;
        self.show_trade(speaker, seq, &trade);
        metrics::counter!("paifang_center_trades_opened_total").increment(1);
        Ok(())
    }

    pub(crate) async fn trade_set(self: &Arc<Self>, speaker: &Speaker, seq: u32, set: TradeSet) -> Result<(), Fault> {
        let id = trade_id(&set.id)?;
        if ITEMS_MAX < set.items.len() {
            return Err(Fault::new(FaultCode::Invalid, format!("{ITEMS_MAX} items at the most")));
        }
        self.trades().opened(speaker.player, id).map_err(|why| refused(speaker, why))?;
        let goods = self.goods(speaker.player, set.coins, set.items).await?;
        let trade = self.trades().set(speaker.player, id, goods, Instant::now()).map_err(|why| refused(speaker, why))?;
        self.show_trade(speaker, seq, &trade);
        Ok(())
    }

    pub(crate) fn trade_confirm(self: &Arc<Self>, speaker: &Speaker, seq: u32, confirm: &TradeConfirm) -> Result<(), Fault> {
        let id = trade_id(&confirm.id)?;
        let trade = self.trades().confirm(speaker.player, id, confirm.revision, Instant::now()).map_err(|why| refused(speaker, why))?;
        self.show_trade(speaker, seq, &trade);
        if trade.settling {
            let center = self.clone();
            if !self.spawn_request("trade", async move { center.settle(&trade).await }) {
                self.end_trade(id, FaultCode::Busy, "center is busy");
            }
        }
        Ok(())
    }

    pub(crate) fn trade_cancel(self: &Arc<Self>, speaker: &Speaker, seq: u32, cancel: &TradeCancel) -> Result<(), Fault> {
        let id = trade_id(&cancel.id)?;
        let mut trades = self.trades();
        trades.opened(speaker.player, id).map_err(|why| refused(speaker, why))?;
        let ended = trades.end(id);
        drop(trades);
        if let Some(trade) = ended {
            let text = format!("{} has cancelled the trade", speaker.name);
            let ended = TradeEnded { id: cancel.id.clone(), code: FaultCode::Unspecified.into(), text };
            for side in &trade.sides {
                let seq = if side.player == speaker.player { seq } else { 0 };
                self.tell_player(side.player, seq, &ended);
            }
        }
        Ok(())
    }

    /// A player is on its way elsewhere: its open trade is over.
    pub(crate) fn trader_moved(self: &Arc<Self>, player: PlayerId) {
        let ended = self.trades().leave(player);
        self.tell_ended(ended, FaultCode::NotNow, "one of you has gone to another place");
    }

    /// A player is back at another gate, with a client that may have missed what was said of its open trade: that is over.
    pub(crate) fn trader_resumed_elsewhere(self: &Arc<Self>, player: PlayerId) {
        let ended = self.trades().leave(player);
        self.tell_ended(ended, FaultCode::NotNow, "one of you had lost the connection");
    }

    /// Ends open trades of players who are not in the world any more, and those in which nothing has changed for long.
    pub(crate) fn end_stale_trades(self: &Arc<Self>) {
        let presence = self.presence();
        let gone = |player| presence.players.get(player).is_none_or(|player| !player.online || player.state != State::InWorld);
        let stale = self.trades().end_if(gone);
        drop(presence);
        for trade in stale {
            self.tell_ended(Some(trade), FaultCode::NotFound, "one of you has left the world");
        }
        let idle = self.trades().end_idle(Instant::now());
        for trade in idle {
            self.tell_ended(Some(trade), FaultCode::NotNow, "nobody has said anything to this trade for two minutes");
        }
    }

    /// What a player would give, as its scene describes it.
    async fn goods(&self, player: PlayerId, coins: u64, items: Vec<Bytes>) -> Result<Goods, Fault> {
        let scene = self.scene_of(player)?;
        match self.scene(&scene, &GoodsLook { player: player.0, coins, items }, SCENE_WITHIN).await {
            Ok(seen) => Ok(seen.goods.unwrap_or_default()),
            Err(CallError::Refused(said)) if said.code() == CallFaultCode::CallInvalid => Err(Fault::new(FaultCode::NotNow, said.text)),
            Err(err) => {
                tracing::debug!(%player, "failed to look at goods: {err}");
                Err(moving())
            }
        }
    }

    fn scene_of(&self, player: PlayerId) -> Result<Run, Fault> {
        let presence = self.presence();
        let there = presence.players.get(player).filter(|player| player.online && player.state == State::InWorld);
        there.map(|player| player.place.scene.clone()).ok_or_else(moving)
    }

    /// Both have confirmed.
    async fn settle(self: &Arc<Self>, trade: &Trade) {
        let [one, two] = &trade.sides;
        let scenes = [one, two].map(|side| self.scene_of(side.player));
        let (outcome, why) = match &scenes {
            [Ok(first), Ok(second)] => {
                let (first, second) = tokio::join!(self.hold_trader(trade, first, one, two), self.hold_trader(trade, second, two, one));
                match (first, second) {
                    (Ok(first), Ok(second)) => self.commit_trade(trade.id, vec![first, second]).await,
                    (Err(why), _) | (_, Err(why)) => (TradeOutcome::TradeNotApplied, why.text),
                }
            }
            [Err(why), _] | [_, Err(why)] => (TradeOutcome::TradeNotApplied, why.text.clone()),
        };
        metrics::counter!("paifang_center_trades_total", "outcome" => outcome.as_str_name()).increment(1);
        for (side, scene) in trade.sides.iter().zip(&scenes) {
            if let Ok(scene) = scene {
                self.tell_outcome(scene, TradeSettle { id: trade.id.to_vec().into(), player: side.player.0, outcome: outcome.into() });
            }
        }
        match outcome {
            TradeOutcome::TradeNotApplied => self.end_trade(trade.id, FaultCode::NotNow, &why),
            // The scenes tell their clients.
            TradeOutcome::TradeApplied | TradeOutcome::TradeUnknown => drop(self.trades().end(trade.id)),
        }
    }

    async fn hold_trader(&self, trade: &Trade, scene: &Run, side: &Side, other: &Side) -> Result<PlayerSave, Fault> {
        let prepare = TradePrepare {
            id: trade.id.to_vec().into(),
            player: side.player.0,
            other: other.player.0,
            gives: Some(side.goods.clone()),
            gets: Some(other.goods.clone()),
        };
        match self.scene(scene, &prepare, SCENE_WITHIN).await {
            Ok(prepared) => prepared.save.ok_or_else(moving),
            Err(CallError::Refused(said)) => Err(Fault::new(FaultCode::NotNow, format!("{}: {}", side.name, said.text))),
            Err(err) => {
                tracing::warn!(player = %side.player, %scene, "failed to have a player held for a trade: {err}");
                Err(moving())
            }
        }
    }

    /// Has dc commit both. What is not known is not asked for further: the scenes do that.
    async fn commit_trade(&self, id: TradeId, saves: Vec<PlayerSave>) -> (TradeOutcome, String) {
        let unit = CommitUnit { id: id.to_vec().into(), saves, ..CommitUnit::default() };
        let commit = Commit { units: vec![unit], durability: Durability::D2.into() };
        let mut attempts = Attempts::default();
        for attempt in 1..=TRIES {
            let answer = timeout(COMMIT_WITHIN, self.dc(&commit)).await.ok().and_then(Result::ok);
            if let Some(known) = attempts.heard(answer) {
                return known;
            }
            if attempt < TRIES {
                sleep(RETRY_PAUSE).await;
            }
        }
        (TradeOutcome::TradeUnknown, String::new())
    }

    fn tell_outcome(self: &Arc<Self>, scene: &Run, settle: TradeSettle) {
        let (center, scene) = (self.clone(), scene.clone());
        self.spawn("trade outcome", async move {
            for _ in 0..TRIES {
                match center.scene(&scene, &settle, SCENE_WITHIN).await {
                    Err(err) if err.is_transient() => sleep(RETRY_PAUSE).await,
                    // Not found: it has asked dc by itself.
                    Ok(_) | Err(_) => return,
                }
            }
        });
    }

    fn end_trade(&self, id: TradeId, code: FaultCode, text: &str) {
        let ended = self.trades().end(id);
        self.tell_ended(ended, code, text);
    }

    fn tell_ended(&self, ended: Option<Trade>, code: FaultCode, text: &str) {
        let Some(trade) = ended else { return };
        let ended = TradeEnded { id: trade.id.to_vec().into(), code: code.into(), text: text.into() };
        for side in &trade.sides {
            self.tell_player(side.player, 0, &ended);
        }
    }

    fn show_trade(&self, speaker: &Speaker, seq: u32, trade: &Trade) {
        for side in &trade.sides {
            let seq = if side.player == speaker.player { seq } else { 0 };
            self.tell_player(side.player, seq, &trade.seen_by(side.player));
        }
    }

    /// Sends a message to a player's client, if it is online.
    pub(crate) fn tell_player<M: proto::ClientMessage>(&self, player: PlayerId, seq: u32, message: &M) {
        let route = self.presence().route(player);
        if let Some((gate, session)) = route {
            self.tell(&gate, session, seq, message);
        }
    }
}

/// What follows from the answers of dc to one commit that is sent again and again.
#[derive(Debug, Default)]
struct Attempts {
    /// An earlier one may have been carried out, or may yet be.
    unknown: bool,
}

impl Attempts {
    /// Takes an answer; none: there was none. Some: nothing more is to be asked.
    fn heard(&mut self, answer: Option<Committed>) -> Option<(TradeOutcome, String)> {
        let safe = answer.as_ref().is_some_and(|answer| answer.durability() == Durability::D2);
        let result = answer.and_then(|answer| answer.units.into_iter().next());
        match result.map(|result| (result.refused(), result.text)) {
            Some((CallFaultCode::Unspecified, _)) if safe => Some((TradeOutcome::TradeApplied, String::new())),
            Some((CallFaultCode::Unspecified, _)) | None => {
                self.unknown = true;
                None
            }
            Some((_, text)) if !self.unknown => {
                tracing::info!(text, "dc does not take a trade");
                Some((TradeOutcome::TradeNotApplied, "the trade could not be done".into()))
            }
            Some(_) => Some((TradeOutcome::TradeUnknown, String::new())),
        }
    }
}

fn trade_id(bytes: &[u8]) -> Result<TradeId, Fault> {
    bytes.try_into().map_err(|_| Fault::new(FaultCode::Invalid, "a trade's id has 16 bytes"))
}

fn moving() -> Fault {
    Fault::retry(FaultCode::NotNow, "one of you is on the way elsewhere", 1_000)
}

fn refused(speaker: &Speaker, why: Refused) -> Fault {
    match why {
        Refused::Busy(player) if player == speaker.player => Fault::new(FaultCode::NotNow, "you are trading already"),
        Refused::Busy(_) => Fault::new(FaultCode::NotNow, "the other is trading already"),
        Refused::NoTrade => Fault::new(FaultCode::NotFound, "you have no such trade: it never was, or it is over"),
        Refused::Settling => Fault::new(FaultCode::NotNow, "both have confirmed"),
        Refused::Outdated => Fault::new(FaultCode::NotNow, "what is offered has changed; look again"),
        Refused::Empty => Fault::new(FaultCode::Invalid, "nobody gives anything"),
    }
}

#[cfg(test)]
mod tests {
    use proto::internal::UnitResult;

    use super::*;

    fn answer(refused: CallFaultCode) -> Option<Committed> {
        let units = vec![UnitResult { refused: refused.into(), text: String::new() }];
        Some(Committed { units, durability: Durability::D2.into() })
    }

    fn outcome(attempts: &mut Attempts, answer: Option<Committed>) -> Option<TradeOutcome> {
        attempts.heard(answer).map(|(outcome, _)| outcome)
    }

    #[test]
    fn a_refusal_counts_only_when_nothing_else_is_under_way() {
        let refusal = || answer(CallFaultCode::CallStaleVersion);
        assert_eq!(outcome(&mut Attempts::default(), refusal()), Some(TradeOutcome::TradeNotApplied));
        let mut attempts = Attempts::default();
        assert_eq!(outcome(&mut attempts, None), None);
        assert_eq!(outcome(&mut attempts, refusal()), Some(TradeOutcome::TradeUnknown));
        assert_eq!(outcome(&mut attempts, answer(CallFaultCode::Unspecified)), Some(TradeOutcome::TradeApplied));
    }

    #[test]
    fn what_is_not_synced_is_not_done() {
        let unsafe_yet = answer(CallFaultCode::Unspecified).map(|answer| Committed { durability: Durability::D0.into(), ..answer });
        assert_eq!(outcome(&mut Attempts::default(), unsafe_yet), None);
    }
}
