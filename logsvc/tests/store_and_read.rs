//! The logsvc process over a real link and its admin port: emitted by another process, stored, found, followed.

use std::{net::SocketAddr, path::Path, sync::Arc, time::Duration};

use proto::{
    event::{Chat, Event, event::Body},
    internal::{AccountFind, CallFaultCode, EventsAppend, EventsStored},
    link::LinkFrame,
};
use serde_json::Value;
use service::{
    CallError, Handler, IncomingCall, Link, Links, Process, ProcessKind,
    config::{DEV_ZONE, Zone},
    net,
};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    task::JoinHandle,
};

const WITHIN: Duration = Duration::from_secs(20);

/// A process that takes nothing.
struct Deaf;

impl Handler for Deaf {
    async fn on_up(&self, _: &Link) {}
    async fn on_down(&self, _: &Link) {}
    async fn on_frame(&self, _: &Link, _: LinkFrame) {}
    async fn on_call(&self, _: &Link, call: IncomingCall) {
        call.unknown();
    }
}

/// A running logsvc and a dc that sends it events.
struct Bench {
    logsvc: Process,
    running: JoinHandle<anyhow::Result<()>>,
    dc: Process,
    link: Link,
}

impl Bench {
    async fn start(data: &Path) -> Bench {
        let zone = Zone::for_test(DEV_ZONE).unwrap();
        let logsvc = Process::for_test(&zone, "logsvc-1", data);
        let running = tokio::spawn(logsvc::run(logsvc.clone()));
        tokio::time::timeout(WITHIN, logsvc.ready.ready()).await.expect("the logsvc becomes ready");
        let dc = Process::for_test(&zone, "dc-1", data);
        let links = Links::start(&dc, Arc::new(Deaf)).await.unwrap();
        let link = links.wait(ProcessKind::Logsvc, WITHIN).await.unwrap();
        Bench { logsvc, running, dc, link }
    }

    fn admin(&self) -> SocketAddr {
        self.logsvc.config.admin
    }

    async fn append(&self, first_sequence: u64, events: Vec<Event>) -> u64 {
        let batch = EventsAppend { producer: "dc-1/1".into(), first_sequence, events };
        let EventsStored { highest_sequence } = self.link.call(&batch, WITHIN).await.unwrap();
        highest_sequence
    }

    /// Stops both as a signal would.
    async fn stop(self) {
        let Bench { logsvc, running, dc, link } = self;
        logsvc.tasks.stop_token().cancel();
        tokio::time::timeout(WITHIN, running).await.expect("it stops").unwrap().unwrap();
        drop(link);
        dc.tasks.stop(WITHIN).await.unwrap();
        logsvc.tasks.stop(WITHIN).await.unwrap();
    }
}

/// What a player said, at a time.
fn said(player: u64, name: &str, text: &str, time_ms: i64) -> Event {
    let chat = Chat { channel: "say".into(), text: text.into(), to: String::new() };
    Event { player, player_name: name.into(), time_ms, body: Some(Body::Chat(chat)), ..Event::default() }
}

/// Asks, and reads past the head of the answer: status and body. HTTP/1.0, so that streams come without chunks.
async fn ask(admin: SocketAddr, path: &str) -> (u16, BufReader<net::TcpStream>) {
    let mut stream = BufReader::new(net::connect(admin, WITHIN).await.unwrap());
    stream.write_all(format!("GET {path} HTTP/1.0\r\nhost: logsvc\r\n\r\n").as_bytes()).await.unwrap();
    let mut line = String::new();
    stream.read_line(&mut line).await.unwrap();
    let status = line.split(' ').nth(1).unwrap().parse().unwrap();
    while line != "\r\n" {
        line.clear();
        stream.read_line(&mut line).await.unwrap();
    }
    (status, stream)
}

async fn get(admin: SocketAddr, path: &str) -> (u16, Vec<Value>) {
    let (status, mut stream) = ask(admin, path).await;
    let mut body = String::new();
    stream.read_to_string(&mut body).await.unwrap();
    (status, body.lines().map(|line| serde_json::from_str(line).unwrap()).collect())
}

