//! Whom a player is with: its party and its friends. In a crowd, of which not everything can be told, a player is told of these by itself.

use std::collections::{BTreeMap, BTreeSet};

use proto::ids::PlayerId;

/// Companions of whom a player is told in one tick. Those after them have their turn as everybody has.
pub const TOLD_MAX: usize = 16;

/// Who is with whom on a line.
#[derive(Clone, Debug, Default)]
pub struct Companions {
    ties: BTreeMap<PlayerId, Ties>,
    /// Who of a party is here.
    parties: BTreeMap<u64, BTreeSet<PlayerId>>,
}

#[derive(Clone, Debug)]
struct Ties {
    /// 0: none.
    party: u64,
    friends: BTreeSet<PlayerId>,
}

impl Companions {
    /// The player is in this party (0: none) and has these friends, wherever they are.
    pub fn set(&mut self, player: PlayerId, party: u64, friends: &BTreeSet<PlayerId>) {
        self.forget(player);
        if party == 0 && friends.is_empty() {
            return;
        }
        if party != 0 {
            self.parties.entry(party).or_default().insert(player);
        }
        self.ties.insert(player, Ties { party, friends: friends.clone() });
    }

    /// The player went.
    pub fn forget(&mut self, player: PlayerId) {
        let Some(ties) = self.ties.remove(&player) else { return };
        if let Some(party) = self.parties.get_mut(&ties.party) {
            party.remove(&player);
            if party.is_empty() {
                self.parties.remove(&ties.party);
            }
        }
    }

    /// Players that have any.
    pub fn players(&self) -> impl Iterator<Item = PlayerId> {
        self.ties.keys().copied()
    }

    /// A player's party and then its friends, whether or not they are here.
    pub fn of(&self, player: PlayerId) -> impl Iterator<Item = PlayerId> {
        let ties = self.ties.get(&player);
        let party = ties.and_then(|ties| self.parties.get(&ties.party)).into_iter().flatten().copied();
        let friends = ties.into_iter().flat_map(|ties| &ties.friends).copied();
        party.chain(friends).filter(move |other| *other != player)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_party_comes_before_friends_and_who_went_is_forgotten() {
        let mut companions = Companions::default();
        let [one, two, three, four] = [1, 2, 3, 4].map(PlayerId);
        companions.set(one, 9, &[four].into());
        companions.set(two, 9, &BTreeSet::new());
        companions.set(three, 9, &BTreeSet::new());
        assert_eq!(companions.of(one).collect::<Vec<_>>(), [two, three, four]);
        companions.forget(two);
        assert_eq!(companions.of(one).collect::<Vec<_>>(), [three, four]);
        companions.set(one, 0, &BTreeSet::new());
        companions.forget(three);
        assert!(companions.players().next().is_none() && companions.parties.is_empty());
    }
}
