//! Who is online and where: the rules, without network, disk or clock. Each method is told everything, changes the tables, and
//! returns [`Action`]s that the shell carries out.
//!
//! [`sessions`] holds the one live session of each account (I4), [`players`] the one place of each player (I3), [`lines`] what
//! scenes host, [`parties`] who plays together. [`steer`] says when lines open and close; [`enter`] brings players in, [`rebuild`] takes what gates and scenes report, [`sweep`] ends what time ends.
//! dc's fence decides who owns a player; presence is the soft picture of it, and loses every contradiction with it.

pub(crate) mod enter;
pub(crate) mod lines;
pub(crate) mod parties;
pub(crate) mod players;
pub(crate) mod rebuild;
pub(crate) mod sessions;
pub(crate) mod steer;
pub(crate) mod sweep;
#[cfg(test)]
mod zone_tests;

use std::{collections::BTreeMap, fmt, str::FromStr, time::Duration};

use bytes::Bytes;
use proto::{
    client::FaultCode,
    ids::{AccountId, PlayerId, SessionId},
};
use service::{ProcessId, Zone, link::Peer};
use tokio::time::Instant;

use self::{
    lines::Lines,
    parties::{Change, Parties, PartyId},
    players::Players,
    sessions::Sessions,
    steer::Opening,
};

/// One run of a process; its text (`scene-1/8271`) is the name under which a scene owns players.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Run {
    /// The process.
    pub id: ProcessId,
    /// Which of its runs; 0 when it was not linked and so is not known.
    pub incarnation: u64,
}

impl Run {
    pub(crate) fn of(peer: &Peer) -> Self {
        Self { id: peer.id.clone(), incarnation: peer.incarnation }
    }
}

impl fmt::Display for Run {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(to, "{}/{}", self.id, self.incarnation)
    }
}

impl FromStr for Run {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (id, incarnation) = text.rsplit_once('/').ok_or(())?;
        Ok(Self { id: ProcessId(id.into()), incarnation: incarnation.parse().map_err(|_| ())? })
    }
}

/// What the shell has to do after a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// End a session at its gate, and say why.
    Close { gate: ProcessId, session: SessionId, code: FaultCode, text: String },
    /// Make a scene give a player up.
    Leave { scene: Run, player: PlayerId, reason: &'static str },
    /// The session hears what the whole zone hears.
    JoinZone { gate: ProcessId, session: SessionId },
    /// The session hears it no more, nor its party.
    LeaveZone { gate: ProcessId, session: SessionId, party: Option<PartyId> },
    /// Tell those who have the player as a friend.
    TellFriends { player: PlayerId, name: String, online: bool },
    /// Somebody waits for a scene, or one came that may take them.
    Rehome,
    /// Ask a scene to open a line.
    OpenLine(Opening),
    /// Make a scene close a line.
    CloseLine { scene: Run, map: String, line: u32 },
    /// For the logs: a line opened, is closing, closed or lost its scene.
    LineChanged { what: &'static str, map: String, line: u32, scene: ProcessId, by: String },
    /// Tell those who are in a party, and those who no longer are.
    TellParty(Change),
    /// Tell the player's scene whom it is with.
    TellScene { player: PlayerId },
}

/// Resume nonces that are remembered at most. Full? The resume is refused as UNAVAILABLE: forgetting one would let it be used twice.
const NONCES_MAX: usize = 100_000;
/// How long a player who changed lines waits before it may do so again.
pub(crate) const LINE_CHANGE_AFTER: Duration = Duration::from_secs(10);
/// The text of a session closed by a newer one.
pub(crate) const ELSEWHERE: &str = "the account has logged in elsewhere";

/// Who is online and where.
#[derive(Debug)]
pub(crate) struct Presence {
    pub(crate) sessions: Sessions,
    pub(crate) players: Players,
    pub(crate) lines: Lines,
    pub(crate) parties: Parties,
    /// When players last changed lines by their own wish.
    line_changes: BTreeMap<PlayerId, Instant>,
    gates: BTreeMap<ProcessId, u64>,
    scenes: BTreeMap<ProcessId, u64>,
    nonces: BTreeMap<Bytes, i64>,
    /// Whom sessions play as their gates reported, until the rebuild is over.
    playing: BTreeMap<SessionId, PlayerId>,
    mutes: BTreeMap<AccountId, i64>,
    resume_window: Duration,
}

/// Who speaks through a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Speaker {
    pub account: AccountId,
    pub player: PlayerId,
    pub name: String,
    pub gate: ProcessId,
    pub session: SessionId,
    pub map: String,
    pub line: u32,
}

/// Why a resume nonce is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NonceRefused {
    Used,
    Expired,
    Full,
}

impl Presence {
    /// As the zone file says; `now_ms` is the wall clock.
    pub(crate) fn of_zone(zone: &Zone, now_ms: i64) -> Self {
        let parties = Parties::new(u64::try_from(now_ms).unwrap_or(0), zone.players.party_max as usize);
        Self { lines: Lines::of_zone(zone), parties, ..Self::new(zone.players.resume_window) }
    }

    pub(crate) fn new(resume_window: Duration) -> Self {
        Self {
            sessions: Sessions::default(),
            players: Players::default(),
            lines: Lines::default(),
            parties: Parties::new(0, 5),
            line_changes: BTreeMap::new(),
            gates: BTreeMap::new(),
            scenes: BTreeMap::new(),
            nonces: BTreeMap::new(),
            playing: BTreeMap::new(),
            mutes: BTreeMap::new(),
            resume_window,
        }
    }

