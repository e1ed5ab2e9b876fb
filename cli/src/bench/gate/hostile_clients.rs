//! Clients that mean harm, in a process of their own: some read very slowly, some flood, some connect and reset without end, some begin
//! a greeting and never end it. Whoever is closed comes again.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::Context;
use proto::{
    Frame,
    client::{Hello, Move, Position},
};
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::{Instant, sleep, sleep_until},
};

use super::client::{Client, Shared};
use crate::bench::part::{Part, say};

/// Of a slow reader: 100 bytes a second.
const SIP_BYTES: usize = 10;
const SIP_PERIOD: Duration = Duration::from_millis(100);
/// Frames of a flooder in one write.
const FLOOD_FRAMES: usize = 100;
/// Before whoever was closed comes again.
const PAUSE: Duration = Duration::from_millis(200);

/// How many of each kind.
#[derive(clap::Args)]
#[command(hide = true)]
pub(crate) struct Args {
    #[arg(long)]
    address: SocketAddr,
    #[arg(long)]
    slow: u32,
    #[arg(long)]
    floods: u32,
    #[arg(long)]
    half_open: u32,
    /// Connections a second that are reset at once.
    #[arg(long)]
    resets_per_s: u32,
}

/// What they have done so far.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
pub(crate) struct Harm {
    /// Slow readers that are in the world.
    pub slow_here: u64,
    pub frames_flooded: u64,
    /// Connections of floods and half greetings that the gate has closed.
    pub closed: u64,
    pub resets: u64,
}

#[derive(Default)]
struct Done {
    slow_here: AtomicU64,
    frames_flooded: AtomicU64,
    closed: AtomicU64,
    resets: AtomicU64,
}

/// Is all of them; says what they have done at each line that it reads.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().context("start the runtime")?;
    let (shared, done) = (Shared::new(args.address, None, false), Arc::new(Done::default()));
    for number in 0..args.slow as usize {
        runtime.spawn(read_slowly(shared.clone(), done.clone(), number));
    }
    for number in 0..args.floods as usize {
        runtime.spawn(flood(shared.clone(), done.clone(), number));
    }
    for _ in 0..args.half_open {
        runtime.spawn(greet_half(shared.clone(), done.clone()));
    }
    if 0 < args.resets_per_s {
        runtime.spawn(reset(shared, done.clone(), Duration::from_secs(1) / args.resets_per_s));
    }
    say(&Harm::default())?;
    for line in std::io::stdin().lines() {
        line.context("read an order")?;
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        say(&Harm {
            slow_here: get(&done.slow_here),
            frames_flooded: get(&done.frames_flooded),
            closed: get(&done.closed),
            resets: get(&done.resets),
        })?;
    }
    Ok(())
}

async fn read_slowly(shared: Arc<Shared>, done: Arc<Done>, number: usize) {
    loop {
        if let Ok(mut client) = Client::connect(&shared, number, None).await {
            done.slow_here.fetch_add(1, Ordering::Relaxed);
            let mut sip = [0; SIP_BYTES];
            while let Ok(1..) = client.stream.read(&mut sip).await {
                sleep(SIP_PERIOD).await;
            }
            done.slow_here.fetch_sub(1, Ordering::Relaxed);
        }
        sleep(PAUSE).await;
    }
}

async fn flood(shared: Arc<Shared>, done: Arc<Done>, number: usize) {
    let frames = Frame::encode(0, &Move { to: Some(Position { x: 1, y: 1 }) }).bytes().repeat(FLOOD_FRAMES);
    loop {
        if let Ok(mut client) = Client::connect(&shared, number, None).await {
            while client.stream.write_all(&frames).await.is_ok() {
                done.frames_flooded.fetch_add(FLOOD_FRAMES as u64, Ordering::Relaxed);
            }
            done.closed.fetch_add(1, Ordering::Relaxed);
        }
        sleep(PAUSE).await;
    }
}

async fn greet_half(shared: Arc<Shared>, done: Arc<Done>) {
    let hello = Frame::encode(1, &Hello { protocol_version: proto::PROTOCOL_VERSION, client: "bench".into() });
    loop {
        if let Ok(mut stream) = shared.connect().await
            && stream.write_all(&hello.bytes()[..9]).await.is_ok()
        {
            // Ends when the gate has had enough.
            _ = stream.read_to_end(&mut Vec::new()).await;
            done.closed.fetch_add(1, Ordering::Relaxed);
        }
        sleep(PAUSE).await;
    }
}

async fn reset(shared: Arc<Shared>, done: Arc<Done>, period: Duration) {
    let mut due = Instant::now();
    loop {
        due += period;
        sleep_until(due).await;
        if let Ok(stream) = shared.connect().await
            && stream.set_zero_linger().is_ok()
        {
            done.resets.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Their process.
pub(crate) struct HostileClients {
    part: Part,
}

impl HostileClients {
    /// So many that read slowly, flood, and do not greet; and so many resets a second.
    pub(crate) fn start(address: SocketAddr, slow: u32, floods: u32, half_open: u32, resets_per_s: u32) -> anyhow::Result<Self> {
        let numbers = [slow, floods, half_open, resets_per_s].map(|number| number.to_string());
        let (address, [slow, floods, half_open, resets]) = (address.to_string(), &numbers);
        let args =
            ["hostile", "--address", &address, "--slow", slow, "--floods", floods, "--half-open", half_open, "--resets-per-s", resets];
        let (part, _ready): (Part, Harm) = Part::start(&args)?;
        Ok(Self { part })
    }

    /// What they have done so far.
    pub(crate) fn harm(&mut self) -> anyhow::Result<Harm> {
        self.part.order(&())?;
        self.part.hear()
    }
}
