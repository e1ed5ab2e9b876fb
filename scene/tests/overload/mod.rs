//! A line whose ticks take longer than they may: what it leaves out, who is told, and that it comes back.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use proto::{
    client::{Entered, Fault, Sheet, TimeFactor},
    internal::SceneEnter,
};
use scene::rules::{Character, Ctx, Entity, EntityId, Looks, MapFacts, Request, Rules, StateHash};

use super::peers::{Seen, Zone};

/// Quicker than a zone would want it, so that the test is.
const LADDER: (&str, &str) = ("window_s: 1, calm_s: 5, time_floor: 0.1", "window_s: 0.1, calm_s: 0.1, time_floor: 0.2");

/// How long each tick takes at least.
static BURNS_US: AtomicU64 = AtomicU64::new(0);

/// The example game on a processor that is too slow for it.
struct Slow(Box<dyn Rules>);

fn open_slow(facts: &MapFacts<'_>) -> anyhow::Result<Box<dyn Rules>> {
    Ok(Box::new(Slow(scene::game::open(facts)?)))
}

impl Rules for Slow {
    fn opened(&mut self, ctx: &mut Ctx<'_>) {
        self.0.opened(ctx);
    }
    fn admit(&self, character: &mut Character) {
        self.0.admit(character);
    }
    fn looks(&self, character: &Character) -> Looks {
        self.0.looks(character)
    }
    fn sheet(&self, character: &Character) -> Sheet {
        self.0.sheet(character)
    }
    fn may_walk(&self, entity: &Entity) -> bool {
        self.0.may_walk(entity)
    }
    fn entered(&mut self, ctx: &mut Ctx<'_>, entity: EntityId) {
        self.0.entered(ctx, entity);
    }
    fn left(&mut self, ctx: &mut Ctx<'_>, entity: EntityId) {
        self.0.left(ctx, entity);
    }
    fn moved(&mut self, ctx: &mut Ctx<'_>, entity: EntityId) {
        self.0.moved(ctx, entity);
    }
    fn request(&mut self, ctx: &mut Ctx<'_>, entity: EntityId, request: &Request) -> Result<(), Fault> {
        self.0.request(ctx, entity, request)
    }
    fn tick(&mut self, ctx: &mut Ctx<'_>) {
        let until = Instant::now() + Duration::from_micros(BURNS_US.load(Ordering::Relaxed));
        self.0.tick(ctx);
        while Instant::now() < until {
            std::hint::spin_loop();
        }
    }
    fn hash(&self, to: &mut StateHash) {
        self.0.hash(to);
    }
}

fn enter(player: u64) -> SceneEnter {
    SceneEnter {
        session: 70 + player,
        gate: "gate-1".into(),
        session_epoch: 1,
        account: player,
        player,
        map: "meadow".into(),
        line: 1,
        seq: 1,
        ..SceneEnter::default()
    }
}

async fn told(zone: &mut Zone, good: impl Fn(u32) -> bool) -> u32 {
    let seen = zone.gate_sees(|seen| matches!(seen, Seen::Time(factor) if good(factor.permille))).await;
    let Seen::Time(factor) = seen else { unreachable!("it was looked for") };
    factor.permille
}

#[tokio::test(flavor = "multi_thread")]
async fn a_starved_line_goes_up_the_ladder_tells_everybody_and_comes_down_again() {
    let mut zone = Zone::start_with(LADDER, open_slow).await;
    let mut logsvc = zone.start_logsvc().await;
    zone.center_calls(enter(1)).await.unwrap();
    zone.gate_delivers::<Entered>(71).await;

    BURNS_US.store(25_000, Ordering::Relaxed);
    let slow = told(&mut zone, |permille| permille < 1_000).await;
    assert!((200..1_000).contains(&slow));
    zone.center_calls(enter(2)).await.unwrap();
    zone.gate_delivers::<Entered>(72).await;
    assert!(zone.gate_delivers::<TimeFactor>(72).await.permille < 1_000, "who comes is told too");

    BURNS_US.store(0, Ordering::Relaxed);
    assert_eq!(told(&mut zone, |permille| permille == 1_000).await, 1_000);
    // Both maps of this scene have the same rules; each line has a ladder of its own.
    let mut up = Vec::new();
    loop {
        let changed = logsvc.overload().await;
        if changed.to == "none" {
            break;
        }
        up.push((changed.from, changed.to));
    }
    for step in [
        ("none", "farther is rarer"),
        ("farther is rarer", "half rate"),
        ("half rate", "time"),
        ("time", "half rate"),
        ("half rate", "farther is rarer"),
    ] {
        assert!(up.iter().any(|(from, to)| (from.as_str(), to.as_str()) == step), "{step:?} in {up:?}");
    }
    zone.stop().await;
}
