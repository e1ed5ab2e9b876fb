//! What a process has used, as the kernel counts it.

use std::{ops::Add, path::PathBuf};

use anyhow::Context;
use serde::Serialize;

/// Processor time and memory of a process so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Usage {
    pub user_s: f64,
    pub system_s: f64,
    pub rss_bytes: u64,
    pub rss_peak_bytes: u64,
}

impl Add for Usage {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            user_s: self.user_s + other.user_s,
            system_s: self.system_s + other.system_s,
            rss_bytes: self.rss_bytes + other.rss_bytes,
            rss_peak_bytes: self.rss_peak_bytes + other.rss_peak_bytes,
        }
    }
}

impl Usage {
    /// Of a running process.
    ///
    /// # Errors
    /// When there is none of this number.
    pub(crate) fn of(pid: u32) -> anyhow::Result<Self> {
        let folder = PathBuf::from(format!("/proc/{pid}"));
        let stat = service::fs::read_text(&folder.join("stat")).context("read what a process has used")?;
        let status = service::fs::read_text(&folder.join("status")).context("read what a process has used")?;
        Self::parse(&stat, &status).with_context(|| format!("understand /proc/{pid}"))
    }

    /// Of this process.
    pub(crate) fn own() -> anyhow::Result<Self> {
        Self::of(std::process::id())
    }

    /// Processor time, in the kernel and outside.
    pub(crate) fn cpu_s(&self) -> f64 {
        self.user_s + self.system_s
    }

    fn parse(stat: &str, status: &str) -> Option<Self> {
        // The program's name, in parentheses, may hold anything: fields are counted from behind it (proc(5): utime is field 14).
        let (_, fields) = stat.rsplit_once(')')?;
        let ticks = |field: usize| Some(fields.split_whitespace().nth(field - 3)?.parse::<f64>().ok()? / TICKS_PER_S);
        let kib = |key: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
            Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
        };
        Some(Self { user_s: ticks(14)?, system_s: ticks(15)?, rss_bytes: kib("VmRSS")?, rss_peak_bytes: kib("VmHWM")? })
    }
}

/// `USER_HZ`, which Linux shows to programs as 100 on every machine (proc(5), time(7)).
const TICKS_PER_S: f64 = 100.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_and_spaces_is_passed_over() {
        let stat = "7 (a b) c) S 1 7 7 0 -1 4194304 100 0 0 0 250 50 0 0 20 0 4 0 100 0 0";
        let usage = Usage::parse(stat, "Name:\tx\nVmHWM:\t   2048 kB\nVmRSS:\t   1024 kB\n").unwrap();
        assert_eq!(usage, Usage { user_s: 2.5, system_s: 0.5, rss_bytes: 1 << 20, rss_peak_bytes: 2 << 20 });
        assert_eq!(usage.cpu_s(), 3.0);
    }

    #[test]
    fn this_process_has_used_something() {
        assert!(0 < Usage::own().unwrap().rss_bytes);
        assert!(Usage::of(u32::MAX).is_err());
    }
}
