//! Real sockets: TCP, WebSocket and TLS, and who is let in at all.

use std::net::SocketAddr;

use futures_util::{SinkExt, StreamExt};
use rustls::{ClientConfig, RootCertStore, pki_types::ServerName};
use service::{config::TlsConfig, net::TcpStream};
use tokio_rustls::TlsConnector;
use tokio_tungstenite::{WebSocketStream, client_async, tungstenite::Message};

use super::*;
use crate::listen;

fn hello() -> Bytes {
    Frame::encode(1, &Hello { protocol_version: proto::PROTOCOL_VERSION, client: "test".into() }).into_bytes()
}

/// Opens the doors of the zone's gate: where TCP and WebSocket clients connect.
pub(super) fn open_doors(test: &TestZone) -> (SocketAddr, SocketAddr) {
    let doors = listen::open(&test.gate.gate.config).unwrap();
    let addresses: Vec<SocketAddr> = doors.iter().map(|door| door.address().unwrap()).collect();
    for door in doors {
        test.gate.gate.process.tasks.spawn("door", listen::serve(test.gate.gate.clone(), door));
    }
    (addresses[0], addresses[1])
}

async fn next_frame<S: AsyncRead + Unpin>(stream: &mut S) -> Frame {
    let mut buffer = BytesMut::new();
    loop {
        if let Some(frame) = frame::split(&mut buffer, Direction::ToClient).unwrap() {
            return frame;
        }
        let read = timeout(SOON, stream.read_buf(&mut buffer)).await.expect("the gate answers soon").unwrap();
        assert_ne!(read, 0, "closed without a word");
    }
}

pub(super) async fn next_message<S: AsyncRead + AsyncWrite + Unpin>(socket: &mut WebSocketStream<S>) -> Frame {
    loop {
        match timeout(SOON, socket.next()).await.expect("the gate answers soon") {
            Some(Ok(Message::Binary(message))) => return frame::split_all(message, Direction::ToClient).unwrap().remove(0),
            Some(Ok(_)) => {}
            other => panic!("{other:?} where a message was expected"),
        }
    }
}

#[tokio::test]
async fn a_websocket_carries_whole_frames_in_binary_messages() {
    let test = TestZone::start().await;
    let (_, address) = open_doors(&test);
    let connect = || async {
        let stream = TcpStream::connect(address).await.unwrap();
        client_async("ws://localhost/", stream).await.unwrap().0
    };
    let mut socket = connect().await;
    let twice = [&hello()[..], Frame::from_body(0x7777, 2, &[]).bytes()].concat();
    socket.send(Message::Binary(twice.into())).await.unwrap();
    next_message(&mut socket).await.decode::<Welcome>().unwrap();
    assert_eq!(next_message(&mut socket).await.decode::<Fault>().unwrap().code(), FaultCode::UnknownKind);

    let refused = [
        (Message::Text("hello".into()), FaultCode::Malformed),
        (Message::Binary(hello().slice(..hello().len() - 1)), FaultCode::Malformed),
        (Message::Binary(vec![0; 100_000].into()), FaultCode::Oversize),
    ];
    for (message, code) in refused {
        let mut socket = connect().await;
        // A message that is too long is refused before it is sent whole.
        let _ = socket.send(message).await;
        assert_eq!(next_message(&mut socket).await.decode::<Closing>().unwrap().code(), code);
    }
}

#[tokio::test]
async fn with_a_certificate_both_speak_tls() {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (certificate, key) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
    service::fs::replace(&certificate, made.cert.pem().as_bytes(), 0o600).unwrap();
    service::fs::replace(&key, made.signing_key.serialize_pem().as_bytes(), 0o600).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    let trusting = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let connector = TlsConnector::from(Arc::new(trusting));

    let test = TestZone::start().await;
    let mut config = test.gate.gate.config.clone();
    config.tls = Some(TlsConfig { certificate, key });
    config.tls_websocket = config.tls.clone();
    let doors = listen::open(&config).unwrap();
    for door in doors {
        let (address, is_websocket) = (door.address().unwrap(), door.name() == "websocket");
        test.gate.gate.process.tasks.spawn("door", listen::serve(test.gate.gate.clone(), door));
        let stream = TcpStream::connect(address).await.unwrap();
        let mut stream = connector.connect(ServerName::try_from("localhost").unwrap(), stream).await.unwrap();
        if is_websocket {
            let mut socket = client_async("wss://localhost/", stream).await.unwrap().0;
            socket.send(Message::Binary(hello())).await.unwrap();
            next_message(&mut socket).await.decode::<Welcome>().unwrap();
        } else {
            stream.write_all(&hello()).await.unwrap();
            next_frame(&mut stream).await.decode::<Welcome>().unwrap();
        }
    }
}

