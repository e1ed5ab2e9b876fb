//! Lost connections, tickets, slow clients, and the stop of a gate.

use proto::{
    client::{CellMoves, Entered, Resumed, Said, Say},
    internal::{CallFaultCode, SessionBack, SessionEnded, SessionLost, SessionResume, SessionResumed},
    link::Publish,
};
use service::link::fault;

use super::*;

fn said(number: u64) -> Said {
    Said { text: number.to_string(), ..Said::default() }
}

async fn expect_numbers(client: &mut Client, numbers: std::ops::RangeInclusive<u64>) {
    for number in numbers {
        assert_eq!(client.expect::<Said>().await.1.text, number.to_string());
    }
}

/// Loses the connection; the backends have heard of it.
async fn cut(test: &mut TestZone, client: Client) -> (u64, Vec<Bytes>, u64) {
    let Client { session, tickets, received, io, .. } = client;
    drop(io);
    test.scene.notice::<SessionLost>(session).await;
    test.center.notice::<SessionLost>(session).await;
    (session, tickets, received)
}

#[tokio::test]
async fn a_lost_session_resumes_and_misses_nothing() {
    let mut test = TestZone::start().await;
    let mut client = test.playing().await;
    for number in 1..=3 {
        test.scene.deliver(client.session, 0, &said(number));
    }
    expect_numbers(&mut client, 1..=2).await;
    // The third was written, and is lost with the connection.
    let (session, tickets, received) = cut(&mut test, client).await;
    for number in 4..=6 {
        test.scene.deliver(session, 0, &said(number));
    }
    test.scene.settled().await;
    let mut back = test.client();
    back.resume(&tickets[0], received).await;
    let (seq, resumed) = back.expect::<Resumed>().await;
    assert_eq!((seq, resumed.session, resumed.continued, resumed.missed), (1, session, true, 4));
    expect_numbers(&mut back, 3..=6).await;
    test.scene.notice::<SessionBack>(session).await;
    let told = test.center.notice::<SessionBack>(session).await;
    assert_eq!(told.nonce.len(), 16);
    back.send(7, &Say { text: "back".into() }).await;
    assert_eq!(test.scene.forwarded(session).await.seq(), 7);
}

#[tokio::test]
async fn a_ticket_is_used_once_and_a_newer_one_is_given() {
    let mut test = TestZone::start().await;
    let client = test.playing().await;
    let (session, tickets, received) = cut(&mut test, client).await;
    let mut back = test.client();
    back.resume(&tickets[0], received).await;
    back.expect::<Resumed>().await;
    while back.tickets.is_empty() {
        back.next().await.expect("a new ticket comes");
    }
    let newer = back.ticket();
    cut(&mut test, back).await;
    let mut again = test.client();
    again.resume(&tickets[0], received).await;
    assert_eq!(again.fault(1).await, FaultCode::TicketUsed);
    again.resume(&newer, received).await;
    assert_eq!(again.expect::<Resumed>().await.1.session, session);
}

#[tokio::test]
async fn tickets_that_are_not_ours_are_refused() {
    let mut test = TestZone::start().await;
    let client = test.playing().await;
    let (_, tickets, received) = cut(&mut test, client).await;
    let mut back = test.client();
    let mut flipped = tickets[0].to_vec();
    flipped[20] ^= 1;
    back.resume(&flipped.into(), received).await;
    assert_eq!(back.fault(1).await, FaultCode::TicketRefused);
    back.resume(&tickets[0], received + 1).await;
    assert_eq!(back.fault(1).await, FaultCode::TicketRefused, "so many messages were never sent");
    back.resume(&tickets[0], received).await;
    back.expect::<Resumed>().await;
}

#[tokio::test]
async fn a_resume_replaces_a_connection_that_is_still_there() {
    let mut test = TestZone::start().await;
    let mut first = test.playing().await;
    let mut second = test.client();
    second.resume(&first.ticket(), first.received).await;
    assert!(second.expect::<Resumed>().await.1.continued);
    assert!(!first.closing().await.resumable);
    test.scene.deliver(first.session, 0, &said(1));
    expect_numbers(&mut second, 1..=1).await;
    assert_eq!(test.gate.gate.all().len(), 1);
}

