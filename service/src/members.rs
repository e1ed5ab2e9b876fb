//! Who there is in the zone: a watched list of processes, which may change at any time.
//!
//! Here it is read from the zone file, once. Nothing may assume that it stays as it is: whoever needs it watches it.

use std::{net::SocketAddr, sync::Arc};

use tokio::sync::watch;

use crate::config::{ProcessId, ProcessKind, Zone};

/// One process that should be there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its id.
    pub id: ProcessId,
    /// Its kind.
    pub kind: ProcessKind,
    /// The name or address of its machine or container; none: it is reached where it listens.
    pub host: Option<String>,
    /// Where it takes links.
    pub link: SocketAddr,
}

impl Member {
    /// Where it is linked to, for messages.
    pub fn at(&self) -> String {
        self.host.as_ref().map_or_else(|| self.link.to_string(), |host| format!("{host}:{}", self.link.port()))
    }
}

/// The watched list. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Members(watch::Receiver<Arc<Vec<Member>>>);

/// Replaces the list of the [`Members`] that it was made with.
#[derive(Debug)]
pub struct MembersSource(watch::Sender<Arc<Vec<Member>>>);

impl Members {
    /// A list and the handle that replaces it.
    pub fn new(members: Vec<Member>) -> (MembersSource, Members) {
        let (sender, receiver) = watch::channel(Arc::new(members));
        (MembersSource(sender), Members(receiver))
    }

    /// The members that the zone file names.
    pub fn of_zone(zone: &Zone) -> (MembersSource, Members) {
        let member = |process: &crate::config::ProcessConfig| Member {
            id: process.id.clone(),
            kind: process.kind(),
            host: process.host.clone(),
            link: process.link,
        };
        Self::new(zone.processes.values().map(member).collect())
    }

    /// The list as it is now.
    pub fn now(&self) -> Arc<Vec<Member>> {
        self.0.borrow().clone()
    }

    /// Ends when the list has changed since the last call, or never if its source is gone. Cancel-safe.
    pub async fn changed(&mut self) {
        if self.0.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

impl MembersSource {
    /// Replaces the list.
    pub fn set(&self, members: Vec<Member>) {
        self.0.send_replace(Arc::new(members));
    }
}
