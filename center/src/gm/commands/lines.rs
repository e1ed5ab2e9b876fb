//! Commands about the lines of a map.

use std::sync::Arc;

use serde_json::{Value, json};
use tokio::time::Instant;

use super::{Effect, Prepared, required};
use crate::{
    center::Center,
    gm::{GmError, arguments::Arguments, of_call},
    presence::steer::{LineRefused, Opening},
};

pub(super) fn lines(center: &Center, arguments: &Arguments) -> Result<Prepared, GmError> {
    let map = arguments.text("map");
    if let Some(map) = map.filter(|map| !center.process.zone.world.maps.contains_key(*map)) {
        return Err(refused(map, 0, "", LineRefused::NoMap));
    }
    Ok(Prepared::Answer(json!({ "lines": center.lines_status(map) })))
}

pub(super) fn open(center: &Center, arguments: &Arguments) -> Result<Prepared, GmError> {
    let map = required(arguments.text("map"), "map")?.to_owned();
    let scene = arguments.text("scene").map(str::to_owned);
    let found = center.presence().may_open(&map, scene.as_deref());
    let (line, on) = found.map_err(|why| refused(&map, 0, scene.as_deref().unwrap_or_default(), why))?;
    let would = json!({ "opens": { "map": map, "line": line, "scene": on.id } });
    Ok(Prepared::change(would, Effect::OpenLine { map, scene }))
}

pub(super) async fn do_open(center: &Arc<Center>, map: &str, scene: Option<&str>, by: &str) -> Result<Value, GmError> {
    let opening = center.presence().open(map, scene, by, Instant::now());
    let opening = opening.map_err(|why| refused(map, 0, scene.unwrap_or_default(), why))?;
    ask(center, &opening).await?;
    Ok(json!({ "opened": { "map": opening.map, "line": opening.line, "scene": opening.scene.id } }))
}

pub(super) fn close(center: &Center, arguments: &Arguments) -> Result<Prepared, GmError> {
    let (map, line) = line_of(arguments)?;
    let presence = center.presence();
    let known = presence.may_close(&map, line).map_err(|why| refused(&map, line, "", why))?;
    let players = presence.players.at(&map, line);
    let would = json!({ "closes": { "map": map, "line": line, "scene": known.scene.id, "players": players } });
    Ok(Prepared::change(would, Effect::CloseLine { map, line }))
}

pub(super) fn do_close(center: &Arc<Center>, map: &str, line: u32) -> Result<Value, GmError> {
    let actions = center.presence().close(map, line).map_err(|why| refused(map, line, "", why))?;
    center.act(actions);
    Ok(json!({ "closing": { "map": map, "line": line, "players": center.presence().players.at(map, line) } }))
}

pub(super) fn move_line(center: &Center, arguments: &Arguments) -> Result<Prepared, GmError> {
    let (map, line) = line_of(arguments)?;
    let scene = required(arguments.text("scene"), "scene")?.to_owned();
    let presence = center.presence();
    presence.may_move(&map, line, &scene).map_err(|why| refused(&map, line, &scene, why))?;
    let from = presence.lines.get(&map, line).map(|line| line.scene.id.clone());
    let players = presence.players.at(&map, line);
    let would = json!({ "moves": { "map": map, "line": line, "from": from, "to": scene, "players": players } });
    Ok(Prepared::change(would, Effect::MoveLine { map, line, scene }))
}

pub(super) async fn do_move(center: &Arc<Center>, map: &str, line: u32, scene: &str) -> Result<Value, GmError> {
    let opening = center.presence().move_line(map, line, scene).map_err(|why| refused(map, line, scene, why))?;
    ask(center, &opening).await?;
    Ok(json!({ "moved": { "map": map, "line": line, "to": scene, "players": center.presence().players.at(map, line) } }))
}

async fn ask(center: &Arc<Center>, opening: &Opening) -> Result<(), GmError> {
    center.open_line(opening).await.map_err(|err| of_call(&err, "the scene has no such map"))
}

fn line_of(arguments: &Arguments) -> Result<(String, u32), GmError> {
    Ok((required(arguments.text("map"), "map")?.to_owned(), required(arguments.count("line"), "line")?))
}

fn refused(map: &str, line: u32, scene: &str, why: LineRefused) -> GmError {
    match why {
        LineRefused::NoMap => GmError::bad_argument("map", format!("there is no map `{map}`")),
        LineRefused::NoLine => GmError::not_found(format!("{map} has no line {line}")),
        LineRefused::NotHost => GmError::bad_argument("scene", format!("the zone file has no scene `{scene}` that hosts {map}")),
        LineRefused::Away if scene.is_empty() => GmError::unavailable(format!("no scene that hosts {map} is here now")),
        LineRefused::Away => GmError::unavailable(format!("{scene} is not here now")),
        LineRefused::Most => GmError::conflict(format!("{map} has as many lines as `world.maps.{map}.lines.max` allows")),
        LineRefused::Least => {
            GmError::conflict(format!("{map} has as few lines as `world.maps.{map}.lines.min` allows; move the line instead"))
        }
        LineRefused::Busy(how) => GmError::conflict(format!("line {line} of {map} is {how}")),
        LineRefused::There => GmError::conflict(format!("line {line} of {map} is on {scene} already")),
    }
}
