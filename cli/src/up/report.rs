//! What `zone up` tells: people a progress line, a table and sentences; scripts one JSON object a line.

use std::{
    io::{IsTerminal, Write},
    path::{Path, PathBuf},
    process::ExitStatus,
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Map, Value, json};
use service::ProcessKind;

use super::{
    child::{Child, State},
    prepare::Prepared,
};

/// Where nobody sees a progress line, what the zone waits for is said after this long.
const QUIET: Duration = Duration::from_secs(3);

/// Tells people or scripts.
pub(super) struct Report {
    json: bool,
    progress: ProgressBar,
    since: Instant,
    said: String,
    /// Whether the zone's table was told.
    told_ready: bool,
    /// Whether the GM's password was there before this start; then it was printed before.
    had_password: bool,
}

impl Report {
    pub(super) fn new(json: bool) -> Self {
        let progress = if json { ProgressBar::hidden() } else { ProgressBar::new_spinner() };
        let style = ProgressStyle::with_template("{spinner} {msg}").expect("the template is one");
        progress.set_style(style);
        Self { json, progress, since: Instant::now(), said: String::new(), told_ready: false, had_password: false }
    }

    /// One line for scripts, or for people.
    fn tell(&self, event: &Value, sentence: &str) {
        let line = if self.json { event.to_string() } else { sentence.to_owned() };
        self.progress.suspend(|| {
            let mut out = std::io::stdout().lock();
            // Nobody reads any more: the zone goes on.
            _ = writeln!(out, "{line}").and_then(|()| out.flush());
        });
    }

    pub(super) fn starting(&mut self, prepared: &Prepared) {
        self.had_password = password_file(prepared).is_file();
        let count = prepared.zone.processes.len();
        let event = json!({ "event": "starting", "zone_file": prepared.file, "data": prepared.data, "processes": count });
        self.progress.set_message("starting");
        self.tell(&event, &format!("starting zone `{}`: {count} processes, state in {}", prepared.zone.name, prepared.data.display()));
    }

