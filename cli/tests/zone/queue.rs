//! A full zone: who comes waits for room, in order, and is told how it stands.

use client::{Client, ClientOptions, Event, Events};
use proto::client::{LoggedIn, QueueReason, Queued};
use tokio::{task::JoinHandle, time::timeout};

use crate::{
    harness::{PATIENCE, Zone, zone_file},
    player::Player,
};

/// Connects, and begins to log in with an account that is there.
async fn log_in(gate: &str, account: &'static str) -> (Client, Events, JoinHandle<LoggedIn>) {
    let (client, events) = Client::connect(&gate.parse().expect("an address"), ClientOptions::default()).await.expect("connect");
    let asking = client.clone();
    let login = tokio::spawn(async move { asking.login(account, "correct horse").await.expect("log in") });
    (client, events, login)
}

/// Waits until the zone says that the client waits at this place for room.
async fn until_at(events: &mut Events, position: u32) {
    let told = async {
        loop {
            match events.next().await.expect("the connection stays") {
                Event::Queued(queued) if queued.position == position => return queued,
                Event::Queued(_) => (),
                other => panic!("{other:?}"),
            }
        }
    };
    let queued: Queued = timeout(PATIENCE, told).await.expect("the zone tells of the place");
    assert_eq!(queued.reason(), QueueReason::ZoneFull);
}

#[tokio::test]
async fn zone_that_is_full_lets_in_who_came_first_and_gms_at_once() {
    let file = zone_file().replace("roles_max: 4", "roles_max: 4\n  online_max: 1\n  queue_pass: [gm_anna]");
    let zone = Zone::start_with(&file);
    let gate = zone.gate();
    for (account, role) in [("alice", "Alia"), ("bob", "Bobo"), ("gm_anna", "Anna")] {
        Player::enter(&gate, account, role).await.leave().await;
    }
    let inside = Player::enter(&gate, "carol", "Caro").await;
    let (alice, mut to_alice, _) = log_in(&gate, "alice").await;
    until_at(&mut to_alice, 1).await;
    let (_bob, mut to_bob, bob_in) = log_in(&gate, "bob").await;
    until_at(&mut to_bob, 2).await;
    let status = zone.until("two wait for room", |status| status["login"]["waiting_for_room"] == 2);
    assert_eq!(status["online"], 1, "{status:#}");

    let (gm, _to_gm, gm_in) = log_in(&gate, "gm_anna").await;
    timeout(PATIENCE, gm_in).await.expect("who passes waits for nobody").expect("joined");

    // Alice's connection breaks, and she comes back before her place is given away.
    alice.drop_connection().await;
    let (_alice, mut to_alice, alice_in) = log_in(&gate, "alice").await;
    until_at(&mut to_alice, 1).await;

    gm.bye().await.expect("say goodbye");
    inside.leave().await;
    timeout(PATIENCE, alice_in).await.expect("there is room for one").expect("joined");
    until_at(&mut to_bob, 1).await;
    assert!(!bob_in.is_finished(), "there is room for one only");
}
