//! `zone gm`: the GM's commands. What there is, with which arguments and for which role, is read from center's registry;
//! this program knows no command by itself.

mod api;
mod shown;
mod words;

use std::{path::PathBuf, process::ExitCode};

use anyhow::{Context, bail};
use serde_json::json;

pub(crate) use self::api::{Access, Api, Credentials};
use self::words::{Order, Registry};
use crate::{output, target::Target};

/// What the GM wants.
#[derive(clap::Args)]
#[command(
    disable_help_flag = true,
    after_help = "`zone gm` alone lists the commands, `zone gm COMMAND --help` explains one. Options of every command:\n  \
        --dry-run            say what would happen, and do nothing\n  \
        --reason TEXT        why; kept in the audit log, and shown to the player where one is concerned\n  \
        --user NAME          the GM account (default: admin)\n  \
        --password-file FILE its password (default: the environment's PAIFANG_GM_PASSWORD, or else the data folder's gm.password)\n  \
        --json               one JSON document on standard output"
)]
pub(crate) struct Args {
    /// The command and its arguments: `kick Alia --reason "spams the market"`.
    #[arg(value_name = "COMMAND", trailing_var_arg = true, allow_hyphen_values = true)]
    words: Vec<String>,
}

/// Runs the command. Exit code 2: the command or its arguments are not in the registry.
pub(crate) fn run(args: &Args, target: &Target, json: bool) -> anyhow::Result<ExitCode> {
    let words = match words::split(&args.words) {
        Ok(words) => words,
        Err(wrong) => return Ok(usage(&wrong)),
    };
    let json = json || words.json;
    let target = Target {
        data: words.data.clone().map_or_else(|| target.data.clone(), PathBuf::from),
        zone: words.zone.clone().map(PathBuf::from).or_else(|| target.zone.clone()),
    };
    crate::block_on(async {
        let zone = target.zone()?;
        let api = Api::of(&zone).await?;
        let registry = api.registry().await.with_context(|| target.not_reached(api.center()))?;
        if words.command.is_empty() || words.command == ["help"] {
            if json {
                output::line(shown::commands_json(&registry));
            } else {
                output::line(shown::commands(&registry));
            }
            return Ok(ExitCode::SUCCESS);
        }
        if words.help {
            return Ok(explain(&registry, &words.command));
        }
        let order = match registry.order(&words) {
            Ok(order) => order,
            Err(wrong) => return Ok(usage(&wrong)),
        };
        let credentials = Credentials::find(&target, &zone, words.user.as_deref(), words.password_file.as_deref())?;
        carry_out(&api, &credentials, &order, json).await
    })
}

async fn carry_out(api: &Api, credentials: &Credentials, order: &Order, json: bool) -> anyhow::Result<ExitCode> {
    let token = api.log_in(credentials).await.context("log in as a GM")?;
    let answer = api.run(&token, order).await?;
    if let Some(error) = answer.get("error") {
        if json {
            output::line(&answer);
        }
        let text = error["text"].as_str().unwrap_or("center gives no reason");
        if error["code"] == "bad_argument" {
            return Ok(usage(&format!("`{}`: {text}; `zone gm {0} --help` explains it", order.command)));
        }
        bail!("run `{}`: {text}", order.command);
    }
    if json {
        output::line(&answer);
    } else {
        output::line(shown::answer(order, &answer));
    }
    Ok(ExitCode::SUCCESS)
}

fn explain(registry: &Registry, words: &[String]) -> ExitCode {
    match registry.find(words) {
        Some((command, _)) => {
            output::line(shown::command(command));
            ExitCode::SUCCESS
        }
        None => usage(&format!("there is no GM command `{}`; `zone gm` lists them", words.join(" "))),
    }
}

fn usage(wrong: &str) -> ExitCode {
    eprintln!("zone gm: {wrong}");
    ExitCode::from(2)
}

/// What `POST /gm/run` takes.
fn body(order: &Order) -> serde_json::Value {
    json!({ "command": order.command, "arguments": order.arguments, "dry_run": order.dry_run, "reason": order.reason })
}
