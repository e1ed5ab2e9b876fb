//! Bots against a fake zone.

use proto::client::Position;

use tokio::time::{sleep, timeout};

use super::*;
use crate::fake_zone::FakeZone;

async fn options(zone: &FakeZone, profile: Profile) -> BotOptions {
    let short = BotOptions::new(vec![zone.address.clone()], 3, Duration::from_millis(1500));
    BotOptions { profile, logins_per_s: 1000, ..short }
}

#[tokio::test]
async fn bots_walk_and_see_each_other() {
    let zone = FakeZone::start().await;
    let report = run(options(&zone, Profile::Walk).await).await.unwrap();
    assert_eq!((report.logged_in, report.login_failed, report.disconnects), (3, 0, 0));
    assert!(0 < report.moves_sent && report.moves_sent <= report.updates_received, "{report:?}");
    assert!(0.0 < report.latency_ms.p50 && 0.0 < report.login_ms.p50 && 0.0 < report.bytes_per_player_s, "{report:?}");
    assert!(report.is_good(false), "{report:?}");
}

#[tokio::test]
async fn bots_that_drain_their_sockets_act_are_counted_and_rest() {
    let zone = FakeZone::start().await;
    let options = BotOptions { count: 12, hz: 10, drain_hz: Some(5), ..options(&zone, Profile::Town).await };
    let bots = Run::start(options).unwrap();
    bots.gather().await;
    assert_eq!((bots.tally().logged_in, bots.tally().login_failed), (12, 0));
    for _ in 0..2 {
        bots.act(Duration::from_millis(300)).await;
        let tally = bots.tally();
        bots.rest();
        stand_still(&bots).await;
        // Everybody sees everybody, and all count: the two that measure, and the ten that do not.
        assert!(0 < tally.moves_sent && 4 * tally.moves_sent < tally.updates_received, "{tally:?}");
        assert!(!tally.latency.0.is_empty() && tally.latency.0.len() < tally.updates_received, "{tally:?}");
        assert!(tally.report().is_good(false), "{tally:?}");
    }
    let report = bots.end().await.report();
    assert_eq!((report.logged_in, report.disconnects), (12, 0), "{report:?}");
}

/// Waits until nobody moves.
async fn stand_still(bots: &Run) {
    let still = async {
        let mut moved = None;
        while moved != Some(bots.tally().moves_sent) {
            moved = Some(bots.tally().moves_sent);
            sleep(Duration::from_millis(300)).await;
        }
    };
    timeout(Duration::from_secs(20), still).await.expect("bots that rest stand still");
}

#[tokio::test]
async fn bots_that_drain_come_back_too() {
    let zone = FakeZone::start().await;
    let options = BotOptions { count: 12, drain_hz: Some(5), reconnect: Some(Comeback::default()), ..options(&zone, Profile::Walk).await };
    let bots = Run::start(options).unwrap();
    bots.gather().await;
    zone.break_all();
    let all_back = async {
        while bots.tally().errors["resumed"] < 12 {
            tokio::task::yield_now().await;
        }
    };
    timeout(Duration::from_secs(20), all_back).await.unwrap();
    bots.act(Duration::ZERO).await;
    let tally = bots.end().await;
    assert!(0 < tally.moves_sent && 0 < tally.updates_received, "{tally:?}");
    assert_eq!((tally.disconnects, tally.report().blind()), (12, 0), "{tally:?}");
}

