//! What a process is given at its start, and the frame in which it runs: [`main`] is the whole of every process' `main`.

use std::{
    future::Future,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, bail};
use proto::event::{ProcessState, event::Body};

use crate::{
    admin::Ready,
    cache::Cache,
    config::{ProcessConfig, ProcessId, ProcessKind, Zone},
    events::{Events, Subject},
    fs::Lock,
    members::Members,
    random::Random,
    secret::ZoneSecret,
    tasks::Tasks,
};

/// How long a process may take to drain after SIGTERM before it gives up.
pub const SHUTDOWN_GRACE: Duration = Duration::from_secs(20);

/// How long events that are under way may take at the end; what is left then waits on disk for the next run.
const EVENTS_GRACE: Duration = Duration::from_secs(2);
/// How long tasks may take to end after the process has drained.
pub(crate) const TASKS_GRACE: Duration = Duration::from_secs(3);
/// How long blocking work may take to end after the tasks.
const RUNTIME_GRACE: Duration = Duration::from_secs(1);
// A link to a peer that reads nothing ends within its limit, and that is no failure of the stop.
const _: () = assert!(crate::link::END_WITHIN.as_millis() < TASKS_GRACE.as_millis());
/// A process that was told to stop ends within this time, or hangs.
pub const STOP_MAX: Duration =
    Duration::from_secs(SHUTDOWN_GRACE.as_secs() + EVENTS_GRACE.as_secs() + TASKS_GRACE.as_secs() + RUNTIME_GRACE.as_secs());

/// The command line of a process.
#[derive(Clone, Debug, clap::Args)]
pub struct ProcessArgs {
    /// The zone file.
    #[arg(long, value_name = "FILE")]
    pub zone: PathBuf,
    /// Which process of the zone file this is. The name of an entry with replicas: the first of them that nobody runs in DIR.
    #[arg(long, value_name = "ID")]
    pub id: String,
    /// State and logs are kept in DIR/<process id>.
    #[arg(long, value_name = "DIR", default_value = "./data")]
    pub data: PathBuf,
    /// All chance of the process follows from this number; a number of its own each time if absent.
    #[arg(long, value_name = "NUMBER")]
    pub seed: Option<u64>,
    /// End when the process with this id does (set by `zone up`).
    #[arg(long, value_name = "PID", hide = true)]
    pub parent: Option<u32>,
}

/// What a process is given. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Process {
    /// Its entry in the zone file.
    pub config: Arc<ProcessConfig>,
    /// The zone file.
    pub zone: Arc<Zone>,
    /// Its own folder, which exists.
    pub folder: PathBuf,
    /// Distinguishes this run from every other.
    pub incarnation: u64,
    /// The zone secret.
    pub secret: ZoneSecret,
    /// Who there is.
    pub members: Members,
    /// What it reads before it asks dc; for dc, where it publishes.
    pub cache: Cache,
    /// Its source of chance.
    pub random: Random,
    /// Its tasks; their stop token is cancelled on SIGTERM.
    pub tasks: Tasks,
    /// Its emitter of behaviour events.
    pub events: Events,
    /// Whether it can serve.
    pub ready: Ready,
    /// Held as long as anybody has the process: two runs in one folder would write over each other.
    _lock: Arc<Lock>,
}

/// The command line names what is not in the zone file.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct WrongUsage(String);

/// What a process is given that the zone file only points at.
struct Keys {
    secret: ZoneSecret,
    cache: Cache,
    seed: u64,
}

/// The zone's cache, for those who use it: nobody else needs its password.
fn cache_of(zone: &Zone, config: &ProcessConfig, data: &Path) -> anyhow::Result<Cache> {
    match config.kind() {
        ProcessKind::Login | ProcessKind::Center | ProcessKind::Dc => Cache::open(zone, data).context("open the cache"),
        _ => Ok(Cache::None),
    }
}

impl Process {
    /// Its id.
    pub fn id(&self) -> &ProcessId {
        &self.config.id
    }

