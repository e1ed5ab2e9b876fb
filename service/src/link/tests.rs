//! Two or more processes' links over loopback, in one test.

use std::{net::SocketAddr, sync::Mutex};

use proto::{
    internal::{AccountFind, AccountReply, PlayerLeft, PlayerLevel, ProfileFind, RoleListCall, RoleListed},
    link::{BODY_MAX, DELIVER, FORWARD, HEAD_BYTES},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::{Semaphore, mpsc},
};

use super::{handshake::Identity, *};
use crate::{
    members::{Member, Members, MembersSource},
    random::Random,
    secret::ZoneSecret,
    tasks::Tasks,
};

const WITHIN: Duration = Duration::from_secs(20);

/// What a handler saw.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Seen {
    Up(String, u64),
    Down(String, u64),
    Frame(u64),
}

/// Notes what it is given. Answers `AccountFind` with its name, keeps `ProfileFind`, drops `RoleListCall`, panics at a `PlayerLevel`, and
/// does not take a FORWARD before it is let.
struct Recorder {
    seen: mpsc::UnboundedSender<Seen>,
    kept: Mutex<Vec<IncomingCall>>,
    forwards: Semaphore,
}

impl Recorder {
    fn note(&self, seen: Seen) {
        let _ = self.seen.send(seen);
    }
}

impl Handler for Recorder {
    async fn on_up(&self, link: &Link) {
        self.note(Seen::Up(link.peer().id.to_string(), link.peer().incarnation));
    }

    async fn on_down(&self, link: &Link) {
        self.note(Seen::Down(link.peer().id.to_string(), link.peer().incarnation));
    }

    async fn on_frame(&self, _: &Link, frame: LinkFrame) {
        if frame.kind == FORWARD {
            self.forwards.acquire().await.unwrap().forget();
        }
        assert_ne!(frame.kind, PlayerLevel::KIND, "this panic is part of a test");
        self.note(Seen::Frame(frame.id));
    }

    async fn on_call(&self, _: &Link, call: IncomingCall) {
        match call.kind {
            AccountFind::KIND => {
                let reply = call.parse().map(|find: AccountFind| AccountReply { name: find.name, ..Default::default() });
                call.answer::<AccountFind>(reply);
            }
            ProfileFind::KIND => {
                self.kept.lock().unwrap().push(call);
                self.note(Seen::Frame(0));
            }
            RoleListCall::KIND => drop(call),
            _ => call.unknown(),
        }
    }
}

/// One process: its links, and what they handed over.
struct Side {
    links: Links,
    handler: Arc<Recorder>,
    seen: mpsc::UnboundedReceiver<Seen>,
    tasks: Tasks,
    members: MembersSource,
}

impl Side {
    async fn start(id: &str, kind: ProcessKind, incarnation: u64, listen: &str, members: &[Member]) -> Side {
        let (source, members) = Members::new(members.to_vec());
        let config = config(id, kind, incarnation, listen, members);
        let tasks = config.tasks.clone();
        let (sender, seen) = mpsc::unbounded_channel();
        let handler = Arc::new(Recorder { seen: sender, kept: Mutex::default(), forwards: Semaphore::new(0) });
        let links = Links::start_with(config, handler.clone()).await.unwrap();
        Side { links, handler, seen, tasks, members: source }
    }

    fn member(&self) -> Member {
        let config = self.links.config();
        Member { id: config.id.clone(), kind: config.kind, host: None, link: self.links.local_addr() }
    }

    async fn next(&mut self) -> Seen {
        tokio::time::timeout(WITHIN, self.seen.recv()).await.expect("something happens").expect("the handler lives")
    }

    async fn stop(&self) {
        self.tasks.stop(WITHIN).await.unwrap();
    }
}

fn config(id: &str, kind: ProcessKind, incarnation: u64, listen: &str, members: Members) -> LinkConfig {
    LinkConfig {
        id: ProcessId(id.into()),
        kind,
        incarnation,
        zone: "dev".into(),
        listen: listen.parse().unwrap(),
        secret: ZoneSecret::new(b"the zone's secret"),
        members,
        random: Random::new(incarnation),
        tasks: Tasks::new(),
    }
}

