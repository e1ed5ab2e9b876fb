//! The reference: as many connections, writes and bytes as the zone and its bots had, both ways, with nothing but the system calls.
//!
//! The server does for each connection one write a tick, and one read for each write of its client, which come in every tick or in every
//! second or third one. The clients read on the bots' schedule: a tenth of them every tick, the others a few times a second. Both are
//! parts of the benchmark with processes of their own.

use std::{
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::Context;
use serde::{Deserialize, Serialize};

use crate::bench::{
    part::{Part, say},
    process::Usage,
};

/// Slots of a tick over which clients are spread, as bots are.
const SLOTS: usize = 20;
/// What one read takes at most.
const ROOM_BYTES: usize = 64 * 1024;
/// Of the clients, one of so many reads in every tick.
const READER_OF: usize = 10;

/// Which end.
#[derive(clap::Args)]
#[command(hide = true)]
pub(crate) struct Args {
    /// Be the clients of the server at this address; the server if absent.
    #[arg(long)]
    of: Option<SocketAddr>,
    #[arg(long)]
    count: usize,
}

/// What both ends do for a while.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub(super) struct Traffic {
    pub(super) for_ms: u64,
    /// Writes a second of the server, to each client.
    pub(super) down_hz: f64,
    /// Writes a second of each client.
    pub(super) up_hz: f64,
    /// Bytes of a write of the server.
    pub(super) down_bytes: usize,
    /// Bytes of a write of a client.
    pub(super) up_bytes: usize,
    /// How often in a second a client that does not read in every tick reads.
    pub(super) drain_hz: f64,
}

impl Traffic {
    /// A client writes in one of so many ticks.
    fn up_every(&self) -> usize {
        turns(self.down_hz, self.up_hz)
    }
}

fn turns(of_hz: f64, hz: f64) -> usize {
    (of_hz / hz).round().max(1.0) as usize
}

/// What came of it.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
pub(super) struct Done {
    pub(super) seconds: f64,
    /// Writes that the kernel took whole.
    pub(super) writes: u64,
    pub(super) read_bytes: u64,
    pub(super) cpu_s: f64,
}

/// Is one end, until standard input ends.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let mut sockets = match args.of {
        Some(server) => connect(server, args.count)?,
        None => accept(args.count)?,
    };
    if args.of.is_some() {
        say(&args.count)?;
    }
    for line in std::io::stdin().lines() {
        let traffic: Traffic = serde_json::from_str(&line?).context("understand an order")?;
        let (before, began) = (Usage::own()?, Instant::now());
        let mut end = End { sockets: &mut sockets, room: vec![0; ROOM_BYTES], done: Done::default() };
        if args.of.is_some() {
            end.clients(traffic, began);
        } else {
            end.server(traffic, began);
        }
        let cpu_s = Usage::own()?.cpu_s() - before.cpu_s();
        say(&Done { seconds: began.elapsed().as_secs_f64(), cpu_s, ..end.done })?;
    }
    Ok(())
}

fn accept(count: usize) -> anyhow::Result<Vec<TcpStream>> {
    let listener = TcpListener::bind("127.0.0.1:0").context("listen")?;
    say(&listener.local_addr()?)?;
    listener.incoming().take(count).map(|socket| ready(socket.context("accept")?)).collect()
}

fn connect(server: SocketAddr, count: usize) -> anyhow::Result<Vec<TcpStream>> {
    (0..count).map(|_| ready(TcpStream::connect(server).context("connect")?)).collect()
}

fn ready(socket: TcpStream) -> anyhow::Result<TcpStream> {
    socket.set_nodelay(true)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

struct End<'a> {
    sockets: &'a mut [TcpStream],
    room: Vec<u8>,
    done: Done,
}

