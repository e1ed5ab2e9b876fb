//! What a zone file may say, as it is written, with what holds where it says nothing.

use std::{collections::BTreeMap, path::PathBuf};

use serde::Deserialize;
use serde_json::Value;

use super::Environment;

/// Accounts and players.
#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawPlayers {
    pub(super) registration: Registration,
    pub(super) roles_max: u32,
    pub(super) relations_max: u32,
    pub(super) mail_max: usize,
    pub(super) resume_window_s: f64,
    pub(super) online_max: Option<usize>,
    pub(super) queue_pass: Vec<String>,
    pub(super) party_max: u32,
}

impl Default for RawPlayers {
    fn default() -> Self {
        Self {
            registration: Registration::Closed,
            roles_max: 4,
            relations_max: 200,
            mail_max: 100,
            resume_window_s: 60.0,
            online_max: None,
            queue_pass: Vec::new(),
            party_max: 5,
        }
    }
}

#[derive(Deserialize, PartialEq)]
#[serde(rename_all = "lowercase")]
pub(super) enum Registration {
    Open,
    Closed,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum RawCache {
    None,
    Redis,
}

/// Where the URL is, which has a password in it, is said by one of the first two.
#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawRedis {
    pub(super) url_env: Option<String>,
    pub(super) url_file: Option<PathBuf>,
    pub(super) ca: Option<PathBuf>,
    pub(super) connections_max: usize,
}

impl Default for RawRedis {
    fn default() -> Self {
        Self { url_env: None, url_file: None, ca: None, connections_max: 8 }
    }
}

/// What holds for every map.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawWorld {
    #[serde(default = "RawWorld::tick_hz")]
    pub(super) tick_hz: u32,
    #[serde(default = "RawWorld::cell_m")]
    pub(super) cell_m: f64,
    #[serde(default = "RawWorld::speed_max_m_s")]
    pub(super) speed_max_m_s: f64,
    #[serde(default = "RawWorld::client_bytes_max_s")]
    pub(super) client_bytes_max_s: u32,
    #[serde(default)]
    pub(super) overload: RawOverload,
    pub(super) start: RawPlace,
    #[serde(default)]
    pub(super) starts: Vec<RawStartArea>,
    pub(super) maps: BTreeMap<String, RawMap>,
}

impl RawWorld {
    fn tick_hz() -> u32 {
        10
    }

    fn cell_m() -> f64 {
        25.0
    }

    fn speed_max_m_s() -> f64 {
        8.0
    }

    fn client_bytes_max_s() -> u32 {
        30_000
    }
}

/// When a line leaves things out.
#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawOverload {
    pub(super) high: f64,
    pub(super) low: f64,
    pub(super) window_s: f64,
    pub(super) calm_s: f64,
    pub(super) time_floor: f64,
}