fn member(id: &str, kind: ProcessKind, link: SocketAddr) -> Member {
    Member { id: ProcessId(id.into()), kind, host: None, link }
}

fn scene_1() -> Member {
    member("scene-1", ProcessKind::Scene, "127.0.0.1:1".parse().unwrap())
}

fn up(id: &str, incarnation: u64) -> Seen {
    Seen::Up(id.into(), incarnation)
}

fn down(id: &str, incarnation: u64) -> Seen {
    Seen::Down(id.into(), incarnation)
}

async fn dc() -> Side {
    Side::start("dc-1", ProcessKind::Dc, 1, "127.0.0.1:0", &[scene_1()]).await
}

async fn scene(incarnation: u64, dc: &Member) -> Side {
    Side::start("scene-1", ProcessKind::Scene, incarnation, "127.0.0.1:0", std::slice::from_ref(dc)).await
}

/// A scene and a dc, linked.
async fn pair() -> (Side, Side, Link) {
    let mut dc = dc().await;
    let mut scene = scene(1, &dc.member()).await;
    assert_eq!(scene.next().await, up("dc-1", 1));
    assert_eq!(dc.next().await, up("scene-1", 1));
    let link = scene.links.wait(ProcessKind::Dc, WITHIN).await.unwrap();
    (scene, dc, link)
}

async fn find(link: &Link, name: &str) -> Result<AccountReply, CallError> {
    link.call(&AccountFind { name: name.into(), ..Default::default() }, WITHIN).await
}

#[tokio::test]
async fn a_call_of_a_mebibyte_comes_back() {
    let (_scene, dc, link) = pair().await;
    let name = "long name ".repeat(110_000);
    assert!(16 * BODY_MAX < name.len());
    assert_eq!(find(&link, &name).await.unwrap().name, name);
    // Both ways, on the one link.
    let back = dc.links.of(ProcessKind::Scene).remove(0);
    assert_eq!(find(&back, "short").await.unwrap().name, "short");
}

#[tokio::test]
async fn a_call_over_the_limit_is_refused_unsent() {
    let (_scene, _dc, link) = pair().await;
    let refused = find(&link, &"x".repeat(CALL_BODY_MAX)).await.unwrap_err();
    assert_eq!(refused.code(), Some(CallFaultCode::CallLimit));
    assert_eq!(find(&link, "fits").await.unwrap().name, "fits");
}

#[tokio::test]
async fn one_way_frames_keep_their_order() {
    let (_scene, mut dc, link) = pair().await;
    for id in 0..20_000 {
        link.notify(id, &PlayerLeft { player: id, ..PlayerLeft::default() }).unwrap();
    }
    for id in 0..20_000 {
        assert_eq!(dc.next().await, Seen::Frame(id));
    }
}

#[tokio::test]
async fn a_call_without_an_answer_is_answered_internal_and_an_unknown_one_unknown() {
    let (_scene, _dc, link) = pair().await;
    let dropped: Result<RoleListed, _> = link.call(&RoleListCall { account: 1 }, WITHIN).await;
    assert_eq!(dropped.unwrap_err().code(), Some(CallFaultCode::CallInternal));
    let unknown = link.call(&proto::internal::RelationList::default(), WITHIN).await;
    let unknown = unknown.unwrap_err();
    assert_eq!(unknown.code(), Some(CallFaultCode::CallUnknown));
    assert_eq!(unknown.to_string(), "dc-1 does not know the call RelationList");
}

#[tokio::test]
async fn a_call_without_an_answer_in_time_says_so_and_the_link_goes_on() {
    let (_scene, _dc, link) = pair().await;
    let late = link.call(&ProfileFind::default(), Duration::from_millis(1)).await.unwrap_err();
    assert!(matches!(late, CallError::Timeout(..)), "{late}");
    assert_eq!(find(&link, "next").await.unwrap().name, "next");
}

