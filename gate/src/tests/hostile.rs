//! Clients over real sockets that read slowly, reset, stall or flood (FAULTS 60, 61, 68, 69, 71), and what goes to a client without its task.

use futures_util::SinkExt;
use proptest::{prelude::*, strategy::ValueTree};
use proto::{
    client::{CellMoves, Said},
    internal::SessionLost,
    kinds::States,
    link::Publish,
};
use service::net::TcpStream;
use tokio_tungstenite::{
    client_async,
    tungstenite::{
        Message,
        protocol::frame::{
            Frame as WsFrame,
            coding::{Data, OpCode},
        },
    },
};

use super::{
    from_outside::{next_message, open_doors},
    *,
};
use crate::{
    limits::Limits,
    session::{Identity, Life, Next, Session, State},
    wire::{Wire, Written},
};

const SMALL_QUEUE: usize = 16 * 1024;

/// A client on plain TCP.
async fn on_tcp(address: std::net::SocketAddr) -> Client<TcpStream> {
    let stream = TcpStream::connect(address).await.unwrap();
    Client { io: stream, buffer: BytesMut::new(), session: 0, received: 0, tickets: Vec::new(), writes: Arc::default() }
}

/// A client that has little room for what it does not read.
async fn slow_on_tcp(address: std::net::SocketAddr) -> Client<TcpStream> {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let stream = socket.connect(address).await.unwrap();
    Client { io: stream, buffer: BytesMut::new(), session: 0, received: 0, tickets: Vec::new(), writes: Arc::default() }
}

/// Puts it into the world, as player 9 of account 5.
async fn play(test: &mut TestZone, client: &mut Client<TcpStream>) {
    client.greet().await;
    test.login.link().notify(client.session, &authenticated()).unwrap();
    test.login.deliver(client.session, 0, &LoggedIn::default());
    client.expect::<LoggedIn>().await;
    test.bind(client).await;
}

fn said(number: u64) -> Frame {
    Frame::encode(0, &Said { text: number.to_string(), from: "x".repeat(180), ..Said::default() })
}

fn moves(tick: u32) -> Publish {
    Publish { except: 0, frame: Frame::encode(0, &CellMoves { tick, moved: vec![1; 6000].into() }) }
}

#[tokio::test]
async fn over_tcp_groups_and_deliveries_come_in_the_order_of_the_link() {
    let mut test = TestZone::start().await;
    let (address, _) = open_doors(&test);
    let mut client = on_tcp(address).await;
    play(&mut test, &mut client).await;
    let scene = test.scene.link().clone();
    (1..=9).for_each(|group| scene.group_join(group, client.session).unwrap());
    let mut number = 0;
    for tick in 0..50 {
        for group in 1..=9 {
            number += 1;
            scene.group_publish(group, &Publish { except: 0, frame: said(number) }).unwrap();
        }
        number += 1;
        scene.deliver(client.session, said(number)).unwrap();
        scene.group_leave(1 + tick % 9, client.session).unwrap();
        scene.group_join(1 + tick % 9, client.session).unwrap();
        scene.tick_end(tick).unwrap();
    }
    for expected in 1..=number {
        assert_eq!(client.expect::<Said>().await.1.text, expected.to_string());
    }
}

