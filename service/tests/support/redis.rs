//! A private Redis for tests: its own folder, a free port on 127.0.0.1, a password. It can be killed, started again from what it saved,
//! blocked and emptied, and is gone with the test, whatever ends that.
//!
//! `deploy/install-test-servers.sh` installs the server; where that is not possible tests skip themselves with [`Redis::missing`].
//!
//! The server is a child of a shell that waits for the end of its own input: when the test is gone, killed or not, that input ends, and
//! the shell kills the server.
#![allow(dead_code, reason = "every test that takes this file in uses another part of it")]

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use service::{
    Zone,
    config::{CacheConfig, RedisConfig, SecretSource},
};
use tempfile::TempDir;

/// How long a server may take to serve.
const UP_WITHIN: Duration = Duration::from_secs(20);
/// Starts a server and kills it when its own input ends.
const KEEPER: &str = r#""$@" </dev/null >/dev/null 2>&1 & echo $!; read -r _; kill -9 $! 2>/dev/null; wait"#;
const PASSWORD: &str = "a-password-of-tests";

/// A server, running or not.
pub struct Redis {
    pub port: u16,
    folder: TempDir,
    arguments: Vec<String>,
    keeper: Option<Child>,
}

impl Redis {
    /// Starts a server, or says why this machine has none.
    pub fn start() -> Option<Self> {
        Self::start_with(&[])
    }

    /// As [`Redis::start`], with more arguments.
    pub fn start_with(arguments: &[String]) -> Option<Self> {
        if let Some(why) = Self::missing() {
            eprintln!("skipped: {why}");
            return None;
        }
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut redis = Self { port, folder: tempfile::tempdir().unwrap(), arguments: arguments.into(), keeper: None };
        redis.up();
        Some(redis)
    }

    /// Why there can be no server on this machine; `None`: there can.
    pub fn missing() -> Option<String> {
        program().is_none().then(|| "no redis-server on this machine: run deploy/install-test-servers.sh".into())
    }

    /// Starts it where it was, with what it saved; waits until it serves.
    pub fn up(&mut self) {
        assert!(self.keeper.is_none(), "the server runs already");
        let (port, folder) = (self.port.to_string(), self.folder.path().display().to_string());
        let mut keeper = Command::new("sh");
        keeper.args(["-c", KEEPER, "keeper"]).arg(program().unwrap());
        keeper.args(["--port", &port, "--bind", "127.0.0.1", "--dir", &folder, "--requirepass", PASSWORD, "--save", ""]);
        keeper.args(["--appendonly", "no", "--enable-debug-command", "yes", "--daemonize", "no"]);
        keeper.args(&self.arguments);
        let mut keeper = keeper.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(keeper.stdout.take().unwrap()).read_line(&mut line).unwrap();
        self.keeper = Some(keeper);
        let started = Instant::now();
        while self.try_ask(&["PING"]).is_none() {
            assert!(started.elapsed() < UP_WITHIN, "the server does not serve");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Kills it with -9.
    pub fn kill(&mut self) {
        let Some(mut keeper) = self.keeper.take() else { return };
        drop(keeper.stdin.take());
        keeper.wait().unwrap();
    }

    /// What a command brings, as Redis writes it.
    pub fn ask(&self, command: &[&str]) -> String {
        self.try_ask(command).unwrap_or_else(|| panic!("{command:?}: no answer"))
    }

    /// A command whose answer is not waited for: it comes through what is returned.
    pub fn begin(&self, command: &[&str]) -> TcpStream {
        self.send(command).expect("the server runs")
    }

    /// Its URL, at its own port or at one that has TLS.
    pub fn url(&self, scheme: &str, port: u16) -> String {
        format!("{scheme}://:{PASSWORD}@127.0.0.1:{port}/0")
    }

    /// Where a zone finds its URL: a file in `data`.
    pub fn config(&self, data: &std::path::Path) -> CacheConfig {
        let url = format!("{}\n", self.url("redis", self.port));
        std::fs::write(data.join("redis.url"), url).unwrap();
        CacheConfig::Redis(RedisConfig { url: SecretSource::File("redis.url".into()), ca: None, connections_max: 4 })
    }

    /// The development zone with this cache.
    pub fn zone(&self, data: &std::path::Path) -> Zone {
        Zone { cache: self.config(data), ..Zone::for_test(service::config::DEV_ZONE).unwrap() }
    }

    fn try_ask(&self, command: &[&str]) -> Option<String> {
        let mut stream = self.send(command)?;
        let mut answer = vec![0; 64 * 1024];
        let read = stream.read(&mut answer).ok().filter(|read| *read > 0)?;
        let text = String::from_utf8_lossy(&answer[..read]).into_owned();
        (!text.starts_with('-')).then_some(text)
    }

    /// Sends a command on a connection of its own; the answer to its AUTH is taken off.
    fn send(&self, command: &[&str]) -> Option<TcpStream> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).ok()?;
        stream.write_all(&encode(&["AUTH", PASSWORD])).ok()?;
        let mut ok = [0; 5];
        stream.read_exact(&mut ok).ok()?;
        stream.write_all(&encode(command)).ok()?;
        Some(stream)
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.kill();
    }
}

fn encode(command: &[&str]) -> Vec<u8> {
    let mut text = format!("*{}\r\n", command.len());
    command.iter().for_each(|word| text.push_str(&format!("${}\r\n{word}\r\n", word.len())));
    text.into_bytes()
}

fn program() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/bin".into(), "/usr/sbin".into(), "/usr/local/bin".into()]);
    folders.map(|folder| folder.join("redis-server")).find(|file| file.is_file())
}