impl End<'_> {
    fn server(&mut self, traffic: Traffic, began: Instant) {
        let body = vec![0; traffic.down_bytes];
        let up_every = traffic.up_every();
        for_each_period(traffic.for_ms, 1.0 / traffic.down_hz, began, |turn| {
            for index in 0..self.sockets.len() {
                if (turn + index).is_multiple_of(up_every) {
                    self.read(index);
                }
                self.write(index, &body);
            }
        });
    }

    fn clients(&mut self, traffic: Traffic, began: Instant) {
        let body = vec![0; traffic.up_bytes];
        let (up_every, read_every) = (traffic.up_every(), turns(traffic.down_hz, traffic.drain_hz));
        for_each_period(traffic.for_ms, 1.0 / traffic.down_hz / SLOTS as f64, began, |turn| {
            let (slot, round) = (turn % SLOTS, turn / SLOTS);
            for index in (slot..self.sockets.len()).step_by(SLOTS) {
                let number = index / SLOTS;
                if (round + number).is_multiple_of(up_every) {
                    self.write(index, &body);
                }
                if number.is_multiple_of(READER_OF) || (round + number).is_multiple_of(read_every) {
                    self.read(index);
                }
            }
        });
    }

    fn write(&mut self, index: usize, body: &[u8]) {
        // Who does not take it misses it.
        self.done.writes += u64::from(self.sockets[index].write(body).is_ok_and(|taken| taken == body.len()));
    }

    fn read(&mut self, index: usize) {
        loop {
            match self.sockets[index].read(&mut self.room) {
                Ok(read) => self.done.read_bytes += read as u64,
                Err(err) if err.kind() == ErrorKind::Interrupted => continue,
                // Nothing is there; or the other end is gone, whose part says so itself.
                Err(_) => {}
            }
            return;
        }
    }
}

/// Calls in each period until the time is over, and makes up for what it is late.
fn for_each_period(for_ms: u64, period_s: f64, began: Instant, mut act: impl FnMut(usize)) {
    let mut turn = 0;
    while began.elapsed() < Duration::from_millis(for_ms) {
        act(turn);
        turn += 1;
        sleep(Duration::from_secs_f64(period_s * turn as f64).saturating_sub(began.elapsed()));
    }
}

/// Both ends, in as many pairs of processes as there are gates.
pub(super) struct Bare(Vec<(Part, Part)>);

impl Bare {
    /// Connects so many.
    pub(super) fn start(connections: u32, pairs: u32) -> anyhow::Result<Self> {
        let start = |pair: u32| u64::from(connections) * u64::from(pair) / u64::from(pairs);
        let pair = |pair: u32| {
            let count = (start(pair + 1) - start(pair)).to_string();
            let (server, address): (Part, SocketAddr) = Part::start(&["bare", "--count", &count])?;
            let (clients, _connected): (Part, usize) = Part::start(&["bare", "--count", &count, "--of", &address.to_string()])?;
            Ok((server, clients))
        };
        (0..pairs).map(pair).collect::<anyhow::Result<_>>().map(Self)
    }

    /// Has them send and read. What the servers did, and the clients.
    pub(super) fn run(&mut self, traffic: &Traffic) -> anyhow::Result<(Done, Done)> {
        for (server, clients) in &mut self.0 {
            server.order(traffic)?;
            clients.order(traffic)?;
        }
        let (mut served, mut drained) = (Done::default(), Done::default());
        for (server, clients) in &mut self.0 {
            served.add(&server.hear()?);
            drained.add(&clients.hear()?);
        }
        Ok((served, drained))
    }
}

impl Done {
    fn add(&mut self, other: &Self) {
        self.seconds = self.seconds.max(other.seconds);
        self.writes += other.writes;
        self.read_bytes += other.read_bytes;
        self.cpu_s += other.cpu_s;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_end_writes_the_other_reads() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = vec![ready(TcpStream::connect(listener.local_addr().unwrap()).unwrap()).unwrap()];
        let mut server = vec![ready(listener.accept().unwrap().0).unwrap()];
        let traffic = Traffic { for_ms: 100, down_hz: 50.0, up_hz: 50.0, down_bytes: 300, up_bytes: 20, drain_hz: 25.0 };
        let end = |sockets: &mut [TcpStream], acts: fn(&mut End, Traffic, Instant)| {
            let mut end = End { sockets, room: vec![0; ROOM_BYTES], done: Done::default() };
            acts(&mut end, traffic, Instant::now());
            end.done
        };
        let served = end(&mut server, |end, traffic, began| end.server(traffic, began));
        let drained = end(&mut client, |end, traffic, began| end.clients(traffic, began));
        let served_again = end(&mut server, |end, traffic, began| end.server(traffic, began));
        assert!(0 < served.writes && 0 < drained.writes);
        assert_eq!(drained.read_bytes, served.writes * 300);
        assert_eq!(served_again.read_bytes, drained.writes * 20);
    }
}
