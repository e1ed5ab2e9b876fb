//! Programs of others that benchmarks start: where they are, and where they may listen.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
};

use anyhow::Context;

/// A program, if it is installed. Servers lie in sbin, which a user's PATH need not hold.
pub(crate) fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var("PATH").unwrap_or_default();
    path.split(':').chain(["/usr/sbin", "/usr/local/sbin"]).map(|folder| Path::new(folder).join(name)).find(|file| file.is_file())
}

/// An address of this machine at which nobody listens now.
pub(crate) fn free_address() -> anyhow::Result<SocketAddr> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| listener.local_addr()).context("find a free port")
}
