//! Resume tickets: what a client shows to bring back its session, at this gate or at any other of the zone.
//!
//! A ticket is `u8 format | u32 key id | u64 session | u64 account | u64 session epoch | i64 expires | 16 bytes nonce | zone | 32 bytes tag`,
//! big-endian. The tag is HMAC-SHA256 over all before it, with a key that all gates of the zone derive from its secret; the algorithm
//! is fixed here, not by the ticket. The tag is checked, in constant time, before anything else is read.

use aws_lc_rs::{digest, hmac};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use service::secret::ZoneSecret;

const FORMAT: u8 = 1;
const TAG_BYTES: usize = 32;
const HEAD_BYTES: usize = 1 + 4 + 8 + 8 + 8 + 8 + 16;
/// The longest zone name that a ticket takes; longer ones are cut. The tag's key tells zones apart as well.
const ZONE_BYTES_MAX: usize = 128;

/// Makes each ticket usable once.
pub(crate) type Nonce = [u8; 16];

/// What a ticket says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ticket {
    /// The session that it brings back.
    pub session: u64,
    /// Whose session that is.
    pub account: u64,
    /// Which of the account's sessions that is.
    pub session_epoch: u64,
    /// Unix milliseconds after which it is refused.
    pub expires_ms: i64,
    /// Used once.
    pub nonce: Nonce,
}

/// Why a ticket is refused. Clients are not told which.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TicketError {
    /// Not signed by a gate of this zone, or changed since.
    Forged,
    /// For another zone.
    OtherZone,
    /// Its time is over.
    Expired,
}

/// Signs and checks the tickets of a zone.
#[derive(Debug)]
pub(crate) struct Tickets {
    zone: String,
    key: hmac::Key,
    key_id: u32,
}

impl Tickets {
    /// For one zone, with the key that its secret gives.
    pub(crate) fn new(zone: &str, secret: &ZoneSecret) -> Self {
        let key = secret.key("resume ticket");
        let hash = digest::digest(&digest::SHA256, &key);
        let key_id = hash.as_ref().first_chunk().map_or(0, |first| u32::from_be_bytes(*first));
        let cut = zone.char_indices().map(|(at, _)| at).find(|at| ZONE_BYTES_MAX <= *at).unwrap_or(zone.len());
        Self { zone: zone[..cut].to_owned(), key: hmac::Key::new(hmac::HMAC_SHA256, &key), key_id }
    }

    /// Signs a ticket.
    pub(crate) fn sign(&self, ticket: &Ticket) -> Bytes {
        let mut bytes = BytesMut::with_capacity(HEAD_BYTES + self.zone.len() + TAG_BYTES);
        bytes.put_u8(FORMAT);
        bytes.put_u32(self.key_id);
        bytes.put_u64(ticket.session);
        bytes.put_u64(ticket.account);
        bytes.put_u64(ticket.session_epoch);
        bytes.put_i64(ticket.expires_ms);
        bytes.put_slice(&ticket.nonce);
        bytes.put_slice(self.zone.as_bytes());
        let tag = hmac::sign(&self.key, &bytes);
        bytes.put_slice(tag.as_ref());
        bytes.freeze()
    }

    /// Checks a ticket and reads it.
    ///
    /// # Errors
    /// When it is not good at `now_ms`.
    pub(crate) fn verify(&self, bytes: &[u8], now_ms: i64) -> Result<Ticket, TicketError> {
        let (signed, tag) = bytes.split_last_chunk::<TAG_BYTES>().ok_or(TicketError::Forged)?;
        hmac::verify(&self.key, signed, tag).map_err(|_| TicketError::Forged)?;
        let (mut head, zone) = signed.split_at_checked(HEAD_BYTES).ok_or(TicketError::Forged)?;
        if head.get_u8() != FORMAT || head.get_u32() != self.key_id {
            return Err(TicketError::Forged);
        }
        if zone != self.zone.as_bytes() {
            return Err(TicketError::OtherZone);
        }
        let (session, account, session_epoch, expires_ms) = (head.get_u64(), head.get_u64(), head.get_u64(), head.get_i64());
        let nonce = head.try_into().map_err(|_| TicketError::Forged)?;
        if expires_ms < now_ms {
            return Err(TicketError::Expired);
        }
        Ok(Ticket { session, account, session_epoch, expires_ms, nonce })
    }
}

