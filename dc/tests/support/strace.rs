//! Faults in what a running program asks of the kernel: `strace` attached to it kills it at, fails, or delays a call on some files.
//!
//! strace counts calls for each thread of the program, and only those on the files that it is given.
#![allow(dead_code, reason = "every test that takes this file in uses another part of it")]

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Read},
    path::{Path, PathBuf},
    process::{Child, ChildStderr, Command, Stdio},
};

/// A tracer that is attached. Dropped, it leaves a program that has ended, or was about to.
pub struct Strace {
    child: Child,
    /// Open as long as it runs: it writes there, and is done when it ends.
    said: BufReader<ChildStderr>,
}

impl Strace {
    /// Why no program can be traced on this machine; `None`: one can.
    pub fn missing() -> Option<String> {
        let tried = Command::new("strace").args(["-qq", "-e", "trace=none", "true"]).output();
        match tried {
            Ok(output) if output.status.success() => None,
            Ok(output) => Some(format!("strace can't trace here: {}", String::from_utf8_lossy(&output.stderr).trim())),
            Err(_) => Some("no strace on this machine: run deploy/install-test-servers.sh".into()),
        }
    }

    /// Attaches to a program with a rule such as `fdatasync:error=EIO:when=3` for calls on these files; none: for all calls. Returns when
    /// the rule holds.
    pub fn inject(pid: u32, rule: &str, files: &[PathBuf]) -> Self {
        Self::attach(pid, &injecting(rule, files))
    }

    /// Writes down the calls.
    pub fn record(pid: u32, calls: &str, files: &[PathBuf], to: &Path) -> Self {
        Self::attach(pid, &recording(calls, files, to))
    }

    /// Lets the program go on: no call is under a rule any more, and what was recorded is there.
    pub fn detach(mut self) {
        drop(Command::new("kill").args(["-INT", &self.child.id().to_string()]).status());
        drop(self.said.read_to_string(&mut String::new()));
        self.child.wait().unwrap();
    }

    fn attach(pid: u32, tracer: &[String]) -> Self {
        let mut command = Command::new(&tracer[0]);
        command.args(&tracer[1..]).args(["-p", &pid.to_string()]);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut said = BufReader::new(child.stderr.take().unwrap());
        let mut all = String::new();
        while !all.contains(" attached") {
            assert!(said.read_line(&mut all).unwrap() > 0, "strace does not attach: {all}");
        }
        Self { child, said }
    }
}

/// The words that, before a command, run it with a rule, as [`Strace::inject`].
pub fn injecting(rule: &str, files: &[PathBuf]) -> Vec<String> {
    let call = rule.split(':').next().unwrap();
    words("/dev/null", &format!("trace={call}"), &format!("inject={rule}"), files)
}

/// The words that, before a command, write down its calls.
pub fn recording(calls: &str, files: &[PathBuf], to: &Path) -> Vec<String> {
    words(&to.display().to_string(), &format!("trace={calls}"), "signal=none", files)
}

fn words(to: &str, calls: &str, rule: &str, files: &[PathBuf]) -> Vec<String> {
    let words = ["strace", "-f", "-s", "0", "-o", to, "-e", calls, "-e", rule].map(str::to_owned);
    words.into_iter().chain(files.iter().flat_map(|file| ["-P".to_owned(), file.display().to_string()])).collect()
}

/// How often each kind of call is in a record: the most that one thread made, as strace counts for a rule.
pub fn lasts(record: &Path) -> BTreeMap<String, u64> {
    let mut threads: BTreeMap<(String, String), u64> = BTreeMap::new();
    for line in std::fs::read_to_string(record).unwrap().lines() {
        let Some((thread, rest)) = line.split_once(' ') else { continue };
        // `<... write resumed>)` was counted when it began.
        let call = rest.trim_start().split_once('(').map(|(call, _)| call).filter(|call| !call.contains(' '));
        if let Some(call) = call {
            *threads.entry((call.into(), thread.into())).or_default() += 1;
        }
    }
    let mut lasts = BTreeMap::new();
    for ((call, _), count) in threads {
        let last: &mut u64 = lasts.entry(call).or_default();
        *last = count.max(*last);
    }
    lasts
}

impl Drop for Strace {
    fn drop(&mut self) {
        // Asked to leave, it would wait for ever for a program that is just dying.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
