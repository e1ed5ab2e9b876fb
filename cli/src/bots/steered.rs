//! Being one process of a [`super::crew::Crew`]: bots that do what lines on standard input say, and say on standard output what comes
//! of it.

use std::{io::BufRead, process::ExitCode, sync::Arc, time::Duration};

use anyhow::Context;
use client::bots::{BotOptions, Progress, Run, Tally};
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};

use crate::output;

/// Orders that may wait; more wait in the pipe.
const ORDERS_MAX: usize = 4;

/// What a process of bots is told. The end of its standard input means: let them say goodbye, and end.
#[derive(Serialize, Deserialize)]
pub(super) enum Order {
    /// Let them act; count them after so long.
    Act { warm_up_ms: u64 },
    /// Say what they counted since they last began to be counted, and let them act on, counted anew.
    Lap,
}

/// What it says.
#[derive(Serialize, Deserialize)]
pub(super) enum Said {
    /// How far it is.
    Progress(Progress),
    /// Every bot is in the world, or has given up.
    Gathered,
    /// They have acted.
    Counted(Box<Tally>),
    /// They have said goodbye.
    Ended(Box<Tally>),
}

/// Runs the bots until standard input ends.
pub(super) fn run(mut options: BotOptions) -> anyhow::Result<ExitCode> {
    options.on_progress = Some(Arc::new(|progress| say(&Said::Progress(*progress))));
    let (orders, ended) = listen();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("start the runtime")?;
    let tally = runtime.block_on(async {
        let bots = Run::start(options).context("run the bots")?;
        tokio::select! {
            () = follow(&bots, orders) => {}
            // Whoever steers may go while the bots log in or act.
            _ = ended => {}
        }
        anyhow::Ok(bots.end().await)
    })?;
    say(&Said::Ended(Box::new(tally)));
    Ok(ExitCode::SUCCESS)
}

/// The orders as they come, and their end.
fn listen() -> (mpsc::Receiver<Order>, oneshot::Receiver<()>) {
    let (give, orders) = mpsc::channel(ORDERS_MAX);
    let (end, ended) = oneshot::channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            match serde_json::from_str(&line) {
                // Full: the next one waits in the pipe.
                Ok(order) => _ = give.blocking_send(order),
                Err(err) => eprintln!("zone bots: nobody understands the order `{line}`: {err}"),
            }
        }
        drop(end);
    });
    (orders, ended)
}

/// Does what it is told, until there is no more.
async fn follow(bots: &Run, mut orders: mpsc::Receiver<Order>) {
    bots.gather().await;
    say(&Said::Gathered);
    let mut is_walking = false;
    loop {
        let order = tokio::select! {
            order = orders.recv() => order,
            () = bots.keep_telling(), if is_walking => None,
        };
        let tally = match order {
            None => return,
            Some(Order::Act { warm_up_ms }) => {
                bots.act(Duration::from_millis(warm_up_ms)).await;
                let tally = bots.tally();
                bots.rest();
                tally
            }
            Some(Order::Lap) => bots.lap(),
        };
        is_walking = matches!(order, Some(Order::Lap));
        say(&Said::Counted(Box::new(tally)));
    }
}

fn say(what: &Said) {
    output::line(serde_json::to_string(what).expect("what is said is numbers and names"));
}
