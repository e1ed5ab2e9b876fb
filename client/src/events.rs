//! What the zone says unasked, as one typed stream.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use proto::{ClientMessage, Frame, client};
use tokio::sync::mpsc;

use crate::fault::Fault;

/// Events that may wait for the application. Full: a Frame message (`CellMoves`) is dropped, since a newer one follows; with any other
/// message the connection ends as [`Lost::NotRead`], as it would if the socket were not read.
pub const EVENTS_MAX: usize = 4096;

macro_rules! events {
    ($($message:ident,)*) => {
        /// What the zone says unasked, and what becomes of the connection.
        #[derive(Clone, Debug, PartialEq)]
        pub enum Event {
            $(
                #[doc = concat!("`", stringify!($message), "` of `client.proto`.")]
                $message(client::$message),
            )*
            /// A refusal. `request`: the number that [`crate::Client::send`] gave for what is refused; 0 if it stands alone.
            Fault {
                /// The message that is refused.
                request: u32,
                /// Why.
                fault: Fault,
            },
            /// A message that this version does not know, or whose body it can't read.
            Unknown {
                /// Its number on the wire.
                kind: u16,
                /// Its body.
                body: Bytes,
            },
            /// The gate ends the connection, and says why. [`Event::Lost`] follows.
            Closing {
                /// Why.
                fault: Fault,
                /// Whether the session can be resumed.
                resumable: bool,
            },
            /// The connection is gone. Requests fail until [`Event::Resumed`].
            Lost(Lost),
            /// The session is back. If not `continued`, `Entered` follows with the full state.
            Resumed {
                /// Nothing was lost: the missed reliable messages follow.
                continued: bool,
                /// How many they are.
                missed: u32,
            },
        }

        fn known(frame: &Frame) -> Option<Event> {
            match frame.kind() {
                $(<client::$message as ClientMessage>::KIND => frame.decode().ok().map(Event::$message),)*
                _ => None,
            }
        }
    };
}

events! {
    Registered,
    LoggedIn,
    Queued,
    RoleList,
    RoleCreated,
    RoleDeleted,
    Whispered,
    WorldChatted,
    Friends,
    FriendNotice,
    Announcement,
    ShutdownNotice,
    PartyInvited,
    PartyDeclined,
    PartyState,
    PartyChatted,
    Lines,
    LineChanged,
    MailArrived,
    TradeState,
    TradeEnded,
    TradeSettled,
    MailSent,
    Mails,
    MailTaken,
    Entered,
    Corrected,
    CellMoves,
    CellSnapshot,
    CellGone,
    CellChanges,
    TimeFactor,
    Said,
    Rehoming,
    Struck,
    SheetChanged,
}

/// What becomes of a lost connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lost {
    /// The client is trying to resume by itself.
    Resuming,
    /// The session may still be resumed with [`crate::Client::resume`].
    Resumable,
    /// The session has ended.
    Over,
    /// The application did not read its events ([`EVENTS_MAX`]). May still be resumed.
    NotRead,
}

impl Event {
    /// The event that a frame is; `None` for what a [`crate::Connection`] settles by itself.
    pub fn from_frame(frame: &Frame) -> Option<Event> {
        let event = match frame.kind() {
            client::Heartbeat::KIND | client::ResumeTicket::KIND | client::Welcome::KIND | client::Resumed::KIND => return None,
            client::Fault::KIND => {
                frame.decode::<client::Fault>().ok().map(|fault| Event::Fault { request: frame.seq(), fault: fault.into() })
            }
            client::Closing::KIND => frame.decode::<client::Closing>().ok().map(|closing| {
                let fault = Fault { code: closing.code(), text: closing.text, retry: None };
                Event::Closing { fault, resumable: closing.resumable }
            }),
            _ => known(frame),
        };
        Some(event.unwrap_or_else(|| Event::Unknown { kind: frame.kind(), body: frame.body() }))
    }
}

/// The stream of a client's events. It ends when the session is over or every [`crate::Client`] of it is dropped.
#[derive(Debug)]
pub struct Events(pub(crate) mpsc::Receiver<Event>);

impl Events {
    /// The next event; `None` at the end. Cancel-safe.
    pub async fn next(&mut self) -> Option<Event> {
        self.0.recv().await
    }

    /// The next event, if one waits.
    pub fn try_next(&mut self) -> Option<Event> {
        self.0.try_recv().ok()
    }
}

impl futures_util::Stream for Events {
    type Item = Event;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        self.0.poll_recv(cx)
    }
}

#[cfg(test)]
mod tests {
    use proto::kinds::{Direction, TABLE};

    use super::*;

    #[test]
    fn every_message_of_the_zone_is_an_event_or_settled() {
        for row in TABLE.iter().filter(|row| row.direction == Direction::ToClient) {
            let event = Event::from_frame(&Frame::from_body(row.kind, 0, &[]));
            assert!(!matches!(event, Some(Event::Unknown { .. })), "{}", row.name);
        }
    }

    #[test]
    fn what_is_not_known_is_handed_on() {
        let unknown = Event::from_frame(&Frame::from_body(0x7777, 0, b"body"));
        assert_eq!(unknown, Some(Event::Unknown { kind: 0x7777, body: "body".into() }));
        let malformed = Event::from_frame(&Frame::from_body(client::Said::KIND, 0, &[0xff]));
        assert!(matches!(malformed, Some(Event::Unknown { kind: client::Said::KIND, .. })));
    }
}
