//! A real zone of a test's own: its processes, its folder, free ports, and words for what tests do to it.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, channel},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use serde_json::Value;

use crate::prometheus;

/// How long a condition may take before the test gives up: generous, because a test machine may be busy.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// The resume window of test zones: short, so that a test can wait it out.
pub const RESUME_WINDOW: Duration = Duration::from_secs(4);

/// A running zone. Dropping it stops its processes.
pub struct Zone {
    up: Option<Child>,
    news: Receiver<Value>,
    folder: PathBuf,
    // Removes the folder when the last zone on it is gone.
    _owner: Option<tempfile::TempDir>,
}

impl Zone {
    /// The development zone on free ports, in a fresh folder, ready.
    pub fn start() -> Self {
        Self::start_with(&zone_file())
    }

    /// The same with a second gate.
    pub fn start_with_two_gates() -> Self {
        let gate = "  gate-2: { kind: gate, clients: 127.0.0.1:0, link: 127.0.0.1:0, admin: 127.0.0.1:0 }\n";
        Self::start_with(&(zone_file() + gate))
    }

    /// The zone of this file, in a fresh folder, ready.
    pub fn start_with(file: &str) -> Self {
        let owner = tempfile::tempdir().expect("make a folder");
        let folder = owner.path().to_path_buf();
        std::fs::write(folder.join("test.yaml"), file).expect("write the zone file");
        let mut zone = Self::start_in(&folder);
        zone._owner = Some(owner);
        zone
    }

    /// The development zone, each process of which may open so many files.
    pub fn start_with_files_max(files: usize) -> Self {
        let owner = tempfile::tempdir().expect("make a folder");
        std::fs::write(owner.path().join("test.yaml"), zone_file()).expect("write the zone file");
        let mut limited = Command::new("sh");
        limited.args(["-c", &format!("ulimit -n {files} && exec \"$0\" \"$@\""), env!("CARGO_BIN_EXE_zone"), "--data"]);
        limited.arg(owner.path()).args(["up", "--json", "--zone"]).stdin(Stdio::null());
        let mut zone = Self::up(limited, owner.path());
        zone._owner = Some(owner);
        zone
    }

    /// A zone on what an earlier one left in its folder, on other ports.
    pub fn start_in(folder: &Path) -> Self {
        Self::up(zone_command(folder, &["up", "--json", "--zone"]), folder)
    }

    /// `up` is `zone up` but for its zone file.
    fn up(mut up: Command, folder: &Path) -> Self {
        let mut up = up.arg(folder.join("test.yaml")).stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn().expect("start `zone up`");
        let news = read_lines(BufReader::new(up.stdout.take().expect("standard output is piped")));
        let zone = Self { up: Some(up), news, folder: folder.to_path_buf(), _owner: None };
        zone.expect_news("ready");
        zone
    }

    /// Where clients of the first gate connect.
    pub fn gate(&self) -> String {
        let text = std::fs::read_to_string(self.folder.join("zone.yaml")).expect("`zone up` wrote the zone file");
        let address = text.split("clients:").nth(1).and_then(|rest| rest.split_whitespace().next()).expect("the gate has an address");
        address.trim_matches(|character: char| !character.is_ascii_digit()).to_owned()
    }

    /// `zone up` itself; the caller ends it.
    pub fn into_up(mut self) -> Child {
        self.up.take().expect("the zone runs")
    }

    /// The folder of the zone's state.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Waits for `zone up` to tell of this event, passing over others.
    pub fn expect_news(&self, event: &str) -> Value {
        self.expect_any_news(&[event])
    }

