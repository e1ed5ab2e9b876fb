//! The processes of a zone: their names, their kinds, and what only those of one kind have.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};

use super::SecretSource;

/// Names a process in its zone, as the key in the zone file: `gate-1`. Lower-case letters, digits and `-`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ProcessId(pub String);

impl std::fmt::Display for ProcessId {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        to.write_str(&self.0)
    }
}

/// The six kinds of process. A lower kind dials the higher ones that it needs ([`ProcessKind::dials`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ProcessKind {
    /// Client sockets.
    Gate,
    /// Accounts and roles.
    Login,
    /// Presence.
    Center,
    /// The world.
    Scene,
    /// Player data.
    Dc,
    /// Behaviour events.
    Logsvc,
}

impl ProcessKind {
    /// All kinds, in dialling order. A zone starts in the reverse of this order and stops in this order.
    pub const ALL: [ProcessKind; 6] =
        [ProcessKind::Gate, ProcessKind::Login, ProcessKind::Center, ProcessKind::Scene, ProcessKind::Dc, ProcessKind::Logsvc];

    /// The name in the zone file and in commands.
    pub const fn name(self) -> &'static str {
        match self {
            ProcessKind::Gate => "gate",
            ProcessKind::Login => "login",
            ProcessKind::Center => "center",
            ProcessKind::Scene => "scene",
            ProcessKind::Dc => "dc",
            ProcessKind::Logsvc => "logsvc",
        }
    }

    /// Which kinds a process of this kind opens links to. There is one link a pair of processes, used both ways.
    pub const fn dials(self) -> &'static [ProcessKind] {
        match self {
            ProcessKind::Gate => &[ProcessKind::Login, ProcessKind::Center, ProcessKind::Scene, ProcessKind::Logsvc],
            ProcessKind::Login => &[ProcessKind::Center, ProcessKind::Dc, ProcessKind::Logsvc],
            ProcessKind::Center => &[ProcessKind::Scene, ProcessKind::Dc, ProcessKind::Logsvc],
            ProcessKind::Scene => &[ProcessKind::Dc, ProcessKind::Logsvc],
            ProcessKind::Dc => &[ProcessKind::Logsvc],
            ProcessKind::Logsvc => &[],
        }
    }
}

impl std::fmt::Display for ProcessKind {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        to.write_str(self.name())
    }
}

/// One process of the zone.
#[derive(Clone, Debug)]
pub struct ProcessConfig {
    /// Its id.
    pub id: ProcessId,
    /// The entry of the zone file that it is one of the replicas of.
    pub replica_of: Option<String>,
    /// The name or address of its machine or container, as the others reach it; none: they reach it where it listens.
    pub host: Option<String>,
    /// Where it takes links.
    pub link: SocketAddr,
    /// Where it serves `/metrics`, `/healthz`, `/readyz`, `/status`, and center the GM API.
    pub admin: SocketAddr,
    /// What only its kind has.
    pub role: Role,
}

impl ProcessConfig {
    /// The kind of its role.
    pub fn kind(&self) -> ProcessKind {
        match self.role {
            Role::Gate(_) => ProcessKind::Gate,
            Role::Login(_) => ProcessKind::Login,
            Role::Center(_) => ProcessKind::Center,
            Role::Scene(_) => ProcessKind::Scene,
            Role::Dc(_) => ProcessKind::Dc,
            Role::Logsvc(_) => ProcessKind::Logsvc,
        }
    }

    /// Every address at which it listens, by its key in the zone file.
    pub fn addresses(&self) -> Vec<(&'static str, SocketAddr)> {
        let mut addresses = Vec::new();
        if let Role::Gate(gate) = &self.role {
            addresses.push(("clients", gate.clients));
            addresses.extend(gate.websocket.map(|address| ("websocket", address)));
        }
        addresses.extend([("link", self.link), ("admin", self.admin)]);
        addresses
    }
}

/// What only processes of one kind have.
#[derive(Clone, Debug)]
pub enum Role {
    /// See [`GateConfig`].
    Gate(GateConfig),
    /// See [`LoginConfig`].
    Login(LoginConfig),
    /// See [`CenterConfig`].
    Center(CenterConfig),
    /// See [`SceneConfig`].
    Scene(SceneConfig),
    /// See [`DcConfig`].
    Dc(DcConfig),
    /// See [`LogsvcConfig`].
    Logsvc(LogsvcConfig),
}

