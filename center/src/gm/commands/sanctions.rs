//! Bans and mutes: durable in dc, in force at once.

use std::{net::IpAddr, sync::Arc};

use proto::{
    client::FaultCode,
    ids::AccountId,
    internal::{AccountFind, Sanction, SanctionAdd, SanctionKind, SanctionLift, SanctionList},
    names,
};
use serde_json::{Value, json};

use super::{
    Effect, Prepared, Target, in_force,
    players::{nobody, profile, sanction},
    required, warned,
};
use crate::{
    center::{Center, now_ms},
    chat::until_text,
    gm::{
        GmError,
        arguments::{Arguments, Span},
        of_call,
    },
    readiness::until,
};

/// Sanctions in one answer.
const LIST_MAX: u32 = 500;

pub(super) async fn ban(center: &Center, arguments: &Arguments) -> Result<Prepared, GmError> {
    let action = required(arguments.text("action"), "action")?;
    let target = match arguments.text("target") {
        Some(target) => Some(find_target(center, target).await?),
        None => None,
    };
    match action {
        "list" => list(center, target).await,
        "lift" => {
            let target = required(target, "target")?;
            let would = json!({ "lifts": "ban", "target": shown(&target) });
            Ok(Prepared::change(would, Effect::LiftSanction { kind: SanctionKind::Ban, target }))
        }
        _ => {
            let target = required(target, "target")?;
            let span = span(arguments, Span::Permanent)?;
            let sessions = sessions_of(center, &target).len();
            let would = json!({ "bans": shown(&target), "until": until_text(span.until_ms(now_ms())), "sessions_closed": sessions });
            let effect = Effect::AddSanction { kind: SanctionKind::Ban, target, span };
            Ok(Prepared::Change { would, effect, needs_reason: true })
        }
    }
}

pub(super) async fn mute(center: &Center, arguments: &Arguments) -> Result<Prepared, GmError> {
    let name = required(arguments.text("name"), "name")?;
    let span = required(arguments.span("for"), "for")?;
    let online = center.presence().players.named(name).map(|player| (player.account, player.account_name.clone()));
    let (account, account_name) = match online {
        Some(online) => online,
        None => {
            let profile = profile(center, name).await?.ok_or_else(|| nobody(name))?;
            (AccountId(profile.account), profile.account_name)
        }
    };
    let target = Target::Account { account, name: account_name };
    if span == Span::Zero {
        let would = json!({ "lifts": "mute", "target": shown(&target) });
        return Ok(Prepared::change(would, Effect::LiftSanction { kind: SanctionKind::Mute, target }));
    }
    let would = json!({ "mutes": shown(&target), "until": until_text(span.until_ms(now_ms())) });
    Ok(Prepared::change(would, Effect::AddSanction { kind: SanctionKind::Mute, target, span }))
}

pub(super) async fn do_add(
    center: &Arc<Center>,
    kind: SanctionKind,
    target: Target,
    span: Span,
    by: &str,
    reason: &str,
) -> Result<Value, GmError> {
    let now = now_ms();
    let (account, address) = parts(&target);
    let added = Sanction {
        id: 0,
        kind: kind.into(),
        account: account.0,
        address,
        account_name: String::new(),
        reason: reason.into(),
        by: by.into(),
        from_ms: now,
        until_ms: span.until_ms(now),
    };
    let until_ms = added.until_ms;
    let stored = center.dc(&SanctionAdd { sanction: Some(added) }).await.map_err(|err| of_call(&err, "there is no such account"))?;
    let mut result = json!({ "added": stored.sanctions.iter().map(sanction).collect::<Vec<_>>() });
    if kind == SanctionKind::Mute {
        return Ok(warned(result, in_force::mute(center, account, until(until_ms)).await));
    }
    let text = if reason.is_empty() { until_text(until_ms) } else { format!("{}: {reason}", until_text(until_ms)) };
    let ended = in_force::end_sessions(center, &sessions_of(center, &target), FaultCode::Banned, &format!("banned {text}")).await;
    result["sessions_closed"] = json!(ended.count);
    Ok(warned(result, ended.warning()))
}

pub(super) async fn do_lift(center: &Arc<Center>, kind: SanctionKind, target: Target, by: &str) -> Result<Value, GmError> {
    let (account, address) = parts(&target);
    let lift = SanctionLift { kind: kind.into(), account: account.0, address, by: by.into() };
    let none = match kind {
        SanctionKind::Mute => "the account is not muted",
        _ => "no ban is in force against it",
    };
    let lifted = center.dc(&lift).await.map_err(|err| of_call(&err, none))?;
    let warning = if kind == SanctionKind::Mute { in_force::mute(center, account, 0).await } else { None };
    Ok(warned(json!({ "lifted": lifted.sanctions.iter().map(sanction).collect::<Vec<_>>() }), warning))
}

async fn list(center: &Center, target: Option<Target>) -> Result<Prepared, GmError> {
    let (account, address) = target.as_ref().map(parts).unwrap_or_default();
    let list = SanctionList { kind: SanctionKind::Ban.into(), account: account.0, address, limit: LIST_MAX };
    let bans = center.dc(&list).await.map_err(|err| of_call(&err, "no ban is in force"))?;
    Ok(Prepared::Answer(json!({ "bans": bans.sanctions.iter().map(sanction).collect::<Vec<_>>() })))
}

fn span(arguments: &Arguments, absent: Span) -> Result<Span, GmError> {
    match arguments.span("for").unwrap_or(absent) {
        Span::Zero => Err(GmError::bad_argument("for", "is no time at all; use `ban lift` to end a ban")),
        span => Ok(span),
    }
}

/// An address if it reads as one, else an account.
async fn find_target(center: &Center, target: &str) -> Result<Target, GmError> {
    if let Ok(address) = target.parse::<IpAddr>() {
        return Ok(Target::Address(address.to_canonical().to_string()));
    }
    let name =
        names::account(target).ok_or_else(|| GmError::bad_argument("target", "is neither an IP address nor the name of an account"))?;
    let missing = format!("there is no account `{name}`");
    let found = center.dc(&AccountFind { name: name.clone(), address: String::new() }).await.map_err(|err| of_call(&err, &missing))?;
    match found.account {
        0 => Err(GmError::not_found(missing)),
        account => Ok(Target::Account { account: AccountId(account), name }),
    }
}

fn sessions_of(center: &Center, target: &Target) -> Vec<AccountId> {
    let presence = center.presence();
    let sessions = presence.sessions.iter();
    match target {
        Target::Account { account, .. } => sessions.filter(|live| live.account == *account).map(|live| live.account).collect(),
        Target::Address(address) => sessions.filter(|live| live.address == *address).map(|live| live.account).collect(),
    }
}

fn parts(target: &Target) -> (AccountId, String) {
    match target {
        Target::Account { account, .. } => (*account, String::new()),
        Target::Address(address) => (AccountId(0), address.clone()),
    }
}

fn shown(target: &Target) -> Value {
    match target {
        Target::Account { account, name } => json!({ "account": account, "account_name": name }),
        Target::Address(address) => json!({ "address": address }),
    }
}
