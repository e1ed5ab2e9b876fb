//! What a line leaves out when its ticks take longer than they may, rung by rung: updates of what is farther away become rarer, then all of
//! them come at half the rate, then the line's time runs slower than the clock, down to a floor. Nothing else is ever left out.
//!
//! It goes up quickly, a rung for each window in which the ticks took too much of their time, and down slowly, a rung for each long calm.
//! Pure: it is told how long each tick took.

use std::time::Duration;

use service::config::OverloadConfig;

use crate::world::Detail;

/// Of the time that the clock passes, all passes in the world.
pub(crate) const WHOLE_PERMILLE: u32 = 1_000;

/// What is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Rung {
    /// Nothing.
    Full,
    /// Updates of what is farther away.
    FartherRarer,
    /// And every second update.
    HalfRate,
    /// And time.
    Dilated,
}

impl Rung {
    /// For people, events and metrics.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Rung::Full => "none",
            Rung::FartherRarer => "farther is rarer",
            Rung::HalfRate => "half rate",
            Rung::Dilated => "time",
        }
    }

    /// What the world is told.
    pub(crate) fn detail(self) -> Detail {
        match self {
            Rung::Full => Detail::Full,
            Rung::FartherRarer => Detail::FartherRarer,
            Rung::HalfRate | Rung::Dilated => Detail::HalfRate,
        }
    }
}

/// Where a line stands on the ladder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stand {
    pub(crate) rung: Rung,
    /// How many thousandths of the clock's time pass in the world.
    pub(crate) time_permille: u32,
}

impl Stand {
    /// Nothing is left out.
    pub(crate) const FULL: Stand = Stand { rung: Rung::Full, time_permille: WHOLE_PERMILLE };
}

/// The ladder of one line.
#[derive(Debug)]
pub(crate) struct Ladder {
    limits: OverloadConfig,
    tick_hz: u32,
    stand: Stand,
    ticks: u32,
    took: Duration,
    calm: Duration,
}

impl Ladder {
    /// At the foot.
    pub(crate) fn new(limits: OverloadConfig, tick_hz: u32) -> Self {
        Self { limits, tick_hz: tick_hz.max(1), stand: Stand::FULL, ticks: 0, took: Duration::ZERO, calm: Duration::ZERO }
    }

    /// Where it stands.
    #[cfg(test)]
    fn stand(&self) -> Stand {
        self.stand
    }

    /// A tick took so long. Some: it stands elsewhere from here on.
    pub(crate) fn ticked(&mut self, took: Duration) -> Option<Stand> {
        self.ticks += 1;
        self.took += took;
        let passed = self.interval() * self.ticks;
        if passed < self.limits.window {
            return None;
        }
        let load = self.took.as_secs_f64() / passed.as_secs_f64();
        (self.ticks, self.took) = (0, Duration::ZERO);
        let before = self.stand;
        if self.limits.high < load {
            self.calm = Duration::ZERO;
            self.up(load);
        } else if load < self.limits.low {
            self.calm += passed;
            if self.limits.calm <= self.calm {
                self.calm = Duration::ZERO;
                self.down();
            }
        } else {
            self.calm = Duration::ZERO;
        }
        (before != self.stand).then_some(self.stand)
    }

    /// The time from tick to tick.
    fn interval(&self) -> Duration {
        Duration::from_secs(1) * WHOLE_PERMILLE / self.stand.time_permille / self.tick_hz
    }

    /// One rung up; on the last, time becomes so slow that the ticks have room again.
    fn up(&mut self, load: f64) {
        self.stand.rung = match self.stand.rung {
            Rung::Full => Rung::FartherRarer,
            Rung::FartherRarer => Rung::HalfRate,
            Rung::HalfRate | Rung::Dilated => {
                let room = (self.limits.low + self.limits.high) / 2.0;
                self.stand.time_permille = self.permille(f64::from(self.stand.time_permille) * room / load);
                Rung::Dilated
            }
        };
    }