#[tokio::test]
async fn calls_fail_when_the_peer_dies() {
    let (_scene, mut dc, link) = pair().await;
    let call = tokio::spawn({
        let link = link.clone();
        async move { link.call(&ProfileFind::default(), WITHIN).await }
    });
    assert_eq!(dc.next().await, Seen::Frame(0));
    dc.stop().await;
    assert_eq!(call.await.unwrap().unwrap_err(), CallError::Down(ProcessId("dc-1".into()), "ProfileFind"));
    assert_eq!(find(&link, "later").await.unwrap_err(), CallError::NoLink(ProcessKind::Dc));
    assert!(!link.is_up());
}

#[tokio::test]
async fn a_restarted_peer_is_found_again_after_its_old_link_went_down() {
    let (mut scene, dc, _link) = pair().await;
    dc.stop().await;
    assert_eq!(scene.next().await, down("dc-1", 1));
    assert_eq!(scene.links.missing(), [ProcessId("dc-1".into())]);
    let again = Side::start("dc-1", ProcessKind::Dc, 2, &dc.links.local_addr().to_string(), &[scene_1()]).await;
    assert_eq!(scene.next().await, up("dc-1", 2));
    assert!(scene.links.missing().is_empty());
    let reply = scene.links.call(ProcessKind::Dc, &AccountFind { name: "a".into(), ..Default::default() }, WITHIN).await;
    assert_eq!(reply.unwrap().name, "a");
    again.stop().await;
}

#[tokio::test]
async fn a_newer_link_of_a_peer_takes_the_place_of_the_older() {
    let (_scene, mut dc, _link) = pair().await;
    let _newer = scene(2, &dc.member()).await;
    assert_eq!(dc.next().await, down("scene-1", 1));
    assert_eq!(dc.next().await, up("scene-1", 2));
}

#[tokio::test]
async fn a_peer_that_takes_nothing_loses_the_link_and_gets_a_new_one_after_the_old() {
    let (mut scene, mut dc, link) = pair().await;
    let frame = LinkFrame { kind: FORWARD, flags: 0, id: 5, body: vec![0; BODY_MAX].into() };
    let refused = loop {
        if let Err(err) = link.send(frame.clone()) {
            break err;
        }
        assert!(link.shared.queue.bytes() <= QUEUE_BYTES_MAX);
        tokio::task::yield_now().await;
    };
    assert_eq!(refused, SendError::Full);
    assert_eq!(link.send(frame), Err(SendError::Down));
    assert_eq!(scene.next().await, down("dc-1", 1));
    dc.handler.forwards.add_permits(1_000_000);
    loop {
        match dc.next().await {
            Seen::Frame(5) => (),
            other => break assert_eq!(other, down("scene-1", 1)),
        }
    }
    assert_eq!(dc.next().await, up("scene-1", 1));
}

#[tokio::test]
async fn a_stop_is_in_time_beside_a_peer_that_takes_nothing() {
    let (scene, _dc, link) = pair().await;
    let frame = LinkFrame { kind: FORWARD, flags: 0, id: 5, body: vec![0; BODY_MAX].into() };
    // Far more than there is room for on the way.
    while link.shared.queue.bytes() < QUEUE_BYTES_MAX / 2 {
        link.send(frame.clone()).unwrap();
    }
    scene.tasks.stop(crate::process::TASKS_GRACE).await.unwrap();
}

#[tokio::test]
async fn members_that_come_and_go_are_dialled_and_left() {
    let mut dc = dc().await;
    let mut scene = Side::start("scene-1", ProcessKind::Scene, 1, "127.0.0.1:0", &[]).await;
    scene.members.set(vec![dc.member()]);
    assert_eq!(scene.next().await, up("dc-1", 1));
    assert_eq!(dc.next().await, up("scene-1", 1));
    dc.members.set(Vec::new());
    assert_eq!(dc.next().await, down("scene-1", 1));
    assert_eq!(scene.next().await, down("dc-1", 1));
    scene.members.set(Vec::new());
    assert!(scene.links.missing().is_empty());
    assert_eq!(scene.links.wait(ProcessKind::Dc, Duration::ZERO).await.unwrap_err(), CallError::NoLink(ProcessKind::Dc));
}

#[tokio::test]
async fn a_handler_that_panics_costs_only_its_link() {
    let (mut scene, mut dc, link) = pair().await;
    link.notify(0, &PlayerLevel::default()).unwrap();
    assert_eq!(dc.next().await, down("scene-1", 1));
    assert_eq!(scene.next().await, down("dc-1", 1));
    assert_eq!(dc.next().await, up("scene-1", 1));
}

