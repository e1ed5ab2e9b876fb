//! The one table of kinds: what a client and the zone may say, where it goes, when it is legal, and how it is delivered.
//!
//! A kind's high byte is the process that it is for or from: `0x00` gate, `0x01` login, `0x02` center, `0x03` scene.
//! Everything that routes, limits, checks or prints client messages reads this table; [`info`] looks a number up.

use bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};

use crate::client;

/// Who sends messages of a kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From a client.
    ToServer,
    /// From the zone.
    ToClient,
}

/// The kind of process that a message is for, or comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Destination {
    /// The gate itself.
    Gate,
    /// Any login process; a session keeps to one while it lives.
    Login,
    /// The active center.
    Center,
    /// The scene that the session is bound to.
    Scene,
}

/// How a message to a client is treated when the client is slow or gone for a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// The newest replaces the older; may be dropped.
    Frame,
    /// Reliable and ordered while the session lives; kept for resume.
    Session,
    /// As `Session`, and sent only when what it tells is safe in dc.
    Durable,
    /// The gate's own: belongs to the connection, not to the session. Neither dropped, nor counted, nor sent again.
    Control,
}

impl Delivery {
    /// Whether messages of this class are counted on both sides and sent again after a resume.
    pub const fn is_reliable(self) -> bool {
        matches!(self, Delivery::Session | Delivery::Durable)
    }
}

/// Which rate limit a message from a client counts against.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Bucket {
    /// Heartbeats, hello, resume.
    Control,
    /// Whatever costs a password hash or writes an account.
    Login,
    /// Movement.
    Move,
    /// Anything that others read.
    Chat,
    /// Friends and blocks.
    Social,
    /// The game's own actions.
    Action,
}

impl Bucket {
    /// All buckets, in the order of [`Bucket::index`].
    pub const ALL: [Bucket; 6] = [Bucket::Control, Bucket::Login, Bucket::Move, Bucket::Chat, Bucket::Social, Bucket::Action];

    /// Place of the bucket in [`Bucket::ALL`].
    pub const fn index(self) -> usize {
        self as usize
    }

    /// Messages a second that a session may send, and how many at once.
    pub const fn rate(self) -> (u32, u32) {
        match self {
            Bucket::Control => (5, 20),
            Bucket::Login => (2, 10),
            Bucket::Move => (25, 50),
            Bucket::Chat => (2, 10),
            Bucket::Social => (5, 20),
            Bucket::Action => (10, 30),
        }
    }
}

/// The states of a session, as a set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct States(u8);

impl States {
    /// Connected, nothing said yet.
    pub const GREETING: States = States(1);
    /// Greeted, not logged in.
    pub const CONNECTED: States = States(2);
    /// Logged in, no character in the world.
    pub const AUTHENTICATED: States = States(4);
    /// A character is in the world.
    pub const PLAYING: States = States(8);
    /// Every state after the greeting.
    pub const GREETED: States = States(2 | 4 | 8);
    /// Logged in, in the world or not.
    pub const KNOWN: States = States(4 | 8);
    /// For messages of the zone, whose legality is the sender's affair.
    pub const ANY: States = States(15);

    /// Whether all of `other` is in this set.
    pub const fn has(self, other: States) -> bool {
        self.0 & other.0 == other.0
    }
}

/// A row of the table.
#[derive(Clone, Copy, Debug)]
pub struct KindInfo {
    /// Number on the wire.
    pub kind: u16,
    /// The message's name, as in `client.proto`.
    pub name: &'static str,
    /// Who sends it.
    pub direction: Direction,
    /// Who takes it; for messages of the zone, who makes it.
    pub destination: Destination,
    /// When a client may send it.
    pub states: States,
    /// How it is delivered.
    pub delivery: Delivery,
    /// Which limit it counts against.
    pub bucket: Bucket,
    /// Longest body in bytes.
    pub body_max: usize,
}

/// A message of `client.proto` with its place in the table.
pub trait ClientMessage: prost::Message + Default + Serialize + DeserializeOwned {
    /// The row.
    const INFO: &'static KindInfo;
    /// Number on the wire.
    const KIND: u16 = Self::INFO.kind;
}

