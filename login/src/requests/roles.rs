//! The roles of an account: list, create, delete.

use proto::{
    Frame,
    client::{self, Fault, FaultCode},
    event::{RoleChanged, event::Body},
    internal::{AccountReply, RoleCreate, RoleDelete, RoleListCall},
    names,
    record::PlayerRecord,
};
use service::{
    config::{Place, World},
    events::Subject,
};

use super::{Reply, Request};

/// Roles that a client is shown, at about 150 bytes each: they fit a frame whatever the zone's `roles_max` is.
const ROLES_SHOWN_MAX: usize = 256;

/// The roles of an account that dc has just told of: from the cache where it has all of them as new as dc said, otherwise from dc.
pub(super) async fn of(request: &Request, account: &AccountReply) -> Result<Vec<client::Role>, Fault> {
    match request.desk.cache.roles(account.account, &account.roles).await {
        Some(mut roles) => {
            roles.truncate(ROLES_SHOWN_MAX);
            Ok(roles)
        }
        None => fetch(request, account.account).await,
    }
}

/// The roles of an account, as dc has them now: what is decided by them is decided by the truth.
pub(super) async fn fetch(request: &Request, account: u64) -> Result<Vec<client::Role>, Fault> {
    let mut roles = request.dc(&RoleListCall { account }).await?.roles;
    roles.truncate(ROLES_SHOWN_MAX);
    Ok(roles)
}

/// The account's role of this number.
pub(super) async fn own(request: &Request, account: u64, player: u64) -> Result<client::Role, Fault> {
    let roles = fetch(request, account).await?;
    let own = roles.into_iter().find(|role| role.player == player);
    own.ok_or_else(|| Fault::new(FaultCode::NotFound, "the account has no such role"))
}

/// Lists them.
pub(crate) async fn list(request: &Request) -> Result<Reply, Fault> {
    let roles = fetch(request, request.account()?).await?;
    Ok(Reply::Message(Frame::encode(request.seq, &client::RoleList { roles })))
}

/// Makes one, at the zone's start place.
pub(crate) async fn create(request: &Request, message: client::CreateRole) -> Result<Reply, Fault> {
    let account = request.account()?;
    if !names::player(&message.name) {
        return Err(Fault::new(FaultCode::Invalid, names::PLAYER_RULE));
    }
    let zone = &request.desk.zone;
    let place = start(&zone.world, |end| request.desk.random().below(end));
    let record = new_record(place, account, message.name, jiff::Timestamp::now().as_millisecond());
    let created = request.dc(&RoleCreate { record: Some(record), roles_max: zone.players.roles_max }).await?;
    let role = created.role.ok_or_else(|| request.desk.defect("create a role: dc answered without one"))?;
    changed(request, "created", &role);
    Ok(Reply::Message(Frame::encode(request.seq, &client::RoleCreated { role: Some(role) })))
}

/// Deletes one of the account's own.
pub(crate) async fn delete(request: &Request, message: client::DeleteRole) -> Result<Reply, Fault> {
    let account = request.account()?;
    let role = own(request, account, message.player).await?;
    request.dc(&RoleDelete { account, player: role.player }).await?;
    changed(request, "deleted", &role);
    Ok(Reply::Message(Frame::encode(request.seq, &client::RoleDeleted { player: role.player })))
}

fn changed(request: &Request, what: &str, role: &client::Role) {
    let subject = Subject { player: role.player, player_name: role.name.clone(), ..request.subject() };
    request.desk.events.emit(&subject, Body::RoleChanged(RoleChanged { what: what.into(), role_name: role.name.clone() }));
}

/// What a new role is. Hit points 0 mean "full": only the game's rules know how many that is, and fill them in at the first enter.
fn new_record(place: Place, account: u64, name: String, now_ms: i64) -> PlayerRecord {
    PlayerRecord {
        account,
        name,
        map: place.map,
        position: Some(client::Position { x: place.x, y: place.y }),
        level: 1,
        created_ms: now_ms,
        ..PlayerRecord::default()
    }
}

/// Where a new role stands. `below` gives a number from 0 to the one before its argument, by chance.
fn start(world: &World, below: impl Fn(u64) -> u64) -> Place {
    let Some(area) = world.starts.get(below(world.starts.len() as u64) as usize) else { return world.start.clone() };
    let somewhere = |middle: i32| {
        let offset = below(u64::from(area.within_cm.unsigned_abs()) * 2 + 1);
        // The zone file's check keeps the area on the map, so this is between 0 and the map's end.
        middle - area.within_cm + i32::try_from(offset).unwrap_or(0)
    };
    Place { map: area.middle.map.clone(), x: somewhere(area.middle.x), y: somewhere(area.middle.y) }
}

#[cfg(test)]
mod tests {
    use service::{Zone, config::DEV_ZONE};

    use super::*;

    #[test]
    fn new_roles_stand_at_the_start_or_anywhere_in_the_areas() {
        let world = Zone::for_test(DEV_ZONE).unwrap().world;
        assert_eq!(start(&world, |_| 0), world.start);
        let areas = "  starts: [{ map: town, x_m: 5, y_m: 5, within_m: 5 }, { map: forest, x_m: 60, y_m: 70, within_m: 2 }]\n  maps:\n";
        let world = Zone::for_test(&DEV_ZONE.replacen("  maps:\n", areas, 1)).unwrap().world;
        assert_eq!(start(&world, |_| 0), Place { map: "town".into(), x: 0, y: 0 });
        assert_eq!(start(&world, |end| end - 1), Place { map: "forest".into(), x: 6200, y: 7200 });
    }
}
