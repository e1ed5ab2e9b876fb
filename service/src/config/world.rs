//! The maps of a zone, and what holds for all of them.

use std::{collections::BTreeMap, time::Duration};

/// What holds for every map.
#[derive(Clone, Debug)]
pub struct World {
    /// Ticks a second, 1 to 60.
    pub tick_hz: u32,
    /// Side of an AOI cell, in centimetres.
    pub cell_cm: i32,
    /// The fastest that a player may walk, in centimetres a second.
    pub speed_max_cm_s: i32,
    /// Bytes a second that a client is told of what is around it, at most.
    pub client_bytes_max_s: u32,
    /// When a line leaves things out because its ticks take too long.
    pub overload: OverloadConfig,
    /// Where a new role stands, and who has no other place.
    pub start: Place,
    /// Where new roles stand, each in one of these by chance; none: at the start.
    pub starts: Vec<StartArea>,
    /// The maps, by name.
    pub maps: BTreeMap<String, MapConfig>,
}

/// When a line leaves things out because its ticks take too long, and when no longer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct OverloadConfig {
    /// The share of their time that the ticks of a window may take.
    pub high: f64,
    /// Below this share it is calm.
    pub low: f64,
    /// For how long the ticks are watched before a step up.
    pub window: Duration,
    /// For how long it has to be calm before a step down.
    pub calm: Duration,
    /// The slowest that a line's time may become, as a share of the clock's.
    pub time_floor: f64,
}

impl World {
    /// How long a tick takes.
    pub fn tick(&self) -> Duration {
        Duration::from_secs(1) / self.tick_hz.max(1)
    }
}

/// A place on a map, in centimetres.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The map's name.
    pub map: String,
    /// East of the corner.
    pub x: i32,
    /// South of the corner.
    pub y: i32,
}

/// A square in which new roles stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StartArea {
    /// Its middle.
    pub middle: Place,
    /// How far it reaches from there, in centimetres, east and south as well as west and north. All of it is on the map.
    pub within_cm: i32,
}

/// One map.
#[derive(Clone, Debug)]
pub struct MapConfig {
    /// Width in centimetres.
    pub width_cm: i32,
    /// Height in centimetres.
    pub height_cm: i32,
    /// Players that a line of it takes.
    pub players_max: u32,
    /// How many lines it has.
    pub lines: LinesConfig,
    /// What the game's rules read; nothing else does.
    pub rules: serde_json::Value,
}

/// How many lines a map has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinesConfig {
    /// Players at which a line counts as full for newcomers, and at which in all its lines the map gets another one.
    pub soft_cap: u32,
    /// Lines that stay open when they are empty.
    pub min: u32,
    /// Lines at most.
    pub max: u32,
}