#[tokio::test]
async fn lost_bots_come_back_where_they_are_told_and_are_counted_while_they_walk_on() {
    let zone = FakeZone::start().await;
    let nowhere = "127.0.0.1:1".parse().unwrap();
    let gates = vec![nowhere, zone.second_gate().await.address];
    let comeback = Comeback { gates, spread: Duration::from_millis(50), ..Comeback::default() };
    let away = Arc::new(std::sync::atomic::AtomicU64::new(u64::MAX));
    let told = away.clone();
    let on_progress: OnProgress = Arc::new(move |progress| told.store(progress.away, std::sync::atomic::Ordering::Relaxed));
    let walkers = BotOptions { count: 2, on_progress: Some(on_progress), ..options(&zone, Profile::Walk).await };
    let bots = Run::start(BotOptions { reconnect: Some(comeback), ..walkers }).unwrap();
    bots.gather().await;
    assert_eq!(bots.lap().moves_sent, 0, "nobody has walked yet");
    let before = Returns::now_us();
    zone.break_all();
    let all_back = async {
        while bots.tally().returns.inside_us.len() < 2 {
            tokio::task::yield_now().await;
        }
    };
    timeout(Duration::from_secs(20), all_back).await.unwrap();
    let returns = bots.lap().returns;
    assert!(returns.resumed_us.iter().chain(&returns.inside_us).all(|moment| before <= *moment), "{returns:?}");
    assert_eq!((returns.resumed_us.len(), returns.gave_up), (2, 0), "{returns:?}");
    assert_eq!(returns.refused.get("connect"), Some(&1), "one of them tried where nobody is, first: {returns:?}");
    let walking = async {
        while bots.tally().moves_sent == 0 {
            tokio::task::yield_now().await;
        }
    };
    timeout(Duration::from_secs(20), walking).await.expect("they walk on, and the new lap counts them");
    assert_eq!(bots.end().await.disconnects, 2);
    assert_eq!(away.load(std::sync::atomic::Ordering::Relaxed), 0);
}

#[tokio::test]
async fn a_lie_about_a_bot_is_a_wrong_update() {
    let zone = FakeZone::start().await;
    zone.state().lie = Some(Position { x: 1, y: 2 });
    let report = run(options(&zone, Profile::Crowd).await).await.unwrap();
    assert_eq!(report.wrong_updates(), 2, "two neighbours were told: {report:?}");
    assert!(!report.is_good(true));
}

#[tokio::test]
async fn bots_storm_the_login() {
    let zone = FakeZone::start().await;
    let report = run(options(&zone, Profile::LoginStorm).await).await.unwrap();
    assert!(0 < report.logged_in, "{report:?}");
    assert_eq!((report.login_failed, report.disconnects, report.moves_sent), (0, 0, 0));
}

#[tokio::test]
async fn lost_bots_come_back_where_that_is_wanted() {
    for reconnect in [None, Some(Comeback::default())] {
        let zone = FakeZone::start().await;
        let (breaking, wanted) = (zone.clone(), reconnect.is_some());
        let broken = std::sync::atomic::AtomicBool::new(false);
        let on_progress: OnProgress = Arc::new(move |progress| {
            if progress.acting.is_some() && !broken.swap(true, std::sync::atomic::Ordering::Relaxed) {
                breaking.break_all();
            }
        });
        let options = BotOptions { reconnect, on_progress: Some(on_progress), ..options(&zone, Profile::Walk).await };
        let report = run(options).await.unwrap();
        assert_eq!(report.disconnects, 3, "{report:?}");
        assert_eq!(report.resumed(), if wanted { 3 } else { 0 }, "{report:?}");
        // They were lost when they had just begun to walk.
        assert_eq!(6 < report.moves_sent, wanted, "{report:?}");
        assert_eq!((report.is_good(true), report.is_good(false)), (true, false), "{report:?}");
    }
}

#[tokio::test]
async fn a_zone_that_is_not_there_is_a_failed_login() {
    let options = BotOptions { count: 1, ..BotOptions::new(vec!["127.0.0.1:1".parse().unwrap()], 1, Duration::ZERO) };
    let shared = Arc::new(Shared { prefix: "x".into(), trails: Trails::new(), totals: Totals::new(), options });
    let error = login::login(&shared, 0, login::Account::Exists, &mut Random::new(1), Instant::now()).await;
    assert_eq!(error.err().map(|error| error.name()), Some("connect".to_owned()));
}
