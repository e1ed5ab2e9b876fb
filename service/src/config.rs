//! The zone file, parsed into meaning before anything is bound.
//!
//! [`Zone::load`] reads YAML into the raw structs of [`raw`], lays `ZONE__A__B` environment variables over it, and checks it whole:
//! unknown keys, clashing ports, maps that no scene hosts, sample secrets outside `dev`. A [`Zone`] that exists is good.

mod check;
mod raw;
mod resolve;
#[cfg(test)]
mod tests;

pub use resolve::resolve;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::{Deserialize, Serialize};

/// The development zone that `zone up` brings up when it is given no zone file: `deploy/zone.yaml`.
pub const DEV_ZONE: &str = include_str!("../../deploy/zone.yaml");

/// The least memory of argon2id, and its default: 19 MiB.
pub const ARGON2_MEMORY_KIB_MIN: u32 = 19 * 1024;
/// The fewest passes of argon2id, and their default.
pub const ARGON2_PASSES_MIN: u32 = 2;

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

/// What the zone is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Environment {
    /// A developer's or a test's: sample secrets are allowed, a missing secret file is made.
    Dev,
    /// Serves players.
    Live,
}

/// Where the zone secret comes from; never the zone file itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretSource {
    /// An environment variable of this name.
    Env(String),
    /// A file; a relative path starts at the data folder.
    File(PathBuf),
}

/// A zone file that has passed every check.
#[derive(Clone, Debug)]
pub struct Zone {
    /// The zone's name, in tickets, links and events.
    pub name: String,
    /// What the zone is for.
    pub environment: Environment,
    /// Where the zone secret comes from.
    pub secret: SecretSource,
    /// What processes share to read from, beside dc.
    pub cache: CacheConfig,
    /// What holds for accounts and players.
    pub players: Players,
    /// What holds for every map.
    pub world: World,
    /// All processes, by id.
    pub processes: BTreeMap<ProcessId, ProcessConfig>,
}

/// The cache that login and center read before they ask dc.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CacheConfig {
    /// None: dc answers everything.
    None,
    /// A server of Redis.
    Redis(RedisConfig),
}

/// A server of Redis.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedisConfig {
    /// Where its URL is: `redis://:PASSWORD@HOST:PORT/0`, or `rediss://` for TLS. [`crate::secret::text`] reads it.
    pub url: SecretSource,
    /// Of TLS: the certificates in PEM of those who may have signed the server's; none: those that the system trusts.
    pub ca: Option<PathBuf>,
    /// Connections of one process at most.
    pub connections_max: usize,
}

/// What holds for accounts and players.
#[derive(Clone, Debug)]
pub struct Players {
    /// Whether clients may register accounts.
    pub registration_open: bool,
    /// Roles an account may have.
    pub roles_max: u32,
    /// Friends and blocks a player may have.
    pub relations_max: u32,
    /// How long a session that lost its connection can be resumed, and its character stays in the world.
    pub resume_window: Duration,
    /// Members of a party at most.
    pub party_max: u32,
    /// Live sessions at which the zone is full, and whoever else logs in has to wait; none: it is full when its lines are.
    pub online_max: Option<usize>,
    /// Accounts that wait for nobody: those of GMs who play.
    pub queue_pass: BTreeSet<String>,
}

/// What holds for every map.
#[derive(Clone, Debug)]
pub struct World {
    /// Ticks a second, 1 to 60.
    pub tick_hz: u32,
    /// Side of an AOI cell, in centimetres.
    pub cell_cm: i32,
    /// The fastest that a player may walk, in centimetres a second.
    pub speed_max_cm_s: i32,
    /// Bytes a second that a client is told of what is around it, at most.
    pub client_bytes_max_s: u32,
    /// When a line leaves things out because its ticks take too long.
    pub overload: OverloadConfig,
    /// Where a new role stands, and who has no other place.
    pub start: Place,
    /// Where new roles stand, each in one of these by chance; none: at the start.
    pub starts: Vec<StartArea>,
    /// The maps, by name.
    pub maps: BTreeMap<String, MapConfig>,
}

/// When a line leaves things out because its ticks take too long, and when no longer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct OverloadConfig {
    /// The share of their time that the ticks of a window may take.
    pub high: f64,
    /// Below this share it is calm.
    pub low: f64,
    /// For how long the ticks are watched before a step up.
    pub window: Duration,
    /// For how long it has to be calm before a step down.
    pub calm: Duration,
    /// The slowest that a line's time may become, as a share of the clock's.
    pub time_floor: f64,
}

