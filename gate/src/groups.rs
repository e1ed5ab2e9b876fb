//! The groups of one backend link: which sessions get what is published to a group, and what of it they did not take yet.
//!
//! Pure. What is published waits here once, however many get it: a publish costs the same for one member as for ten thousand. Then the
//! members of the groups that were published to are visited, once each, and take what is theirs: what was published while they were
//! members, in the order in which it was published, over all their groups. More may be published while they are visited: who is visited
//! later takes that too, the others when they are visited again.
//!
//! A group exists while it has members; a session that ends leaves all of them, and all vanish with their link. Full? A backend joins
//! each session to a handful of groups (its standpoint, zone, guild, party), so the table grows with the sessions, which are bounded; what
//! waits is bounded by whoever publishes (see [`Groups::waiting_bytes`]).

use std::collections::{HashMap, VecDeque};

use slotmap::{SlotMap, new_key_type};

new_key_type! {
    /// A session's place; it is never another session's.
    pub(crate) struct MemberKey;
    struct GroupKey;
}

/// The groups of one link. `M` is what is kept of a member, `P` what is published.
#[derive(Debug)]
pub(crate) struct Groups<M, P> {
    groups: SlotMap<GroupKey, Group>,
    members: SlotMap<MemberKey, Member<M>>,
    of_number: HashMap<u64, GroupKey>,
    of_session: HashMap<u64, MemberKey>,
    /// What was published and not everybody has taken, numbered from `first`.
    published: VecDeque<Published<P>>,
    first: u64,
    waiting_bytes: usize,
    /// The groups that it was published to.
    busy: Vec<GroupKey>,
    rounds: u64,
    /// Kept for its memory: what a visited member takes.
    taking: Vec<usize>,
}

#[derive(Debug)]
struct Group {
    number: u64,
    /// Side by side, because a visit walks over all of them.
    members: Vec<MemberKey>,
    /// Numbers of what waits for members of this group.
    published: Vec<u64>,
}

#[derive(Debug)]
struct Member<M> {
    session: u64,
    kept: M,
    of: Vec<Membership>,
    /// What is numbered below was taken.
    taken: u64,
    /// Distinguishes those who are already on the list of who is to be visited.
    listed: u64,
}

#[derive(Clone, Copy, Debug)]
struct Membership {
    group: GroupKey,
    /// In the group's members.
    place: usize,
    /// What is numbered below was published before.
    since: u64,
}

#[derive(Debug)]
struct Published<P> {
    except: u64,
    what: P,
    bytes: usize,
}

/// Who is to be visited.
#[derive(Debug)]
pub(crate) struct Round {
    /// Each once.
    pub members: Vec<MemberKey>,
    /// What is numbered below is taken by everybody when all of them were visited.
    below: u64,
}

impl<M, P> Default for Groups<M, P> {
    fn default() -> Self {
        Self {
            groups: SlotMap::with_key(),
            members: SlotMap::with_key(),
            of_number: HashMap::new(),
            of_session: HashMap::new(),
            published: VecDeque::new(),
            first: 0,
            waiting_bytes: 0,
            busy: Vec::new(),
            rounds: 0,
            taking: Vec::new(),
        }
    }
}

impl<M, P> Groups<M, P> {
    // ---- who is in them

    /// Puts a session into a group; being in it already changes nothing.
    pub(crate) fn join(&mut self, group: u64, session: u64, kept: M) {
        let since = self.end();
        let new = || Group { number: group, members: Vec::new(), published: Vec::new() };
        let of = *self.of_number.entry(group).or_insert_with(|| self.groups.insert(new()));
        let new = || Member { session, kept, of: Vec::new(), taken: 0, listed: 0 };
        let key = *self.of_session.entry(session).or_insert_with(|| self.members.insert(new()));
        let member = &mut self.members[key];
        if !member.of.iter().any(|membership| membership.group == of) {
            let members = &mut self.groups[of].members;
            member.of.push(Membership { group: of, place: members.len(), since });
            members.push(key);
        }
    }

