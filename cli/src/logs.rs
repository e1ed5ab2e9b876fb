//! `zone logs`: what happened in the zone, from the behaviour events that logsvc keeps.

use std::{net::SocketAddr, process::ExitCode};

use anyhow::Context;
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use service::ProcessKind;

use crate::{http, output, target::Target};

/// Events that one request may ask for.
const PAGE: u32 = 10_000;

/// What to do.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(clap::Subcommand)]
enum What {
    /// Show the latest events, and then those that come, until Ctrl-C.
    Tail {
        #[command(flatten)]
        wanted: Wanted,
        /// How many of the latest events to begin with.
        #[arg(short = 'n', long, default_value_t = 20, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(..=i64::from(PAGE)))]
        count: u32,
        /// End after the latest events instead of waiting for new ones.
        #[arg(long)]
        no_follow: bool,
    },
    /// Find stored events, the oldest first.
    Find {
        #[command(flatten)]
        wanted: Wanted,
        /// From this long ago (`10m`, `2h`, `7d`), or from this time (`2026-03-01T12:00:00Z`).
        #[arg(long, value_name = "AGO|TIME", value_parser = moment)]
        since: Option<Timestamp>,
        /// Until this long ago, or this time; now if absent.
        #[arg(long, value_name = "AGO|TIME", value_parser = moment)]
        until: Option<Timestamp>,
        /// At most this many; the latest of those that fit.
        #[arg(long, default_value_t = 1000, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=i64::from(PAGE)))]
        limit: u32,
    },
}

/// Which events.
#[derive(clap::Args)]
struct Wanted {
    /// Only events about this player: its name (in any case) or number.
    #[arg(long, value_name = "NAME|ID")]
    player: Option<String>,
    /// Only events about this account.
    #[arg(long, value_name = "ID")]
    account: Option<u64>,
    /// Only events of these kinds; a family (`item`) stands for all of its kinds (`item_changed`).
    #[arg(long, value_name = "KIND[,KIND]")]
    kind: Option<String>,
}

/// Runs the command.
pub(crate) fn run(args: &Args, target: &Target, json: bool) -> anyhow::Result<ExitCode> {
    if let What::Find { since: Some(since), until: Some(until), .. } = &args.what
        && until < since
    {
        eprintln!("zone logs: --until {until} is before --since {since}: nothing can be between them");
        return Ok(ExitCode::from(2));
    }
    let zone = target.zone()?;
    let logsvc = zone.of(ProcessKind::Logsvc).next().context("find a logsvc in the zone file")?;
    crate::block_on(async {
        let address = http::admin(logsvc).await?;
        match &args.what {
            What::Tail { wanted, count, no_follow } => tail(address, &wanted.query(), *count, *no_follow, json).await,
            What::Find { wanted, since, until, limit } => {
                let mut query = wanted.query();
                query.extend(since.map(|since| format!("since_ms={}", since.as_millisecond())));
                query.extend(until.map(|until| format!("until_ms={}", until.as_millisecond())));
                find(address, &query, *limit, json).await
            }
        }
        .map_err(|err| {
            let unreached = err.chain().any(|cause| cause.is::<std::io::Error>());
            err.context(if unreached { target.not_reached(&logsvc.id) } else { format!("read events from {}", logsvc.id) })
        })?;
        Ok(ExitCode::SUCCESS)
    })
}

impl Wanted {
    fn query(&self) -> Vec<String> {
        let mut query = Vec::new();
        query.extend(self.player.as_ref().map(|player| format!("player={}", http::escaped(player))));
        query.extend(self.account.map(|account| format!("account={account}")));
        query.extend(self.kind.as_ref().map(|kind| format!("kind={}", http::escaped(kind))));
        query
    }
}

async fn tail(address: SocketAddr, query: &[String], count: u32, no_follow: bool, json: bool) -> anyhow::Result<()> {
    for event in latest(address, query, count).await? {
        print(&event, json);
    }
    if no_follow {
        return Ok(());
    }
    http::lines(address, &format!("/events/follow?{}", query.join("&")), |line| {
        print(&serde_json::from_str(line).context("read an event")?, json);
        Ok(true)
    })
    .await
}

async fn find(address: SocketAddr, query: &[String], limit: u32, json: bool) -> anyhow::Result<()> {
    let events = latest(address, query, limit).await?;
    if json {
        output::line(Value::Array(events));
        return Ok(());
    }
    for event in &events {
        print(event, false);
    }
    if events.is_empty() {
        eprintln!("no event fits");
    }
    if events.len() == limit as usize {
        eprintln!("{limit} events shown; there may be earlier ones: raise --limit or narrow --since");
    }
    Ok(())
}

