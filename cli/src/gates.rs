//! The gates that bots and flows connect to, and how.

use std::path::{Path, PathBuf};

use anyhow::Context;
use client::{Address, ConnectOptions, Roots};
use service::{ProcessKind, config::Role};

use crate::{http, target::Target};

/// Where clients connect.
#[derive(clap::Args)]
pub(crate) struct Gates {
    /// A gate: `HOST:PORT`, `tls://HOST:PORT`, `ws://HOST:PORT` or `wss://HOST:PORT`; may be given several times. All gates of the running
    /// zone if absent.
    #[arg(long, value_name = "ADDRESS")]
    against: Vec<Address>,
    /// Trust the certificates in this PEM file, for gates with TLS; those that the machine trusts if absent.
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Connect to the WebSocket ports of the running zone's gates.
    #[arg(long, conflicts_with = "against")]
    websocket: bool,
}

impl Gates {
    /// The addresses; at least one.
    pub(crate) fn addresses(&self, target: &Target) -> anyhow::Result<Vec<Address>> {
        if !self.against.is_empty() {
            return Ok(self.against.clone());
        }
        let zone = target.zone()?;
        let addresses: Vec<Address> = zone
            .of(ProcessKind::Gate)
            .filter_map(|process| match &process.role {
                Role::Gate(gate) if self.websocket => Some((gate.websocket?, if gate.tls_websocket.is_some() { "wss" } else { "ws" })),
                Role::Gate(gate) => Some((gate.clients, if gate.tls.is_some() { "tls" } else { "tcp" })),
                _ => None,
            })
            .map(|(address, scheme)| format!("{scheme}://{}", http::reachable(address)).parse().context("read a gate's address"))
            .collect::<anyhow::Result<_>>()?;
        anyhow::ensure!(!addresses.is_empty(), "find a gate with a WebSocket port in the zone file");
        Ok(addresses)
    }

    /// Whether the gates were named on the command line.
    pub(crate) fn are_named(&self) -> bool {
        !self.against.is_empty()
    }

    /// Whom to trust beside the machine's own.
    pub(crate) fn ca(&self) -> Option<&Path> {
        self.ca.as_deref()
    }

    /// How to connect.
    pub(crate) fn options(&self) -> anyhow::Result<ConnectOptions> {
        let mut options = ConnectOptions { program: concat!("zone/", env!("CARGO_PKG_VERSION")).into(), ..ConnectOptions::default() };
        if let Some(file) = &self.ca {
            options.roots = Roots::from_pem_file(file).with_context(|| format!("read {}", file.display()))?;
        }
        Ok(options)
    }
}