    /// Takes a session out of a group; not being in it changes nothing. What it did not take it never gets: visit it before.
    pub(crate) fn leave(&mut self, group: u64, session: u64) {
        let (Some(of), Some(key)) = (self.of_number.get(&group).copied(), self.of_session.get(&session).copied()) else { return };
        let member = &mut self.members[key];
        let Some(at) = member.of.iter().position(|membership| membership.group == of) else { return };
        let left = member.of.swap_remove(at);
        if member.of.is_empty() {
            self.members.remove(key);
            self.of_session.remove(&session);
        }
        self.remove_from(left);
    }

    /// Takes a session out of all groups.
    pub(crate) fn leave_all(&mut self, session: u64) {
        let Some(member) = self.of_session.remove(&session).and_then(|key| self.members.remove(key)) else { return };
        for left in member.of {
            self.remove_from(left);
        }
    }

    /// Ends a group.
    pub(crate) fn drop_group(&mut self, group: u64) {
        for key in self.members_of(group) {
            let session = self.members[key].session;
            self.leave(group, session);
        }
    }

    /// The members of a group.
    pub(crate) fn members_of(&self, group: u64) -> Vec<MemberKey> {
        self.of_number.get(&group).map(|of| self.groups[*of].members.clone()).unwrap_or_default()
    }

    /// A session that is in any group.
    pub(crate) fn member(&self, session: u64) -> Option<MemberKey> {
        self.of_session.get(&session).copied()
    }

    /// How many groups there are.
    pub(crate) fn len(&self) -> usize {
        self.groups.len()
    }

    // ---- what is published

    /// Publishes to the members of a group but one (0: all); returns how many that are. `bytes` is what it counts for.
    pub(crate) fn publish(&mut self, group: u64, except: u64, what: P, bytes: usize) -> usize {
        let Some(of) = self.of_number.get(&group).copied() else { return 0 };
        let number = self.end();
        let group = &mut self.groups[of];
        if group.published.is_empty() {
            self.busy.push(of);
        }
        group.published.push(number);
        self.published.push_back(Published { except, what, bytes });
        self.waiting_bytes += bytes;
        let excepts = self.of_session.get(&except).is_some_and(|key| self.members[*key].of.iter().any(|membership| membership.group == of));
        self.groups[of].members.len() - usize::from(excepts)
    }

    /// How much waits.
    pub(crate) fn waiting_bytes(&self) -> usize {
        self.waiting_bytes
    }

    /// The members of all groups to which something was published that waits.
    pub(crate) fn due(&mut self) -> Round {
        self.rounds += 1;
        let mut members = Vec::new();
        for group in self.busy.iter().filter_map(|of| self.groups.get(*of)) {
            for key in &group.members {
                let member = &mut self.members[*key];
                if std::mem::replace(&mut member.listed, self.rounds) != self.rounds {
                    members.push(*key);
                }
            }
        }
        Round { members, below: self.end() }
    }

    /// A member takes what is its. Who has left, or has nothing to take, gets nothing.
    pub(crate) fn visit(&mut self, key: MemberKey, hand: impl FnOnce(&M, &mut dyn Iterator<Item = &P>)) {
        let end = self.end();
        let Some(member) = self.members.get_mut(key) else { return };
        let taken = std::mem::replace(&mut member.taken, end);
        self.taking.clear();
        for Membership { group, since, .. } in &member.of {
            let from = taken.max(*since).max(self.first);
            let numbers = self.groups[*group].published.iter().filter(|number| from <= **number);
            let places = numbers.map(|number| usize::try_from(number - self.first).expect("as many as are in memory"));
            self.taking.extend(places.filter(|place| self.published[*place].except != member.session));
        }
        if !self.taking.is_empty() {
            self.taking.sort_unstable();
            hand(&member.kept, &mut self.taking.iter().map(|place| &self.published[*place].what));
        }
    }

