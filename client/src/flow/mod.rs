//! Flows: conversations with a zone, written as YAML and replayed against it. `deploy/flows/README.md` has the format.
//!
//! [`parse`] turns a file into a [`step::Flow`] and refuses what can't be meant; [`run_all`] plays flows, several at once, each with its own
//! clients ([`peer`]) and [`vars`]; [`matching`] compares, and a [`report::Report`] is printed ([`diff`]) or written as JSON or [`junit`].

mod diff;
mod given;
mod junit;
mod matching;
mod parse;
mod peer;
mod raw;
mod report;
mod run;
mod search;
mod step;
mod vars;
mod walk;

use std::{
    future::Future,
    path::PathBuf,
    pin::Pin,
    sync::Arc,
    time::{Duration, Instant},
};

use serde_json::Value;
use tokio::sync::Semaphore;

pub use parse::{FlowError, load};
pub use report::{Difference, Failure, FlowResult, Outcome, Received, Report};
pub use step::Flow;

use crate::{
    address::Address,
    connection::{ConnectOptions, Connection},
    fault::ConnectionError,
};

/// What a GM command gives, once it is done.
pub type GmAnswer<'a> = Pin<Box<dyn Future<Output = Result<Value, String>> + Send + 'a>>;

/// How flows reach the zone's GM commands; this crate knows clients' connections only.
pub trait GmAccess: Send + Sync {
    /// Runs a command. The error is what the zone says for people.
    fn run<'a>(&'a self, command: &'a str, arguments: Value, reason: &'a str) -> GmAnswer<'a>;
}

/// Is told each result as soon as it is there.
pub type OnResult = Arc<dyn Fn(&FlowResult) + Send + Sync>;

/// What to run, and against what.
#[derive(Clone)]
pub struct RunOptions {
    /// The flows.
    pub flows: Vec<Flow>,
    /// The zone's gates; a flow's `gate: 1` is the first.
    pub against: Vec<Address>,
    /// How connections are made.
    pub connect: ConnectOptions,
    /// The zone's GM commands; none: flows that need them are skipped.
    pub gm: Option<Arc<dyn GmAccess>>,
    /// Flows that run at the same time; those that disturb others run alone, afterwards.
    pub parallel: usize,
    /// Is told each result.
    pub on_result: Option<OnResult>,
}

impl RunOptions {
    /// Eight flows at the same time, no GM commands.
    pub fn new(flows: Vec<Flow>, against: Vec<Address>) -> Self {
        Self { flows, against, connect: ConnectOptions::default(), gm: None, parallel: 8, on_result: None }
    }
}

/// What holds for every flow of a run.
pub(crate) struct Zone {
    against: Vec<Address>,
    connect: ConnectOptions,
    gm: Option<Arc<dyn GmAccess>>,
    resume_window: Duration,
}

/// Runs all flows.
///
/// # Errors
/// When the first gate can't be reached: then no flow would say more than that.
pub async fn run_all(options: RunOptions) -> Result<Report, ConnectionError> {
    let started = Instant::now();
    let zone = Arc::new(probe(&options).await?);
    let (alone, together): (Vec<Flow>, Vec<Flow>) = options.flows.into_iter().partition(|flow| flow.needs.exclusive);
    let permits = Arc::new(Semaphore::new(options.parallel.max(1)));
    let mut running = Vec::new();
    for flow in together {
        let (zone, permits, on_result) = (zone.clone(), permits.clone(), options.on_result.clone());
        running.push(tokio::spawn(Box::pin(async move {
            let _permit = permits.acquire_owned().await;
            run_one(&zone, &flow, on_result.as_ref()).await
        })));
    }
    let mut flows = Vec::new();
    for task in running {
        flows.push(task.await.expect("a flow does not panic, and nobody cancels it"));
    }
    for flow in alone {
        flows.push(run_one(&zone, &flow, options.on_result.as_ref()).await);
    }
    Ok(Report::new(flows, started.elapsed()))
}

/// The flow files in these paths: files as they are, folders with every `*.yaml` in them, by name.
///
/// # Errors
/// When a folder can't be read.
pub fn files(paths: &[PathBuf]) -> std::io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for path in paths {
        if !path.is_dir() {
            files.push(path.clone());
            continue;
        }
        let mut inside: Vec<PathBuf> = std::fs::read_dir(path)?.map(|entry| entry.map(|entry| entry.path())).collect::<Result<_, _>>()?;
        inside.retain(|file| file.extension().is_some_and(|extension| extension == "yaml"));
        inside.sort();
        files.extend(inside);
    }
    Ok(files)
}

async fn probe(options: &RunOptions) -> Result<Zone, ConnectionError> {
    let first = options.against.first().ok_or(ConnectionError::Unexpected("no address"))?;
    let connection = Box::pin(Connection::greet(first, &options.connect)).await?;
    Ok(Zone {
        against: options.against.clone(),
        connect: options.connect.clone(),
        gm: options.gm.clone(),
        resume_window: connection.session().resume_window,
    })
}

async fn run_one(zone: &Zone, flow: &Flow, on_result: Option<&OnResult>) -> FlowResult {
    let started = Instant::now();
    let outcome = match unmet(zone, flow) {
        Some(reason) => Outcome::Skipped { reason },
        None => match Box::pin(run::run(zone, flow)).await {
            Ok(()) => Outcome::Passed,
            Err(failure) => Outcome::Failed { failure },
        },
    };
    let result = FlowResult::new(flow, outcome, started.elapsed());
    if let Some(tell) = on_result {
        tell(&result);
    }
    result
}

/// The first need of the flow that this run does not meet.
fn unmet(zone: &Zone, flow: &Flow) -> Option<String> {
    let needs = &flow.needs;
    if needs.gm && zone.gm.is_none() {
        return Some("needs GM access".into());
    }
    if zone.against.len() < needs.gates {
        return Some(format!("needs {} gates, has {}", needs.gates, zone.against.len()));
    }
    let most = needs.resume_window_max?;
    (most < zone.resume_window).then(|| format!("needs a resume window of at most {most:?}, the zone's is {:?}", zone.resume_window))
}

#[cfg(test)]
mod tests;
