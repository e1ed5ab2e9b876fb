//! From the file's sections to a [`Zone`]: every check, and all problems at once.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use serde_json::{Map, Value};

use super::{
    CacheConfig, CenterConfig, ConfigError, DcConfig, Environment, GateConfig, LinesConfig, LoginConfig, LogsvcConfig, MapConfig,
    MysqlConfig, OverloadConfig, Place, Players, ProcessConfig, ProcessId, ProcessKind, RedisConfig, Role, SceneConfig, SecretSource,
    StartArea, Storage, TlsConfig, World, Zone,
    raw::{
        Problems, RawCache, RawCenter, RawDc, RawGate, RawLines, RawLogin, RawLogsvc, RawMap, RawMysql, RawOverload, RawPlayers, RawRedis,
        RawScene, RawStartArea, RawStorage, RawTls, RawWorld, Registration, Sections,
    },
};

/// Characters of a zone's name or a process id at most.
const NAME_MAX: usize = 32;
/// Characters of a host name at most, as in the DNS.
const HOST_MAX: usize = 253;
/// Processes that one entry stands for at most. Every process of the zone is ready for so many.
const REPLICAS_MAX: u32 = 64;

/// What the checks of a process need to know of the rest.
struct Around<'a> {
    environment: Environment,
    /// Where relative TLS files start.
    folder: &'a Path,
}

/// Checks all sections.
pub(super) fn zone(mut sections: Sections, file: &Path, data: &Path) -> Result<Zone, ConfigError> {
    let name: Option<String> = sections.need("zone", "name the zone, for example `zone: dev`");
    if let Some(name) = &name
        && !is_name(name)
    {
        sections.problems.add("zone", format!("`{name}` is no name: use 1 to {NAME_MAX} of a-z, 0-9 and `-`"));
    }
    let environment = sections.need("environment", "write `dev`, or `live` if it serves players");
    let secret = secret(&mut sections);
    let cache = cache(&mut sections, file.parent().unwrap_or(Path::new(".")));
    let players = players(&mut sections);
    let world = world(&mut sections);
    // A broken environment is a problem already; the processes are still looked at, as those of a dev zone.
    let around = Around { environment: environment.unwrap_or(Environment::Dev), folder: file.parent().unwrap_or(Path::new(".")) };
    let processes = processes(&mut sections, &around);
    for key in sections.top.keys().cloned().collect::<Vec<_>>() {
        sections.problems.add(&key, "unknown key: known are zone, environment, secret, cache, redis, players, world, processes");
    }
    let mut problems = sections.problems;
    if let Some(processes) = &processes {
        needed_kinds(processes, &mut problems);
        clashes(processes, &mut problems);
        if let Some(world) = &world {
            hosting(world, processes, &mut problems);
        }
    }
    if let (Some(source), Some(Environment::Live)) = (&secret, environment) {
        // A machine that checks the file need not have the secret; a process that starts does (`ZoneSecret::load`).
        if let Ok(Some(bytes)) = crate::secret::read(source, data)
            && let Err(why) = crate::secret::check(&bytes, Environment::Live)
        {
            problems.add("secret", why);
        }
    }
    problems.into_result(file)?;
    let good = "no problem was found, so every section was read";
    Ok(Zone {
        name: name.expect(good),
        environment: environment.expect(good),
        secret: secret.expect(good),
        cache: cache.expect(good),
        players: players.expect(good),
        world: world.expect(good),
        processes: processes.expect(good),
    })
}

fn is_name(name: &str) -> bool {
    let good = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=NAME_MAX).contains(&name.len()) && name.bytes().all(good)
}

/// Adds a problem unless the value is between the two.
fn within<T: PartialOrd + std::fmt::Display + Copy>(problems: &mut Problems, key: &str, value: T, least: T, most: T) {
    // Written so that NaN is outside.
    if !(least <= value && value <= most) {
        problems.add(key, format!("{value} is out of range: it must be {least} to {most}"));
    }
}

/// Seconds; a problem and zero unless between the two.
fn seconds(problems: &mut Problems, key: &str, value: f64, least: f64, most: f64) -> Duration {
    within(problems, key, value, least, most);
    Duration::try_from_secs_f64(value).unwrap_or_default()
}

/// Metres as centimetres; a problem unless between the two.
fn centimetres(problems: &mut Problems, key: &str, metres: f64, least: f64, most: f64) -> i32 {
    within(problems, key, metres, least, most);
    // A float to int cast saturates; what is out of range is a problem already.
    (metres * 100.0).round() as i32
}

