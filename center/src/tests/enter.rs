//! Claims, enters, resumes, handoffs and re-homing, as neighbours see them.

use proto::{
    Frame,
    client::{Fault, FaultCode, FriendList, Whisper, WorldChat},
    ids::{PlayerId, SessionId},
    internal::{
        CallFaultCode, Done, GateReport, LineReport, PlayerHanded, PlayerProfile, SceneEnter, SceneEntered, SceneLeave, SceneReport,
        SessionClose, SessionReport, SessionResume,
    },
    link::{DELIVER, GROUP_JOIN},
    record::PlayerRecord,
};
use service::ProcessKind;

use super::{Neighbour, WITHIN, Zone, report};
use crate::center::now_ms;

#[tokio::test]
async fn a_player_enters_the_line_it_left() {
    let mut zone = Zone::start().await;
    let epoch = zone.claims(1, 10).await;
    let (entered, asked) = zone.enters(1, 10).await;
    assert_eq!(entered.unwrap().scene, "scene-1/1");
    assert_eq!((asked.session, asked.session_epoch, asked.seq, asked.handed_epoch), (10, epoch, 5, 0));
    assert_eq!((asked.gate.as_str(), asked.map.as_str(), asked.line), ("gate-1", "meadow", 1));
    assert_eq!(zone.gate.next_frame().await.kind, GROUP_JOIN);
    assert_eq!(zone.center.status()["online"], 1);
}

#[tokio::test]
async fn a_second_login_ends_the_first_session_and_takes_the_player_over() {
    let mut zone = Zone::start().await;
    zone.player(1).await;
    zone.claims(1, 11).await;
    let (closed, why) = zone.gate.told::<SessionClose>().await;
    assert_eq!((closed, why.code()), (1, FaultCode::LoggedInElsewhere));
    let refused = zone.login.ask(&super::enter(1, 1)).await.unwrap_err();
    assert_eq!(refused.code(), Some(CallFaultCode::CallReplaced));
    let (entered, asked) = zone.enters(1, 11).await;
    assert_eq!((entered.unwrap().line, asked.session), (1, 11));
}

#[tokio::test]
async fn a_claim_during_an_enter_voids_it() {
    let mut zone = Zone::start().await;
    zone.claims(1, 10).await;
    let old = zone.login.center().await;
    let entering = tokio::spawn(async move { old.call(&super::enter(1, 10), WITHIN).await });
    let (asked, call) = zone.scene.asked::<SceneEnter>().await;
    zone.claims(1, 11).await;
    call.answer::<SceneEnter>(Ok(SceneEntered { map: asked.map, line: 1, level: 1, owner_epoch: 1 }));
    let (left, call) = zone.scene.asked::<SceneLeave>().await;
    assert_eq!(left.player, 1);
    call.answer::<SceneLeave>(Ok(Done {}));
    assert_eq!(entering.await.unwrap().unwrap_err().code(), Some(CallFaultCode::CallReplaced));
    assert_eq!(zone.center.status()["online"], 0);
}

#[tokio::test]
async fn enters_of_one_account_come_one_after_another() {
    let mut zone = Zone::start().await;
    zone.claims(1, 10).await;
    let link = zone.login.center().await;
    let other_role = proto::internal::PlayerEnter { player: 2, name: "Other".into(), ..super::enter(1, 10) };
    let again = link.clone();
    let first = tokio::spawn(async move { link.call(&super::enter(1, 10), WITHIN).await });
    let (asked, call) = zone.scene.asked::<SceneEnter>().await;
    let second = tokio::spawn(async move { again.call(&other_role, WITHIN).await });
    call.answer::<SceneEnter>(Ok(SceneEntered { map: asked.map, line: 1, level: 1, owner_epoch: 1 }));
    assert!(first.await.unwrap().is_ok());
    let (left, call) = zone.scene.asked::<SceneLeave>().await;
    assert_eq!(left.player, 1, "the first role leaves before the second enters");
    call.answer::<SceneLeave>(Ok(Done {}));
    assert_eq!(zone.scene.takes_player().await.player, 2);
    assert!(second.await.unwrap().is_ok());
}

