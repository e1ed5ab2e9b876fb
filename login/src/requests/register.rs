//! Register: a new account, if the zone takes any.

use proto::{
    Frame,
    client::{self, Fault, FaultCode},
    event::{AccountRegistered, event::Body},
    internal::AccountCreate,
    names,
};
use secrecy::SecretString;
use service::events::Subject;

use super::{Reply, Request};

/// Makes an account; the session is not logged in by it.
pub(crate) async fn register(request: &Request, message: client::Register) -> Result<Reply, Fault> {
    let client::Register { account, password } = message;
    let password = SecretString::from(password);
    request.not_logged_in()?;
    if !request.desk.zone.players.registration_open {
        return Err(Fault::new(FaultCode::RegistrationClosed, "this zone takes no new accounts"));
    }
    let name = checked(&account, &password)?;
    let turn = request.desk.hashers.turn().await;
    let password_hash = turn.hash(password).await.map_err(|err| request.desk.defect(&err.to_string()))?;
    let created = request.dc(&AccountCreate { name: name.clone(), password_hash }).await?;
    let subject = Subject { account: created.account, ..request.subject() };
    let registered = AccountRegistered { account_name: name, address: request.facts.address.clone() };
    request.desk.events.emit(&subject, Body::AccountRegistered(registered));
    Ok(Reply::Message(Frame::encode(request.seq, &client::Registered {})))
}

/// The name as it is stored, if both are good.
fn checked(account: &str, password: &SecretString) -> Result<String, Fault> {
    use secrecy::ExposeSecret;
    let name = names::account(account).ok_or_else(|| Fault::new(FaultCode::Invalid, names::ACCOUNT_RULE))?;
    if names::password(password.expose_secret()) { Ok(name) } else { Err(Fault::new(FaultCode::Invalid, names::PASSWORD_RULE)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_passwords_follow_their_rules() {
        assert_eq!(checked("Alice", &"long enough".into()).expect("good"), "alice");
        for (account, password, rule) in [("al", "long enough", names::ACCOUNT_RULE), ("alice", "short", names::PASSWORD_RULE)] {
            let fault = checked(account, &password.into()).expect_err("bad");
            assert_eq!((fault.code(), fault.text.as_str()), (FaultCode::Invalid, rule));
        }
    }
}
