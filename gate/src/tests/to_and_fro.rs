//! Between clients and backends: routes, groups, deliveries, and what follows when a backend comes or goes.

use proto::{
    client::{CellMoves, Enter, Entered, FriendList, Friends, Login, Rehoming, Said, Say, WorldChat, WorldChatted},
    internal::{GateReport, SessionClose, SessionEnded, SessionLost, SessionUnbound},
    link::Publish,
};

use super::*;

fn said(text: &str) -> Publish {
    Publish { except: 0, frame: Frame::encode(0, &Said { text: text.into(), ..Said::default() }) }
}

async fn hears(client: &mut Client, text: &str) {
    assert_eq!(client.expect::<Said>().await.1.text, text);
}

#[tokio::test]
async fn a_backend_is_told_of_a_session_once_before_its_first_frame() {
    let mut test = TestZone::start().await;
    let mut client = test.client();
    client.greet().await;
    let login = Frame::encode(8, &Login { account: "five".into(), password: "12345678".into() });
    client.send_bytes(login.bytes()).await;
    client.send(9, &Login::default()).await;
    let mut kinds = Vec::new();
    while kinds.len() < 3 {
        if let Seen::Frame(frame) = test.login.next().await {
            kinds.push(frame.kind);
            if frame.kind == SessionOpened::KIND {
                let opened = <SessionOpened as prost::Message>::decode(frame.body).unwrap();
                assert_eq!((opened.address.as_str(), opened.account), ("10.1.2.3", 0));
            } else if kinds.len() == 2 {
                assert_eq!(frame.body, login.bytes(), "the frame passes unchanged");
            }
        }
    }
    assert_eq!(kinds, [SessionOpened::KIND, link::FORWARD, link::FORWARD]);
}

#[tokio::test]
async fn a_backend_that_links_again_is_told_again_and_what_it_owed_is_refused() {
    let mut test = TestZone::start().await;
    let mut client = test.client();
    client.greet().await;
    client.send(8, &Login::default()).await;
    client.send(9, &Login::default()).await;
    test.login.forwarded(client.session).await;
    test.login.forwarded(client.session).await;
    test.login.deliver(client.session, 8, &Fault::new(FaultCode::BadCredentials, "no"));
    assert_eq!(client.fault(8).await, FaultCode::BadCredentials);
    test.login.link().close();
    let (seq, fault) = client.expect::<Fault>().await;
    assert_eq!((seq, fault.code(), fault.retry_ms), (9, FaultCode::Unavailable, 500));
    test.login.passed_over.clear();
    test.login.up().await;
    until("the gate has the new link", || test.gate.gate.backends.count(ProcessKind::Login) == 1).await;
    client.send(10, &Login::default()).await;
    test.login.notice::<SessionOpened>(client.session).await;
    assert_eq!(test.login.forwarded(client.session).await.seq(), 10);
}

#[tokio::test]
async fn a_request_has_one_answer_though_its_login_died() {
    let mut test = TestZone::start().await;
    let mut client = test.logged_in().await;
    client.send(8, &Enter { player: 9 }).await;
    test.login.forwarded(client.session).await;
    test.login.link().close();
    assert_eq!(client.fault(8).await, FaultCode::Unavailable);
    // Center had it by then, and the scene lets the player in.
    test.scene.link().notify(client.session, &SessionBound { player: 9, player_name: "Nine".into() }).unwrap();
    test.scene.deliver(client.session, 8, &Entered { player: 9, ..Entered::default() });
    let (seq, entered) = client.expect::<Entered>().await;
    assert_eq!((seq, entered.player), (0, 9), "news, not a second answer");
}

#[tokio::test]
async fn what_center_owed_when_it_went_away_is_refused() {
    let mut test = TestZone::start().await;
    let mut client = test.playing().await;
    client.send(5, &FriendList {}).await;
    client.send(6, &FriendList {}).await;
    test.center.forwarded(client.session).await;
    test.center.forwarded(client.session).await;
    test.center.deliver(client.session, 5, &Friends::default());
    assert_eq!(client.expect::<Friends>().await.0, 5);
    test.center.link().close();
    assert_eq!(client.fault(6).await, FaultCode::Unavailable);
}

#[tokio::test]
async fn center_hears_of_a_session_as_soon_as_it_is_logged_in() {
    let mut test = TestZone::start().await;
    let client = test.logged_in().await;
    let opened = test.center.notice::<SessionOpened>(client.session).await;
    assert_eq!((opened.account, opened.player), (5, 0));
}

