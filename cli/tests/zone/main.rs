//! The whole zone, end to end: real processes on free ports of this machine. The names of these tests begin with `zone_`, so that
//! `deploy/test.sh` can run them one after another; run one alone with `cargo test -p cli --test zone zone_NAME`.

mod bench;
mod conservation;
mod crossing;
mod flows;
mod harness;
mod hostile;
mod kills;
mod lines;
mod operator;
mod player;
#[path = "../../src/prometheus.rs"]
mod prometheus;
mod purse;
mod queue;
mod restart;
mod storm;
mod trade;