#[tokio::test]
async fn a_ticket_moves_a_session_to_another_gate_once() {
    let mut zone = Zone::start().await;
    zone.player(1).await;
    let epoch = zone.center.presence().sessions.of(SessionId(1)).unwrap().epoch.0;
    let mut other = Neighbour::start("gate-2", ProcessKind::Gate, 1, "127.0.0.1:0", std::slice::from_ref(&zone.center_member)).await;
    other.tell(0, &GateReport::default()).await;
    let resume = SessionResume {
        session: 1,
        account: 1,
        session_epoch: epoch,
        nonce: b"nonce"[..].into(),
        expires_ms: now_ms() + 60_000,
        address: "8.8.8.8".into(),
    };
    let (resumed, asked) = tokio::join!(other.ask(&resume), zone.scene.takes_player());
    let resumed = resumed.unwrap();
    assert_eq!((resumed.player, resumed.account_name.as_str()), (1, "account1"));
    assert_eq!((asked.gate.as_str(), asked.session, asked.seq), ("gate-2", 1, 0));
    assert_eq!(other.next_frame().await.kind, GROUP_JOIN);
    assert_eq!(other.ask(&resume).await.unwrap_err().code(), Some(CallFaultCode::CallTicketUsed));
    let stale = SessionResume { session_epoch: epoch - 1, nonce: b"other"[..].into(), ..resume.clone() };
    assert_eq!(other.ask(&stale).await.unwrap_err().code(), Some(CallFaultCode::CallReplaced));
    let unknown = SessionResume { account: 99, nonce: b"third"[..].into(), ..resume };
    assert_eq!(other.ask(&unknown).await.unwrap_err().code(), Some(CallFaultCode::CallNotFound));
}

#[tokio::test]
async fn a_move_within_a_scene_only_changes_what_center_knows() {
    let mut zone = Zone::start().await;
    zone.player(1).await;
    let handed = PlayerHanded {
        player: 1,
        scene: "scene-1/1".into(),
        map: "town".into(),
        line: 1,
        owner_epoch: 1,
        session: 1,
        gate: "gate-1".into(),
        account: 1,
        ..PlayerHanded::default()
    };
    zone.scene.ask(&handed).await.unwrap();
    assert_eq!(zone.center.presence().players.get(PlayerId(1)).unwrap().place.map, "town");
}

#[tokio::test]
async fn players_of_a_dead_scene_are_re_homed_when_it_is_back() {
    let mut zone = Zone::start().await;
    zone.player(1).await;
    let address = zone.scene.links.local_addr().to_string();
    zone.scene.tasks.stop(WITHIN).await.unwrap();
    let asked = std::slice::from_ref(&zone.center_member);
    zone.scene = Neighbour::start("scene-1", ProcessKind::Scene, 2, &address, asked).await;
    zone.scene.tell(0, &report()).await;
    let asked = zone.scene.takes_player().await;
    assert_eq!((asked.player, asked.session, asked.seq, asked.handed_epoch), (1, 1, 0, 0));
    assert_eq!(zone.gate.next_frame().await.kind, GROUP_JOIN);
    assert_eq!(zone.center.status()["homeless"], 0);
}

/// Where dc has a player.
fn saved(player: u64, map: &str) -> PlayerProfile {
    let record = PlayerRecord { player, account: player, map: map.into(), line: 1, level: 4, ..PlayerRecord::default() };
    let name = format!("Player{player}");
    PlayerProfile { player, name, account: player, record: Some(record), ..PlayerProfile::default() }
}

