//! Hostile clients at the gate of a real zone, among healthy ones (FAULTS 61, 63, 67, 68, 70, 72): nobody healthy is dropped, what the
//! others do is counted, and memory stays within its bound. What slow readers get is told by the gate's own tests.

use std::{
    io::{Read, Write},
    net::TcpStream,
    time::{Duration, Instant},
};

use proto::{
    Frame,
    client::{Hello, Say},
};

use crate::harness::{PATIENCE, Zone, zone_file};

const HEALTHY: u64 = 60;
/// Who greets and never says or reads a word again.
const SILENT: usize = 20;
/// What the gate may have more than before, with all of them; a connection alone costs a few KiB.
const GROWTH_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Files that the processes of a small zone may open.
const FILES_MAX: usize = 128;

fn hello() -> Frame {
    Frame::encode(1, &Hello { protocol_version: proto::PROTOCOL_VERSION, client: "hostile".into() })
}

/// A connection that has said this; `None` when the gate does not take it.
fn said(zone: &Zone, bytes: &[u8]) -> Option<TcpStream> {
    let mut stream = TcpStream::connect(zone.gate()).ok()?;
    stream.write_all(bytes).ok()?;
    Some(stream)
}

/// Reads until the gate closes.
fn until_closed(mut stream: TcpStream) {
    stream.set_read_timeout(Some(PATIENCE)).expect("set a deadline");
    let mut rest = Vec::new();
    if let Err(err) = stream.read_to_end(&mut rest) {
        assert_ne!(err.kind(), std::io::ErrorKind::WouldBlock, "the gate does not close it");
    }
}

#[test]
fn zone_healthy_players_are_not_dropped_by_slow_and_hostile_clients() {
    // No address is refused here: all come from one.
    let zone = Zone::start_with(&zone_file().replace("sessions_max: 18000", "sessions_max: 18000\n    connections_per_address_max: 5000"));
    let bots = zone.spawn(&["bots", "--count", &HEALTHY.to_string(), "--for", "25s", "--json"]);
    zone.until("all bots are in the world", |status| status["online"] == HEALTHY);
    let pid = zone.pid("gate-1");
    let (before, strikes_before) = (resident_bytes(pid), zone.metric("gate-1", "paifang_gate_strikes_total"));

    let silent: Vec<TcpStream> = (0..SILENT).filter_map(|_| said(&zone, hello().bytes())).collect();
    assert_eq!(silent.len(), SILENT);
    // Half greetings: kept until their deadline, with a closing then.
    let half: Vec<TcpStream> = (0..50).filter_map(|_| said(&zone, &hello().bytes()[..9])).collect();
    // Lengths that no frame has.
    for length in [0, u32::MAX, 1 << 20] {
        until_closed(said(&zone, &length.to_le_bytes()).expect("it connects"));
    }
    // A flood of what is not legal yet, by some at once.
    let mut flood = hello().bytes().to_vec();
    flood.extend(Frame::encode(2, &Say { text: "flood".into() }).bytes().repeat(500));
    let floods: Vec<TcpStream> = (0..10).filter_map(|_| TcpStream::connect(zone.gate()).ok()).collect();
    for mut stream in floods {
        // The gate may close before it has read all.
        _ = stream.write_all(&flood);
        until_closed(stream);
    }
    // Connections that end as soon as they are there, most of them with a reset.
    for number in 0..500 {
        drop(said(&zone, &hello().bytes()[..number % 2 * 9]));
    }
    half.into_iter().for_each(until_closed);

    assert!(strikes_before < zone.metric("gate-1", "paifang_gate_strikes_total"), "violations are counted");
    let after = resident_bytes(pid);
    assert!(after < before + GROWTH_BYTES_MAX, "the gate grew from {before} to {after} bytes");
    drop(silent);
    zone.until("nobody is left but the bots", |_| zone.metric("gate-1", "paifang_gate_sessions") <= HEALTHY as f64);
    let report = bots.document();
    assert_eq!((report["logged_in"].as_u64(), report["disconnects"].as_u64()), (Some(HEALTHY), Some(0)), "{report:#}");
    assert_eq!(report["errors"]["wrong_updates"], 0, "{report:#}");
    assert!(zone.stop().success());
}

#[test]
fn zone_gate_without_files_left_keeps_who_is_there_and_waits_without_spinning() {
    let zone = Zone::start_with_files_max(FILES_MAX);
    let bots = zone.spawn(&["bots", "--count", "10", "--for", "15s", "--json"]);
    zone.until("all bots are in the world", |status| status["online"] == 10);
    let pid = zone.pid("gate-1");
    // The kernel takes them all; the gate runs out of descriptors.
    let crowd: Vec<TcpStream> = (0..2 * FILES_MAX).filter_map(|_| TcpStream::connect(zone.gate()).ok()).collect();
    until("the gate says that it can't accept", || gate_log(&zone).contains("failed to accept a client"));
    let used = cpu_ticks(pid);
    let watched = Instant::now();
    while watched.elapsed() < Duration::from_secs(2) {
        std::thread::sleep(Duration::from_millis(50));
    }
    // A loop that spins uses all of one processor, 200 ticks, or on a busy machine all that it gets.
    let used = cpu_ticks(pid) - used;
    assert!(used < 100, "{used} hundredths of a second of processor time in two seconds");
    drop(crowd);
    let report = bots.document();
    assert_eq!((report["logged_in"].as_u64(), report["disconnects"].as_u64()), (Some(10), Some(0)), "{report:#}");
    let newcomer = zone.json(&["bots", "--count", "1", "--for", "1s"]);
    assert_eq!((newcomer["logged_in"].as_u64(), newcomer["disconnects"].as_u64()), (Some(1), Some(0)), "{newcomer:#}");
    assert!(zone.stop().success());
}

fn until(what: &str, holds: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "{what}: not within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn gate_log(zone: &Zone) -> String {
    std::fs::read_to_string(zone.folder().join("gate-1/gate-1.log")).unwrap_or_default()
}

fn resident_bytes(pid: i32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("the gate runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a process has memory");
    line.trim().trim_end_matches("kB").trim().parse::<u64>().expect("a number") * 1024
}

/// User and system time in hundredths of a second: fields 14 and 15 of proc(5), counted from behind the name in parentheses.
fn cpu_ticks(pid: i32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("the gate runs");
    let (_, fields) = stat.rsplit_once(')').expect("a name in parentheses");
    fields.split_whitespace().skip(11).take(2).map(|field| field.parse::<u64>().expect("a number")).sum()
}
