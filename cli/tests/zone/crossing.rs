//! Two players trade while one of them crosses a portal to a map of another scene: both have what they agreed on, or neither has
//! (FAULTS 20).

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use client::{Client, ClientOptions, Event, Events, Fault, RequestError};
use futures_util::future::join_all;
use proto::client::{Entered, FaultCode, Position, Sheet, TradeState, UsePortal};
use serde_json::Value;
use service::random::Rng;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};

use crate::{
    harness::{PATIENCE, Seed, Zone, get, zone_file},
    purse::{self, Purse},
};

const PAIRS: usize = 100;
/// Tries in CI; `PAIFANG_TRIES` names another number, 10000 for the full count.
const TRIES: usize = 1_000;
/// A try is three requests about trade for one of the two and two for the other, who take turns; a session may make five a second.
const TRY_PERIOD: Duration = Duration::from_millis(520);
/// Between attempts where the zone says nothing of when to try again.
const RETRY: Duration = Duration::from_millis(200);
/// The first confirms after a part of this, the other after another; and one uses the portal after a part of that: so that it comes before
/// the trade is settled, between the ticks of settling it, and after.
const PAUSE_MAX: Duration = Duration::from_millis(100);
const PORTAL_MAX: Duration = Duration::from_millis(400);
/// Portals in a row, and rows of them; three cells lie between two.
const SPOTS: usize = 5;
const COINS: u64 = 1_000;
const ITEMS: u8 = 4;
const PASSWORD: &str = "correct horse";

#[test]
fn zone_settles_a_trade_for_both_or_neither_while_one_crosses_a_portal() {
    let seed = Seed::new();
    let tries = std::env::var("PAIFANG_TRIES").map_or(TRIES, |tries| tries.parse().expect("PAIFANG_TRIES is a number"));
    let owner = tempfile::tempdir().expect("make a folder");
    std::fs::write(owner.path().join("test.yaml"), portals()).expect("write the zone file");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("start the runtime");

    let zone = Zone::start_in(owner.path());
    let gate = zone.gate();
    runtime.block_on(join_all((0..2 * PAIRS).map(|number| make(gate.clone(), number))));
    assert!(zone.stop().success());
    let purses: Vec<Purse> = (0..2 * PAIRS).map(purse).collect();
    purse::fill(owner.path(), &purses);

    let zone = Zone::start_in(owner.path());
    let (gate, dc) = (zone.gate(), zone.address("dc-1", "admin"));
    let started = Instant::now();
    let outcomes = runtime.block_on(async {
        let pairs = (0..PAIRS).map(|number| {
            let (random, share) = (Rng::new(seed.0.wrapping_add(number as u64)), tries / PAIRS + usize::from(number < tries % PAIRS));
            let (gate, dc) = (gate.clone(), dc.clone());
            tokio::spawn(async move { Pair::enter(&gate, dc, number, random).await.play(share).await })
        });
        let mut outcomes = BTreeMap::new();
        for pair in join_all(pairs).await {
            for (outcome, count) in pair.expect("a pair came to its end") {
                *outcomes.entry(outcome).or_insert(0) += count;
            }
        }
        outcomes
    });
    eprintln!("{tries} tries in {:?}: {outcomes:#?}", started.elapsed());
    assert_eq!(outcomes.values().sum::<usize>(), tries);
    for (wanted, named) in [(true, "took place"), (false, "did not")] {
        assert!(
            outcomes.keys().any(|outcome| outcome.settled == wanted && outcome.crossed),
            "no trade {named} that was crossed: {outcomes:?}"
        );
    }
    assert!(zone.stop().success());
}

/// The development zone with portals that lead to and fro at the same spots, and nobody but the players.
fn portals() -> String {
    let mut zone: Value = serde_yaml::from_str(&zone_file()).expect("the zone file is YAML");
    for (map, other) in [("meadow", "forest"), ("forest", "meadow")] {
        let portal = |spot: usize| {
            let (x, y) = (spot_m(spot % SPOTS), spot_m(spot / SPOTS));
            serde_json::json!({ "name": format!("portal {spot}"), "x_m": x, "y_m": y, "map": other, "to_x_m": x, "to_y_m": y })
        };
        zone["world"]["maps"][map]["rules"] = serde_json::json!({ "portals": (0..SPOTS * SPOTS).map(portal).collect::<Vec<_>>() });
    }
    serde_json::to_string_pretty(&zone).expect("JSON is YAML")
}

