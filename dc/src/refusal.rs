//! Why dc does not do what it was asked, in its own terms; [`CallFault`] is how links say it.

use proto::internal::{CallFault, CallFaultCode};

/// Why a request was not done. Nothing of it was.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("there is no such {0}")]
    NotFound(&'static str),
    #[error("player {player} belongs to `{owner}` with epoch {epoch}")]
    StaleOwner { player: u64, owner: String, epoch: u64 },
    #[error("player {player} is at version {version}")]
    StaleVersion { player: u64, version: u64 },
    #[error("the name is taken")]
    NameTaken,
    #[error("{0} {1} at the most")]
    Limit(u32, &'static str),
    #[error("the mailbox is full")]
    MailboxFull,
    #[error("{0}")]
    Invalid(String),
    #[error("{0}")]
    Unavailable(String),
    /// Only the store could tell or do it. What it is, for people who don't know what a store is.
    #[error("{0}: the database is away, and this works again by itself when it is back")]
    Away(&'static str),
    #[error("{0}")]
    Internal(String),
}

impl Refusal {
    pub(crate) fn invalid(text: impl Into<String>) -> Self {
        Refusal::Invalid(text.into())
    }

    /// The same; if the store is away, with what can't be done for that.
    pub(crate) fn for_want_of_the_store(self, what: &'static str) -> Self {
        match self {
            Refusal::Away(_) => Refusal::Away(what),
            other => other,
        }
    }

    pub(crate) fn code(&self) -> CallFaultCode {
        match self {
            Refusal::NotFound(_) => CallFaultCode::CallNotFound,
            Refusal::StaleOwner { .. } => CallFaultCode::CallStaleOwner,
            Refusal::StaleVersion { .. } => CallFaultCode::CallStaleVersion,
            Refusal::NameTaken => CallFaultCode::CallNameTaken,
            Refusal::Limit(..) | Refusal::MailboxFull => CallFaultCode::CallLimit,
            Refusal::Invalid(_) => CallFaultCode::CallInvalid,
            Refusal::Unavailable(_) | Refusal::Away(_) => CallFaultCode::CallUnavailable,
            Refusal::Internal(_) => CallFaultCode::CallInternal,
        }
    }
}

impl From<Refusal> for CallFault {
    fn from(refusal: Refusal) -> Self {
        service::link::fault(refusal.code(), refusal.to_string())
    }
}
