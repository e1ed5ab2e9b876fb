//! Clients in a process of their own: many sockets, with the least that each needs. They talk to a gate, or raw to what it is compared
//! with.

use std::{
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use ::client::bots::Samples;
use anyhow::Context;
use serde::{Deserialize, Serialize};
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};

use super::{
    client::{self, Shared},
    tickets,
};
use crate::bench::{
    document::Percentiles,
    part::{Part, say},
};

/// For what is still on its way when an order is over.
const ARRIVE_WITHIN: Duration = Duration::from_millis(200);

/// Which clients.
#[derive(clap::Args)]
#[command(hide = true)]
pub(crate) struct Args {
    #[arg(long)]
    address: SocketAddr,
    /// Connect from this address of the machine.
    #[arg(long)]
    from: Option<IpAddr>,
    #[arg(long)]
    count: usize,
    /// Not to a gate: no greeting, and what comes back are our own bytes.
    #[arg(long)]
    raw: bool,
}

/// What clients do for a while.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
pub(crate) struct Order {
    pub act: Act,
    pub for_ms: u64,
    /// Messages a second of each, for [`Act::Echo`].
    pub per_s: f64,
}

/// What they do.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
pub(crate) enum Act {
    /// They read, and measure how old what they read is.
    #[default]
    Read,
    /// They send by a schedule, and measure how long after it the answer comes.
    Echo,
    /// Others like them show tickets that are not good.
    Forge,
    /// They lose their connections all at once, and come back by ticket over this time.
    Resume,
}

/// What came of it.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub(crate) struct Outcome {
    /// Frames that came, beside the gate's own.
    pub frames: u64,
    pub bytes: u64,
    pub sent: u64,
    /// Connections that ended.
    pub lost: u64,
    pub took_s: f64,
    pub latency: Samples,
}

impl Outcome {
    /// How old what they read was, or how long an answer took.
    pub(crate) fn latency_ms(&self) -> Percentiles {
        Percentiles::of_us(&self.latency.0)
    }

    /// Together with that of other clients.
    pub(crate) fn add(&mut self, other: &Self) {
        self.frames += other.frames;
        self.bytes += other.bytes;
        self.sent += other.sent;
        self.lost += other.lost;
        self.took_s = self.took_s.max(other.took_s);
        self.latency.0.add(&other.latency.0).expect("all of these have the same bounds");
    }
}

/// Is so many clients.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("start the runtime")?;
    runtime.block_on(serve(args))
}

async fn serve(args: &Args) -> anyhow::Result<()> {
    let (order, orders) = watch::channel(None);
    let shared = Shared::new(args.address, args.from, args.raw);
    for number in 0..args.count {
        tokio::spawn(client::run(shared.clone(), number, orders.clone()));
    }
    shared.until_here(args.count).await;
    say(&args.count)?;
    let (lines, mut read) = tokio::sync::mpsc::channel::<String>(1);
    std::thread::spawn(move || std::io::stdin().lines().map_while(Result::ok).try_for_each(|line| lines.blocking_send(line)));
    while let Some(line) = read.recv().await {
        let given: Order = serde_json::from_str(&line).context("understand an order")?;
        say(&carry_out(&shared, given, &order, args.count).await)?;
    }
    Ok(())
}

async fn carry_out(shared: &Arc<Shared>, given: Order, order: &watch::Sender<Option<(Order, Instant)>>, count: usize) -> Outcome {
    shared.restart();
    let started = Instant::now();
    let until = started + Duration::from_millis(given.for_ms);
    match given.act {
        Act::Read | Act::Echo => {
            order.send_replace(Some((given, started)));
            sleep_until(until).await;
            order.send_replace(None);
            tokio::time::sleep(ARRIVE_WITHIN).await;
        }
        Act::Forge => tickets::forge(shared, until).await,
        Act::Resume => {
            order.send_replace(Some((given, started)));
            // All leave before the first is back.
            shared.until_gone(count).await;
            shared.until_here(count).await;
            order.send_replace(None);
        }
    }
    shared.outcome(started.elapsed())
}

impl Shared {
    fn restart(&self) {
        for counter in [&self.frames, &self.bytes, &self.sent, &self.lost] {
            counter.store(0, Ordering::Relaxed);
        }
        self.latency.lock().expect("no holder panics").0.reset();
    }

    fn outcome(&self, took: Duration) -> Outcome {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Outcome {
            frames: get(&self.frames),
            bytes: get(&self.bytes),
            sent: get(&self.sent),
            lost: get(&self.lost),
            took_s: took.as_secs_f64(),
            latency: self.latency.lock().expect("no holder panics").clone(),
        }
    }

    async fn until_here(&self, count: usize) {
        while (self.here.load(Ordering::Relaxed) as usize) < count {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    async fn until_gone(&self, count: usize) {
        while (self.lost.load(Ordering::Relaxed) as usize) < count {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}

/// The clients' process.
pub(crate) struct Clients {
    part: Part,
}

impl Clients {
    /// So many clients, in the world of a gate.
    pub(crate) fn of_gate(address: SocketAddr, count: u32) -> anyhow::Result<Self> {
        Self::start(address, count, &[])
    }

    /// As [`Clients::of_gate`], from this address of the machine.
    pub(crate) fn of_gate_from(from: IpAddr, address: SocketAddr, count: u32) -> anyhow::Result<Self> {
        Self::start(address, count, &["--from", &from.to_string()])
    }

    /// So many connections to something else.
    pub(crate) fn raw(address: SocketAddr, count: u32) -> anyhow::Result<Self> {
        Self::start(address, count, &["--raw"])
    }

    /// As [`Clients::raw`], from this address of the machine.
    pub(crate) fn raw_from(from: IpAddr, address: SocketAddr, count: u32) -> anyhow::Result<Self> {
        Self::start(address, count, &["--raw", "--from", &from.to_string()])
    }

    fn start(address: SocketAddr, count: u32, more: &[&str]) -> anyhow::Result<Self> {
        let (address, count) = (address.to_string(), count.to_string());
        let args = [&["clients", "--address", &address, "--count", &count], more].concat();
        let (part, _ready): (Part, usize) = Part::start(&args)?;
        Ok(Self { part })
    }

    /// Has them do something.
    pub(crate) fn begin(&mut self, act: Act, within: Duration, per_s: f64) -> anyhow::Result<()> {
        self.part.order(&Order { act, for_ms: u64::try_from(within.as_millis()).unwrap_or(u64::MAX), per_s })
    }

    /// Waits until it is done.
    pub(crate) fn end(&mut self) -> anyhow::Result<Outcome> {
        self.part.hear()
    }
}
