//! What a gate is compared with: a bare relay, a bare sender, and, where they are installed, HAProxy and nginx as relays of streams.

use std::{
    io::Write,
    net::{SocketAddr, TcpListener as BlockingListener, TcpStream as BlockingStream},
    path::Path,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use anyhow::Context;
use serde::{Deserialize, Serialize};
use service::net::{self, TcpStream};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::rig::moves;
use crate::bench::{
    installed,
    part::{Part, say},
    process::Usage,
};

const CONNECT_WITHIN: Duration = Duration::from_secs(20);
/// What a relay reads at once.
const READ_BYTES: usize = 2048;

/// What to be.
#[derive(clap::Args)]
#[command(hide = true)]
pub(crate) struct Args {
    /// Pass everything on to this address, and back.
    #[arg(long)]
    relay_to: Option<SocketAddr>,
    /// Send back what comes.
    #[arg(long)]
    echo: bool,
}

/// What a bare sender sends.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub(crate) struct Sending {
    pub bytes: usize,
    /// It begins no round after that, but one in any case.
    pub for_ms: u64,
    /// Rounds over all sockets a second; 0: as many as go.
    pub hz: f64,
}

impl Sending {
    /// So many bytes to every socket, for a while.
    pub(crate) fn lasting(bytes: usize, duration: Duration, hz: f64) -> Self {
        Self { bytes, for_ms: u64::try_from(duration.as_millis()).unwrap_or(u64::MAX), hz }
    }

    /// So many bytes to every socket, one time.
    pub(crate) fn once(bytes: usize) -> Self {
        Self { bytes, for_ms: 0, hz: 0.0 }
    }
}

/// Is it.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    if args.relay_to.is_none() && !args.echo {
        return send();
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("start the runtime")?;
    runtime.block_on(async {
        let listener = net::listen(SocketAddr::from(([127, 0, 0, 1], 0)))?;
        say(&listener.local_addr()?)?;
        let target = args.relay_to;
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, target));
            }
        });
        // Whoever started this part ends it.
        std::future::pending::<()>().await;
        Ok(())
    })
}

async fn serve(mut stream: TcpStream, target: Option<SocketAddr>) -> anyhow::Result<()> {
    stream.set_nodelay(true)?;
    let Some(target) = target else {
        let (mut from, mut to) = stream.split();
        return pass(&mut from, &mut to).await;
    };
    let mut other = net::connect(target, CONNECT_WITHIN).await?;
    let ((mut here_in, mut here_out), (mut there_in, mut there_out)) = (stream.split(), other.split());
    tokio::select! {
        passed = pass(&mut here_in, &mut there_out) => passed,
        passed = pass(&mut there_in, &mut here_out) => passed,
    }
}

async fn pass(from: &mut (impl AsyncReadExt + Unpin), to: &mut (impl AsyncWriteExt + Unpin)) -> anyhow::Result<()> {
    let mut buffer = [0; READ_BYTES];
    loop {
        let count = from.read(&mut buffer).await?;
        if count == 0 {
            return Ok(());
        }
        to.write_all(&buffer[..count]).await?;
    }
}

/// Accepts, and sends what it is told to, with nothing but the system call; says how many of them took all.
fn send() -> anyhow::Result<()> {
    let listener = BlockingListener::bind("127.0.0.1:0").context("listen")?;
    say(&listener.local_addr()?)?;
    let sockets: Arc<Mutex<Vec<BlockingStream>>> = Arc::default();
    let accepted = sockets.clone();
    std::thread::spawn(move || {
        for socket in listener.incoming().map_while(Result::ok) {
            if socket.set_nonblocking(true).and_then(|()| socket.set_nodelay(true)).is_ok() {
                accepted.lock().expect("no holder panics").push(socket);
            }
        }
    });
    for line in std::io::stdin().lines() {
        let sending: Sending = serde_json::from_str(&line?).context("understand an order")?;
        say(&send_for(&mut sockets.lock().expect("no holder panics"), sending))?;
    }
    Ok(())
}

fn send_for(sockets: &mut [BlockingStream], sending: Sending) -> u64 {
    let (started, mut taken, mut round) = (Instant::now(), 0, 0u32);
    loop {
        let frame = moves(sending.bytes);
        for socket in sockets.iter_mut() {
            // Who does not take it misses it.
            taken += u64::from(socket.write(frame.bytes()).is_ok_and(|count| count == frame.bytes().len()));
        }
        round += 1;
        if 0.0 < sending.hz {
            std::thread::sleep((Duration::from_secs_f64(1.0 / sending.hz) * round).saturating_sub(started.elapsed()));
        }
        if Duration::from_millis(sending.for_ms) <= started.elapsed() {
            return taken;
        }
    }
}