#[tokio::test]
async fn a_certificate_that_is_not_there_is_named() {
    let test = TestZone::start().await;
    let mut config = test.gate.gate.config.clone();
    config.tls = Some(TlsConfig { certificate: "/nowhere/cert.pem".into(), key: "/nowhere/key.pem".into() });
    let err = listen::open(&config).err().expect("it can't be read");
    assert!(format!("{err:#}").contains("/nowhere/cert.pem"), "{err:#}");
}

#[tokio::test]
async fn an_address_has_so_many_connections_and_a_gate_so_many_sessions() {
    let test = TestZone::start_with(|_, config| {
        config.connections_per_address_max = 3;
        config.sessions_max = 2;
    })
    .await;
    let (address, _) = open_doors(&test);
    let mut inside = Vec::new();
    for number in 0..3 {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(&hello()).await.unwrap();
        let answer = next_frame(&mut stream).await;
        if number < 2 {
            answer.decode::<Welcome>().unwrap();
        } else {
            assert_eq!(answer.decode::<Closing>().unwrap().code(), FaultCode::TooManyConnections);
        }
        inside.push(stream);
    }
    inside.truncate(2);
    until("the third has left", || test.gate.gate.connections.len() == 2).await;
    inside.push(TcpStream::connect(address).await.unwrap());
    until("another is in", || test.gate.gate.connections.len() == 3).await;
    let mut refused = TcpStream::connect(address).await.unwrap();
    let closing = next_frame(&mut refused).await.decode::<Closing>().unwrap();
    assert_eq!(closing.code(), FaultCode::TooManyConnections);
    drop(inside);
    until("all have left", || test.gate.gate.connections.is_empty()).await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(&hello()).await.unwrap();
    next_frame(&mut stream).await.decode::<Welcome>().unwrap();
}

#[tokio::test]
async fn all_doors_together_let_in_so_many_a_second_and_the_others_wait() {
    const A_SECOND: u32 = 20;
    let test = TestZone::start_with(|_, config| {
        config.accepts_per_s = A_SECOND;
        config.connections_per_address_max = 1000;
    })
    .await;
    let (address, websocket) = open_doors(&test);
    let began = Instant::now();
    let mut silent = Vec::new();
    for _ in 0..A_SECOND {
        silent.push(TcpStream::connect(websocket).await.unwrap());
    }
    until("a second's worth is in", || test.gate.gate.connections.len() == A_SECOND as usize).await;
    let mut flood = Vec::new();
    for _ in 0..A_SECOND / 2 {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(&hello()).await.unwrap();
        flood.push(stream);
    }
    for stream in &mut flood {
        next_frame(stream).await.decode::<Welcome>().unwrap();
    }
    // Not how fast it is: that it can't be faster.
    assert!(Duration::from_millis(499) <= began.elapsed(), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_whole_gate_starts_serves_and_stops() {
    let mut test = TestZone::start().await;
    let mut own = test.zone.processes.get(&ProcessId("gate-1".into())).unwrap().clone();
    own.id = ProcessId("gate-2".into());
    test.zone.processes.insert(own.id.clone(), own);
    let process = Process::for_test(&test.zone, "gate-2", test.data.path());
    let running = tokio::spawn(crate::run(process.clone()));
    timeout(SOON, process.ready.ready()).await.expect("it is ready soon");
    process.tasks.stop_token().cancel();
    timeout(SOON, running).await.expect("it stops soon").unwrap().unwrap();
    process.tasks.stop(SOON).await.unwrap();
}
