//! Enter: hands one of the account's roles to center, which brings it into the world.

use std::time::Duration;

use proto::{
    client::{self, Fault},
    internal::PlayerEnter,
};
use service::ProcessKind;
use tokio::time::Instant;

use super::{Reply, Request, roles};

/// Center may have to take another role of the account out of the world first, saved, and gives the scene its time: it is center that
/// says no, not this clock, or the client would be let in after it was told that it is not.
const ENTER_WITHIN: Duration = Duration::from_secs(30);

/// Asks center to bring the role into the world. The scene answers the client; only a failure is told here.
pub(crate) async fn enter(request: &Request, message: client::Enter) -> Result<Reply, Fault> {
    let account = request.account()?;
    let asked = Instant::now();
    let role = roles::own(request, account, message.player).await;
    let chosen = role.as_ref().map(|role| role.name.as_str()).map_err(|fault| fault.text.as_str());
    request.step(5, &request.facts.account_name, chosen, asked.elapsed());
    let role = role?;
    let enter = PlayerEnter {
        session: request.session,
        account,
        player: role.player,
        name: role.name,
        level: role.level,
        map: role.map,
        line: role.line,
        seq: request.seq,
    };
    request.desk.call(ProcessKind::Center, &enter, ENTER_WITHIN).await?;
    Ok(Reply::Nothing)
}