#[tokio::test]
async fn when_the_window_is_over_the_session_ends() {
    let mut test = TestZone::start_with(|zone, _| zone.players.resume_window = Duration::from_millis(200)).await;
    let client = test.playing().await;
    let (session, _, _) = cut(&mut test, client).await;
    for backend in [&mut test.scene, &mut test.center] {
        assert_eq!(backend.notice::<SessionEnded>(session).await.reason(), FaultCode::TimedOut);
    }
    assert!(test.gate.gate.all().is_empty());
}

#[tokio::test]
async fn a_session_that_is_not_logged_in_ends_with_its_connection() {
    let mut test = TestZone::start().await;
    let mut client = test.client();
    client.greet().await;
    client.send(2, &proto::client::Login::default()).await;
    test.login.forwarded(client.session).await;
    let session = client.session;
    drop(client);
    test.login.notice::<SessionEnded>(session).await;
}

#[tokio::test]
async fn another_gate_takes_a_session_over_by_way_of_center() {
    let mut test = TestZone::start().await;
    let client = test.playing().await;
    let (session, tickets, received) = cut(&mut test, client).await;
    let gate = test.another_gate().await;
    let mut back = gate.client();
    back.resume(&tickets[0], received).await;
    let call = test.center.call().await;
    let asked = call.parse::<SessionResume>().unwrap();
    assert_eq!((asked.session, asked.account, asked.session_epoch, asked.nonce.len()), (session, 5, 3, 16));
    // The scene binds before center answers; what it sends waits behind `Resumed`.
    test.scene.link().notify(session, &SessionBound { player: 9, player_name: "Nine".into() }).unwrap();
    test.scene.deliver(session, 0, &Entered::default());
    until("the scene is heard first", || gate.gate.session(session).is_some_and(|found| 0 < found.queued_bytes())).await;
    call.answer::<SessionResume>(Ok(SessionResumed { account_name: "five".into(), player: 9 }));
    let (_, resumed) = back.expect::<Resumed>().await;
    assert!(!resumed.continued);
    back.expect::<Entered>().await;
    back.send(7, &Say { text: "here".into() }).await;
    let opened = test.scene.notice::<SessionOpened>(session).await;
    assert_eq!((opened.account, opened.account_name.as_str(), opened.player), (5, "five", 9));
    test.scene.forwarded(session).await;
    // The count started again with `Entered`.
    back.send(0, &proto::client::HeartbeatAck { stamp_us: 0, received: 1 }).await;
    test.scene.deliver(session, 0, &said(1));
    expect_numbers(&mut back, 1..=1).await;
}

#[tokio::test]
async fn what_center_refuses_is_told_and_nothing_stays() {
    let mut test = TestZone::start().await;
    let client = test.playing().await;
    let (_, tickets, received) = cut(&mut test, client).await;
    let gate = test.another_gate().await;
    let mut back = gate.client();
    for (refused, told) in [
        (CallFaultCode::CallTicketUsed, FaultCode::TicketUsed),
        (CallFaultCode::CallReplaced, FaultCode::LoggedInElsewhere),
        (CallFaultCode::CallNotFound, FaultCode::TicketRefused),
        (CallFaultCode::CallUnavailable, FaultCode::Unavailable),
    ] {
        back.resume(&tickets[0], received).await;
        test.center.call().await.answer::<SessionResume>(Err(fault(refused, "no")));
        assert_eq!(back.fault(1).await, told);
        assert!(gate.gate.all().is_empty());
    }
    test.center.tasks.stop(SOON).await.unwrap();
    until("the gate sees it", || gate.gate.backends.center().is_none()).await;
    back.resume(&tickets[0], received).await;
    let (_, away) = back.expect::<Fault>().await;
    assert_eq!((away.code(), away.retry_ms), (FaultCode::Unavailable, 500));
}

#[tokio::test]
async fn a_scene_that_binds_a_session_that_is_over_hears_so() {
    let mut test = TestZone::start().await;
    test.scene.link().notify(77, &SessionBound::default()).unwrap();
    assert_eq!(test.scene.notice::<SessionEnded>(77).await.reason(), FaultCode::TimedOut);
    let client = test.logged_in().await;
    let session = client.session;
    drop(client);
    test.center.notice::<SessionLost>(session).await;
    test.scene.link().notify(session, &SessionBound::default()).unwrap();
    test.scene.notice::<SessionLost>(session).await;
}

const SMALL_QUEUE: usize = 16 * 1024;

