//! Center's GM API over HTTP, and the credentials for it.

use std::{net::SocketAddr, path::Path};

use anyhow::{Context, bail};
use serde_json::{Value, json};
use service::{ProcessId, ProcessKind, Zone};

use super::words::{Order, Registry};
use crate::{http, target::Target};

/// The environment variable with a GM's password.
const PASSWORD_VARIABLE: &str = "PAIFANG_GM_PASSWORD";
/// The account that center makes at its first start.
const FIRST_ACCOUNT: &str = "admin";

/// Center's API.
#[derive(Clone, Debug)]
pub(crate) struct Api {
    center: ProcessId,
    address: SocketAddr,
}

/// A GM's name and password.
#[derive(Clone)]
pub(crate) struct Credentials {
    name: String,
    password: String,
}

impl Credentials {
    /// From `--user` and `--password-file`, the environment, or what center left in the data folder, in this order.
    pub(crate) fn find(target: &Target, zone: &Zone, user: Option<&str>, password_file: Option<&str>) -> anyhow::Result<Self> {
        let name = user.unwrap_or(FIRST_ACCOUNT).to_owned();
        if let Some(file) = password_file {
            let text = service::fs::read_text(Path::new(file))?;
            // The password alone, or as center keeps it.
            let password = of_account(&text, &name).unwrap_or_else(|| text.trim_end().to_owned());
            return Ok(Self { name, password });
        }
        if let Ok(password) = std::env::var(PASSWORD_VARIABLE) {
            return Ok(Self { name, password });
        }
        let center = zone.of(ProcessKind::Center).next().context("find a center in the zone file")?;
        let file = target.data.join(&center.id.0).join("gm.password");
        let help = || format!("find a GM's password: give --password-file FILE, set {PASSWORD_VARIABLE}, or give --data DIR of the zone");
        let text = service::fs::read_text(&file).with_context(help)?;
        let password = of_account(&text, &name);
        let password = password.with_context(|| format!("find the password of {name} in {}: give --password-file FILE", file.display()))?;
        Ok(Self { name, password })
    }
}

/// The password of an account in a text that has a line an account: `admin PASSWORD`.
fn of_account(text: &str, name: &str) -> Option<String> {
    let (_, password) = text.lines().filter_map(|line| line.split_once(' ')).find(|(account, _)| *account == name)?;
    Some(password.trim().to_owned())
}

impl Api {
    /// The API of the zone's center.
    pub(crate) async fn of(zone: &Zone) -> anyhow::Result<Self> {
        let center = zone.of(ProcessKind::Center).next().context("find a center in the zone file")?;
        Ok(Self { center: center.id.clone(), address: http::admin(center).await? })
    }

    /// Whose it is, for messages.
    pub(crate) fn center(&self) -> &ProcessId {
        &self.center
    }

    /// What commands there are.
    pub(crate) async fn registry(&self) -> anyhow::Result<Registry> {
        let answer = http::get(self.address, "/gm/commands").await?;
        serde_json::from_slice(&answer.body).with_context(|| format!("read the registry of commands ({})", answer.status))
    }

    /// A token for [`Api::run`].
    pub(crate) async fn log_in(&self, credentials: &Credentials) -> anyhow::Result<String> {
        let body = json!({ "name": credentials.name, "password": credentials.password });
        let answer = http::post(self.address, "/gm/login", None, &body).await?.json()?;
        match answer["token"].as_str() {
            Some(token) => Ok(token.to_owned()),
            None => bail!("{}: {}", credentials.name, answer["error"]["text"].as_str().unwrap_or("center gives no reason")),
        }
    }

    /// Center's answer: `{"ok": true, ...}` or `{"error": {...}}`.
    pub(super) async fn run(&self, token: &str, order: &Order) -> anyhow::Result<Value> {
        let answer = http::post(self.address, "/gm/run", Some(token), &super::body(order)).await;
        answer.and_then(|answer| answer.json()).with_context(|| format!("run `{}` at {}", order.command, self.center()))
    }
}

/// How flows reach GM commands.
pub(crate) struct Access {
    api: Api,
    credentials: Credentials,
}

impl Access {
    /// Logs in anew for each command: a run of flows may restart center.
    pub(crate) fn new(api: Api, credentials: Credentials) -> Self {
        Self { api, credentials }
    }

    async fn run(&self, command: &str, arguments: Value, reason: &str) -> anyhow::Result<Value> {
        let arguments = match arguments {
            Value::Object(arguments) => arguments,
            Value::Null => serde_json::Map::new(),
            other => bail!("the arguments of a GM command are names with values, not {other}"),
        };
        let order = Order { command: command.to_owned(), arguments, dry_run: false, reason: reason.to_owned() };
        let token = self.api.log_in(&self.credentials).await?;
        let answer = self.api.run(&token, &order).await?;
        match answer.get("error") {
            Some(error) => bail!("{}", error["text"].as_str().unwrap_or("center gives no reason")),
            None => Ok(answer),
        }
    }
}

impl client::flow::GmAccess for Access {
    fn run<'a>(&'a self, command: &'a str, arguments: Value, reason: &'a str) -> client::flow::GmAnswer<'a> {
        Box::pin(async move { self.run(command, arguments, reason).await.map_err(|err| format!("{err:#}")) })
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_password_is_found_by_its_account() {
        assert_eq!(super::of_account("admin s3cret\n", "admin").as_deref(), Some("s3cret"));
        assert_eq!(super::of_account("admin s3cret\n", "bob"), None);
        assert_eq!(super::of_account("correct-horse\n", "admin"), None);
    }
}
