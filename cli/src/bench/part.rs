//! The parts of a benchmark that are processes of their own, so that their processor time is not the measured one's: clients, and what
//! a gate or a zone is compared with.
//!
//! A part is this program with a hidden subcommand. It says one line of JSON when it is ready, and then one for each order that it reads
//! from its standard input; it ends when that does.

use std::{
    io::{BufRead, BufReader, Write},
    process::{Child, ChildStdin, ChildStdout, Command, ExitCode, Stdio},
};

use anyhow::Context;
use serde::{Serialize, de::DeserializeOwned};

use super::{
    gate::{clients, hostile_clients, reference},
    process::Usage,
    zone::bare,
};
use crate::output;

/// Which part.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    part: Kind,
}

#[derive(clap::Subcommand)]
enum Kind {
    Clients(clients::Args),
    Reference(reference::Args),
    Hostile(hostile_clients::Args),
    Bare(bare::Args),
}

/// Is a part, until its standard input ends.
pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    service::process::raise_files_max()?;
    match &args.part {
        Kind::Clients(args) => clients::run(args)?,
        Kind::Reference(args) => reference::run(args)?,
        Kind::Hostile(args) => hostile_clients::run(args)?,
        Kind::Bare(args) => bare::run(args)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Says a line to whoever started this part.
pub(crate) fn say(what: &impl Serialize) -> anyhow::Result<()> {
    output::line(serde_json::to_string(what).context("write a line")?);
    Ok(())
}

/// A part that runs; it is ended with its handle.
pub(crate) struct Part {
    child: Child,
    orders: ChildStdin,
    said: BufReader<ChildStdout>,
}

impl Part {
    /// Starts a part and waits until it is ready.
    pub(crate) fn start<R: DeserializeOwned>(args: &[&str]) -> anyhow::Result<(Self, R)> {
        let program = std::env::current_exe().context("find this program's file")?;
        let mut command = Command::new(program);
        command.args(["bench", "part"]).args(args).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().with_context(|| format!("start {}", args.join(" ")))?;
        let orders = child.stdin.take().context("reach the part's input")?;
        let said = BufReader::new(child.stdout.take().context("reach the part's output")?);
        let mut part = Self { child, orders, said };
        let ready = part.hear().with_context(|| format!("wait for {}", args.join(" ")))?;
        Ok((part, ready))
    }

    /// Gives an order, and goes on while it is carried out.
    pub(crate) fn order(&mut self, order: &impl Serialize) -> anyhow::Result<()> {
        let line = serde_json::to_string(order).context("write an order")?;
        writeln!(self.orders, "{line}").context("give an order")
    }

    /// What it says next.
    pub(crate) fn hear<R: DeserializeOwned>(&mut self) -> anyhow::Result<R> {
        let mut line = String::new();
        self.said.read_line(&mut line).context("hear a part of the benchmark")?;
        serde_json::from_str(&line).with_context(|| format!("understand a part of the benchmark, which said `{}`", line.trim()))
    }

    /// What it has used.
    pub(crate) fn usage(&self) -> anyhow::Result<Usage> {
        Usage::of(self.child.id())
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        // It may have ended by itself.
        _ = self.child.kill();
        _ = self.child.wait();
    }
}