/// A count in the file as a `usize` of memory or connections.
const BYTES_MAX: usize = 1 << 40;

fn secret(sections: &mut Sections) -> Option<SecretSource> {
    let how = "write `secret: { file: secret }` or `secret: { env: PAIFANG_SECRET }`";
    let problems = &mut sections.problems;
    let Some(value) = sections.top.remove("secret") else {
        problems.add("secret", format!("is missing: {how}"));
        return None;
    };
    let one = value.as_object().filter(|keys| keys.len() == 1).and_then(|keys| keys.iter().next());
    match one {
        Some((key, Value::String(text))) if key == "file" && !text.is_empty() => Some(SecretSource::File(text.into())),
        Some((key, Value::String(text))) if key == "env" && !text.is_empty() => Some(SecretSource::Env(text.clone())),
        _ if value.is_string() => {
            problems.add("secret", format!("the secret itself must not stand in the zone file; say where it is: {how}"));
            None
        }
        _ => {
            problems.add("secret", format!("says not where the secret is: {how}"));
            None
        }
    }
}

fn cache(sections: &mut Sections, folder: &Path) -> Option<CacheConfig> {
    let how = "write `redis: { url_env: PAIFANG_REDIS_URL }`, or `url_file` with the path of a file that has the URL";
    let (kind, redis) = (sections.take("cache"), sections.take("redis"));
    let problems = &mut sections.problems;
    let kind = match kind {
        Some(kind) => problems.read("cache", kind)?,
        None => RawCache::None,
    };
    match (kind, redis) {
        (RawCache::None, None) => Some(CacheConfig::None),
        (RawCache::None, Some(_)) => {
            problems.add("redis", "it is not used: write `cache: redis`, or take it out");
            None
        }
        (RawCache::Redis, None) => {
            problems.add("redis", format!("is missing: {how}"));
            None
        }
        (RawCache::Redis, Some(redis)) => {
            let raw: RawRedis = problems.read("redis", redis)?;
            within(problems, "redis.connections_max", raw.connections_max, 1, 1000);
            let url = match (raw.url_env, raw.url_file) {
                (Some(name), None) if !name.is_empty() => SecretSource::Env(name),
                (None, Some(file)) if !file.as_os_str().is_empty() => SecretSource::File(file),
                _ => {
                    problems.add("redis", format!("says not where the URL is: {how}"));
                    return None;
                }
            };
            let ca = raw.ca.map(|path| tls_file(problems, "redis.ca", folder, &path));
            Some(CacheConfig::Redis(RedisConfig { url, ca, connections_max: raw.connections_max }))
        }
    }
}

fn players(sections: &mut Sections) -> Option<Players> {
    let value = sections.take("players").unwrap_or_else(|| Value::Object(Map::new()));
    let problems = &mut sections.problems;
    let raw: RawPlayers = problems.read("players", value)?;
    within(problems, "players.roles_max", raw.roles_max, 1, 64);
    within(problems, "players.relations_max", raw.relations_max, 0, 10_000);
    if let Some(online_max) = raw.online_max {
        within(problems, "players.online_max", online_max, 1, 1_000_000);
    }
    for name in raw.queue_pass.iter().filter(|name| proto::names::account(name).as_ref() != Some(*name)) {
        problems.add("players.queue_pass", format!("`{name}` is no account: {}", proto::names::ACCOUNT_RULE));
    }
    within(problems, "players.party_max", raw.party_max, 2, 40);
    Some(Players {
        registration_open: raw.registration == Registration::Open,
        roles_max: raw.roles_max,
        relations_max: raw.relations_max,
        resume_window: seconds(problems, "players.resume_window_s", raw.resume_window_s, 0.0, 3600.0),
        party_max: raw.party_max,
        online_max: raw.online_max,
        queue_pass: raw.queue_pass.into_iter().collect(),
    })
}