    /// Time becomes a quarter faster, and when it is whole again, one rung down.
    fn down(&mut self) {
        self.stand.rung = match self.stand.rung {
            Rung::Full | Rung::FartherRarer => Rung::Full,
            Rung::HalfRate => Rung::FartherRarer,
            Rung::Dilated => {
                self.stand.time_permille = self.permille(f64::from(self.stand.time_permille) * 1.25);
                if self.stand.time_permille == WHOLE_PERMILLE { Rung::HalfRate } else { Rung::Dilated }
            }
        };
    }

    fn permille(&self, wanted: f64) -> u32 {
        let floor = f64::from(WHOLE_PERMILLE) * self.limits.time_floor;
        // Between 1 and 1000: the configuration is checked.
        wanted.clamp(floor.max(1.0), WHOLE_PERMILLE.into()) as u32
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn limits() -> OverloadConfig {
        OverloadConfig { high: 0.8, low: 0.4, window: Duration::from_secs(1), calm: Duration::from_secs(5), time_floor: 0.1 }
    }

    /// Runs for so many seconds of the clock with ticks that take so long; gives where it stood.
    fn run(ladder: &mut Ladder, seconds: u64, took_ms: u64) -> Vec<Stand> {
        let (mut passed, mut stands) = (Duration::ZERO, Vec::new());
        while passed < Duration::from_secs(seconds) {
            passed += ladder.interval();
            stands.extend(ladder.ticked(Duration::from_millis(took_ms)));
        }
        stands
    }

    #[test]
    fn it_goes_up_a_rung_a_second_and_slows_time_until_the_ticks_have_room() {
        let mut ladder = Ladder::new(limits(), 10);
        let stands = run(&mut ladder, 10, 120);
        assert_eq!(stands.iter().map(|stand| stand.rung).collect::<Vec<_>>(), [Rung::FartherRarer, Rung::HalfRate, Rung::Dilated]);
        assert_eq!(ladder.stand().time_permille, 500, "120 of 200 ms are 60 %, between the limits");
        assert!(run(&mut ladder, 60, 120).is_empty(), "there it stays");
        run(&mut ladder, 60, 3_000);
        assert_eq!(ladder.stand(), Stand { rung: Rung::Dilated, time_permille: 100 }, "a floor");
    }

    #[test]
    fn it_goes_down_slowly_and_stays_between_the_limits() {
        let mut ladder = Ladder::new(limits(), 10);
        run(&mut ladder, 10, 120);
        assert!(run(&mut ladder, 4, 10).is_empty(), "not yet");
        let stands = run(&mut ladder, 60, 10);
        let expected =
            [(Rung::Dilated, 625), (Rung::Dilated, 781), (Rung::Dilated, 976), (Rung::HalfRate, 1000), (Rung::FartherRarer, 1000)];
        let expected = expected.map(|(rung, time_permille)| Stand { rung, time_permille });
        assert_eq!(stands, [&expected[..], &[Stand::FULL]].concat());
        assert_eq!(run(&mut ladder, 2, 90)[0].rung, Rung::FartherRarer);
        assert!(run(&mut ladder, 60, 60).is_empty(), "between the limits nothing changes");
    }

    #[test]
    fn one_long_tick_is_no_overload() {
        let mut ladder = Ladder::new(limits(), 10);
        for _ in 0..20 {
            assert!(ladder.ticked(Duration::from_millis(500)).is_none());
            for _ in 0..9 {
                assert!(ladder.ticked(Duration::from_millis(10)).is_none());
            }
        }
    }

    proptest! {
        #[test]
        fn it_moves_one_rung_at_a_time_and_never_below_the_floor(ticks in proptest::collection::vec(0..5_000u64, 0..500), tick_hz in 1..60u32) {
            let mut ladder = Ladder::new(limits(), tick_hz);
            let mut before = ladder.stand();
            for took_ms in ticks {
                let Some(stand) = ladder.ticked(Duration::from_millis(took_ms)) else { continue };
                prop_assert!((stand.rung as i32 - before.rung as i32).abs() <= 1);
                prop_assert!((100..=1_000).contains(&stand.time_permille));
                prop_assert_eq!(stand.rung == Rung::Dilated, stand.time_permille < 1_000);
                before = stand;
            }
        }
    }
}
