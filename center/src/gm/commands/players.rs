//! Commands about one player, and who there is.

use std::sync::Arc;

use proto::{
    client::{FaultCode, Position},
    ids::{AccountId, PlayerId},
    internal::{CallFaultCode, PlayerProfile, ProfileFind, Sanction, SceneTeleport},
    names,
};
use serde_json::{Value, json};

use super::{Effect, Prepared, in_force, required, warned};
use crate::{
    center::{Center, SCENE_WITHIN},
    chat::until_text,
    gm::{GmError, arguments::Arguments, of_call},
    presence::{
        Run,
        players::{Player, State},
    },
};

/// Players on a page of `online`, and in an answer of `player find`.
const PAGE: usize = 50;

pub(super) fn online(center: &Center, arguments: &Arguments) -> Result<Prepared, GmError> {
    let page = arguments.count("page").unwrap_or(1);
    let skipped = page.checked_sub(1).ok_or_else(|| GmError::bad_argument("page", "counts from 1"))? as usize;
    let presence = center.presence();
    let total = presence.players.online();
    let players = presence.players.iter().filter(|player| player.online);
    let players: Vec<Value> = players.skip(skipped.saturating_mul(PAGE)).take(PAGE).map(row).collect();
    Ok(Prepared::Answer(json!({ "online": total, "page": page, "pages": total.div_ceil(PAGE).max(1), "players": players })))
}

pub(super) async fn info(center: &Center, arguments: &Arguments) -> Result<Prepared, GmError> {
    let name = required(arguments.text("name"), "name")?;
    let profile = profile(center, name).await?.ok_or_else(|| nobody(name))?;
    let presence = center.presence();
    let now = presence.players.get(PlayerId(profile.player)).filter(|player| player.online);
    let live = presence.sessions.get(AccountId(profile.account));
    let mut info = stored(&profile);
    info["online"] = json!(now.is_some());
    info["now"] = now.map_or(Value::Null, row);
    info["session"] = live.map_or(
        Value::Null,
        |live| json!({ "session": live.session, "gate": live.gate.id, "address": live.address, "lost": live.lost.is_some() }),
    );
    Ok(Prepared::Answer(info))
}

pub(super) async fn find(center: &Center, arguments: &Arguments) -> Result<Prepared, GmError> {
    let prefix = required(arguments.text("prefix"), "prefix")?;
    let online: Vec<Value> = center.presence().players.named_like(prefix).take(PAGE).map(row).collect();
    let exact = if names::player(prefix) { profile(center, prefix).await? } else { None };
    Ok(Prepared::Answer(json!({ "online": online, "exact": exact.as_ref().map(stored) })))
}

pub(super) fn kick(center: &Center, arguments: &Arguments) -> Result<Prepared, GmError> {
    let player = online_player(center, arguments)?;
    let effect = Effect::Kick { account: player.account, player: player.player, name: player.name.clone() };
    Ok(Prepared::change(json!({ "kicks": row(&player) }), effect))
}

pub(super) async fn do_kick(center: &Arc<Center>, account: AccountId, player: PlayerId, name: &str, reason: &str) -> Value {
    let text = if reason.is_empty() { "a GM removed you".into() } else { format!("a GM removed you: {reason}") };
    let ended = in_force::end_sessions(center, &[account], FaultCode::Kicked, &text).await;
    let warning = if ended.count == 0 {
        // Nobody is connected; the character only stands there.
        in_force::send_out(center, player).await
    } else {
        ended.warning()
    };
    warned(json!({ "kicked": name }), warning)
}

pub(super) fn teleport(center: &Center, arguments: &Arguments) -> Result<Prepared, GmError> {
    let map = required(arguments.text("map"), "map")?;
    let (x, y) = (required(arguments.centimetres("x"), "x")?, required(arguments.centimetres("y"), "y")?);
    let size = center.process.zone.world.maps.get(map).ok_or_else(|| GmError::bad_argument("map", format!("there is no map `{map}`")))?;
    for (name, at, end) in [("x", x, size.width_cm), ("y", y, size.height_cm)] {
        if !(0..end).contains(&at) {
            return Err(GmError::bad_argument(name, format!("`{map}` reaches from 0 to {} m", end / 100)));
        }
    }
    let player = online_player(center, arguments)?;
    if player.state != State::InWorld {
        return Err(GmError::conflict(format!("{} is between two scenes; try again", player.name)));
    }
    let would = json!({ "teleports": row(&player), "to": { "map": map, "x_cm": x, "y_cm": y } });
    let effect = Effect::Teleport { player: player.player, scene: player.place.scene, map: map.into(), position: Position { x, y } };
    Ok(Prepared::change(would, effect))
}

pub(super) async fn do_teleport(center: &Center, player: PlayerId, scene: &Run, map: String, position: Position) -> Result<Value, GmError> {
    let call = SceneTeleport { player: player.0, map: map.clone(), position: Some(position) };
    center.scene(scene, &call, SCENE_WITHIN).await.map_err(|err| of_call(&err, "the player has left that scene; try again"))?;
    Ok(json!({ "player": player, "map": map, "x_cm": position.x, "y_cm": position.y }))
}

/// A player by name, online or not.
pub(super) async fn profile(center: &Center, name: &str) -> Result<Option<PlayerProfile>, GmError> {
    match center.dc(&ProfileFind { name: name.into(), player: 0 }).await {
        Ok(profile) => Ok(Some(profile)),
        Err(err) if err.code() == Some(CallFaultCode::CallNotFound) => Ok(None),
        Err(err) => Err(of_call(&err, "")),
    }
}

pub(super) fn nobody(name: &str) -> GmError {
    GmError::not_found(format!("there is no player `{name}`"))
}

/// A sanction, for people.
pub(super) fn sanction(sanction: &Sanction) -> Value {
    json!({
        "id": sanction.id,
        "kind": sanction.kind().as_str_name().to_lowercase(),
        "account": sanction.account,
        "account_name": sanction.account_name,
        "address": sanction.address,
        "reason": sanction.reason,
        "by": sanction.by,
        "from_ms": sanction.from_ms,
        "until_ms": sanction.until_ms,
        "until": until_text(sanction.until_ms),
    })
}

fn online_player(center: &Center, arguments: &Arguments) -> Result<Player, GmError> {
    let name = required(arguments.text("name"), "name")?;
    let known = center.presence().players.named(name).cloned();
    known.ok_or_else(|| GmError::not_found(format!("{name} is not online")))
}

fn row(player: &Player) -> Value {
    json!({
        "player": player.player,
        "name": player.name,
        "level": player.level,
        "account": player.account,
        "account_name": player.account_name,
        "scene": player.place.scene.id,
        "map": player.place.map,
        "line": player.place.line,
        "session": player.session,
        "state": match player.state {
            State::Entering { .. } => "entering",
            State::InWorld => "in world",
            State::Homeless { .. } => "homeless",
        },
    })
}

fn stored(profile: &PlayerProfile) -> Value {
    let record = profile.record.clone().unwrap_or_default();
    json!({
        "player": profile.player,
        "name": profile.name,
        "account": profile.account,
        "account_name": profile.account_name,
        "level": record.level,
        "experience": record.experience,
        "coins": record.coins,
        "items": record.items.len(),
        "map": record.map,
        "line": record.line,
        "position": record.position.map(|position| json!({ "x_cm": position.x, "y_cm": position.y })),
        "owner": profile.owner,
        "epoch": profile.epoch,
        "version": profile.version,
        "created_ms": record.created_ms,
        "seen_ms": record.seen_ms,
        "sanctions": profile.sanctions.iter().map(sanction).collect::<Vec<_>>(),
    })
}
