//! Numbers that name things, one type each, so that they can't be swapped.

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub u64);

        impl std::fmt::Display for $name {
            fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                self.0.fmt(to)
            }
        }
    )*};
}

ids! {
    /// Who logs in. From 1; given by dc.
    AccountId;
    /// A character of an account. From 1; given by dc.
    PlayerId;
    /// A logged-in connection that survives reconnects. Random, below 2^53 so that JSON readers keep it exact; never 0.
    SessionId;
    /// The number that rises with every new session of an account: the highest wins.
    SessionEpoch;
    /// The number that rises with every change of a player's owner: writes with a lower one are refused.
    OwnerEpoch;
    /// The number that rises by one with every save of a player.
    Version;
    /// A set of sessions that receive the same bodies; unique among the groups of one backend.
    GroupId;
}

/// One past the largest [`SessionId`].
pub const SESSION_END: u64 = 1 << 53;

/// Names an item for ever: 16 bytes, unique in the zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ItemId(pub u128);

impl ItemId {
    /// From its 16 bytes on the wire, big-endian; `None` for any other number of bytes.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        Some(Self(u128::from_be_bytes(bytes.try_into().ok()?)))
    }

    /// Its 16 bytes on the wire.
    pub fn to_bytes(self) -> bytes::Bytes {
        bytes::Bytes::copy_from_slice(&self.0.to_be_bytes())
    }
}

impl std::fmt::Display for ItemId {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(to, "{:032x}", self.0)
    }
}