    /// Waits for `zone up` to tell of one of these events, passing over others.
    pub fn expect_any_news(&self, events: &[&str]) -> Value {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.news.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(news) if events.iter().any(|event| news["event"] == *event) => return news,
                Ok(_) => (),
                Err(RecvTimeoutError::Timeout) => panic!("`zone up` told of none of {events:?} within {PATIENCE:?}"),
                Err(RecvTimeoutError::Disconnected) => panic!("`zone up` ended before it told of one of {events:?}"),
            }
        }
    }

    /// Runs `zone ARGS` on this zone to its end.
    pub fn zone(&self, args: &[&str]) -> Output {
        zone_command(&self.folder, args).output().expect("run `zone`")
    }

    /// Starts `zone ARGS` on this zone, its standard output kept.
    pub fn spawn(&self, args: &[&str]) -> Background {
        Background::start(zone_command(&self.folder, args).stdout(Stdio::piped()))
    }

    /// Runs `zone ARGS --json` and takes its document; it must exit with 0.
    pub fn json(&self, args: &[&str]) -> Value {
        let mut args = args.to_vec();
        args.push("--json");
        let output = self.zone(&args);
        assert!(output.status.success(), "`zone {}` failed: {}", args.join(" "), said(&output));
        printed(&output)
    }

    /// `zone status`, whatever its exit code.
    pub fn status(&self) -> Value {
        serde_json::from_slice(&self.zone(&["status", "--json"]).stdout).unwrap_or(Value::Null)
    }

    /// Waits until the status is as wanted.
    pub fn until(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let status = self.status();
            if wanted(&status) {
                return status;
            }
            assert!(Instant::now() < deadline, "{what} did not come about within {PATIENCE:?}: {status:#}");
            // Asking is a whole process: no need to spin, and nothing depends on this pause.
            std::thread::yield_now();
        }
    }

    /// The sum over all labels of a metric of a process; 0 before it has counted anything, and while nobody answers.
    pub fn metric(&self, id: &str, name: &str) -> f64 {
        prometheus::sum(&self.admin(id, "/metrics").unwrap_or_default(), name)
    }

    /// What a process answers at its admin port; none: it does not.
    pub fn admin(&self, id: &str, path: &str) -> Option<String> {
        get(&self.address(id, "admin"), path)
    }

    /// An address of a process, by its key in the zone file: `admin`, `clients`.
    pub fn address(&self, id: &str, key: &str) -> String {
        let text = std::fs::read_to_string(self.folder.join("zone.yaml")).expect("`zone up` wrote the zone file");
        let zone: Value = serde_yaml::from_str(&text).expect("the zone file is YAML");
        zone["processes"][id][key].as_str().unwrap_or_else(|| panic!("{id} has an address `{key}`")).to_owned()
    }

    /// The operating system's number of a process of the zone.
    pub fn pid(&self, id: &str) -> i32 {
        let status = self.status();
        let process = status["processes"].as_array().and_then(|all| all.iter().find(|process| process["id"] == id));
        let pid = process.and_then(|process| process["pid"].as_i64()).unwrap_or_else(|| panic!("{id} has no process id: {status:#}"));
        i32::try_from(pid).expect("a process id fits")
    }

    /// Kills a process of the zone with SIGKILL, and waits until `zone up` has started it anew and it is ready.
    pub fn kill_and_wait(&self, id: &str) {
        let pid = self.pid(id);
        signal(pid, nix::sys::signal::Signal::SIGKILL);
        let restarted = self.expect_news("restarted");
        assert_eq!(restarted["id"], id, "another process than the killed one was restarted");
        self.until(&format!("{id} is ready again"), |status| {
            status["processes"].as_array().is_some_and(|all| all.iter().any(|process| process["id"] == id && process["ready"] == true))
        });
    }

    /// Asks the zone to stop, as Ctrl-C does, and waits for its end.
    pub fn stop(mut self) -> ExitStatus {
        let mut up = self.up.take().expect("the zone runs");
        signal(i32::try_from(up.id()).expect("a process id fits"), nix::sys::signal::Signal::SIGTERM);
        wait(&mut up)
    }

    /// Waits for the zone's end, which something else has asked for.
    pub fn wait(mut self) -> ExitStatus {
        wait(&mut self.up.take().expect("the zone runs"))
    }
}

impl Drop for Zone {
    fn drop(&mut self) {
        if let Some(mut up) = self.up.take() {
            signal(i32::try_from(up.id()).expect("a process id fits"), nix::sys::signal::Signal::SIGTERM);
            let _ = up.wait();
            if std::thread::panicking() {
                print_logs(&self.folder);
            }
        }
    }
}

/// A program in the background; it is killed with the test.
pub struct Background(Option<Child>);

impl Background {
    /// Starts it.
    pub fn start(command: &mut Command) -> Self {
        Self(Some(command.spawn().expect("start a program")))
    }

