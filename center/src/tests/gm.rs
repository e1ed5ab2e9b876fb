//! GM commands against a dc that notes the order of what it is asked.

use std::sync::{Arc, atomic::Ordering};

use proto::{
    client::{Announcement, FaultCode},
    ids::AccountId,
    internal::{CallFaultCode, Done, SceneMute, SessionClose, SessionEnded},
    link::{GROUP_PUBLISH, Publish},
};
use serde_json::{Value, json};

use super::Zone;
use crate::{
    center::Center,
    gm::{
        GmError,
        auth::Who,
        registry::Role,
        run::{self, Order},
    },
};

async fn gm(zone: &Zone, order: Value) -> Result<Value, GmError> {
    gm_of(zone.center.clone(), order).await
}

async fn gm_of(center: Arc<Center>, order: Value) -> Result<Value, GmError> {
    let who = Who { name: "eve".into(), role: Role::Admin, address: "127.0.0.1".into() };
    let order: Order = serde_json::from_value(order).unwrap();
    run::run(&center, &who, &order).await
}

/// The next close at the gate goes into the dc's log, and the gate says that the session is over.
async fn note_close(zone: &mut Zone) -> SessionClose {
    let (session, close) = zone.gate.told::<SessionClose>().await;
    zone.dc.note("closed");
    zone.gate.tell(session, &SessionEnded { reason: close.code }).await;
    close
}

#[tokio::test]
async fn the_audit_record_is_written_before_the_effect() {
    let mut zone = Zone::start().await;
    zone.player(1).await;
    let kick = gm_of(zone.center.clone(), json!({"command": "kick", "arguments": {"name": "player1"}, "reason": "spam"}));
    let (done, close) = tokio::join!(kick, note_close(&mut zone));
    let done = done.unwrap();
    assert_eq!(done["result"], json!({"kicked": "Player1"}));
    assert_eq!((close.code(), close.text.as_str()), (FaultCode::Kicked, "a GM removed you: spam"));
    assert_eq!((&done["ok"], &done["audit"], &done["dry_run"]), (&json!(true), &json!(7), &json!(false)));
    let log = zone.dc.log();
    assert_eq!(log[0], "audit kick by eve because spam");
    assert_eq!(log[1..], ["closed", "outcome 7: done"], "done is what the gate has done");
}

#[tokio::test]
async fn without_an_audit_record_there_is_no_effect() {
    let mut zone = Zone::start().await;
    zone.player(1).await;
    zone.dc.audit_away.store(true, Ordering::SeqCst);
    let refused = gm(&zone, json!({"command": "kick", "arguments": {"name": "Player1"}})).await.unwrap_err();
    assert_eq!((refused.status, refused.code), (503, "unavailable"));
    // Links keep their order: had the kick happened, its close would come before this.
    zone.center.announce("marker");
    assert_eq!(zone.gate.next_frame().await.kind, GROUP_PUBLISH);
}

#[tokio::test]
async fn a_dry_run_says_what_would_happen_and_does_nothing() {
    let mut zone = Zone::start().await;
    zone.player(1).await;
    let would = gm(&zone, json!({"command": "kick", "arguments": {"name": "Player1"}, "dry_run": true})).await.unwrap();
    assert_eq!((&would["dry_run"], &would["result"]["kicks"]["name"]), (&json!(true), &json!("Player1")));
    assert_eq!(zone.dc.log(), ["audit kick by eve because ", "outcome 7: dry run"]);
    zone.center.announce("marker");
    assert_eq!(zone.gate.next_frame().await.kind, GROUP_PUBLISH);
}

#[tokio::test]
async fn a_ban_closes_the_sessions_of_the_account_or_address() {
    let mut zone = Zone::start().await;
    zone.player(1).await;
    zone.player(2).await;
    let ban = |target: &str| json!({"command": "ban", "arguments": {"action": "add", "target": target, "for": "2h"}, "reason": "bots"});
    let (done, close) = tokio::join!(gm_of(zone.center.clone(), ban("alice")), note_close(&mut zone));
    done.unwrap();
    assert_eq!(close.code(), FaultCode::Banned);
    assert_eq!(zone.dc.log(), ["audit ban by eve because bots", "sanction", "closed", "outcome 7: done"].map(str::to_owned));
    zone.player(1).await;
    let center = zone.center.clone();
    let both = async {
        note_close(&mut zone).await;
        note_close(&mut zone).await;
    };
    let (done, ()) = tokio::join!(gm_of(center, ban("9.9.9.9")), both);
    assert_eq!(done.unwrap()["result"]["sessions_closed"], 2);
}

