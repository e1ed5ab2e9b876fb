//! What is asked over a bare [`Connection`], and the goodbye.

use std::time::Duration;

use proto::{
    ClientMessage,
    client::{Bye, Fault, Queued},
};
use tokio::time::{Instant, timeout, timeout_at};

use crate::{
    connection::Connection,
    fault::{AskError, RequestError},
};

/// How long a gate may take to close after `Bye`.
const BYE_WITHIN: Duration = Duration::from_secs(3);

impl Connection {
    /// Asks, and waits for the answer, passing over everything else that arrives. Each word of a place in the zone's queue begins the
    /// time anew.
    ///
    /// # Errors
    /// When the zone refuses it, says nothing of it within `silence_max`, or the connection is lost.
    pub async fn ask<M: ClientMessage, A: ClientMessage>(&mut self, message: &M, silence_max: Duration) -> Result<A, AskError> {
        self.ask_in_queue(message, silence_max, |_| ()).await
    }

    /// As [`Connection::ask`]; `on_queued` is told each place in the queue.
    ///
    /// # Errors
    /// As [`Connection::ask`].
    pub async fn ask_in_queue<M: ClientMessage, A: ClientMessage>(
        &mut self,
        message: &M,
        silence_max: Duration,
        mut on_queued: impl FnMut(&Queued),
    ) -> Result<A, AskError> {
        let request = M::INFO.name;
        let seq = self.queue(message)?;
        let mut overdue = Instant::now() + silence_max;
        let answer = loop {
            let heard = timeout_at(overdue, self.next()).await;
            let frame = heard.map_err(|_| RequestError::TimedOut { request, after: silence_max })??;
            if let Ok(queued) = frame.decode::<Queued>() {
                on_queued(&queued);
                overdue = Instant::now() + silence_max;
            } else if frame.seq() == seq {
                break frame;
            }
        };
        if let Ok(fault) = answer.decode::<Fault>() {
            return Err(RequestError::Fault(fault.into()).into());
        }
        let name = answer.info().map_or("an unknown kind", |info| info.name);
        answer.decode().map_err(|_| RequestError::Unexpected { request, answer: name }.into())
    }

    /// Says goodbye, and reads on until the gate has closed, for a few seconds at most.
    pub async fn leave(mut self) {
        // A connection that is lost now needs no goodbye.
        if self.queue(&Bye {}).is_ok() {
            let _ = timeout(BYE_WITHIN, async { while self.next().await.is_ok() {} }).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use proto::client::{FaultCode, Friends, HeartbeatAck, LoggedIn, Login, Register, Registered};

    use super::*;
    use crate::{connection::ConnectOptions, fake_zone::FakeZone};

    const SOON: Duration = Duration::from_secs(10);

    fn bob(password: &str) -> Login {
        Login { account: "bob".into(), password: password.into() }
    }

    async fn registered(zone: &FakeZone) -> Connection {
        let mut connection = Connection::greet(&zone.address, &ConnectOptions::default()).await.unwrap();
        let Login { account, password } = bob("correct-horse");
        connection.ask::<_, Registered>(&Register { account, password }, SOON).await.unwrap();
        connection
    }

    #[tokio::test]
    async fn what_is_no_answer_is_told_apart() {
        let zone = FakeZone::start().await;
        let mut connection = registered(&zone).await;
        let refused = connection.ask::<_, LoggedIn>(&bob("another"), SOON).await;
        assert!(
            matches!(&refused, Err(AskError::Request(RequestError::Fault(fault))) if fault.code == FaultCode::BadCredentials),
            "{refused:?}"
        );
        let other = connection.ask::<_, Friends>(&bob("correct-horse"), SOON).await;
        let unexpected = RequestError::Unexpected { request: "Login", answer: "LoggedIn" }.to_string();
        assert_eq!(other.unwrap_err().to_string(), unexpected);
        let silent = connection.ask::<_, Friends>(&HeartbeatAck::default(), Duration::from_millis(1)).await;
        assert!(matches!(silent, Err(AskError::Request(RequestError::TimedOut { .. }))), "{silent:?}");
        zone.break_all();
        let lost = connection.ask::<_, Friends>(&HeartbeatAck::default(), SOON).await;
        assert!(matches!(lost, Err(AskError::Connection(_))), "{lost:?}");
    }

    #[tokio::test]
    async fn who_waits_in_the_queue_is_told_each_place() {
        let zone = FakeZone::start().await;
        let mut connection = registered(&zone).await;
        zone.state().waiting = 2;
        let mut places = Vec::new();
        let logged_in = connection.ask_in_queue::<_, LoggedIn>(&bob("correct-horse"), SOON, |queued| places.push(queued.position)).await;
        assert!(logged_in.is_ok(), "{logged_in:?}");
        assert_eq!(places, [2, 1]);
        connection.leave().await;
    }
}
