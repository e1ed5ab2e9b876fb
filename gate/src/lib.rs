//! A gate: holds the sockets of clients, and forwards between them and the zone's other processes.
//!
//! It promises: what a client sends is bounded in size, rate and time before it costs anything, and is refused with a typed reason;
//! reliable messages reach a client once and in order, over any number of lost connections within the resume window; a slow client
//! costs a bounded number of bytes and the others nothing. It does not know what a message means: it routes on the header.
//!
//! Read in this order: `listen` (who comes in), `transport` (TCP, WebSocket, TLS), `connection` (one task a client), `framing` and
//! `limits` (what a client may send), `session` (what is kept of it), `socket` (its connection), `outbox`, `mail` and `wire` (what waits
//! for it, and the short way to it), `gate` (a session's life), `forward` (from clients to backends), `backends`, `groups` and `handler`
//! (from backends to clients), `ticket` and `resume` (coming back), `pulse`, `report`, `metrics`.
#![forbid(unsafe_code)]

mod backends;
mod connection;
mod forward;
mod framing;
mod gate;
mod groups;
mod handler;
mod limits;
mod listen;
mod mail;
mod metrics;
mod outbox;
mod pulse;
mod report;
mod resume;
mod session;
mod socket;
mod ticket;
mod transport;
mod wire;

#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

use anyhow::bail;
use service::{Links, Process, admin, config::Role};

use crate::{gate::Gate, handler::FromBackends, listen::Door, socket::End};

/// For clients to take what waits for them when the gate stops.
const DRAIN_WITHIN: Duration = Duration::from_secs(3);

/// Runs a gate until its process stops: listens, links, serves; then tells its clients to resume elsewhere and waits for them to hear it.
///
/// # Errors
/// When it can't start.
pub async fn run(process: Process) -> anyhow::Result<()> {
    let Role::Gate(config) = &process.config.role else { bail!("{} is no gate", process.id()) };
    let doors = listen::open(config)?;
    let addresses = addresses(&doors)?;
    let gate = Gate::new(process.clone(), config.clone());
    gate.check_ready();
    let links = Links::start(&process, Arc::new(FromBackends(gate.clone()))).await?;
    process.events.send_to(&process, links.clone());
    let asked = gate.clone();
    let detail: admin::Detail = Arc::new(move || report::detail(&asked, &addresses));
    admin::serve(&process, links, detail, axum::Router::new()).await?;
    for door in doors {
        process.tasks.spawn(door.name(), listen::serve(gate.clone(), door));
    }
    process.tasks.stopped().await;
    drain(&gate).await;
    Ok(())
}

/// Backends hear nothing of it: when the links go down, scenes keep the characters for the resume window, and the clients have their
/// tickets.
async fn drain(gate: &Gate) {
    gate.all().iter().for_each(|session| session.hang_up(End::Shutdown));
    gate.connections.close();
    if tokio::time::timeout(DRAIN_WITHIN, gate.connections.wait()).await.is_err() {
        tracing::warn!("{} clients did not take all that waited for them", gate.connections.len());
    }
}

fn addresses(doors: &[Door]) -> anyhow::Result<serde_json::Value> {
    let mut addresses = serde_json::Map::new();
    for door in doors {
        let address = door.address()?;
        tracing::info!("{} at {address}", door.name());
        addresses.insert(door.name().to_owned(), address.to_string().into());
    }
    Ok(addresses.into())
}