    /// The player in the world behind a session of this gate.
    pub(crate) fn speaker(&self, gate: &ProcessId, session: SessionId) -> Option<Speaker> {
        let live = self.sessions.of(session).filter(|live| live.gate.id == *gate)?;
        let player = self.players.of_account(live.account).find(|player| player.online && player.session == session)?;
        Some(Speaker {
            account: live.account,
            player: player.player,
            name: player.name.clone(),
            gate: gate.clone(),
            session,
            map: player.place.map.clone(),
            line: player.place.line,
        })
    }

    /// Whose a session is, if it is the account's live one.
    pub(crate) fn account_of(&self, session: SessionId) -> Option<AccountId> {
        self.sessions.of(session).map(|live| live.account)
    }

    /// Gate and session through which an online player can be told something.
    pub(crate) fn route(&self, player: PlayerId) -> Option<(ProcessId, SessionId)> {
        let player = self.players.get(player).filter(|player| player.online)?;
        let live = self.sessions.get(player.account).filter(|live| live.session == player.session)?;
        Some((live.gate.id.clone(), live.session))
    }

    /// The party of the player whom a session plays.
    pub(crate) fn party_of_session(&self, session: SessionId) -> Option<PartyId> {
        let account = self.account_of(session)?;
        let playing = self.players.of_account(account).find(|player| player.session == session)?;
        self.parties.of(playing.player).map(|party| party.id)
    }

    /// Whether a player may change lines by its own wish now; if so, that counts as its last change.
    pub(crate) fn may_change_line(&mut self, player: PlayerId, now: Instant) -> bool {
        let may = self.line_changes.get(&player).is_none_or(|last| LINE_CHANGE_AFTER <= now.duration_since(*last));
        if may {
            self.line_changes.insert(player, now);
        }
        may
    }

    /// The change of lines came to nothing.
    pub(crate) fn forget_line_change(&mut self, player: PlayerId) {
        self.line_changes.remove(&player);
    }

    /// Remembers a resume nonce until it expires.
    pub(crate) fn use_nonce(&mut self, nonce: &Bytes, expires_ms: i64, now_ms: i64) -> Result<(), NonceRefused> {
        if expires_ms <= now_ms {
            return Err(NonceRefused::Expired);
        }
        if self.nonces.contains_key(nonce) {
            return Err(NonceRefused::Used);
        }
        if NONCES_MAX <= self.nonces.len() {
            self.nonces.retain(|_, expires| now_ms < *expires);
        }
        if NONCES_MAX <= self.nonces.len() {
            return Err(NonceRefused::Full);
        }
        self.nonces.insert(nonce.clone(), expires_ms);
        Ok(())
    }

    /// The resume came to nothing through no fault of the client: the same ticket may be tried again.
    pub(crate) fn give_nonce_back(&mut self, nonce: &Bytes) {
        self.nonces.remove(nonce);
    }

    /// The account may not speak until then; `i64::MAX`: without end; 0: it may.
    pub(crate) fn mute(&mut self, account: AccountId, until_ms: i64) {
        if until_ms == 0 {
            self.mutes.remove(&account);
        } else {
            self.mutes.insert(account, until_ms);
        }
    }

    /// Until when the account may not speak; 0: it may.
    pub(crate) fn muted_until(&self, account: AccountId, now_ms: i64) -> i64 {
        self.mutes.get(&account).copied().filter(|until| now_ms < *until).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_named_as_owners_are() {
        let run = Run { id: ProcessId("scene-2".into()), incarnation: 8271 };
        assert_eq!(run.to_string(), "scene-2/8271");
        assert_eq!("scene-2/8271".parse(), Ok(run));
        for bad in ["scene-2", "scene-2/", "scene-2/x", ""] {
            assert_eq!(bad.parse::<Run>(), Err(()), "{bad}");
        }
    }

    #[test]
    fn a_nonce_is_used_once_until_it_expires() {
        let mut presence = Presence::new(Duration::from_secs(60));
        let nonce = Bytes::from_static(b"nonce");
        assert_eq!(presence.use_nonce(&nonce, 100, 50), Ok(()));
        assert_eq!(presence.use_nonce(&nonce, 100, 99), Err(NonceRefused::Used));
        assert_eq!(presence.use_nonce(&nonce, 100, 100), Err(NonceRefused::Expired));
        presence.give_nonce_back(&nonce);
        assert_eq!(presence.use_nonce(&nonce, 100, 60), Ok(()));
    }

    #[test]
    fn a_full_table_of_nonces_refuses_and_heals_when_they_expire() {
        let mut presence = Presence::new(Duration::from_secs(60));
        for number in 0..NONCES_MAX {
            presence.use_nonce(&number.to_le_bytes().to_vec().into(), 100, 0).unwrap();
        }
        let one_more = Bytes::from_static(b"one more");
        assert_eq!(presence.use_nonce(&one_more, 200, 99), Err(NonceRefused::Full));
        assert_eq!(presence.use_nonce(&one_more, 200, 100), Ok(()));
    }

    #[test]
    fn mutes_end() {
        let mut presence = Presence::new(Duration::from_secs(60));
        presence.mute(AccountId(1), 100);
        assert_eq!(presence.muted_until(AccountId(1), 99), 100);
        assert_eq!(presence.muted_until(AccountId(1), 100), 0);
        presence.mute(AccountId(1), i64::MAX);
        assert_eq!(presence.muted_until(AccountId(1), 1 << 60), i64::MAX);
        presence.mute(AccountId(1), 0);
        assert_eq!(presence.muted_until(AccountId(1), 0), 0);
    }
}
