//! What bots do: the profiles, and where a walking bot goes next. Pure.

use std::{str::FromStr, time::Duration};

use proto::client::Position;
use serde::Serialize;

use super::stride;
use crate::random::Random;

/// Time between two moves of a bot.
pub(crate) const MOVE_PERIOD: Duration = Duration::from_millis(200);
/// Of the fastest that the zone allows: moves may arrive closer together than they were sent.
const SPEED_PERCENT: u32 = 75;

/// What bots do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Profile {
    /// Walk about, spread over the surroundings of the start.
    Walk,
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
    pub const ALL: [Profile; 5] = [Profile::Walk, Profile::Crowd, Profile::LoginStorm, Profile::Fight, Profile::Trade];

    /// As it is written on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Profile::Walk => "walk",
            Profile::Crowd => "crowd",
            Profile::LoginStorm => "login-storm",
            Profile::Fight => "fight",
            Profile::Trade => "trade",
        }
    }

    /// How far from the start a bot goes, in centimetres, east and south as well as west and north.
    pub(crate) const fn reach(self) -> i32 {
        match self {
            Profile::Walk => 6000,
            Profile::Crowd => 800,
            Profile::LoginStorm => 0,
            Profile::Fight | Profile::Trade => 7000,
        }
    }
}

/// Why a word is no profile.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no profile is named `{0}`; there are walk, crowd, login-storm, fight and trade")]
pub struct UnknownProfile(String);

impl FromStr for Profile {
    type Err = UnknownProfile;

    fn from_str(name: &str) -> Result<Self, UnknownProfile> {
        Profile::ALL.into_iter().find(|profile| profile.name() == name).ok_or_else(|| UnknownProfile(name.to_owned()))
    }
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
    goal: Position,
}

impl Wanderer {
    pub(crate) fn new(home: Position, reach: i32, (width, height): (i32, i32), speed_max: u32, random: &mut Random) -> Self {
        let stride = stride::length(speed_max, MOVE_PERIOD, SPEED_PERCENT);
        let mut wanderer = Self { home, reach, width, height, stride, goal: home };
        wanderer.goal = wanderer.somewhere(random);
        wanderer
    }

    /// The next step of a walk. Never where it stands, unless the map or the speed leaves no choice.
    pub(crate) fn wander(&mut self, from: Position, random: &mut Random) -> Position {
        if from == self.goal {
            self.goal = self.somewhere(random);
        }
        self.step(from, self.goal)
    }

    /// The next step on the way to a goal.
    pub(crate) fn step(&self, from: Position, goal: Position) -> Position {
        stride::towards(from, goal, self.stride)
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

    proptest! {
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
