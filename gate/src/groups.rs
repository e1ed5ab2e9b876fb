//! The groups of one backend link: which sessions get what is published to a group.
//!
//! Pure. A group exists while it has members; a session that ends leaves all of them, and all vanish with their link.
//! Full? A backend joins each session to a handful of groups (nine cells, zone, guild, party), so the table grows with the sessions,
//! which are bounded.

use std::collections::HashMap;

/// The groups of one link. `M` is what is kept of a member.
#[derive(Debug)]
pub(crate) struct Groups<M> {
    groups: HashMap<u64, Group<M>>,
    /// Which groups a session is in, so that its end costs as much as it has groups.
    of_session: HashMap<u64, Vec<u64>>,
}

#[derive(Debug)]
struct Group<M> {
    /// Side by side, because a publish walks over all of them.
    members: Vec<(u64, M)>,
    place: HashMap<u64, usize>,
}

impl<M> Default for Groups<M> {
    fn default() -> Self {
        Self { groups: HashMap::new(), of_session: HashMap::new() }
    }
}

impl<M> Groups<M> {
    /// Puts a session into a group; being in it already changes nothing.
    pub(crate) fn join(&mut self, group: u64, session: u64, member: M) {
        let entry = self.groups.entry(group).or_insert_with(|| Group { members: Vec::new(), place: HashMap::new() });
        if entry.place.contains_key(&session) {
            return;
        }
        entry.place.insert(session, entry.members.len());
        entry.members.push((session, member));
        self.of_session.entry(session).or_default().push(group);
    }

    /// Takes a session out of a group; not being in it changes nothing.
    pub(crate) fn leave(&mut self, group: u64, session: u64) {
        self.remove_member(group, session);
        if let Some(groups) = self.of_session.get_mut(&session) {
            groups.retain(|joined| *joined != group);
            if groups.is_empty() {
                self.of_session.remove(&session);
            }
        }
    }

    /// Takes a session out of all groups.
    pub(crate) fn leave_all(&mut self, session: u64) {
        for group in self.of_session.remove(&session).unwrap_or_default() {
            self.remove_member(group, session);
        }
    }

    /// Ends a group.
    pub(crate) fn drop_group(&mut self, group: u64) {
        let Some(entry) = self.groups.remove(&group) else { return };
        for (session, _) in entry.members {
            if let Some(groups) = self.of_session.get_mut(&session) {
                groups.retain(|joined| *joined != group);
                if groups.is_empty() {
                    self.of_session.remove(&session);
                }
            }
        }
    }

    /// The members of a group, but one (0: all).
    pub(crate) fn members(&self, group: u64, except: u64) -> impl Iterator<Item = &M> {
        let members = self.groups.get(&group).map_or(&[][..], |entry| &entry.members);
        members.iter().filter(move |(session, _)| *session != except).map(|(_, member)| member)
    }

    /// How many groups there are.
    pub(crate) fn len(&self) -> usize {
        self.groups.len()
    }

    fn remove_member(&mut self, group: u64, session: u64) {
        let Some(entry) = self.groups.get_mut(&group) else { return };
        let Some(place) = entry.place.remove(&session) else { return };
        entry.members.swap_remove(place);
        if let Some((moved, _)) = entry.members.get(place) {
            entry.place.insert(*moved, place);
        }
        if entry.members.is_empty() {
            self.groups.remove(&group);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;

    use super::*;

    fn members(groups: &Groups<u64>, group: u64, except: u64) -> BTreeSet<u64> {
        let all: Vec<u64> = groups.members(group, except).copied().collect();
        let set: BTreeSet<u64> = all.iter().copied().collect();
        assert_eq!(all.len(), set.len(), "nobody is in a group twice");
        set
    }

    #[test]
    fn except_is_honoured_and_zero_excepts_nobody() {
        let mut groups = Groups::default();
        for session in 1..=3 {
            groups.join(9, session, session);
        }
        assert_eq!(members(&groups, 9, 0), BTreeSet::from([1, 2, 3]));
        assert_eq!(members(&groups, 9, 2), BTreeSet::from([1, 3]));
        assert_eq!(members(&groups, 8, 0), BTreeSet::new());
    }

    #[derive(Clone, Debug)]
    enum Step {
        Join(u64, u64),
        Leave(u64, u64),
        End(u64),
        Drop(u64),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let (group, session) = (0u64..4, 1u64..6);
        let step = prop_oneof![
            4 => (group.clone(), session.clone()).prop_map(|(group, session)| Step::Join(group, session)),
            2 => (group.clone(), session.clone()).prop_map(|(group, session)| Step::Leave(group, session)),
            1 => session.prop_map(Step::End),
            1 => group.prop_map(Step::Drop),
        ];
        proptest::collection::vec(step, 0..80)
    }

    proptest! {
        #[test]
        fn membership_is_what_the_steps_say(steps in steps()) {
            let mut groups = Groups::default();
            let mut model: BTreeMap<u64, BTreeSet<u64>> = BTreeMap::new();
            for step in steps {
                match step {
                    Step::Join(group, session) => {
                        groups.join(group, session, session);
                        model.entry(group).or_default().insert(session);
                    }
                    Step::Leave(group, session) => {
                        groups.leave(group, session);
                        model.entry(group).or_default().remove(&session);
                    }
                    Step::End(session) => {
                        groups.leave_all(session);
                        model.values_mut().for_each(|members| { members.remove(&session); });
                    }
                    Step::Drop(group) => {
                        groups.drop_group(group);
                        model.remove(&group);
                    }
                }
                model.retain(|_, members| !members.is_empty());
                prop_assert_eq!(groups.len(), model.len());
                for group in 0..4 {
                    prop_assert_eq!(members(&groups, group, 0), model.get(&group).cloned().unwrap_or_default());
                }
            }
            for session in 1..6 {
                groups.leave_all(session);
            }
            prop_assert!(groups.groups.is_empty() && groups.of_session.is_empty());
        }
    }
}
