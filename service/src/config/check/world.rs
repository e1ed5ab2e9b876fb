//! The checks of the section `world`.

use std::collections::BTreeMap;

use super::{NAME_MAX, centimetres, is_name, seconds, within};
use crate::config::{
    LinesConfig, MapConfig, OverloadConfig, Place, StartArea, World,
    raw::{RawLines, RawMap, RawOverload, RawStartArea, RawWorld},
    sections::{Problems, Sections},
};

/// The side of a map at most, so that positions in centimetres have room in 32 bits.
const METRES_MAX: f64 = 100_000.0;
/// The soft cap of a line when the file does not say, in percent of its players at most.
const SOFT_CAP_PERCENT: u32 = 80;
/// Lines of a map at most, so that a client can be told of all of them.
const LINES_MAX: u32 = 64;

pub(super) fn world(sections: &mut Sections) -> Option<World> {
    let raw: RawWorld = sections.need("world", "give it a `start` and `maps`")?;
    let problems = &mut sections.problems;
    within(problems, "world.tick_hz", raw.tick_hz, 1, 60);
    let cell_cm = centimetres(problems, "world.cell_m", raw.cell_m, 1.0, 1000.0);
    let speed_max_cm_s = centimetres(problems, "world.speed_max_m_s", raw.speed_max_m_s, 0.1, 1000.0);
    within(problems, "world.client_bytes_max_s", raw.client_bytes_max_s, 2_000, 10_000_000);
    let overload = overload(problems, &raw.overload);
    if raw.maps.is_empty() {
        problems.add("world.maps", "there is no map: give at least one");
    }
    let maps: BTreeMap<String, MapConfig> = raw.maps.into_iter().map(|(name, raw)| (name.clone(), map(problems, &name, raw))).collect();
    let x = centimetres(problems, "world.start.x_m", raw.start.x_m, 0.0, METRES_MAX);
    let y = centimetres(problems, "world.start.y_m", raw.start.y_m, 0.0, METRES_MAX);
    match maps.get(&raw.start.map) {
        None => problems.add("world.start.map", format!("there is no map `{}` under world.maps", raw.start.map)),
        Some(map) if x >= map.width_cm || y >= map.height_cm => {
            problems.add("world.start", format!("the place is outside of the map `{}`", raw.start.map));
        }
        Some(_) => (),
    }
    let start = Place { map: raw.start.map, x, y };
    let starts = raw.starts.into_iter().enumerate().map(|(index, raw)| start_area(problems, index, raw, &maps)).collect();
    Some(World { tick_hz: raw.tick_hz, cell_cm, speed_max_cm_s, client_bytes_max_s: raw.client_bytes_max_s, overload, start, starts, maps })
}

fn start_area(problems: &mut Problems, index: usize, raw: RawStartArea, maps: &BTreeMap<String, MapConfig>) -> StartArea {
    let key = |what: &str| format!("world.starts.{index}{what}");
    let x = centimetres(problems, &key(".x_m"), raw.x_m, 0.0, METRES_MAX);
    let y = centimetres(problems, &key(".y_m"), raw.y_m, 0.0, METRES_MAX);
    let within_cm = centimetres(problems, &key(".within_m"), raw.within_m, 0.0, METRES_MAX);
    let fits = |at: i32, end: i32| within_cm <= at && at.saturating_add(within_cm) < end;
    match maps.get(&raw.map) {
        None => problems.add(&key(".map"), format!("there is no map `{}` under world.maps", raw.map)),
        Some(map) if !fits(x, map.width_cm) || !fits(y, map.height_cm) => {
            problems.add(&key(""), format!("the area reaches out of the map `{}`", raw.map));
        }
        Some(_) => (),
    }
    StartArea { middle: Place { map: raw.map, x, y }, within_cm }
}

fn overload(problems: &mut Problems, raw: &RawOverload) -> OverloadConfig {
    within(problems, "world.overload.high", raw.high, 0.1, 1.0);
    within(problems, "world.overload.low", raw.low, 0.0, 1.0);
    within(problems, "world.overload.time_floor", raw.time_floor, 0.01, 1.0);
    if raw.high <= raw.low {
        problems.add("world.overload.low", "must be below `high`, or a line would go up and down the ladder without end");
    }
    OverloadConfig {
        high: raw.high,
        low: raw.low,
        window: seconds(problems, "world.overload.window_s", raw.window_s, 0.01, 60.0),
        calm: seconds(problems, "world.overload.calm_s", raw.calm_s, 0.01, 3600.0),
        time_floor: raw.time_floor,
    }
}

fn map(problems: &mut Problems, name: &str, raw: RawMap) -> MapConfig {
    let key = |what: &str| format!("world.maps.{name}{what}");
    if !is_name(name) {
        problems.add(&key(""), format!("`{name}` is no name: use 1 to {NAME_MAX} of a-z, 0-9 and `-`"));
    }
    within(problems, &key(".players_max"), raw.players_max, 1, 100_000);
    MapConfig {
        width_cm: centimetres(problems, &key(".width_m"), raw.width_m, 1.0, METRES_MAX),
        height_cm: centimetres(problems, &key(".height_m"), raw.height_m, 1.0, METRES_MAX),
        players_max: raw.players_max,
        lines: lines(problems, &key(".lines"), &raw.lines, raw.players_max),
        rules: raw.rules,
    }
}

fn lines(problems: &mut Problems, key: &str, raw: &RawLines, players_max: u32) -> LinesConfig {
    let soft_cap = raw.soft_cap.unwrap_or_else(|| (players_max.saturating_mul(SOFT_CAP_PERCENT) / 100).max(1));
    within(problems, &format!("{key}.soft_cap"), soft_cap, 1, players_max.max(1));
    within(problems, &format!("{key}.min"), raw.min, 1, LINES_MAX);
    within(problems, &format!("{key}.max"), raw.max, raw.min.max(1), LINES_MAX);
    LinesConfig { soft_cap, min: raw.min, max: raw.max }
}
