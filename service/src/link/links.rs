//! All links of a process: start, look up, wait, call, status.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use proto::link::Call;
use tokio::time::Instant;

use super::{
    CallError, Handler, Link, accept,
    complaints::Complaints,
    dial,
    directory::{Directory, PeerTurn},
    handshake::Identity,
};
use crate::{
    config::{ProcessId, ProcessKind},
    members::{Member, Members},
    net,
    process::Process,
    random::Random,
    secret::ZoneSecret,
    tasks::Tasks,
};

/// What links need of a process.
#[derive(Clone, Debug)]
pub struct LinkConfig {
    /// The process' id.
    pub id: ProcessId,
    /// Its kind, which decides whom it dials.
    pub kind: ProcessKind,
    /// Distinguishes this run from every other.
    pub incarnation: u64,
    /// The zone's name; a peer of another zone is refused.
    pub zone: String,
    /// Where links are taken; with port 0 the system chooses ([`Links::local_addr`]).
    pub listen: SocketAddr,
    /// What a peer has to know.
    pub secret: ZoneSecret,
    /// Who there is: whom to dial, and who may dial.
    pub members: Members,
    /// Chance, for the pauses between attempts.
    pub random: Random,
    /// Where the links' tasks run. They end with [`Tasks::ended`], so that whoever drains can still use links.
    pub tasks: Tasks,
}

impl LinkConfig {
    /// What a process' links need.
    pub fn of(process: &Process) -> Self {
        Self {
            id: process.config.id.clone(),
            kind: process.config.kind(),
            incarnation: process.incarnation,
            zone: process.zone.name.clone(),
            listen: process.config.link,
            secret: process.secret.clone(),
            members: process.members.clone(),
            random: process.random.clone(),
            tasks: process.tasks.clone(),
        }
    }
}

/// All links of a process. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Links {
    inner: Arc<LinksInner>,
}

struct LinksInner {
    config: LinkConfig,
    identity: Identity,
    local_addr: SocketAddr,
    directory: Directory,
    complaints: Complaints,
    last_number: AtomicU64,
}

impl std::fmt::Debug for LinksInner {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        to.debug_struct("LinksInner").field("id", &self.config.id).field("local_addr", &self.local_addr).finish_non_exhaustive()
    }
}

impl Links {
    /// Listens at the process' link address, and dials.
    ///
    /// # Errors
    /// When the address can't be taken.
    pub async fn start<H: Handler>(process: &Process, handler: Arc<H>) -> anyhow::Result<Links> {
        Self::start_with(LinkConfig::of(process), handler).await
    }

    /// Listens and dials as `config` says, without a [`Process`]: two of these in one test can be linked over loopback, with port 0.
    ///
    /// # Errors
    /// When the address can't be taken.
    pub async fn start_with<H: Handler>(config: LinkConfig, handler: Arc<H>) -> anyhow::Result<Links> {
        let listener = net::listen(config.listen)?;
        let inner = LinksInner {
            identity: Identity::new(&config),
            local_addr: listener.local_addr()?,
            directory: Directory::new(),
            complaints: Complaints::new(),
            last_number: AtomicU64::new(0),
            config,
        };
        let links = Links { inner: Arc::new(inner) };
        links.tasks().spawn("links in", accept::accept(links.clone(), handler.clone(), listener));
        links.tasks().spawn("links out", dial::dial_members(links.clone(), handler));
        Ok(links)
    }

    /// Where links are taken.
    pub fn local_addr(&self) -> SocketAddr {
        self.inner.local_addr
    }

    /// The link to a process, if it is up.
    pub fn get(&self, id: &ProcessId) -> Option<Link> {
        self.inner.directory.get(id)
    }

    /// The links to processes of a kind that are up, by id.
    pub fn of(&self, kind: ProcessKind) -> Vec<Link> {
        self.inner.directory.of(kind)
    }

    /// The first link to a process of a kind, waiting for one at most `within`. Cancel-safe.
    ///
    /// # Errors
    /// [`CallError::NoLink`].
    pub async fn wait(&self, kind: ProcessKind, within: Duration) -> Result<Link, CallError> {
        let mut changed = self.inner.directory.watch();
        let found = async {
            loop {
                if let Some(link) = self.of(kind).into_iter().next() {
                    return link;
                }
                changed.changed().await.expect("the directory is there as long as this handle");
            }
        };
        tokio::time::timeout(within, found).await.map_err(|_| CallError::NoLink(kind))
    }

    /// Asks the first process of a kind, waiting for a link and the answer at most `within`. It is asked once: what follows an error
    /// is for the caller to decide.
    ///
    /// # Errors
    /// When there is no link or no good answer.
    pub async fn call<C: Call>(&self, kind: ProcessKind, call: &C, within: Duration) -> Result<C::Answer, CallError> {
        let until = Instant::now() + within;
        let link = self.wait(kind, within).await?;
        link.call(call, until.saturating_duration_since(Instant::now())).await
    }

    /// The members that this process dials and is not linked to now. A process is ready only when its own requirements among these are met.
    pub fn missing(&self) -> Vec<ProcessId> {
        let members = self.inner.config.members.now();
        let missing = members.iter().filter(|member| self.dials(member) && self.get(&member.id).is_none());
        missing.map(|member| member.id.clone()).collect()
    }

    /// State of each link that is up, for `/status`.
    pub fn status(&self) -> serde_json::Value {
        self.all().iter().map(|link| (link.peer().id.to_string(), link.status())).collect::<serde_json::Map<_, _>>().into()
    }

    pub(super) fn dials(&self, member: &Member) -> bool {
        self.inner.config.kind.dials().contains(&member.kind)
    }

    pub(super) fn all(&self) -> Vec<Link> {
        self.inner.directory.all()
    }

    pub(super) async fn enter(&self, link: &Link) -> Option<PeerTurn> {
        self.inner.directory.enter(link).await
    }

    pub(super) fn leave(&self, link: &Link) {
        self.inner.directory.leave(link);
    }

    pub(super) fn next_number(&self) -> u64 {
        self.inner.last_number.fetch_add(1, Ordering::Relaxed) + 1
    }

    pub(super) fn config(&self) -> &LinkConfig {
        &self.inner.config
    }

    pub(super) fn identity(&self) -> &Identity {
        &self.inner.identity
    }

    pub(super) fn complaints(&self) -> &Complaints {
        &self.inner.complaints
    }

    pub(super) fn tasks(&self) -> &Tasks {
        &self.inner.config.tasks
    }

    /// Whether the process has drained and its links end.
    pub(super) fn is_ending(&self) -> bool {
        self.tasks().end_token().is_cancelled()
    }
}
