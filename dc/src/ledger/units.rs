//! The ids of units that were applied, so that doing one twice is doing it once. Pure.

use std::collections::{HashMap, VecDeque};

use super::Lsn;
use crate::refusal::Refusal;

/// Ids that are remembered: the newest. At 100 units a second that is ten minutes, far longer than a caller retries.
pub(crate) const UNITS_MAX: usize = 65_536;

/// Names a unit: 16 bytes that its caller made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct UnitId(pub [u8; 16]);

impl UnitId {
    /// From the wire, where no bytes mean that the unit has no id.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Option<Self>, Refusal> {
        match bytes.try_into() {
            Ok(id) => Ok(Some(Self(id))),
            Err(_) if bytes.is_empty() => Ok(None),
            Err(_) => Err(Refusal::invalid(format!("a unit's id has 16 bytes, not {}", bytes.len()))),
        }
    }
}

/// The remembered ids, each with the change that applied it.
#[derive(Debug, Default)]
pub(crate) struct AppliedUnits {
    at: HashMap<UnitId, Lsn>,
    order: VecDeque<(Lsn, UnitId)>,
}

impl AppliedUnits {
    pub(crate) fn applied(&self, unit: UnitId) -> Option<Lsn> {
        self.at.get(&unit).copied()
    }

    pub(crate) fn remember(&mut self, unit: UnitId, lsn: Lsn) {
        self.at.insert(unit, lsn);
        self.order.push_back((lsn, unit));
        while UNITS_MAX < self.order.len() {
            let (lsn, oldest) = self.order.pop_front().expect("it has more than UNITS_MAX");
            if self.at.get(&oldest) == Some(&lsn) {
                self.at.remove(&oldest);
            }
        }
    }

    /// A unit turned out not to be applied.
    pub(crate) fn forget(&mut self, unit: UnitId) {
        self.at.remove(&unit);
    }

    /// Units of changes before this one are not remembered.
    pub(crate) fn floor(&self) -> Lsn {
        self.order.front().map_or(0, |(lsn, _)| *lsn)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_are_forgotten() {
        let mut units = AppliedUnits::default();
        let id = |n: u64| UnitId((u128::from(n)).to_be_bytes());
        let end = UNITS_MAX as u64 + 2;
        (1..=end).for_each(|n| units.remember(id(n), n));
        assert_eq!((units.applied(id(2)), units.applied(id(3)), units.floor()), (None, Some(3), 3));
    }

    #[test]
    fn an_id_has_16_bytes_or_none() {
        assert_eq!(UnitId::parse(&[]), Ok(None));
        assert_eq!(UnitId::parse(&[7; 16]), Ok(Some(UnitId([7; 16]))));
        assert!(UnitId::parse(&[7; 15]).is_err());
    }
}