/// A gate.
#[derive(Clone, Debug)]
pub struct GateConfig {
    /// Where TCP clients connect.
    pub clients: SocketAddr,
    /// Where WebSocket clients connect, if they may.
    pub websocket: Option<SocketAddr>,
    /// TLS of `clients`; none: plain TCP.
    pub tls: Option<TlsConfig>,
    /// TLS of `websocket`; none: plain.
    pub tls_websocket: Option<TlsConfig>,
    /// Sessions at most, lost ones included.
    pub sessions_max: usize,
    /// Connections at most from one address.
    pub connections_per_address_max: usize,
    /// New connections a second, from all addresses together.
    pub accepts_per_s: u32,
    /// How often the gate sends a heartbeat; three silent ones close the connection.
    pub heartbeat: Duration,
    /// Bytes that may wait for one client before Frame bodies are dropped, and at which a reliable queue ends the connection.
    pub client_queue_bytes_max: usize,
}

/// Files in PEM; a relative path starts at the zone file's folder.
#[derive(Clone, Debug)]
pub struct TlsConfig {
    /// Certificate chain.
    pub certificate: PathBuf,
    /// Private key.
    pub key: PathBuf,
}

/// A login.
#[derive(Clone, Debug)]
pub struct LoginConfig {
    /// Password hashes computed at once.
    pub hashers: usize,
    /// Logins that are let through in a second; none: as many as are hashed.
    pub logins_per_s: Option<u32>,
    /// Clients that may wait to be let through; one more is answered BUSY.
    pub queue_max: usize,
    /// How long a client that lost its connection while it waited keeps its place.
    pub queue_grace: Duration,
    /// argon2id memory in KiB, at least 19 MiB but in a development zone.
    pub argon2_memory_kib: u32,
    /// argon2id passes, at least 2 but in a development zone.
    pub argon2_passes: u32,
    /// Failed attempts a minute, for an account as for an address.
    pub failures_per_minute: u32,
}

/// A center.
#[derive(Clone, Debug)]
pub struct CenterConfig {
    /// How long a scene may be away before its players are re-homed to another scene that hosts their map.
    pub rehome_after: Duration,
    /// How long a line that the map need not have may be empty before it is closed.
    pub line_empty: Duration,
}

/// A scene.
#[derive(Clone, Debug)]
pub struct SceneConfig {
    /// Maps of which it may host lines.
    pub maps: Vec<String>,
    /// How often a moving player's position is saved (class D0).
    pub save_period: Duration,
}

/// A dc.
#[derive(Clone, Debug)]
pub struct DcConfig {
    /// What is behind it.
    pub storage: Storage,
    /// How often D0 saves are written to the store.
    pub flush_period: Duration,
    /// Bytes of records that may wait for the store; above it saves are refused.
    pub dirty_bytes_max: usize,
    /// Bytes of clean records kept in memory; accounts and relations that were read have up to a quarter of it.
    pub cache_bytes_max: usize,
    /// Bytes of the journal on the disk. Above 80 % of it saves of class D0 are refused, at all of it every save.
    pub journal_bytes_max: u64,
    /// A segment of the journal is closed at this size.
    pub journal_segment_bytes: u64,
}

/// What dc writes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Storage {
    /// Bundled; one file in the process' data folder.
    Sqlite,
    /// A server of MySQL or MariaDB.
    Mysql(MysqlConfig),
}

/// A server of MySQL or MariaDB, and how dc uses it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MysqlConfig {
    /// Where its URL is: `mysql://USER:PASSWORD@HOST:PORT/DATABASE`. [`crate::secret::text`] reads it.
    pub url: SecretSource,
    /// The certificates in PEM of those who may have signed the server's; none: no TLS, unless the URL asks for it with
    /// `?require_ssl=true` and the certificate of a public authority.
    pub ca: Option<PathBuf>,
    /// Connections at most: one of them writes, the others read.
    pub connections_max: usize,
    /// A statement that takes longer counts as unanswered, and its connection as lost.
    pub statement_timeout: Duration,
}

/// A logsvc.
#[derive(Clone, Debug)]
pub struct LogsvcConfig {
    /// A segment file is closed at this size.
    pub segment_bytes_max: u64,
}
