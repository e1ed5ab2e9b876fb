//! What a trading bot says in its trades: one request at a time, and no faster than the zone takes them. Pure: it is told the time and
//! the chance.
//!
//! Each turn it offers once, then agrees to whatever is offered, or does not. What the zone refuses it says again later, or gives up.

use std::time::Duration;

use bytes::Bytes;
use proto::client::{Fault, FaultCode, Goods, Sheet, TradeCancel, TradeConfirm, TradeOpen, TradeSet, TradeState};
use tokio::time::Instant;

use crate::random::Random;

/// Between two requests: fewer than the five a second that a session may make of such.
const REQUEST_PERIOD: Duration = Duration::from_millis(250);
/// A request that has no answer by then has none any more: center was started anew.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// A trade that takes longer is left. The scenes need most of it to find out what became of one when dc dies in the middle.
const TRADE_WITHIN: Duration = Duration::from_secs(45);
/// How long a trade may be empty on both sides.
const EMPTY_WITHIN: Duration = Duration::from_secs(3);
/// Pauses between trades, up to.
const TRADE_PAUSE: Duration = Duration::from_secs(1);
/// One of so many trades is cancelled rather than confirmed.
const CANCEL_ONE_OF: u64 = 10;
/// Items that are offered at the most.
const ITEMS_MAX: usize = 3;

/// A request about a trade.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Say {
    Open(TradeOpen),
    Set(TradeSet),
    Confirm(TradeConfirm),
    Cancel(TradeCancel),
}

/// A trade, as it was last shown.
#[derive(Debug)]
struct Trade {
    state: TradeState,
    since: Instant,
    offered: bool,
    /// Whether it is to be cancelled in place of confirmed.
    unwilling: bool,
}

/// One bot's side of its trades.
#[derive(Debug)]
pub(super) struct Haggler {
    trade: Option<Trade>,
    /// The request that is not answered yet, and since when.
    asked: Option<(u32, Instant)>,
    /// No request is made before.
    next: Instant,
    /// No trade is opened before.
    next_trade: Instant,
}

impl Haggler {
    pub(super) fn new(now: Instant) -> Self {
        Self { trade: None, asked: None, next: now, next_trade: now }
    }

    /// The bot has logged in anew: nothing of before is known.
    pub(super) fn forget(&mut self) {
        (self.trade, self.asked) = (None, None);
    }

    /// What to say now, if anything. `with`: whom to open a trade with.
    pub(super) fn say(&mut self, now: Instant, sheet: &Sheet, with: Option<String>, random: &mut Random) -> Option<Say> {
        if now < self.next || self.asked.is_some_and(|(_, since)| now - since < ANSWER_WITHIN) {
            return None;
        }
        self.asked = None;
        let say = match &mut self.trade {
            Some(trade) => trade.say(now, sheet, random),
            None if self.next_trade <= now && (0 < sheet.coins || !sheet.items.is_empty()) => {
                self.next_trade = now + random.up_to(TRADE_PAUSE);
                with.map(|with| Say::Open(TradeOpen { id: new_id(random), with }))
            }
            None => None,
        }?;
        self.next = now + REQUEST_PERIOD;
        Some(say)
    }

    /// What was to be said is on its way under this number.
    pub(super) fn said(&mut self, seq: u32, now: Instant) {
        self.asked = Some((seq, now));
    }

    /// A trade is shown, as the answer to request `seq` or unasked.
    pub(super) fn shown(&mut self, state: TradeState, seq: u32, now: Instant, random: &mut Random) {
        self.answered(seq);
        match &mut self.trade {
            Some(trade) if trade.state.id == state.id => trade.state = state,
            _ => {
                let unwilling = random.next_u64().is_multiple_of(CANCEL_ONE_OF);
                self.trade = Some(Trade { state, since: now, offered: false, unwilling });
            }
        }
    }

    /// A trade is over, one way or the other.
    pub(super) fn over(&mut self, id: &Bytes, seq: u32) {
        self.answered(seq);
        self.trade = self.trade.take().filter(|trade| trade.state.id != *id);
    }

    /// Whether a refusal is of what was said last; then it is dealt with.
    pub(super) fn refused(&mut self, seq: u32, fault: &Fault, now: Instant) -> bool {
        if !self.answered(seq) {
            return false;
        }
        let pause = Duration::from_millis(fault.retry_ms.into()).max(REQUEST_PERIOD);
        self.next = now + pause;
        self.next_trade = self.next_trade.max(now + pause);
        if fault.code() == FaultCode::NotFound {
            self.trade = None;
        }
        true
    }

    /// Gives up a trade that is not over after long; true: there was one.
    pub(super) fn gives_up(&mut self, now: Instant) -> bool {
        self.trade.take_if(|trade| TRADE_WITHIN < now - trade.since).is_some()
    }

    fn answered(&mut self, seq: u32) -> bool {
        self.asked.take_if(|(asked, _)| *asked == seq).is_some()
    }
}

impl Trade {
    fn say(&mut self, now: Instant, sheet: &Sheet, random: &mut Random) -> Option<Say> {
        let id = self.state.id.clone();
        if !self.offered {
            self.offered = true;
            let coins = random.next_u64() % (sheet.coins / 2 + 1);
            let count = usize::try_from(random.next_u64() % (ITEMS_MAX as u64 + 1)).unwrap_or(0);
            let items = sheet.items.iter().rev().take(count).map(|item| item.id.clone()).collect();
            return Some(Say::Set(TradeSet { id, coins, items }));
        }
        if self.is_empty() {
            return (EMPTY_WITHIN < now - self.since).then_some(Say::Cancel(TradeCancel { id }));
        }
        match self.state.confirmed_by_me {
            true => None,
            false if self.unwilling => Some(Say::Cancel(TradeCancel { id })),
            false => Some(Say::Confirm(TradeConfirm { id, revision: self.state.revision })),
        }
    }

