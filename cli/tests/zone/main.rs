//! The whole zone, end to end: real processes on free ports of this machine. The names of these tests begin with `zone_`, so that
//! `deploy/test.sh` can run them one after another; run one alone with `cargo test -p cli --test zone zone_NAME`.

mod flows;
mod harness;
mod kills;
mod operator;
mod player;
mod restart;