/// Something that the gate is compared with, in a process of its own.
pub(crate) enum Reference {
    /// A part of ours.
    Part(Part, SocketAddr),
    /// Another program.
    Program(Child, SocketAddr),
}

impl Reference {
    pub(super) fn relay(to: SocketAddr) -> anyhow::Result<Self> {
        let (part, address) = Part::start(&["reference", "--relay-to", &to.to_string()])?;
        Ok(Self::Part(part, address))
    }

    pub(super) fn echo() -> anyhow::Result<Self> {
        let (part, address) = Part::start(&["reference", "--echo"])?;
        Ok(Self::Part(part, address))
    }

    pub(crate) fn sender() -> anyhow::Result<Self> {
        let (part, address) = Part::start(&["reference"])?;
        Ok(Self::Part(part, address))
    }

    /// HAProxy as a relay of TCP, for as many connections as it may open files for; none where it is not installed.
    pub(super) fn haproxy(to: SocketAddr, folder: &Path) -> anyhow::Result<Option<Self>> {
        let text = |at: SocketAddr| {
            format!(
                "global\n  nbthread 2\ndefaults\n  mode tcp\n  timeout connect 5s\n  timeout client 1h\n  timeout server 1h\n\
                 listen bench\n  bind {at}\n  server echo {to}\n"
            )
        };
        Self::program("haproxy", folder, text, &["-db", "-f"])
    }

    /// nginx as a relay of streams; none where it is not installed. Debian has streams in a module, and a list of those to load.
    pub(super) fn nginx(to: SocketAddr, folder: &Path) -> anyhow::Result<Option<Self>> {
        let pid = folder.join("nginx.pid");
        let text = |at: SocketAddr| {
            format!(
                "include /etc/nginx/modules-enabled/*.conf;\ndaemon off;\nmaster_process off;\npid {};\n\
                 error_log stderr crit;\nevents {{ worker_connections 40000; }}\n\
                 stream {{ server {{ listen {at}; proxy_pass {to}; }} }}\n",
                pid.display()
            )
        };
        Self::program("nginx", folder, text, &["-c"])
    }

    fn program(name: &str, folder: &Path, text: impl FnOnce(SocketAddr) -> String, args: &[&str]) -> anyhow::Result<Option<Self>> {
        let (Some(program), at) = (installed::program(name), installed::free_address()?) else { return Ok(None) };
        let file = folder.join(format!("{name}.conf"));
        service::fs::replace(&file, text(at).as_bytes(), 0o600).with_context(|| format!("write {}", file.display()))?;
        let child = Command::new(program).args(args).arg(&file).stdin(Stdio::null()).spawn().with_context(|| format!("start {name}"))?;
        let reference = Self::Program(child, at);
        let deadline = Instant::now() + CONNECT_WITHIN;
        while BlockingStream::connect(at).is_err() {
            anyhow::ensure!(Instant::now() < deadline, "start {name}: it does not listen at {at}");
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(Some(reference))
    }

    /// Where clients connect.
    pub(crate) fn address(&self) -> SocketAddr {
        match self {
            Self::Part(_, address) | Self::Program(_, address) => *address,
        }
    }

    /// What it has used.
    pub(crate) fn usage(&self) -> anyhow::Result<Usage> {
        match self {
            Self::Part(part, _) => part.usage(),
            Self::Program(child, _) => Usage::of(child.id()),
        }
    }

    /// Has a bare sender send.
    pub(crate) fn begin(&mut self, sending: &Sending) -> anyhow::Result<()> {
        self.part()?.order(sending)
    }

    /// Waits until it has; says how many sockets took all.
    pub(crate) fn end(&mut self) -> anyhow::Result<u64> {
        self.part()?.hear()
    }

    /// Has it send, and waits until it has.
    pub(crate) fn send(&mut self, sending: &Sending) -> anyhow::Result<u64> {
        self.begin(sending)?;
        self.end()
    }

    fn part(&mut self) -> anyhow::Result<&mut Part> {
        match self {
            Self::Part(part, _) => Ok(part),
            Self::Program(..) => anyhow::bail!("this is no bare sender"),
        }
    }
}

impl Drop for Reference {
    fn drop(&mut self) {
        if let Self::Program(child, _) = self {
            // It may have ended by itself.
            _ = child.kill();
            _ = child.wait();
        }
    }
}
