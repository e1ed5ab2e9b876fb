//! What `zone up` makes of a zone file before it starts processes: every address has a port, every variable is laid over it, and
//! relative TLS files are found from wherever the result is kept. All processes then read the same.

use std::{
    net::{SocketAddr, TcpListener},
    path::Path,
};

use serde_json::Value;

use super::{ConfigError, sections};

/// Free ports are sought here: below the range from which Linux takes the near end of outgoing connections, so that none of those
/// takes the port of a process while it is restarted.
const FREE_PORTS: std::ops::Range<u16> = 10_000..32_000;
/// How many ports are tried before none is thought free.
const TRIES_MAX: usize = 2000;

/// The text of a zone file with the environment's variables laid over it, port 0 replaced by free ports (`all_free`: every port),
/// and relative TLS files made absolute. `file` is where it came from. Comments are lost.
///
/// # Errors
/// When it is no YAML, a variable names no key, or no port is free. The rest is checked by [`super::Zone::load`].
pub fn resolve(text: &str, file: &Path, all_free: bool) -> Result<String, ConfigError> {
    let mut sections = sections::Sections::read(text, file, sections::environment())?;
    let mut ports = FreePorts::new();
    let mut failed = None;
    let processes = sections.top.get_mut("processes").and_then(Value::as_object_mut);
    for (id, keys) in processes.into_iter().flatten() {
        let Some(keys) = keys.as_object_mut() else { continue };
        for name in ["clients", "websocket", "link", "admin"] {
            let Some(Value::String(text)) = keys.get_mut(name) else { continue };
            let Ok(mut address) = text.parse::<SocketAddr>() else { continue };
            if !all_free && address.port() != 0 {
                continue;
            }
            match ports.take(address) {
                Some(port) => address.set_port(port),
                None => failed = Some(format!("processes.{id}.{name}: no port of {} is free", address.ip())),
            }
            *text = address.to_string();
        }
        for name in ["tls", "tls_websocket"] {
            keys.get_mut(name).and_then(Value::as_object_mut).into_iter().flatten().for_each(|(_, path)| absolute(path, file));
        }
        keys.get_mut("mysql").and_then(|mysql| mysql.get_mut("ca")).into_iter().for_each(|path| absolute(path, file));
    }
    sections.top.get_mut("redis").and_then(|redis| redis.get_mut("ca")).into_iter().for_each(|path| absolute(path, file));
    if let Some(problem) = failed {
        return Err(ConfigError { file: file.into(), problems: vec![problem] });
    }
    sections.problems.into_result(file)?;
    let head = "# Written by `zone up`: addresses are those of the running zone. A change here is lost at the next start.\n";
    match serde_yaml::to_string(&Value::Object(sections.top)) {
        Ok(text) => Ok(format!("{head}{text}")),
        Err(err) => Err(ConfigError { file: file.into(), problems: vec![format!("can't be written as YAML: {err}")] }),
    }
}

fn absolute(path: &mut Value, file: &Path) {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let Ok(folder) = std::path::absolute(folder) else { return };
    if let Value::String(path) = path {
        *path = folder.join(&*path).to_string_lossy().into_owned();
    }
}

/// Ports that were found free; each is held until all are found, so that none is found twice.
struct FreePorts {
    held: Vec<TcpListener>,
    rng: crate::random::Rng,
}

impl FreePorts {
    fn new() -> Self {
        Self { held: Vec::new(), rng: crate::random::Rng::new(crate::secret::chance()) }
    }

    fn take(&mut self, mut address: SocketAddr) -> Option<u16> {
        for _ in 0..TRIES_MAX {
            let offset = self.rng.below(u64::from(FREE_PORTS.end - FREE_PORTS.start));
            let port = FREE_PORTS.start + u16::try_from(offset).expect("below the length of the range");
            address.set_port(port);
            if let Ok(listener) = TcpListener::bind(address) {
                self.held.push(listener);
                return Some(port);
            }
        }
        None
    }
}
