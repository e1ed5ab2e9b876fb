//! The client's side of a Paifang zone: the SDK that games use, and the tools that stand on it.
//!
//! A game's program starts with [`Client`]: it connects, logs in, enters and acts, and everything that the zone says unasked arrives as
//! one stream of [`Event`]s, from which [`WorldView`] keeps what is visible. Below it, [`Connection`] is a bare connection without a task.
//!
//! Read in this order: [`address`], [`connection`] (with [`session`]: what a resume needs), [`Client`] and its requests, [`events`],
//! [`world_view`], [`quiet`] (thousands of connections at once); then [`flow`] (conversations written as YAML, replayed against a zone)
//! and [`bots`] (load, measured from the players' side). The crate knows the wire and nothing of how a zone is built.
#![forbid(unsafe_code)]

pub mod address;
mod ask;
pub mod bots;
mod client;
pub mod connection;
mod driver;
pub mod events;
pub mod fault;
pub mod flow;
pub mod quiet;
pub mod random;
mod requests;
pub mod session;
mod tcp;
mod tls;
mod transport;
pub mod world_view;

#[cfg(test)]
mod fake_zone;
#[cfg(test)]
mod tests;

pub use address::{Address, AddressError, Scheme};
pub use client::{Client, ClientOptions, Reconnect};
pub use connection::{Backoff, ConnectOptions, Connection};
pub use events::{Event, Events, Lost};
pub use fault::{AskError, ConnectionError, Fault, RequestError};
pub use quiet::QuietConnection;
pub use session::Session;
pub use tls::Roots;
pub use world_view::WorldView;