/// Why JSON or YAML is no message of a kind.
#[derive(Debug, thiserror::Error)]
pub enum JsonError {
    /// No row has this number.
    #[error("no message has kind {0:#06x}")]
    UnknownKind(u16),
    /// The bytes are no body of this kind.
    #[error("decode {name}")]
    Decode {
        /// The message's name.
        name: &'static str,
        /// What prost says.
        #[source]
        source: prost::DecodeError,
    },
    /// The fields do not fit the message.
    #[error("{name}: {source}")]
    Fields {
        /// The message's name.
        name: &'static str,
        /// What serde says.
        source: serde_json::Error,
    },
}

macro_rules! kinds {
    ($($number:literal $message:ident $direction:ident $destination:ident $states:ident $delivery:ident $bucket:ident $body_max:expr;)*) => {
        /// All rows, by rising number.
        pub static TABLE: &[&KindInfo] = &[$(<client::$message as ClientMessage>::INFO),*];

        $(impl ClientMessage for client::$message {
            const INFO: &'static KindInfo = &KindInfo {
                kind: $number,
                name: stringify!($message),
                direction: Direction::$direction,
                destination: Destination::$destination,
                states: States::$states,
                delivery: Delivery::$delivery,
                bucket: Bucket::$bucket,
                body_max: $body_max,
            };
        })*

        /// The row of a number, if there is one.
        pub const fn info(kind: u16) -> Option<&'static KindInfo> {
            match kind {
                $($number => Some(<client::$message as ClientMessage>::INFO),)*
                _ => None,
            }
        }

        /// A body as JSON, for people and tools.
        ///
        /// # Errors
        /// When the kind is unknown or the bytes are no body of it.
        pub fn body_to_json(kind: u16, body: &[u8]) -> Result<serde_json::Value, JsonError> {
            match kind {
                $($number => to_json::<client::$message>(body),)*
                _ => Err(JsonError::UnknownKind(kind)),
            }
        }

        /// A body from JSON; fields that are absent have their default.
        ///
        /// # Errors
        /// When the kind is unknown, or a field is or has the wrong type.
        pub fn body_from_json(kind: u16, fields: serde_json::Value) -> Result<Bytes, JsonError> {
            match kind {
                $($number => from_json::<client::$message>(fields),)*
                _ => Err(JsonError::UnknownKind(kind)),
            }
        }
    };
}

/// The longest body of a message from a client.
pub const TO_SERVER_BODY_MAX: usize = 1024;
/// The longest body of a message to a client. Senders cut lists so that they stay below.
pub const TO_CLIENT_BODY_MAX: usize = 60 * 1024;