    /// The JSON that it prints until its end; it must exit with 0.
    pub fn document(self) -> Value {
        let output = self.output();
        assert!(output.status.success(), "it failed: {}", said(&output));
        printed(&output)
    }

    /// Asks it to end, and takes the JSON that it printed, whatever its exit code.
    pub fn end(self) -> Value {
        let pid = self.0.as_ref().expect("it runs").id();
        signal(i32::try_from(pid).expect("a process id fits"), nix::sys::signal::Signal::SIGINT);
        printed(&self.output())
    }

    fn output(mut self) -> Output {
        self.0.take().expect("it runs").wait_with_output().expect("wait for a program")
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        if let Some(program) = &mut self.0 {
            let _ = program.kill();
            let _ = program.wait();
        }
    }
}

/// The JSON document that a program printed.
pub fn printed(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|err| panic!("no JSON: {err}: {}", said(output)))
}

/// The zone file of test zones: the development zone on free ports with a short resume window.
pub fn zone_file() -> String {
    let text = include_str!("../../../deploy/zone.yaml");
    let mut file = String::new();
    let mut rest = text;
    while let Some(at) = rest.find("127.0.0.1:7") {
        let (before, after) = rest.split_at(at);
        file.push_str(before);
        file.push_str("127.0.0.1:0");
        rest = after["127.0.0.1:7".len()..].trim_start_matches(|digit: char| digit.is_ascii_digit());
    }
    file.push_str(rest);
    let window = format!("resume_window_s: {}", RESUME_WINDOW.as_secs());
    assert!(file.contains("resume_window_s: 60"), "deploy/zone.yaml names its resume window");
    file.replace("resume_window_s: 60", &window)
}

/// `zone ARGS --data FOLDER`, not yet started.
pub fn zone_command(folder: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_zone"));
    command.arg("--data").arg(folder).args(args).stdin(Stdio::null());
    command
}

/// What answers at this address with 200; none: nothing does.
pub fn get(address: &str, path: &str) -> Option<String> {
    let mut socket = TcpStream::connect(address).ok()?;
    write!(socket, "GET {path} HTTP/1.0\r\n\r\n").ok()?;
    let mut answer = String::new();
    socket.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    head.contains(" 200 ").then(|| body.to_owned())
}

/// What a test's chance follows from: `PAIFANG_SEED`, or a number of this run, which is told when the test fails.
pub struct Seed(pub u64);

impl Seed {
    pub fn new() -> Self {
        let fresh = || SystemTime::now().duration_since(UNIX_EPOCH).expect("it is after 1970").as_nanos() as u64;
        Self(std::env::var("PAIFANG_SEED").map_or_else(|_| fresh(), |seed| seed.parse().expect("PAIFANG_SEED is a number")))
    }
}

impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("to see it again: PAIFANG_SEED={}", self.0);
        }
    }
}

/// What a command printed, for a failing test.
pub fn said(output: &Output) -> String {
    format!("{}\n{}\n{}", output.status, String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Sends a signal to one process that this test started.
pub fn signal(pid: i32, signal: nix::sys::signal::Signal) {
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), signal).unwrap_or_else(|err| panic!("send {signal} to {pid}: {err}"));
}

fn wait(child: &mut Child) -> ExitStatus {
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        if let Some(status) = child.try_wait().expect("wait for `zone up`") {
            return status;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    panic!("`zone up` did not end within {PATIENCE:?}");
}

fn read_lines(from: impl BufRead + Send + 'static) -> Receiver<Value> {
    let (to, news) = channel();
    std::thread::spawn(move || {
        for line in from.lines().map_while(Result::ok) {
            if let Ok(value) = serde_json::from_str(&line)
                && to.send(value).is_err()
            {
                return;
            }
        }
    });
    news
}

fn print_logs(folder: &Path) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let id = entry.file_name().to_string_lossy().into_owned();
        let Ok(text) = std::fs::read_to_string(entry.path().join(format!("{id}.log"))) else { continue };
        let lines: Vec<&str> = text.lines().collect();
        eprintln!("---- the end of {id}.log\n{}", lines[lines.len().saturating_sub(25)..].join("\n"));
    }
}
