//! What a command changes at gates and scenes, waited for: a GM who is told that it is done may rely on it. What did not answer in time
//! becomes a warning in the result.

use std::{sync::Arc, time::Duration};

use proto::{
    client::FaultCode,
    ids::{AccountId, PlayerId},
    internal::{CallFaultCode, SceneMute},
};
use tokio::time::timeout;

use crate::{
    center::{Center, SCENE_WITHIN, now_ms},
    presence::{Action, Presence, Run, players::State},
};

/// How long gates may take to say that sessions are over, and scenes to give their players up.
const GONE_WITHIN: Duration = Duration::from_secs(5);

/// What came of ending sessions.
#[derive(Debug)]
pub(super) struct Ended {
    /// How many there were.
    pub count: usize,
    /// Nobody has said in time that they are all over.
    unconfirmed: bool,
}

impl Ended {
    /// What the GM should know.
    pub(super) fn warning(&self) -> Option<String> {
        let text =
            || format!("not every gate and scene said within {GONE_WITHIN:?} that it is done; what they have to close may still be open");
        self.unconfirmed.then(text)
    }
}

/// Lets an account speak only after this time (0: now): here for what center passes on, at the scenes for what is said near by.
pub(super) async fn mute(center: &Center, account: AccountId, until_ms: i64) -> Option<String> {
    center.presence().mute(account, until_ms);
    // Whoever is brought in from here on is brought in muted; who is on the way since before is waited for.
    let Ok(Ok(_held)) = timeout(SCENE_WITHIN, center.hold(account)).await else {
        return Some("a player of the account is on its way into the world; what it says near by changes at its next enter".into());
    };
    let (until_ms, players) = {
        let presence = center.presence();
        (presence.muted_until(account, now_ms()), in_scenes(&presence, account))
    };
    let mut warnings = Vec::new();
    for (player, scene) in players {
        match center.scene(&scene, &SceneMute { player: player.0, until_ms }, SCENE_WITHIN).await {
            Ok(_) => (),
            // It left, or is between two scenes: the next one is told as it takes it.
            Err(err) if err.code() == Some(CallFaultCode::CallNotFound) => (),
            Err(err) => warnings.push(format!("{}: {err}; what player {player} says near by changes at its next enter", scene.id)),
        }
    }
    (!warnings.is_empty()).then(|| warnings.join("; "))
}

/// Ends the live sessions of these accounts.
pub(super) async fn end_sessions(center: &Arc<Center>, accounts: &[AccountId], code: FaultCode, text: &str) -> Ended {
    let (mut sessions, mut players) = (Vec::new(), Vec::new());
    for account in accounts {
        let Some(live) = center.presence().sessions.get(*account).cloned() else { continue };
        sessions.push(live.session);
        if center.link(&live.gate.id).is_some() {
            center.close_session(&live.gate.id, live.session, code, text.into());
            continue;
        }
        // Its gate is gone, so that nobody else ends it: neither the session nor what it left in the world may come back.
        let mut presence = center.presence();
        let mut actions = presence.session_forgotten(live.session);
        for (player, scene) in presence.others(*account, PlayerId(0)) {
            players.push(player);
            actions.push(Action::Leave { scene, player, reason: "its session was ended by a GM" });
        }
        drop(presence);
        center.act(actions);
    }
    let all_gone = |presence: &Presence| {
        sessions.iter().all(|session| presence.sessions.of(*session).is_none())
            && players.iter().all(|player| presence.players.get(*player).is_none())
    };
    let unconfirmed = !center.until_gone(GONE_WITHIN, all_gone).await;
    Ended { count: sessions.len(), unconfirmed }
}

/// Makes its scene give up a player whom nobody plays.
pub(super) async fn send_out(center: &Arc<Center>, player: PlayerId) -> Option<String> {
    let scene = center.presence().players.get(player).map(|known| known.place.scene.clone())?;
    let left = center.leave(&scene, player, "kicked").await;
    left.err().map(|err| format!("{}: {err}; the character may still be in the world", scene.id))
}

/// The players of an account that are in a scene.
fn in_scenes(presence: &Presence, account: AccountId) -> Vec<(PlayerId, Run)> {
    let there = presence.players.of_account(account).filter(|known| !matches!(known.state, State::Homeless { .. }));
    there.map(|known| (known.player, known.place.scene.clone())).collect()
}