#[tokio::test]
async fn over_tcp_a_slow_reader_misses_positions_only_and_never_gets_half_a_frame() {
    let mut test = TestZone::start_with(|_, config| config.client_queue_bytes_max = SMALL_QUEUE).await;
    let (address, _) = open_doors(&test);
    let mut slow = slow_on_tcp(address).await;
    play(&mut test, &mut slow).await;
    let scene = test.scene.link().clone();
    scene.group_join(1, slow.session).unwrap();
    // Until the kernel on both sides and the outbox have all that they take, and long beyond.
    let (mut tick, mut said_so_far) = (0, 0);
    let mut ticks_full = 0;
    while ticks_full < 100 {
        tick += 1;
        scene.group_publish(1, &moves(tick)).unwrap();
        if tick % 64 == 0 {
            said_so_far += 1;
            scene.deliver(slow.session, said(said_so_far)).unwrap();
        }
        scene.tick_end(tick.into()).unwrap();
        test.scene.settled().await;
        let held = test.gate.gate.session(slow.session).expect("the slow one stays").queued_bytes();
        assert!(held <= SMALL_QUEUE + 64 * 1024, "{held} bytes in tick {tick}");
        ticks_full += u32::from(0 < held);
        assert!(tick < 100_000, "the kernel takes everything");
    }
    let (mut seen, mut heard) = (0, 0);
    while seen < tick || heard < said_so_far {
        let frame = slow.said().await.expect("the connection lives");
        if let Ok(moves) = frame.decode::<CellMoves>() {
            assert!(seen < moves.tick, "{} after {seen}", moves.tick);
            seen = moves.tick;
        } else {
            heard += 1;
            assert_eq!(frame.decode::<Said>().unwrap().text, heard.to_string());
        }
    }
}

#[tokio::test]
async fn over_tcp_a_client_too_slow_for_reliable_messages_is_told_so_and_resumes() {
    let mut test = TestZone::start_with(|_, config| config.client_queue_bytes_max = SMALL_QUEUE).await;
    let (address, _) = open_doors(&test);
    let mut slow = slow_on_tcp(address).await;
    play(&mut test, &mut slow).await;
    let scene = test.scene.link().clone();
    scene.group_join(1, slow.session).unwrap();
    // Positions fill the kernel; then what is reliable piles up.
    let mut ticks_full = 0;
    while ticks_full < 20 {
        scene.group_publish(1, &moves(1)).unwrap();
        scene.tick_end(1).unwrap();
        test.scene.settled().await;
        let held = test.gate.gate.session(slow.session).expect("it stays").queued_bytes();
        ticks_full = if 0 < held { ticks_full + 1 } else { 0 };
    }
    let mut said_so_far = 0;
    while !test.scene.passed_over.iter().any(|seen| matches!(seen, Seen::Frame(frame) if frame.kind == SessionLost::KIND)) {
        said_so_far += 1;
        scene.deliver(slow.session, said(said_so_far)).unwrap();
        test.scene.settled().await;
        assert!(said_so_far < 1000, "nobody closes it");
    }
    let mut heard = 0;
    let closing = loop {
        let frame = slow.said().await.expect("a reason comes before the end");
        match (frame.decode::<Closing>(), frame.decode::<Said>()) {
            (Ok(closing), _) => break closing,
            (_, Ok(_)) => heard += 1,
            _ => {}
        }
    };
    assert_eq!((closing.code(), closing.resumable), (FaultCode::TooSlow, true));
    let mut back = on_tcp(address).await;
    back.resume(&slow.ticket(), slow.received).await;
    assert!(back.expect::<Resumed>().await.1.continued);
    for number in heard + 1..=said_so_far {
        assert_eq!(back.expect::<Said>().await.1.text, number.to_string());
    }
}

/// A gate's end of a connection, and the client's.
async fn pair() -> (Wire, TcpStream) {
    let listener = service::net::listen("127.0.0.1:0".parse().unwrap()).unwrap();
    let theirs = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (ours, _) = listener.accept().await.unwrap();
    (Wire::new(Arc::new(ours)), theirs)
}