#[tokio::test]
async fn a_scene_that_another_took_a_session_from_shows_it_nothing_more() {
    let mut test = TestZone::start().await;
    let mut other = Backend::start(&test.zone, "scene-2", ProcessKind::Scene).await;
    let mut member = test.zone.processes[&ProcessId("scene-1".into())].clone();
    (member.id, member.link) = (ProcessId("scene-2".into()), other.links.local_addr());
    test.zone.processes.insert(member.id.clone(), member);
    let gate = test.another_gate().await;
    other.up().await;
    let mut client = gate.client();
    client.greet().await;
    test.login.link().notify(client.session, &authenticated()).unwrap();
    test.login.deliver(client.session, 0, &LoggedIn::default());
    client.expect::<LoggedIn>().await;
    test.bind(&mut client).await;
    test.scene.link().group_join(3, client.session).unwrap();
    test.scene.settled().await;
    other.link().notify(client.session, &SessionBound { player: 9, player_name: "Nine".into() }).unwrap();
    other.settled().await;
    test.scene.link().group_publish(3, &said("of the old copy")).unwrap();
    test.scene.link().tick_end(1).unwrap();
    test.scene.settled().await;
    other.deliver(client.session, 0, &Said { text: "of the new one".into(), ..Said::default() });
    hears(&mut client, "of the new one").await;
}

#[tokio::test]
async fn without_a_backend_a_request_is_unavailable() {
    let mut test = TestZone::start().await;
    let mut client = test.logged_in().await;
    test.login.tasks.stop(SOON).await.unwrap();
    until("the gate is not ready without a login", || !test.gate.gate.process.ready.is_ready()).await;
    client.send(3, &Enter { player: 9 }).await;
    let (seq, fault) = client.expect::<Fault>().await;
    assert_eq!((seq, fault.code(), fault.retry_ms), (3, FaultCode::Unavailable, 500));
}

#[tokio::test]
async fn play_goes_to_the_scene_that_bound_last_and_only_it_unbinds() {
    let mut test = TestZone::start().await;
    let mut client = test.playing().await;
    client.send(1, &Say { text: "one".into() }).await;
    assert_eq!(test.scene.forwarded(client.session).await.seq(), 1);
    // The first link is replaced by a second one of the same scene, which binds anew.
    let old = test.scene.link().clone();
    old.close();
    client.expect::<Rehoming>().await;
    client.send(2, &Say { text: "two".into() }).await;
    assert_eq!(client.fault(2).await, FaultCode::Unavailable);
    test.scene.passed_over.clear();
    test.scene.up().await;
    let opened = test.scene.notice::<SessionOpened>(client.session).await;
    assert_eq!((opened.account, opened.player), (5, 9), "the same run of a scene hears which players are of this gate");
    test.bind(&mut client).await;
    client.send(3, &Say { text: "three".into() }).await;
    assert_eq!(test.scene.forwarded(client.session).await.seq(), 3);
    test.scene.link().notify(client.session, &SessionUnbound {}).unwrap();
    test.scene.settled().await;
    client.send(4, &Say { text: "four".into() }).await;
    assert_eq!(client.fault(4).await, FaultCode::Unavailable);
}

#[tokio::test]
async fn a_tick_is_one_write() {
    let mut test = TestZone::start().await;
    let mut client = test.playing().await;
    let scene = test.scene.link().clone();
    for group in 1..=9 {
        scene.group_join(group, client.session).unwrap();
    }
    test.scene.settled().await;
    let before = client.writes.load(Ordering::SeqCst);
    for group in 1..=9 {
        let moves = Frame::encode(0, &CellMoves { tick: group, ..CellMoves::default() });
        scene.group_publish(group.into(), &Publish { except: 0, frame: moves }).unwrap();
    }
    // All nine are in the outbox now, and nobody was woken.
    test.scene.settled().await;
    assert_eq!(client.writes.load(Ordering::SeqCst), before);
    scene.tick_end(1).unwrap();
    for group in 1..=9 {
        assert_eq!(client.expect::<CellMoves>().await.1.tick, group);
    }
    assert_eq!(client.writes.load(Ordering::SeqCst), before + 1);
}

#[tokio::test]
async fn ticks_that_gathered_are_one_write() {
    let mut test = TestZone::start().await;
    let mut client = test.playing().await;
    let scene = test.scene.link().clone();
    scene.group_join(1, client.session).unwrap();
    test.scene.settled().await;
    let before = client.writes.load(Ordering::SeqCst);
    for tick in 1..=3 {
        let moves = Frame::encode(0, &CellMoves { tick, ..CellMoves::default() });
        scene.group_publish(1, &Publish { except: 0, frame: moves }).unwrap();
        scene.tick_end(tick.into()).unwrap();
    }
    for tick in 1..=3 {
        assert_eq!(client.expect::<CellMoves>().await.1.tick, tick, "each is told, in order");
    }
    assert_eq!(client.writes.load(Ordering::SeqCst), before + 1);
}

#[tokio::test]
async fn what_center_publishes_comes_without_a_tick() {
    let mut test = TestZone::start().await;
    let mut client = test.playing().await;
    let center = test.center.link().clone();
    center.group_join(1, client.session).unwrap();
    let frame = Frame::encode(0, &WorldChatted { from: "x".into(), text: "hello".into() });
    center.group_publish(1, &Publish { except: 0, frame }).unwrap();
    assert_eq!(client.expect::<WorldChatted>().await.1.text, "hello");
}

