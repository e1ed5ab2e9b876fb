//! What a client may say, and what it is told when it may not.

use proto::{
    client::{Bye, HeartbeatAck, LoggedIn, Login, Move, Position, Said, Say, WorldChat},
    internal::SessionEnded,
    kinds::{self, Destination, States},
};

use super::*;

#[tokio::test]
async fn only_a_greeting_begins_a_connection() {
    let test = TestZone::start().await;
    let mut client = test.client();
    client.send(4, &Login::default()).await;
    assert_eq!(client.fault(4).await, FaultCode::IllegalState);
    client.send_bytes(Frame::from_body(Hello::KIND, 5, &[0xff]).bytes()).await;
    assert_eq!(client.fault(5).await, FaultCode::Malformed);
    client.greet().await;
    client.send(6, &Hello { protocol_version: proto::PROTOCOL_VERSION, client: String::new() }).await;
    assert_eq!(client.fault(6).await, FaultCode::IllegalState);
}

#[tokio::test]
async fn who_says_nothing_is_closed_at_the_deadline() {
    let test = TestZone::start().await;
    let mut client = test.gate.client_until(1024, Instant::now() + Duration::from_millis(20));
    // Half a greeting is no greeting.
    client.send_bytes(&Frame::from_body(Hello::KIND, 1, &[]).bytes()[..9]).await;
    assert_eq!(client.closing().await.code(), FaultCode::TimedOut);
    assert!(test.gate.gate.all().is_empty());
}

#[tokio::test]
async fn another_protocol_version_is_told_ours() {
    let test = TestZone::start().await;
    let mut client = test.client();
    client.send(1, &Hello { protocol_version: 999, client: String::new() }).await;
    let closing = client.closing().await;
    assert_eq!(closing.code(), FaultCode::WrongVersion);
    assert!(closing.text.contains(&proto::PROTOCOL_VERSION.to_string()), "{}", closing.text);
}

#[tokio::test]
async fn in_every_state_exactly_the_legal_kinds_pass() {
    let mut test = TestZone::start().await;
    for state in [States::CONNECTED, States::AUTHENTICATED, States::PLAYING] {
        for row in kinds::TABLE.iter().filter(|row| row.direction == Direction::ToServer && row.destination != Destination::Gate) {
            let mut client = match state {
                States::CONNECTED => {
                    let mut client = test.client();
                    client.greet().await;
                    client
                }
                States::AUTHENTICATED => test.logged_in().await,
                _ => test.playing().await,
            };
            client.send_bytes(Frame::from_body(row.kind, 7, &[]).bytes()).await;
            if !row.states.has(state) {
                assert_eq!(client.fault(7).await, FaultCode::IllegalState, "{}", row.name);
                continue;
            }
            let backend = match row.destination {
                Destination::Login => &mut test.login,
                Destination::Center => &mut test.center,
                Destination::Scene | Destination::Gate => &mut test.scene,
            };
            assert_eq!(backend.forwarded(client.session).await.kind(), row.kind, "{}", row.name);
        }
    }
}

#[tokio::test]
async fn unknown_kinds_are_faults_and_many_of_them_end_the_session() {
    let mut test = TestZone::start().await;
    let mut client = test.playing().await;
    let unknown = Frame::from_body(0x7777, 3, b"what");
    client.send_bytes(unknown.bytes()).await;
    assert_eq!(client.fault(3).await, FaultCode::UnknownKind);
    client.send(4, &Say { text: "still here".into() }).await;
    assert_eq!(test.scene.forwarded(client.session).await.seq(), 4);
    for _ in 1..crate::limits::STRIKES_MAX {
        client.send_bytes(unknown.bytes()).await;
        assert_eq!(client.fault(3).await, FaultCode::UnknownKind);
    }
    client.send_bytes(unknown.bytes()).await;
    let closing = client.closing().await;
    assert_eq!((closing.code(), closing.resumable), (FaultCode::UnknownKind, false));
    assert_eq!(test.scene.notice::<SessionEnded>(client.session).await.reason(), FaultCode::UnknownKind);
}

#[tokio::test]
async fn what_cannot_be_a_frame_ends_the_session_with_a_reason() {
    let mut test = TestZone::start().await;
    let say_kind = Say::KIND.to_le_bytes();
    let oversize_of_kind = [&2000u32.to_le_bytes()[..], &say_kind].concat();
    let cases = [
        (u32::MAX.to_le_bytes().to_vec(), FaultCode::Oversize),
        (oversize_of_kind, FaultCode::Oversize),
        (Frame::from_body(Move::KIND, 1, &[0; 33]).into_bytes().to_vec(), FaultCode::Oversize),
        (0u32.to_le_bytes().to_vec(), FaultCode::Malformed),
    ];
    for (bytes, code) in cases {
        let mut client = test.playing().await;
        client.send_bytes(&bytes).await;
        let closing = client.closing().await;
        assert_eq!((closing.code(), closing.resumable), (code, false));
        for backend in [&mut test.scene, &mut test.center] {
            assert_eq!(backend.notice::<SessionEnded>(client.session).await.reason(), code);
        }
        let mut again = test.client();
        again.resume(&client.ticket(), client.received).await;
        let call = test.center.call().await;
        call.answer::<proto::internal::SessionResume>(Err(service::link::fault(proto::internal::CallFaultCode::CallNotFound, "gone")));
        assert_eq!(again.fault(1).await, FaultCode::TicketRefused);
    }
}