    /// The name under which it owns players and produces events: `scene-1/8271`.
    pub fn run_name(&self) -> String {
        format!("{}/{}", self.config.id, self.incarnation)
    }

    /// Checks the zone file, reads the secret, makes the folder, starts logs and metrics.
    ///
    /// # Errors
    /// When any of these fails, or the process is of another kind; the error says what to do.
    pub fn start(args: &ProcessArgs, kind: ProcessKind) -> anyhow::Result<Process> {
        if let Some(parent) = args.parent {
            end_with(parent)?;
        }
        raise_files_max()?;
        let zone = Zone::load(&args.zone, &args.data).context("read the zone file")?;
        let (config, folder, lock) = claim(&find(&zone, args, kind)?, args)?;
        crate::telemetry::start(&config.id.0, &folder, args.parent.is_none())?;
        let secret = ZoneSecret::load(&zone, &args.data)?;
        let cache = cache_of(&zone, &config, &args.data)?;
        let seed = args.seed.unwrap_or_else(crate::secret::chance);
        Ok(Self::assemble(zone, config, folder, lock, Keys { secret, cache, seed }))
    }

    /// A process for tests: `id` of `zone` with its folder in `data`, a secret that all such processes share, and nothing global
    /// (no logs, metrics, signals or limits).
    ///
    /// # Panics
    /// When the zone has no such process, or its folder can't be made or is in use.
    pub fn for_test(zone: &Zone, id: &str, data: &Path) -> Process {
        let config = zone.processes.get(&ProcessId(id.into())).expect("the zone has this process").clone();
        let folder = data.join(id);
        crate::fs::make_folder(&folder).expect("the folder can be made");
        let lock = lock(&folder, id).expect("the folder is not in use");
        let cache = cache_of(zone, &config, data).expect("the cache's URL is there");
        let keys = Keys { secret: ZoneSecret::new(b"a secret of tests"), cache, seed: 1 };
        Self::assemble(zone.clone(), config, folder, lock, keys)
    }

    fn assemble(zone: Zone, config: ProcessConfig, folder: PathBuf, lock: Lock, keys: Keys) -> Process {
        let Keys { secret, cache, seed } = keys;
        // Not from the seed: two runs must differ even if all else is repeated. 32 bits read well in names.
        let incarnation = (crate::secret::chance() >> 32).max(1);
        let (_, members) = Members::of_zone(&zone);
        let own = config.id.0.bytes().fold(seed, |seed, byte| seed.rotate_left(8) ^ u64::from(byte));
        Process {
            events: Events::new(&zone.name, &config.id.0, incarnation),
            config: Arc::new(config),
            zone: Arc::new(zone),
            folder,
            incarnation,
            secret,
            members,
            cache,
            random: Random::new(own),
            tasks: Tasks::new(),
            ready: Ready::default(),
            _lock: Arc::new(lock),
        }
    }

    fn tell(&self, state: &str) {
        self.events.emit(&Subject::default(), Body::ProcessState(ProcessState { state: state.into() }));
    }
}

/// Runs a process to its end: starts it, runs `run`, stops its tasks at SIGTERM or SIGINT or when `run` ends, and says why it failed.
///
/// `run` is expected to return soon after `process.tasks.stopped()`, drained.
pub fn main<R, F>(args: &ProcessArgs, kind: ProcessKind, run: R) -> ExitCode
where
    R: FnOnce(Process) -> F,
    F: Future<Output = anyhow::Result<()>>,
{
    let outcome = Process::start(args, kind).and_then(|process| block_on(process, run));
    let code = match &outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(err) if err.is::<WrongUsage>() => ExitCode::from(2),
        Err(_) => ExitCode::FAILURE,
    };
    if let Err(err) = outcome {
        tracing::error!("failed to {err:#}");
        eprintln!("{}: failed to {err:#}", args.id);
    }
    crate::telemetry::finish();
    code
}