    /// Before the zone is ready: for whom it waits.
    pub(super) fn progress<'a>(&mut self, children: impl Iterator<Item = &'a Child>) {
        let not_ready: Vec<String> = children.filter_map(waits).collect();
        let sentence = format!("waiting for {}", not_ready.join(", "));
        self.progress.set_message(sentence.clone());
        self.progress.tick();
        let unseen = !self.json && !std::io::stderr().is_terminal() && QUIET < self.since.elapsed();
        if unseen && !not_ready.is_empty() && sentence != self.said {
            eprintln!("{sentence}");
            self.said = sentence;
        }
    }

    pub(super) fn state(&self, child: &Child, before: &State) {
        let id = &child.config.id;
        match &child.state {
            State::Ready => {
                let event = json!({ "event": "process_ready", "id": id, "pid": child.pid() });
                // Before the table, the progress line says it.
                if self.told_ready { self.tell(&event, &format!("{id} is ready")) } else { self.tell_script(&event) }
            }
            State::Waiting(whom) if *before == State::Ready => {
                let event = json!({ "event": "not_ready", "id": id, "waiting_for": whom });
                self.tell(&event, &format!("{id} can't serve: it waits for {}", whom.join(", ")));
            }
            State::Waiting(whom) => self.tell_script(&json!({ "event": "waiting", "id": id, "waiting_for": whom })),
            State::Starting | State::Down => (),
        }
    }

    /// What is too much for people.
    fn tell_script(&self, event: &Value) {
        if self.json {
            self.tell(event, "");
        }
    }

    /// The zone is ready, but for those that stay down and those that wait for them.
    pub(super) fn ready<'a>(&mut self, prepared: &Prepared, children: impl Iterator<Item = &'a Child>) {
        self.told_ready = true;
        self.progress.finish_and_clear();
        let took = self.since.elapsed();
        let children: Vec<&Child> = children.collect();
        let password = password_file(prepared);
        let whole = children.iter().all(|child| child.state == State::Ready);
        if self.json {
            let processes: Vec<Value> = children.iter().map(|child| described(child)).collect();
            let event = json!({
                "event": if whole { "ready" } else { "not_whole" }, "zone_file": prepared.file, "data": prepared.data, "took_ms": took.as_millis() as u64,
                "processes": processes, "gm_password_file": password,
            });
            return self.tell(&event, "");
        }
        let mut table = crate::tables::table(&["process", "kind", "pid", "addresses", "state"]);
        for child in children {
            // A name and its address stay on one line of a narrow terminal.
            let space = if std::io::stdout().is_terminal() { '\u{a0}' } else { ' ' };
            let addresses: Vec<String> = child.config.addresses().iter().map(|(name, address)| format!("{name}{space}{address}")).collect();
            let pid = child.pid().map(|pid| pid.to_string()).unwrap_or_default();
            let state = match &child.state {
                State::Ready => "ready".to_owned(),
                State::Down => "down".to_owned(),
                State::Waiting(whom) => format!("waits for {}", whom.join(", ")),
                State::Starting => "starting".to_owned(),
            };
            table.add_row([child.config.id.0.clone(), child.config.kind().to_string(), pid, addresses.join("  "), state]);
        }
        let data = prepared.data.display();
        let mut text = format!(
            "{}\n{} in {:.1} s; logs are in {data}/<process>/<process>.log; stop with Ctrl-C",
            table.trim_fmt(),
            if whole { "ready" } else { "what can be is ready" },
            took.as_secs_f64()
        );
        text += &self.about_password(&password);
        self.tell(&Value::Null, &text);
    }

    /// Where the GM's password is, and the password itself if it was made in this start.
    fn about_password(&self, file: &Path) -> String {
        let (Ok(made), file) = (std::fs::read_to_string(file), file.display()) else { return String::new() };
        // The file has the account and the password.
        match made.split_once(' ') {
            Some((account, password)) if !self.had_password => {
                format!("\nthe GM account is `{account}`, its password `{}` (kept in {file}; not printed again)", password.trim())
            }
            _ => format!("\nthe GM account and its password are in {file}"),
        }
    }

    pub(super) fn died(&self, child: &Child, status: ExitStatus) {
        let event = json!({ "event": "died", "id": child.config.id, "status": status.to_string() });
        let how = if status.success() { "ended, though nobody stopped the zone".to_owned() } else { format!("died: {status}") };
        self.tell(&event, &format!("{} {how}", child.config.id));
    }

    pub(super) fn restarted(&self, child: &Child) {
        let event = json!({ "event": "restarted", "id": child.config.id, "pid": child.pid() });
        self.tell(&event, &format!("{} restarted, pid {}", child.config.id, child.pid().unwrap_or_default()));
    }

    pub(super) fn gave_up(&self, child: &Child, why: &str, prepared: &Prepared) {
        let (id, data, file) = (&child.config.id, prepared.data.display(), prepared.file.display());
        let event = json!({ "event": "gave_up", "id": id, "why": why });
        let how = format!(
            "see {data}/{id}/{id}.log; start it by hand with `zone run {id} --zone {file} --data {data}`, or stop this and start anew"
        );
        self.tell(&event, &format!("{id} stays down, the rest goes on: {why}; {how}"));
    }

    pub(super) fn stopping(&self, why: &str) {
        self.progress.finish_and_clear();
        self.tell(&json!({ "event": "stopping", "why": why }), &format!("stopping: {why}"));
    }

    pub(super) fn stopping_process(&self, child: &Child) {
        self.tell(&json!({ "event": "stopping_process", "id": child.config.id }), &format!("stopping {}", child.config.id));
    }

    pub(super) fn process_stopped(&self, child: &Child, status: ExitStatus, in_order: bool) {
        let id = &child.config.id;
        let event = json!({ "event": "process_stopped", "id": id, "status": status.to_string() });
        if in_order {
            self.tell_script(&event);
        } else {
            self.tell(&event, &format!("{id} did not stop in order: {status}; see its log"));
        }
    }

    pub(super) fn killed(&self, child: &Child, after: Duration) {
        let id = &child.config.id;
        let event = json!({ "event": "killed", "id": id });
        self.tell(&event, &format!("{id} did not stop within {} s and is killed: what it had not saved is lost", after.as_secs()));
    }

    pub(super) fn stopped(&self, in_order: bool) {
        let sentence = if in_order { "stopped, everything is saved" } else { "stopped, but not in order" };
        self.tell(&json!({ "event": "stopped", "ok": in_order }), sentence);
    }
}

/// Where center keeps the password that it made for the first GM account.
fn password_file(prepared: &Prepared) -> PathBuf {
    let center = prepared.zone.of(ProcessKind::Center).next().map(|center| center.id.0.as_str());
    prepared.data.join(center.unwrap_or_default()).join("gm.password")
}

/// A process that is not ready, and why; nothing for one that is.
fn waits(child: &Child) -> Option<String> {
    let id = &child.config.id;
    match &child.state {
        State::Ready => None,
        State::Waiting(whom) if !whom.is_empty() => Some(format!("{id} (which waits for {})", whom.join(", "))),
        State::Waiting(_) | State::Starting => Some(id.to_string()),
        State::Down => Some(format!("{id} (down)")),
    }
}

fn described(child: &Child) -> Value {
    let addresses: Map<String, Value> =
        child.config.addresses().into_iter().map(|(name, address)| (name.to_owned(), address.to_string().into())).collect();
    json!({ "id": child.config.id, "kind": child.config.kind(), "pid": child.pid(), "addresses": addresses })
}
