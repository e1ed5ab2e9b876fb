//! What a flow is given: its accounts and characters, made where they are missing, and clients that are in the world already.

use std::time::Duration;

use proto::{
    ClientMessage,
    client::{self, FaultCode},
    kinds,
};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{
    run::{Play, Problem},
    step::{Account, Flow},
};

/// The client that makes the accounts; a name that no YAML can give.
const MAKER: &str = "\0given";
/// A refused request is tried so often, if the zone says when to try again.
const TRIES: u32 = 20;
/// How long one answer may take: many flows hash passwords at the same time.
const ANSWER_WITHIN: Duration = Duration::from_secs(20);

/// Makes what the flow is given.
pub(crate) async fn make(play: &mut Play<'_>, flow: &Flow) -> Result<(), Problem> {
    for account in &flow.given.accounts {
        Box::pin(make_account(play, account)).await.map_err(|problem| problem.about(&format!("account {}", account.name)))?;
    }
    for (client, role) in &flow.given.playing {
        let Some(account) = flow.given.accounts.iter().find(|account| account.roles.contains(role)) else { continue };
        Box::pin(enter(play, client, account, role)).await.map_err(|problem| problem.about(&format!("client {client}")))?;
    }
    Ok(())
}

async fn make_account(play: &mut Play<'_>, account: &Account) -> Result<(), Problem> {
    let (name, password) = (play.vars.text(&account.name)?, play.vars.text(&account.password)?);
    let credentials = json!({"account": name, "password": password});
    play.connect(MAKER, 1, true, ANSWER_WITHIN).await?;
    match ask::<client::Register, client::Registered>(play, MAKER, credentials.clone()).await {
        Err(Refusal::Fault(fault)) if fault.code() == FaultCode::NameTaken => {}
        other => drop(other?),
    }
    if !account.roles.is_empty() {
        let logged_in = ask::<client::Login, client::LoggedIn>(play, MAKER, credentials).await?;
        for role in &account.roles {
            let name = play.vars.text(role)?;
            if !has_role(&logged_in, &name) {
                ask::<client::CreateRole, client::RoleCreated>(play, MAKER, json!({"name": name})).await?;
            }
        }
    }
    leave(play).await
}

/// Says goodbye and waits for the end, so that the flow's own login meets no session of the account.
async fn leave(play: &mut Play<'_>) -> Result<(), Problem> {
    play.send(MAKER, client::Bye::INFO, Value::Null)?;
    let until = Instant::now() + ANSWER_WITHIN;
    while play.peers.get(MAKER).ended.is_none() {
        if !play.peers.pump(until).await {
            return Err("the gate did not close the connection after Bye".to_owned().into());
        }
    }
    play.peers.remove(MAKER);
    Ok(())
}

async fn enter(play: &mut Play<'_>, client: &str, account: &Account, role: &str) -> Result<(), Problem> {
    let credentials = json!({"account": play.vars.text(&account.name)?, "password": play.vars.text(&account.password)?});
    let name = play.vars.text(role)?;
    play.connect(client, 1, true, ANSWER_WITHIN).await?;
    let logged_in = ask::<client::Login, client::LoggedIn>(play, client, credentials).await?;
    let roles = logged_in["roles"].as_array();
    let player = roles.and_then(|roles| roles.iter().find(|role| role["name"] == name.as_str())).map(|role| role["player"].clone());
    let player = player.ok_or_else(|| format!("the account has no role {name}"))?;
    let entered = ask::<client::Enter, client::Entered>(play, client, json!({"player": player})).await?;
    play.vars.set(client, entered);
    // The scene lets a character in a moment before center lists it; whoever plays can be spoken to from the first step on.
    ask::<client::FriendList, client::Friends>(play, client, Value::Null).await?;
    Ok(())
}

fn has_role(logged_in: &Value, name: &str) -> bool {
    let same = |role: &Value| role["name"].as_str().is_some_and(|known| proto::names::player_key(known) == proto::names::player_key(name));
    logged_in["roles"].as_array().is_some_and(|roles| roles.iter().any(same))
}

enum Refusal {
    Fault(client::Fault),
    Problem(Problem),
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Fault(fault) => format!("the zone refused: {}: {}", fault.code().as_str_name(), fault.text).into(),
            Refusal::Problem(problem) => problem,
        }
    }
}

impl From<String> for Refusal {
    fn from(problem: String) -> Self {
        Refusal::Problem(problem.into())
    }
}

/// Sends a request and takes its answer; again, as long as the zone says that trying again helps.
async fn ask<M: ClientMessage, A: ClientMessage>(play: &mut Play<'_>, client: &str, fields: Value) -> Result<Value, Refusal> {
    for _ in 0..TRIES {
        play.send(client, M::INFO, fields.clone()).map_err(Refusal::Problem)?;
        let fault = match answer::<A>(play, client, M::INFO.name).await? {
            Ok(answer) => return Ok(answer),
            Err(fault) => fault,
        };
        if fault.retry_ms == 0 {
            return Err(Refusal::Fault(fault));
        }
        let until = Instant::now() + Duration::from_millis(fault.retry_ms.into());
        while play.peers.pump(until).await {}
    }
    Err(format!("{} was refused {TRIES} times", M::INFO.name).into())
}

async fn answer<A: ClientMessage>(play: &mut Play<'_>, client: &str, request: &str) -> Result<Result<Value, client::Fault>, String> {
    let until = Instant::now() + ANSWER_WITHIN;
    loop {
        let peer = play.peers.get(client);
        let seq = peer.last_seq;
        let at = peer.inbox.iter().position(|frame| frame.seq() == seq && [A::KIND, client::Fault::KIND].contains(&frame.kind()));
        if let Some(frame) = at.and_then(|at| peer.inbox.remove(at)) {
            if frame.kind() == client::Fault::KIND {
                return frame.decode::<client::Fault>().map(Err).map_err(|error| error.to_string());
            }
            return kinds::body_to_json(frame.kind(), &frame.body()).map(Ok).map_err(|error| error.to_string());
        }
        if let Some(reason) = &peer.ended {
            return Err(format!("{request}: {reason}"));
        }
        if !play.peers.pump(until).await {
            return Err(format!("{request} was not answered within {ANSWER_WITHIN:?}"));
        }
    }
}