fn block_on<R, F>(process: Process, run: R) -> anyhow::Result<()>
where
    R: FnOnce(Process) -> F,
    F: Future<Output = anyhow::Result<()>>,
{
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("start the runtime")?;
    let outcome = runtime.block_on(live(process, run));
    // Blocking work that hangs must not keep a process that is done.
    runtime.shutdown_timeout(RUNTIME_GRACE);
    outcome
}

/// From the start of `run` to the end of the last task.
async fn live<R, F>(process: Process, run: R) -> anyhow::Result<()>
where
    R: FnOnce(Process) -> F,
    F: Future<Output = anyhow::Result<()>>,
{
    tracing::info!(run = process.run_name(), pid = std::process::id(), "started");
    process.tell("started");
    process.tasks.spawn("tell ready", {
        let process = process.clone();
        async move {
            let ready = process.tasks.stop_token().run_until_cancelled_owned(async { process.ready.ready().await }).await;
            if ready.is_some() {
                process.tell("ready");
            }
        }
    });
    let mut running = Box::pin(run(process.clone()));
    let outcome = tokio::select! {
        biased; // the handler of signals stands before anything is started
        () = crate::signal::shutdown() => {
            tracing::info!("draining");
            process.tell("draining");
            process.tasks.stop_token().cancel();
            let drained = tokio::time::timeout(SHUTDOWN_GRACE, running).await;
            drained.unwrap_or_else(|_| Err(anyhow::anyhow!("drain within {} s", SHUTDOWN_GRACE.as_secs())))
        }
        ended = &mut running => ended,
    };
    process.tell("stopped");
    process.events.flush(EVENTS_GRACE).await;
    let stopped = process.tasks.stop(TASKS_GRACE).await;
    tracing::info!("stopped");
    outcome.and(stopped)
}

/// What the command line names in the zone file: one process, or the replicas of an entry.
fn find(zone: &Zone, args: &ProcessArgs, kind: ProcessKind) -> anyhow::Result<Vec<ProcessConfig>> {
    let file = args.zone.display();
    let found = zone.named(&args.id);
    let Some(config) = found.first() else {
        let ids: Vec<&str> = zone.processes.keys().map(|id| id.0.as_str()).collect();
        bail!(WrongUsage(format!("find `{}` in {file}: it has {}", args.id, ids.join(", "))));
    };
    if config.kind() != kind {
        bail!(WrongUsage(format!("run `{}` as a {kind}: {file} says that it is a {}", args.id, config.kind())));
    }
    Ok(found.into_iter().cloned().collect())
}

/// The first of them that nobody runs on this data, with its folder and what keeps others out. A replica that died leaves its place,
/// and what is in its folder, to the next that starts.
fn claim(found: &[ProcessConfig], args: &ProcessArgs) -> anyhow::Result<(ProcessConfig, PathBuf, Lock)> {
    let mut refused = None;
    for config in found {
        let folder = args.data.join(&config.id.0);
        crate::fs::make_folder(&folder)?;
        match lock(&folder, &config.id.0) {
            Ok(lock) => return Ok((config.clone(), folder, lock)),
            Err(err) => refused = Some(err),
        }
    }
    let refused = refused.expect("at least one process was found");
    if found.len() == 1 {
        return Err(refused);
    }
    let (id, count, data) = (&args.id, found.len(), args.data.display());
    Err(refused.context(format!("run one more `{id}`: all {count} run on {data}; raise processes.{id}.replicas in the zone file")))
}

fn lock(folder: &Path, id: &str) -> anyhow::Result<Lock> {
    match Lock::take(&folder.join("lock"))? {
        Ok(lock) => Ok(lock),
        Err(holder) => {
            bail!("use {}: process {holder} runs {id} there already; stop it, or give another --data DIR", folder.display())
        }
    }
}

/// Has the kernel send SIGTERM when the parent dies.
fn end_with(parent: u32) -> anyhow::Result<()> {
    nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGTERM).context("watch the parent process")?;
    // It may have died before the kernel was told.
    let now = nix::unistd::getppid().as_raw();
    anyhow::ensure!(u32::try_from(now) == Ok(parent), "watch the parent process: {parent} is gone");
    Ok(())
}

