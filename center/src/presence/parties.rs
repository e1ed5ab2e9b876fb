//! Parties: a few players who play together, one of whom leads. The rules, without network; all of it is soft.
//!
//! A scene is told the party of each player that it has and reports it with the player, so that a center that starts anew has the
//! parties back: but for members who were offline then, and invitations. A member who goes offline keeps its place for the resume
//! window.

use std::{collections::BTreeMap, time::Duration};

use proto::{ids::PlayerId, names};
use tokio::time::Instant;

/// How long an invitation stands.
const INVITE_STANDS: Duration = Duration::from_secs(60);
/// Invitations of one player at most. Full? One more is refused.
const INVITES_MAX: usize = 8;

/// Names a party, and the group in which it talks. Later ones are higher, over restarts of center too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct PartyId(pub u64);

/// A player in a party.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Member {
    pub player: PlayerId,
    pub name: String,
    /// Since when it is not in the world.
    offline: Option<Instant>,
}

/// A party.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Party {
    pub id: PartyId,
    leader: PlayerId,
    /// Whoever joined first comes first.
    pub members: Vec<Member>,
    /// When this center learnt of it.
    since: Instant,
}

/// What became of a party, and who is to be told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Change {
    pub party: PartyId,
    /// Those who are in it.
    pub members: Vec<PlayerId>,
    /// Those who are in it no more.
    pub gone: Vec<PlayerId>,
}

/// Why a request makes no sense now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PartyRefused {
    /// Only the leader may.
    NotLeader,
    Full,
    /// The sender is in a party.
    InParty,
    /// The other is in a party.
    OtherInParty,
    NoParty,
    NotMember,
    NoInvite,
    /// The other has too many invitations.
    TooMany,
    Oneself,
}

#[derive(Clone, Copy, Debug)]
struct Invite {
    from: PlayerId,
    until: Instant,
}

/// All parties. A player is in one at most, so they are half as many as players at most.
#[derive(Debug)]
pub(crate) struct Parties {
    all: BTreeMap<PartyId, Party>,
    of: BTreeMap<PlayerId, PartyId>,
    invites: BTreeMap<PlayerId, Vec<Invite>>,
    members_max: usize,
    /// Parties up to this number were made by an earlier center.
    earlier: PartyId,
    last: PartyId,
}

impl Party {
    /// Who leads it: the first, when the leader is not in it.
    pub(crate) fn leader(&self) -> PlayerId {
        let first = self.members.first().map_or(self.leader, |member| member.player);
        if self.members.iter().any(|member| member.player == self.leader) { self.leader } else { first }
    }

    pub(crate) fn leader_name(&self) -> &str {
        let leader = self.leader();
        self.members.iter().find(|member| member.player == leader).map_or("", |member| &member.name)
    }

    fn named(&self, name: &str) -> Result<PlayerId, PartyRefused> {
        let key = names::player_key(name);
        let member = self.members.iter().find(|member| names::player_key(&member.name) == key);
        member.map(|member| member.player).ok_or(PartyRefused::NotMember)
    }

    fn change(&self, gone: Vec<PlayerId>) -> Change {
        Change { party: self.id, members: self.members.iter().map(|member| member.player).collect(), gone }
    }
}

impl Parties {
    /// None yet. `now` is a number that no earlier center has given to a party: the wall clock in milliseconds.
    pub(crate) fn new(now: u64, members_max: usize) -> Self {
        let (all, of, invites) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        Self { all, of, invites, members_max, earlier: PartyId(now), last: PartyId(now) }
    }

    pub(crate) fn of(&self, player: PlayerId) -> Option<&Party> {
        self.all.get(self.of.get(&player)?)
    }

    /// The others of a player's party.
    pub(crate) fn others(&self, player: PlayerId) -> impl Iterator<Item = PlayerId> {
        let members = self.of(player).into_iter().flat_map(|party| &party.members);
        members.map(|member| member.player).filter(move |member| *member != player)
    }

    /// How things stand for a player's party, to tell its members.
    pub(crate) fn standing(&self, player: PlayerId) -> Option<Change> {
        self.of(player).map(|party| party.change(Vec::new()))
    }

    /// A player asks another into its party, or into one that begins with it.
    pub(crate) fn invite(&mut self, from: PlayerId, to: PlayerId, now: Instant) -> Result<(), PartyRefused> {
        if from == to {
            return Err(PartyRefused::Oneself);
        }
        if self.of.contains_key(&to) {
            return Err(PartyRefused::OtherInParty);
        }
        self.may_invite(from)?;
        let invites = self.invites.entry(to).or_default();
        invites.retain(|invite| now < invite.until && invite.from != from);
        if INVITES_MAX <= invites.len() {
            return Err(PartyRefused::TooMany);
        }
        invites.push(Invite { from, until: now + INVITE_STANDS });
        Ok(())
    }

    /// A player takes an invitation.
    pub(crate) fn accept(&mut self, who: (PlayerId, &str), from: (PlayerId, &str), now: Instant) -> Result<Change, PartyRefused> {
        if self.of.contains_key(&who.0) {
            return Err(PartyRefused::InParty);
        }
        self.invited(who.0, from.0, now)?;
        self.may_invite(from.0)?;
        self.invites.remove(&who.0);
        let id = match self.of.get(&from.0) {
            Some(id) => *id,
            None => self.begin(from, now),
        };
        self.join(id, who);
        Ok(self.all.get(&id).map(|party| party.change(Vec::new())).unwrap_or_default())
    }