async fn texts(admin: SocketAddr, query: &str) -> Vec<String> {
    let (status, lines) = get(admin, &format!("/events?{query}")).await;
    assert_eq!(status, 200, "{lines:?}");
    lines.iter().map(|line| line["text"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn acknowledged_events_are_found_and_are_there_after_a_restart() {
    let data = tempfile::tempdir().unwrap();
    let bench = Bench::start(data.path()).await;
    let events = vec![said(7, "Alice", "one", 1000), said(8, "Bob", "two", 2000), said(7, "Alice", "three", 3000)];
    assert_eq!(bench.append(1, events.clone()).await, 3);
    assert_eq!(bench.append(1, events).await, 3, "a resend");
    let admin = bench.admin();
    assert_eq!(texts(admin, "").await, ["three", "two", "one"]);
    assert_eq!(texts(admin, "player=alice&order=oldest").await, ["one", "three"]);
    assert_eq!(texts(admin, "player=7&limit=1").await, ["three"]);
    assert_eq!(texts(admin, "kind=chat,fight&since_ms=2000&until_ms=3000").await, ["two"]);
    assert_eq!(texts(admin, "kind=fight").await, [""; 0]);
    let (_, lines) = get(admin, "/events?limit=1").await;
    assert_eq!((&lines[0]["time"], &lines[0]["kind"]), (&"1970-01-01T00:00:03Z".into(), &"chat".into()));

    let (_, status) = get(admin, "/status").await;
    let detail = &status[0]["detail"];
    assert_eq!((&detail["stored"], &detail["segments"], &detail["producers"]), (&3.into(), &1.into(), &1.into()));
    bench.stop().await;

    let bench = Bench::start(data.path()).await;
    assert_eq!(bench.append(3, vec![said(7, "Alice", "three", 3000), said(7, "Alice", "four", 4000)]).await, 4);
    assert_eq!(texts(bench.admin(), "order=oldest").await, ["one", "two", "three", "four"]);
    bench.stop().await;
}

#[tokio::test]
async fn what_a_process_emits_is_followed_and_found() {
    let data = tempfile::tempdir().unwrap();
    let bench = Bench::start(data.path()).await;
    bench.append(1, vec![said(7, "Alice", "before", 1000)]).await;
    let (status, mut stream) = ask(bench.admin(), "/events/follow?player=Alice").await;
    assert_eq!(status, 200);
    bench.append(2, vec![said(8, "Bob", "not her", 2000), said(7, "Alice", "now", 3000)]).await;
    let mut line = String::new();
    tokio::time::timeout(WITHIN, stream.read_line(&mut line)).await.expect("a line comes").unwrap();
    assert_eq!(serde_json::from_str::<Value>(&line).unwrap()["text"], "now");
    bench.stop().await;
    line.clear();
    assert_eq!(stream.read_line(&mut line).await.unwrap(), 0, "the stream ends with the process: {line}");
}

#[tokio::test]
async fn nonsense_is_refused_with_a_reason() {
    let data = tempfile::tempdir().unwrap();
    let bench = Bench::start(data.path()).await;
    for (query, reason) in [
        ("kind=brawl", "`brawl`"),
        ("limit=0", "limit is 1"),
        ("plyer=Alice", "plyer"),
        ("since_ms=yesterday", "since_ms"),
        ("order=x", "x"),
    ] {
        for path in ["/events", "/events/follow"] {
            let (status, lines) = get(bench.admin(), &format!("{path}?{query}")).await;
            let error = lines[0]["error"].as_str().unwrap();
            assert!(status == 400 && error.contains(reason), "{path}?{query}: {status} {error}");
        }
    }
    let nameless = EventsAppend { first_sequence: 1, events: vec![Event::default()], ..EventsAppend::default() };
    let refused = bench.link.call(&nameless, WITHIN).await.unwrap_err();
    assert_eq!(refused.code(), Some(CallFaultCode::CallInvalid));
    let unknown = bench.link.call(&AccountFind::default(), WITHIN).await.unwrap_err();
    assert!(matches!(unknown, CallError::Refused(fault) if fault.code() == CallFaultCode::CallUnknown));
    bench.stop().await;
}