impl World {
    /// How long a tick takes.
    pub fn tick(&self) -> Duration {
        Duration::from_secs(1) / self.tick_hz.max(1)
    }
}

/// A place on a map, in centimetres.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The map's name.
    pub map: String,
    /// East of the corner.
    pub x: i32,
    /// South of the corner.
    pub y: i32,
}

/// A square in which new roles stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StartArea {
    /// Its middle.
    pub middle: Place,
    /// How far it reaches from there, in centimetres, east and south as well as west and north. All of it is on the map.
    pub within_cm: i32,
}

/// One map.
#[derive(Clone, Debug)]
pub struct MapConfig {
    /// Width in centimetres.
    pub width_cm: i32,
    /// Height in centimetres.
    pub height_cm: i32,
    /// Players that a line of it takes.
    pub players_max: u32,
    /// How many lines it has.
    pub lines: LinesConfig,
    /// What the game's rules read; nothing else does.
    pub rules: serde_json::Value,
}

/// How many lines a map has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinesConfig {
    /// Players at which a line counts as full for newcomers, and at which in all its lines the map gets another one.
    pub soft_cap: u32,
    /// Lines that stay open when they are empty.
    pub min: u32,
    /// Lines at most.
    pub max: u32,
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
}

impl ProcessConfig {
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

/// Why a zone file is refused: each of `problems` names the key and the reason.
#[derive(Debug, thiserror::Error)]
#[error("{}: {}", file.display(), problems.join("; "))]
pub struct ConfigError {
    /// The zone file.
    pub file: PathBuf,
    /// `processes.gate-1.link: ...`, one a problem.
    pub problems: Vec<String>,
}

impl Zone {
    /// Reads and checks a zone file. `data` is where a relative secret file starts.
    ///
    /// # Errors
    /// When the file can't be read, is no YAML, has unknown keys or fails a check; all problems at once where possible.
    pub fn load(file: &Path, data: &Path) -> Result<Zone, ConfigError> {
        raw::load(file, data, raw::environment())
    }

    /// As [`Zone::load`], of a text. `file` is named in errors.
    ///
    /// # Errors
    /// As [`Zone::load`].
    pub fn parse(text: &str, file: &Path, data: &Path) -> Result<Zone, ConfigError> {
        raw::parse(text, file, data, raw::environment())
    }

    /// As [`Zone::load`], but without the environment's variables: for a file that [`resolve`] wrote.
    ///
    /// # Errors
    /// As [`Zone::load`].
    pub fn load_resolved(file: &Path, data: &Path) -> Result<Zone, ConfigError> {
        raw::load(file, data, std::iter::empty())
    }

    /// As [`Zone::load_resolved`], of a text. `file` is named in errors.
    ///
    /// # Errors
    /// As [`Zone::load`].
    pub fn parse_resolved(text: &str, file: &Path, data: &Path) -> Result<Zone, ConfigError> {
        raw::parse(text, file, data, std::iter::empty())
    }

    /// The zone of this text, for tests: free ports everywhere, no environment variables. [`DEV_ZONE`] is a good text.
    ///
    /// # Errors
    /// As [`Zone::load`].
    pub fn for_test(text: &str) -> Result<Zone, ConfigError> {
        let file = Path::new("test.yaml");
        Zone::parse_resolved(&resolve(text, file, true)?, file, Path::new("."))
    }

    /// The processes of a kind, by id.
    pub fn of(&self, kind: ProcessKind) -> impl Iterator<Item = &ProcessConfig> {
        self.processes.values().filter(move |process| process.kind() == kind)
    }

    /// What may run under a name: the process with this id, or all replicas of the entry of this name, from the first on.
    pub fn named(&self, name: &str) -> Vec<&ProcessConfig> {
        if let Some(process) = self.processes.get(&ProcessId(name.into())) {
            return vec![process];
        }
        let mut replicas: Vec<_> = self.processes.values().filter(|process| process.replica_of.as_deref() == Some(name)).collect();
        // Of one length the ids are in order: gate-2 is before gate-10.
        replicas.sort_by_key(|process| (process.id.0.len(), &process.id));
        replicas
    }

    /// The scenes that may host lines of a map, by id.
    pub fn hosts(&self, map: &str) -> Vec<&ProcessConfig> {
        let hosts = |process: &&ProcessConfig| matches!(&process.role, Role::Scene(scene) if scene.maps.iter().any(|hosted| hosted == map));
        self.processes.values().filter(hosts).collect()
    }
}
