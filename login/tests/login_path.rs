//! The login process over real links, between fakes.

mod fakes;

use fakes::{Seen, World, config};
use proto::{
    client::{CreateRole, DeleteRole, Enter, Fault, FaultCode, ListRoles, LoggedIn, Login, Register, RoleDeleted, RoleList},
    internal::{CallFaultCode, Sanction, SanctionKind, SessionClaim, SessionClaimed, SessionOpened},
};
use service::config::LoginConfig;

#[tokio::test]
async fn register_log_in_and_enter() {
    let mut world = World::start(config()).await;
    world.open(7, "192.0.2.1");
    world.send(7, 1, &Register { account: "Alice".into(), password: "correct horse".into() });
    let _: proto::client::Registered = world.answer(7, 1).await;
    assert!(world.dc.lock().unwrap().accounts["alice"].password_hash.starts_with("$argon2id$"));

    world.send(7, 2, &Login { account: "ALICE".into(), password: "correct horse".into() });
    let Seen::Authenticated(7, authenticated) = world.next().await else { panic!("the gate is told before the client") };
    assert_eq!((authenticated.account, authenticated.account_name.as_str(), authenticated.session_epoch), (1, "alice", 1));
    let logged_in: LoggedIn = world.answer(7, 2).await;
    assert_eq!((logged_in.account, logged_in.roles.len(), logged_in.roles_max), (1, 0, 4));
    let claim = world.center.lock().unwrap().claims[0].clone();
    assert_eq!((claim.session, claim.account, claim.gate.as_str(), claim.address.as_str()), (7, 1, "gate-1", "192.0.2.1"));

    world.send(7, 3, &CreateRole { name: "Alicia".into() });
    let created: proto::client::RoleCreated = world.answer(7, 3).await;
    let role = created.role.unwrap();
    let record = world.dc.lock().unwrap().records[0].clone();
    assert_eq!((record.account, record.level, record.coins, record.hp), (1, 1, 0, 0));
    assert_eq!((record.map.as_str(), record.position.unwrap().x), ("meadow", 10_000));
    assert!(record.created_ms > 0);
    world.send(7, 4, &ListRoles {});
    let list: RoleList = world.answer(7, 4).await;
    assert_eq!(list.roles, std::slice::from_ref(&role));

    world.send(7, 5, &Enter { player: role.player });
    // It is the scene that answers the client.
    wait_for(&world, |world| !world.center.lock().unwrap().enters.is_empty()).await;
    let enter = world.center.lock().unwrap().enters[0].clone();
    assert_eq!((enter.session, enter.account, enter.player, enter.seq), (7, 1, role.player, 5));
    assert_eq!((enter.name.as_str(), enter.map.as_str()), ("Alicia", "meadow"));
    world.stop().await;
}

