//! What the zone file says to the game: `rules.npcs` and `rules.portals` of a map.

use anyhow::{Context, bail, ensure};
use serde::Deserialize;

use super::{levels::LEVEL_MAX, npcs::Species};
use crate::rules::{Destination, MapFacts, Position};

/// NPCs of one entry.
const COUNT_MAX: u32 = 10_000;

/// What is on a map, checked.
#[derive(Debug, Default)]
pub struct GameConfig {
    pub herds: Vec<Herd>,
    pub portals: Vec<Portal>,
}

/// NPCs of one kind that wander around one place.
#[derive(Debug, Hash)]
pub struct Herd {
    pub species: Species,
    pub count: u32,
    pub level: u32,
    pub middle: Position,
    pub within: i32,
}

/// Where a portal stands and where it leads.
#[derive(Debug)]
pub struct Portal {
    pub name: String,
    pub at: Position,
    pub to: Destination,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawGame {
    #[serde(default)]
    npcs: Vec<RawHerd>,
    #[serde(default)]
    portals: Vec<RawPortal>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawHerd {
    kind: String,
    count: u32,
    level: u32,
    x_m: i32,
    y_m: i32,
    within_m: i32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawPortal {
    name: String,
    x_m: i32,
    y_m: i32,
    map: String,
    to_x_m: i32,
    to_y_m: i32,
}

impl GameConfig {
    /// Reads and checks what the zone file says; errors name the map and the key.
    pub fn parse(facts: &MapFacts<'_>) -> anyhow::Result<Self> {
        if facts.config.is_null() {
            return Ok(Self::default());
        }
        let place = || format!("world.maps.{}.rules", facts.map);
        let raw = RawGame::deserialize(facts.config).with_context(place)?;
        let herds = raw.npcs.iter().enumerate().map(|(index, raw)| herd(facts, raw).with_context(|| format!("{}.npcs[{index}]", place())));
        let portals =
            raw.portals.iter().enumerate().map(|(index, raw)| portal(facts, raw).with_context(|| format!("{}.portals[{index}]", place())));
        Ok(Self { herds: herds.collect::<anyhow::Result<_>>()?, portals: portals.collect::<anyhow::Result<_>>()? })
    }
}

fn herd(facts: &MapFacts<'_>, raw: &RawHerd) -> anyhow::Result<Herd> {
    let Some(species) = Species::by_name(&raw.kind) else {
        bail!("`kind`: there is no `{}`; there are {}", raw.kind, Species::names());
    };
    ensure!(raw.count <= COUNT_MAX, "`count` must be at most {COUNT_MAX}");
    ensure!((1..=LEVEL_MAX).contains(&raw.level), "`level` must be 1 to {LEVEL_MAX}");
    let within = raw.within_m.checked_mul(100).filter(|within| 0 <= *within).context("`within_m` is out of range")?;
    Ok(Herd { species, count: raw.count, level: raw.level, middle: on_map(facts, raw.x_m, raw.y_m)?, within })
}

fn portal(facts: &MapFacts<'_>, raw: &RawPortal) -> anyhow::Result<Portal> {
    ensure!((1..=64).contains(&raw.name.len()), "`name` must have 1 to 64 bytes");
    let (x, y) = (raw.to_x_m.checked_mul(100), raw.to_y_m.checked_mul(100));
    let Some((width, height)) = facts.maps.get(&raw.map) else {
        let names: Vec<&str> = facts.maps.keys().map(String::as_str).collect();
        bail!("`map`: there is no map `{}`; there are {}", raw.map, names.join(", "));
    };
    let (Some(x), Some(y)) = (x, y) else { bail!("`to_x_m`, `to_y_m` are out of range") };
    let holds = (0..*width).contains(&x) && (0..*height).contains(&y);
    ensure!(holds, "`to_x_m`, `to_y_m`: ({}, {}) is not on `{}`", raw.to_x_m, raw.to_y_m, raw.map);
    let to = Destination { map: raw.map.clone(), position: Position { x, y } };
    Ok(Portal { name: raw.name.clone(), at: on_map(facts, raw.x_m, raw.y_m)?, to })
}

fn on_map(facts: &MapFacts<'_>, x_m: i32, y_m: i32) -> anyhow::Result<Position> {
    let (x, y) = (x_m.checked_mul(100), y_m.checked_mul(100));
    match (x, y) {
        (Some(x), Some(y)) if (0..facts.width).contains(&x) && (0..facts.height).contains(&y) => Ok(Position { x, y }),
        _ => bail!("`x_m`, `y_m`: ({x_m}, {y_m}) is not on the map"),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::{Value, json};

    use super::*;

    fn parse(config: &Value) -> Result<GameConfig, String> {
        let start = Position { x: 0, y: 0 };
        let maps = BTreeMap::from([("meadow".to_owned(), (40_000, 40_000)), ("town".to_owned(), (20_000, 10_000))]);
        let facts = MapFacts { map: "meadow", width: 40_000, height: 40_000, tick_hz: 10, start, maps: &maps, config };
        GameConfig::parse(&facts).map_err(|err| format!("{err:#}"))
    }

    #[test]
    fn errors_name_the_map_and_the_key() {
        let herd =
            |kind: &str, level: u32, x_m: i32| json!({"kind": kind, "count": 1, "level": level, "x_m": x_m, "y_m": 1, "within_m": 5});
        let portal =
            |map: &str, to_x_m: i32, to_y_m: i32| json!({"name": "p", "x_m": 1, "y_m": 1, "map": map, "to_x_m": to_x_m, "to_y_m": to_y_m});
        for (config, words) in [
            (json!({"npc": []}), ["world.maps.meadow.rules", "`npc`"]),
            (json!({"npcs": [herd("boar", 1, 1), herd("dragon", 1, 1)]}), ["meadow.rules.npcs[1]", "dragon"]),
            (json!({"npcs": [herd("boar", 0, 1)]}), ["meadow.rules.npcs[0]", "`level`"]),
            (json!({"npcs": [herd("boar", 1, i32::MAX)]}), ["meadow.rules.npcs[0]", "`x_m`"]),
            (json!({"portals": [portal("town", -1, 0)]}), ["meadow.rules.portals[0]", "`to_x_m`"]),
            (
                json!({"portals": [portal("town", 5, 5), portal("moon", 5, 5)]}),
                ["meadow.rules.portals[1]", "no map `moon`; there are meadow, town"],
            ),
            (json!({"portals": [portal("town", 5, 100)]}), ["meadow.rules.portals[0]", "(5, 100) is not on `town`"]),
        ] {
            let error = parse(&config).unwrap_err();
            assert!(words.iter().all(|word| error.contains(word)), "{error}");
        }
    }

    #[test]
    fn no_rules_are_an_empty_map() {
        let config = parse(&Value::Null).unwrap();
        assert!(config.herds.is_empty() && config.portals.is_empty());
    }
}