#[tokio::test]
async fn a_player_whose_scene_died_comes_back_on_the_map_that_dc_has() {
    let mut zone = Zone::start().await;
    zone.player(1).await;
    // Its scene recorded the handoff, and died before it told center.
    zone.dc.profiles.lock().unwrap().insert(1, saved(1, "forest"));
    let address = zone.scene.links.local_addr().to_string();
    zone.scene.tasks.stop(WITHIN).await.unwrap();
    let asked = std::slice::from_ref(&zone.center_member);
    zone.scene = Neighbour::start("scene-1", ProcessKind::Scene, 2, &address, asked).await;
    let forest = LineReport { map: "forest".into(), line: 1, players: 0, players_max: 100, ..LineReport::default() };
    let lines = [report().lines, vec![forest]].concat();
    zone.scene.tell(0, &SceneReport { lines, ..report() }).await;
    assert_eq!(zone.scene.takes_player().await.map, "forest");
}

#[tokio::test]
async fn a_player_of_whom_only_its_gate_tells_gets_a_scene() {
    let mut zone = Zone::start().await;
    zone.dc.profiles.lock().unwrap().insert(1, saved(1, "meadow"));
    let other = Neighbour::start("gate-2", ProcessKind::Gate, 1, "127.0.0.1:0", std::slice::from_ref(&zone.center_member)).await;
    let playing = SessionReport { session: 77, account: 1, session_epoch: 1, player: 1, ..SessionReport::default() };
    other.tell(0, &GateReport { sessions: vec![playing], more: false }).await;
    let asked = zone.scene.takes_player().await;
    assert_eq!((asked.player, asked.session, asked.seq, asked.gate.as_str()), (1, 77, 0, "gate-2"));
}

#[tokio::test]
async fn what_a_client_says_before_its_scene_has_answered_is_answered() {
    let mut zone = Zone::start().await;
    zone.player(2).await;
    zone.claims(1, 1).await;
    let login = zone.login.center().await;
    let entering = tokio::spawn(async move { login.call(&super::enter(1, 1), WITHIN).await });
    let (asked, call) = zone.scene.asked::<SceneEnter>().await;
    // The scene has told the client by now, but center not yet.
    zone.gate.forward(1, 8, &WorldChat { text: "here I am".into() }).await;
    zone.gate.forward(1, 9, &FriendList {}).await;
    zone.gate.forward(2, 3, &Whisper { to: "Player1".into(), text: "welcome".into() }).await;
    // They are under way before the scene answers: center takes the frames of a link in order, and answers this one at once.
    zone.gate.forward(3, 4, &FriendList {}).await;
    assert_eq!(zone.gate.delivered::<Fault>().await.0, 3);
    call.answer::<SceneEnter>(Ok(SceneEntered { map: asked.map, line: 1, level: 1, owner_epoch: 1 }));
    entering.await.unwrap().unwrap();
    let mut heard = Vec::new();
    while heard.len() < 4 {
        let frame = zone.gate.next_frame().await;
        if frame.kind == DELIVER {
            let message = Frame::from_bytes(frame.body).unwrap();
            heard.push((frame.id, message.seq(), message.info().unwrap().name));
        }
    }
    heard.sort_unstable();
    assert_eq!(heard, [(1, 0, "Whispered"), (1, 8, "WorldChatted"), (1, 9, "Friends"), (2, 3, "Whispered")]);
}

#[tokio::test]
async fn a_gate_that_reports_an_older_session_is_told_to_close_it() {
    let mut zone = Zone::start().await;
    zone.player(1).await;
    let mut other = Neighbour::start("gate-2", ProcessKind::Gate, 1, "127.0.0.1:0", std::slice::from_ref(&zone.center_member)).await;
    let older = SessionReport { session: 77, account: 1, session_epoch: 1, ..SessionReport::default() };
    other.tell(0, &GateReport { sessions: vec![older], more: false }).await;
    let (closed, why) = other.told::<SessionClose>().await;
    assert_eq!((closed, why.code()), (77, FaultCode::LoggedInElsewhere));
}
