//! dc as it runs in a zone: the program, a process of its own, on a data folder that outlives it. It can be killed, and started anew on the
//! same ports; it is gone with the test, whatever ends that.
//!
//! The program is a child of a shell that waits for the end of its own input: when the test is gone, killed or not, that input ends, and
//! the shell kills the program.
#![allow(dead_code, reason = "every test that takes this file in uses another part of it")]

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use proto::{client::Item, link::LinkFrame};
use serde_json::Value;
use service::{Handler, IncomingCall, Link, Links, Process, ProcessId, ProcessKind, Zone, config, link::LinkConfig};
use tempfile::TempDir;

/// No single step takes longer.
pub const WITHIN: Duration = Duration::from_secs(40);
/// What all processes of tests know ([`Process::for_test`]).
const SECRET: &str = "a secret of tests";
/// Starts a program, kills it when its own input ends, and ends as it did.
const KEEPER: &str = r#"exec 3<&0
"$@" </dev/null >/dev/null 3<&- & program=$!
(read -r _; kill -9 $program) <&3 2>/dev/null & reader=$!
wait $program
code=$?
kill $reader 2>/dev/null
exit $code"#;

/// A zone's data folder, of which only dc and a scene are started.
pub struct Folder {
    pub path: PathBuf,
    zone: Zone,
    /// Keys of the zone file that are other ones, as variables.
    variables: Vec<(String, String)>,
    _folder: TempDir,
}

impl Folder {
    /// The development zone on free ports, with these keys of its dc.
    pub fn new(keys: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().to_owned();
        let file = path.join("zone.yaml");
        std::fs::write(&file, config::resolve(config::DEV_ZONE, &file, true).unwrap()).unwrap();
        std::fs::write(path.join("secret"), SECRET).unwrap();
        let zone = Zone::load_resolved(&file, &path).unwrap();
        let variables = keys.iter().map(|(key, value)| (variable(key), (*value).to_owned())).collect();
        Self { path, zone, variables, _folder: folder }
    }

    /// With a database behind dc in place of its own.
    pub fn on(mut self, url: &str) -> Self {
        std::fs::write(self.path.join("mysql-url"), url).unwrap();
        let keys = [("storage", "mysql"), ("mysql__url_file", "mysql-url")];
        self.variables.extend(keys.map(|(key, value)| (variable(key), value.to_owned())));
        self
    }

    /// With a Redis of this URL, whose certificate one in this file has signed.
    pub fn with_cache(mut self, url: &str, ca: &Path) -> Self {
        std::fs::write(self.path.join("redis-url"), url).unwrap();
        let ca = ca.display().to_string();
        let log = "info,service::cache=debug"; // on a busy machine the first failure may be that no answer came in time
        let variables = [("ZONE__CACHE", "redis"), ("ZONE__REDIS__URL_FILE", "redis-url"), ("ZONE__REDIS__CA", &ca), ("PAIFANG_LOG", log)];
        self.variables.extend(variables.map(|(name, value)| (name.to_owned(), value.to_owned())));
        self
    }

    /// Where dc keeps its journal.
    pub fn journal(&self) -> PathBuf {
        self.path.join("dc-1/journal")
    }

    /// The journal's folder and its segments up to this one.
    pub fn journal_paths(&self, segments: u32) -> Vec<PathBuf> {
        let segment = |number| self.journal().join(format!("{number:08}.seg"));
        std::iter::once(self.journal()).chain((1..=segments).map(segment)).collect()
    }

    /// The database's folder and files.
    pub fn database_paths(&self) -> Vec<PathBuf> {
        ["dc-1", "dc-1/players.sqlite", "dc-1/players.sqlite-wal"].map(|name| self.path.join(name)).into()
    }
}

fn variable(key: &str) -> String {
    format!("ZONE__PROCESSES__DC_1__{}", key.to_uppercase())
}

/// A dc that runs, or has ended, and a scene's link to it.
pub struct Program {
    pub pid: u32,
    pub links: Links,
    keeper: Child,
    scene: Process,
    admin: SocketAddr,
}

impl Program {
    /// Starts dc in a folder, with more keys, and waits until it serves.
    pub async fn start(folder: &Folder, keys: &[(&str, &str)]) -> Self {
        let started = Self::start_under(&[], folder, keys).await;
        started.unwrap_or_else(|code| panic!("dc ended with {code}: {}", log(folder)))
    }

