//! What can go wrong between a client and the zone, as types that a program can decide on.

use std::{io, time::Duration};

use proto::client::{self, FaultCode};

use crate::address::Address;

/// A refusal by the zone.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {text}", code.as_str_name())]
pub struct Fault {
    /// Why; `Unspecified` if the zone is newer and has a reason that this version does not know.
    pub code: FaultCode,
    /// For people.
    pub text: String,
    /// When trying again may help; none: it does not.
    pub retry: Option<Duration>,
}

impl From<client::Fault> for Fault {
    fn from(fault: client::Fault) -> Self {
        let retry = (fault.retry_ms > 0).then(|| Duration::from_millis(fault.retry_ms.into()));
        Self { code: fault.code(), text: fault.text, retry }
    }
}

/// Why there is no connection, or none any more.
#[derive(Debug, thiserror::Error)]
pub enum ConnectionError {
    /// Nobody answers at the address, or the TLS or WebSocket handshake failed.
    #[error("connect to {address}: {source}")]
    Connect {
        /// Where.
        address: Address,
        /// What the system says.
        source: io::Error,
    },
    /// The gate said goodbye, with its reason.
    #[error("the gate closed the connection: {fault}")]
    Closing {
        /// Why.
        fault: Fault,
        /// Whether the session stays for the resume window.
        resumable: bool,
    },
    /// The socket broke or ended without a goodbye.
    #[error("the connection is lost: {0}")]
    Lost(#[from] io::Error),
    /// The gate was silent for too long.
    #[error("the gate did not answer within {0:?}")]
    Silent(Duration),
    /// The greeting or the resume was refused.
    #[error("the gate refused: {0}")]
    Refused(Fault),
    /// The gate answered with another message than the protocol allows here, or one with a malformed body.
    #[error("the gate sent {0}, which is not allowed here")]
    Unexpected(&'static str),
    /// There is no ticket to resume with: the session was not logged in yet.
    #[error("the session has no resume ticket")]
    NoTicket,
    /// More waits for the socket than [`crate::connection::OUTGOING_BYTES_MAX`]: the gate does not read.
    #[error("the gate does not read what it is sent")]
    Full,
}

impl ConnectionError {
    /// Whether a resume has a chance: the gate did not end the session, as far as is known.
    pub fn is_resumable(&self) -> bool {
        match self {
            ConnectionError::Closing { resumable, .. } => *resumable,
            ConnectionError::Connect { .. } | ConnectionError::Lost(_) | ConnectionError::Silent(_) | ConnectionError::Full => true,
            // A ticket may be refused because the zone is busy; such a fault says when to try again.
            ConnectionError::Refused(fault) => fault.retry.is_some(),
            ConnectionError::Unexpected(_) | ConnectionError::NoTicket => false,
        }
    }
}

/// Why a request has no answer.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// The zone refused it.
    #[error(transparent)]
    Fault(#[from] Fault),
    /// No answer came in time. The zone may have done it all the same.
    #[error("{request} was not answered within {after:?}")]
    TimedOut {
        /// The request's name.
        request: &'static str,
        /// How long was waited.
        after: Duration,
    },
    /// There is no connection, or it was lost before the answer. The zone may have done it all the same.
    #[error("{request}: there is no connection to the gate")]
    NotConnected {
        /// The request's name.
        request: &'static str,
    },
    /// The message is longer than its kind allows; it was not sent.
    #[error("{request} of {length} bytes; at most {max} are allowed")]
    TooLong {
        /// The request's name.
        request: &'static str,
        /// Bytes of its body.
        length: usize,
        /// The longest body of its kind.
        max: usize,
    },
    /// The zone answered with another message than the protocol says, or one with a malformed body.
    #[error("{request} was answered with {answer}")]
    Unexpected {
        /// The request's name.
        request: &'static str,
        /// The answer's name.
        answer: &'static str,
    },
}

impl RequestError {
    /// The zone's refusal, if it is one.
    pub fn fault(&self) -> Option<&Fault> {
        match self {
            RequestError::Fault(fault) => Some(fault),
            _ => None,
        }
    }
}

/// Why [`crate::Connection::ask`] has no answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// The connection is lost or was closed, or it took nothing more.
    #[error(transparent)]
    Connection(#[from] ConnectionError),
    /// The connection is good, but there is no answer.
    #[error(transparent)]
    Request(#[from] RequestError),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_reads_as_its_code_and_text() {
        let fault = Fault::from(client::Fault::retry(FaultCode::RateLimited, "slow down", 250));
        assert_eq!(fault.to_string(), "RATE_LIMITED: slow down");
        assert_eq!(fault.retry, Some(Duration::from_millis(250)));
        let unknown = Fault::from(client::Fault { code: 9999, text: "new".into(), retry_ms: 0 });
        assert_eq!((unknown.code, unknown.retry), (FaultCode::Unspecified, None));
    }

    #[test]
    fn a_refused_ticket_is_final_unless_the_zone_says_when_to_try_again() {
        let refused = |retry_ms| ConnectionError::Refused(client::Fault::retry(FaultCode::Unavailable, "", retry_ms).into());
        assert!(refused(100).is_resumable());
        assert!(!refused(0).is_resumable());
        assert!(ConnectionError::Lost(io::ErrorKind::ConnectionReset.into()).is_resumable());
    }
}