#[tokio::test]
async fn a_connection_that_was_replaced_gets_nothing_that_is_the_sessions() {
    let ((first_wire, first), (second_wire, mut second)) = (pair().await, pair().await);
    let limits = Limits::new(Instant::now());
    let state = State::new(Life::Attached, States::CONNECTED, Identity::default(), "10.1.2.3".parse().unwrap(), limits);
    let session = Session::new(7, state, SMALL_QUEUE);
    let older = session.attach(Instant::now(), Some(first_wire));
    let greeting = |_| Frame::encode(1, &Resumed::default()).into_bytes();
    let (newer, _) = session.reattach(0, greeting, Instant::now(), Some(second_wire)).unwrap();
    let mut written = Written::default();
    assert_eq!(session.write_on(&older, &mut written), Next::Idle);
    assert_eq!(session.write_on(&newer, &mut written), Next::Idle);
    let mut head = [0; 4];
    timeout(SOON, second.read_exact(&mut head)).await.expect("the newer one has it").unwrap();
    assert!(first.try_read(&mut head).is_err(), "the older one has nothing");
}

#[tokio::test]
async fn a_storm_of_resets_leaves_no_session_and_no_place() {
    let test = TestZone::start_with(|_, config| config.connections_per_address_max = 1000).await;
    let (address, websocket) = open_doors(&test);
    for number in 0..300 {
        let mut stream = TcpStream::connect(if number % 3 == 0 { websocket } else { address }).await.unwrap();
        // Before, in the middle of, and after its greeting.
        let hello = Frame::encode(1, &Hello { protocol_version: proto::PROTOCOL_VERSION, client: "test".into() }).into_bytes();
        let part = match number % 4 {
            0 => 0,
            1 => hello.len() / 2,
            _ => hello.len(),
        };
        stream.write_all(&hello[..part]).await.unwrap();
        stream.set_zero_linger().unwrap();
    }
    until("nobody is left", || test.gate.gate.connections.is_empty() && test.gate.gate.all().is_empty()).await;
    let places: Vec<_> = (0..1000).map_while(|_| test.gate.gate.addresses.enter(address.ip())).collect();
    assert_eq!(places.len(), 1000, "every place was given back");
}

#[tokio::test]
async fn an_upgrade_that_never_ends_is_closed_at_the_deadline() {
    let test = TestZone::start().await;
    let (mut ours, theirs) = tokio::io::duplex(64 * 1024);
    let deadline = Instant::now() + Duration::from_millis(50);
    let caller = Caller { address: "10.1.2.3".parse().unwrap(), deadline, tls: None, websocket: true };
    let served = tokio::spawn(connection::run(test.gate.gate.clone(), Accepted::Other(Box::new(theirs)), caller));
    ours.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Slow: 1").await.unwrap();
    timeout(SOON, served).await.expect("it is closed soon").unwrap();
    assert!(test.gate.gate.all().is_empty());
}

#[tokio::test]
async fn an_upgrade_of_endless_headers_is_refused_before_it_fills_memory() {
    let test = TestZone::start().await;
    let (mut ours, theirs) = tokio::io::duplex(64 * 1024);
    let caller = Caller { address: "10.1.2.3".parse().unwrap(), deadline: Instant::now() + SOON, tls: None, websocket: true };
    let served = tokio::spawn(connection::run(test.gate.gate.clone(), Accepted::Other(Box::new(theirs)), caller));
    let mut sent = b"GET / HTTP/1.1\r\nHost: localhost\r\n".to_vec();
    // It stops reading, and with it the writing, long before this.
    for number in 0..100_000 {
        sent.extend_from_slice(format!("X-{number}: {}\r\n", "y".repeat(100)).as_bytes());
    }
    let written = timeout(SOON, ours.write_all(&sent)).await.expect("the gate refuses it soon");
    assert!(written.is_err(), "the gate read {} bytes of headers", sent.len());
    timeout(SOON, served).await.expect("it is closed soon").unwrap();
}