    /// All members of a round were visited: what waited when it began waits no more.
    pub(crate) fn clear(&mut self, round: &Round) {
        while self.first < round.below
            && let Some(taken) = self.published.pop_front()
        {
            self.waiting_bytes -= taken.bytes;
            self.first += 1;
        }
        let (groups, first) = (&mut self.groups, self.first);
        self.busy.retain(|of| {
            groups.get_mut(*of).is_some_and(|group| {
                group.published.retain(|number| first <= *number);
                !group.published.is_empty()
            })
        });
    }

    /// The number of what is published next.
    fn end(&self) -> u64 {
        self.first + self.published.len() as u64
    }

    fn remove_from(&mut self, left: Membership) {
        let group = &mut self.groups[left.group];
        group.members.swap_remove(left.place);
        if let Some(moved) = group.members.get(left.place)
            && let Some(membership) = self.members[*moved].of.iter_mut().find(|membership| membership.group == left.group)
        {
            membership.place = left.place;
        }
        if group.members.is_empty() {
            self.of_number.remove(&group.number);
            self.groups.remove(left.group);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    enum Step {
        Join(u64, u64),
        Leave(u64, u64),
        End(u64),
        Drop(u64),
        Publish {
            group: u64,
            except: u64,
        },
        /// A session gets something of its own: it takes what waits for it before.
        Deliver(u64),
        /// A round begins, or goes on with one member.
        Visit,
        TickEnd,
    }

    const GROUPS: std::ops::Range<u64> = 0..4;
    const SESSIONS: std::ops::Range<u64> = 1..6;

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            4 => (GROUPS, SESSIONS).prop_map(|(group, session)| Step::Join(group, session)),
            2 => (GROUPS, SESSIONS).prop_map(|(group, session)| Step::Leave(group, session)),
            1 => SESSIONS.prop_map(Step::End),
            1 => GROUPS.prop_map(Step::Drop),
            6 => (GROUPS, 0..SESSIONS.end).prop_map(|(group, except)| Step::Publish { group, except }),
            1 => SESSIONS.prop_map(Step::Deliver),
            3 => Just(Step::Visit),
            2 => Just(Step::TickEnd),
        ];
        proptest::collection::vec(step, 0..120)
    }

    type Heard = BTreeMap<u64, Vec<u64>>;

    /// Whoever publishes visits members as a link does.
    struct Link {
        groups: Groups<u64, u64>,
        heard: Heard,
        /// Under way, and how many were visited.
        round: Option<(Round, usize)>,
    }

    impl Link {
        fn new() -> Self {
            Self { groups: Groups::default(), heard: Heard::new(), round: None }
        }

        fn visit(&mut self, key: MemberKey) {
            let heard = &mut self.heard;
            self.groups.visit(key, |session, what| heard.entry(*session).or_default().extend(what));
        }

        fn step(&mut self, step: &Step, what: u64) -> Option<usize> {
            match *step {
                Step::Join(group, session) => self.groups.join(group, session, session),
                Step::Leave(group, session) => {
                    self.groups.member(session).into_iter().for_each(|key| self.visit(key));
                    self.groups.leave(group, session);
                }
                Step::End(session) => self.groups.leave_all(session),
                Step::Drop(group) => {
                    self.groups.members_of(group).into_iter().for_each(|key| self.visit(key));
                    self.groups.drop_group(group);
                }
                Step::Publish { group, except } => return Some(self.groups.publish(group, except, what, 1)),
                Step::Deliver(session) => self.groups.member(session).into_iter().for_each(|key| self.visit(key)),
                Step::Visit => {
                    let (round, visited) = self.round.take().unwrap_or_else(|| (self.groups.due(), 0));
                    round.members.get(visited).copied().into_iter().for_each(|key| self.visit(key));
                    self.round = Some((round, visited + 1));
                }
                Step::TickEnd => {
                    let (round, visited) = self.round.take().unwrap_or_else(|| (self.groups.due(), 0));
                    round.members.iter().skip(visited).for_each(|key| self.visit(*key));
                    self.groups.clear(&round);
                }
            }
            None
        }
    }

