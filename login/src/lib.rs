//! The login process: who you are. It registers accounts, checks passwords, keeps an account's roles, and asks center to bring a
//! role into the world.
//!
//! It promises: a password is never stored, printed or logged, and is checked on a bounded number of threads; an unknown account and
//! a wrong password look the same, in text and in work; nobody can lock another one's account. It keeps nothing that matters: what it
//! knows of a session came from the session's gate, which says it again after a restart.
//!
//! Read in this order: `server` (what arrives, and the life of a request), `waiting` (where a login waits for its turn), `requests` (one
//! file a subject), `sessions`, then the pure rules `queue`, `budget` and `faults`, and `password` (argon2id). `peers` says when the
//! process can serve.
#![forbid(unsafe_code)]

mod budget;
mod faults;
mod password;
mod peers;
mod queue;
mod requests;
mod server;
mod sessions;
mod waiting;

use std::sync::Arc;

use anyhow::{Context, bail};
use service::{
    Links, Process,
    config::{LoginConfig, Role},
};

use crate::{
    password::Hashers,
    server::{Desk, Door},
    waiting::Waiting,
};

/// Runs a login process to its end: until `process.tasks` is stopped and the requests that run then are answered.
///
/// # Errors
/// When its zone file entry is of another kind, or an address can't be taken.
pub async fn run(process: Process) -> anyhow::Result<()> {
    let config = config_of(&process)?;
    let hashers = Hashers::start(&config).await.context("make the dummy hash")?;
    let desk = Arc::new(Desk::new(&process, hashers, config.failures_per_minute));
    desk.peers.tell();
    let waiting = Arc::new(Waiting::new(Arc::clone(&desk), &config));
    waiting.start(&process.tasks);
    let links = Links::start(&process, Arc::new(Door::new(Arc::clone(&desk), Arc::clone(&waiting)))).await.context("start links")?;
    desk.serve_with(links.clone());
    process.events.send_to(&process, links.clone());
    let (status, queues) = (Arc::clone(&desk), Arc::clone(&waiting));
    service::admin::serve(&process, links, Arc::new(move || status.status(&queues.status())), axum::Router::new())
        .await
        .context("serve the admin port")?;
    process.tasks.stopped().await;
    waiting.close();
    desk.drain().await;
    Ok(())
}

fn config_of(process: &Process) -> anyhow::Result<LoginConfig> {
    match &process.config.role {
        Role::Login(config) => Ok(config.clone()),
        _ => bail!("`{}` is a {}, not a login", process.id(), process.config.kind()),
    }
}
