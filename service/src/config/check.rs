//! From the file's sections to a [`Zone`]: every check, and all problems at once.

mod process;
mod world;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use serde_json::{Map, Value};

use self::{
    process::{processes, tls_file},
    world::world,
};
use super::{
    CacheConfig, ConfigError, Environment, Players, ProcessConfig, ProcessId, ProcessKind, RedisConfig, Role, SecretSource, World, Zone,
    raw::{RawCache, RawPlayers, RawRedis, Registration},
    sections::{Problems, Sections},
};

/// Characters of a zone's name or a process id at most.
const NAME_MAX: usize = 32;

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
            let url = url(problems, "redis", raw.url_env, raw.url_file, how)?;
            let ca = raw.ca.map(|path| tls_file(problems, "redis.ca", folder, &path));
            Some(CacheConfig::Redis(RedisConfig { url, ca, connections_max: raw.connections_max }))
        }
    }
}

/// Where a URL is, which has a password in it: one of the two says so.
fn url(problems: &mut Problems, key: &str, env: Option<String>, file: Option<PathBuf>, how: &str) -> Option<SecretSource> {
    match (env, file) {
        (Some(name), None) if !name.is_empty() => Some(SecretSource::Env(name)),
        (None, Some(file)) if !file.as_os_str().is_empty() => Some(SecretSource::File(file)),
        _ => {
            problems.add(key, format!("says not where the URL is: {how}"));
            None
        }
    }
}

fn players(sections: &mut Sections) -> Option<Players> {
    let value = sections.take("players").unwrap_or_else(|| Value::Object(Map::new()));
    let problems = &mut sections.problems;
    let raw: RawPlayers = problems.read("players", value)?;
    within(problems, "players.roles_max", raw.roles_max, 1, 64);
    within(problems, "players.relations_max", raw.relations_max, 0, 10_000);
    within(problems, "players.mail_max", raw.mail_max, 1, 1_000);
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
        mail_max: raw.mail_max,
        resume_window: seconds(problems, "players.resume_window_s", raw.resume_window_s, 0.0, 3600.0),
        party_max: raw.party_max,
        online_max: raw.online_max,
        queue_pass: raw.queue_pass.into_iter().collect(),
    })
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
