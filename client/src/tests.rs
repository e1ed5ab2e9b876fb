//! The SDK against a fake zone over real sockets.

use std::{sync::Arc, time::Duration};

use proto::{
    ClientMessage,
    client::{
        Announcement, Bye, CellChanges, CellMoves, CreateRole, Enter, Entered, FaultCode, FriendList, Friends, Heartbeat, LoggedIn, Login,
        Position, Register, Registered, RoleCreated, Said, Say,
    },
};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsAcceptor;

use crate::{
    Client, ClientOptions, ConnectOptions, Connection, ConnectionError, Event, Events, Lost, QuietConnection, Reconnect, RequestError,
    Roots, Scheme, WorldView,
    fake_zone::{FakeZone, START},
};

const SOON: Duration = Duration::from_secs(10);

async fn join(zone: &FakeZone, name: &str, options: ClientOptions) -> (Client, Events) {
    let (client, events) = Client::connect(&zone.address, options).await.unwrap();
    client.register(name, "correct-horse").await.unwrap();
    client.login(name, "correct-horse").await.unwrap();
    let role = client.create_role(name).await.unwrap();
    client.enter(role.player).await.unwrap();
    (client, events)
}

async fn until(events: &mut Events, mut wanted: impl FnMut(&Event) -> bool) -> Event {
    let find = async {
        loop {
            let event = events.next().await.expect("the stream goes on");
            if wanted(&event) {
                return event;
            }
        }
    };
    timeout(SOON, find).await.expect("the event comes")
}

fn announced(id: u64) -> impl Fn(&Event) -> bool {
    move |event| matches!(event, Event::Announcement(announcement) if announcement.id == id)
}

#[tokio::test]
async fn a_player_logs_in_and_sees_another_walk() {
    let zone = FakeZone::start().await;
    let (one, _events) = join(&zone, "alice", ClientOptions::default()).await;
    let (two, mut events) = join(&zone, "bob", ClientOptions::default()).await;
    let mut world = WorldView::default();
    one.move_to(START.x + 50, START.y).await.unwrap();
    until(&mut events, |event| {
        world.apply(event);
        matches!(event, Event::CellMoves(_))
    })
    .await;
    let alice = world.entities().find(|entity| entity.name == "alice").unwrap();
    assert_eq!(alice.position, Some(Position { x: START.x + 50, y: START.y }));
    assert_eq!(world.own().unwrap().name, "bob");
    two.bye().await.unwrap();
    let closing = until(&mut events, |event| matches!(event, Event::Closing { .. })).await;
    assert!(matches!(closing, Event::Closing { resumable: false, .. }));
    assert_eq!(until(&mut events, |event| matches!(event, Event::Lost(_))).await, Event::Lost(Lost::Over));
    assert!(zone.state().programs[0].starts_with("paifang-client/"));
}

#[tokio::test]
async fn a_refusal_is_a_fault_and_a_silence_a_timeout() {
    let zone = FakeZone::start().await;
    let options = ClientOptions { request_timeout: Duration::from_millis(300), ..ClientOptions::default() };
    let (client, mut events) = Client::connect(&zone.address, options).await.unwrap();
    let error = client.login("nobody", "whatever").await.unwrap_err();
    assert_eq!(error.fault().unwrap().code, FaultCode::BadCredentials);
    client.register("alice", "correct-horse").await.unwrap();
    client.login("alice", "correct-horse").await.unwrap();
    let role = client.create_role("Alia").await.unwrap();
    client.enter(role.player).await.unwrap();
    let silent = client.whisper("bob", "hello").await.unwrap_err();
    assert!(matches!(silent, RequestError::TimedOut { request: "Whisper", .. }), "{silent}");
    let long = client.say(&"x".repeat(2000)).await.unwrap_err();
    assert!(matches!(long, RequestError::TooLong { max: 1024, .. }), "{long}");
    let attack = client.attack(1).await.unwrap();
    let fault = until(&mut events, |event| matches!(event, Event::Fault { .. })).await;
    assert!(matches!(fault, Event::Fault { request, .. } if request == attack), "{fault:?}");
}