#[tokio::test]
async fn a_mute_is_done_when_the_scene_has_answered() {
    let mut zone = Zone::start().await;
    zone.player(1).await;
    let mute = |how_long: &str| json!({"command": "mute", "arguments": {"name": "Player1", "for": how_long}});
    let mut muting = tokio::spawn(gm_of(zone.center.clone(), mute("10m")));
    let (asked, call) = tokio::select! {
        biased;
        done = &mut muting => panic!("{done:?} before the scene has answered"),
        asked = zone.scene.asked::<SceneMute>() => asked,
    };
    assert_eq!((asked.player, asked.until_ms), (1, zone.center.presence().muted_until(AccountId(1), 0)));
    assert!(!zone.dc.log().contains(&"outcome 7: done".to_owned()));
    call.answer::<SceneMute>(Ok(Done {}));
    assert_eq!(muting.await.unwrap().unwrap()["result"]["warning"], Value::Null);

    // A scene that can't: the mute is in force wherever the player enters next, and the GM knows where it is not yet.
    let refuses = async {
        let (_, call) = zone.scene.asked::<SceneMute>().await;
        call.answer::<SceneMute>(Err(service::link::fault(CallFaultCode::CallUnavailable, "the player is on its way")));
    };
    let (done, ()) = tokio::join!(gm_of(zone.center.clone(), mute("20m")), refuses);
    let warning = done.unwrap()["result"]["warning"].as_str().unwrap().to_owned();
    assert_eq!(warning, "scene-1: the player is on its way; what player 1 says near by changes at its next enter");
}

#[tokio::test]
async fn what_is_dangerous_needs_a_reason_and_its_undoing_does_not() {
    let zone = Zone::start().await;
    let refused = gm(&zone, json!({"command": "ban", "arguments": {"action": "add", "target": "alice"}})).await.unwrap_err();
    assert_eq!((refused.status, refused.text.contains("reason")), (400, true));
    let refused = gm(&zone, json!({"command": "server shutdown", "arguments": {"in": "60s"}})).await.unwrap_err();
    assert_eq!(refused.status, 400);
    assert!(zone.dc.log().is_empty());
    let shutdown = json!({"command": "server shutdown", "arguments": {"in": "10m"}, "reason": "update"});
    gm(&zone, shutdown.clone()).await.unwrap();
    assert_eq!(gm(&zone, shutdown).await.unwrap_err().status, 409);
    let cancel = json!({"command": "server shutdown", "arguments": {"action": "cancel"}});
    gm(&zone, cancel.clone()).await.unwrap();
    assert_eq!(gm(&zone, cancel).await.unwrap_err().status, 409);
}

#[tokio::test]
async fn what_is_not_there_is_named() {
    let zone = Zone::start().await;
    for (order, status) in [
        (json!({"command": "kick", "arguments": {"name": "Nobody"}}), 404),
        (json!({"command": "player info", "arguments": {"name": "Nobody"}}), 404),
        (json!({"command": "ban", "arguments": {"action": "add", "target": "nobody"}, "reason": "x"}), 404),
        (json!({"command": "teleport", "arguments": {"name": "Nobody", "map": "moon", "x": 1, "y": 1}}), 400),
        (json!({"command": "teleport", "arguments": {"name": "Nobody", "map": "meadow", "x": 400, "y": 1}}), 400),
    ] {
        let err = gm(&zone, order.clone()).await.unwrap_err();
        assert_eq!(err.status, status, "{order}: {}", err.text);
    }
}

#[tokio::test]
async fn an_announcement_has_a_number_of_its_own() {
    let mut zone = Zone::start().await;
    let mut ids = Vec::new();
    for _ in 0..2 {
        gm(&zone, json!({"command": "announce", "arguments": {"text": "maintenance tonight"}})).await.unwrap();
        let published = Publish::decode(zone.gate.next_frame().await.body).unwrap();
        let _tick_end = zone.gate.next_frame().await;
        let announcement = published.frame.decode::<Announcement>().unwrap();
        assert_eq!(announcement.text, "maintenance tonight");
        ids.push(announcement.id);
    }
    assert!(ids[0] < ids[1]);
}

#[tokio::test]
async fn the_end_of_a_countdown_closes_everybody_and_ends_center() {
    let mut zone = Zone::start().await;
    zone.player(1).await;
    gm(&zone, json!({"command": "server shutdown", "arguments": {"in": "0"}, "reason": "update"})).await.unwrap();
    let (session, close) = zone.gate.told::<SessionClose>().await;
    assert_eq!((session, close.code()), (1, FaultCode::Shutdown));
    let ended = SessionEnded { reason: FaultCode::Shutdown.into() };
    zone.gate.tell(session, &ended).await;
    zone.scene.tell(0, &proto::internal::PlayerLeft { player: 1, reason: "shutdown".into() }).await;
    tokio::time::timeout(super::WITHIN, zone.center.finished()).await.expect("center ends");
    assert!(zone.center.open().is_err(), "nobody comes in any more");
}

#[tokio::test]
async fn rankings_are_read_by_a_limit_and_rebuilt_with_an_audit_record() {
    let zone = Zone::start().await;
    let rank = |arguments: Value| json!({"command": "rank", "arguments": arguments});
    let read = gm(&zone, rank(json!({"action": "coins", "limit": 3}))).await.unwrap();
    assert_eq!(read["result"]["players"], json!([{"rank": 1, "name": "Ann", "coins": 3, "player": 7}]));
    assert_eq!(gm(&zone, rank(json!({"action": "level", "limit": 9999}))).await.unwrap()["result"]["players"][0]["level"], 500);
    assert!(zone.dc.log().is_empty(), "reading is not audited");
    assert_eq!(gm(&zone, rank(json!({"action": "rebuild", "limit": 3}))).await.unwrap_err().status, 400);
    let rebuilt = gm(&zone, rank(json!({"action": "rebuild"}))).await.unwrap();
    assert_eq!((&rebuilt["result"]["players"], &rebuilt["audit"]), (&json!(3), &json!(7)));
}
