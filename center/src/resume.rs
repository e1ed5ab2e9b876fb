//! A session comes back at another gate than it left, or at the same one started anew, with a ticket that the gate has checked.

use std::sync::Arc;

use proto::{
    ids::{AccountId, SessionId},
    internal::{CallFault, CallFaultCode, SessionBack, SessionResume, SessionResumed},
};
use service::{ProcessId, link::fault};

use crate::{
    center::{Center, now_ms, unavailable},
    enter::refused,
    presence::{Action, NonceRefused, Run, players::State},
};

impl Center {
    /// Moves a session to the gate that asks.
    pub(crate) async fn on_resume(self: &Arc<Self>, call: SessionResume, gate: Run) -> Result<SessionResumed, CallFault> {
        let _held = self.hold(AccountId(call.account)).await?;
        self.open()?;
        self.admit(&call)?;
        let resumed = self.move_session(&call, gate).await;
        let outcome = if resumed.is_ok() { "ok" } else { "refused" };
        metrics::counter!("paifang_center_resumes_total", "outcome" => outcome).increment(1);
        if resumed.as_ref().is_err_and(|fault| fault.code() == CallFaultCode::CallUnavailable) {
            self.presence().give_nonce_back(&call.nonce);
        }
        resumed
    }

    /// The socket is back at its own gate. The ticket that did it is used up for every other gate too.
    pub(crate) fn on_session_back(&self, gate: &ProcessId, session: SessionId, back: &SessionBack) {
        let mut presence = self.presence();
        presence.session_back(gate, session);
        if let Err(why) = presence.use_nonce(&back.nonce, back.expires_ms, now_ms()) {
            tracing::debug!(%session, ?why, "a used ticket is not remembered");
        }
    }

    fn admit(&self, call: &SessionResume) -> Result<(), CallFault> {
        let mut presence = self.presence();
        let live = presence.live(AccountId(call.account), SessionId(call.session)).map_err(refused)?;
        if live.epoch.0 != call.session_epoch {
            return Err(fault(CallFaultCode::CallReplaced, "the ticket is of an earlier login"));
        }
        presence.use_nonce(&call.nonce, call.expires_ms, now_ms()).map_err(|why| match why {
            NonceRefused::Used => fault(CallFaultCode::CallTicketUsed, "the ticket was used before"),
            NonceRefused::Expired => fault(CallFaultCode::CallNotFound, "the ticket has expired"),
            NonceRefused::Full => unavailable("too many sessions are being resumed"),
        })
    }

    async fn move_session(self: &Arc<Self>, call: &SessionResume, gate: Run) -> Result<SessionResumed, CallFault> {
        let (account, session) = (AccountId(call.account), SessionId(call.session));
        let bound = {
            let mut presence = self.presence();
            let of_account = presence.players.of_account(account);
            let bound = of_account.filter(|player| player.session == session).map(|player| (player.player, player.state)).next();
            bound.map(|(player, state)| (player, state, presence.rebind(player, &gate, now_ms())))
        };
        if let Some((_, _, Some(plan))) = &bound {
            self.carry_out(plan).await?;
        }
        let (account_name, actions) = {
            let mut presence = self.presence();
            let account_name = presence.live(account, session).map_err(refused)?.account_name.clone();
            let mut actions = presence.session_moved(session, gate.clone(), &call.address);
            if bound.is_some() {
                actions.push(Action::JoinZone { gate: gate.id, session });
            }
            if matches!(bound, Some((_, State::Homeless { .. }, _))) {
                actions.push(Action::Rehome);
            }
            (account_name, actions)
        };
        self.act(actions);
        if let Some((player, ..)) = &bound {
            self.trader_resumed_elsewhere(*player);
        }
        Ok(SessionResumed { account_name, player: bound.map_or(0, |(player, ..)| player.0) })
    }
}
