//! The checks of the section `processes`, each process by itself.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use serde_json::{Map, Value};

use super::{Around, NAME_MAX, is_name, seconds, url, within};
use crate::config::{
    CenterConfig, DcConfig, GateConfig, LoginConfig, LogsvcConfig, MysqlConfig, ProcessConfig, ProcessId, ProcessKind, Role, SceneConfig,
    Storage, TlsConfig,
    raw::{RawCenter, RawDc, RawGate, RawLogin, RawLogsvc, RawMysql, RawScene, RawStorage, RawTls},
    sections::{Problems, Sections},
};

/// Characters of a host name at most, as in the DNS.
const HOST_MAX: usize = 253;
/// Processes that one entry stands for at most. Every process of the zone is ready for so many.
const REPLICAS_MAX: u32 = 64;
/// A count in the file as a `usize` of memory or connections.
const BYTES_MAX: usize = 1 << 40;

pub(super) fn processes(sections: &mut Sections, around: &Around) -> Option<BTreeMap<ProcessId, ProcessConfig>> {
    let raw: BTreeMap<String, Map<String, Value>> = sections.need("processes", "name them, for example `gate-1: { kind: gate, ... }`")?;
    let problems = &mut sections.problems;
    let mut processes = BTreeMap::new();
    for (name, mut keys) in raw {
        let at = format!("processes.{name}");
        let replicas = keys.remove("replicas").and_then(|value| problems.read::<u32>(&format!("{at}.replicas"), value));
        let Some(process) = process(problems, &name, keys, around) else { continue };
        let several = match replicas {
            Some(count) => replicated(problems, &at, &process, count),
            None => vec![process],
        };
        for process in several {
            let id = process.id.clone();
            if processes.insert(id.clone(), process).is_some() {
                problems.add(&at, format!("there are two `{id}`: a replica of one entry has the name of another; rename one"));
            }
        }
    }
    Some(processes)
}

/// The processes that one entry stands for: `gate` with 2 replicas is gate-1 and gate-2, alike in all else.
fn replicated(problems: &mut Problems, at: &str, entry: &ProcessConfig, count: u32) -> Vec<ProcessConfig> {
    let key = format!("{at}.replicas");
    within(problems, &key, count, 1, REPLICAS_MAX);
    if entry.kind() != ProcessKind::Gate {
        problems.add(&key, format!("a {} has none, only gates: others dial it by its id; give each an entry of its own", entry.kind()));
    }
    if entry.host.is_none() {
        problems.add(&key, "they listen at the same ports, each in a container of its own: give the name of these containers as `host`");
    }
    let replica = |number: u32| {
        let id = ProcessId(format!("{}-{number}", entry.id));
        ProcessConfig { id, replica_of: Some(entry.id.0.clone()), ..entry.clone() }
    };
    (1..=count.min(REPLICAS_MAX)).map(replica).collect()
}

/// One process: the keys that all have, then those of its kind.
fn process(problems: &mut Problems, id: &str, mut keys: Map<String, Value>, around: &Around) -> Option<ProcessConfig> {
    let at = format!("processes.{id}");
    if !is_name(id) {
        problems.add(&at, format!("`{id}` is no process id: use 1 to {NAME_MAX} of a-z, 0-9 and `-`"));
    }
    let mut need = |key: &str| {
        let value = keys.remove(key);
        if value.is_none() {
            problems.add(&format!("{at}.{key}"), "is missing");
        }
        value
    };
    let (kind, link, admin) = (need("kind"), need("link"), need("admin"));
    let host = keys.remove("host").and_then(|value| host(problems, &format!("{at}.host"), &value));
    let link = link.and_then(|value| address_value(problems, &format!("{at}.link"), &value));
    let admin = admin.and_then(|value| address_value(problems, &format!("{at}.admin"), &value));
    let kind: ProcessKind = problems.read(&format!("{at}.kind"), kind?)?;
    let role = role(problems, &at, kind, Value::Object(keys), around)?;
    Some(ProcessConfig { id: ProcessId(id.into()), replica_of: None, host, link: link?, admin: admin?, role })
}

