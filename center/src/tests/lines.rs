//! Lines and parties, as scenes, players and GMs see them.

use proto::{
    client::{
        Fault, FaultCode, LineChange, LineChanged, LineList, Lines, PartyAccept, PartyChat, PartyChatted, PartyInvite, PartyInvited,
        PartyLeave, PartyState,
    },
    ids::PlayerId,
    internal::{ActorReport, Done, LineClose, LineOpen, LineReport, SceneChangeLine, SceneParty, SceneReport},
    link::{DELIVER, GROUP_JOIN, GROUP_LEAVE, GROUP_PUBLISH, LinkFrame, Publish},
};
use serde_json::{Value, json};

use super::{Zone, report};
use crate::gm::{
    GmError,
    auth::Who,
    registry::Role,
    run::{self, Order},
};

async fn gm(zone: &Zone, order: Value) -> Result<Value, GmError> {
    let who = Who { name: "eve".into(), role: Role::Admin, address: "127.0.0.1".into() };
    run::run(&zone.center, &who, &serde_json::from_value::<Order>(order).unwrap()).await
}

fn line(map: &str, line: u32) -> LineReport {
    LineReport { map: map.into(), line, players_max: 100, ..LineReport::default() }
}

/// The next frame to the gate that is of this sort.
async fn until(zone: &mut Zone, good: impl Fn(&LinkFrame) -> bool) -> LinkFrame {
    loop {
        let frame = zone.gate.next_frame().await;
        if good(&frame) {
            return frame;
        }
    }
}

/// The next message of this type to the session.
async fn told<M: proto::ClientMessage>(zone: &mut Zone, session: u64) -> (u32, M) {
    loop {
        let frame = until(zone, |frame| frame.kind == DELIVER && frame.id == session).await;
        let frame = proto::Frame::from_bytes(frame.body).unwrap();
        if let Ok(message) = frame.decode::<M>() {
            return (frame.seq(), message);
        }
    }
}

/// The scene opens what it is asked to.
async fn opens(zone: &mut Zone) -> LineOpen {
    let (asked, call) = zone.scene.asked::<LineOpen>().await;
    call.answer::<LineOpen>(Ok(Done {}));
    asked
}

async fn opened_by_gm(zone: &mut Zone) -> u32 {
    let center = zone.center.clone();
    let order: Order = serde_json::from_value(json!({"command": "line open", "arguments": {"map": "meadow"}, "reason": "fair"})).unwrap();
    let who = Who { name: "eve".into(), role: Role::Admin, address: "127.0.0.1".into() };
    let running = tokio::spawn(async move { run::run(&center, &who, &order).await });
    let asked = opens(zone).await;
    assert_eq!((asked.map.as_str(), asked.opened_by.as_str()), ("meadow", "eve"));
    running.await.unwrap().unwrap();
    asked.line
}

#[tokio::test]
async fn a_gm_opens_a_line_with_an_audit_record_and_closes_it() {
    let mut zone = Zone::start().await;
    let dry = gm(&zone, json!({"command": "line open", "arguments": {"map": "meadow"}, "dry_run": true})).await.unwrap();
    assert_eq!(dry["result"]["opens"], json!({"map": "meadow", "line": 2, "scene": "scene-1"}));
    assert_eq!(opened_by_gm(&mut zone).await, 2);
    assert!(zone.dc.log().contains(&"audit line open by eve because fair".to_owned()));
    let lines = gm(&zone, json!({"command": "lines", "arguments": {"map": "meadow"}})).await.unwrap();
    let row = &lines["result"]["lines"][1];
    assert_eq!(
        (&row["line"], &row["state"], &row["opened_by"], &row["scene"]),
        (&json!(2), &json!("open"), &json!("eve"), &json!("scene-1"))
    );
    gm(&zone, json!({"command": "line close", "arguments": {"map": "meadow", "line": 2}})).await.unwrap();
    let (asked, call) = zone.scene.asked::<LineClose>().await;
    assert_eq!((asked.map.as_str(), asked.line), ("meadow", 2));
    call.answer::<LineClose>(Ok(Done {}));
    zone.scene.tell(0, &report()).await;
    zone.scene.ask(&proto::internal::LinePick { player: 9, map: "meadow".into(), line: 2 }).await.unwrap();
    let lines = gm(&zone, json!({"command": "lines", "arguments": {"map": "meadow"}})).await.unwrap();
    assert_eq!(lines["result"]["lines"].as_array().map(Vec::len), Some(1), "the report is without it");
}

#[tokio::test]
async fn what_a_gm_can_not_do_with_a_line_is_named() {
    let zone = Zone::start().await;
    for (order, status) in [
        (json!({"command": "lines", "arguments": {"map": "moon"}}), 400),
        (json!({"command": "line open", "arguments": {"map": "moon"}}), 400),
        (json!({"command": "line open", "arguments": {"map": "meadow", "scene": "scene-2"}}), 400),
        (json!({"command": "line open", "arguments": {"map": "forest"}}), 503),
        (json!({"command": "line close", "arguments": {"map": "meadow", "line": 7}}), 404),
        (json!({"command": "line close", "arguments": {"map": "meadow", "line": 1}}), 409),
        (json!({"command": "line move", "arguments": {"map": "meadow", "line": 1, "scene": "scene-1"}}), 409),
    ] {
        let err = gm(&zone, order.clone()).await.unwrap_err();
        assert_eq!(err.status, status, "{order}: {}", err.text);
    }
    assert!(zone.dc.log().is_empty());
}

