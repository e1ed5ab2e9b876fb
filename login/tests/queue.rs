//! Logins that wait, over real links between fakes.

mod fakes;

use std::time::Duration;

use fakes::{Seen, World, config};
use proto::{
    ClientMessage,
    client::{Fault, FaultCode, LoggedIn, Login, QueueReason, Queued},
    internal::{CallFaultCode, SessionClaim},
};
use service::{IncomingCall, config::LoginConfig, link::fault};

fn login(account: &str) -> Login {
    Login { account: account.into(), password: "correct horse".into() }
}

/// One hasher whose few turns are taken by logins that dc does not answer, so that all later ones wait.
async fn stuck(config: LoginConfig) -> World {
    let world = World::start(LoginConfig { hashers: 1, ..config }).await;
    world.dc.lock().unwrap().hold = usize::MAX;
    for session in 1..=4 {
        world.open(session, "192.0.2.200");
        world.send(session, 1, &login(&format!("stuck-{session}")));
        let asked = async {
            while (world.dc.lock().unwrap().held() as u64) < session {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(fakes::WITHIN, asked).await.expect("a turn is taken");
    }
    world
}

/// What a client is told of its place next, of which others hear nothing.
async fn queued(world: &mut World, session: u64) -> Queued {
    loop {
        match world.next().await {
            Seen::Client(to, frame) if frame.kind() == Queued::KIND && to == session => return frame.decode().unwrap(),
            Seen::Client(_, frame) if frame.kind() == Queued::KIND => (),
            other => panic!("{other:?}"),
        }
    }
}

/// The sessions whose requests are answered next, in order, with the faults that they get.
async fn faults(world: &mut World, count: usize) -> Vec<(u64, FaultCode)> {
    let mut seen = Vec::new();
    // Whoever waits is told so again and again: that something comes is no sign that the faults do.
    let all = async {
        while seen.len() < count {
            match world.next().await {
                Seen::Client(to, frame) if frame.kind() == Fault::KIND => seen.push((to, frame.decode::<Fault>().unwrap().code())),
                Seen::Client(_, frame) if frame.kind() == Queued::KIND => (),
                other => panic!("{other:?}"),
            }
        }
    };
    tokio::time::timeout(fakes::WITHIN, all).await.expect("the faults come");
    seen
}

/// What center is asked next about those who wait for room, not answered; to all others it says that the zone is full.
async fn held_claim(world: &World) -> IncomingCall {
    {
        let mut center = world.center.lock().unwrap();
        (center.room, center.held_claims) = (None, Some(Vec::new()));
    }
    let asked = async {
        loop {
            {
                let mut center = world.center.lock().unwrap();
                if let Some(call) = center.held_claims.as_mut().and_then(Vec::pop) {
                    (center.room, center.held_claims) = (Some(0), None);
                    return call;
                }
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(fakes::WITHIN, asked).await.expect("center is asked")
}

#[tokio::test]
async fn who_waits_is_told_its_place_and_one_too_many_to_come_back() {
    let mut world = stuck(LoginConfig { queue_max: 2, ..config() }).await;
    for session in 11..=13 {
        world.open(session, "192.0.2.1");
        world.send(session, 1, &login(&format!("waits-{session}")));
    }
    assert_eq!(faults(&mut world, 1).await, [(13, FaultCode::Busy)]);
    let first = queued(&mut world, 11).await;
    assert_eq!((first.position, first.waiting, first.reason()), (1, 2, QueueReason::Logins));
    assert_eq!(queued(&mut world, 12).await.position, 2);
}

#[tokio::test]
async fn who_comes_back_from_its_address_has_its_place_and_those_of_the_zone_file_pass() {
    let mut world = stuck(config()).await;
    for (session, account) in [(11, "alice"), (12, "bob"), (13, "carol")] {
        world.open(session, "192.0.2.1");
        world.send(session, 1, &login(account));
    }
    world.end(11);
    world.open(14, "192.0.2.66");
    world.send(14, 1, &login("alice"));
    world.open(15, "192.0.2.1");
    world.send(15, 1, &login("alice"));
    world.open(16, "192.0.2.3");
    world.send(16, 1, &login("gm_anna"));
    // Of one link all is taken in order: when the place of the last one is told, the others have theirs.
    assert_eq!(queued(&mut world, 16).await.position, 1);
    assert_eq!(world.dc.lock().unwrap().release(), 4);
    faults(&mut world, 9).await;
    let order = world.dc.lock().unwrap().finds.split_off(4);
    assert_eq!(order, ["gm_anna", "alice", "bob", "carol", "alice"], "at the end who only knows alice's name");
}

#[tokio::test]
async fn the_valve_lets_so_many_through() {
    let config = LoginConfig { logins_per_s: Some(1), ..config() };
    let mut world = World::start(config).await;
    for session in 11..=13 {
        world.open(session, "192.0.2.1");
        world.send(session, 1, &login(&format!("nobody-{session}")));
    }
    let (mut order, mut told) = (Vec::new(), Vec::new());
    while order.len() < 3 {
        match world.next().await {
            Seen::Client(to, frame) if frame.kind() == Fault::KIND => order.push(to),
            Seen::Client(to, frame) if frame.kind() == Queued::KIND => told.push(to),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(order, [11, 12, 13]);
    assert!(told.contains(&13), "whoever waits for longer than a second is told so");
}

#[tokio::test]
async fn a_full_zone_takes_those_who_wait_in_order_and_gms_at_once() {
    let mut world = World::start(config()).await;
    for (session, account) in [(1, "alice"), (2, "bob"), (3, "carol"), (4, "gm_anna")] {
        world.play(session, account).await;
        world.end(session);
    }
    world.center.lock().unwrap().room = Some(0);
    for (session, account, position) in [(11, "alice", 1), (12, "bob", 2)] {
        world.open(session, "192.0.2.1");
        world.send(session, 1, &login(account));
        let told = queued(&mut world, session).await;
        assert_eq!((told.position, told.reason()), (position, QueueReason::ZoneFull));
    }
    world.open(14, "192.0.2.1");
    world.send(14, 1, &login("gm_anna"));
    assert!(matches!(world.next().await, Seen::Authenticated(14, _)));
    let _: LoggedIn = world.answer(14, 1).await;

    // Alice loses her connection and comes back: she is still before bob, whatever her address is by now.
    world.end(11);
    world.open(15, "192.0.2.9");
    world.send(15, 1, &login("alice"));
    assert_eq!(queued(&mut world, 15).await.position, 1);
    world.center.lock().unwrap().room = Some(1);
    assert!(matches!(world.next().await, Seen::Authenticated(15, _)));
    let _: LoggedIn = world.answer(15, 1).await;
    world.center.lock().unwrap().room = Some(1);
    loop {
        match world.next().await {
            Seen::Authenticated(session, _) => break assert_eq!(session, 12),
            Seen::Client(12, frame) if frame.kind() == Queued::KIND => (),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn who_was_replaced_while_center_was_asked_about_it_is_told_so() {
    let mut world = World::start(config()).await;
    world.play(1, "alice").await;
    world.end(1);
    world.center.lock().unwrap().room = Some(0);
    world.open(11, "192.0.2.1");
    world.send(11, 1, &login("alice"));
    queued(&mut world, 11).await;
    let asked = held_claim(&world).await;
    world.open(12, "192.0.2.1");
    world.send(12, 1, &login("alice"));
    assert_eq!(queued(&mut world, 12).await.position, 1);
    asked.answer::<SessionClaim>(Err(fault(CallFaultCode::CallZoneFull, "full")));
    assert_eq!(faults(&mut world, 1).await, [(11, FaultCode::LoggedInElsewhere)]);
    world.center.lock().unwrap().room = Some(1);
    assert!(matches!(world.next().await, Seen::Authenticated(12, _)));
    let _: LoggedIn = world.answer(12, 1).await;
}

#[tokio::test]
async fn who_waits_when_the_process_stops_is_told_to_come_back() {
    let mut world = stuck(config()).await;
    world.open(11, "192.0.2.1");
    world.send(11, 1, &login("alice"));
    queued(&mut world, 11).await;
    world.login.tasks.stop_token().cancel();
    assert_eq!(faults(&mut world, 1).await, [(11, FaultCode::Unavailable)]);
}

#[tokio::test]
async fn the_password_is_checked_before_a_full_zone_is_spoken_of() {
    let mut world = World::start(config()).await;
    world.play(1, "alice").await;
    world.end(1);
    world.center.lock().unwrap().room = Some(0);
    world.open(11, "192.0.2.1");
    assert_eq!(world.login_fault(11, "alice", "wrong horse").await.code(), FaultCode::BadCredentials);
    assert!(tokio::time::timeout(Duration::ZERO, world.next()).await.is_err(), "nobody waits");
}
