//! One command from request to answer. What changes something is in the audit log, durably, before its effect (I12).

use std::sync::Arc;

use proto::{
    event::{GmCommand, event::Body},
    internal::{AuditAppend, AuditOutcome, AuditRecord},
};
use serde_json::{Map, Value, json};
use service::events::Subject;

use super::{
    GmError,
    arguments::Arguments,
    auth::Who,
    commands::{self, Prepared},
    of_call,
    registry::{self, Command},
};
use crate::center::{Center, now_ms};

/// What a GM asks for.
#[derive(Clone, Debug, Default, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Order {
    pub command: String,
    #[serde(default)]
    pub arguments: Map<String, Value>,
    #[serde(default)]
    pub dry_run: bool,
    #[serde(default)]
    pub reason: String,
}

/// Carries a command out, or says what it would do.
pub(crate) async fn run(center: &Arc<Center>, who: &Who, order: &Order) -> Result<Value, GmError> {
    let (command, arguments) = check(who, order)?;
    match commands::prepare(center, command.which, &arguments).await? {
        Prepared::Answer(result) => {
            tell(center, who, order, "read");
            Ok(json!({ "ok": true, "result": result, "audit": null, "dry_run": false }))
        }
        Prepared::Change { needs_reason, .. } if needs_reason && order.reason.is_empty() => {
            Err(GmError::bad_argument("reason", format!("`{}` needs a reason", order.command)))
        }
        Prepared::Change { would, .. } if order.dry_run => {
            let audit = append(center, who, order).await?;
            end(center, who, order, audit, "dry run").await;
            Ok(json!({ "ok": true, "result": would, "audit": audit, "dry_run": true }))
        }
        Prepared::Change { effect, .. } => {
            let audit = append(center, who, order).await?;
            let done = commands::carry_out(center, effect, who, &order.reason).await;
            let outcome = done.as_ref().map_or_else(|err| format!("failed: {}", err.text), |_| "done".into());
            end(center, who, order, audit, &outcome).await;
            Ok(json!({ "ok": true, "result": done?, "audit": audit, "dry_run": false }))
        }
    }
}

/// The command and its arguments, if this GM may give it and they fit.
pub(crate) fn check(who: &Who, order: &Order) -> Result<(&'static Command, Arguments), GmError> {
    let unknown = || GmError::bad_argument("command", format!("there is no command `{}`", order.command));
    let command = registry::find(&order.command).ok_or_else(unknown)?;
    if who.role < command.role {
        let (is, needs) = (who.role.name(), command.role.name());
        return Err(GmError::forbidden(format!("`{}` needs the role {needs}; {} is {is}", command.name, who.name)));
    }
    if !order.reason.is_empty() && !proto::names::text(&order.reason) {
        return Err(GmError::bad_argument("reason", proto::names::TEXT_RULE));
    }
    let arguments = Arguments::parse(command, &order.arguments)?;
    if order.dry_run && !command.dry_run {
        return Err(GmError::bad_argument("dry_run", format!("`{}` changes nothing", command.name)));
    }
    Ok((command, arguments))
}

async fn append(center: &Center, who: &Who, order: &Order) -> Result<u64, GmError> {
    let record = AuditRecord {
        id: 0,
        at_ms: now_ms(),
        by: who.name.clone(),
        role: who.role.name().into(),
        address: who.address.clone(),
        command: order.command.clone(),
        arguments: Value::Object(order.arguments.clone()).to_string(),
        reason: order.reason.clone(),
        outcome: String::new(),
    };
    let written = center.dc(&AuditAppend { record: Some(record) }).await;
    let reply = written.map_err(|err| GmError::unavailable(format!("nothing was done, as the audit record is not written: {err}")))?;
    let id = reply.records.first().map(|record| record.id);
    id.ok_or_else(|| GmError::unavailable("nothing was done, as dc does not say that the audit record is written"))
}

async fn end(center: &Center, who: &Who, order: &Order, audit: u64, outcome: &str) {
    metrics::counter!("paifang_center_gm_commands_total", "command" => order.command.clone()).increment(1);
    tell(center, who, order, outcome);
    if let Err(err) = center.dc(&AuditOutcome { id: audit, outcome: outcome.into() }).await {
        let err = of_call(&err, "dc has no such audit record");
        tracing::warn!(audit, outcome, "failed to write the outcome of a command: {}", err.text);
    }
}

fn tell(center: &Center, who: &Who, order: &Order, outcome: &str) {
    tracing::info!(by = who.name, command = order.command, outcome, "gm command");
    let told = GmCommand {
        by: who.name.clone(),
        command: order.command.clone(),
        arguments: Value::Object(order.arguments.clone()).to_string(),
        reason: order.reason.clone(),
        outcome: outcome.into(),
    };
    center.process.events.emit(&Subject::default(), Body::GmCommand(told));
}

#[cfg(test)]
mod tests {
    use super::{super::registry::Role, *};

    fn who(role: Role) -> Who {
        Who { name: "eve".into(), role, address: "127.0.0.1".into() }
    }

    fn order(command: &str, arguments: &Value) -> Order {
        Order { command: command.into(), arguments: arguments.as_object().unwrap().clone(), ..Order::default() }
    }

    #[test]
    fn a_role_that_is_too_low_is_refused_for_every_command_above_it() {
        for command in &registry::COMMANDS {
            for role in [Role::Observer, Role::Helper, Role::Gm, Role::Admin] {
                let refused = check(&who(role), &order(command.name, &json!({}))).is_err_and(|err| err.status == 403);
                assert_eq!(refused, role < command.role, "{} for {}", command.name, role.name());
            }
        }
    }

    #[test]
    fn what_does_not_fit_is_refused_by_name() {
        let admin = who(Role::Admin);
        let unknown = check(&admin, &order("fly", &json!({}))).unwrap_err();
        assert_eq!((unknown.status, unknown.code), (400, "bad_argument"));
        let dry = Order { dry_run: true, ..order("lines", &json!({})) };
        assert!(check(&admin, &dry).unwrap_err().text.contains("dry_run"));
        let reason = Order { reason: "two\nlines".into(), ..order("kick", &json!({"name": "Alice"})) };
        assert!(check(&admin, &reason).unwrap_err().text.contains("reason"));
    }

    #[test]
    fn an_order_with_unknown_fields_is_no_order() {
        assert!(serde_json::from_value::<Order>(json!({"command": "lines", "dryrun": true})).is_err());
        assert!(serde_json::from_value::<Order>(json!({"command": "lines"})).is_ok());
    }
}
