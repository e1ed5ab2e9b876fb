//! The roles of an account: list, create, delete.

use proto::{
    Frame,
    client::{self, Fault, FaultCode},
    event::{RoleChanged, event::Body},
    internal::{AccountReply, RoleCreate, RoleDelete, RoleListCall},
    names,
    record::PlayerRecord,
};
use service::{config::Zone, events::Subject};

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
    let record = new_record(zone, account, message.name, jiff::Timestamp::now().as_millisecond());
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
fn new_record(zone: &Zone, account: u64, name: String, now_ms: i64) -> PlayerRecord {
    let start = &zone.world.start;
    PlayerRecord {
        account,
        name,
        map: start.map.clone(),
        position: Some(client::Position { x: start.x, y: start.y }),
        level: 1,
        created_ms: now_ms,
        ..PlayerRecord::default()
    }
}
