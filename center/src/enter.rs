//! Into the world: an account claims its one live session, then one of its players enters (steps 5 to 8 of a login).
//!
//! Enters, resumes and handoffs of one account hold its lock and come one after another. A claim waits for nobody: it makes the new
//! session the live one at once, and an enter of the older session that is under way ends as REPLACED.

use std::sync::Arc;

use proto::{
    event::{LoginStep, event::Body},
    ids::{AccountId, PlayerId, SessionId},
    internal::{CallFault, CallFaultCode, PlayerEnter, PlayerEntered, SceneEntered, SessionClaim, SessionClaimed},
};
use service::{CallError, events::Subject, link::fault};
use tokio::time::Instant;

use crate::{
    center::{Center, ENTER_WITHIN, now_ms, unavailable},
    keyed::Held,
    presence::{
        enter::{Arrival, EnterRefused, Plan},
        lines::NoLine,
    },
    rehome::RETRY_AFTER,
};

impl Center {
    /// The account's live session is this one from now on.
    pub(crate) fn on_claim(self: &Arc<Self>, call: &SessionClaim) -> Result<SessionClaimed, CallFault> {
        self.open()?;
        if call.session == 0 || call.account == 0 {
            return Err(fault(CallFaultCode::CallInvalid, "a claim names a session and an account"));
        }
        if !self.presence().has_room(call, self.process.zone.players.online_max) {
            return Err(fault(CallFaultCode::CallZoneFull, "the zone is full"));
        }
        let (epoch, actions) = self.presence().claim(call, now_ms(), Instant::now());
        metrics::counter!("paifang_center_claims_total").increment(1);
        self.act(actions);
        Ok(SessionClaimed { session_epoch: epoch.0 })
    }

    /// Brings a player into the world.
    pub(crate) async fn on_enter(self: &Arc<Self>, call: PlayerEnter) -> Result<PlayerEntered, CallFault> {
        let entered = self.enter(&call).await;
        let outcome = if entered.is_ok() { "ok" } else { "refused" };
        metrics::counter!("paifang_center_enters_total", "outcome" => outcome).increment(1);
        entered
    }

    async fn enter(self: &Arc<Self>, call: &PlayerEnter) -> Result<PlayerEntered, CallFault> {
        let (account, player, session) = (AccountId(call.account), PlayerId(call.player), SessionId(call.session));
        let started = Instant::now();
        let _held = self.hold(account).await?;
        self.open()?;
        self.presence().live(account, session).map_err(refused)?;
        self.send_out_others(account, player).await?;
        let plan = self.presence().enter(call, now_ms());
        let plan = match plan {
            Ok(plan) => plan,
            Err(why) => {
                let why = refused(why);
                self.login_step(call, 6, false, why.text.clone(), started);
                return Err(why);
            }
        };
        self.login_step(call, 6, true, format!("{} {}/{}", plan.scene.id, plan.request.map, plan.request.line), started);
        let entered = self.carry_out(&plan).await;
        let detail = entered.as_ref().err().map(|fault| fault.text.clone()).unwrap_or_default();
        self.login_step(call, 8, entered.is_ok(), detail, started);
        let entered = entered?;
        Ok(PlayerEntered { scene: plan.scene.to_string(), map: entered.map, line: entered.line })
    }

    /// Holds an account: nobody else changes where its players are meanwhile.
    pub(crate) async fn hold(&self, account: AccountId) -> Result<Held, CallFault> {
        self.accounts.hold(account.0).await.ok_or_else(|| unavailable("too much of this account waits already"))
    }

    /// Asks the scene of a plan to take the player, and settles in presence what came of it.
    pub(crate) async fn carry_out(self: &Arc<Self>, plan: &Plan) -> Result<SceneEntered, CallFault> {
        let answer = self.scene(&plan.scene, &plan.request, ENTER_WITHIN).await;
        match answer {
            Ok(entered) => {
                let arrival = self.presence().arrived(plan, &entered, Instant::now());
                match arrival {
                    Arrival::Here(actions) => {
                        self.act(actions);
                        Ok(entered)
                    }
                    Arrival::Void(actions) => {
                        self.act(actions);
                        self.give_back(plan).await;
                        Err(refused(EnterRefused::Replaced))
                    }
                }
            }
            Err(err) => {
                let unknown = !matches!(err, CallError::Refused(_) | CallError::NoLink(_));
                let now = Instant::now();
                let actions = self.presence().not_arrived(plan, unknown, now, now + RETRY_AFTER);
                self.act(actions);
                tracing::debug!(player = %plan.player, scene = %plan.scene, "the scene did not take the player: {err}");
                Err(scene_fault(err))
            }
        }
    }

    async fn give_back(self: &Arc<Self>, plan: &Plan) {
        if let Err(err) = self.leave(&plan.scene, plan.player, "the session was replaced").await {
            tracing::warn!(player = %plan.player, scene = %plan.scene, "failed to take back an enter: {err}");
        }
    }

    /// One player of an account is in the world at a time.
    async fn send_out_others(self: &Arc<Self>, account: AccountId, player: PlayerId) -> Result<(), CallFault> {
        let others = self.presence().others(account, player);
        for (other, scene) in others {
            match self.leave(&scene, other, "another role of the account enters").await {
                Ok(()) => (),
                // Should the scene only be cut off and come back with the player, its report is contradicted then.
                Err(CallError::NoLink(_) | CallError::Down(..)) => (),
                Err(err) => return Err(scene_fault(err)),
            }
            let actions = self.presence().drop_player(other);
            self.act(actions);
        }
        Ok(())
    }

    fn login_step(&self, call: &PlayerEnter, step: u32, ok: bool, detail: String, started: Instant) {
        let account_name = self.presence().sessions.get(AccountId(call.account)).map(|live| live.account_name.clone()).unwrap_or_default();
        let subject = Subject {
            account: call.account,
            player: call.player,
            player_name: call.name.clone(),
            session: call.session,
            map: call.map.clone(),
            line: call.line,
        };
        let took_us = u32::try_from(started.elapsed().as_micros()).unwrap_or(u32::MAX);
        self.process.events.emit(&subject, Body::LoginStep(LoginStep { step, ok, detail, took_us, account_name }));
    }
}

/// What the caller of an enter is told.
pub(crate) fn refused(why: EnterRefused) -> CallFault {
    match why {
        EnterRefused::Replaced => fault(CallFaultCode::CallReplaced, "a newer session of the account took over"),
        EnterRefused::NoSession => fault(CallFaultCode::CallNotFound, "the account has no live session"),
        EnterRefused::NoLine(NoLine::Away) => unavailable("no scene that hosts the map is here now"),
        EnterRefused::NoLine(NoLine::Full) => fault(CallFaultCode::CallNoLine, "all lines of the map are full"),
    }
}

/// What the caller is told when a scene did not do it: its own words where it decided, else that it can't be reached.
fn scene_fault(err: CallError) -> CallFault {
    match err {
        CallError::Refused(said) => match said.code() {
            CallFaultCode::CallNoLine | CallFaultCode::CallInvalid | CallFaultCode::CallNotFound => said,
            _ => unavailable(said.text),
        },
        err => unavailable(format!("the scene does not answer: {err}")),
    }
}
