//! Where a benchmark runs, and whether anything else does.

use std::{path::Path, process::ExitCode, time::Duration};

use anyhow::Context;
use serde::Serialize;

use super::document::Begun;

/// Less idle than this, and a figure says more about the neighbours than about the zone.
const IDLE_PERCENT_MIN: f64 = 93.0;
/// How long is looked.
const IDLE_WITHIN: Duration = Duration::from_secs(2);

/// The machine.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Machine {
    /// Those that this process may use.
    pub cores: usize,
    pub cpu: String,
    pub memory_gib: f64,
    pub kernel: String,
}

impl Machine {
    /// This one.
    pub(crate) fn this() -> anyhow::Result<Self> {
        let read = |path: &str| service::fs::read_text(Path::new(path)).context("look at the machine");
        let field = |text: &str, key: &str| {
            text.lines()
                .find_map(|line| line.split_once(':').filter(|(name, _)| name.trim() == key).map(|(_, value)| value.trim().to_owned()))
        };
        let memory = field(&read("/proc/meminfo")?, "MemTotal").unwrap_or_default();
        let memory_kib: f64 = memory.trim_end_matches("kB").trim().parse().unwrap_or_default();
        Ok(Self {
            cores: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            cpu: field(&read("/proc/cpuinfo")?, "model name").unwrap_or_else(|| "unknown".into()),
            memory_gib: memory_kib / 1_048_576.0,
            kernel: read("/proc/sys/kernel/osrelease")?.trim().to_owned(),
        })
    }
}

/// How idle the machine was.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Idle {
    pub percent: f64,
    pub is_good: bool,
}

impl Idle {
    /// Looks for two seconds.
    pub(crate) fn measure() -> anyhow::Result<Self> {
        let before = Times::now()?;
        std::thread::sleep(IDLE_WITHIN);
        Ok(Self::between(&before, &Times::now()?))
    }

    fn between(before: &Times, after: &Times) -> Self {
        let all = after.all.saturating_sub(before.all).max(1);
        let percent = after.idle.saturating_sub(before.idle) as f64 * 100.0 / all as f64;
        Self { percent, is_good: IDLE_PERCENT_MIN <= percent }
    }
}

/// The first line of /proc/stat.
struct Times {
    idle: u64,
    all: u64,
}

impl Times {
    fn now() -> anyhow::Result<Self> {
        let text = service::fs::read_text(Path::new("/proc/stat")).context("look whether the machine is idle")?;
        Self::parse(&text).context("understand /proc/stat")
    }

    /// Waiting for a disk counts as idle. Fields: user, nice, system, idle, iowait, irq, softirq, steal (proc(5)); guests are in user.
    fn parse(text: &str) -> Option<Self> {
        let line = text.lines().next()?.strip_prefix("cpu ")?;
        let fields: Vec<u64> = line.split_whitespace().take(8).map_while(|field| field.parse().ok()).collect();
        (5 <= fields.len()).then(|| Self { idle: fields[3] + fields[4], all: fields.iter().sum() })
    }
}

/// `zone bench machine`. Fails when the machine is too busy to measure on.
pub(super) fn run(json: bool) -> anyhow::Result<ExitCode> {
    let document = Begun::now("machine")?.end((), ())?;
    document
        .print(json, |_| format!("fit to measure on: {}", if document.idle.is_good { "yes" } else { "no, something else is running" }))?;
    Ok(if document.idle.is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_for_a_disk_is_idle() {
        let before = Times::parse("cpu  100 0 50 800 50 0 0 0 0 0\ncpu0 1 2 3\n").unwrap();
        let after = Times::parse("cpu  105 0 50 880 65 0 0 0 0 0\n").unwrap();
        let idle = Idle::between(&before, &after);
        assert_eq!(idle, Idle { percent: 95.0, is_good: true });
    }

    #[test]
    fn this_machine_has_a_core_and_memory() {
        let machine = Machine::this().unwrap();
        assert!(0 < machine.cores && 0.0 < machine.memory_gib && !machine.kernel.is_empty());
    }
}
