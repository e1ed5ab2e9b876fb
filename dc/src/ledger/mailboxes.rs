//! How full mailboxes are: which mails wait for a player, for those who are written to. Pure.
//!
//! A mailbox is in memory from when somebody writes to it until [`BOXES_MAX`] others are written to, and follows every mail that comes and
//! is taken meanwhile.

use std::collections::{HashMap, HashSet, VecDeque};

use proto::record::Mail;

use super::units::UnitId;

/// Mailboxes in memory. One more? The one that is there for the longest time is forgotten, and read again when it is written to.
const BOXES_MAX: usize = 4_096;

/// The mailboxes in memory.
#[derive(Debug, Default)]
pub(super) struct Mailboxes {
    boxes: HashMap<u64, Mailbox>,
    order: VecDeque<u64>,
}

#[derive(Debug)]
struct Mailbox {
    waiting: HashSet<UnitId>,
    /// There may be others, which were not read.
    partial: bool,
}

impl Mailboxes {
    /// How many mails wait for a player; none: its mailbox has to be loaded.
    pub(super) fn waiting(&self, player: u64) -> Option<usize> {
        self.boxes.get(&player).map(|mailbox| mailbox.waiting.len())
    }

    /// These wait for a player; `partial`: these at least.
    pub(super) fn load(&mut self, player: u64, waiting: HashSet<UnitId>, partial: bool) {
        if self.boxes.insert(player, Mailbox { waiting, partial }).is_none() {
            self.order.push_back(player);
        }
        while BOXES_MAX < self.order.len() {
            let oldest = self.order.pop_front().expect("it has more than BOXES_MAX");
            self.boxes.remove(&oldest);
        }
    }

    /// A mail has come, or was taken.
    pub(super) fn follow(&mut self, id: UnitId, mail: &Mail) {
        let Some(mailbox) = self.boxes.get_mut(&mail.to) else { return };
        if mail.taken_ms == 0 {
            mailbox.waiting.insert(id);
        } else if mailbox.partial {
            // How many wait behind it only the store knows.
            self.forget(mail.to);
        } else {
            mailbox.waiting.remove(&id);
        }
    }

    /// What is known of a mailbox is not so.
    pub(super) fn forget(&mut self, player: u64) {
        if self.boxes.remove(&player).is_some() {
            self.order.retain(|other| *other != player);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mailbox_that_is_there_for_the_longest_time_makes_room() {
        let mut boxes = Mailboxes::default();
        let end = BOXES_MAX as u64;
        (0..end).for_each(|player| boxes.load(player, HashSet::new(), false));
        boxes.forget(1);
        boxes.load(1, HashSet::new(), false);
        boxes.load(end, HashSet::new(), false);
        assert_eq!([0, 1, 2, end].map(|player| boxes.waiting(player)), [None, Some(0), Some(0), Some(0)]);
        assert_eq!((boxes.boxes.len(), boxes.order.len()), (BOXES_MAX, BOXES_MAX));
    }
}
