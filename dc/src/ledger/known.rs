//! What dc has read of accounts and relations, so that they are answered while the store is away. dc is the only writer of all of it, so
//! what is here is as the store has it, changed by what was changed since. Pure.
//!
//! Full? The least recently used is forgotten, and read again when it is asked for.

use std::collections::{BTreeMap, HashMap};

use proto::{
    internal::{GmAccountReply, Relation, RelationTo, RoleVersion},
    names,
};

use super::lru::Lru;
use crate::store::{Command, CommandResult, RelationsOf, Reply, Row};

/// GM accounts that are kept: all that a zone has. More than these are read when they are asked for.
pub(crate) const GM_ACCOUNTS_MAX: u32 = 1000;
/// Bytes that an entry counts for beside its texts and lists.
const ENTRY_BYTES: usize = 256;
/// The version of a role that was just made.
const FIRST: u64 = 1;

/// An account and its roles.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Account {
    pub account: u64,
    pub name: String,
    pub password_hash: String,
    /// Each with its version in the store.
    pub roles: Vec<RoleVersion>,
}

/// Whose account.
#[derive(Clone, Debug)]
pub(crate) enum Whose {
    Name(String),
    Number(u64),
}

/// What was read.
#[derive(Debug)]
pub(crate) struct Known {
    accounts: Lru<u64, Account>,
    numbers: HashMap<String, u64>,
    relations: Lru<u64, RelationsOf>,
    gms: BTreeMap<String, GmAccountReply>,
}

impl Default for Known {
    fn default() -> Self {
        let account = |account: &Account| {
            ENTRY_BYTES + 2 * account.name.len() + account.password_hash.len() + account.roles.len() * size_of::<RoleVersion>()
        };
        let relations = |of: &RelationsOf| {
            let names: usize = of.outgoing.iter().map(|to| size_of::<RelationTo>() + to.name.len()).sum();
            ENTRY_BYTES + names + (of.befriended_by.len() + of.blocked_by.len()) * size_of::<u64>()
        };
        Self { accounts: Lru::new(account), numbers: HashMap::new(), relations: Lru::new(relations), gms: BTreeMap::new() }
    }
}

impl Known {
    pub(super) fn bytes(&self) -> usize {
        self.accounts.bytes() + self.relations.bytes()
    }

    /// Forgets what is over the limit, half of which is for accounts and half for relations.
    pub(super) fn evict(&mut self, bytes_max: usize) {
        for gone in self.accounts.evict(bytes_max / 2) {
            self.numbers.remove(&gone.name);
        }
        self.relations.evict(bytes_max / 2);
    }

    pub(crate) fn account(&mut self, whose: &Whose) -> Option<&Account> {
        let number = match whose {
            Whose::Name(name) => *self.numbers.get(name)?,
            Whose::Number(number) => *number,
        };
        self.accounts.get(number)
    }

    pub(crate) fn put_account(&mut self, account: Account) {
        self.numbers.insert(account.name.clone(), account.account);
        self.accounts.insert(account.account, account);
    }

    pub(crate) fn relations(&mut self, player: u64) -> Option<&RelationsOf> {
        self.relations.get(player)
    }

    pub(super) fn put_relations(&mut self, player: u64, relations: RelationsOf) {
        self.relations.insert(player, relations);
    }

    pub(crate) fn gm_account(&self, name: &str) -> Option<&GmAccountReply> {
        self.gms.get(name)
    }

    pub(crate) fn put_gm_account(&mut self, account: GmAccountReply) {
        if self.gms.len() < GM_ACCOUNTS_MAX as usize {
            self.gms.insert(account.name.clone(), account);
        }
    }

    /// A relation is so from now on, on both sides.
    pub(super) fn related(&mut self, player: u64, to: &RelationTo) {
        self.relations.change(player, |of| relate(of, player, player, to));
        self.relations.change(to.player, |of| relate(of, to.player, player, to));
    }

    /// A role is gone, and its relations with it.
    pub(super) fn role_deleted(&mut self, account: u64, player: u64) {
        self.accounts.change(account, |account| account.roles.retain(|role| role.player != player));
        self.relations.remove(player);
        self.relations.change_all(|of| retain(of, |other| other != player));
    }

    /// The store has a role at this version.
    pub(super) fn stored(&mut self, row: &Row) {
        self.accounts.change(row.record.account, |account| {
            account.roles.iter_mut().filter(|role| role.player == row.player).for_each(|role| role.version = role.version.max(row.version));
        });
    }

