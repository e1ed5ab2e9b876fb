//! A figure and its reference, measured in turn: A B A B. A machine that slows down for a while slows both.

use serde::Serialize;

/// Median and range of some rounds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Spread {
    pub median: f64,
    pub min: f64,
    pub max: f64,
    pub rounds: usize,
}

impl Spread {
    /// Of at least one value; of an even number the median is the mean of the two in the middle.
    pub(crate) fn of(values: &[f64]) -> Self {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (middle, rounds) = (sorted.len() / 2, sorted.len());
        let median = if rounds % 2 == 1 { sorted[middle] } else { (sorted[middle - 1] + sorted[middle]) / 2.0 };
        Self { median, min: sorted[0], max: sorted[rounds - 1], rounds }
    }
}

/// A figure beside its reference.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Compared {
    pub ours: Spread,
    pub reference: Spread,
    /// Ours over the reference of the same round.
    pub ratio: Spread,
}

impl Compared {
    /// Of the rounds' figures and their references, at least one.
    pub(crate) fn of(rounds: &[(f64, f64)]) -> Self {
        let column = |pick: fn(&(f64, f64)) -> f64| Spread::of(&rounds.iter().map(pick).collect::<Vec<_>>());
        Self { ours: column(|round| round.0), reference: column(|round| round.1), ratio: column(|round| round.0 / round.1) }
    }

    /// Measures both in turn, `rounds` times.
    ///
    /// # Errors
    /// The first of either.
    pub(crate) fn measure(
        rounds: usize,
        mut ours: impl FnMut() -> anyhow::Result<f64>,
        mut reference: impl FnMut() -> anyhow::Result<f64>,
    ) -> anyhow::Result<Self> {
        let measured = (0..rounds.max(1)).map(|_| Ok((ours()?, reference()?))).collect::<anyhow::Result<Vec<_>>>()?;
        Ok(Self::of(&measured))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_is_median_and_range() {
        assert_eq!(Spread::of(&[3.0, 1.0, 2.0]), Spread { median: 2.0, min: 1.0, max: 3.0, rounds: 3 });
        assert_eq!(Spread::of(&[4.0, 1.0]).median, 2.5);
    }

    #[test]
    fn ratios_are_taken_round_by_round() {
        let mut round = 0.0;
        let compared = Compared::measure(
            3,
            || {
                round += 1.0;
                Ok(round * 2.0)
            },
            || Ok(4.0),
        );
        let compared = compared.unwrap();
        assert_eq!(compared.ratio, Spread { median: 1.0, min: 0.5, max: 1.5, rounds: 3 });
        assert_eq!(compared.reference.median, 4.0);
    }
}