#[tokio::test]
async fn groups_follow_join_leave_except_drop_and_the_end_of_sessions() {
    let mut test = TestZone::start().await;
    let mut one = test.playing().await;
    let mut two = test.playing().await;
    let center = test.center.link().clone();
    for session in [one.session, two.session] {
        center.group_join(4, session).unwrap();
    }
    center.group_publish(4, &said("both")).unwrap();
    center.group_publish(4, &Publish { except: one.session, ..said("two") }).unwrap();
    center.group_leave(4, two.session).unwrap();
    center.group_publish(4, &said("one")).unwrap();
    center.group_drop(4).unwrap();
    center.group_publish(4, &said("nobody")).unwrap();
    center.group_join(5, two.session).unwrap();
    center.group_join(5, one.session).unwrap();
    center.group_publish(5, &said("last")).unwrap();
    for text in ["both", "one", "last"] {
        hears(&mut one, text).await;
    }
    for text in ["both", "two", "last"] {
        hears(&mut two, text).await;
    }
    assert_eq!(test.gate.gate.backends.groups(), 1);
    center.notify(two.session, &SessionClose { code: FaultCode::Kicked.into(), text: "out".into() }).unwrap();
    two.closing().await;
    one.send(0, &proto::client::Bye {}).await;
    one.closing().await;
    assert_eq!(test.gate.gate.backends.groups(), 0);
}

#[tokio::test]
async fn a_link_that_goes_down_takes_its_groups_along() {
    let mut test = TestZone::start().await;
    let mut client = test.playing().await;
    test.scene.link().group_join(1, client.session).unwrap();
    test.center.link().group_join(1, client.session).unwrap();
    test.scene.settled().await;
    until("both groups are there", || test.gate.gate.backends.groups() == 2).await;
    test.scene.link().close();
    client.expect::<Rehoming>().await;
    assert_eq!(test.gate.gate.backends.groups(), 1);
}

#[tokio::test]
async fn a_closed_session_hears_why_and_all_backends_hear_of_it() {
    let mut test = TestZone::start().await;
    let mut client = test.playing().await;
    let text = "reason ".repeat(500);
    test.center.link().notify(client.session, &SessionClose { code: FaultCode::Banned.into(), text }).unwrap();
    let closing = client.closing().await;
    assert_eq!((closing.code(), closing.resumable), (FaultCode::Banned, false));
    for backend in [&mut test.scene, &mut test.center] {
        assert_eq!(backend.notice::<SessionEnded>(client.session).await.reason(), FaultCode::Banned);
    }
}

#[tokio::test]
async fn center_gets_a_report_first_and_hears_who_is_lost() {
    let mut test = TestZone::start().await;
    let client = test.playing().await;
    let lost = test.logged_in().await;
    let _anonymous = test.client();
    let (here, away) = (client.session, lost.session);
    drop(lost);
    test.center.notice::<SessionLost>(away).await;
    test.center.link().close();
    test.center.passed_over.clear();
    test.center.up().await;
    let Seen::Frame(first) = test.center.next().await else { panic!("a report comes first") };
    assert_eq!(first.kind, GateReport::KIND);
    let report = <GateReport as prost::Message>::decode(first.body).unwrap();
    let mut sessions: Vec<_> = report.sessions.iter().map(|entry| (entry.session, entry.account, entry.player)).collect();
    sessions.sort_unstable();
    let mut expected = [(here, 5, 9), (away, 5, 0)];
    expected.sort_unstable();
    assert_eq!(sessions, expected);
    assert!(!report.more);
    test.center.notice::<SessionLost>(away).await;
}

#[tokio::test]
async fn two_logins_on_one_session_end_it() {
    let mut test = TestZone::start().await;
    let mut client = test.logged_in().await;
    test.login.link().notify(client.session, &SessionAuthenticated { account: 6, ..authenticated() }).unwrap();
    assert_eq!(client.closing().await.code(), FaultCode::IllegalState);
    assert_eq!(test.center.notice::<SessionEnded>(client.session).await.reason(), FaultCode::IllegalState);
}

#[tokio::test]
async fn frames_of_backends_that_make_no_sense_are_passed_over() {
    let mut test = TestZone::start().await;
    let mut client = test.playing().await;
    let scene = test.scene.link().clone();
    let body = |bytes: &'static [u8]| Bytes::from_static(bytes);
    for kind in [link::DELIVER, link::GROUP_PUBLISH, link::GROUP_JOIN, link::GROUP_LEAVE, 0x7777, SessionBound::KIND] {
        scene.send(LinkFrame { kind, flags: 0, id: client.session, body: body(b"\xff\xff\xff") }).unwrap();
    }
    // Neither what clients say nor what is the gate's own comes from a backend.
    scene.deliver(client.session, Frame::encode(0, &Say { text: "hi".into() })).unwrap();
    scene.deliver(client.session, Frame::encode(0, &Closing::default())).unwrap();
    scene.deliver(client.session, said("sense").frame).unwrap();
    hears(&mut client, "sense").await;
    client.send(2, &WorldChat { text: "on".into() }).await;
    assert_eq!(test.center.forwarded(client.session).await.seq(), 2);
}