/// The latest events that fit, the oldest of them first.
async fn latest(address: SocketAddr, query: &[String], limit: u32) -> anyhow::Result<Vec<Value>> {
    if limit == 0 {
        return Ok(Vec::new());
    }
    let path = format!("/events?order=newest&limit={limit}&{}", query.join("&"));
    let mut events = Vec::new();
    http::lines(address, path.trim_end_matches('&'), |line| {
        let event: Value = serde_json::from_str(line).context("read an event")?;
        // A line without a kind is about the answer: here, that there was no room for more.
        if event.get("kind").is_some() {
            events.push(event);
        } else {
            eprintln!("the answer was cut: narrow the time or ask for fewer events");
        }
        Ok(true)
    })
    .await?;
    events.reverse();
    Ok(events)
}

/// One event on one line. Nothing of it can steer a terminal.
fn print(event: &Value, json: bool) {
    output::line(if json { event.to_string() } else { told(event) });
}

fn told(event: &Value) -> String {
    if let Some(missed) = event.get("missed") {
        return format!("... {missed} events were missed: this reader was too slow");
    }
    let text = |name: &str| event[name].as_str().unwrap_or_default().to_owned();
    // Always with three digits: moments stand below each other.
    let time = event["time_ms"].as_i64().and_then(|ms| Timestamp::from_millisecond(ms).ok());
    let time = time.map_or_else(|| text("time"), |time| time.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string());
    let mut line = format!("{time:<24} {:<10} {:<18}", text("process"), text("kind"));
    if let Some(name) = event["player_name"].as_str().filter(|name| !name.is_empty()) {
        line.push_str(&format!(" {name}"));
    } else if let Some(account) = event["account"].as_u64().filter(|account| *account != 0) {
        line.push_str(&format!(" account {account}"));
    }
    // The steps of a login, and what is not yet somebody's, belong together by their session.
    if let Some(session) = event["session"].as_u64().filter(|session| *session != 0) {
        line.push_str(&format!(" session {session}"));
    }
    if let Some(map) = event["map"].as_str().filter(|map| !map.is_empty()) {
        line.push_str(&format!(" on {map}/{}", event["line"]));
    }
    let head =
        ["time", "time_ms", "zone", "process", "id", "caused_by", "kind", "account", "player", "player_name", "session", "map", "line"];
    for (name, value) in event.as_object().into_iter().flatten() {
        if !head.contains(&name.as_str()) && !is_default(value) {
            line.push_str(&format!(" {name}={value}"));
        }
    }
    line
}

fn is_default(value: &Value) -> bool {
    value.is_null() || *value == "" || *value == 0 || *value == false
}

/// `10m`, `2h`, `7d` ago, or a time as RFC 3339 writes it.
fn moment(text: &str) -> Result<Timestamp, String> {
    let refused = || format!("`{text}` is neither a time ago (`30s`, `10m`, `2h`, `7d`) nor a time (`2026-03-01T12:00:00Z`)");
    if let Ok(time) = text.parse::<Timestamp>() {
        return Ok(time);
    }
    let unit = text.chars().last().ok_or_else(refused)?;
    let seconds: i64 = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        'd' => 86_400,
        _ => return Err(refused()),
    };
    let count: u32 = text[..text.len() - 1].parse().map_err(|_| refused())?;
    let ago = SignedDuration::from_secs(seconds.saturating_mul(count.into()));
    Timestamp::now().checked_sub(ago).map_err(|_| refused())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn moments_are_ago_or_absolute() {
        let ago = Timestamp::now().as_millisecond() - moment("10m").unwrap().as_millisecond();
        assert!((600_000..605_000).contains(&ago), "{ago}");
        assert_eq!(moment("2026-03-01T12:00:00Z").unwrap().as_second(), 1_772_366_400);
        for nonsense in ["", "m", "10", "ten minutes", "-5m", "10y", "1ü"] {
            assert!(moment(nonsense).unwrap_err().contains(nonsense), "{nonsense}");
        }
    }

    #[test]
    fn an_event_is_one_line_that_cannot_steer_a_terminal() {
        let event = json!({"time": "2026-03-01T12:00:00.5Z", "time_ms": 1_772_366_400_500i64, "session": 7, "process": "scene-1", "kind": "chat", "player_name": "Alia", "map": "meadow",
            "line": 1, "channel": "say", "text": "a\u{1b}[31m\nb", "to": ""});
        let line = told(&event);
        assert!(line.starts_with("2026-03-01T12:00:00.500Z scene-1"), "{line}");
        assert!(line.contains("Alia session 7 on meadow/1") && line.contains("channel=\"say\""), "{line}");
        assert!(!line.contains('\u{1b}') && !line.contains('\n'), "{line:?}");
        assert!(!line.contains("to="), "fields at their default are left out: {line}");
    }
}