#[tokio::test]
async fn what_was_sent_before_the_end_arrives() {
    let (scene, mut dc, link) = pair().await;
    link.send(LinkFrame { kind: DELIVER, flags: 0, id: 3, body: vec![1; BODY_MAX].into() }).unwrap();
    link.close();
    assert_eq!(dc.next().await, Seen::Frame(3));
    assert_eq!(dc.next().await, down("scene-1", 1));
    scene.stop().await;
}

#[tokio::test]
async fn strangers_cost_the_others_nothing() {
    let (_scene, dc, link) = pair().await;
    let garbage: Vec<Vec<u8>> =
        vec![vec![], vec![0xff; 4000], vec![3, 0, 0, 0], vec![40, 0, 0, 0, 1, 0], b"GET / HTTP/1.1\r\n\r\n".to_vec()];
    for bytes in garbage {
        let mut socket = tokio::net::TcpStream::connect(dc.links.local_addr()).await.unwrap();
        // Some are closed before all is written.
        let _ = socket.write_all(&bytes).await;
        let _ = socket.shutdown().await;
        let mut rest = Vec::new();
        let _ = socket.read_to_end(&mut rest).await;
        assert!(rest.is_empty());
        assert_eq!(find(&link, "still there").await.unwrap().name, "still there");
    }
}

/// A connection of a good member that then sends whatever bytes the test likes.
async fn proven_socket(dc: &Side) -> tokio::net::TcpStream {
    let config = config("scene-1", ProcessKind::Scene, 1, "127.0.0.1:0", Members::new(Vec::new()).1);
    let mut socket = crate::net::connect(dc.links.local_addr(), WITHIN).await.unwrap();
    handshake::dial(&mut socket, &Identity::new(&config), &dc.member()).await.unwrap();
    socket
}

#[tokio::test]
async fn a_member_that_sends_garbage_loses_its_link_only() {
    let mut dc = dc().await;
    let mut long_parts = Vec::new();
    for id in 0..100u64 {
        let mut part = bytes::BytesMut::new();
        LinkFrame { kind: AccountFind::KIND, flags: proto::link::flags::MORE, id, body: Bytes::new() }.put_head(&mut part);
        long_parts.extend_from_slice(&part);
    }
    let mut half = bytes::BytesMut::new();
    LinkFrame { kind: DELIVER, flags: 0, id: 1, body: vec![0; 50].into() }.put_head(&mut half);
    assert_eq!(half.len(), HEAD_BYTES);
    for bytes in [vec![0xff; 4000], vec![3, 0, 0, 0], half.to_vec(), long_parts] {
        let mut socket = proven_socket(&dc).await;
        assert_eq!(dc.next().await, up("scene-1", 1));
        socket.write_all(&bytes).await.unwrap();
        socket.shutdown().await.unwrap();
        assert_eq!(dc.next().await, down("scene-1", 1));
    }
}

#[tokio::test]
async fn garbage_in_a_call_and_its_answer_is_told() {
    let (_scene, _dc, link) = pair().await;
    let mut waiting = link.shared.calls.register().unwrap();
    link.send_body(AccountFind::KIND, 0, waiting.number(), vec![0xff; 9].into()).unwrap();
    let fault = waiting.answered().await.unwrap().unwrap_err();
    assert_eq!(fault.code(), CallFaultCode::CallInvalid);
}

#[tokio::test]
async fn status_has_each_link_by_its_peer() {
    let (mut scene, dc, link) = pair().await;
    find(&link, "traffic").await.unwrap();
    let status = scene.links.status();
    assert_eq!(status["dc-1"]["kind"], "dc");
    for field in ["rtt_us", "queued_bytes", "sent_bytes", "received_bytes", "up_s"] {
        assert!(status["dc-1"][field].is_u64(), "{field} in {status}");
    }
    assert!(0 < status["dc-1"]["received_bytes"].as_u64().unwrap());
    dc.stop().await;
    assert_eq!(scene.next().await, down("dc-1", 1));
    assert_eq!(scene.links.status(), serde_json::json!({}));
}
