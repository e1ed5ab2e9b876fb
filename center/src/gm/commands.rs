//! What the commands do, in two steps: [`prepare`] reads, checks and changes nothing; [`carry_out`] makes the change. In between
//! stands the audit record.

mod in_force;
mod lines;
mod players;
mod rank;
mod sanctions;
mod zone;

use std::{sync::Arc, time::Duration};

use proto::{
    client::Position,
    ids::{AccountId, PlayerId},
    internal::SanctionKind,
};
use serde_json::Value;

use super::{
    GmError,
    arguments::{Arguments, Span},
    auth::Who,
    registry::Which,
};
use crate::{center::Center, presence::Run};

/// A command that is good to be carried out.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Prepared {
    /// It reads only, and this is what it reads.
    Answer(Value),
    /// It changes something.
    Change {
        /// What a dry run says.
        would: Value,
        effect: Effect,
        /// It takes something away, and is refused without a reason.
        needs_reason: bool,
    },
}

impl Prepared {
    fn change(would: Value, effect: Effect) -> Self {
        Prepared::Change { would, effect, needs_reason: false }
    }
}

/// A change, down to the numbers: what the GM named is looked up before.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Effect {
    Kick { account: AccountId, player: PlayerId, name: String },
    Teleport { player: PlayerId, scene: Run, map: String, position: Position },
    AddSanction { kind: SanctionKind, target: Target, span: Span },
    LiftSanction { kind: SanctionKind, target: Target },
    Announce { text: String },
    OpenLine { map: String, scene: Option<String> },
    CloseLine { map: String, line: u32 },
    MoveLine { map: String, line: u32, scene: String },
    RebuildRankings,
    BeginShutdown { within: Duration },
    CancelShutdown,
}

/// Against whom a sanction is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    Account { account: AccountId, name: String },
    Address(String),
}

/// Looks up what the arguments name, and checks that it can be done.
pub(crate) async fn prepare(center: &Arc<Center>, which: Which, arguments: &Arguments) -> Result<Prepared, GmError> {
    match which {
        Which::Online => players::online(center, arguments),
        Which::PlayerInfo => players::info(center, arguments).await,
        Which::PlayerFind => players::find(center, arguments).await,
        Which::Kick => players::kick(center, arguments),
        Which::Teleport => players::teleport(center, arguments),
        Which::Ban => sanctions::ban(center, arguments).await,
        Which::Mute => sanctions::mute(center, arguments).await,
        Which::Announce => zone::announce(arguments),
        Which::Rank => rank::rank(center, arguments).await,
        Which::Lines => lines::lines(center, arguments),
        Which::LineOpen => lines::open(center, arguments),
        Which::LineClose => lines::close(center, arguments),
        Which::LineMove => lines::move_line(center, arguments),
        Which::ServerInfo => Ok(zone::info(center)),
        Which::ServerShutdown => zone::shutdown(center, arguments),
        Which::Audit => zone::audit(center, arguments).await,
    }
}

/// Makes the change, and says what came of it.
pub(crate) async fn carry_out(center: &Arc<Center>, effect: Effect, who: &Who, reason: &str) -> Result<Value, GmError> {
    match effect {
        Effect::Kick { account, player, name } => Ok(players::do_kick(center, account, player, &name, reason).await),
        Effect::Teleport { player, scene, map, position } => players::do_teleport(center, player, &scene, map, position).await,
        Effect::AddSanction { kind, target, span } => sanctions::do_add(center, kind, target, span, &who.name, reason).await,
        Effect::LiftSanction { kind, target } => sanctions::do_lift(center, kind, target, &who.name).await,
        Effect::Announce { text } => Ok(zone::do_announce(center, &text)),
        Effect::OpenLine { map, scene } => lines::do_open(center, &map, scene.as_deref(), &who.name).await,
        Effect::CloseLine { map, line } => lines::do_close(center, &map, line),
        Effect::MoveLine { map, line, scene } => lines::do_move(center, &map, line, &scene).await,
        Effect::RebuildRankings => rank::do_rebuild(center).await,
        Effect::BeginShutdown { within } => zone::do_begin_shutdown(center, within, reason),
        Effect::CancelShutdown => zone::do_cancel_shutdown(center),
    }
}

/// An argument that the registry requires.
fn required<T>(value: Option<T>, name: &str) -> Result<T, GmError> {
    value.ok_or_else(|| GmError::bad_argument(name, "is missing"))
}

/// A result, with what a GM should know beside it.
fn warned(mut result: Value, warning: Option<String>) -> Value {
    if let Some(warning) = warning {
        result["warning"] = warning.into();
    }
    result
}