/// The nonces of one session that were used, until they expire.
///
/// Full? A session has one live ticket a quarter of their validity, and each can be entered here once, so there are a handful.
#[derive(Debug, Default)]
pub(crate) struct UsedNonces(Vec<(Nonce, i64)>);

impl UsedNonces {
    /// Whether the nonce was used.
    pub(crate) fn has(&self, nonce: &Nonce) -> bool {
        self.0.iter().any(|(used, _)| used == nonce)
    }

    /// Enters a nonce and forgets those whose tickets are refused by their age.
    pub(crate) fn enter(&mut self, nonce: Nonce, expires_ms: i64, now_ms: i64) {
        self.0.retain(|(_, expires_ms)| now_ms <= *expires_ms);
        self.0.push((nonce, expires_ms));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW_MS: i64 = 1_800_000_000_000;

    fn tickets(zone: &str, secret: &[u8]) -> Tickets {
        Tickets::new(zone, &ZoneSecret::new(secret))
    }

    fn ticket() -> Ticket {
        Ticket { session: 77, account: 5, session_epoch: 3, expires_ms: NOW_MS + 60_000, nonce: [9; 16] }
    }

    #[test]
    fn a_good_ticket_says_what_was_signed() {
        let tickets = tickets("dev", b"0123456789abcdef");
        assert_eq!(tickets.verify(&tickets.sign(&ticket()), NOW_MS), Ok(ticket()));
    }

    #[test]
    fn every_bit_flip_and_every_cut_is_refused() {
        let tickets = tickets("dev", b"0123456789abcdef");
        let good = tickets.sign(&ticket());
        for bit in 0..good.len() * 8 {
            let mut bad = good.to_vec();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(tickets.verify(&bad, NOW_MS), Err(TicketError::Forged), "bit {bit}");
        }
        for length in 0..good.len() {
            assert_eq!(tickets.verify(&good[..length], NOW_MS), Err(TicketError::Forged), "cut to {length}");
        }
        let mut long = good.to_vec();
        long.push(0);
        assert_eq!(tickets.verify(&long, NOW_MS), Err(TicketError::Forged));
    }

    #[test]
    fn other_keys_other_zones_and_old_age_are_refused() {
        let ours = tickets("dev", b"0123456789abcdef");
        let other_secret = tickets("dev", b"fedcba9876543210");
        let other_zone = tickets("live", b"0123456789abcdef");
        assert_eq!(ours.verify(&other_secret.sign(&ticket()), NOW_MS), Err(TicketError::Forged));
        assert_eq!(ours.verify(&other_zone.sign(&ticket()), NOW_MS), Err(TicketError::OtherZone));
        let good = ours.sign(&ticket());
        assert!(ours.verify(&good, NOW_MS + 60_000).is_ok());
        assert_eq!(ours.verify(&good, NOW_MS + 60_001), Err(TicketError::Expired));
    }

    #[test]
    fn a_nonce_is_remembered_until_its_ticket_expires() {
        let mut used = UsedNonces::default();
        used.enter([1; 16], NOW_MS + 10, NOW_MS);
        used.enter([2; 16], NOW_MS + 99, NOW_MS + 10);
        assert!(used.has(&[1; 16]) && used.has(&[2; 16]) && !used.has(&[3; 16]));
        used.enter([3; 16], NOW_MS + 99, NOW_MS + 11);
        assert!(!used.has(&[1; 16]) && used.has(&[2; 16]));
    }

    proptest! {
        #[test]
        fn no_bytes_are_a_ticket(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            prop_assert_eq!(tickets("dev", b"0123456789abcdef").verify(&bytes, NOW_MS), Err(TicketError::Forged));
        }
    }
}