fn world(sections: &mut Sections) -> Option<World> {
    let raw: RawWorld = sections.need("world", "give it a `start` and `maps`")?;
    let problems = &mut sections.problems;
    within(problems, "world.tick_hz", raw.tick_hz, 1, 60);
    let cell_cm = centimetres(problems, "world.cell_m", raw.cell_m, 1.0, 1000.0);
    let speed_max_cm_s = centimetres(problems, "world.speed_max_m_s", raw.speed_max_m_s, 0.1, 1000.0);
    within(problems, "world.client_bytes_max_s", raw.client_bytes_max_s, 2_000, 10_000_000);
    let overload = overload(problems, &raw.overload);
    if raw.maps.is_empty() {
        problems.add("world.maps", "there is no map: give at least one");
    }
    let maps: BTreeMap<String, MapConfig> = raw.maps.into_iter().map(|(name, raw)| (name.clone(), map(problems, &name, raw))).collect();
    let x = centimetres(problems, "world.start.x_m", raw.start.x_m, 0.0, METRES_MAX);
    let y = centimetres(problems, "world.start.y_m", raw.start.y_m, 0.0, METRES_MAX);
    match maps.get(&raw.start.map) {
        None => problems.add("world.start.map", format!("there is no map `{}` under world.maps", raw.start.map)),
        Some(map) if x >= map.width_cm || y >= map.height_cm => {
            problems.add("world.start", format!("the place is outside of the map `{}`", raw.start.map));
        }
        Some(_) => (),
    }
    let start = Place { map: raw.start.map, x, y };
    let starts = raw.starts.into_iter().enumerate().map(|(index, raw)| start_area(problems, index, raw, &maps)).collect();
    Some(World { tick_hz: raw.tick_hz, cell_cm, speed_max_cm_s, client_bytes_max_s: raw.client_bytes_max_s, overload, start, starts, maps })
}

fn start_area(problems: &mut Problems, index: usize, raw: RawStartArea, maps: &BTreeMap<String, MapConfig>) -> StartArea {
    let key = |what: &str| format!("world.starts.{index}{what}");
    let x = centimetres(problems, &key(".x_m"), raw.x_m, 0.0, METRES_MAX);
    let y = centimetres(problems, &key(".y_m"), raw.y_m, 0.0, METRES_MAX);
    let within_cm = centimetres(problems, &key(".within_m"), raw.within_m, 0.0, METRES_MAX);
    let fits = |at: i32, end: i32| within_cm <= at && at.saturating_add(within_cm) < end;
    match maps.get(&raw.map) {
        None => problems.add(&key(".map"), format!("there is no map `{}` under world.maps", raw.map)),
        Some(map) if !fits(x, map.width_cm) || !fits(y, map.height_cm) => {
            problems.add(&key(""), format!("the area reaches out of the map `{}`", raw.map));
        }
        Some(_) => (),
    }
    StartArea { middle: Place { map: raw.map, x, y }, within_cm }
}

fn overload(problems: &mut Problems, raw: &RawOverload) -> OverloadConfig {
    within(problems, "world.overload.high", raw.high, 0.1, 1.0);
    within(problems, "world.overload.low", raw.low, 0.0, 1.0);
    within(problems, "world.overload.time_floor", raw.time_floor, 0.01, 1.0);
    if raw.high <= raw.low {
        problems.add("world.overload.low", "must be below `high`, or a line would go up and down the ladder without end");
    }
    OverloadConfig {
        high: raw.high,
        low: raw.low,
        window: seconds(problems, "world.overload.window_s", raw.window_s, 0.01, 60.0),
        calm: seconds(problems, "world.overload.calm_s", raw.calm_s, 0.01, 3600.0),
        time_floor: raw.time_floor,
    }
}

/// The side of a map at most, so that positions in centimetres have room in 32 bits.
const METRES_MAX: f64 = 100_000.0;

fn map(problems: &mut Problems, name: &str, raw: RawMap) -> MapConfig {
    let key = |what: &str| format!("world.maps.{name}{what}");
    if !is_name(name) {
        problems.add(&key(""), format!("`{name}` is no name: use 1 to {NAME_MAX} of a-z, 0-9 and `-`"));
    }
    within(problems, &key(".players_max"), raw.players_max, 1, 100_000);
    MapConfig {
        width_cm: centimetres(problems, &key(".width_m"), raw.width_m, 1.0, METRES_MAX),
        height_cm: centimetres(problems, &key(".height_m"), raw.height_m, 1.0, METRES_MAX),
        players_max: raw.players_max,
        lines: lines(problems, &key(".lines"), &raw.lines, raw.players_max),
        rules: raw.rules,
    }
}

/// The soft cap of a line when the file does not say, in percent of its players at most.
const SOFT_CAP_PERCENT: u32 = 80;
/// Lines of a map at most, so that a client can be told of all of them.
const LINES_MAX: u32 = 64;

