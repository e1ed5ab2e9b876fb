//! The dialling side: one task a member that this kind dials, and one that watches the list of members.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{
    Handler, Links,
    connection::{self, End},
    handshake::{self, HandshakeError, Proven},
};
use crate::{
    config::ProcessId,
    members::Member,
    net::{self, TcpStream},
};

/// How long a member may take to accept the connection.
const CONNECT_WITHIN: Duration = Duration::from_secs(3);
/// The first pause, and the longest. Each is a quarter longer than the one before, so that whoever comes up is found within a quarter
/// of the time that it took.
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// Keeps a dialling task for each member that this kind dials, and closes links to those that are no members any more.
pub(super) async fn dial_members<H: Handler>(links: Links, handler: Arc<H>) {
    let end = links.tasks().end_token();
    let mut members = links.config().members.clone();
    let mut dialled: BTreeMap<ProcessId, (Member, DropGuard)> = BTreeMap::new();
    loop {
        let now = members.now();
        // A member whose address changed is another one to the dialling task: dropping its guard stops it.
        dialled.retain(|_, (member, _)| now.contains(member));
        for member in now.iter().filter(|member| links.dials(member) && !dialled.contains_key(&member.id)).cloned().collect::<Vec<_>>() {
            let stop = end.child_token();
            links.tasks().spawn("link", dial(links.clone(), handler.clone(), member.clone(), stop.clone()));
            dialled.insert(member.id.clone(), (member, stop.drop_guard()));
        }
        for link in links.all().into_iter().filter(|link| !now.iter().any(|member| member.id == link.peer().id)) {
            link.shared.close(End::NoMember);
        }
        tokio::select! {
            () = members.changed() => (),
            () = end.cancelled() => return,
        }
    }
}

/// Links to one member, again and again, until `stop`.
async fn dial<H: Handler>(links: Links, handler: Arc<H>, member: Member, stop: CancellationToken) {
    let mut pause = PAUSE_MIN;
    loop {
        let connected = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            connected = connect(&links, &member) => connected,
        };
        match connected {
            Ok((socket, proven)) => {
                links.complaints().settle(&member.id.0);
                let since = Instant::now();
                connection::run(&links, &*handler, socket, proven, &stop).await;
                if PAUSE_MAX <= since.elapsed() {
                    pause = PAUSE_MIN;
                }
            }
            Err(err) => complain(&links, &member, &err),
        }
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = tokio::time::sleep(links.config().random.jitter(pause)) => (),
        }
        pause = (pause * 5 / 4).min(PAUSE_MAX);
    }
}

async fn connect(links: &Links, member: &Member) -> Result<(TcpStream, Proven), HandshakeError> {
    let mut socket = net::reach(member.host.as_deref(), member.link, CONNECT_WITHIN).await?;
    let proven = handshake::dial(&mut socket, links.identity(), member).await?;
    Ok((socket, proven))
}

/// Says why there is no link, once a change.
fn complain(links: &Links, member: &Member, err: &HandshakeError) {
    let reason = err.to_string();
    if !links.complaints().is_news(&member.id.0, &reason) {
        return;
    }
    match err {
        HandshakeError::RefusedByPeer(_) => tracing::warn!("{} refused the link: {reason}", member.id),
        HandshakeError::Refused { .. } => tracing::warn!("refused the link to {}: {reason}", member.id),
        _ => tracing::info!("no link to {} yet: {reason}", member.id),
    }
}