fn spot_m(place: usize) -> u32 {
    40 + 80 * u32::try_from(place).expect("a small number")
}

fn purse(number: usize) -> Purse {
    let spot = (number / 2) % (SPOTS * SPOTS);
    let at = |place| i32::try_from(100 * spot_m(place)).expect("on the map");
    let items = (0..ITEMS).map(|item| (number as u128 * 256 + u128::from(item) + 1).to_be_bytes()).collect();
    Purse { name: role(number), coins: COINS, items, map: "meadow".into(), at: Position { x: at(spot % SPOTS), y: at(spot / SPOTS) } }
}

fn role(number: usize) -> String {
    format!("Trader{number}")
}

fn account(number: usize) -> String {
    format!("trader-{number}")
}

/// Makes the account and the character of a player.
async fn make(gate: String, number: usize) {
    let (client, _events) = connect(&gate).await;
    let (account, role) = (account(number), role(number));
    patiently(|| client.register(&account, PASSWORD)).await;
    patiently(|| client.login(&account, PASSWORD)).await;
    patiently(|| client.create_role(&role)).await;
}

async fn connect(gate: &str) -> (Client, Events) {
    let options = ClientOptions { request_timeout: PATIENCE, ..ClientOptions::default() };
    Client::connect(&gate.parse().expect("an address"), options).await.expect("connect")
}

/// Asks until the zone does it: what is refused for the moment is asked again.
async fn patiently<A, F: Future<Output = Result<A, RequestError>>>(ask: impl Fn() -> F) -> A {
    asked(&[], ask).await.unwrap_or_else(|fault| panic!("the zone does not do it: {fault}"))
}

/// As [`patiently`], and faults with these codes are for the moment too. The others come back.
async fn asked<A, F: Future<Output = Result<A, RequestError>>>(for_now: &[FaultCode], ask: impl Fn() -> F) -> Result<A, Fault> {
    let deadline = Instant::now() + 4 * PATIENCE;
    loop {
        let fault = match ask().await {
            Ok(answer) => return Ok(answer),
            Err(RequestError::Fault(fault)) => fault,
            Err(error) => panic!("the zone does not answer: {error}"),
        };
        let retry = fault.retry.or_else(|| for_now.contains(&fault.code).then_some(RETRY));
        match retry.filter(|_| Instant::now() < deadline) {
            Some(retry) => sleep(retry).await,
            None => return Err(fault),
        }
    }
}

/// What came of a try.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Outcome {
    /// The trade took place.
    settled: bool,
    /// Who used the portal got to the other side.
    crossed: bool,
}

/// A character, what its client knows of it, and what it was told of the trade and the journey.
struct Side {
    client: Client,
    events: Events,
    name: String,
    sheet: Sheet,
    /// The trade whose end is waited for, and whether it took place.
    trade: Option<(Bytes, Option<bool>)>,
    /// The number of a portal's use, and whether that came off.
    journey: Option<(u32, Option<bool>)>,
}

impl Side {
    async fn enter(gate: &str, number: usize) -> Self {
        let (client, events) = connect(gate).await;
        let account = account(number);
        let roles = patiently(|| client.login(&account, PASSWORD)).await.roles;
        let entered = patiently(|| client.enter(roles[0].player)).await;
        let sheet = entered.sheet.expect("a sheet");
        Self { client, events, name: role(number), sheet, trade: None, journey: None }
    }

    /// Takes in what is said until something is so.
    async fn until(&mut self, what: &str, wanted: impl Fn(&Self) -> bool) {
        let all = async {
            while !wanted(self) {
                let event = self.events.next().await.expect("the connection stays");
                self.take(event);
            }
        };
        if timeout(PATIENCE, all).await.is_err() {
            panic!("{}: {what} did not come about: {:?}, {:?}, {:?}", self.name, self.trade, self.journey, self.sheet);
        }
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Entered(Entered { sheet, .. }) => {
                self.sheet = sheet.expect("a sheet");
                self.journey = self.journey.map(|(seq, _)| (seq, Some(true)));
            }
            Event::SheetChanged(changed) => self.sheet = changed.sheet.expect("a sheet"),
            Event::TradeEnded(ended) => self.ended(&ended.id, false),
            Event::TradeSettled(settled) => self.ended(&settled.id, settled.done),
            Event::Fault { request, .. } => match &mut self.journey {
                Some((seq, came_off)) if *seq == request => *came_off = Some(false),
                _ => (),
            },
            Event::Lost(lost) => panic!("{}: the connection is lost: {lost:?}", self.name),
            _ => (),
        }
    }

    fn ended(&mut self, id: &Bytes, done: bool) {
        if let Some((trade, end)) = self.trade.as_mut().filter(|(trade, _)| trade == id) {
            assert!(end.is_none_or(|end| end == done), "{} is told two ends of trade {trade:?}", self.name);
            *end = Some(done);
        }
    }
}

