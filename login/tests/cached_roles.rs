//! Roles at a login: from the cache if it has them as new as dc says, otherwise from dc; the same without Redis.

mod fakes;
#[path = "../../service/tests/support/redis.rs"]
mod redis;

use fakes::{Seen, World, config};
use proto::{
    client::{LoggedIn, Login, Role},
    internal::RoleVersion,
    record::Profile,
};
use redis::Redis;
use service::cache::Entry;

/// Logs the account of `name` in again, in a session of its own, when dc says that its role has this version; returns the role's level and
/// how often dc was asked for roles.
async fn level_at_login(world: &mut World, session: u64, version: u64) -> (u32, usize) {
    let before = {
        let mut dc = world.dc.lock().unwrap();
        let player = dc.roles[0].1.player;
        dc.accounts.get_mut("alice").unwrap().roles = vec![RoleVersion { player, version }];
        dc.role_lists
    };
    world.open(session, "192.0.2.1");
    world.send(session, 1, &Login { account: "alice".into(), password: "correct horse".into() });
    assert!(matches!(world.next().await, Seen::Authenticated(to, _) if to == session));
    let logged_in: LoggedIn = world.answer(session, 1).await;
    let asked = world.dc.lock().unwrap().role_lists - before;
    (logged_in.roles[0].level, asked)
}

async fn put(world: &World, version: u64, level: u32) {
    let role = Role { level, ..world.dc.lock().unwrap().roles[0].1.clone() };
    let profile = Profile { role: Some(role), account: 1, version };
    world.login.cache.put(&[Entry { profile, deleted: false }]).await.unwrap();
}

#[tokio::test]
async fn a_login_never_shows_an_older_role_than_dc_has() {
    let Some(mut redis) = Redis::start() else { return };
    let mut world = World::start_with_cache(config(), |data| redis.config(data)).await;
    world.play(1, "alice").await;
    put(&world, 4, 40).await;
    assert_eq!(level_at_login(&mut world, 2, 4).await, (40, 0), "the cache has it");
    assert_eq!(level_at_login(&mut world, 3, 5).await, (1, 1), "the cache's is older");
    redis.ask(&["FLUSHALL"]);
    assert_eq!(level_at_login(&mut world, 4, 4).await, (1, 1));
    put(&world, 5, 50).await;
    redis.kill();
    assert_eq!(level_at_login(&mut world, 5, 4).await, (1, 1), "Redis is away");
    world.stop().await;
}

#[tokio::test]
async fn without_redis_dc_is_asked() {
    let mut world = World::start(config()).await;
    world.play(1, "alice").await;
    assert_eq!(level_at_login(&mut world, 2, 4).await, (1, 1));
    world.stop().await;
}
