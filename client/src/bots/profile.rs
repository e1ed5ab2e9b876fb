//! What bots do: the profiles, and where a walking bot goes next. Pure.

use std::{str::FromStr, time::Duration};

use proto::client::Position;
use serde::{Deserialize, Serialize};

use super::stride;
use crate::random::Random;

/// Time between two moves of a bot.
pub(crate) const MOVE_PERIOD: Duration = Duration::from_millis(200);
/// Of the fastest that the zone allows: moves may arrive closer together than they were sent.
const SPEED_PERCENT: u32 = 75;

/// How far towns are apart, about.
const TOWN_EVERY_CM: i32 = 10_000;
/// Towns from one side of a map to the other at most.
const TOWNS_A_SIDE_MAX: i32 = 16;
/// A bot goes to another town after so many walks in one, about.
const WALKS_IN_TOWN: u64 = 32;

/// What bots do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Profile {
    /// Walk about, spread over the surroundings of the start.
    Walk,
    /// Stroll about in towns, and now and then from one to another.
    Town,
    /// Walk about, all within a few metres.
    Crowd,
    /// Log in, enter and leave, again and again.
    LoginStorm,
    /// Seek out NPCs and fight them.
    Fight,
    /// Fight for a while, then trade with one another, and go through portals meanwhile.
    Trade,
}

impl Profile {
    /// All profiles.
    pub const ALL: [Profile; 6] = [Profile::Walk, Profile::Town, Profile::Crowd, Profile::LoginStorm, Profile::Fight, Profile::Trade];

    /// As it is written on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Profile::Walk => "walk",
            Profile::Town => "town",
            Profile::Crowd => "crowd",
            Profile::LoginStorm => "login-storm",
            Profile::Fight => "fight",
            Profile::Trade => "trade",
        }
    }

    /// Whether bots of this profile may read now and then only: nothing that they hear changes what they do at once.
    pub const fn may_drain(self) -> bool {
        matches!(self, Profile::Walk | Profile::Town | Profile::Crowd)
    }

    /// How far from its home a bot goes, in centimetres, east and south as well as west and north.
    pub(crate) const fn reach(self) -> i32 {
        match self {
            Profile::Walk => 6000,
            Profile::Town => 1500,
            Profile::Crowd => 800,
            Profile::LoginStorm => 0,
            Profile::Fight | Profile::Trade => 7000,
        }
    }
}

/// Why a word is no profile.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no profile is named `{0}`; there are walk, town, crowd, login-storm, fight and trade")]
pub struct UnknownProfile(String);

impl FromStr for Profile {
    type Err = UnknownProfile;

    fn from_str(name: &str) -> Result<Self, UnknownProfile> {
        Profile::ALL.into_iter().find(|profile| profile.name() == name).ok_or_else(|| UnknownProfile(name.to_owned()))
    }
}

/// The middles of a map's towns, in centimetres: one for about a hundred metres each way, on a large map for more.
pub fn haunts(width: i32, height: i32) -> Vec<Position> {
    let middles = |end: i32| {
        let count = (end / TOWN_EVERY_CM).clamp(1, TOWNS_A_SIDE_MAX);
        (0..count).map(move |index| end / count * index + end / count / 2)
    };
    middles(height).flat_map(|y| middles(width).map(move |x| Position { x, y })).collect()
}

/// Wanders from one random place to the next, around a home.
#[derive(Clone, Debug)]
pub(crate) struct Wanderer {
    home: Position,
    reach: i32,
    /// The map, exclusive.
    width: i32,
    height: i32,
    /// Centimetres a move.
    stride: i64,
    /// How many thousandths of the clock's time pass in the world.
    time_permille: u32,
    goal: Position,
    /// Whether its home is a town, and now and then another one.
    in_towns: bool,
}

impl Wanderer {
    /// With the pace of [`MOVE_PERIOD`].
    pub(crate) fn new(home: Position, reach: i32, (width, height): (i32, i32), speed_max: u32, random: &mut Random) -> Self {
        let stride = stride::length(speed_max, MOVE_PERIOD, SPEED_PERCENT);
        let mut wanderer = Self { home, reach, width, height, stride, time_permille: 1_000, goal: home, in_towns: false };
        wanderer.goal = wanderer.somewhere(random);
        wanderer
    }