    /// As [`Program::start`], as the last argument of another program; an error is with what that ended before dc served.
    pub async fn start_under(other: &[String], folder: &Folder, keys: &[(&str, &str)]) -> Result<Self, i32> {
        let mut command = Command::new("sh");
        command.args(["-c", KEEPER, "keeper"]).args(other).args([env!("CARGO_BIN_EXE_dc"), "--id", "dc-1", "--zone"]);
        command.arg(folder.path.join("zone.yaml")).arg("--data").arg(&folder.path);
        command.envs(folder.variables.iter().cloned()).envs(keys.iter().map(|(key, value)| (variable(key), value)));
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut keeper = command.spawn().unwrap();
        let admin = folder.zone.processes[&ProcessId("dc-1".into())].admin;
        let started = Instant::now();
        while get(admin, "/readyz").is_none_or(|(code, _)| code != "200") {
            if let Some(ended) = keeper.try_wait().unwrap() {
                return Err(ended.code().unwrap());
            }
            assert!(started.elapsed() < WITHIN, "dc does not serve: {}", log(folder));
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        // Of the two this is dc, not what it was started by.
        let pid = std::fs::read_to_string(folder.path.join("dc-1/lock")).unwrap().trim().parse().unwrap();
        let scene = Process::for_test(&folder.zone, "scene-1", &folder.path);
        let links = Links::start_with(LinkConfig::of(&scene), Arc::new(Silent)).await.unwrap();
        links.wait(ProcessKind::Dc, WITHIN).await.unwrap();
        Ok(Self { pid, links, keeper, scene, admin })
    }

    /// Whether it has not ended.
    pub fn runs(&mut self) -> bool {
        self.keeper.try_wait().unwrap().is_none()
    }

    /// Waits for its end by itself; 128 and the signal's number, as a shell says it.
    pub async fn ended(self) -> i32 {
        self.leave().await.code().unwrap()
    }

    /// Kills it with -9, if it runs.
    pub async fn kill(mut self) {
        if self.runs() {
            drop(Command::new("kill").args(["-9", &self.pid.to_string()]).stderr(Stdio::null()).status());
        }
        self.leave().await;
    }

    async fn leave(mut self) -> ExitStatus {
        let stdin = self.keeper.stdin.take(); // `wait` would close it, and so end what has ended already
        let started = Instant::now();
        let status = loop {
            match self.keeper.try_wait().unwrap() {
                Some(status) => break status,
                None => assert!(started.elapsed() < WITHIN, "dc does not end"),
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        };
        drop(stdin);
        self.scene.tasks.stop(WITHIN).await.unwrap();
        status
    }

    /// A page of its admin port; none if it has ended.
    pub fn get(&self, path: &str) -> Option<Value> {
        let (_, body) = get(self.admin, path)?;
        serde_json::from_str(&body).ok()
    }

    /// What it says of itself; none if it has ended.
    pub fn detail(&self) -> Option<Value> {
        Some(self.get("/status")?["detail"].take())
    }

    /// A player, as it has it.
    pub fn player(&self, name: &str) -> Player {
        let shown = self.get(&format!("/players/{name}")).expect("dc answers");
        let number = |value: &Value| value.as_u64().unwrap_or_else(|| panic!("{shown}"));
        let items = shown["record"]["items"].as_array().unwrap();
        Player {
            version: number(&shown["version"]),
            stored: shown["store_version"].as_u64().unwrap_or(0),
            coins: number(&shown["record"]["coins"]),
            items: items.iter().map(|item| item["id"].as_str().unwrap().into()).collect(),
        }
    }
}

/// A player, as dc shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Player {
    pub version: u64,
    /// The version that the store has.
    pub stored: u64,
    pub coins: u64,
    /// Their ids.
    pub items: Vec<String>,
}

/// How an id of an item is shown.
pub fn shown_id(item: &Item) -> String {
    item.id.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The status line's code and the body; none while nobody answers.
fn get(address: SocketAddr, path: &str) -> Option<(String, String)> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(WITHIN)).unwrap();
    write!(stream, "GET {path} HTTP/1.0\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    Some((head.split(' ').nth(1)?.into(), body.into()))
}

/// All that dc has logged in this folder.
pub fn log(folder: &Folder) -> String {
    std::fs::read_to_string(folder.path.join("dc-1/dc-1.log")).unwrap_or_default()
}

/// Removes a log, so that the next start's is alone in it.
pub fn forget_log(folder: &Folder) {
    drop(std::fs::remove_file(folder.path.join("dc-1/dc-1.log")));
}

/// Whether a program is on this machine; servers and file systems lie in sbin, which a user's PATH need not hold.
pub fn is_there(name: &str) -> bool {
    let path = std::env::var("PATH").unwrap_or_default();
    path.split(':').chain(["/usr/sbin", "/sbin"]).any(|folder| Path::new(folder).join(name).is_file())
}

/// A scene that is asked nothing.
struct Silent;

impl Handler for Silent {
    async fn on_up(&self, _: &Link) {}
    async fn on_down(&self, _: &Link) {}
    async fn on_frame(&self, _: &Link, _: LinkFrame) {}
    async fn on_call(&self, _: &Link, call: IncomingCall) {
        call.unknown();
    }
}