    /// A player does not take an invitation.
    pub(crate) fn decline(&mut self, player: PlayerId, from: PlayerId, now: Instant) -> Result<(), PartyRefused> {
        self.invited(player, from, now)?;
        if let Some(invites) = self.invites.get_mut(&player) {
            invites.retain(|invite| invite.from != from);
        }
        Ok(())
    }

    /// A player leaves its party.
    pub(crate) fn leave(&mut self, player: PlayerId) -> Result<Change, PartyRefused> {
        self.remove(player).ok_or(PartyRefused::NoParty)
    }

    /// The leader sends a member away.
    pub(crate) fn kick(&mut self, leader: PlayerId, name: &str) -> Result<(PlayerId, Change), PartyRefused> {
        let member = self.led_by(leader)?.named(name)?;
        if member == leader {
            return Err(PartyRefused::Oneself);
        }
        let change = self.remove(member).ok_or(PartyRefused::NotMember)?;
        Ok((member, change))
    }

    /// The leader lets another member lead.
    pub(crate) fn lead(&mut self, leader: PlayerId, name: &str) -> Result<Change, PartyRefused> {
        let party = self.led_by(leader)?;
        party.leader = party.named(name)?;
        Ok(party.change(Vec::new()))
    }

    /// A scene has a player who is in this party, as an earlier center told it. A party that this center made is known better here.
    pub(crate) fn adopt(&mut self, who: (PlayerId, &str), party: PartyId, leader: PlayerId, now: Instant) -> Option<Change> {
        let full = self.all.get(&party).is_some_and(|party| self.members_max <= party.members.len());
        if party == PartyId(0) || self.earlier < party || self.of.contains_key(&who.0) || full {
            return None;
        }
        self.all.entry(party).or_insert(Party { id: party, leader, members: Vec::new(), since: now });
        self.join(party, who);
        self.standing(who.0)
    }

    /// Ends what time ends: invitations, the places of members who are offline for the window, adopted parties of whose members only one
    /// came back.
    pub(crate) fn sweep(&mut self, now: Instant, window: Duration, online: impl Fn(PlayerId) -> bool) -> Vec<Change> {
        self.invites.retain(|_, invites| {
            invites.retain(|invite| now < invite.until);
            !invites.is_empty()
        });
        let mut over = Vec::new();
        for party in self.all.values_mut() {
            for member in &mut party.members {
                member.offline = if online(member.player) { None } else { Some(member.offline.unwrap_or(now)) };
                let away = member.offline.is_some_and(|since| window <= now.duration_since(since));
                over.extend(away.then_some(member.player));
            }
            let alone = party.members.len() == 1 && window <= now.duration_since(party.since);
            over.extend(party.members.iter().filter(|_| alone).map(|member| member.player));
        }
        over.into_iter().filter_map(|player| self.remove(player)).collect()
    }

    fn may_invite(&self, from: PlayerId) -> Result<(), PartyRefused> {
        match self.of(from) {
            Some(party) if party.leader() != from => Err(PartyRefused::NotLeader),
            Some(party) if self.members_max <= party.members.len() => Err(PartyRefused::Full),
            _ => Ok(()),
        }
    }

    fn invited(&self, player: PlayerId, from: PlayerId, now: Instant) -> Result<(), PartyRefused> {
        let invites = self.invites.get(&player).into_iter().flatten();
        let stands = invites.into_iter().any(|invite| invite.from == from && now < invite.until);
        if stands { Ok(()) } else { Err(PartyRefused::NoInvite) }
    }

    fn led_by(&mut self, player: PlayerId) -> Result<&mut Party, PartyRefused> {
        let id = self.of.get(&player).ok_or(PartyRefused::NoParty)?;
        let party = self.all.get_mut(id).ok_or(PartyRefused::NoParty)?;
        if party.leader() == player { Ok(party) } else { Err(PartyRefused::NotLeader) }
    }

    fn begin(&mut self, leader: (PlayerId, &str), now: Instant) -> PartyId {
        self.last = PartyId(self.last.0.saturating_add(1));
        let party = Party { id: self.last, leader: leader.0, members: Vec::new(), since: now };
        self.all.insert(party.id, party);
        self.join(self.last, leader);
        self.last
    }

    fn join(&mut self, id: PartyId, (player, name): (PlayerId, &str)) {
        if let Some(party) = self.all.get_mut(&id) {
            party.members.push(Member { player, name: name.into(), offline: None });
            self.of.insert(player, id);
        }
    }

    /// Takes a player out. Whoever is left alone has no party any more.
    fn remove(&mut self, player: PlayerId) -> Option<Change> {
        let id = self.of.remove(&player)?;
        let party = self.all.get_mut(&id)?;
        party.leader = party.leader();
        party.members.retain(|member| member.player != player);
        let mut gone = vec![player];
        if party.members.len() < 2 {
            gone.extend(party.members.drain(..).map(|member| member.player));
        }
        let change = party.change(gone);
        for gone in &change.gone {
            self.of.remove(gone);
        }
        if change.members.is_empty() {
            self.all.remove(&id);
        }
        Some(change)
    }
}

#[cfg(test)]
mod tests;