impl Default for RawOverload {
    fn default() -> Self {
        Self { high: 0.8, low: 0.5, window_s: 1.0, calm_s: 5.0, time_floor: 0.1 }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawPlace {
    pub(super) map: String,
    pub(super) x_m: f64,
    pub(super) y_m: f64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawStartArea {
    pub(super) map: String,
    pub(super) x_m: f64,
    pub(super) y_m: f64,
    pub(super) within_m: f64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawMap {
    pub(super) width_m: f64,
    pub(super) height_m: f64,
    #[serde(default = "RawMap::players_max")]
    pub(super) players_max: u32,
    #[serde(default)]
    pub(super) lines: RawLines,
    #[serde(default)]
    pub(super) rules: Value,
}

impl RawMap {
    fn players_max() -> u32 {
        2000
    }
}

/// How many lines a map has. Above the soft cap newcomers go elsewhere; it depends on `players_max` when it is not given.
#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawLines {
    pub(super) soft_cap: Option<u32>,
    pub(super) min: u32,
    pub(super) max: u32,
}

impl Default for RawLines {
    fn default() -> Self {
        Self { soft_cap: None, min: 1, max: 8 }
    }
}

/// A gate's own keys. The number of connections from one address depends on the environment when it is not given.
#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawGate {
    pub(super) clients: Option<String>,
    pub(super) websocket: Option<String>,
    pub(super) tls: Option<RawTls>,
    pub(super) tls_websocket: Option<RawTls>,
    pub(super) sessions_max: usize,
    pub(super) connections_per_address_max: Option<usize>,
    pub(super) accepts_per_s: u32,
    pub(super) heartbeat_s: f64,
    pub(super) client_queue_bytes_max: usize,
}

impl Default for RawGate {
    fn default() -> Self {
        Self {
            clients: None,
            websocket: None,
            tls: None,
            tls_websocket: None,
            sessions_max: 18_000,
            connections_per_address_max: None,
            accepts_per_s: 2000,
            heartbeat_s: 5.0,
            client_queue_bytes_max: 256 * 1024,
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawTls {
    pub(super) certificate: PathBuf,
    pub(super) key: PathBuf,
}

/// A login's own keys. There are as many hashers as cores when their number is not given.
#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawLogin {
    pub(super) hashers: Option<usize>,
    pub(super) logins_per_s: Option<u32>,
    pub(super) queue_max: usize,
    pub(super) queue_grace_s: f64,
    pub(super) argon2_memory_kib: u32,
    pub(super) argon2_passes: u32,
    pub(super) failures_per_minute: u32,
}

impl Default for RawLogin {
    fn default() -> Self {
        let (argon2_memory_kib, argon2_passes) = (super::ARGON2_MEMORY_KIB_MIN, super::ARGON2_PASSES_MIN);
        Self {
            hashers: None,
            logins_per_s: None,
            queue_max: 20_000,
            queue_grace_s: 60.0,
            argon2_memory_kib,
            argon2_passes,
            failures_per_minute: 10,
        }
    }
}

#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawCenter {
    pub(super) rehome_after_s: f64,
    pub(super) line_empty_s: f64,
}

impl Default for RawCenter {
    fn default() -> Self {
        Self { rehome_after_s: 3.0, line_empty_s: 60.0 }
    }
}

#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawScene {
    pub(super) maps: Vec<String>,
    pub(super) save_period_s: f64,
}

impl Default for RawScene {
    fn default() -> Self {
        Self { maps: Vec::new(), save_period_s: 1.0 }
    }
}

#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawDc {
    pub(super) storage: RawStorage,
    pub(super) mysql: Option<RawMysql>,
    pub(super) flush_period_s: f64,
    pub(super) dirty_bytes_max: usize,
    pub(super) cache_bytes_max: usize,
    pub(super) journal_bytes_max: u64,
    pub(super) journal_segment_bytes: u64,
}

impl Default for RawDc {
    fn default() -> Self {
        let mib = 1024 * 1024;
        Self {
            storage: RawStorage::Sqlite,
            mysql: None,
            flush_period_s: 1.0,
            dirty_bytes_max: 256 * mib,
            cache_bytes_max: 256 * mib,
            journal_bytes_max: 8 << 30,
            journal_segment_bytes: 64 << 20,
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum RawStorage {
    Sqlite,
    Mysql,
}

/// Where the URL is, which has a password in it, is said by one of the first two.
#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawMysql {
    pub(super) url_env: Option<String>,
    pub(super) url_file: Option<PathBuf>,
    pub(super) ca: Option<PathBuf>,
    pub(super) connections_max: usize,
    pub(super) statement_timeout_s: f64,
}

impl Default for RawMysql {
    fn default() -> Self {
        Self { url_env: None, url_file: None, ca: None, connections_max: 8, statement_timeout_s: 5.0 }
    }
}

#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawLogsvc {
    pub(super) segment_bytes_max: u64,
}

impl Default for RawLogsvc {
    fn default() -> Self {
        Self { segment_bytes_max: 64 * 1024 * 1024 }
    }
}

impl Environment {
    /// How many connections one address may have when the file does not say: a developer's bots come from one address.
    pub(super) const fn connections_per_address_max(self) -> usize {
        match self {
            Environment::Dev => 20_000,
            Environment::Live => 200,
        }
    }

    /// The least memory in KiB and the fewest passes of argon2id: what a load test of a development zone sets is no protection.
    pub(super) const fn argon2_min(self) -> (u32, u32) {
        match self {
            Environment::Dev => (8, 1),
            Environment::Live => (super::ARGON2_MEMORY_KIB_MIN, super::ARGON2_PASSES_MIN),
        }
    }
}