#[tokio::test]
async fn a_player_changes_lines_once_in_a_while() {
    let mut zone = Zone::start().await;
    zone.player(1).await;
    let second = opened_by_gm(&mut zone).await;
    zone.gate.forward(1, 5, &LineList {}).await;
    let (seq, lines) = told::<Lines>(&mut zone, 1).await;
    let numbers: Vec<_> = lines.lines.iter().map(|line| (line.line, line.players, line.full)).collect();
    assert_eq!((seq, lines.line, numbers), (5, 1, vec![(1, 1, false), (2, 0, false)]));
    zone.gate.forward(1, 6, &LineChange { line: second }).await;
    let (asked, call) = zone.scene.asked::<SceneChangeLine>().await;
    assert_eq!((asked.player, asked.scene.as_str(), asked.line), (1, "scene-1/1", 2));
    call.answer::<SceneChangeLine>(Err(service::link::fault(proto::internal::CallFaultCode::CallInvalid, "you are in a fight")));
    let (seq, fault) = told::<Fault>(&mut zone, 1).await;
    assert_eq!((seq, fault.code(), fault.text.as_str()), (6, FaultCode::NotNow, "you are in a fight"));
    zone.gate.forward(1, 7, &LineChange { line: second }).await;
    zone.scene.asked::<SceneChangeLine>().await.1.answer::<SceneChangeLine>(Ok(Done {}));
    assert_eq!(told::<LineChanged>(&mut zone, 1).await, (7, LineChanged { map: "meadow".into(), line: 2 }));
    zone.gate.forward(1, 8, &LineChange { line: second }).await;
    let (seq, fault) = told::<Fault>(&mut zone, 1).await;
    assert_eq!((seq, fault.code()), (8, FaultCode::NotNow));
    zone.gate.forward(1, 9, &LineChange { line: 77 }).await;
    assert_eq!(told::<Fault>(&mut zone, 1).await.1.code(), FaultCode::NotFound);
}

#[tokio::test]
async fn a_scene_that_comes_with_a_line_of_another_is_told_to_close_it() {
    let mut zone = Zone::start().await;
    let run = crate::presence::Run { id: service::ProcessId("scene-2".into()), incarnation: 1 };
    let actions = zone.center.presence().scene_reported(&run, &[line("meadow", 1)], &[], true, tokio::time::Instant::now());
    let closes = actions.iter().any(|action| matches!(action, crate::presence::Action::CloseLine { scene, line: 1, .. } if *scene == run));
    assert!(closes, "{actions:?}");
    zone.player(1).await;
    assert_eq!(zone.center.presence().players.get(PlayerId(1)).unwrap().place.scene.id.0, "scene-1");
}

#[tokio::test]
async fn a_party_hears_of_itself_and_talks_in_a_group_at_the_gates() {
    let mut zone = Zone::start().await;
    zone.player(1).await;
    zone.player(2).await;
    zone.gate.forward(1, 5, &PartyInvite { name: "player2".into() }).await;
    let invited = PartyInvited { from: "Player1".into(), to: "Player2".into() };
    assert_eq!(told::<PartyInvited>(&mut zone, 2).await, (0, invited.clone()));
    assert_eq!(told::<PartyInvited>(&mut zone, 1).await, (5, invited));
    zone.gate.forward(2, 6, &PartyAccept { from: "Player1".into() }).await;
    let group = until(&mut zone, |frame| frame.kind == GROUP_JOIN).await.id;
    let (seq, state) = told::<PartyState>(&mut zone, 2).await;
    let members: Vec<_> = state.members.iter().map(|member| (member.name.as_str(), member.online, member.line)).collect();
    assert_eq!((seq, state.leader.as_str(), members), (6, "Player1", vec![("Player1", true, 1), ("Player2", true, 1)]));
    zone.gate.forward(1, 7, &PartyChat { text: "hello".into() }).await;
    assert_eq!(told::<PartyChatted>(&mut zone, 1).await.0, 7);
    let published = until(&mut zone, |frame| frame.kind == GROUP_PUBLISH).await;
    assert_eq!((published.id, Publish::decode(published.body).unwrap().except), (group, 1));
    zone.gate.forward(2, 8, &PartyLeave {}).await;
    let left = until(&mut zone, |frame| frame.kind == GROUP_LEAVE).await;
    assert_eq!(left.id, group);
    assert_eq!(told::<PartyState>(&mut zone, 1).await, (0, PartyState::default()));
}

#[tokio::test]
async fn a_scene_is_told_whom_its_players_are_with() {
    let mut zone = Zone::start().await;
    zone.player(1).await;
    let told = loop {
        let frame = zone.scene.next_frame().await;
        if frame.kind == <SceneParty as proto::link::Notice>::KIND {
            break <SceneParty as prost::Message>::decode(frame.body).unwrap();
        }
    };
    assert_eq!(told, SceneParty { player: 1, ..SceneParty::default() });
}

#[tokio::test]
async fn parties_come_back_with_the_report_of_a_scene() {
    let zone = Zone::start().await;
    let actor = |player: u64| ActorReport {
        player,
        name: format!("Player{player}"),
        account: player,
        session: player,
        gate: "gate-1".into(),
        session_epoch: 1,
        map: "meadow".into(),
        line: 1,
        party: 17,
        party_leader: 2,
        ..ActorReport::default()
    };
    zone.scene.tell(0, &SceneReport { actors: vec![actor(1), actor(2)], ..report() }).await;
    zone.scene.ask(&proto::internal::LinePick { player: 9, map: "meadow".into(), line: 0 }).await.unwrap();
    let presence = zone.center.presence();
    let party = presence.parties.of(PlayerId(1)).expect("they are in a party");
    assert_eq!((party.id.0, party.leader_name(), party.members.len()), (17, "Player2", 2));
}