kinds! {
    // number message       direction destination states   delivery bucket  longest body
    0x0001 Hello            ToServer  Gate    GREETING      Control Control 128;
    0x0002 Welcome          ToClient  Gate    ANY           Control Control 256;
    0x0003 Heartbeat        ToClient  Gate    ANY           Control Control 64;
    0x0004 HeartbeatAck     ToServer  Gate    GREETED       Control Control 64;
    0x0005 ResumeTicket     ToClient  Gate    ANY           Control Control 512;
    0x0006 Resume           ToServer  Gate    GREETING      Control Control 512;
    0x0007 Resumed          ToClient  Gate    ANY           Control Control 64;
    0x0008 Fault            ToClient  Gate    ANY           Session Control 1024;
    0x0009 Closing          ToClient  Gate    ANY           Control Control 1024;
    0x000a Bye              ToServer  Gate    GREETED       Control Control 0;
    0x000b Rehoming         ToClient  Gate    ANY           Session Control 256;

    0x0101 Register         ToServer  Login   CONNECTED     Session Login   256;
    0x0102 Registered       ToClient  Login   ANY           Durable Login   16;
    0x0103 Login            ToServer  Login   CONNECTED     Session Login   256;
    0x0104 LoggedIn         ToClient  Login   ANY           Session Login   TO_CLIENT_BODY_MAX;
    0x0105 ListRoles        ToServer  Login   AUTHENTICATED Session Login   0;
    0x0106 RoleList         ToClient  Login   ANY           Session Login   TO_CLIENT_BODY_MAX;
    0x0107 CreateRole       ToServer  Login   AUTHENTICATED Session Login   128;
    0x0108 RoleCreated      ToClient  Login   ANY           Durable Login   512;
    0x0109 DeleteRole       ToServer  Login   AUTHENTICATED Session Login   16;
    0x010a RoleDeleted      ToClient  Login   ANY           Durable Login   16;
    0x010b Enter            ToServer  Login   AUTHENTICATED Session Login   16;
    0x010c Queued           ToClient  Login   ANY           Frame   Login   64;

    0x0201 Whisper          ToServer  Center  PLAYING       Session Chat    TO_SERVER_BODY_MAX;
    0x0202 Whispered        ToClient  Center  ANY           Session Chat    2048;
    0x0203 WorldChat        ToServer  Center  PLAYING       Session Chat    TO_SERVER_BODY_MAX;
    0x0204 WorldChatted     ToClient  Center  ANY           Session Chat    2048;
    0x0205 FriendAdd        ToServer  Center  PLAYING       Session Social  128;
    0x0206 FriendRemove     ToServer  Center  PLAYING       Session Social  128;
    0x0207 FriendBlock      ToServer  Center  PLAYING       Session Social  128;
    0x0208 FriendUnblock    ToServer  Center  PLAYING       Session Social  128;
    0x0209 FriendList       ToServer  Center  PLAYING       Session Social  0;
    0x020a Friends          ToClient  Center  ANY           Session Social  TO_CLIENT_BODY_MAX;
    0x020b FriendNotice     ToClient  Center  ANY           Session Social  128;
    0x020c Announcement     ToClient  Center  ANY           Session Social  2048;
    0x020d ShutdownNotice   ToClient  Center  ANY           Session Social  1024;
    0x0210 TradeOpen        ToServer  Center  PLAYING       Session Social  128;
    0x0211 TradeSet         ToServer  Center  PLAYING       Session Social  TO_SERVER_BODY_MAX;
    0x0212 TradeConfirm     ToServer  Center  PLAYING       Session Social  64;
    0x0213 TradeCancel      ToServer  Center  PLAYING       Session Social  64;
    0x0214 TradeState       ToClient  Center  ANY           Session Social  TO_CLIENT_BODY_MAX;
    0x0215 TradeEnded       ToClient  Center  ANY           Session Social  1024;

    0x0216 MailArrived      ToClient  Center  ANY           Session Social  128;
    0x0220 PartyInvite      ToServer  Center  PLAYING       Session Social  128;
    0x0221 PartyInvited     ToClient  Center  ANY           Session Social  256;
    0x0222 PartyAccept      ToServer  Center  PLAYING       Session Social  128;
    0x0223 PartyDecline     ToServer  Center  PLAYING       Session Social  128;
    0x0224 PartyDeclined    ToClient  Center  ANY           Session Social  256;
    0x0225 PartyLeave       ToServer  Center  PLAYING       Session Social  0;
    0x0226 PartyKick        ToServer  Center  PLAYING       Session Social  128;
    0x0227 PartyLead        ToServer  Center  PLAYING       Session Social  128;
    0x0228 PartyState       ToClient  Center  ANY           Session Social  8192;
    0x0229 PartyChat        ToServer  Center  PLAYING       Session Chat    TO_SERVER_BODY_MAX;
    0x022a PartyChatted     ToClient  Center  ANY           Session Chat    2048;
    0x0230 LineList         ToServer  Center  PLAYING       Session Social  0;
    0x0231 Lines            ToClient  Center  ANY           Session Social  4096;
    0x0232 LineChange       ToServer  Center  PLAYING       Session Social  16;
    0x0233 LineChanged      ToClient  Center  ANY           Session Social  128;

    0x0301 Entered          ToClient  Scene   ANY           Session Action  TO_CLIENT_BODY_MAX;
    0x0302 Move             ToServer  Scene   PLAYING       Frame   Move    32;
    0x0303 Corrected        ToClient  Scene   ANY           Session Move    32;
    0x0304 CellMoves        ToClient  Scene   ANY           Frame   Move    TO_CLIENT_BODY_MAX;
    0x0305 CellSnapshot     ToClient  Scene   ANY           Session Move    TO_CLIENT_BODY_MAX;
    0x0306 CellGone         ToClient  Scene   ANY           Session Move    16;
    0x0307 CellChanges      ToClient  Scene   ANY           Session Move    TO_CLIENT_BODY_MAX;
    0x0308 Say              ToServer  Scene   PLAYING       Session Chat    TO_SERVER_BODY_MAX;
    0x0309 Said             ToClient  Scene   ANY           Session Chat    2048;
    0x030a TimeFactor       ToClient  Scene   ANY           Session Move    16;
    0x0320 TradeSettled     ToClient  Scene   ANY           Durable Action  64;
    0x0321 MailSend         ToServer  Scene   PLAYING       Session Action  TO_SERVER_BODY_MAX;
    0x0322 MailSent         ToClient  Scene   ANY           Durable Action  64;
    0x0323 MailList         ToServer  Scene   PLAYING       Session Action  0;
    0x0324 Mails            ToClient  Scene   ANY           Session Action  TO_CLIENT_BODY_MAX;
    0x0325 MailTake         ToServer  Scene   PLAYING       Session Action  64;
    0x0326 MailTaken        ToClient  Scene   ANY           Durable Action  TO_CLIENT_BODY_MAX;

    // The example game's own.
    0x0340 Attack           ToServer  Scene   PLAYING       Session Action  16;
    0x0341 Struck           ToClient  Scene   ANY           Session Action  64;
    0x0342 SheetChanged     ToClient  Scene   ANY           Durable Action  TO_CLIENT_BODY_MAX;
    0x0343 UseItem          ToServer  Scene   PLAYING       Session Action  32;
    0x0344 Give             ToServer  Scene   PLAYING       Session Action  64;
    0x0345 UsePortal        ToServer  Scene   PLAYING       Session Action  0;
}

