//! Lines of a small map: they open when others fill up, close when they are empty, keep parties together, and outlive their scene.

use std::time::Instant;

use client::Event;
use proto::client::Entered;
use serde_json::Value;

use crate::{
    harness::{PATIENCE, Zone, zone_file},
    player::Player,
};

/// The meadow takes few players a line, and both scenes may host it.
fn small_lines() -> String {
    let file = zone_file();
    let (meadow, rest) = file.split_once("players_max: 2000").expect("the meadow has its players_max");
    let file = format!("{meadow}players_max: 6\n      lines: {{ soft_cap: 4, max: 3 }}{rest}");
    assert!(file.contains("maps: [forest]") && file.contains("kind: center,"), "the zone has its second scene, and a center");
    file.replace("maps: [forest]", "maps: [forest, meadow]").replace("kind: center,", "kind: center, line_empty_s: 2,")
}

/// The meadow's lines, as `zone gm lines` tells them.
fn meadow(zone: &Zone) -> Vec<Value> {
    zone.json(&["gm", "lines", "--map", "meadow"])["result"]["lines"].as_array().cloned().expect("a list of lines")
}

fn until_meadow(zone: &Zone, what: &str, wanted: impl Fn(&[Value]) -> bool) -> Vec<Value> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let lines = meadow(zone);
        if wanted(&lines) {
            return lines;
        }
        assert!(Instant::now() < deadline, "{what} did not come about: {lines:#?}");
    }
}

fn players(lines: &[Value], line: u64) -> Option<u64> {
    lines.iter().find(|row| row["line"] == line && row["state"] == "open")?["players"].as_u64()
}

async fn enter(zone: &Zone, number: usize) -> Player {
    Player::enter(&zone.gate(), &format!("account-{number}"), &format!("Player{number}")).await
}

/// The next `Entered` of a player.
async fn until_entered(player: &mut Player) -> Entered {
    let entered = async {
        loop {
            if let Event::Entered(entered) = player.events.next().await.expect("the connection stays") {
                return entered;
            }
        }
    };
    tokio::time::timeout(PATIENCE, entered).await.expect("the player enters")
}

#[test]
fn zone_opens_and_closes_lines_keeps_parties_together_and_outlives_a_scene() {
    let zone = Zone::start_with(&small_lines());
    let runtime = tokio::runtime::Runtime::new().expect("start a runtime");
    runtime.block_on(async {
        let mut crowd = Vec::new();
        for number in 0..4 {
            crowd.push(enter(&zone, number).await);
        }
        let lines = until_meadow(&zone, "a second line by itself", |lines| players(lines, 2).is_some());
        assert_eq!((players(&lines, 1), lines[1]["opened_by"].as_str()), (Some(4), Some("center")), "{lines:#?}");
        assert_ne!(lines[0]["scene"], lines[1]["scene"], "it is on the scene with less to do");

        let late = enter(&zone, 4).await;
        assert_eq!(late.view.world().map(|entered| entered.line), Some(2), "below the soft cap before above it");
        crowd[0].client.party_invite("Player4").await.expect("invite");
        late.client.party_accept("Player0").await.expect("accept");
        late.leave().await;
        zone.until("it has left", |status| status["online"] == 4);
        let late = enter(&zone, 4).await;
        assert_eq!(late.view.world().map(|entered| entered.line), Some(1), "where its party is");

        for player in crowd.drain(1..) {
            player.leave().await;
        }
        until_meadow(&zone, "the empty line closed", |lines| lines.len() == 1 && players(lines, 1) == Some(2));

        let home = meadow(&zone)[0]["scene"].as_str().expect("a scene has the line").to_owned();
        zone.kill_and_wait(&home);
        until_meadow(&zone, "the line open again with its players", |lines| players(lines, 1) == Some(2));
        zone.until("everybody is in the world again", |status| {
            status["lines"].as_array().into_iter().flatten().any(|line| line["map"] == "meadow" && line["players"] == 2)
        });
        drop((crowd, late));
    });
    moves_between_scenes(&zone, &runtime);
    assert!(zone.stop().success());
}

/// A GM moves a line: whoever is on it keeps its place.
fn moves_between_scenes(zone: &Zone, runtime: &tokio::runtime::Runtime) {
    runtime.block_on(async {
        let mut player = enter(zone, 5).await;
        let lines = until_meadow(zone, "the line open", |lines| players(lines, 1).is_some());
        let to = if lines[0]["scene"] == "scene-1" { "scene-2" } else { "scene-1" };
        let would = zone.json(&["gm", "line", "move", "meadow", "1", to, "--dry-run"]);
        assert_eq!((&would["dry_run"], &would["result"]["moves"]["to"]), (&Value::Bool(true), &Value::from(to)), "{would:#}");
        zone.json(&["gm", "line", "move", "meadow", "1", to, "--reason", "maintenance"]);
        let entered = until_entered(&mut player).await;
        assert_eq!((entered.map.as_str(), entered.line), ("meadow", 1));
        until_meadow(zone, "the line on the other scene", |lines| lines[0]["scene"] == to && players(lines, 1) >= Some(1));
        zone.until("the player on the other scene", |status| {
            status["lines"]
                .as_array()
                .into_iter()
                .flatten()
                .any(|line| line["map"] == "meadow" && line["scene"] == to && line["players"] != 0)
        });
        player.leave().await;
    });
}
