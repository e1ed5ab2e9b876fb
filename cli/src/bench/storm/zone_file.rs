//! The zone file of the benchmark: two gates, and all other limits as the zone has them when nobody says otherwise.

use std::fmt::Write;

use super::rush::PASSER;

/// Side of an AOI cell in metres; a player sees its own and the eight around it.
const CELL_M: f64 = 25.0;
/// Others that a player sees, on the average.
const NEIGHBOURS: f64 = 80.0;
/// The smallest side of a map: cells that a player sees fit on it.
const SIDE_M_MIN: f64 = 4.0 * CELL_M;

/// What the zone is for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted {
    /// Who is in the world at once.
    pub(super) players: u32,
    pub(super) maps: u32,
    /// Passwords cost next to nothing.
    pub(super) cheap: bool,
    /// Logins a second that are let through; none: as many as there are hashes.
    pub(super) valve: Option<u32>,
}

impl Wanted {
    /// The text of the file.
    pub(super) fn zone_file(&self) -> String {
        let side = self.side_m();
        let middle = side / 2.0;
        let mut file = format!(
            "zone: bench\nenvironment: dev\nsecret: {{ file: secret }}\nplayers: {{ registration: open, queue_pass: [{PASSER}] }}\n\
             world:\n  cell_m: {CELL_M}\n  start: {{ map: map-1, x_m: {middle}, y_m: {middle} }}\n  starts:\n"
        );
        for map in 1..=self.maps {
            let within = middle - 1.0;
            put(&mut file, format_args!("    - {{ map: map-{map}, x_m: {middle}, y_m: {middle}, within_m: {within} }}\n"));
        }
        file.push_str("  maps:\n");
        // Far above what will come: one line each.
        let most = (self.players * 2).clamp(100, 100_000);
        for map in 1..=self.maps {
            let lines = format!("lines: {{ soft_cap: {most}, max: 1 }}");
            put(&mut file, format_args!("    map-{map}: {{ width_m: {side}, height_m: {side}, players_max: {most}, {lines} }}\n"));
        }
        self.put_processes(&mut file);
        file
    }

    fn side_m(&self) -> f64 {
        let all = f64::from(self.players) * 9.0 * CELL_M * CELL_M / NEIGHBOURS;
        (all / f64::from(self.maps)).sqrt().ceil().max(SIDE_M_MIN)
    }

    fn put_processes(&self, file: &mut String) {
        let free = "link: 127.0.0.1:0, admin: 127.0.0.1:0";
        file.push_str("processes:\n");
        for gate in 1..=2 {
            put(file, format_args!("  gate-{gate}: {{ kind: gate, clients: 127.0.0.1:0, {free} }}\n"));
        }
        let valve = self.valve.map(|valve| format!(", logins_per_s: {valve}")).unwrap_or_default();
        let cheap = if self.cheap { ", argon2_memory_kib: 8, argon2_passes: 1" } else { "" };
        put(file, format_args!("  login-1: {{ kind: login, {free}{cheap}{valve} }}\n"));
        let scenes = self.maps.min(2);
        for scene in 1..=scenes {
            let hosted: Vec<String> = (1..=self.maps).filter(|map| map % scenes + 1 == scene).map(|map| format!("map-{map}")).collect();
            put(file, format_args!("  scene-{scene}: {{ kind: scene, {free}, maps: [{}] }}\n", hosted.join(", ")));
        }
        for (kind, more) in [("center", ""), ("dc", ", storage: sqlite"), ("logsvc", "")] {
            put(file, format_args!("  {kind}-1: {{ kind: {kind}, {free}{more} }}\n"));
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

    #[test]
    fn every_storm_has_a_good_zone_file() {
        for (players, maps) in [(10_500, 4), (60, 1), (2, 64)] {
            for (cheap, valve) in [(true, Some(10)), (false, None)] {
                let wanted = Wanted { players, maps, cheap, valve };
                let zone = Zone::for_test(&wanted.zone_file()).unwrap_or_else(|err| panic!("{wanted:?}: {err}"));
                assert_eq!(zone.world.maps.len(), maps as usize);
                assert!(zone.world.maps.keys().all(|map| zone.hosts(map).len() == 1), "every map has one host");
                assert!(zone.players.queue_pass.contains(PASSER));
            }
        }
    }
}
