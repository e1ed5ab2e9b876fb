//! The zone file of the benchmark: maps of the size that gives players the wished number of neighbours, and processes for so many.

use std::fmt::Write;

use client::bots::{Profile, haunts};

/// Side of an AOI cell in metres; a player sees its own and the eight around it.
const CELL_M: f64 = 25.0;
/// How far a crowd's members stand from its middle when they come, in metres.
const CROWD_M: f64 = 20.0;
/// How far townspeople stand from the middle of their town when they come, in metres.
const TOWN_M: f64 = 15.0;
/// The smallest side of a map: cells that a player sees fit on it.
const SIDE_M_MIN: f64 = 4.0 * CELL_M;

/// What the zone is for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted {
    pub(super) players: u32,
    pub(super) maps: u32,
    pub(super) scenes: u32,
    pub(super) gates: u32,
    pub(super) hz: u32,
    pub(super) neighbours: u32,
    pub(super) profile: Profile,
    pub(super) tls: bool,
}

impl Wanted {
    /// The side of each map, in whole metres.
    pub(super) fn side_m(&self) -> f64 {
        let seen = 9.0 * CELL_M * CELL_M;
        let all = f64::from(self.players) * seen / f64::from(self.neighbours.max(1));
        (all / f64::from(self.maps)).sqrt().ceil().max(SIDE_M_MIN)
    }

    /// The text of the file. `cert.pem` and `key.pem` are beside it.
    pub(super) fn zone_file(&self) -> String {
        let side = self.side_m();
        let mut file = format!(
            "zone: bench\nenvironment: dev\nsecret: {{ file: secret }}\nplayers: {{ registration: open }}\n\
             world:\n  tick_hz: {}\n  cell_m: {CELL_M}\n  start: {{ map: map-1, x_m: {}, y_m: {} }}\n  starts:\n",
            self.hz,
            side / 2.0,
            side / 2.0
        );
        for (map, (x, y, within)) in (1..=self.maps).flat_map(|map| self.areas().into_iter().map(move |area| (map, area))) {
            put(&mut file, format_args!("    - {{ map: map-{map}, x_m: {x:.2}, y_m: {y:.2}, within_m: {within:.2} }}\n"));
        }
        file.push_str("  maps:\n");
        for map in 1..=self.maps {
            // One line each: players_max far above what will come.
            let most = (self.players * 2).clamp(100, 100_000);
            put(
                &mut file,
                format_args!(
                    "    map-{map}: {{ width_m: {side}, height_m: {side}, players_max: {most}, lines: {{ soft_cap: {most}, max: 1 }} }}\n"
                ),
            );
        }
        file.push_str("processes:\n");
        self.put_processes(&mut file);
        file
    }

    /// Where players stand when they come, on each map: middle and reach.
    fn areas(&self) -> Vec<(f64, f64, f64)> {
        let side = self.side_m();
        let middle = side / 2.0;
        match self.profile {
            Profile::Crowd => vec![(middle, middle, CROWD_M)],
            Profile::Town => {
                let towns = haunts((side * 100.0) as i32, (side * 100.0) as i32).into_iter();
                towns.map(|town| (f64::from(town.x) / 100.0, f64::from(town.y) / 100.0, TOWN_M)).collect()
            }
            _ => vec![(middle, middle, middle - 1.0)],
        }
    }

    fn put_processes(&self, file: &mut String) {
        let free = "127.0.0.1:0";
        let tls = if self.tls { ", tls: { certificate: cert.pem, key: key.pem }" } else { "" };
        for gate in 1..=self.gates {
            put(
                file,
                format_args!(
                    "  gate-{gate}: {{ kind: gate, clients: {free}, link: {free}, admin: {free}, sessions_max: 18000, \
                     accepts_per_s: 10000{tls} }}\n"
                ),
            );
        }
        // What a password hash costs is `zone bench login`'s subject.
        put(file, format_args!("  login-1: {{ kind: login, link: {free}, admin: {free}, argon2_memory_kib: 8, argon2_passes: 1 }}\n"));
        for scene in 1..=self.scenes {
            let hosted: Vec<String> =
                (1..=self.maps).filter(|map| map % self.scenes + 1 == scene).map(|map| format!("map-{map}")).collect();
            put(file, format_args!("  scene-{scene}: {{ kind: scene, link: {free}, admin: {free}, maps: [{}] }}\n", hosted.join(", ")));
        }
        for (kind, more) in [("center", ""), ("dc", ", storage: sqlite"), ("logsvc", "")] {
            put(file, format_args!("  {kind}-1: {{ kind: {kind}, link: {free}, admin: {free}{more} }}\n"));
        }
    }
}

fn put(file: &mut String, text: std::fmt::Arguments<'_>) {
    file.write_fmt(text).expect("a string takes whatever is written to it");
}

#[cfg(test)]
mod tests {
    use service::Zone;

    use super::*;

    fn wanted(profile: Profile) -> Wanted {
        Wanted { players: 10_000, maps: 4, scenes: 2, gates: 2, hz: 10, neighbours: 80, profile, tls: false }
    }

    #[test]
    fn every_profile_has_a_good_zone_file() {
        for profile in [Profile::Walk, Profile::Town, Profile::Crowd] {
            for (players, maps, scenes) in [(10_000, 4, 2), (10_000, 1, 1), (10, 1, 1), (50_000, 4, 4)] {
                let wanted = Wanted { players, maps, scenes, ..wanted(profile) };
                let zone = Zone::for_test(&wanted.zone_file()).unwrap_or_else(|err| panic!("{wanted:?}: {err}"));
                assert_eq!(zone.world.maps.len(), maps as usize);
                assert!(zone.world.maps.keys().all(|map| zone.hosts(map).len() == 1), "every map has one host");
            }
        }
    }

    #[test]
    fn maps_are_as_large_as_the_neighbours_ask_for() {
        let wanted = wanted(Profile::Walk);
        let square = 4.0 * wanted.side_m() * wanted.side_m();
        let neighbours = 10_000.0 * 75.0 * 75.0 / square;
        assert!((79.0..=80.0).contains(&neighbours), "{neighbours}");
    }
}
