//! Logs of a process (a file in its data folder, and standard error when it was started by hand) and its metrics.

use std::{
    io::{self, IsTerminal, Write},
    path::{Path, PathBuf},
    sync::{Mutex, OnceLock},
};

use anyhow::Context;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use tracing_appender::non_blocking::{NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::{EnvFilter, layer::SubscriberExt, util::SubscriberInitExt};

/// Chooses what is logged, in the syntax of tracing's `EnvFilter`.
const FILTER_VARIABLE: &str = "PAIFANG_LOG";
/// Lines that may wait for the disk; more are dropped, so that no tick waits for a log.
const LINES_MAX: usize = 16 * 1024;
/// A log file of this size becomes `<name>.old`, in place of the one before it.
const FILE_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Bounds of histograms, in seconds: from a fast function to a stuck one.
const BUCKETS: [f64; 16] = [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

static METRICS: OnceLock<PrometheusHandle> = OnceLock::new();
static LOG_WRITER: Mutex<Option<WorkerGuard>> = Mutex::new(None);

/// Starts logging to `folder`/`process`.log (`PAIFANG_LOG` filters, default `info`) and installs the metrics recorder.
///
/// # Errors
/// When the file can't be opened, `PAIFANG_LOG` is no filter, or this program logs already.
pub fn start(process: &str, folder: &Path, to_stderr: bool) -> anyhow::Result<()> {
    let filter = match std::env::var(FILTER_VARIABLE) {
        Ok(filter) => {
            EnvFilter::try_new(filter).with_context(|| format!("read {FILTER_VARIABLE}: write for example `info,scene=debug`"))?
        }
        Err(_) => EnvFilter::new("info"),
    };
    let file = LogFile::open(folder.join(format!("{process}.log")))?;
    let (writer, guard) = NonBlockingBuilder::default().buffered_lines_limit(LINES_MAX).finish(file);
    let to_file = tracing_subscriber::fmt::layer().with_ansi(false).with_writer(writer);
    let to_stderr = to_stderr.then(|| tracing_subscriber::fmt::layer().with_ansi(io::stderr().is_terminal()).with_writer(io::stderr));
    tracing_subscriber::registry().with(filter).with(to_file).with(to_stderr).try_init().context("start logging")?;
    *LOG_WRITER.lock().expect("no holder panics") = Some(guard);
    let recorder = PrometheusBuilder::new().set_buckets(&BUCKETS).context("set the histograms' bounds")?.build_recorder();
    if METRICS.set(recorder.handle()).is_ok() {
        metrics::set_global_recorder(recorder).map_err(|err| anyhow::anyhow!("install the metrics recorder: {err}"))?;
    }
    log_panics();
    Ok(())
}

/// All metrics in Prometheus' text format; empty where no recorder was installed.
pub fn render() -> String {
    METRICS.get().map(PrometheusHandle::render).unwrap_or_default()
}

/// Folds what histograms gathered into their buckets: without it they grow where nobody reads the metrics.
pub(crate) fn upkeep() {
    if let Some(metrics) = METRICS.get() {
        metrics.run_upkeep();
    }
}

/// Writes the lines that still wait; what is logged after it is lost.
pub(crate) fn finish() {
    drop(LOG_WRITER.lock().expect("no holder panics").take());
}

/// A panic ends one task, not the process: it has to be seen in the log.
fn log_panics() {
    let print = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        tracing::error!(place, "panic: {}", panic.payload_as_str().unwrap_or("of an unknown type"));
        print(panic);
    }));
}

/// A log file that does not grow for ever.
struct LogFile {
    path: PathBuf,
    file: crate::fs::File,
    bytes: u64,
}

impl LogFile {
    fn open(path: PathBuf) -> io::Result<Self> {
        let file = crate::fs::append(&path)?;
        let bytes = file.metadata()?.len();
        Ok(Self { path, file, bytes })
    }
}

impl Write for LogFile {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if FILE_BYTES_MAX <= self.bytes {
            crate::fs::rename(&self.path, &self.path.with_extension("log.old"))?;
            *self = Self::open(self.path.clone())?;
        }
        let written = self.file.write(line)?;
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}