/// The row of a name as written in `client.proto`, if there is one.
pub fn by_name(name: &str) -> Option<&'static KindInfo> {
    TABLE.iter().copied().find(|row| row.name == name)
}

fn to_json<M: ClientMessage>(body: &[u8]) -> Result<serde_json::Value, JsonError> {
    let name = M::INFO.name;
    let message = M::decode(body).map_err(|source| JsonError::Decode { name, source })?;
    serde_json::to_value(message).map_err(|source| JsonError::Fields { name, source })
}

fn from_json<M: ClientMessage>(fields: serde_json::Value) -> Result<Bytes, JsonError> {
    // `send: ListRoles` with nothing below it reads as null.
    let fields = if fields.is_null() { serde_json::Value::Object(serde_json::Map::new()) } else { fields };
    let message: M = serde_json::from_value(fields).map_err(|source| JsonError::Fields { name: M::INFO.name, source })?;
    Ok(message.encode_to_vec().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_rise_and_name_their_process() {
        for pair in TABLE.windows(2) {
            assert!(pair[0].kind < pair[1].kind, "{} comes before {}", pair[0].name, pair[1].name);
        }
        for row in TABLE {
            let process = match row.kind >> 8 {
                0 => Destination::Gate,
                1 => Destination::Login,
                2 => Destination::Center,
                3 => Destination::Scene,
                other => panic!("{}: no process has the high byte {other}", row.name),
            };
            assert_eq!(row.destination, process, "{}", row.name);
        }
    }

    #[test]
    fn every_body_fits_its_direction() {
        for row in TABLE {
            let longest = match row.direction {
                Direction::ToServer => TO_SERVER_BODY_MAX,
                Direction::ToClient => TO_CLIENT_BODY_MAX,
            };
            assert!(row.body_max <= longest, "{}", row.name);
        }
    }

    #[test]
    fn lookups_agree_with_the_table() {
        for row in TABLE {
            assert_eq!(info(row.kind).map(|found| found.name), Some(row.name));
            assert_eq!(by_name(row.name).map(|found| found.kind), Some(row.kind));
        }
        assert!(info(0xffff).is_none());
    }

    #[test]
    fn json_refuses_fields_that_the_message_does_not_have() {
        let kind = <client::Say as ClientMessage>::KIND;
        let body = body_from_json(kind, serde_json::json!({"text": "hello"})).unwrap();
        assert_eq!(body_to_json(kind, &body).unwrap(), serde_json::json!({"text": "hello"}));
        let wrong = body_from_json(kind, serde_json::json!({"txt": "hello"})).unwrap_err();
        assert!(wrong.to_string().contains("txt"), "{wrong}");
    }

    #[test]
    fn codes_are_names_in_json() {
        let fault = client::Fault::new(client::FaultCode::Banned, "until Friday");
        let json = serde_json::to_value(&fault).unwrap();
        assert_eq!(json["code"], "BANNED");
        let back: client::Fault = serde_json::from_value(json).unwrap();
        assert_eq!(back, fault);
    }
}