/// Yields until something that others do is done.
async fn wait_for(world: &World, done: impl Fn(&World) -> bool) {
    let wait = async {
        while !done(world) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(fakes::WITHIN, wait).await.expect("it happens");
}

#[tokio::test]
async fn an_unknown_account_and_a_wrong_password_look_the_same() {
    let mut world = World::start(config()).await;
    world.play(7, "alice").await;
    world.open(8, "192.0.2.2");
    let wrong = world.login_fault(8, "alice", "wrong horse").await;
    let unknown = world.login_fault(8, "nobody", "correct horse").await;
    let unnamed = world.login_fault(8, "no name!", "correct horse").await;
    assert_eq!(wrong.code(), FaultCode::BadCredentials);
    assert_eq!(wrong, unknown);
    assert_eq!(wrong, unnamed);
}

#[tokio::test]
async fn the_banned_are_told_why_and_until_when() {
    let mut world = World::start(config()).await;
    world.play(7, "alice").await;
    let ban =
        Sanction { kind: SanctionKind::Ban.into(), account: 1, reason: "spam".into(), until_ms: 1_767_225_600_000, ..Sanction::default() };
    world.dc.lock().unwrap().accounts.get_mut("alice").unwrap().sanctions.push(ban);
    world.open(8, "192.0.2.2");
    let fault = world.login_fault(8, "alice", "correct horse").await;
    assert_eq!(fault, Fault::new(FaultCode::Banned, "this account is banned until 2026-01-01T00:00:00Z: spam"));
    assert_eq!(world.center.lock().unwrap().claims.len(), 1, "the older session is not closed by it");
    let wrong = world.login_fault(8, "alice", "wrong horse").await;
    assert_eq!(wrong.code(), FaultCode::BadCredentials, "only who knows the password learns of the ban");
}

/// Answers the claim that center was asked for.
fn grant(world: &World) {
    let held = world.center.lock().unwrap().held_claims.take().unwrap();
    held.into_iter().for_each(|call| call.answer::<SessionClaim>(Ok(SessionClaimed { session_epoch: 9 })));
}

#[tokio::test]
async fn a_ban_that_comes_while_the_password_is_checked_is_not_missed() {
    let mut world = World::start(config()).await;
    world.play(7, "alice").await;
    world.center.lock().unwrap().held_claims = Some(Vec::new());
    world.open(8, "192.0.2.2");
    world.send(8, 1, &Login { account: "alice".into(), password: "correct horse".into() });
    wait_for(&world, |world| world.center.lock().unwrap().claims.len() == 2).await;
    let ban = Sanction { kind: SanctionKind::Ban.into(), account: 1, ..Sanction::default() };
    world.dc.lock().unwrap().accounts.get_mut("alice").unwrap().sanctions.push(ban);
    grant(&world);
    assert_eq!(world.answer::<Fault>(8, 1).await.code(), FaultCode::Banned);
}

#[tokio::test]
async fn a_client_that_goes_while_it_is_claimed_leaves_no_claim_behind() {
    let mut world = World::start(config()).await;
    world.play(7, "alice").await;
    world.center.lock().unwrap().held_claims = Some(Vec::new());
    world.open(8, "192.0.2.2");
    world.send(8, 1, &Login { account: "alice".into(), password: "correct horse".into() });
    wait_for(&world, |world| world.center.lock().unwrap().claims.len() == 2).await;
    world.end(8);
    // Requests of one link are taken in order: when this one is answered, the end was heard.
    world.open(9, "192.0.2.3");
    world.send(9, 1, &ListRoles {});
    assert_eq!(world.answer::<Fault>(9, 1).await.code(), FaultCode::IllegalState);
    grant(&world);
    let Seen::Authenticated(8, told) = world.next().await else {
        panic!("the gate hears of the claim, and tells center that nobody is there")
    };
    assert_eq!(told.session_epoch, 9);
}

#[tokio::test]
async fn failures_use_up_the_budget_of_their_own_address_only() {
    let mut world = World::start(LoginConfig { failures_per_minute: 2, ..config() }).await;
    world.play(7, "alice").await;
    world.open(8, "192.0.2.66");
    for _ in 0..2 {
        assert_eq!(world.login_fault(8, "alice", "wrong horse").await.code(), FaultCode::BadCredentials);
    }
    let fault = world.login_fault(8, "alice", "correct horse").await;
    assert_eq!(fault.code(), FaultCode::RateLimited);
    assert!(0 < fault.retry_ms && fault.retry_ms <= 30_000, "{fault:?}");
    world.open(9, "192.0.2.1");
    world.send(9, 1, &Login { account: "alice".into(), password: "correct horse".into() });
    assert!(matches!(world.next().await, Seen::Authenticated(9, _)));
}

#[tokio::test]
async fn a_session_has_one_request_at_a_time() {
    let mut world = World::start(config()).await;
    world.dc.lock().unwrap().hold = 2;
    world.open(7, "192.0.2.1");
    world.open(8, "192.0.2.1");
    world.send(7, 1, &Login { account: "alice".into(), password: "correct horse".into() });
    let second = world.login_fault(7, "alice", "correct horse").await;
    assert_eq!(second.code(), FaultCode::IllegalState);
    world.send(8, 1, &Login { account: "alice".into(), password: "correct horse".into() });
    for _ in 0..2 {
        let Seen::Client(_, frame) = world.next().await else { panic!("nobody can log in") };
        assert_eq!((frame.seq(), frame.decode::<Fault>().unwrap().code()), (1, FaultCode::BadCredentials));
    }
}

#[tokio::test]
async fn roles_have_rules_and_belong_to_their_account() {
    let mut world = World::start(config()).await;
    let own = world.play(7, "alice").await;
    let other = world.play(8, "bob").await;
    for (name, code) in [("no name!", FaultCode::Invalid), ("alice", FaultCode::NameTaken)] {
        world.send(7, 4, &CreateRole { name: name.into() });
        assert_eq!(world.answer::<Fault>(7, 4).await.code(), code);
    }
    for name in ["third", "fourth"] {
        world.send(7, 5, &CreateRole { name: name.into() });
        let _: proto::client::RoleCreated = world.answer(7, 5).await;
    }
    world.send(7, 6, &CreateRole { name: "fifth".into() });
    assert_eq!(world.answer::<Fault>(7, 6).await.code(), FaultCode::RoleLimit);
    world.send(7, 7, &DeleteRole { player: other.player });
    assert_eq!(world.answer::<Fault>(7, 7).await.code(), FaultCode::NotFound);
    world.send(7, 8, &Enter { player: other.player });
    assert_eq!(world.answer::<Fault>(7, 8).await.code(), FaultCode::NotFound);
    assert!(world.center.lock().unwrap().enters.is_empty());
    world.send(7, 9, &DeleteRole { player: own.player });
    assert_eq!(world.answer::<RoleDeleted>(7, 9).await.player, own.player);
}

#[tokio::test]
async fn what_center_refuses_the_client_hears() {
    let mut world = World::start(config()).await;
    let role = world.play(7, "alice").await;
    for (refusal, code) in [
        (CallFaultCode::CallNoLine, FaultCode::Busy),
        (CallFaultCode::CallReplaced, FaultCode::LoggedInElsewhere),
        (CallFaultCode::CallUnavailable, FaultCode::Unavailable),
        (CallFaultCode::CallInternal, FaultCode::Internal),
    ] {
        world.center.lock().unwrap().refuses_enter = Some(refusal);
        world.send(7, 5, &Enter { player: role.player });
        assert_eq!(world.answer::<Fault>(7, 5).await.code(), code);
    }
}

#[tokio::test]
async fn who_a_session_is_the_gate_says_and_states_are_checked() {
    let mut world = World::start(config()).await;
    world.send(7, 1, &ListRoles {});
    assert_eq!(world.answer::<Fault>(7, 1).await.code(), FaultCode::Unavailable, "never opened");
    world.open(7, "192.0.2.1");
    world.send(7, 2, &ListRoles {});
    assert_eq!(world.answer::<Fault>(7, 2).await.code(), FaultCode::IllegalState);
    let known = SessionOpened { address: "192.0.2.1".into(), account: 1, account_name: "alice".into(), player: 0 };
    world.open_as(7, &known);
    world.send(7, 3, &ListRoles {});
    let _: RoleList = world.answer(7, 3).await;
    assert_eq!(world.login_fault(7, "alice", "correct horse").await.code(), FaultCode::IllegalState);
    world.send(7, 4, &proto::client::Say { text: "hi".into() });
    assert_eq!(world.answer::<Fault>(7, 4).await.code(), FaultCode::UnknownKind);
}

#[tokio::test]
async fn the_steps_of_a_login_and_what_the_player_was_shown_are_logged() {
    let mut world = World::start(config()).await;
    world.start_logsvc().await;
    let role = world.play(7, "alice").await;
    world.center.lock().unwrap().refuses_enter = Some(CallFaultCode::CallNoLine);
    world.send(7, 5, &Enter { player: role.player });
    let _: Fault = world.answer(7, 5).await;
    world.open(8, "192.0.2.2");
    world.login_fault(8, "alice", "wrong horse").await;
    let expected = [
        "7 account_registered alice",
        "7 login_step 3 true ",
        "7 login_step 4 true good",
        "7 login_step 5 true roles fetched",
        "7 role_changed created",
        "7 login_step 5 true alice",
        "7 fault_shown BUSY",
        "8 login_step 3 true ",
        "8 login_step 4 false wrong password",
        "8 fault_shown BAD_CREDENTIALS",
    ];
    wait_for(&world, |world| expected.len() <= world.logged.lock().unwrap().len()).await;
    assert_eq!(*world.logged.lock().unwrap(), expected);
}

#[tokio::test]
async fn it_waits_for_dc_and_center_and_says_so() {
    let mut world = World::login_alone(config()).await;
    wait_for(&world, |world| world.login.ready.waiting_for() == ["center-1", "dc-1"]).await;
    world.start_center().await;
    wait_for(&world, |world| world.login.ready.waiting_for() == ["dc-1"]).await;
    assert!(!world.login.ready.is_ready());
    world.start_dc().await;
    world.ready().await;
    world.stop().await;
}
