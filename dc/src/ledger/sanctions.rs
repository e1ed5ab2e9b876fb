//! All sanctions in force, so that no question about them needs the store. Pure; the clock is told.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use prost::Message;
use proto::internal::{Sanction, SanctionKind};

use crate::{refusal::Refusal, store::LIST_MAX};

/// Bytes of all sanctions in force: hundreds of thousands of usual length. One more is refused.
pub(crate) const SANCTIONS_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Bytes that a sanction counts for beside its encoded length: its strings and its places in the indexes.
const SANCTION_BYTES: usize = 256;

/// Which sanctions, of those in force: `account` 0 and an empty `address` match nobody.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wanted {
    /// Only of this kind.
    pub kind: Option<SanctionKind>,
    /// None: whomever they are against.
    pub against: Option<(u64, String)>,
    pub now_ms: i64,
    pub limit: u32,
}

/// The sanctions in force, each with the name of its account, if it is against one.
#[derive(Debug, Default)]
pub(crate) struct Sanctions {
    all: BTreeMap<u64, Sanction>,
    by_account: HashMap<u64, BTreeSet<u64>>,
    by_address: HashMap<String, BTreeSet<u64>>,
    /// Those that end by themselves: when, and which.
    ends: BTreeSet<(i64, u64)>,
    bytes: usize,
}

impl Sanctions {
    /// Newest first.
    pub(crate) fn find(&self, wanted: &Wanted) -> Vec<Sanction> {
        let limit = usize::try_from(wanted.limit.min(LIST_MAX)).unwrap_or(usize::MAX);
        let fits = |sanction: &&Sanction| {
            let in_force = sanction.until_ms == 0 || wanted.now_ms < sanction.until_ms;
            in_force && wanted.kind.is_none_or(|kind| kind == sanction.kind())
        };
        match &wanted.against {
            None => self.all.values().rev().filter(fits).take(limit).cloned().collect(),
            Some((account, address)) => {
                let numbers: BTreeSet<u64> =
                    [self.by_account.get(account), self.by_address.get(address)].into_iter().flatten().flatten().copied().collect();
                numbers.iter().rev().filter_map(|number| self.all.get(number)).filter(fits).take(limit).cloned().collect()
            }
        }
    }

    /// Whether there is room for one more, when those that have ended are forgotten.
    pub(super) fn admit(&mut self, now_ms: i64) -> Result<(), Refusal> {
        while let Some(&(until_ms, number)) = self.ends.first().filter(|(until_ms, _)| *until_ms <= now_ms) {
            self.ends.remove(&(until_ms, number));
            self.remove(number);
        }
        if self.bytes < SANCTIONS_BYTES_MAX {
            return Ok(());
        }
        Err(Refusal::Unavailable(format!("{} sanctions are in force, more than dc keeps: lift some", self.all.len())))
    }

    pub(crate) fn insert(&mut self, sanction: Sanction) {
        let number = sanction.id;
        self.remove(number);
        if sanction.account != 0 {
            self.by_account.entry(sanction.account).or_default().insert(number);
        }
        if !sanction.address.is_empty() {
            self.by_address.entry(sanction.address.clone()).or_default().insert(number);
        }
        if sanction.until_ms != 0 {
            self.ends.insert((sanction.until_ms, number));
        }
        self.bytes += weight(&sanction);
        self.all.insert(number, sanction);
    }

    pub(super) fn remove(&mut self, number: u64) {
        let Some(gone) = self.all.remove(&number) else { return };
        self.bytes -= weight(&gone);
        self.ends.remove(&(gone.until_ms, number));
        unlist(&mut self.by_account, &gone.account, number);
        unlist(&mut self.by_address, &gone.address, number);
    }
}

fn weight(sanction: &Sanction) -> usize {
    SANCTION_BYTES + sanction.encoded_len()
}

fn unlist<K: Eq + std::hash::Hash>(index: &mut HashMap<K, BTreeSet<u64>>, key: &K, number: u64) {
    if let Some(numbers) = index.get_mut(key) {
        numbers.remove(&number);
        if numbers.is_empty() {
            index.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_000;

    fn sanction(id: u64, kind: SanctionKind, account: u64, address: &str, until_ms: i64) -> Sanction {
        Sanction { id, kind: kind.into(), account, address: address.into(), until_ms, ..Sanction::default() }
    }

    fn some() -> Sanctions {
        let mut sanctions = Sanctions::default();
        sanctions.insert(sanction(1, SanctionKind::Ban, 7, "", 2 * NOW));
        sanctions.insert(sanction(2, SanctionKind::Mute, 0, "10.0.0.1", 0));
        sanctions.insert(sanction(3, SanctionKind::Mute, 7, "", 0));
        sanctions
    }

    fn found(sanctions: &Sanctions, now_ms: i64, kind: Option<SanctionKind>, against: Option<(u64, &str)>) -> Vec<u64> {
        let against = against.map(|(account, address)| (account, address.to_owned()));
        sanctions.find(&Wanted { kind, against, now_ms, limit: 9 }).iter().map(|sanction| sanction.id).collect()
    }

    #[test]
    fn they_are_found_by_account_and_address_while_they_are_in_force() {
        let sanctions = some();
        assert_eq!(found(&sanctions, NOW, None, None), [3, 2, 1], "newest first");
        assert_eq!(found(&sanctions, NOW, None, Some((7, "10.0.0.1"))), [3, 2, 1]);
        assert_eq!(found(&sanctions, 2 * NOW, None, Some((7, ""))), [3], "the ban has ended");
        assert_eq!(found(&sanctions, NOW, Some(SanctionKind::Ban), Some((0, "10.0.0.1"))), [0; 0]);
        assert_eq!(found(&sanctions, NOW, None, Some((0, ""))), [0; 0], "nobody is not everybody");
        assert_eq!(sanctions.find(&Wanted { now_ms: NOW, limit: 1, ..Wanted::default() })[0].id, 3);
    }

    #[test]
    fn what_was_lifted_or_has_ended_takes_no_room() {
        let mut sanctions = some();
        sanctions.admit(2 * NOW).unwrap();
        assert_eq!(sanctions.all.len(), 2, "the ban has ended");
        [2, 3, 3, 9].into_iter().for_each(|number| sanctions.remove(number));
        assert!(sanctions.bytes == 0 && sanctions.by_account.is_empty() && sanctions.by_address.is_empty() && sanctions.ends.is_empty());
    }

    #[test]
    fn above_the_limit_one_more_is_refused_until_some_are_lifted() {
        let mut sanctions = Sanctions::default();
        let long = Sanction { reason: "x".repeat(SANCTIONS_BYTES_MAX / 2), ..sanction(1, SanctionKind::Ban, 7, "", 0) };
        sanctions.insert(long.clone());
        sanctions.admit(NOW).unwrap();
        sanctions.insert(Sanction { id: 2, ..long });
        assert!(sanctions.admit(NOW).unwrap_err().to_string().contains("2 sanctions are in force"));
        sanctions.remove(1);
        sanctions.admit(NOW).unwrap();
    }
}
