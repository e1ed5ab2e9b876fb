//! The commands of GMs. [`registry`] says what there is, [`http`] takes requests, [`auth`] knows who asks, [`run`] checks a command,
//! writes the audit record and only then lets [`commands`] change anything; [`bootstrap`] makes the first account, [`shutdown`] counts
//! down.

pub(crate) mod arguments;
pub(crate) mod auth;
pub(crate) mod bootstrap;
pub(crate) mod commands;
pub(crate) mod http;
pub(crate) mod registry;
pub(crate) mod run;
pub(crate) mod shutdown;

use std::sync::Arc;

use proto::internal::CallFaultCode;
use service::CallError;

use crate::center::Center;

/// What the GM API shares.
pub(crate) struct Gm {
    pub center: Arc<Center>,
    pub auth: auth::Auth,
}

impl Gm {
    pub(crate) fn new(center: Arc<Center>) -> Self {
        Self { center, auth: auth::Auth::default() }
    }
}

/// Why a request of a GM was not carried out: HTTP status, a code for programs, a text for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct GmError {
    pub status: u16,
    pub code: &'static str,
    pub text: String,
}

impl GmError {
    fn new(status: u16, code: &'static str, text: impl Into<String>) -> Self {
        Self { status, code, text: text.into() }
    }

    pub(crate) fn unauthorized(text: impl Into<String>) -> Self {
        Self::new(401, "unauthorized", text)
    }

    pub(crate) fn forbidden(text: impl Into<String>) -> Self {
        Self::new(403, "forbidden", text)
    }

    pub(crate) fn bad_request(text: impl Into<String>) -> Self {
        Self::new(400, "bad_request", text)
    }

    /// Names the argument.
    pub(crate) fn bad_argument(argument: &str, why: impl std::fmt::Display) -> Self {
        Self::new(400, "bad_argument", format!("`{argument}`: {why}"))
    }

    pub(crate) fn not_found(text: impl Into<String>) -> Self {
        Self::new(404, "not_found", text)
    }

    pub(crate) fn conflict(text: impl Into<String>) -> Self {
        Self::new(409, "conflict", text)
    }

    pub(crate) fn too_many(text: impl Into<String>) -> Self {
        Self::new(429, "too_many_attempts", text)
    }

    pub(crate) fn unavailable(text: impl Into<String>) -> Self {
        Self::new(503, "unavailable", text)
    }
}

/// What the refusal of another process means for a GM; `missing` is said where it has no such thing.
pub(crate) fn of_call(err: &CallError, missing: &str) -> GmError {
    match err.code() {
        Some(CallFaultCode::CallNotFound) => GmError::not_found(missing),
        Some(CallFaultCode::CallInvalid) => GmError::bad_request(err.to_string()),
        Some(CallFaultCode::CallNoLine | CallFaultCode::CallNameTaken | CallFaultCode::CallLimit) => GmError::conflict(err.to_string()),
        _ => GmError::unavailable(err.to_string()),
    }
}
