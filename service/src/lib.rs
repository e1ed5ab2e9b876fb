//! What every process of a zone repeats: it reads the zone file, links to its peers, tells its state, and stops in order.
//!
//! Read in this order: [`config`] (the zone file), [`process`] (what a process is given at its start), [`link`] (how processes
//! talk), [`members`] (who there is), [`cache`] (what is read before dc is asked), [`events`] (behaviour events to logsvc),
//! [`admin`] (metrics, health, status), [`tasks`] (spawn, stop, wait). [`net`], [`fs`] and [`random`] are the only ways to the
//! network, the disk and chance, so that a simulation can take their place. [`tls`] is whom the databases' clients trust. [`kill`] names the
//! places where a test may end a process.
#![forbid(unsafe_code)]

pub mod admin;
pub mod cache;
pub mod config;
pub mod events;
pub mod fs;
pub mod kill;
pub mod link;
pub mod members;
pub mod net;
pub mod process;
pub mod random;
pub mod secret;
pub mod signal;
pub mod tasks;
pub mod telemetry;
pub mod tls;

pub use config::{ProcessId, ProcessKind, Zone};
pub use link::{CallError, Handler, IncomingCall, Link, Links};
pub use process::{Process, ProcessArgs};

/// Every process allocates with it: what one thread decodes another one frees, which costs the system's allocator far more.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;
