//! Login: steps 3 to 5 of the login path, and the claim that makes this session the account's one live session.

use std::time::Duration;

use proto::{
    Frame,
    client::{self, Fault, FaultCode},
    internal::{AccountFind, AccountReply, Sanction, SessionAuthenticated, SessionClaim},
    names,
};
use secrecy::SecretString;
use tokio::time::Instant;

use super::{CALL_WITHIN, Reply, Request, roles};
use crate::faults;

/// Checks the password, fetches the roles, and claims the account for this session.
pub(crate) async fn login(request: &Request, message: client::Login) -> Result<Reply, Fault> {
    let client::Login { account, password } = message;
    let password = SecretString::from(password);
    request.not_logged_in()?;
    // A name that breaks the rule is a name that no account has; the rule is public, so this may be quick.
    let name = names::account(&account).ok_or_else(faults::bad_credentials)?;
    within_budget(request, &name)?;
    let account = authenticate(request, &name, password).await?;
    let first = request.desk.waiting_for_room() == 0;
    let_in(request, account, first).await
}

/// The turn of a login that waited for room, and whose password was good when it came.
pub(crate) async fn take_place(request: &Request, name: &str) -> Result<Reply, Fault> {
    let account = request.dc(&AccountFind { name: name.to_owned(), address: request.facts.address.clone() }).await?;
    if account.account == 0 {
        return Err(faults::bad_credentials());
    }
    match faults::of_bans(&account.sanctions) {
        Some(banned) => Err(banned),
        None => let_in(request, account, true).await,
    }
}

/// Fetches the roles and claims the account. `first`: nobody waits for room before it.
async fn let_in(request: &Request, account: AccountReply, first: bool) -> Result<Reply, Fault> {
    let roles = fetch_roles(request, &account).await?;
    let Some(session_epoch) = claim(request, &account, first).await? else { return Ok(Reply::ZoneFull) };
    not_banned_meanwhile(request, &account).await?;
    let logged_in = client::LoggedIn { account: account.account, roles, roles_max: request.desk.zone.players.roles_max };
    let authenticated = SessionAuthenticated { account: account.account, account_name: account.name, session_epoch };
    Ok(Reply::LoggedIn { authenticated, message: Frame::encode(request.seq, &logged_in) })
}

/// Steps 3 and 4: asks dc, and checks bans and password. A banned address is told at once; a banned account only to who knows its
/// password, so that nobody else learns that it exists.
async fn authenticate(request: &Request, name: &str, password: SecretString) -> Result<AccountReply, Fault> {
    request.step(3, name, Ok(""), Duration::ZERO);
    let asked = Instant::now();
    let found = request.dc(&AccountFind { name: name.to_owned(), address: request.facts.address.clone() }).await;
    let took = asked.elapsed();
    let account = found.inspect_err(|fault| request.step(4, name, Err(&fault.text), took))?;
    let (of_account, of_address): (Vec<Sanction>, Vec<Sanction>) =
        account.sanctions.iter().cloned().partition(|sanction| sanction.account != 0);
    if let Some(banned) = faults::of_bans(&of_address) {
        request.step(4, name, Err("banned address"), took);
        return Err(banned);
    }
    match check(request, name, password, &account).await {
        Ok(true) => {
            if let Some(banned) = faults::of_bans(&of_account) {
                request.step(4, name, Err("banned account"), took);
                return Err(banned);
            }
            request.step(4, name, Ok("good"), took);
            Ok(account)
        }
        Ok(false) => {
            request.step(4, name, Err(if account.account == 0 { "unknown account" } else { "wrong password" }), took);
            Err(faults::bad_credentials())
        }
        Err(fault) => {
            request.step(4, name, Err(&fault.text), took);
            Err(fault)
        }
    }
}

/// Whether the password is the account's. An account that does not exist costs the same work.
async fn check(request: &Request, name: &str, password: SecretString, account: &AccountReply) -> Result<bool, Fault> {
    let desk = &request.desk;
    let turn = desk.hashers.turn().await;
    if !request.running.lives() {
        return Err(Fault::new(FaultCode::IllegalState, "the session is over"));
    }
    // Asked again: of many tries that waited together, only as many as the budget allows may reach the hash.
    within_budget(request, name)?;
    let hash = (account.account != 0).then(|| account.password_hash.clone());
    let good = turn.verify(password, hash).await.map_err(|err| desk.defect(&format!("check a password: {err}")))?;
    if !good {
        let mut budget = desk.budget.lock().expect("no holder of the budget panics");
        budget.failed(name, &request.facts.address, Instant::now());
    }
    Ok(good)
}

/// Whether the account may be tried from this address.
pub(crate) fn within_budget(request: &Request, name: &str) -> Result<(), Fault> {
    let budget = request.desk.budget.lock().expect("no holder of the budget panics");
    match budget.wait(name, &request.facts.address, Instant::now()) {
        None => Ok(()),
        Some(wait) => {
            let wait_ms = u32::try_from(wait.as_millis()).unwrap_or(u32::MAX).max(1);
            Err(Fault::retry(FaultCode::RateLimited, "too many failed logins", wait_ms))
        }
    }
}

/// Step 5. Before the claim: a login that fails here has closed nobody else's session.
async fn fetch_roles(request: &Request, account: &AccountReply) -> Result<Vec<client::Role>, Fault> {
    let asked = Instant::now();
    let roles = roles::of(request, account).await;
    let outcome = roles.as_ref().map(|_| "roles fetched").map_err(|fault| fault.text.as_str());
    request.step(5, &account.name, outcome, asked.elapsed());
    roles
}

/// A ban closes the sessions that center knows; one that came before the claim has not met this one.
async fn not_banned_meanwhile(request: &Request, account: &AccountReply) -> Result<(), Fault> {
    let find = AccountFind { name: account.name.clone(), address: request.facts.address.clone() };
    let now = request.dc(&find).await?;
    faults::of_bans(&now.sanctions).map_or(Ok(()), Err)
}

/// The epoch of the session that is the account's live one from now on; none: the zone is full.
async fn claim(request: &Request, account: &AccountReply, first: bool) -> Result<Option<u64>, Fault> {
    if !request.running.lives() {
        return Err(Fault::new(FaultCode::IllegalState, "the session is over"));
    }
    let claim = SessionClaim {
        session: request.session,
        account: account.account,
        account_name: account.name.clone(),
        gate: request.gate.to_string(),
        address: request.facts.address.clone(),
        first,
        passes: request.desk.zone.players.queue_pass.contains(&account.name),
    };
    request.desk.claim(&claim, CALL_WITHIN).await
}
