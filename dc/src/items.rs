//! Where each item is: no item id is ever at two players. Pure.

use std::collections::{HashMap, HashSet};

use proto::{client::Item, ids::ItemId};

use crate::refusal::Refusal;

/// The ids of a record's items, sorted.
///
/// Refused when an id is not of 16 bytes or comes twice.
pub(crate) fn ids_of(items: &[Item]) -> Result<Vec<ItemId>, Refusal> {
    let mut ids = Vec::with_capacity(items.len());
    for item in items {
        ids.push(ItemId::from_bytes(&item.id).ok_or_else(|| Refusal::invalid(format!("an item id has 16 bytes, not {}", item.id.len())))?);
    }
    ids.sort_unstable();
    match ids.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(Refusal::invalid(format!("item {} is there twice", pair[0]))),
        None => Ok(ids),
    }
}

/// What a unit does to one player's items: both lists sorted.
pub(crate) struct ItemsChange<'a> {
    pub player: u64,
    pub before: &'a [ItemId],
    pub after: &'a [ItemId],
}

impl ItemsChange<'_> {
    /// It had the item, and has it no more.
    fn gives_up(&self, item: ItemId) -> bool {
        self.before.binary_search(&item).is_ok() && self.after.binary_search(&item).is_err()
    }

    fn gains(&self) -> impl Iterator<Item = ItemId> {
        self.after.iter().copied().filter(|item| self.before.binary_search(item).is_err())
    }
}

/// Holders of items among the players in memory.
#[derive(Debug, Default)]
pub(crate) struct ItemIndex {
    holders: HashMap<ItemId, u64>,
}

impl ItemIndex {
    pub(crate) fn holder(&self, item: ItemId) -> Option<u64> {
        self.holders.get(&item).copied()
    }

    pub(crate) fn insert(&mut self, player: u64, items: &[ItemId]) {
        self.holders.extend(items.iter().map(|item| (*item, player)));
    }

    /// Forgets these items of the player; those that meanwhile are another's stay.
    pub(crate) fn remove(&mut self, player: u64, items: &[ItemId]) {
        for item in items {
            if self.holders.get(item) == Some(&player) {
                self.holders.remove(item);
            }
        }
    }

    /// Whether every item is at one player after these changes, made together. `holder` knows the players that are not in memory too.
    pub(crate) fn check(changes: &[ItemsChange<'_>], holder: impl Fn(ItemId) -> Option<u64>) -> Result<(), Refusal> {
        let mut gained = HashSet::new();
        for change in changes {
            for item in change.gains() {
                let given_up = |from: u64| changes.iter().any(|other| other.player == from && other.gives_up(item));
                let taken = holder(item).is_some_and(|from| from != change.player && !given_up(from));
                if taken || !gained.insert(item) {
                    return Err(Refusal::invalid(format!("item {item} would be at two players")));
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: ItemId = ItemId(1);
    const B: ItemId = ItemId(2);

    fn check(index: &ItemIndex, changes: &[(u64, &[ItemId], &[ItemId])]) -> bool {
        let changes: Vec<_> = changes.iter().map(|&(player, before, after)| ItemsChange { player, before, after }).collect();
        ItemIndex::check(&changes, |item| index.holder(item)).is_ok()
    }

    #[test]
    fn an_item_moves_only_when_its_holder_gives_it_up() {
        let mut index = ItemIndex::default();
        index.insert(1, &[A]);
        assert!(check(&index, &[(1, &[A], &[]), (2, &[], &[A])]), "given and taken in one unit");
        assert!(!check(&index, &[(2, &[], &[A])]), "taken without being given");
        assert!(!check(&index, &[(1, &[A], &[A]), (2, &[], &[A])]), "taken and kept");
        assert!(!check(&index, &[(2, &[], &[B]), (3, &[], &[B])]), "a new item at two players");
        assert!(!check(&index, &[(1, &[], &[]), (2, &[], &[A])]), "its holder gives up something else");
        assert!(check(&index, &[(2, &[], &[B])]), "a new item");
        assert!(check(&index, &[(1, &[A], &[A])]), "nothing changes");
    }

    #[test]
    fn malformed_and_double_ids_are_refused() {
        let item = |id: &[u8]| Item { id: id.to_vec().into(), kind: "x".into(), count: 1 };
        assert!(ids_of(&[item(&[1; 15])]).is_err());
        assert!(ids_of(&[item(&[1; 16]), item(&[2; 16]), item(&[1; 16])]).is_err());
        assert_eq!(ids_of(&[item(&[2; 16]), item(&[1; 16])]).unwrap().len(), 2);
    }

    #[test]
    fn forgetting_a_player_leaves_what_moved_on() {
        let mut index = ItemIndex::default();
        index.insert(1, &[A, B]);
        index.insert(2, &[A]);
        index.remove(1, &[A, B]);
        assert_eq!((index.holder(A), index.holder(B)), (Some(2), None));
    }
}
