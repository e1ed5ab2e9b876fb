//! A private MariaDB for tests: its own data folder, a free port on 127.0.0.1, its own socket, a user with a password. It can be stopped,
//! killed, frozen, made read-only, and filled up, and is gone with the test, whatever ends that.
//!
//! `deploy/install-test-servers.sh` installs the server; where that is not possible tests skip themselves with [`MariaDb::missing`].
//!
//! The server is a child of a shell that waits for the end of its own input: when the test is gone, killed or not, that input ends, and
//! the shell kills the server.
#![allow(dead_code, reason = "every test that takes this file in uses another part of it")]

use std::{
    io::{BufRead, BufReader, Write},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use tempfile::TempDir;

/// How long a server may take to serve.
const UP_WITHIN: Duration = Duration::from_secs(30);
/// Starts a server, says its process id, and kills it when its own input ends. A 9 is told to it before it is waited for, or never.
const KEEPER: &str = r#""$@" </dev/null >/dev/null 2>&1 & echo $!; read -r _; kill -9 $! 2>/dev/null; wait"#;
/// dc's user.
const USER: &str = "dc";
const PASSWORD: &str = "a-password-of-tests";

/// A server, running or not.
pub struct MariaDb {
    pub port: u16,
    data: PathBuf,
    /// The socket and the log: never on the disk that a test fills.
    folder: TempDir,
    arguments: Vec<String>,
    running: Option<Running>,
    /// Unmounted at the end.
    mount: Option<Mount>,
}

struct Running {
    keeper: Child,
    pid: u32,
}

impl MariaDb {
    /// Why there can be no server on this machine; `None`: there can.
    pub fn missing() -> Option<String> {
        let missing = ["mariadbd", "mariadb-install-db", "mariadb"].into_iter().find(|program| !is_there(program))?;
        Some(format!("no {missing} on this machine: run deploy/install-test-servers.sh"))
    }

    /// Makes and starts a server.
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// As [`MariaDb::start`], with more arguments.
    pub fn start_with(arguments: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        Self::make(folder, data, None, arguments)
    }

    /// As [`MariaDb::start`], with its data on a disk in memory of so many bytes. An error says why there can be none.
    pub fn start_on_tmpfs(bytes: u64) -> Result<Self, String> {
        let folder = tempfile::tempdir().unwrap();
        let mount = Mount::new(folder.path().join("disk"), bytes)?;
        let data = mount.0.join("data");
        Ok(Self::make(folder, data, Some(mount), &[]))
    }

    fn make(folder: TempDir, data: PathBuf, mount: Option<Mount>, arguments: &[&str]) -> Self {
        let mut install = command("mariadb-install-db");
        install.args(["--no-defaults", "--auth-root-authentication-method=normal", "--skip-test-db", "--innodb-log-file-size=16M"]);
        install.env("TMPDIR", folder.path()); // two that install at once would meet in /tmp
        let installed = install.args(as_root()).arg(format!("--datadir={}", data.display())).output().unwrap();
        assert!(installed.status.success(), "mariadb-install-db: {}", String::from_utf8_lossy(&installed.stderr));
        let arguments = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        let mut server = Self { port: free_port(), data, folder, arguments, running: None, mount };
        server.up();
        server.sql(&format!("CREATE USER '{USER}'@'127.0.0.1' IDENTIFIED BY '{PASSWORD}'; GRANT ALL ON `zone%`.* TO '{USER}'@'127.0.0.1'"));
        server
    }

    /// Starts the server where it was; waits until it serves.
    pub fn up(&mut self) {
        assert!(self.running.is_none(), "the server runs already");
        let path = |name: &str| self.folder.path().join(name).display().to_string();
        let mut keeper = Command::new("sh");
        keeper.args(["-c", KEEPER, "keeper"]).arg(program("mariadbd").unwrap()).arg("--no-defaults").args(as_root());
        keeper.args([
            format!("--datadir={}", self.data.display()),
            format!("--port={}", self.port),
            "--bind-address=127.0.0.1".into(),
            format!("--socket={}", path("socket")),
            format!("--pid-file={}", path("pid")),
            format!("--log-error={}", path("log")),
            format!("--tmpdir={}", self.folder.path().display()),
            "--skip-name-resolve".into(),
            "--skip-log-bin".into(),
            "--performance-schema=OFF".into(),
            "--innodb-buffer-pool-size=64M".into(),
            "--innodb-log-file-size=16M".into(),
            "--innodb-flush-log-at-trx-commit=1".into(),
            // What the program needs it asks for by itself.
            "--character-set-server=latin1".into(),
            "--sql-mode=".into(),
        ]);
        keeper.args(&self.arguments);
        let mut keeper = keeper.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(keeper.stdout.take().unwrap()).read_line(&mut line).unwrap();
        self.running = Some(Running { keeper, pid: line.trim().parse().unwrap() });
        let started = Instant::now();
        while self.try_sql("SELECT 1").is_err() {
            let log = || std::fs::read_to_string(path("log")).unwrap_or_default();
            assert!(started.elapsed() < UP_WITHIN, "the server does not serve:\n{}", log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Kills the server with -9.
    pub fn kill(&mut self) {
        let Some(mut running) = self.running.take() else { return };
        signal(running.pid, "-CONT");
        drop(running.keeper.stdin.take());
        running.keeper.wait().unwrap();
    }

    /// Stops the server as an operator does, and waits for its end.
    pub fn stop(&mut self) {
        let Some(mut running) = self.running.take() else { return };
        signal(running.pid, "-TERM");
        let started = Instant::now();
        // A zombie has no command line.
        while std::fs::read(format!("/proc/{}/cmdline", running.pid)).is_ok_and(|line| !line.is_empty()) {
            assert!(started.elapsed() < UP_WITHIN, "the server does not stop");
            std::thread::sleep(Duration::from_millis(10));
        }
        drop(running.keeper.stdin.take());
        running.keeper.wait().unwrap();
    }

    /// The server stands still, with all its connections open.
    pub fn freeze(&self) {
        signal(self.running.as_ref().unwrap().pid, "-STOP");
    }

    /// It goes on.
    pub fn thaw(&self) {
        signal(self.running.as_ref().unwrap().pid, "-CONT");
    }

    /// Makes a database if it is not there; its URL for dc's user at `port`: the server's own, or that of a proxy. Its name begins with
    /// `zone`.
    pub fn database(&self, name: &str, port: u16) -> String {
        self.sql(&format!("CREATE DATABASE IF NOT EXISTS `{name}`"));
        format!("mysql://{USER}:{PASSWORD}@127.0.0.1:{port}/{name}")
    }

    /// What a statement brings, as root: a line a row, tabs between columns.
    pub fn sql(&self, sql: &str) -> String {
        self.try_sql(sql).unwrap_or_else(|err| panic!("{sql}: {err}"))
    }

    /// As [`MariaDb::sql`].
    pub fn try_sql(&self, sql: &str) -> Result<String, String> {
        let output = self.client().args(["-e", sql]).output().unwrap();
        match output.status.success() {
            true => Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned()),
            false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
        }
    }

    /// A session of root that does what it is told, and holds its locks, until it is dropped. It goes on after an error.
    pub fn session(&self) -> SqlSession {
        let mut client = self.client();
        client.args(["--unbuffered", "--force"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        SqlSession(client.spawn().unwrap())
    }

    fn client(&self) -> Command {
        let mut client = command("mariadb");
        client.args(["--no-defaults", "--user=root", "--batch", "--skip-column-names", "--connect-timeout=5"]);
        client.arg(format!("--socket={}", self.folder.path().join("socket").display()));
        client
    }

    /// Writes a file beside the data until the disk has no more room than this; returns it. To be removed to make room again.
    pub fn fill(&self, bytes_left: u64) -> PathBuf {
        let disk = &self.mount.as_ref().expect("only a disk in memory is filled").0;
        let file = disk.join("ballast");
        let mut ballast = std::fs::File::create(&file).unwrap();
        let block = vec![1; 64 * 1024];
        while ballast.write_all(&block).is_ok() {}
        let length = ballast.metadata().unwrap().len();
        ballast.set_len(length.saturating_sub(bytes_left)).unwrap();
        file
    }
}

impl Drop for MariaDb {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A client that goes on.
pub struct SqlSession(Child);

impl SqlSession {
    /// Runs statements, waits for them, and returns the last line that they brought.
    pub fn run(&mut self, sql: &str) -> String {
        self.try_run(sql).expect("the session goes on")
    }

    /// As [`SqlSession::run`]; `None` if the session has ended, or never began.
    pub fn try_run(&mut self, sql: &str) -> Option<String> {
        writeln!(self.0.stdin.as_mut().unwrap(), "{sql}; SELECT 'done';").ok()?;
        let mut lines = BufReader::with_capacity(1, self.0.stdout.as_mut().unwrap()).lines();
        let mut last = String::new();
        loop {
            match lines.next()?.ok()? {
                line if line == "done" => return Some(last),
                line => last = line,
            }
        }
    }

    /// Runs statements without waiting for them.
    pub fn begin(&mut self, sql: &str) {
        writeln!(self.0.stdin.as_mut().unwrap(), "{sql};").unwrap();
    }
}

impl Drop for SqlSession {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// A disk in memory.
struct Mount(PathBuf);

impl Mount {
    fn new(folder: PathBuf, bytes: u64) -> Result<Self, String> {
        std::fs::create_dir(&folder).unwrap();
        let mount = command("mount").args(["-t", "tmpfs", "-o", &format!("size={bytes}"), "tmpfs"]).arg(&folder).output();
        match mount {
            Ok(output) if output.status.success() => Ok(Self(folder)),
            Ok(output) => Err(format!("a small disk can't be mounted: {}", String::from_utf8_lossy(&output.stderr).trim())),
            Err(err) => Err(format!("a small disk can't be mounted: {err}")),
        }
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        drop(command("umount").arg("--lazy").arg(&self.0).status());
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A server does not run as root without being told to.
fn as_root() -> Option<&'static str> {
    let root = std::fs::metadata("/proc/self").is_ok_and(|me| std::os::unix::fs::MetadataExt::uid(&me) == 0);
    root.then_some("--user=root")
}

fn signal(pid: u32, name: &str) {
    drop(command("kill").args([name, &pid.to_string()]).stderr(Stdio::null()).status());
}

fn is_there(name: &str) -> bool {
    program(name).is_some()
}

/// Servers lie in sbin, which a user's PATH need not hold.
fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var("PATH").unwrap_or_default();
    path.split(':').chain(["/usr/sbin", "/usr/local/sbin"]).map(|folder| Path::new(folder).join(name)).find(|file| file.is_file())
}

fn command(name: &str) -> Command {
    Command::new(program(name).unwrap_or_else(|| name.into()))
}