#[tokio::test]
async fn heartbeats_are_answered_with_the_count_of_reliable_messages() {
    let zone = FakeZone::start().await;
    let (client, mut events) = join(&zone, "alice", ClientOptions::default()).await;
    let before = client.session().received;
    zone.broadcast(&Announcement { id: 1, text: String::new() });
    zone.broadcast(&CellMoves::default());
    zone.broadcast(&Heartbeat { stamp_us: 42, rtt_us: 700, jitter_us: 50 });
    zone.broadcast(&Announcement { id: 2, text: String::new() });
    until(&mut events, announced(2)).await;
    client.list_roles().await.unwrap_err(); // behind the acknowledgement on the wire
    let acks = zone.state().acks.clone();
    assert_eq!(acks.len(), 1);
    assert_eq!(acks[0].stamp_us, 42);
    assert!(before < acks[0].received, "{acks:?}, {before} before");
    assert_eq!(client.session().round_trip, Duration::from_micros(700));
}

#[tokio::test]
async fn a_resume_brings_what_was_missed() {
    let zone = FakeZone::start().await;
    let (client, mut events) = join(&zone, "alice", ClientOptions::default()).await;
    zone.broadcast(&Announcement { id: 1, text: String::new() });
    until(&mut events, announced(1)).await;
    client.drop_connection().await;
    assert_eq!(until(&mut events, |event| matches!(event, Event::Lost(_))).await, Event::Lost(Lost::Resumable));
    assert!(matches!(client.list_roles().await, Err(RequestError::NotConnected { .. })));
    zone.broadcast(&Announcement { id: 2, text: String::new() });
    client.resume(&zone.address).await.unwrap();
    until(&mut events, |event| matches!(event, Event::Resumed { continued: true, .. })).await;
    until(&mut events, announced(2)).await;
    // The client knows the newest ticket, so that it can do so again.
    client.drop_connection().await;
    client.resume(&zone.address).await.unwrap();
    client.move_to(1, 1).await.unwrap();
    until(&mut events, |event| matches!(event, Event::CellMoves(_))).await;
}

#[tokio::test]
async fn a_client_that_may_resumes_by_itself() {
    let zone = FakeZone::start().await;
    let reconnect = Some(Reconnect { gates: vec![zone.second_gate().await.address], ..Reconnect::default() });
    let (_client, mut events) = join(&zone, "alice", ClientOptions { reconnect, ..ClientOptions::default() }).await;
    zone.break_all();
    assert_eq!(until(&mut events, |event| matches!(event, Event::Lost(_))).await, Event::Lost(Lost::Resuming));
    until(&mut events, |event| matches!(event, Event::Resumed { .. })).await;
    zone.broadcast(&Announcement { id: 7, text: String::new() });
    until(&mut events, announced(7)).await;
}

#[tokio::test]
async fn a_second_login_ends_the_first() {
    let zone = FakeZone::start().await;
    let (_first, mut events) = join(&zone, "alice", ClientOptions::default()).await;
    let (second, _) = Client::connect(&zone.address, ClientOptions::default()).await.unwrap();
    second.login("alice", "correct-horse").await.unwrap();
    let closing = until(&mut events, |event| matches!(event, Event::Closing { .. })).await;
    assert!(matches!(closing, Event::Closing { fault, .. } if fault.code == FaultCode::LoggedInElsewhere));
}

#[tokio::test]
async fn an_application_that_does_not_read_loses_the_connection_not_the_memory() {
    let zone = FakeZone::start().await;
    let (client, mut events) = join(&zone, "alice", ClientOptions::default()).await;
    for id in 0..2 * crate::events::EVENTS_MAX as u64 {
        zone.broadcast(&Announcement { id, text: String::new() });
    }
    let gone = async { while !matches!(client.list_roles().await, Err(RequestError::NotConnected { .. })) {} };
    timeout(SOON, gone).await.unwrap();
    // What fitted is still there; nothing of it was reordered.
    until(&mut events, announced(0)).await;
    until(&mut events, announced(1)).await;
}

#[tokio::test]
async fn every_scheme_carries_frames() {
    let (config, roots) = certified();
    for scheme in [Scheme::Tcp, Scheme::Tls, Scheme::Ws, Scheme::Wss] {
        let tls = scheme.is_encrypted().then(|| TlsAcceptor::from(Arc::new(config.clone())));
        let zone = FakeZone::start_with(scheme, tls, Arc::default()).await;
        let connect = ConnectOptions { roots: roots.clone(), ..ConnectOptions::default() };
        let (client, mut events) = join(&zone, "alice", ClientOptions { connect, ..ClientOptions::default() }).await;
        client.say("hello").await.unwrap();
        until(&mut events, |event| matches!(event, Event::Said(said) if said.text == "hello")).await;
        if scheme.is_encrypted() {
            let stranger = ConnectOptions { roots: other_roots(), ..ConnectOptions::default() };
            let refused = Connection::greet(&zone.address, &stranger).await;
            assert!(matches!(refused, Err(ConnectionError::Connect { .. })), "{scheme:?} trusts a stranger");
        }
    }
}

