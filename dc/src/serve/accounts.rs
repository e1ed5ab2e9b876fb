//! Calls of login: accounts, and the roles of an account.

use std::sync::Arc;

use proto::{
    internal::{AccountCreate, AccountFind, AccountReply, RoleCreate, RoleListCall, RoleListed, RoleReply},
    names,
    record::PlayerRecord,
};

use super::{Desk, bounded, role_of};
use crate::{
    ledger::{
        Ledger,
        known::{Account, Whose},
        sanctions::Wanted,
        save::check_record,
    },
    refusal::Refusal,
    store::{Command, LIST_MAX, Reader, Reply, StoredAccount},
    writer::State,
};

impl Desk {
    pub(crate) async fn account_create(self: Arc<Self>, call: AccountCreate) -> Result<AccountReply, Refusal> {
        let name = names::account(&call.name).ok_or_else(|| Refusal::invalid(names::ACCOUNT_RULE))?;
        bounded("a password hash", &call.password_hash, 255)?;
        let command = Command::AccountCreate { name: name.clone(), password_hash: call.password_hash.clone() };
        let made = self.shared.command(command).await;
        let account =
            number(made.map_err(|refusal| refusal.for_want_of_the_store("no account can be made now, as its name has to be unique"))?)?;
        Ok(AccountReply { account, name, password_hash: call.password_hash, ..AccountReply::default() })
    }

    /// An account that there is not is answered as account 0, with the sanctions of the address.
    pub(super) async fn account_find(self: Arc<Self>, call: AccountFind) -> Result<AccountReply, Refusal> {
        let account = match names::account(&call.name) {
            Some(name) => self.account(Whose::Name(name)).await?,
            None => None,
        };
        let number = account.as_ref().map_or(0, |account| account.account);
        let wanted = Wanted { kind: None, against: Some((number, call.address)), now_ms: crate::now_ms(), limit: LIST_MAX };
        let sanctions = self.shared.look(|state| state.ledger.sanctions(&wanted));
        Ok(match account {
            Some(Account { account, name, password_hash, roles }) => AccountReply { account, name, password_hash, sanctions, roles },
            None => AccountReply { sanctions, ..AccountReply::default() },
        })
    }

    /// An account with its roles as they are now, in memory or in the store.
    pub(super) async fn account(&self, whose: Whose) -> Result<Option<Account>, Refusal> {
        if let Some(known) = self.shared.look_mut(|state| state.ledger.account(&whose)) {
            return Ok(Some(known));
        }
        let read = {
            let whose = whose.clone();
            move |reader: &dyn Reader| {
                let found = match &whose {
                    Whose::Name(name) => reader.account_named(name)?,
                    Whose::Number(number) => reader.account(*number)?,
                };
                let Some(StoredAccount { account, name, password_hash }) = found else { return Ok(None) };
                Ok(Some(Account { account, name, password_hash, roles: reader.versions_of(account)? }))
            }
        };
        let known = |ledger: &mut Ledger, found: Option<Account>| {
            ledger.known.put_account(found?);
            ledger.account(&whose)
        };
        let account = self.read_over(read, known).await;
        account.map_err(|refusal| refusal.for_want_of_the_store("accounts that were not seen lately can't be looked up now"))
    }

    /// As they are now, which the store may not have yet.
    pub(super) async fn role_list(self: Arc<Self>, call: RoleListCall) -> Result<RoleListed, Refusal> {
        let account = self.account(Whose::Number(call.account)).await?;
        let players: Vec<u64> = account.iter().flat_map(|account| &account.roles).map(|role| role.player).collect();
        let living = |state: &mut State| {
            let hot = players.iter().filter_map(|player| state.ledger.read(*player).ok().cloned());
            Ok(hot.collect::<Vec<_>>())
        };
        let roles = self.with_records(&players, living).await;
        let roles = roles.map_err(|refusal| refusal.for_want_of_the_store("roles that were not seen lately can't be looked up now"))?;
        roles.iter().for_each(|hot| self.shared.publisher().missed_hot(hot));
        Ok(RoleListed { roles: roles.iter().map(|hot| role_of(&hot.record)).collect() })
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
        let made = self.shared.command(Command::RoleCreate { record: record.clone(), roles_max: call.roles_max }).await;
        let player =
            number(made.map_err(|refusal| refusal.for_want_of_the_store("no role can be made now, as its name has to be unique"))?)?;
        let record = PlayerRecord { player, ..record };
        self.shared.publisher().created(&record);
        Ok(RoleReply { role: Some(role_of(&record)) })
    }
}

/// The number that the store gave.
fn number(reply: Reply) -> Result<u64, Refusal> {
    match reply {
        Reply::Number(number) => Ok(number),
        other => Err(Refusal::Internal(format!("the store gave {other:?} for a number"))),
    }
}