fn role(problems: &mut Problems, at: &str, kind: ProcessKind, keys: Value, around: &Around) -> Option<Role> {
    Some(match kind {
        ProcessKind::Gate => Role::Gate(gate(problems, at, keys, around)?),
        ProcessKind::Login => Role::Login(login(problems, at, keys, around)?),
        ProcessKind::Center => {
            let raw: RawCenter = problems.read(at, keys)?;
            Role::Center(CenterConfig {
                rehome_after: seconds(problems, &format!("{at}.rehome_after_s"), raw.rehome_after_s, 0.0, 600.0),
                line_empty: seconds(problems, &format!("{at}.line_empty_s"), raw.line_empty_s, 0.0, 86_400.0),
            })
        }
        ProcessKind::Scene => {
            let raw: RawScene = problems.read(at, keys)?;
            let save_period = seconds(problems, &format!("{at}.save_period_s"), raw.save_period_s, 0.05, 60.0);
            Role::Scene(SceneConfig { maps: raw.maps, save_period })
        }
        ProcessKind::Dc => Role::Dc(dc(problems, at, keys, around)?),
        ProcessKind::Logsvc => {
            let raw: RawLogsvc = problems.read(at, keys)?;
            within(problems, &format!("{at}.segment_bytes_max"), raw.segment_bytes_max, 64 * 1024, 1 << 40);
            Role::Logsvc(LogsvcConfig { segment_bytes_max: raw.segment_bytes_max })
        }
    })
}

fn gate(problems: &mut Problems, at: &str, keys: Value, around: &Around) -> Option<GateConfig> {
    let raw: RawGate = problems.read(at, keys)?;
    let key = |name: &str| format!("{at}.{name}");
    let per_address = raw.connections_per_address_max.unwrap_or_else(|| around.environment.connections_per_address_max());
    within(problems, &key("sessions_max"), raw.sessions_max, 1, 1_000_000);
    within(problems, &key("connections_per_address_max"), per_address, 1, 1_000_000);
    within(problems, &key("accepts_per_s"), raw.accepts_per_s, 1, 1_000_000);
    // Less than the longest frame would close clients that are well.
    let frame = proto::frame::HEAD_BYTES + proto::kinds::TO_CLIENT_BODY_MAX;
    within(problems, &key("client_queue_bytes_max"), raw.client_queue_bytes_max, frame, BYTES_MAX);
    let heartbeat = seconds(problems, &key("heartbeat_s"), raw.heartbeat_s, 0.05, 300.0);
    if raw.clients.is_none() {
        problems.add(&key("clients"), "is missing: say where TCP clients connect");
    }
    if raw.tls_websocket.is_some() && raw.websocket.is_none() {
        problems.add(&key("tls_websocket"), "there is no `websocket` address that it could be for");
    }
    let clients = raw.clients.and_then(|text| address(problems, &key("clients"), &text));
    let websocket = raw.websocket.and_then(|text| address(problems, &key("websocket"), &text));
    let tls = raw.tls.map(|raw| tls_files(problems, &key("tls"), &raw, around));
    let tls_websocket = raw.tls_websocket.map(|raw| tls_files(problems, &key("tls_websocket"), &raw, around));
    Some(GateConfig {
        clients: clients?,
        websocket,
        tls,
        tls_websocket,
        sessions_max: raw.sessions_max,
        connections_per_address_max: per_address,
        accepts_per_s: raw.accepts_per_s,
        heartbeat,
        client_queue_bytes_max: raw.client_queue_bytes_max,
    })
}

fn tls_files(problems: &mut Problems, key: &str, raw: &RawTls, around: &Around) -> TlsConfig {
    let mut file = |name: &str, path: &Path| tls_file(problems, &format!("{key}.{name}"), around.folder, path);
    TlsConfig { certificate: file("certificate", &raw.certificate), key: file("key", &raw.key) }
}

pub(super) fn tls_file(problems: &mut Problems, key: &str, folder: &Path, path: &Path) -> PathBuf {
    let path = folder.join(path);
    if !path.is_file() {
        problems.add(key, format!("there is no file {}", path.display()));
    }
    path
}

