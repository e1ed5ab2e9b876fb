//! The inquiry against a dc that loses, repeats and reorders what it is asked, with a coordinator that may die at any moment.

use proptest::prelude::*;

use super::*;

/// What dc has of the two players of a trade.
#[derive(Clone, Debug, Default)]
struct Dc {
    /// Version, and whether the trade is in the record.
    players: [(u64, bool); 2],
    owners: [u64; 2],
    applied: bool,
}

impl Dc {
    /// The trade: the next version of both, or of neither.
    fn trade(&mut self, from: u64) -> CallFaultCode {
        if self.applied {
            return CallFaultCode::Unspecified;
        }
        if self.owners != [1, 1] {
            return CallFaultCode::CallStaleOwner;
        }
        if self.players != [(from, false); 2] {
            return CallFaultCode::CallStaleVersion;
        }
        (self.players, self.applied) = ([(from + 1, true); 2], true);
        CallFaultCode::Unspecified
    }

    fn fence(&mut self, side: usize, version: u64) -> CallFaultCode {
        let at = &mut self.players[side];
        if self.owners[side] != 1 {
            return CallFaultCode::CallStaleOwner;
        }
        if *at == (version, false) || at.0 + 1 == version {
            *at = (version, false);
            return CallFaultCode::Unspecified;
        }
        CallFaultCode::CallStaleVersion
    }
}

/// A scene that holds one of the two.
#[derive(Debug)]
struct Holder {
    inquiry: Inquiry,
    ask: Option<Ask>,
}

#[derive(Clone, Debug)]
enum Step {
    /// The coordinator sends the trade; the flag: it hears the answer.
    Trade(bool),
    /// It tells a scene what it knows.
    Tell(usize),
    /// A scene has waited long enough, or goes on asking; the flag: it hears the answer.
    Ask(usize, bool),
    /// The coordinator is gone.
    Kill,
    /// A player's scene is taken for dead, and another claims it.
    Claim(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => any::<bool>().prop_map(Step::Trade),
        3 => (0..2usize).prop_map(Step::Tell),
        5 => (0..2usize, any::<bool>()).prop_map(|(side, hears)| Step::Ask(side, hears)),
        1 => Just(Step::Kill),
        1 => (0..2usize).prop_map(Step::Claim),
    ]
}

const FROM: u64 = 7;

struct Deal {
    dc: Dc,
    scenes: [Holder; 2],
    /// What the coordinator may say.
    verdict: Verdict,
    sent_unheard: bool,
    alive: bool,
}

impl Deal {
    fn new() -> Self {
        let holder = || Holder { inquiry: Inquiry::new(Stamp { epoch: 1, version: FROM }), ask: None };
        let dc = Dc { players: [(FROM, false); 2], owners: [1; 2], applied: false };
        Self { dc, scenes: [holder(), holder()], verdict: Verdict::Unknown, sent_unheard: false, alive: true }
    }

    fn end(&self, side: usize) -> Option<End> {
        match self.scenes[side].ask {
            Some(Ask::Nothing(end)) => Some(end),
            _ => None,
        }
    }

    fn step(&mut self, step: &Step) {
        match step {
            // What was sent may arrive long after the coordinator is gone.
            Step::Trade(hears) => {
                let code = self.dc.trade(FROM);
                self.verdict = match code {
                    CallFaultCode::Unspecified if *hears && self.alive => Verdict::Applied,
                    _ if *hears && self.alive && !self.sent_unheard && self.verdict != Verdict::Applied => Verdict::NotApplied,
                    _ => {
                        self.sent_unheard = true;
                        if self.verdict == Verdict::Applied { Verdict::Applied } else { Verdict::Unknown }
                    }
                };
            }
            Step::Tell(side) => {
                let holder = &mut self.scenes[*side];
                if self.alive && holder.ask.is_none() {
                    holder.ask = Some(holder.inquiry.heard(self.verdict));
                }
            }
            Step::Ask(side, hears) => self.ask(*side, *hears),
            Step::Kill => self.alive = false,
            Step::Claim(side) => self.dc.owners[*side] += 1,
        }
    }

    fn ask(&mut self, side: usize, hears: bool) {
        let holder = &mut self.scenes[side];
        let ask = *holder.ask.get_or_insert(Ask::Fence);
        holder.ask = Some(match ask {
            Ask::Fence => {
                let code = self.dc.fence(side, FROM + 1);
                holder.inquiry.fenced(hears.then_some(code))
            }
            Ask::Find => holder.inquiry.found(hears.then_some(self.dc.applied)),
            done @ Ask::Nothing(_) => done,
        });
    }

    fn check(&self) {
        let [one, two] = self.dc.players.map(|(_, traded)| traded);
        assert_eq!((one, two), (self.dc.applied, self.dc.applied), "both or neither");
        for side in 0..2 {
            match self.end(side) {
                Some(End::Done(stamp)) => {
                    assert!(self.dc.applied);
                    assert_eq!(stamp.version, FROM + 1);
                }
                Some(End::Undone(_)) => assert!(!self.dc.applied),
                Some(End::Lost) | None => (),
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 10_000, ..ProptestConfig::default() })]

    #[test]
    fn both_scenes_come_to_the_same_end(steps in proptest::collection::vec(step(), 1..24)) {
        let mut deal = Deal::new();
        for step in &steps {
            deal.step(step);
            // A coordinator that was refused asks no more; a scene that was told so writes the player's next version some time.
            let told = deal.verdict == Verdict::NotApplied || (0..2).any(|side| matches!(deal.end(side), Some(End::Undone(_))));
            if told && !deal.dc.applied && deal.dc.owners == [1, 1] && deal.dc.players == [(FROM, false); 2] {
                deal.dc.players[0] = (FROM + 1, false);
            }
            deal.check();
        }
        for side in [0, 1, 0, 1, 0, 1] {
            deal.ask(side, true);
            deal.check();
        }
        let ends = [0, 1].map(|side| deal.end(side).expect("dc answered"));
        if deal.dc.owners == [1, 1] {
            prop_assert!(!ends.contains(&End::Lost), "{:?}", ends);
        }
    }
}

#[test]
fn a_verdict_is_for_the_one_who_waits() {
    let deals = Deals::default();
    let mut heard = deals.expect([1; 16], 7).unwrap();
    assert!(deals.expect([1; 16], 7).is_none());
    assert!(deals.expect([1; 16], 8).is_some(), "the other side may be here too");
    assert!(!deals.tell([2; 16], 7, Verdict::Applied));
    assert!(deals.tell([1; 16], 7, Verdict::Applied));
    assert_eq!(heard.try_recv(), Ok(Verdict::Applied));
    assert!(!deals.tell([1; 16], 7, Verdict::NotApplied), "heard once");
    deals.forget([1; 16], 8);
    assert!(!deals.tell([1; 16], 8, Verdict::Applied));
    let counted = deals.count();
    assert_eq!(deals.held(), 1);
    drop(counted);
    assert_eq!(deals.held(), 0);
}
