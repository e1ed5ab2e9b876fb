//! The zone file, parsed into meaning before anything is bound.
//!
//! [`Zone::load`] reads YAML, lays `ZONE__A__B` environment variables over it ([`sections`]), and checks it whole ([`check`]), from the
//! structs of [`raw`], which mirror the file, to those with meaning: unknown keys, clashing ports, maps that no scene hosts, sample secrets
//! outside `dev`. A [`Zone`] that exists is good.

mod check;
mod process;
mod raw;
mod resolve;
mod sections;
#[cfg(test)]
mod tests;
mod world;

pub use process::{
    CenterConfig, DcConfig, GateConfig, LoginConfig, LogsvcConfig, MysqlConfig, ProcessConfig, ProcessId, ProcessKind, Role, SceneConfig,
    Storage, TlsConfig,
};
pub use resolve::resolve;
pub use world::{LinesConfig, MapConfig, OverloadConfig, Place, StartArea, World};

use std::{
    collections::{BTreeMap, BTreeSet},
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
    /// Mails that may wait for a player; whoever writes to it then is told that its mailbox is full.
    pub mail_max: usize,
    /// How long a session that lost its connection can be resumed, and its character stays in the world.
    pub resume_window: Duration,
    /// Members of a party at most.
    pub party_max: u32,
    /// Live sessions at which the zone is full, and whoever else logs in has to wait; none: it is full when its lines are.
    pub online_max: Option<usize>,
    /// Accounts that wait for nobody: those of GMs who play.
    pub queue_pass: BTreeSet<String>,
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
        sections::load(file, data, sections::environment())
    }

    /// As [`Zone::load`], of a text. `file` is named in errors.
    ///
    /// # Errors
    /// As [`Zone::load`].
    pub fn parse(text: &str, file: &Path, data: &Path) -> Result<Zone, ConfigError> {
        sections::parse(text, file, data, sections::environment())
    }

    /// As [`Zone::load`], but without the environment's variables: for a file that [`resolve`] wrote.
    ///
    /// # Errors
    /// As [`Zone::load`].
    pub fn load_resolved(file: &Path, data: &Path) -> Result<Zone, ConfigError> {
        sections::load(file, data, std::iter::empty())
    }

    /// As [`Zone::load_resolved`], of a text. `file` is named in errors.
    ///
    /// # Errors
    /// As [`Zone::load`].
    pub fn parse_resolved(text: &str, file: &Path, data: &Path) -> Result<Zone, ConfigError> {
        sections::parse(text, file, data, std::iter::empty())
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