fn login(problems: &mut Problems, at: &str, keys: Value, around: &Around) -> Option<LoginConfig> {
    let raw: RawLogin = problems.read(at, keys)?;
    let key = |name: &str| format!("{at}.{name}");
    let hashers = raw.hashers.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, std::num::NonZero::get));
    within(problems, &key("hashers"), hashers, 1, 1024);
    if let Some(logins_per_s) = raw.logins_per_s {
        within(problems, &key("logins_per_s"), logins_per_s, 1, 100_000);
    }
    within(problems, &key("queue_max"), raw.queue_max, 1, 1_000_000);
    let (memory_kib_min, passes_min) = around.environment.argon2_min();
    within(problems, &key("argon2_memory_kib"), raw.argon2_memory_kib, memory_kib_min, 4 * 1024 * 1024);
    within(problems, &key("argon2_passes"), raw.argon2_passes, passes_min, 100);
    within(problems, &key("failures_per_minute"), raw.failures_per_minute, 1, 100_000);
    Some(LoginConfig {
        hashers,
        logins_per_s: raw.logins_per_s,
        queue_max: raw.queue_max,
        queue_grace: seconds(problems, &key("queue_grace_s"), raw.queue_grace_s, 0.0, 3600.0),
        argon2_memory_kib: raw.argon2_memory_kib,
        argon2_passes: raw.argon2_passes,
        failures_per_minute: raw.failures_per_minute,
    })
}

fn dc(problems: &mut Problems, at: &str, keys: Value, around: &Around) -> Option<DcConfig> {
    let raw: RawDc = problems.read(at, keys)?;
    let key = |name: &str| format!("{at}.{name}");
    within(problems, &key("dirty_bytes_max"), raw.dirty_bytes_max, 1024 * 1024, BYTES_MAX);
    within(problems, &key("cache_bytes_max"), raw.cache_bytes_max, 1024 * 1024, BYTES_MAX);
    within(problems, &key("journal_bytes_max"), raw.journal_bytes_max, 1 << 20, 1 << 50);
    // The segment that is written to is never deleted: with fewer than four the quota could stay full for want of a closed one.
    within(problems, &key("journal_segment_bytes"), raw.journal_segment_bytes, 64 << 10, (raw.journal_bytes_max / 4).max(64 << 10));
    let storage = storage(problems, at, &raw.storage, raw.mysql, around);
    Some(DcConfig {
        storage: storage?,
        flush_period: seconds(problems, &key("flush_period_s"), raw.flush_period_s, 0.01, 60.0),
        dirty_bytes_max: raw.dirty_bytes_max,
        cache_bytes_max: raw.cache_bytes_max,
        journal_bytes_max: raw.journal_bytes_max,
        journal_segment_bytes: raw.journal_segment_bytes,
    })
}

fn host(problems: &mut Problems, key: &str, value: &Value) -> Option<String> {
    let text = value.as_str().unwrap_or_default();
    let good = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    // An IPv6 address is a host too.
    if text.parse::<std::net::IpAddr>().is_ok() || ((1..=HOST_MAX).contains(&text.len()) && text.bytes().all(good)) {
        return Some(text.to_owned());
    }
    problems.add(key, format!("{value} is no host: write a name that is resolved where the zone runs, or an IP address, without a port"));
    None
}

fn address_value(problems: &mut Problems, key: &str, value: &Value) -> Option<SocketAddr> {
    address(problems, key, value.as_str().unwrap_or_default())
}

fn address(problems: &mut Problems, key: &str, text: &str) -> Option<SocketAddr> {
    let address = text.parse().ok();
    if address.is_none() {
        problems.add(key, format!("`{text}` is no address: write IP:PORT, for example 127.0.0.1:7000, or port 0 for a free one"));
    }
    address
}

fn storage(problems: &mut Problems, at: &str, storage: &RawStorage, mysql: Option<RawMysql>, around: &Around) -> Option<Storage> {
    let key = |name: &str| format!("{at}.mysql{name}");
    let how = "write `mysql: { url_env: PAIFANG_MYSQL_URL }`, or `url_file` with the path of a file that has the URL";
    match (storage, mysql) {
        (RawStorage::Sqlite, None) => Some(Storage::Sqlite),
        (RawStorage::Sqlite, Some(_)) => {
            problems.add(&key(""), "it is not used: write `storage: mysql`, or take it out");
            None
        }
        (RawStorage::Mysql, None) => {
            problems.add(&key(""), format!("is missing: {how}"));
            None
        }
        (RawStorage::Mysql, Some(raw)) => {
            within(problems, &key(".connections_max"), raw.connections_max, 2, 1000);
            let statement_timeout = seconds(problems, &key(".statement_timeout_s"), raw.statement_timeout_s, 0.1, 600.0);
            let url = url(problems, &key(""), raw.url_env, raw.url_file, how)?;
            let ca = raw.ca.map(|path| tls_file(problems, &key(".ca"), around.folder, &path));
            Some(Storage::Mysql(MysqlConfig { url, ca, connections_max: raw.connections_max, statement_timeout }))
        }
    }
}