/// Every client is a file descriptor: takes as many as the system allows.
///
/// # Errors
/// When the system does not tell, or does not let it.
pub fn raise_files_max() -> anyhow::Result<()> {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).context("read the limit of open files")?;
    if soft < hard {
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard).context("raise the limit of open files")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(data: &Path, id: &str) -> ProcessArgs {
        let zone = data.join("zone.yaml");
        std::fs::write(&zone, crate::config::DEV_ZONE).unwrap();
        ProcessArgs { zone, id: id.into(), data: data.into(), seed: None, parent: None }
    }

    #[test]
    fn two_runs_in_one_folder_are_refused() {
        let data = tempfile::tempdir().unwrap();
        let zone = Zone::for_test(crate::config::DEV_ZONE).unwrap();
        let first = Process::for_test(&zone, "dc-1", data.path());
        let refused = lock(&first.folder, "dc-1").unwrap_err().to_string();
        assert!(refused.contains(&format!("process {} runs dc-1", std::process::id())), "{refused}");
        drop(first);
        Process::for_test(&zone, "dc-1", data.path());
    }

    #[test]
    fn a_name_that_the_zone_has_not_is_wrong_usage() {
        let data = tempfile::tempdir().unwrap();
        for (id, kind, expected) in
            [("gate-9", ProcessKind::Gate, "it has center-1, dc-1"), ("dc-1", ProcessKind::Gate, "says that it is a dc")]
        {
            let err = Process::start(&args(data.path(), id), kind).unwrap_err();
            assert!(err.is::<WrongUsage>() && err.to_string().contains(expected), "{err}");
        }
    }

    #[test]
    fn each_run_of_a_replicated_entry_is_the_first_that_is_free() {
        let data = tempfile::tempdir().unwrap();
        let text = crate::config::DEV_ZONE.replace("  gate-1:\n", "  gate:\n    replicas: 3\n    host: gate\n");
        let args = args(data.path(), "gate");
        let gates = find(&Zone::for_test(&text).unwrap(), &args, ProcessKind::Gate).unwrap();
        let mut held: Vec<_> = (0..3).map(|_| claim(&gates, &args).unwrap()).collect();
        let ids = |held: &[(ProcessConfig, PathBuf, Lock)]| held.iter().map(|(config, ..)| config.id.0.clone()).collect::<Vec<_>>();
        assert_eq!(ids(&held), ["gate-1", "gate-2", "gate-3"]);
        let full = format!("{:#}", claim(&gates, &args).unwrap_err());
        assert!(full.starts_with("run one more `gate`: all 3 run on"), "{full}");
        drop(held.remove(1));
        held.push(claim(&gates, &args).unwrap());
        assert_eq!(ids(&held), ["gate-1", "gate-3", "gate-2"]);
    }

    #[tokio::test]
    async fn a_process_that_ends_by_itself_ends_its_tasks() {
        let data = tempfile::tempdir().unwrap();
        let zone = Zone::for_test(crate::config::DEV_ZONE).unwrap();
        let process = Process::for_test(&zone, "dc-1", data.path());
        let tasks = process.tasks.clone();
        let run = async |process: Process| {
            let end = process.tasks.end_token();
            process.tasks.spawn("test", async move { end.cancelled().await });
            Ok(())
        };
        live(process, run).await.unwrap();
        assert!(tasks.is_stopping());
    }

    #[tokio::test]
    async fn a_failed_run_is_the_failure_of_the_process() {
        let data = tempfile::tempdir().unwrap();
        let zone = Zone::for_test(crate::config::DEV_ZONE).unwrap();
        let process = Process::for_test(&zone, "dc-1", data.path());
        let err = live(process, async |_| anyhow::bail!("open the store")).await.unwrap_err();
        assert_eq!(err.to_string(), "open the store");
    }
}