/// A gate's certificate, and who vouches for it.
fn certified() -> (rustls::ServerConfig, Roots) {
    let certified = rcgen::generate_simple_self_signed(vec!["127.0.0.1".into()]).unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(certified.signing_key.serialize_der()));
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certified.cert.der().clone()], key)
        .unwrap();
    (config, Roots::from_pem(certified.cert.pem().as_bytes()).unwrap())
}

fn other_roots() -> Roots {
    let other = rcgen::generate_simple_self_signed(vec!["127.0.0.1".into()]).unwrap();
    Roots::from_pem(other.cert.pem().as_bytes()).unwrap()
}

/// Bob in the world, with his socket taken from the runtime.
async fn join_quietly(zone: &FakeZone, options: &ConnectOptions) -> QuietConnection {
    let mut connection = Connection::greet(&zone.address, options).await.unwrap();
    let (account, password) = ("bob".to_owned(), "correct-horse".to_owned());
    connection.ask::<_, Registered>(&Register { account: account.clone(), password: password.clone() }, SOON).await.unwrap();
    connection.ask::<_, LoggedIn>(&Login { account, password }, SOON).await.unwrap();
    let created: RoleCreated = connection.ask(&CreateRole { name: "bob".into() }, SOON).await.unwrap();
    connection.ask::<_, Entered>(&Enter { player: created.role.unwrap().player }, SOON).await.unwrap();
    QuietConnection::new(connection).unwrap()
}

/// Fetches again and again, until a frame of this kind has come.
async fn fetched<M: ClientMessage>(quiet: &mut QuietConnection) -> Result<M, ConnectionError> {
    let mut found = None;
    let fetch = async {
        while found.is_none() {
            quiet.fetch(Instant::now(), |frame| found = found.take().or(frame.decode().ok()))?;
            tokio::task::yield_now().await;
        }
        Ok::<(), ConnectionError>(())
    };
    timeout(SOON, fetch).await.expect("the frame comes")?;
    Ok(found.unwrap())
}

#[tokio::test]
async fn a_quiet_connection_speaks_and_hears_on_every_scheme() {
    let (config, roots) = certified();
    for scheme in [Scheme::Tcp, Scheme::Tls, Scheme::Ws, Scheme::Wss] {
        let tls = scheme.is_encrypted().then(|| TlsAcceptor::from(Arc::new(config.clone())));
        let zone = FakeZone::start_with(scheme, tls, Arc::default()).await;
        let options = ConnectOptions { roots: roots.clone(), ..ConnectOptions::default() };
        let mut quiet = join_quietly(&zone, &options).await;
        quiet.send(&Say { text: "hello".into() }).unwrap();
        assert_eq!(fetched::<Said>(&mut quiet).await.unwrap().text, "hello");
        zone.broadcast(&Heartbeat { stamp_us: 42, ..Heartbeat::default() });
        fetched::<Heartbeat>(&mut quiet).await.unwrap();
        timeout(SOON, async {
            while zone.state().acks.is_empty() {
                tokio::task::yield_now().await;
            }
        })
        .await
        .expect("the heartbeat is answered");
        // More than one read takes, in one piece.
        let many = vec![1; 30_000];
        zone.broadcast(&CellChanges { left: many, ..CellChanges::default() });
        assert_eq!(fetched::<CellChanges>(&mut quiet).await.unwrap().left.len(), 30_000);
        let mut woken = quiet.into_connection().unwrap();
        woken.ask::<_, Friends>(&FriendList {}, SOON).await.unwrap();
    }
}

#[tokio::test]
async fn a_quiet_connection_tells_why_it_ended() {
    let zone = FakeZone::start().await;
    let mut quiet = join_quietly(&zone, &ConnectOptions::default()).await;
    quiet.send(&Bye {}).unwrap();
    let mut ended = Ok(());
    while ended.is_ok() {
        ended = fetched::<Announcement>(&mut quiet).await.map(drop);
    }
    assert!(matches!(ended, Err(ConnectionError::Closing { resumable: false, .. })), "{ended:?}");
    let zone = FakeZone::start().await;
    let mut quiet = join_quietly(&zone, &ConnectOptions::default()).await;
    zone.break_all();
    assert!(matches!(fetched::<Announcement>(&mut quiet).await, Err(ConnectionError::Lost(_))));
}