fn lines(problems: &mut Problems, key: &str, raw: &RawLines, players_max: u32) -> LinesConfig {
    let soft_cap = raw.soft_cap.unwrap_or_else(|| (players_max.saturating_mul(SOFT_CAP_PERCENT) / 100).max(1));
    within(problems, &format!("{key}.soft_cap"), soft_cap, 1, players_max.max(1));
    within(problems, &format!("{key}.min"), raw.min, 1, LINES_MAX);
    within(problems, &format!("{key}.max"), raw.max, raw.min.max(1), LINES_MAX);
    LinesConfig { soft_cap, min: raw.min, max: raw.max }
}

fn processes(sections: &mut Sections, around: &Around) -> Option<BTreeMap<ProcessId, ProcessConfig>> {
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

fn tls_file(problems: &mut Problems, key: &str, folder: &Path, path: &Path) -> PathBuf {
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
            let url = match (raw.url_env, raw.url_file) {
                (Some(name), None) if !name.is_empty() => SecretSource::Env(name),
                (None, Some(file)) if !file.as_os_str().is_empty() => SecretSource::File(file),
                _ => {
                    problems.add(&key(""), format!("says not where the URL is: {how}"));
                    return None;
                }
            };
            let ca = raw.ca.map(|path| tls_file(problems, &key(".ca"), around.folder, &path));
            Some(Storage::Mysql(MysqlConfig { url, ca, connections_max: raw.connections_max, statement_timeout }))
        }
    }
}

/// A zone needs at least one of each kind; of those that hold a zone's only truth there is exactly one.
fn needed_kinds(processes: &BTreeMap<ProcessId, ProcessConfig>, problems: &mut Problems) {
    // A process with a problem of its own may be the one that seems missing.
    if !problems.is_empty() {
        return;
    }
    for kind in ProcessKind::ALL {
        let count = processes.values().filter(|process| process.kind() == kind).count();
        let single = matches!(kind, ProcessKind::Center | ProcessKind::Dc | ProcessKind::Logsvc);
        if count == 0 {
            problems.add("processes", format!("there is no {kind}: add one"));
        } else if single && count > 1 {
            problems.add("processes", format!("there are {count} of kind {kind}: keep one"));
        }
    }
}

/// Two processes can't listen at one address of a host.
fn clashes(processes: &BTreeMap<ProcessId, ProcessConfig>, problems: &mut Problems) {
    let mut taken: Vec<(String, Option<&str>, SocketAddr)> = Vec::new();
    // Replicas are alike, and each of them has a container of its own: one stands for all.
    let mut entries = BTreeSet::new();
    for process in processes.values().filter(|process| process.replica_of.as_ref().is_none_or(|entry| entries.insert(entry))) {
        let host = process.host.as_deref();
        for (name, address) in process.addresses() {
            let key = format!("processes.{}.{name}", process.id);
            let clash = |other: &SocketAddr| {
                let everywhere = other.ip().is_unspecified() || address.ip().is_unspecified();
                other.port() == address.port() && (other.ip() == address.ip() || everywhere)
            };
            if address.port() == 0 {
                continue;
            }
            if let Some((other, ..)) = taken.iter().find(|(_, other_host, other)| *other_host == host && clash(other)) {
                problems.add(&key, format!("{address} is the address of {other} too: give it another port, or port 0 for a free one"));
            }
            taken.push((key, host, address));
        }
    }
}

/// Every map has a scene that hosts it, and every scene hosts maps that there are.
fn hosting(world: &World, processes: &BTreeMap<ProcessId, ProcessConfig>, problems: &mut Problems) {
    let mut hosted = BTreeSet::new();
    for process in processes.values() {
        let Role::Scene(scene) = &process.role else { continue };
        let key = format!("processes.{}.maps", process.id);
        if scene.maps.is_empty() {
            problems.add(&key, "the scene hosts no map: name at least one of world.maps");
        }
        let mut own = BTreeSet::new();
        for map in &scene.maps {
            if !world.maps.contains_key(map) {
                problems.add(&key, format!("there is no map `{map}` under world.maps"));
            }
            if !own.insert(map) {
                problems.add(&key, format!("`{map}` is named twice"));
            }
        }
        hosted.extend(own);
    }
    for map in world.maps.keys().filter(|map| !hosted.contains(map)) {
        problems.add(&format!("world.maps.{map}"), "no scene hosts it: add it to the `maps` of a scene under processes");
    }
}