#[tokio::test]
async fn a_slow_client_costs_a_bounded_number_of_bytes_and_the_others_nothing() {
    let mut test = TestZone::start_with(|_, config| config.client_queue_bytes_max = SMALL_QUEUE).await;
    let mut slow = test.gate.client_with(512);
    slow.greet().await;
    test.login.link().notify(slow.session, &authenticated()).unwrap();
    let mut quick = test.playing().await;
    let scene = test.scene.link().clone();
    for client in [&slow, &quick] {
        scene.group_join(1, client.session).unwrap();
    }
    for tick in 0..2000 {
        let moves = CellMoves { tick, moved: vec![1; 300].into() };
        scene.group_publish(1, &Publish { except: 0, frame: Frame::encode(0, &moves) }).unwrap();
        scene.tick_end(tick.into()).unwrap();
        assert_eq!(quick.expect::<CellMoves>().await.1.tick, tick, "who reads misses nothing");
        let held = test.gate.gate.session(slow.session).expect("the slow one stays").queued_bytes();
        assert!(held <= SMALL_QUEUE, "{held} bytes in tick {tick}");
    }
}

#[tokio::test]
async fn a_client_too_slow_for_its_reliable_messages_is_closed_and_gets_them_later() {
    let mut test = TestZone::start_with(|_, config| config.client_queue_bytes_max = SMALL_QUEUE).await;
    let mut slow = test.gate.client_with(512);
    slow.greet().await;
    test.login.link().notify(slow.session, &authenticated()).unwrap();
    test.login.deliver(slow.session, 0, &LoggedIn::default());
    slow.expect::<LoggedIn>().await;
    test.bind(&mut slow).await;
    // Three quarters of what is kept for a resume.
    let count = 3 * SMALL_QUEUE as u64 / 200;
    for number in 1..=count {
        test.scene.deliver(slow.session, 0, &Said { from: "x".repeat(180), ..said(number) });
    }
    test.scene.notice::<SessionLost>(slow.session).await;
    let mut heard = 0;
    let closing = loop {
        let frame = slow.said().await.expect("a reason comes before the end");
        match frame.decode::<Closing>() {
            Ok(closing) => break closing,
            Err(_) => heard += 1,
        }
    };
    assert_eq!((closing.code(), closing.resumable), (FaultCode::TooSlow, true));
    assert!(heard < count);
    let mut back = test.client();
    back.resume(&slow.ticket(), slow.received).await;
    let (_, resumed) = back.expect::<Resumed>().await;
    assert!(resumed.continued);
    expect_numbers(&mut back, heard + 1..=count).await;
}

#[tokio::test]
async fn a_session_that_missed_too_much_comes_back_with_full_state() {
    let mut test = TestZone::start_with(|_, config| config.client_queue_bytes_max = SMALL_QUEUE).await;
    let client = test.playing().await;
    let (session, tickets, received) = cut(&mut test, client).await;
    for number in 0..SMALL_QUEUE as u64 / 20 {
        test.scene.deliver(session, 0, &Said { from: "x".repeat(180), ..said(number) });
    }
    test.scene.settled().await;
    assert_eq!(test.gate.gate.session(session).expect("it stays").queued_bytes(), 0);
    let mut back = test.client();
    back.resume(&tickets[0], received).await;
    let call = test.center.call().await;
    test.scene.deliver(session, 0, &Entered::default());
    test.scene.settled().await;
    call.answer::<SessionResume>(Ok(SessionResumed { account_name: "five".into(), player: 9 }));
    assert!(!back.expect::<Resumed>().await.1.continued);
    back.expect::<Entered>().await;
}

#[tokio::test]
async fn a_gate_that_stops_sends_its_clients_elsewhere_and_tells_no_backend() {
    let mut test = TestZone::start().await;
    let mut client = test.playing().await;
    test.scene.deliver(client.session, 0, &said(1));
    test.scene.settled().await;
    test.gate.gate.process.tasks.stop_token().cancel();
    let clients = async {
        expect_numbers(&mut client, 1..=1).await;
        let closing = client.closing().await;
        assert_eq!((closing.code(), closing.resumable), (FaultCode::Shutdown, true));
        drop(client);
    };
    tokio::join!(crate::drain(&test.gate.gate), clients);
    test.scene.settled().await;
    let told = |seen: &Seen| matches!(seen, Seen::Frame(frame) if [SessionLost::KIND, SessionEnded::KIND].contains(&frame.kind));
    assert!(!test.scene.passed_over.iter().any(told), "the scene takes the gate for lost when the link goes down");
}
