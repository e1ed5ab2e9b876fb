//! The accepting side: takes connections, bounds those that have not proved themselves, and runs the rest.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use metrics::counter;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{
    Handler, Links, connection,
    handshake::{self, HandshakeError},
};
use crate::net::{TcpListener, TcpStream};

/// Connections in their handshake at once. Full? The next one is closed at once; a member dials again.
const HALF_OPEN_MAX: usize = 64;
/// How long to wait when the system has no connection to give (no descriptors left).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Takes connections until the process ends.
pub(super) async fn accept<H: Handler>(links: Links, handler: Arc<H>, listener: TcpListener) {
    let end = links.tasks().end_token();
    let half_open = Arc::new(Semaphore::new(HALF_OPEN_MAX));
    loop {
        let accepted = tokio::select! {
            biased;
            () = end.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((socket, address)) => match half_open.clone().try_acquire_owned() {
                Ok(permit) => {
                    links.tasks().spawn("link", welcome(links.clone(), handler.clone(), socket, address, permit));
                }
                Err(_) => complain(&links, address, &HandshakeError::Stranger(format!("{HALF_OPEN_MAX} others are in their handshake"))),
            },
            Err(err) => {
                if links.complaints().is_news("accept", &err.to_string()) {
                    tracing::warn!("failed to accept a link: {err}");
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn welcome<H: Handler>(links: Links, handler: Arc<H>, mut socket: TcpStream, address: SocketAddr, permit: OwnedSemaphorePermit) {
    let end = links.tasks().end_token();
    let members = links.config().members.now();
    let proven = tokio::select! {
        biased;
        () = end.cancelled() => return,
        proven = prove(&links, &mut socket, &members) => proven,
    };
    drop(permit);
    match proven {
        Ok(proven) => {
            links.complaints().settle(&proven.peer.id.0);
            connection::run(&links, &*handler, socket, proven, &end).await;
        }
        Err(err) => complain(&links, address, &err),
    }
}

async fn prove(links: &Links, socket: &mut TcpStream, members: &[crate::members::Member]) -> Result<handshake::Proven, HandshakeError> {
    socket.set_nodelay(true)?;
    handshake::accept(socket, links.identity(), members).await
}

/// Says why there is no link, once a change.
fn complain(links: &Links, address: SocketAddr, err: &HandshakeError) {
    counter!("paifang_link_refused_total").increment(1);
    let (from, reason) = (address.ip().to_string(), err.to_string());
    let whom = match err {
        HandshakeError::Refused { claimed, .. } => claimed,
        _ => &from,
    };
    if !links.complaints().is_news(whom, &reason) {
        return;
    }
    match err {
        HandshakeError::Refused { .. } => tracing::warn!("refused a link from {address}: {reason}"),
        HandshakeError::RefusedByPeer(_) => tracing::warn!("the process at {address} refused the link: {reason}"),
        _ => tracing::info!("a connection from {address} became no link: {reason}"),
    }
}
