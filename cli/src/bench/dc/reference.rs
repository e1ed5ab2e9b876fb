//! What dc is measured beside: a bare loop of the same system calls, and Redis with the same durability.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};

use crate::bench::installed::{free_address, program};

/// How long Redis may take to start.
const REDIS_WITHIN: Duration = Duration::from_secs(10);
/// The loop's file begins anew at this length.
const FILE_BYTES_MAX: u64 = 1 << 30;

/// Appends groups of so many records of so many bytes, and syncs each, for so long; returns records a second.
pub(super) fn append_and_sync(folder: &Path, record_bytes: usize, records: usize, within: Duration) -> anyhow::Result<f64> {
    let path = folder.join("reference");
    let group = vec![0x5a; record_bytes * records.max(1)];
    let mut file = service::fs::append(&path)?;
    let (begun, mut groups, mut length) = (Instant::now(), 0u64, 0);
    while begun.elapsed() < within {
        file.write_all(&group).context("append")?;
        file.sync_data().context("sync")?;
        groups += 1;
        length += group.len() as u64;
        if FILE_BYTES_MAX < length {
            file.set_len(0).context("begin the file anew")?;
            length = 0;
        }
    }
    let per_s = (groups * records.max(1) as u64) as f64 / begun.elapsed().as_secs_f64();
    service::fs::remove(&path)?;
    Ok(per_s)
}

/// A Redis of our own that syncs before it answers. It is killed when dropped.
pub(super) struct Redis {
    server: Child,
    port: u16,
}

impl Redis {
    /// Starts one with its data in `folder`; none if it is not installed.
    pub(super) fn start(folder: &Path) -> anyhow::Result<Option<Self>> {
        let Some(program) = program("redis-server") else { return Ok(None) };
        service::fs::make_folder(folder)?;
        let port = free_address()?.port();
        let mut command = Command::new(program);
        command.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "yes", "--appendfsync", "always"]);
        command.arg("--dir").arg(folder).stdin(Stdio::null()).stdout(Stdio::null());
        let mut redis = Self { server: command.spawn().context("start redis-server")?, port };
        let begun = Instant::now();
        while redis.connect().is_err() {
            ensure!(redis.server.try_wait()?.is_none(), "start redis-server: it ended");
            ensure!(begun.elapsed() < REDIS_WITHIN, "start redis-server: it does not answer");
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(Some(redis))
    }

    /// SETs values of so many bytes from so many connections, each with so many under way, for so long; returns how many were answered a second.
    pub(super) fn set(&self, bytes: usize, connections: usize, under_way: usize, within: Duration) -> anyhow::Result<f64> {
        let begun = Instant::now();
        let drivers: Vec<_> = (0..connections)
            .map(|connection| {
                let stream = self.connect()?;
                Ok(std::thread::spawn(move || drive(stream, connection, bytes, under_way, begun + within)))
            })
            .collect::<anyhow::Result<_>>()?;
        let mut answered = 0;
        for driver in drivers {
            answered += driver.join().map_err(|_| anyhow::anyhow!("a driver of Redis panicked"))??;
        }
        Ok(answered as f64 / begun.elapsed().as_secs_f64())
    }

    fn connect(&self) -> anyhow::Result<TcpStream> {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).context("connect to Redis")?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        _ = self.server.kill();
        _ = self.server.wait();
    }
}

/// Sends the next half of what is under way when the half before it is answered, so that Redis always has work.
fn drive(mut stream: TcpStream, connection: usize, bytes: usize, under_way: usize, until: Instant) -> anyhow::Result<u64> {
    const ANSWER: &[u8] = b"+OK\r\n";
    let half = (under_way / 2).max(1);
    let value = "x".repeat(bytes);
    let set = |number: usize| {
        let key = format!("player:{connection}:{number}");
        format!("*3\r\n$3\r\nSET\r\n${}\r\n{key}\r\n${bytes}\r\n{value}\r\n", key.len())
    };
    let halves = [0, half].map(|from| (from..from + half).map(set).collect::<String>());
    let mut answers = vec![0; half * ANSWER.len()];
    let mut answered = 0;
    stream.write_all(halves[0].as_bytes()).context("write to Redis")?;
    for turn in 1.. {
        if until < Instant::now() {
            break;
        }
        stream.write_all(halves[turn % 2].as_bytes()).context("write to Redis")?;
        stream.read_exact(&mut answers).context("read from Redis")?;
        ensure!(answers.starts_with(ANSWER), "Redis answers {}", String::from_utf8_lossy(&answers));
        answered += half as u64;
    }
    Ok(answered)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bare_loop_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        assert!(0.0 < append_and_sync(folder.path(), 100, 10, Duration::from_millis(1)).unwrap());
        assert!(service::fs::names(folder.path()).unwrap().is_empty());
    }
}