    /// What a command of this dc did.
    pub(crate) fn carried_out(&mut self, command: &Command, result: &CommandResult) {
        match (command, result) {
            (Command::AccountCreate { name, password_hash }, Ok(Reply::Number(account))) => {
                let (name, password_hash) = (name.clone(), password_hash.clone());
                self.put_account(Account { account: *account, name, password_hash, roles: Vec::new() });
            }
            (Command::RoleCreate { record, .. }, Ok(Reply::Number(player))) => self.accounts.change(record.account, |account| {
                if account.roles.iter().all(|role| role.player != *player) {
                    account.roles.push(RoleVersion { player: *player, version: FIRST });
                }
            }),
            (Command::GmAccountCreate { name, password_hash, role }, Ok(_)) => {
                self.put_gm_account(GmAccountReply { name: name.clone(), password_hash: password_hash.clone(), role: role.clone() });
            }
            (_, _) => (),
        }
    }

    /// A command may have been carried out, or not.
    pub(crate) fn doubted(&mut self, command: &Command) {
        if let Command::RoleCreate { record, .. } = command
            && let Some(gone) = self.accounts.remove(record.account)
        {
            self.numbers.remove(&gone.name);
        }
    }
}

/// What a relation from `player` makes of the relations of `whose`, who is one of the two.
pub(super) fn relate(of: &mut RelationsOf, whose: u64, player: u64, to: &RelationTo) {
    if whose == player {
        of.outgoing.retain(|known| known.player != to.player);
        if to.relation() != Relation::Unspecified {
            of.outgoing.push(to.clone());
            of.outgoing.sort_by_cached_key(|known| names::player_key(&known.name));
        }
    } else {
        for (list, relation) in [(&mut of.befriended_by, Relation::Friend), (&mut of.blocked_by, Relation::Block)] {
            list.retain(|known| *known != player);
            if to.relation() == relation {
                list.insert(list.partition_point(|known| *known < player), player);
            }
        }
    }
}

/// Leaves the relations with those others of whom this holds.
pub(super) fn retain(of: &mut RelationsOf, holds: impl Fn(u64) -> bool) {
    of.outgoing.retain(|to| holds(to.player));
    of.befriended_by.retain(|other| holds(*other));
    of.blocked_by.retain(|other| holds(*other));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(number: u64, name: &str) -> Account {
        Account { account: number, name: name.into(), password_hash: "hash".into(), roles: Vec::new() }
    }

    fn to(player: u64, name: &str, relation: Relation) -> RelationTo {
        RelationTo { player, name: name.into(), relation: relation.into() }
    }

    #[test]
    fn an_account_is_known_by_name_and_number_until_it_is_forgotten() {
        let mut known = Known::default();
        (1..=300).for_each(|number| known.put_account(account(number, &format!("a{number}"))));
        assert_eq!(known.account(&Whose::Name("a7".into())).unwrap().account, 7);
        known.evict(0);
        assert!(known.account(&Whose::Number(7)).is_some() && known.account(&Whose::Number(1)).is_none());
        assert!(known.account(&Whose::Name("a1".into())).is_none() && known.numbers.len() == 256);
    }

    #[test]
    fn roles_follow_what_this_dc_makes_stores_and_deletes() {
        let mut known = Known::default();
        known.put_account(account(1, "alice"));
        let record = proto::record::PlayerRecord { player: 5, account: 1, ..Default::default() };
        let make = Command::RoleCreate { record: record.clone(), roles_max: 4 };
        for _ in 0..2 {
            known.carried_out(&make, &Ok(Reply::Number(5)));
        }
        let row = crate::store::Row {
            player: 5,
            record: std::sync::Arc::new(record),
            owner: "".into(),
            epoch: 0,
            version: 3,
            revision: 3,
            lsn: 3,
            items_changed: false,
            deleted: false,
        };
        known.stored(&row);
        assert_eq!(known.account(&Whose::Number(1)).unwrap().roles, [RoleVersion { player: 5, version: 3 }]);
        known.role_deleted(1, 5);
        assert_eq!(known.account(&Whose::Number(1)).unwrap().roles, []);
        known.doubted(&make);
        assert_eq!(known.account(&Whose::Name("alice".into())), None, "it may have the role, or not: the store has to say");
    }

    #[test]
    fn a_relation_is_seen_from_both_sides_and_goes_with_the_role() {
        let mut known = Known::default();
        (1..=2).for_each(|player| known.put_relations(player, RelationsOf::default()));
        known.related(1, &to(3, "Zoe", Relation::Friend));
        known.related(1, &to(2, "Bo", Relation::Friend));
        let outgoing = |known: &mut Known| known.relations(1).unwrap().outgoing.iter().map(|to| to.player).collect::<Vec<_>>();
        assert_eq!((outgoing(&mut known), known.relations(2).unwrap().befriended_by.clone()), (vec![2, 3], vec![1]), "by name");
        known.related(1, &to(2, "Bo", Relation::Block));
        assert_eq!(known.relations(2).unwrap(), &RelationsOf { blocked_by: vec![1], ..RelationsOf::default() });
        known.related(1, &to(2, "Bo", Relation::Unspecified));
        assert_eq!((outgoing(&mut known), known.relations(2).unwrap()), (vec![3], &RelationsOf::default()));
        known.role_deleted(9, 3);
        assert_eq!(outgoing(&mut known), [0; 0]);
    }
}
