//! What arrives on links, handed to the part that it is for. Whatever waits for others is spawned.

use std::sync::Arc;

use proto::{
    ids::{PlayerId, SessionId},
    internal::{
        GateReport, LinePick, MailNotice, PlayerEnter, PlayerHanded, PlayerLeft, PlayerLevel, SceneReport, SessionBack, SessionClaim,
        SessionEnded, SessionLost, SessionOpened, SessionResume,
    },
    link::{Call, FORWARD, LinkFrame, Notice},
};
use service::{Handler, IncomingCall, Link, ProcessKind};
use tokio::time::Instant;

use crate::{
    center::{Center, unavailable},
    presence::Run,
    rehome::RETRY_AFTER,
};

/// Takes what arrives on the links of a center.
pub(crate) struct LinkHandler(Arc<Center>);

impl LinkHandler {
    pub(crate) fn new(center: Arc<Center>) -> Self {
        Self(center)
    }

    /// Answers a call whose answer takes others. UNAVAILABLE when too much is under way.
    fn spawn_answer<C, F>(&self, call: IncomingCall, carry_out: impl FnOnce(Arc<Center>, C) -> F)
    where
        C: Call,
        F: Future<Output = Result<C::Answer, proto::internal::CallFault>> + Send + 'static,
    {
        let parsed = match call.parse::<C>() {
            Ok(parsed) => parsed,
            Err(fault) => return call.answer::<C>(Err(fault)),
        };
        let answer = carry_out(self.0.clone(), parsed);
        // The call is answered by whoever takes it out of here: the task, or this function when there is no room for a task.
        let slot = Arc::new(std::sync::Mutex::new(Some(call)));
        let in_task = slot.clone();
        let spawned = self.0.spawn_request(C::NAME, async move {
            let answer = answer.await;
            if let Some(call) = in_task.lock().expect("no holder panics").take() {
                call.answer::<C>(answer);
            }
        });
        if !spawned && let Some(call) = slot.lock().expect("no holder panics").take() {
            call.answer::<C>(Err(unavailable("center is busy")));
        }
    }

    fn answer_now<C: Call>(
        &self,
        call: IncomingCall,
        carry_out: impl FnOnce(&Arc<Center>, &C) -> Result<C::Answer, proto::internal::CallFault>,
    ) {
        let answer = call.parse::<C>().and_then(|parsed| carry_out(&self.0, &parsed));
        call.answer::<C>(answer);
    }

    fn on_notice(&self, link: &Link, frame: &LinkFrame) -> Result<(), prost::DecodeError> {
        let center = &self.0;
        let peer = link.peer();
        let session = SessionId(frame.id);
        match (peer.kind, frame.kind) {
            (ProcessKind::Gate, SessionOpened::KIND) => center.presence().session_opened(&Run::of(peer), session),
            (ProcessKind::Gate, SessionBack::KIND) => center.on_session_back(&peer.id, session, &read::<SessionBack>(frame)?),
            (ProcessKind::Gate, SessionLost::KIND) => center.presence().session_lost(&peer.id, session, Instant::now()),
            (ProcessKind::Gate, SessionEnded::KIND) => {
                let actions = center.presence().session_ended(&peer.id, session);
                center.act(actions);
                center.note_gone();
            }
            (ProcessKind::Gate, GateReport::KIND) => center.on_gate_report(link, read::<GateReport>(frame)?),
            (ProcessKind::Scene, SceneReport::KIND) => center.on_scene_report(link, read::<SceneReport>(frame)?),
            (ProcessKind::Scene, PlayerLeft::KIND) => {
                let left = read::<PlayerLeft>(frame)?;
                tracing::debug!(player = left.player, reason = left.reason, "player left the world");
                let now = Instant::now();
                let actions = center.presence().player_left(&Run::of(peer), PlayerId(left.player), now, now + RETRY_AFTER);
                center.act(actions);
                center.note_gone();
            }
            (ProcessKind::Scene, PlayerLevel::KIND) => {
                let rose = read::<PlayerLevel>(frame)?;
                center.presence().player_level(&Run::of(peer), PlayerId(rose.player), rose.level);
            }
            (ProcessKind::Scene, MailNotice::KIND) => center.mail_arrived(read::<MailNotice>(frame)?),
            (kind, number) => tracing::warn!(peer = %peer.id, "passed over {number:#06x}, which a {kind} does not send to center"),
        }
        Ok(())
    }
}

impl Handler for LinkHandler {
    async fn on_up(&self, link: &Link) {
        self.0.peer_up(link);
    }

    async fn on_down(&self, link: &Link) {
        self.0.peer_down(link);
    }

    async fn on_frame(&self, link: &Link, frame: LinkFrame) {
        if frame.kind == FORWARD && link.peer().kind == ProcessKind::Gate {
            self.0.on_client(link, SessionId(frame.id), frame.body);
        } else if let Err(err) = self.on_notice(link, &frame) {
            tracing::warn!(peer = %link.peer().id, "passed over a malformed {:#06x}: {err}", frame.kind);
        }
    }

    async fn on_call(&self, link: &Link, call: IncomingCall) {
        let peer = link.peer();
        match (peer.kind, call.kind) {
            (ProcessKind::Login, SessionClaim::KIND) => self.answer_now::<SessionClaim>(call, Center::on_claim),
            (ProcessKind::Login, PlayerEnter::KIND) => {
                self.spawn_answer(call, |center, call: PlayerEnter| async move { center.on_enter(call).await });
            }
            (ProcessKind::Gate, SessionResume::KIND) => {
                let gate = Run::of(peer);
                self.spawn_answer(call, |center, call: SessionResume| async move { center.on_resume(call, gate).await });
            }
            (ProcessKind::Scene, LinePick::KIND) => self.answer_now::<LinePick>(call, Center::on_line_pick),
            (ProcessKind::Scene, PlayerHanded::KIND) => {
                let source = Run::of(peer);
                self.spawn_answer(call, |center, call: PlayerHanded| async move { center.on_handed(call, source).await });
            }
            _ => call.unknown(),
        }
    }
}

fn read<N: Notice>(frame: &LinkFrame) -> Result<N, prost::DecodeError> {
    N::decode(frame.body.clone())
}
