//! The one document that a benchmark prints: what ran, on what, how idle that was, and the figures.

use anyhow::Context;
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use super::machine::{Idle, Machine};
use crate::output;

/// A benchmark's result. `W` is what was asked for, `F` what came out.
#[derive(Serialize)]
pub(crate) struct Document<W, F> {
    /// The subcommand: `dc`, `gate`, …
    pub bench: &'static str,
    /// Of the sources that this program was built from; `unknown` when they were in no checkout.
    pub commit: &'static str,
    /// Whether the program was built with optimisations: figures of one that was not say nothing.
    pub optimised: bool,
    /// When it began, UTC.
    pub started: jiff::Timestamp,
    pub took_s: f64,
    pub machine: Machine,
    /// Before the first measurement.
    pub idle: Idle,
    pub workload: W,
    pub figures: F,
}

/// A benchmark that has begun.
pub(crate) struct Begun {
    bench: &'static str,
    started: jiff::Timestamp,
    idle: Idle,
}

impl Begun {
    /// Looks whether the machine is idle, which takes two seconds, and says so on standard error if it is not.
    pub(crate) fn now(bench: &'static str) -> anyhow::Result<Self> {
        let started = jiff::Timestamp::now();
        if cfg!(debug_assertions) {
            eprintln!("zone bench: built without --release: the figures say nothing about the zone");
        }
        let idle = Idle::measure()?;
        if !idle.is_good {
            eprintln!("zone bench: this machine is {:.0} % idle: the figures of a busy machine are worth little", idle.percent);
        }
        Ok(Self { bench, started, idle })
    }

    /// The document, with what came out.
    pub(crate) fn end<W, F>(self, workload: W, figures: F) -> anyhow::Result<Document<W, F>> {
        Ok(Document {
            bench: self.bench,
            commit: env!("PAIFANG_COMMIT"),
            optimised: !cfg!(debug_assertions),
            started: self.started,
            took_s: jiff::Timestamp::now().duration_since(self.started).as_secs_f64(),
            machine: Machine::this()?,
            idle: self.idle,
            workload,
            figures,
        })
    }
}

impl<W: Serialize, F: Serialize> Document<W, F> {
    /// Prints the document as JSON, or what `told` makes of it for people below a line that says where it ran.
    pub(crate) fn print(&self, json: bool, told: impl FnOnce(&Self) -> String) -> anyhow::Result<()> {
        if json {
            output::line(serde_json::to_string(self).context("write the document")?);
            return Ok(());
        }
        let Machine { cores, cpu, memory_gib, .. } = &self.machine;
        let busy = if self.idle.is_good { "" } else { " (BUSY)" };
        output::line(format!(
            "zone bench {} at {}: {cores} cores of {cpu}, {memory_gib:.0} GiB, {:.0} % idle{busy}, {:.0} s",
            self.bench, self.commit, self.idle.percent, self.took_s
        ));
        output::line(told(self));
        Ok(())
    }
}

/// Percentiles of latencies, in milliseconds.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Serialize)]
pub(crate) struct Percentiles {
    pub p50: f64,
    pub p99: f64,
    pub p999: f64,
    pub max: f64,
    /// How many were measured.
    pub count: u64,
}

impl Percentiles {
    /// Of a histogram whose values are microseconds.
    pub(crate) fn of_us(histogram: &Histogram<u64>) -> Self {
        let at = |quantile| histogram.value_at_quantile(quantile) as f64 / 1000.0;
        Self { p50: at(0.5), p99: at(0.99), p999: at(0.999), max: histogram.max() as f64 / 1000.0, count: histogram.len() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_milliseconds() {
        let mut histogram = Histogram::new(3).unwrap();
        (1..=1000).for_each(|us| histogram.record(us).unwrap());
        let read = Percentiles::of_us(&histogram);
        assert_eq!((read.p50, read.p99, read.max, read.count), (0.5, 0.99, 1.0, 1000));
    }
}