/// What one of the two has.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Goods {
    coins: u64,
    items: BTreeSet<Bytes>,
}

impl Goods {
    fn shown(sheet: &Sheet) -> Self {
        Self { coins: sheet.coins, items: sheet.items.iter().map(|item| item.id.clone()).collect() }
    }

    /// What dc says of a player.
    fn kept(shown: &Value) -> Self {
        let items = shown["record"]["items"].as_array().expect("items");
        let id = |item: &Value| u128::from_str_radix(item["id"].as_str().expect("an id"), 16).expect("hexadecimal digits");
        let ids: BTreeSet<Bytes> = items.iter().map(|item| Bytes::copy_from_slice(&id(item).to_be_bytes())).collect();
        assert_eq!(ids.len(), items.len(), "an item is there twice: {shown:#}");
        Self { coins: shown["record"]["coins"].as_u64().expect("coins"), items: ids }
    }

    /// After it gave this and got that.
    fn after(&self, gives: &Goods, gets: &Goods) -> Self {
        let items = self.items.difference(&gives.items).chain(&gets.items).cloned().collect();
        Self { coins: self.coins - gives.coins + gets.coins, items }
    }

    fn offer(&self, random: &mut Rng) -> Self {
        let count = random.below(1 + self.items.len().min(3) as u64) as usize;
        Self { coins: random.below(1 + self.coins / 2), items: self.items.iter().take(count).cloned().collect() }
    }
}

/// Two who trade with each other only.
struct Pair {
    sides: [Side; 2],
    /// What each has, by all that was agreed on.
    has: [Goods; 2],
    dc: Arc<str>,
    random: Rng,
}

impl Pair {
    async fn enter(gate: &str, dc: String, number: usize, random: Rng) -> Self {
        let sides = [Side::enter(gate, 2 * number).await, Side::enter(gate, 2 * number + 1).await];
        let has = sides.each_ref().map(|side| Goods::shown(&side.sheet));
        assert_eq!(has.iter().map(|has| has.coins).sum::<u64>(), 2 * COINS, "{has:?}");
        Self { sides, has, dc: dc.into(), random }
    }

    async fn play(mut self, tries: usize) -> BTreeMap<Outcome, usize> {
        let mut outcomes = BTreeMap::new();
        let mut period = interval(TRY_PERIOD);
        period.set_missed_tick_behavior(MissedTickBehavior::Delay);
        for number in 0..tries {
            period.tick().await;
            *outcomes.entry(self.attempt(number).await).or_insert(0) += 1;
        }
        for side in self.sides {
            side.client.bye().await.expect("say goodbye");
        }
        outcomes
    }

    /// One trade, in whose last moments one of the two uses a portal; then everything is where it has to be.
    async fn attempt(&mut self, number: usize) -> Outcome {
        let opener = number % 2;
        let (id, state, offers) = loop {
            let id = self.trade_id();
            if let Some((state, offers)) = self.agree(opener, &id).await {
                break (id, state, offers);
            }
        };
        self.confirm_and_cross(&id, state.revision).await;
        let [one, two] = &mut self.sides;
        let over = |side: &Side| side.trade.as_ref().is_some_and(|(_, end)| end.is_some());
        let arrived = |side: &Side| side.journey.is_none_or(|(_, came_off)| came_off.is_some());
        tokio::join!(one.until("the end of the trade", over), two.until("the end of the trade", over));
        tokio::join!(one.until("the end of the journey", arrived), two.until("the end of the journey", arrived));
        let ends = self.sides.each_ref().map(|side| side.trade.as_ref().and_then(|(_, end)| *end));
        assert_eq!(ends[0], ends[1], "one has heard that the trade took place, the other that it did not: {id:?}");
        let settled = ends[0] == Some(true);
        if settled {
            let [one, two] = &self.has;
            self.has = [one.after(&offers[0], &offers[1]), two.after(&offers[1], &offers[0])];
        }
        self.check().await;
        let crossed = self.sides.iter().any(|side| side.journey.is_some_and(|(_, came_off)| came_off == Some(true)));
        Outcome { settled, crossed }
    }