    /// Nobody gives anything: nothing that could be agreed to.
    fn is_empty(&self) -> bool {
        [&self.state.mine, &self.state.theirs].into_iter().flatten().all(|goods| *goods == Goods::default())
    }
}

/// The number of a trade, which no other run has.
fn new_id(random: &mut Random) -> Bytes {
    let id = u128::from(Random::fresh().next_u64()) << 64 | u128::from(random.next_u64());
    Bytes::copy_from_slice(&id.to_be_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rich() -> Sheet {
        Sheet { coins: 100, ..Sheet::default() }
    }

    /// A bot that says something as often as it may, for as long as nobody answers it.
    struct Bot {
        haggler: Haggler,
        random: Random,
        now: Instant,
        seq: u32,
    }

    impl Bot {
        fn new(seed: u64) -> Self {
            let now = Instant::now();
            Self { haggler: Haggler::new(now), random: Random::new(seed), now, seq: 0 }
        }

        /// What it says within this time, first thing.
        fn say_within(&mut self, within: Duration) -> Option<Say> {
            let until = self.now + within;
            while self.now < until {
                self.now += Duration::from_millis(50);
                if let Some(say) = self.haggler.say(self.now, &rich(), Some("other".into()), &mut self.random) {
                    self.seq += 1;
                    self.haggler.said(self.seq, self.now);
                    return Some(say);
                }
            }
            None
        }

        fn say(&mut self) -> Say {
            self.say_within(2 * ANSWER_WITHIN).expect("it says something")
        }

        fn show(&mut self, state: TradeState) {
            self.haggler.shown(state, self.seq, self.now, &mut self.random);
        }
    }

    fn shown(revision: u32, coins: u64) -> TradeState {
        let mine = Some(Goods { coins, items: Vec::new() });
        TradeState { id: Bytes::from_static(&[7; 16]), revision, mine, ..TradeState::default() }
    }

    /// A bot that is shown a trade, and is willing.
    fn willing() -> Bot {
        let mut bots = (1..).map(Bot::new).map(|mut bot| {
            bot.show(shown(1, 0));
            bot
        });
        bots.find(|bot| bot.haggler.trade.as_ref().is_some_and(|trade| !trade.unwilling)).expect("most are willing")
    }

    #[test]
    fn it_opens_offers_once_and_agrees_to_the_newest() {
        assert!(matches!(Bot::new(1).say(), Say::Open(open) if open.with == "other" && open.id.len() == 16));
        let mut bot = willing();
        assert!(matches!(bot.say(), Say::Set(_)));
        bot.show(shown(2, 5));
        assert!(matches!(bot.say(), Say::Confirm(confirm) if confirm.revision == 2));
        bot.show(shown(3, 5));
        assert!(matches!(bot.say(), Say::Confirm(confirm) if confirm.revision == 3));
        bot.show(TradeState { confirmed_by_me: true, ..shown(3, 5) });
        assert_eq!(bot.say_within(ANSWER_WITHIN), None);
        bot.haggler.over(&shown(3, 5).id, 0);
        assert!(matches!(bot.say(), Say::Open(_)));
    }

    #[test]
    fn it_says_one_thing_at_a_time_and_never_more_than_the_bucket_holds() {
        let mut bot = willing();
        bot.say();
        assert_eq!(bot.say_within(ANSWER_WITHIN - REQUEST_PERIOD), None, "the first is not answered");
        let (per_second, _) = proto::kinds::Bucket::Social.rate();
        assert!(Duration::from_secs(1) < REQUEST_PERIOD * per_second);
        let mut said = Vec::new();
        for revision in 2..20 {
            bot.show(shown(revision, 5));
            bot.say();
            said.push(bot.now);
        }
        assert!(said.windows(2).all(|pair| REQUEST_PERIOD <= pair[1] - pair[0]));
    }

    #[test]
    fn what_is_refused_is_said_again_after_the_pause_or_given_up() {
        let mut bot = willing();
        bot.say();
        bot.show(shown(2, 5));
        bot.say();
        let (seq, busy) = (bot.seq, Fault::retry(FaultCode::Unavailable, "dc is away", 1_000));
        assert!(bot.haggler.refused(seq, &busy, bot.now) && !bot.haggler.refused(seq, &busy, bot.now), "each refusal once");
        assert_eq!(bot.say_within(Duration::from_millis(900)), None);
        assert!(matches!(bot.say(), Say::Confirm(_)));
        let (seq, gone) = (bot.seq, Fault::new(FaultCode::NotFound, "no such trade"));
        assert!(bot.haggler.refused(seq, &gone, bot.now));
        assert!(matches!(bot.say(), Say::Open(_)), "center has forgotten the trade");
    }

    #[test]
    fn a_trade_in_which_nothing_is_given_is_cancelled_and_one_without_end_given_up() {
        let mut bot = willing();
        bot.say();
        bot.show(shown(2, 0));
        assert!(matches!(bot.say(), Say::Cancel(_)));
        let late = bot.now + TRADE_WITHIN;
        assert!(!bot.haggler.gives_up(bot.now) && bot.haggler.gives_up(late) && !bot.haggler.gives_up(late));
    }
}