    /// The same, handing out at once.
    #[derive(Default)]
    struct Model {
        groups: BTreeMap<u64, BTreeSet<u64>>,
        heard: Heard,
    }

    impl Model {
        fn step(&mut self, step: &Step, what: u64) -> Option<usize> {
            match *step {
                Step::Join(group, session) => _ = self.groups.entry(group).or_default().insert(session),
                Step::Leave(group, session) => _ = self.groups.entry(group).or_default().remove(&session),
                Step::End(session) => self.groups.values_mut().for_each(|members| _ = members.remove(&session)),
                Step::Drop(group) => _ = self.groups.remove(&group),
                Step::Publish { group, except } => {
                    let members: Vec<u64> =
                        self.groups.get(&group).into_iter().flatten().copied().filter(|session| *session != except).collect();
                    members.iter().for_each(|session| self.heard.entry(*session).or_default().push(what));
                    return Some(members.len());
                }
                Step::Deliver(_) | Step::Visit | Step::TickEnd => (),
            }
            self.groups.retain(|_, members| !members.is_empty());
            None
        }
    }

    proptest! {
        /// Nobody ends here: what a session that ends did not take is nobody's.
        #[test]
        fn everybody_hears_what_was_published_while_a_member_in_order(steps in steps()) {
            let mut link = Link::new();
            let mut model = Model::default();
            for (what, step) in (1u64..).zip(steps.iter().filter(|step| !matches!(step, Step::End(_)))) {
                let began_before = link.round.is_some();
                prop_assert_eq!(link.step(step, what), model.step(step, what));
                prop_assert_eq!(link.groups.len(), model.groups.len());
                if matches!(step, Step::TickEnd) && !began_before {
                    prop_assert_eq!(&link.heard, &model.heard);
                }
            }
            (0..2).for_each(|_| _ = link.step(&Step::TickEnd, 0));
            prop_assert_eq!(link.heard, model.heard);
        }

        #[test]
        fn membership_is_what_the_steps_say_and_nothing_stays_of_who_ended(steps in steps()) {
            let mut link = Link::new();
            let mut model = Model::default();
            for (what, step) in (1u64..).zip(&steps) {
                link.step(step, what);
                model.step(step, what);
                for group in GROUPS {
                    let members: Vec<u64> = link.groups.members_of(group).iter().map(|key| link.groups.members[*key].session).collect();
                    let set: BTreeSet<u64> = members.iter().copied().collect();
                    prop_assert_eq!(members.len(), set.len(), "nobody is in a group twice");
                    prop_assert_eq!(set, model.groups.get(&group).cloned().unwrap_or_default());
                }
            }
            (0..2).for_each(|_| _ = link.step(&Step::TickEnd, 0));
            prop_assert_eq!((link.groups.waiting_bytes(), link.groups.published.len(), link.groups.busy.len()), (0, 0, 0));
            SESSIONS.for_each(|session| link.groups.leave_all(session));
            let Groups { groups, members, of_number, of_session, .. } = link.groups;
            prop_assert!(groups.is_empty() && members.is_empty() && of_number.is_empty() && of_session.is_empty());
        }
    }

    #[test]
    fn a_publish_counts_who_gets_it() {
        let mut groups = Groups::default();
        (1..=3).for_each(|session| groups.join(9, session, session));
        assert_eq!(groups.publish(9, 0, 'a', 10), 3);
        assert_eq!(groups.publish(9, 2, 'b', 10), 2);
        assert_eq!(groups.publish(9, 7, 'c', 10), 3, "who is no member is no exception");
        assert_eq!(groups.publish(8, 0, 'd', 10), 0);
        assert_eq!(groups.waiting_bytes(), 30);
    }
}
