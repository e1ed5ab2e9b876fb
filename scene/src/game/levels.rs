//! What a level takes and what it gives.
//!
//! Level `n` is reached with 50·n·(n−1) experience: 0, 100, 300, 600, 1000, ... Hit points are 80 + 20·n.

use crate::rules::{Character, Looks};

/// The highest level.
pub const LEVEL_MAX: u32 = 100;

/// The experience with which a level is reached.
pub fn experience_for(level: u32) -> u64 {
    let level = u64::from(level);
    50 * level * level.saturating_sub(1)
}

/// The level that somebody with this experience has.
pub fn level_of(experience: u64) -> u32 {
    (1..LEVEL_MAX).find(|level| experience < experience_for(level + 1)).unwrap_or(LEVEL_MAX)
}

/// Hit points of a player of this level when unhurt.
pub fn hp_max(level: u32) -> u32 {
    80 + 20 * level.min(LEVEL_MAX)
}

/// What others see of a player.
pub fn looks(character: &Character) -> Looks {
    Looks { level: character.level, hp: character.hp, hp_max: hp_max(character.level) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_begin_where_their_experience_is_reached() {
        assert_eq!((level_of(0), level_of(99), level_of(100), level_of(299), level_of(300)), (1, 1, 2, 2, 3));
        for level in 1..LEVEL_MAX {
            assert_eq!(level_of(experience_for(level)), level);
            assert_eq!(level_of(experience_for(level + 1) - 1), level);
        }
        assert_eq!(level_of(u64::MAX), LEVEL_MAX);
    }
}