#[tokio::test]
async fn pings_and_fragments_without_end_end_the_connection() {
    let test = TestZone::start_with(|_, config| config.heartbeat = Duration::from_millis(300)).await;
    let (_, address) = open_doors(&test);
    let ping = || Message::Ping(Bytes::new());
    let fragment = |kind, payload: &'static [u8]| Message::Frame(WsFrame::message(payload, OpCode::Data(kind), false));
    let floods: [(Message, Message, FaultCode); 3] = [
        (ping(), ping(), FaultCode::RateLimited),
        // A message that never ends: too long, or without a byte of content, which is silence.
        (fragment(Data::Binary, &[0; 100]), fragment(Data::Continue, &[0; 100]), FaultCode::Oversize),
        (fragment(Data::Binary, &[]), fragment(Data::Continue, &[]), FaultCode::TimedOut),
    ];
    for (first, next, code) in floods {
        let stream = TcpStream::connect(address).await.unwrap();
        let mut socket = client_async("ws://localhost/", stream).await.unwrap().0;
        let hello = Frame::encode(1, &Hello { protocol_version: proto::PROTOCOL_VERSION, client: "test".into() });
        socket.send(Message::Binary(hello.into_bytes())).await.unwrap();
        until("the session is there", || test.gate.gate.all().len() == 1).await;
        socket.feed(first).await.unwrap();
        let flood = async {
            while !test.gate.gate.all().is_empty() {
                socket.send(next.clone()).await.expect("the gate reads while the session lives");
                // The gate is to read as fast as this writes: it passes over a bounded number of bytes after its last word.
                tokio::task::yield_now().await;
            }
        };
        timeout(SOON, flood).await.expect("the gate closes it");
        let closing = loop {
            if let Ok(closing) = next_message(&mut socket).await.decode::<Closing>() {
                break closing;
            }
        };
        assert_eq!(closing.code(), code);
        drop(socket);
        until("nobody is left", || test.gate.gate.connections.is_empty()).await;
    }
}

/// Conversations of a fuzz-like test: enough to meet every branch of the greeting and the framing many times, in a few seconds.
const CONVERSATIONS: usize = 3000;

/// Noise, frames of any kind with any body, good greetings, and lengths that lie.
fn word() -> impl Strategy<Value = Vec<u8>> {
    let kinds: Vec<u16> = proto::kinds::TABLE.iter().map(|row| row.kind).collect();
    let body = || proptest::collection::vec(any::<u8>(), 0..80);
    let hello = Frame::encode(1, &Hello { protocol_version: proto::PROTOCOL_VERSION, client: "test".into() }).into_bytes().to_vec();
    prop_oneof![
        2 => body(),
        4 => (proptest::sample::select(kinds), any::<u32>(), body()).prop_map(|(kind, seq, body)| Frame::from_body(kind, seq, &body).into_bytes().to_vec()),
        2 => (any::<u16>(), body()).prop_map(|(kind, body)| Frame::from_body(kind, 1, &body).into_bytes().to_vec()),
        4 => Just(hello),
        1 => any::<u32>().prop_map(|length| length.to_le_bytes().to_vec()),
        2 => (any::<u16>(), body(), 0usize..40).prop_map(|(kind, body, cut)| {
            let whole = Frame::from_body(kind, 1, &body).into_bytes();
            whole[..cut.min(whole.len())].to_vec()
        }),
    ]
}

#[tokio::test]
async fn no_conversation_panics_a_connection_or_leaves_a_session() {
    let test = TestZone::start().await;
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let conversation = proptest::collection::vec(word(), 1..10);
    for number in 0..CONVERSATIONS {
        let words = conversation.new_tree(&mut runner).unwrap().current();
        let (mut ours, theirs) = tokio::io::duplex(64 * 1024);
        let caller =
            Caller { address: "10.1.2.3".parse().unwrap(), deadline: Instant::now() + SOON, tls: None, websocket: number % 8 == 0 };
        let served = tokio::spawn(connection::run(test.gate.gate.clone(), Accepted::Other(Box::new(theirs)), caller));
        for word in &words {
            // The gate may have had enough.
            _ = ours.write_all(word).await;
        }
        drop(ours);
        timeout(SOON, served).await.expect("it ends with its client").unwrap_or_else(|err| panic!("{err}: {words:02x?}"));
    }
    assert!(test.gate.gate.all().is_empty());
}
