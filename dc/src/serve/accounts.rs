//! Calls of login: accounts, and the roles of an account.

use std::sync::Arc;

use proto::{
    internal::{AccountCreate, AccountFind, AccountReply, RoleCreate, RoleListCall, RoleListed, RoleReply},
    names,
    record::PlayerRecord,
};

use super::{Desk, bounded, role_of};
use crate::{
    ledger::{records::Life, save::check_record},
    refusal::Refusal,
    store::{Command, LIST_MAX, Reply, SanctionsWanted},
};

impl Desk {
    pub(crate) async fn account_create(self: Arc<Self>, call: AccountCreate) -> Result<AccountReply, Refusal> {
        let name = names::account(&call.name).ok_or_else(|| Refusal::invalid(names::ACCOUNT_RULE))?;
        bounded("a password hash", &call.password_hash, 255)?;
        let command = Command::AccountCreate { name: name.clone(), password_hash: call.password_hash.clone() };
        let account = number(self.shared.command(command).await?)?;
        Ok(AccountReply { account, name, password_hash: call.password_hash, ..AccountReply::default() })
    }

    /// An account that there is not is answered as account 0, with the sanctions of the address.
    pub(super) async fn account_find(self: Arc<Self>, call: AccountFind) -> Result<AccountReply, Refusal> {
        let name = names::account(&call.name);
        let now_ms = crate::now_ms();
        let found = self.read(move |reader| {
            let account = name.map(|name| reader.account_named(&name)).transpose()?.flatten();
            let number = account.as_ref().map_or(0, |account| account.account);
            let wanted = SanctionsWanted { kind: None, against: Some((number, call.address)), now_ms, limit: LIST_MAX };
            let sanctions = reader.sanctions(&wanted)?;
            Ok(match account {
                Some(account) => {
                    let (name, password_hash, roles) = (account.name, account.password_hash, reader.versions_of(number)?);
                    AccountReply { account: number, name, password_hash, sanctions, roles }
                }
                None => AccountReply { sanctions, ..AccountReply::default() },
            })
        });
        let mut found = found.await?;
        self.shared.look(|state| {
            found.roles.retain_mut(|role| match state.ledger.peek(role.player) {
                Some(hot) => {
                    role.version = hot.version;
                    hot.life != Life::Deleted
                }
                None => true,
            });
        });
        Ok(found)
    }

    /// As they are now, which the store may not have yet.
    pub(super) async fn role_list(self: Arc<Self>, call: RoleListCall) -> Result<RoleListed, Refusal> {
        let stored = self.read(move |reader| reader.players_of(call.account)).await?;
        self.shared.publisher().missed(&stored);
        let roles = self.shared.look(|state| {
            let newest = |record: &PlayerRecord| match state.ledger.peek(record.player) {
                Some(hot) if hot.life == Life::Deleted => None,
                Some(hot) => Some(role_of(&hot.record)),
                None => Some(role_of(record)),
            };
            stored.iter().filter_map(|stored| newest(&stored.record)).collect()
        });
        Ok(RoleListed { roles })
    }

    pub(crate) async fn role_create(self: Arc<Self>, call: RoleCreate) -> Result<RoleReply, Refusal> {
        let record = call.record.ok_or_else(|| Refusal::invalid("a role without a record"))?;
        if !names::player(&record.name) {
            return Err(Refusal::invalid(names::PLAYER_RULE));
        }
        bounded("a map's name", &record.map, 64)?;
        // An item comes into being in the hands of an owner, whose saves are checked against all other players.
        if !check_record(&record)?.is_empty() {
            return Err(Refusal::invalid("a new role has no items"));
        }
        let created_ms = if record.created_ms == 0 { crate::now_ms() } else { record.created_ms };
        let record = PlayerRecord { player: 0, created_ms, ..record };
        let player = number(self.shared.command(Command::RoleCreate { record: record.clone(), roles_max: call.roles_max }).await?)?;
        let record = PlayerRecord { player, ..record };
        self.shared.publisher().created(&record);
        Ok(RoleReply { role: Some(role_of(&record)) })
    }
}

/// The number that the store gave.
pub(super) fn number(reply: Reply) -> Result<u64, Refusal> {
    match reply {
        Reply::Number(number) => Ok(number),
        other => Err(Refusal::Internal(format!("the store gave {other:?} for a number"))),
    }
}
