//! Profiles and names: values with their version before them, as 20 digits, so that Redis can compare without knowing what they are.

use std::sync::LazyLock;

use deadpool_redis::redis::{Script, cmd};
use prost::Message;
use proto::{
    internal::RoleVersion,
    names,
    record::{NameHolder, Profile},
};

use super::{Away, Entry, redis::Redis};

/// How long a value that nobody writes again stays, in seconds.
const KEPT_S: u32 = 24 * 3600;
/// Digits of a version: all of 64 bits, so that texts compare as numbers do (Lua's own numbers are exact only up to 2^53).
const DIGITS: usize = 20;
/// Players written at once: Redis does nothing else meanwhile.
pub(super) const WRITTEN_MAX: usize = 200;

/// Sets each key to its value unless it has one of the same version or a newer one.
static WRITE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "for i, key in ipairs(KEYS) do
           local new = ARGV[i + 1]
           if redis.call('GETRANGE', key, 0, 19) < string.sub(new, 1, 20) then
             redis.call('SET', key, new, 'EX', ARGV[1])
           end
         end",
    )
});
const _: () = assert!(DIGITS == 20, "the script says so too");

pub(super) async fn read(redis: &Redis, wanted: &[RoleVersion]) -> Vec<Option<Profile>> {
    if wanted.is_empty() {
        return Vec::new();
    }
    let keys: Vec<String> = wanted.iter().map(|wanted| profile_key(redis, wanted.player)).collect();
    let read: Result<Vec<Option<Vec<u8>>>, Away> =
        redis.run("read profiles", |connection| Box::pin(async move { cmd("MGET").arg(keys).query_async(connection).await })).await;
    let Ok(values) = read else { return vec![None; wanted.len()] };
    wanted.iter().zip(values).map(|(wanted, value)| good(wanted, &value?)).collect()
}

/// The profile in a value, if it is this player's and new enough.
fn good(wanted: &RoleVersion, value: &[u8]) -> Option<Profile> {
    let (version, profile) = split::<Profile>(value)?;
    let of = profile.role.as_ref().map(|role| role.player);
    let whole = version == profile.version && of == Some(wanted.player);
    (whole && wanted.version <= version).then_some(profile)
}

pub(super) async fn name(redis: &Redis, name: &str) -> Option<NameHolder> {
    let (name_key, key) = (names::player_key(name), name_key(redis, name));
    let read: Result<Option<Vec<u8>>, Away> =
        redis.run("read a name", |connection| Box::pin(async move { cmd("GET").arg(key).query_async(connection).await })).await;
    let (version, holder) = split::<NameHolder>(&read.ok()??)?;
    let whole = version == name_version(&holder) && names::player_key(&holder.name) == name_key;
    (whole && !holder.deleted).then_some(holder)
}

pub(super) async fn write(redis: &Redis, entries: &[Entry]) -> Result<(), Away> {
    for entries in entries.chunks(WRITTEN_MAX) {
        let mut invocation = WRITE.arg(KEPT_S);
        for Entry { profile, deleted } in entries {
            let Some(role) = &profile.role else { continue };
            let holder = NameHolder { player: role.player, name: role.name.clone(), deleted: *deleted };
            invocation.key(name_key(redis, &role.name)).arg(join(name_version(&holder), &holder));
            // A deleted role is on no list that dc gives out: nobody asks for its profile.
            if !deleted {
                invocation.key(profile_key(redis, role.player)).arg(join(profile.version, profile));
            }
        }
        redis.run("write profiles", |connection| Box::pin(async move { invocation.invoke_async::<()>(connection).await })).await?;
    }
    Ok(())
}

/// A name goes from one role to a newer one, and from a role to nobody.
fn name_version(holder: &NameHolder) -> u64 {
    holder.player.saturating_mul(2).saturating_add(u64::from(holder.deleted))
}

fn profile_key(redis: &Redis, player: u64) -> String {
    redis.key(&format!("profile:{player}"))
}

fn name_key(redis: &Redis, name: &str) -> String {
    redis.key(&format!("name:{}", names::player_key(name)))
}

fn join(version: u64, message: &impl Message) -> Vec<u8> {
    let mut value = format!("{version:020}").into_bytes();
    message.encode(&mut value).expect("a vector has room");
    value
}

fn split<M: Message + Default>(value: &[u8]) -> Option<(u64, M)> {
    let (version, body) = value.split_at_checked(DIGITS)?;
    Some((std::str::from_utf8(version).ok()?.parse().ok()?, M::decode(body).ok()?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proto::client::Role;

    use super::*;

    fn profile(player: u64, version: u64) -> Profile {
        Profile { role: Some(Role { player, ..Role::default() }), account: 1, version }
    }

    #[test]
    fn a_profile_is_good_when_it_is_the_players_and_new_enough() {
        let value = join(7, &profile(1, 7));
        let is_good = |player, version| good(&RoleVersion { player, version }, &value).is_some();
        assert!(is_good(1, 6) && is_good(1, 7));
        assert!(!is_good(1, 8), "an older version");
        assert!(!is_good(2, 7), "somebody else's");
        assert_eq!(good(&RoleVersion { player: 1, version: 0 }, &join(8, &profile(1, 7))), None, "head and body differ");
    }

    #[test]
    fn a_name_goes_to_newer_roles_and_to_nobody() {
        let version = |player, deleted| name_version(&NameHolder { player, name: "Ann".into(), deleted });
        assert!(version(1, false) < version(1, true) && version(1, true) < version(2, false));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(value in proptest::collection::vec(any::<u8>(), 0..60)) {
            let _ = split::<Profile>(&value);
            let _ = split::<NameHolder>(&value);
        }

        #[test]
        fn versions_compare_as_texts(one: u64, other: u64) {
            let (left, right) = (join(one, &profile(1, one)), join(other, &profile(1, other)));
            prop_assert_eq!(left[..DIGITS].cmp(&right[..DIGITS]), one.cmp(&other));
            prop_assert_eq!(split::<Profile>(&left), Some((one, profile(1, one))));
        }
    }
}
