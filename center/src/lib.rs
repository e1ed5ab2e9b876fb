//! Center: who is online and where, the lines, what reaches everybody, and the commands of the GMs.
//!
//! It promises one live session an account and one scene a player. All of it is soft: after a restart presence is rebuilt from what
//! gates and scenes report while play goes on, and what must last (friends, sanctions, the audit log) is in dc. It knows no rule of
//! the game.
//!
//! Read in this order: [`presence`] (the rules, pure), [`center`] (what all share, and how actions are carried out), [`handler`] (what
//! arrives), [`enter`], [`resume`], [`handoff`], [`rehome`] (how players come into scenes), [`report`] and [`readiness`] (the rebuild),
//! [`lines`] (lines open and close), [`client`], [`chat`], [`social`], [`relations`], [`party`], [`broadcast`], [`mail`] (what players ask),
//! [`trades`] and [`trade`] (goods change hands), [`gm`].
#![forbid(unsafe_code)]

mod broadcast;
mod center;
mod chat;
mod client;
mod enter;
mod gm;
mod handler;
mod handoff;
mod keyed;
mod lines;
mod mail;
mod party;
mod presence;
mod readiness;
mod rehome;
mod relations;
mod report;
mod resume;
mod social;
#[cfg(test)]
mod tests;
mod trade;
mod trades;

use std::sync::Arc;

use service::{Links, Process};

use self::{center::Center, gm::Gm, handler::LinkHandler};

/// Runs a center until it is told to stop, or a GM shuts the zone down.
///
/// # Errors
/// When an address can't be taken.
pub async fn run(process: Process) -> anyhow::Result<()> {
    let center = Arc::new(Center::new(process.clone()));
    let links = Links::start(&process, Arc::new(LinkHandler::new(center.clone()))).await?;
    center.linked(links.clone());
    process.events.send_to(&process, links.clone());
    let gm = Arc::new(Gm::new(center.clone()));
    let status = center.clone();
    let detail = Arc::new(move || status.status());
    service::admin::serve(&process, links, detail, gm::http::router(gm)).await?;
    process.tasks.spawn("readiness", readiness::run(center.clone()));
    process.tasks.spawn("lines", lines::run(center.clone()));
    process.tasks.spawn("rehome", rehome::run(center.clone()));
    process.tasks.spawn("sweep", rehome::sweep(center.clone()));
    tokio::select! {
        () = process.tasks.stopped() => (),
        () = center.finished() => tracing::info!("the zone is shut down by a GM"),
    }
    Ok(())
}