    fn trade_id(&mut self) -> Bytes {
        let halves = [self.random.next_u64(), self.random.next_u64()];
        Bytes::copy_from_slice(&(u128::from(halves[0]) << 64 | u128::from(halves[1])).to_be_bytes())
    }

    /// Opens a trade and puts both offers into it. None: center ended it, for it has only now heard of the last journey.
    async fn agree(&mut self, opener: usize, id: &Bytes) -> Option<(TradeState, [Goods; 2])> {
        for side in &mut self.sides {
            (side.trade, side.journey) = (Some((id.clone(), None)), None);
        }
        let (asks, other) = (self.sides[opener].client.clone(), self.sides[1 - opener].name.clone());
        // Center may hear a moment later than the clients that both have arrived.
        let opened = asked(&[FaultCode::NotNow, FaultCode::NotFound], || asks.trade_open(id.clone(), &other)).await;
        opened.unwrap_or_else(|fault| panic!("{} can't trade with {other}: {fault}", self.sides[opener].name));
        let mut offers = self.has.each_ref().map(|has| has.offer(&mut self.random));
        // One of the two gives something: nobody can agree to nothing.
        for (offer, has) in offers.iter_mut().zip(&self.has) {
            offer.coins = offer.coins.max(1).min(has.coins);
        }
        let mut state = None;
        for (side, offer) in self.sides.iter().zip(&offers) {
            let items: Vec<Bytes> = offer.items.iter().cloned().collect();
            state = asked(&[FaultCode::NotNow], || side.client.trade_set(id.clone(), offer.coins, items.clone())).await.ok();
        }
        Some((state?, offers))
    }

    /// Both confirm, in this order or that, and one of them goes through the portal, a moment before or after.
    async fn confirm_and_cross(&mut self, id: &Bytes, revision: u32) {
        let (first, crosser) = (self.random.below(2) as usize, self.random.below(2) as usize);
        let [pause, confirm, portal] = [PAUSE_MAX, PAUSE_MAX, PORTAL_MAX].map(|max| self.random.below(max.as_micros() as u64));
        let [pause, confirm, portal] = [pause, pause + confirm, portal].map(Duration::from_micros);
        let confirms = |side: usize, after: Duration| {
            let client = self.sides[side].client.clone();
            async move {
                sleep(after).await;
                match client.trade_confirm(id.clone(), revision).await {
                    // It ended before.
                    Ok(_) | Err(RequestError::Fault(Fault { code: FaultCode::NotFound | FaultCode::NotNow, .. })) => (),
                    Err(error) => panic!("confirm: {error}"),
                }
            }
        };
        let crosses = async {
            sleep(portal).await;
            self.sides[crosser].client.send(&UsePortal {}).await.expect("the connection stays")
        };
        let ((), (), seq) = tokio::join!(confirms(first, pause), confirms(1 - first, confirm), crosses);
        self.sides[crosser].journey = Some((seq, None));
    }

    /// dc keeps for both exactly what they have to have, and so it is shown to them.
    async fn check(&mut self) {
        for (side, has) in self.sides.iter_mut().zip(&self.has) {
            let (dc, path) = (self.dc.clone(), format!("/players/{}", side.name));
            let shown = tokio::task::spawn_blocking(move || get(&dc, &path)).await.expect("asking does not panic");
            let shown = serde_json::from_str(&shown.expect("dc answers")).expect("dc answers in JSON");
            assert_eq!(&Goods::kept(&shown), has, "{}: {shown:#}", side.name);
            side.until("what it has", |side| Goods::shown(&side.sheet) == *has).await;
        }
        let (coins, items) = (self.has.iter().map(|has| has.coins).sum::<u64>(), self.has.iter().map(|has| has.items.len()).sum::<usize>());
        assert_eq!((coins, items), (2 * COINS, 2 * usize::from(ITEMS)), "{:?}", self.has);
    }
}