    /// As a profile has it, moving once in each `period`.
    pub(crate) fn of(profile: Profile, home: Position, map: (i32, i32), speed_max: u32, period: Duration, random: &mut Random) -> Self {
        let in_towns = profile == Profile::Town;
        let nearest = haunts(map.0, map.1).into_iter().min_by_key(|haunt| stride::distance(home, *haunt));
        let home = nearest.filter(|_| in_towns).unwrap_or(home);
        let stride = stride::length(speed_max, period, SPEED_PERCENT);
        Self { stride, in_towns, ..Self::new(home, profile.reach(), map, speed_max, random) }
    }

    /// The world's time runs at this pace, and so does the walk.
    pub(crate) fn pace(&mut self, time_permille: u32) {
        self.time_permille = time_permille;
    }

    /// The next step of a walk. Never where it stands, unless the map or the speed leaves no choice.
    pub(crate) fn wander(&mut self, from: Position, random: &mut Random) -> Position {
        if from == self.goal {
            if self.in_towns && random.next_u64().is_multiple_of(WALKS_IN_TOWN) {
                let haunts = haunts(self.width, self.height);
                self.home = haunts[(random.next_u64() % haunts.len() as u64) as usize];
            }
            self.goal = self.somewhere(random);
        }
        self.step(from, self.goal)
    }

    /// The next step on the way to a goal.
    pub(crate) fn step(&self, from: Position, goal: Position) -> Position {
        stride::towards(from, goal, self.stride * i64::from(self.time_permille) / 1_000)
    }

    fn somewhere(&self, random: &mut Random) -> Position {
        let mut near = |middle: i32, end: i32| {
            let last = end.saturating_sub(1).max(0);
            let low = middle.saturating_sub(self.reach).clamp(0, last);
            let high = middle.saturating_add(self.reach).clamp(0, last);
            random.between(low, high)
        };
        Position { x: near(self.home.x, self.width), y: near(self.home.y, self.height) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn profiles_read_as_they_are_written() {
        for profile in Profile::ALL {
            assert_eq!(profile.name().parse(), Ok(profile));
            assert_eq!(serde_json::to_value(profile).unwrap(), profile.name());
        }
        assert!("run".parse::<Profile>().unwrap_err().to_string().contains("login-storm"));
    }

    #[test]
    fn towns_are_a_hundred_metres_apart_and_every_map_has_one() {
        assert_eq!(haunts(5_000, 3_000), [Position { x: 2_500, y: 1_500 }]);
        let four = haunts(20_000, 20_000);
        assert_eq!((four.len(), four[3]), (4, Position { x: 15_000, y: 15_000 }));
    }

    proptest! {
        #[test]
        fn a_townsman_strolls_in_a_town_or_is_on_its_way_to_one(seed: u64, x in 0i32..40_000, y in 0i32..40_000) {
            let mut random = Random::new(seed);
            let mut at = Position { x, y };
            let mut wanderer = Wanderer::of(Profile::Town, at, (40_000, 40_000), 800, Duration::from_millis(100), &mut random);
            for _ in 0..400 {
                at = wanderer.wander(at, &mut random);
                let near = |town: &Position| (town.x - wanderer.goal.x).abs() <= 1_500 && (town.y - wanderer.goal.y).abs() <= 1_500;
                prop_assert!(haunts(40_000, 40_000).iter().any(near));
            }
        }

        #[test]
        fn a_wanderer_keeps_to_its_speed_and_to_the_map(seed: u64, x in 0i32..40_000, y in 0i32..40_000) {
            let mut random = Random::new(seed);
            let mut at = Position { x, y };
            let mut wanderer = Wanderer::new(at, Profile::Walk.reach(), (40_000, 40_000), 800, &mut random);
            for _ in 0..200 {
                let next = wanderer.wander(at, &mut random);
                prop_assert!(stride::distance(at, next) <= 120);
                prop_assert!((0..40_000).contains(&next.x) && (0..40_000).contains(&next.y));
                at = next;
            }
        }
    }
}
