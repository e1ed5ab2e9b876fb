//! The wire contract of a zone: messages, kinds, ids, and the framing of clients and links. No I/O, no async.
//!
//! Read in this order: [`kinds`] (the one table of what a client and the zone may say), [`frame`] (how it is framed),
//! [`moves`] (how positions are packed), [`link`] (what processes say to each other), [`ids`], [`names`]. The messages themselves are in
//! `proto/paifang/*.proto`.
#![forbid(unsafe_code)]

pub mod frame;
pub mod ids;
pub mod json;
pub mod kinds;
pub mod link;
pub mod moves;
pub mod names;

pub use frame::{Frame, FrameError};
pub use kinds::{ClientMessage, KindInfo};

/// Raised with every change that an older program would misread. Both sides of a connection name theirs, and a difference is refused.
pub const PROTOCOL_VERSION: u32 = 2;

/// What a client and the zone say to each other (`client.proto`).
#[allow(missing_docs, clippy::doc_markdown)]
pub mod client {
    include!(concat!(env!("OUT_DIR"), "/paifang.client.rs"));
}

/// What dc keeps of a player (`record.proto`).
#[allow(missing_docs, clippy::doc_markdown)]
pub mod record {
    include!(concat!(env!("OUT_DIR"), "/paifang.record.rs"));
}

/// Behaviour events (`event.proto`).
#[allow(missing_docs, clippy::doc_markdown, clippy::module_inception)]
pub mod event {
    include!(concat!(env!("OUT_DIR"), "/paifang.event.rs"));
}

/// What processes say to each other (`link.proto`); [`crate::link`] gives each its number.
#[allow(missing_docs, clippy::doc_markdown)]
pub mod internal {
    include!(concat!(env!("OUT_DIR"), "/paifang.link.rs"));
}

impl client::Fault {
    /// A fault for which trying again does not help.
    pub fn new(code: client::FaultCode, text: impl Into<String>) -> Self {
        Self { code: code.into(), text: text.into(), retry_ms: 0 }
    }

    /// A fault that is worth a new try after `retry_ms` milliseconds.
    pub fn retry(code: client::FaultCode, text: impl Into<String>, retry_ms: u32) -> Self {
        Self { code: code.into(), text: text.into(), retry_ms }
    }
}