#[tokio::test]
async fn requests_over_the_rate_are_told_when_to_try_again() {
    let mut test = TestZone::start().await;
    let mut client = test.client();
    client.greet().await;
    let (_, burst) = kinds::Bucket::Login.rate();
    for seq in 1..=burst + 1 {
        client.send(seq, &Login::default()).await;
    }
    let (seq, fault) = client.expect::<Fault>().await;
    assert_eq!((seq, fault.code()), (burst + 1, FaultCode::RateLimited));
    assert!((1..=500).contains(&fault.retry_ms), "{fault:?}");
    for seq in 1..=burst {
        assert_eq!(test.login.forwarded(client.session).await.seq(), seq);
    }
}

#[tokio::test]
async fn a_flood_of_moves_is_dropped_and_then_the_client() {
    let mut test = TestZone::start().await;
    let mut client = test.playing().await;
    let step = Frame::encode(0, &Move { to: Some(Position { x: 1, y: 1 }) });
    let flood: Vec<u8> = std::iter::repeat_n(&step.bytes()[..], 1000).flatten().copied().collect();
    // The gate may close before it has read all.
    let _ = client.io.write_all(&flood).await;
    let closing = client.closing().await;
    assert_eq!((closing.code(), closing.resumable), (FaultCode::RateLimited, false));
    test.scene.settled().await;
    let is_move = |seen: &&Seen| matches!(seen, Seen::Frame(frame) if frame.kind == link::FORWARD);
    let passed = test.scene.passed_over.iter().filter(is_move).count();
    assert!((1..=60).contains(&passed), "{passed} moves went through");
}

#[tokio::test]
async fn acknowledging_what_was_never_sent_is_a_fault() {
    let mut test = TestZone::start().await;
    let mut client = test.logged_in().await;
    client.send(3, &HeartbeatAck { stamp_us: 0, received: client.received + 1 }).await;
    assert_eq!(client.fault(3).await, FaultCode::Invalid);
    client.send_bytes(Frame::from_body(HeartbeatAck::KIND, 4, &[0xff]).bytes()).await;
    assert_eq!(client.fault(4).await, FaultCode::Malformed);
    client.send(5, &HeartbeatAck { stamp_us: 0, received: client.received }).await;
    test.login.deliver(client.session, 0, &LoggedIn::default());
    client.expect::<LoggedIn>().await;
}

#[tokio::test]
async fn logging_out_ends_the_session_at_every_backend() {
    let mut test = TestZone::start().await;
    let mut client = test.playing().await;
    client.send(2, &WorldChat { text: "bye".into() }).await;
    client.send(0, &Bye {}).await;
    let closing = client.closing().await;
    assert_eq!((closing.code(), closing.resumable), (FaultCode::Unspecified, false));
    for backend in [&mut test.scene, &mut test.center] {
        assert_eq!(backend.notice::<SessionEnded>(client.session).await.reason(), FaultCode::Unspecified);
    }
    assert!(test.gate.gate.all().is_empty());
}

#[tokio::test]
async fn what_happens_is_emitted() {
    let mut test = TestZone::start().await;
    let mut client = test.client();
    client.greet().await;
    client.send(2, &Login::default()).await;
    test.login.forwarded(client.session).await;
    client.send(3, &Say { text: "too early".into() }).await;
    client.fault(3).await;
    client.send(0, &Bye {}).await;
    client.closing().await;
    let events = test.gate.gate.process.events.take().expect("events wait for logsvc").events;
    let kinds: Vec<String> = events.iter().map(proto::json::event::kind).collect();
    assert_eq!(kinds, ["connected", "login_step", "login_step", "fault_shown", "disconnected"]);
    assert!(events.iter().all(|event| event.session == client.session));
    assert_eq!(events[2].caused_by, events[1].id);
    let shown = proto::json::event::to_json(&events[3]);
    assert_eq!(shown["code"], "ILLEGAL_STATE");
}

#[tokio::test]
async fn heartbeats_measure_and_their_silence_loses_the_connection() {
    let mut test = TestZone::start_with(|_, config| config.heartbeat = Duration::from_millis(150)).await;
    let mut client = test.playing().await;
    loop {
        let Some(frame) = client.next().await else { panic!("closed while it answers") };
        let Ok(beat) = frame.decode::<Heartbeat>() else { continue };
        client.send(0, &HeartbeatAck { stamp_us: beat.stamp_us, received: client.received }).await;
        if 0 < beat.rtt_us {
            break;
        }
    }
    let closing = client.closing().await;
    assert_eq!((closing.code(), closing.resumable), (FaultCode::TimedOut, true));
    test.scene.notice::<proto::internal::SessionLost>(client.session).await;
    test.scene.deliver(client.session, 0, &Said::default());
    test.scene.settled().await;
    let mut back = test.client();
    back.resume(&client.ticket(), client.received).await;
    assert_eq!(back.expect::<proto::client::Resumed>().await.1.missed, 1);
}
