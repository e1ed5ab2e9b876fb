//! A whole scene process over loopback links, with a dc, a center and a gate that belong to the test.

mod overload;
mod peers;

use std::time::Duration;

use peers::{Seen, Zone};
use proto::{
    client::{self, CellSnapshot, Entered, Fault, FaultCode, Give, Position, Rehoming, SheetChanged, UsePortal},
    internal::{
        CallFaultCode, LineClose, LineOpen, LineReport, PlayerHanded, PlayerLeft, SceneChangeLine, SceneEnter, SceneLeave, SceneMute,
        SceneParty, SceneReport, SceneTeleport, SessionBound, SessionEnded, SessionLost, SessionUnbound,
    },
};

const WITHIN: Duration = Duration::from_secs(20);

fn enter(player: u64, session: u64, seq: u32) -> SceneEnter {
    SceneEnter {
        session,
        gate: "gate-1".into(),
        session_epoch: session,
        account: player,
        player,
        map: "meadow".into(),
        line: 1,
        seq,
        ..SceneEnter::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_enters_is_told_everything_in_order_and_who_leaves_is_given_back() {
    let mut zone = Zone::start().await;
    let entered = zone.center_calls(enter(1, 71, 9)).await.unwrap();
    assert_eq!((entered.map.as_str(), entered.line, entered.level, entered.owner_epoch), ("meadow", 1, 1, 1));
    zone.gate_sees(|seen| matches!(seen, Seen::Notice(71, notice) if notice.is::<SessionBound>())).await;
    let Seen::Deliver(71, frame) = zone.gate.next().await else { panic!("`Entered` follows at once") };
    assert_eq!((frame.seq(), frame.decode::<Entered>().unwrap().player), (9, 1));
    let Seen::Join(group, 71) = zone.gate.next().await else { panic!("its group is joined before what is there is told") };
    let mut cells = Vec::new();
    for _ in 0..9 {
        let Seen::Deliver(71, frame) = zone.gate.next().await else { panic!("snapshots follow") };
        cells.push(frame.decode::<CellSnapshot>().unwrap().cell);
    }
    assert_eq!(group & 0xffff_ffff, u64::from(cells[0]) + 1, "the own cell comes first");
    zone.gate_says(71, &SessionEnded::default());
    zone.gate_sees(|seen| matches!(seen, Seen::Notice(71, notice) if notice.is::<SessionUnbound>())).await;
    let left = zone.center_hears::<PlayerLeft>().await;
    assert_eq!((left.player, left.reason.as_str()), (1, "logged out"));
    assert_eq!(zone.dc.owner_of(1), "", "given back before center is told");
    zone.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_session_takes_over_and_an_older_one_is_refused() {
    let mut zone = Zone::start().await;
    zone.center_calls(enter(1, 71, 1)).await.unwrap();
    let again = zone.center_calls(enter(1, 72, 2)).await.unwrap();
    assert_eq!(again.owner_epoch, 1, "it was here already");
    zone.gate_sees(|seen| matches!(seen, Seen::Notice(71, notice) if notice.is::<SessionUnbound>())).await;
    zone.gate_sees(|seen| matches!(seen, Seen::Notice(72, notice) if notice.is::<SessionBound>())).await;
    let replaced = zone.center_calls(enter(1, 71, 3)).await.unwrap_err();
    assert_eq!(replaced.code(), Some(CallFaultCode::CallReplaced));
    zone.gate_forwards(71, 5, &UsePortal {});
    let fault = zone.gate_delivers::<Fault>(71).await;
    assert_eq!(fault.code(), FaultCode::Unavailable, "the older session plays nobody");
    zone.center_calls(SceneLeave { player: 1, reason: "kicked".into() }).await.unwrap();
    assert_eq!(zone.dc.owner_of(1), "");
    let gone = zone.center_calls(SceneLeave { player: 1, reason: "kicked".into() }).await.unwrap_err();
    assert_eq!(gone.code(), Some(CallFaultCode::CallNotFound));
    zone.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_given_is_told_when_dc_has_it() {
    let mut zone = Zone::start().await;
    zone.center_calls(enter(1, 71, 1)).await.unwrap();
    zone.center_calls(enter(2, 72, 1)).await.unwrap();
    let other = zone.gate_delivers::<Entered>(72).await.entity;
    // What is saved of an arrival is out of the way.
    for player in [1, 2] {
        zone.dc.commits_of(|commit| commit.units.iter().any(|unit| unit.saves[0].player == player)).await;
    }
    zone.dc.lose_answers(true);
    zone.gate_forwards(71, 5, &Give { entity: other, coins: 30, ..Give::default() });
    zone.dc.commits_of(|commit| commit.units.iter().any(|unit| unit.saves.len() == 2)).await;
    assert!(!zone.gate.has(|seen| matches!(seen, Seen::Deliver(_, frame) if frame.decode::<SheetChanged>().is_ok())));
    zone.dc.lose_answers(false);
    let told = zone.gate_delivers::<SheetChanged>(71).await;
    assert_eq!(told.sheet.unwrap().coins, 70);
    assert_eq!((zone.dc.record(1).coins, zone.dc.record(2).coins), (70, 130));
    zone.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_portal_to_another_scene_hands_the_player_over() {
    let mut zone = Zone::start().await;
    zone.dc.put(1, Position { x: 11_000, y: 10_000 });
    zone.center_calls(enter(1, 71, 1)).await.unwrap();
    zone.center.refuse_lines(true);
    zone.gate_forwards(71, 2, &UsePortal {});
    assert_eq!(zone.gate_delivers::<Fault>(71).await.code(), FaultCode::Unavailable, "no line: the player stays");
    zone.center.refuse_lines(false);
    zone.gate_forwards(71, 3, &UsePortal {});
    let handed = zone.center_hears::<PlayerHanded>().await;
    assert_eq!((handed.scene.as_str(), handed.map.as_str(), handed.owner_epoch, handed.session), ("scene-2/77", "forest", 2, 71));
    assert_eq!(zone.dc.owner_of(1), "scene-2/77");
    assert_eq!(zone.dc.record(1).position, Some(Position { x: 6_000, y: 6_000 }));
    zone.gate_sees(|seen| matches!(seen, Seen::Notice(71, notice) if notice.is::<SessionUnbound>())).await;
    zone.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_map_of_the_same_scene_is_reached_without_another_owner() {
    let mut zone = Zone::start().await;
    zone.dc.put(1, Position { x: 10_000, y: 11_000 });
    zone.center_calls(enter(1, 71, 1)).await.unwrap();
    assert_eq!(zone.gate_delivers::<Entered>(71).await.map, "meadow");
    zone.gate_forwards(71, 3, &UsePortal {});
    assert_eq!(zone.gate_delivers::<Entered>(71).await.map, "town");
    let handed = zone.center_hears::<PlayerHanded>().await;
    assert_eq!((handed.map.as_str(), handed.owner_epoch), ("town", 1));
    assert!(handed.scene.starts_with("scene-1/"));
    let teleport = SceneTeleport { player: 1, map: "meadow".into(), position: Some(Position { x: 5_000, y: 5_000 }) };
    zone.center_calls(teleport).await.unwrap();
    let back = zone.gate_delivers::<Entered>(71).await;
    assert_eq!((back.map.as_str(), back.position), ("meadow", Some(Position { x: 5_000, y: 5_000 })));
    let off = SceneTeleport { player: 1, map: "meadow".into(), position: Some(Position { x: i32::MIN, y: 0 }) };
    assert_eq!(zone.center_calls(off).await.unwrap_err().code(), Some(CallFaultCode::CallInvalid));
    zone.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_another_owner_is_dropped_unsaved() {
    let mut zone = Zone::start().await;
    zone.center_calls(enter(1, 71, 1)).await.unwrap();
    zone.dc.steal(1);
    zone.gate_forwards(71, 0, &client::Move { to: Some(Position { x: 10_010, y: 10_000 }) });
    zone.gate_sees(|seen| matches!(seen, Seen::Notice(71, notice) if notice.is::<SessionUnbound>())).await;
    let left = zone.center_hears::<PlayerLeft>().await;
    assert_eq!((left.player, left.reason.as_str()), (1, "ownership lost"));
    assert_eq!(zone.dc.owner_of(1), "somebody/1");
    zone.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_gives_everybody_back_and_tells_center_nothing() {
    let mut zone = Zone::start().await;
    for player in 1..4 {
        zone.center_calls(enter(player, 70 + player, 1)).await.unwrap();
    }
    zone.gate_says(71, &SessionLost {});
    zone.dc.lose_answers(true);
    zone.stop_while(|zone| {
        zone.dc.lose_answers(false);
    })
    .await;
    for player in 1..4 {
        assert_eq!(zone.dc.owner_of(player), "");
    }
    assert!(!zone.center.heard::<PlayerLeft>());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_center_that_comes_later_is_told_who_is_here() {
    let mut zone = Zone::start().await;
    zone.center_calls(enter(1, 71, 1)).await.unwrap();
    zone.center_restarts().await;
    let report = loop {
        let report = zone.center_hears::<SceneReport>().await;
        if !report.actors.is_empty() {
            break report;
        }
    };
    assert_eq!((report.actors[0].player, report.actors[0].session, report.actors[0].map.as_str()), (1, 71, "meadow"));
    assert_eq!(report.lines.iter().map(|line| line.map.as_str()).collect::<Vec<_>>(), ["meadow", "town"]);
    zone.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gate_that_links_again_is_told_everything_anew() {
    let mut zone = Zone::start().await;
    zone.center_calls(enter(1, 71, 1)).await.unwrap();
    zone.gate_delivers::<Entered>(71).await;
    zone.cut_gate().await;
    assert_eq!(zone.gate_delivers::<Entered>(71).await.player, 1);
    assert!(
        !zone.gate.has(|seen| matches!(seen, Seen::Deliver(_, frame) if frame.decode::<Rehoming>().is_ok())),
        "that is the gate's word"
    );
    zone.stop().await;
}

fn open(map: &str, line: u32) -> LineOpen {
    LineOpen { map: map.into(), line, opened_by: "eve".into() }
}

/// The lines of the next report in which they are `good`.
async fn reported(zone: &mut Zone, good: impl Fn(&[LineReport]) -> bool) -> Vec<LineReport> {
    loop {
        let report = zone.center_hears::<SceneReport>().await;
        if good(&report.lines) {
            return report.lines;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_opens_once_and_where_the_zone_file_lets_it() {
    let mut zone = Zone::start().await;
    for _ in 0..2 {
        zone.center_calls(open("meadow", 2)).await.unwrap();
    }
    let lines = reported(&mut zone, |lines| lines.len() == 3).await;
    let second = lines.iter().find(|line| line.line == 2).unwrap();
    assert_eq!((second.map.as_str(), second.opened_by.as_str(), second.closing), ("meadow", "eve", false));
    let elsewhere = zone.center_calls(open("forest", 1)).await.unwrap_err();
    assert_eq!(elsewhere.code(), Some(CallFaultCode::CallInvalid));
    zone.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closing_line_takes_nobody_and_ends_when_everybody_is_on_another() {
    let mut zone = Zone::start().await;
    zone.dc.put(1, Position { x: 12_300, y: 4_500 });
    zone.center_calls(enter(1, 71, 1)).await.unwrap();
    zone.gate_delivers::<Entered>(71).await;
    // There is nowhere to go yet.
    zone.center_calls(LineClose { map: "meadow".into(), line: 1 }).await.unwrap();
    reported(&mut zone, |lines| lines.iter().any(|line| line.map == "meadow" && line.closing)).await;
    let refused = zone.center_calls(enter(2, 72, 1)).await.unwrap_err();
    assert_eq!(refused.code(), Some(CallFaultCode::CallNoLine));
    let refused = zone.center_calls(open("meadow", 1)).await.unwrap_err();
    assert_eq!(refused.code(), Some(CallFaultCode::CallUnavailable), "the earlier line of this number is still there");
    zone.center_calls(open("meadow", 2)).await.unwrap();
    let entered = zone.gate_delivers::<Entered>(71).await;
    assert_eq!((entered.map.as_str(), entered.line, entered.position), ("meadow", 2, Some(Position { x: 12_300, y: 4_500 })));
    let handed = zone.center_hears::<PlayerHanded>().await;
    assert_eq!((handed.map.as_str(), handed.line, handed.owner_epoch), ("meadow", 2, 1));
    reported(&mut zone, |lines| lines.iter().all(|line| line.map != "meadow" || line.line == 2)).await;
    zone.center_calls(open("meadow", 1)).await.unwrap();
    zone.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_player_changes_to_a_line_of_another_scene_by_one_handoff() {
    let mut zone = Zone::start().await;
    zone.dc.put(1, Position { x: 12_300, y: 4_500 });
    zone.center_calls(enter(1, 71, 1)).await.unwrap();
    zone.gate_delivers::<Entered>(71).await;
    let own = zone.center_calls(SceneChangeLine { player: 1, scene: "scene-2/77".into(), line: 3 }).await;
    own.unwrap();
    let handed = zone.center_hears::<PlayerHanded>().await;
    assert_eq!((handed.scene.as_str(), handed.map.as_str(), handed.line, handed.owner_epoch), ("scene-2/77", "meadow", 3, 2));
    assert_eq!(zone.dc.owner_of(1), "scene-2/77");
    assert_eq!(zone.dc.record(1).position, Some(Position { x: 12_300, y: 4_500 }));
    let gone = zone.center_calls(SceneChangeLine { player: 1, scene: "scene-2/77".into(), line: 3 }).await.unwrap_err();
    assert_eq!(gone.code(), Some(CallFaultCode::CallNotFound));
    zone.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_muted_says_nothing_after_the_answer() {
    let mut zone = Zone::start().await;
    zone.center_calls(enter(1, 71, 1)).await.unwrap();
    zone.center_calls(SceneMute { player: 1, until_ms: i64::MAX }).await.unwrap();
    zone.gate_forwards(71, 5, &client::Say { text: "a word".into() });
    assert_eq!(zone.gate_delivers::<Fault>(71).await.code(), FaultCode::Muted);
    zone.center_calls(SceneMute { player: 1, until_ms: 0 }).await.unwrap();
    zone.gate_forwards(71, 6, &client::Say { text: String::new() });
    assert_eq!(zone.gate_delivers::<Fault>(71).await.code(), FaultCode::Invalid, "what it says is looked at again");
    let gone = zone.center_calls(SceneMute { player: 9, until_ms: 0 }).await.unwrap_err();
    assert_eq!(gone.code(), Some(CallFaultCode::CallNotFound));
    zone.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_center_said_of_a_party_comes_back_in_the_report() {
    let mut zone = Zone::start().await;
    zone.center_calls(SceneEnter { party: 8, party_leader: 2, ..enter(1, 71, 1) }).await.unwrap();
    zone.center_calls(SceneEnter { party: 8, party_leader: 2, ..enter(2, 72, 1) }).await.unwrap();
    zone.center_tells(&SceneParty { player: 2, party: 9, leader: 2, friends: vec![1] });
    // A link keeps its order: when this is answered, that has been heard.
    zone.center_calls(open("town", 1)).await.unwrap();
    zone.center_restarts().await;
    let report = loop {
        let report = zone.center_hears::<SceneReport>().await;
        if !report.actors.is_empty() {
            break report;
        }
    };
    let parties: Vec<_> = report.actors.iter().map(|actor| (actor.player, actor.party, actor.party_leader)).collect();
    assert_eq!(parties, [(1, 8, 2), (2, 9, 2)]);
    zone.stop().await;
}
