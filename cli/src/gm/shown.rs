//! The registry and the answers of GM commands, as texts for people.

use std::fmt::Write;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::words::{Command, Order, Registry};
use crate::tables::table;

/// The list of commands.
pub(super) fn commands(registry: &Registry) -> String {
    let mut rows = table(&["command", "role", "danger", "what it does"]);
    for command in &registry.commands {
        rows.add_row([command.usage(), command.role.clone(), command.danger.clone(), command.help.clone()]);
    }
    format!("{rows}\n`zone gm COMMAND --help` explains one; --dry-run says what would happen; --reason TEXT is kept in the audit log.")
}

/// The list of commands, for scripts.
pub(super) fn commands_json(registry: &Registry) -> Value {
    let command = |command: &Command| {
        json!({
            "name": command.name, "usage": command.usage(), "help": command.help, "role": command.role, "danger": command.danger,
            "dry_run": command.dry_run, "reason_required": command.reason_required,
        })
    };
    json!({ "commands": registry.commands.iter().map(command).collect::<Vec<Value>>() })
}

/// One command, explained.
pub(super) fn command(command: &Command) -> String {
    let mut text = format!("{}\n\nUsage: zone gm {}\n\n", command.help, command.usage());
    for argument in &command.arguments {
        let name = if argument.positional { argument.name.to_uppercase() } else { format!("--{}", argument.name) };
        let choices = if argument.choices.is_empty() { String::new() } else { format!(" ({})", argument.choices.join(", ")) };
        put(&mut text, 2, &format!("{name:<12} {}{choices}", argument.help));
    }
    put(&mut text, 0, &format!("\nNeeds the role {}.", command.role));
    if command.dry_run {
        put(&mut text, 0, "--dry-run says what would happen.");
    }
    if command.reason_required {
        put(&mut text, 0, "--reason TEXT says why; it is required where the command takes something away.");
    }
    text.trim_end().to_owned()
}

/// What came of an order.
pub(super) fn answer(order: &Order, answer: &Value) -> String {
    let mut text = String::new();
    if order.dry_run {
        put(&mut text, 0, "dry run: nothing was changed; it would have done this:");
    }
    put_value(&mut text, 0, &answer["result"]);
    if let Some(audit) = answer["audit"].as_u64() {
        put(&mut text, 0, &format!("audit record {audit}"));
    }
    text.trim_end().to_owned()
}

/// Lists of objects as tables, objects as lines, the rest as it is.
fn put_value(text: &mut String, indent: usize, value: &Value) {
    match value {
        Value::Object(fields) => fields.iter().for_each(|(name, field)| put_field(text, indent, name, field)),
        Value::Array(list) if list.iter().any(Value::is_object) => put(text, indent, &rows(list)),
        other => put(text, indent, &cell(other)),
    }
}

fn put_field(text: &mut String, indent: usize, name: &str, field: &Value) {
    match field {
        Value::Null => put(text, indent, &format!("{name}: none")),
        Value::Array(list) if list.is_empty() => put(text, indent, &format!("{name}: none")),
        Value::Array(list) if list.iter().any(Value::is_object) => {
            put(text, indent, &format!("{name}:"));
            put(text, 0, &rows(list));
        }
        Value::Object(inner) if !inner.is_empty() => {
            put(text, indent, &format!("{name}:"));
            put_value(text, indent + 2, field);
        }
        field => put(text, indent, &format!("{name}: {}", field_cell(name, field))),
    }
}

fn put(text: &mut String, indent: usize, line: &str) {
    writeln!(text, "{:indent$}{line}", "").expect("a string takes everything");
}

fn rows(list: &[Value]) -> String {
    let mut columns: Vec<&str> = Vec::new();
    for name in list.iter().filter_map(Value::as_object).flat_map(|fields| fields.keys()) {
        if !columns.contains(&name.as_str()) {
            columns.push(name);
        }
    }
    let mut rows = table(&columns);
    for row in list {
        rows.add_row(columns.iter().map(|column| field_cell(column, &row[*column])));
    }
    rows.to_string()
}

/// A field's value on one line; moments (`at_ms`) as people read them.
fn field_cell(name: &str, value: &Value) -> String {
    let moment = value.as_i64().filter(|ms| name.ends_with("_ms") && *ms != 0).map(Timestamp::from_millisecond);
    match moment {
        Some(Ok(moment)) => moment.strftime("%Y-%m-%d %H:%M:%SZ").to_string(),
        _ => cell(value),
    }
}

/// A value on one line. Nothing of it can steer a terminal.
fn cell(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.chars().filter(|character| !character.is_control()).collect(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_lines_and_tables_that_cannot_steer_a_terminal() {
        let order = Order { command: "online".into(), arguments: serde_json::Map::new(), dry_run: false, reason: String::new() };
        let given = json!({"result": {"online": 1, "banned": [], "players": [{"name": "A\u{1b}[31mlia", "level": 3}], "at_ms": 1_767_225_600_000i64}, "audit": 7});
        let text = answer(&order, &given);
        assert!(text.contains("online: 1") && text.contains("banned: none") && text.contains("A[31mlia"), "{text}");
        assert!(text.contains("at_ms: 2026-01-01 00:00:00Z"), "{text}");
        assert!(text.ends_with("audit record 7"), "{text}");
        assert!(!text.contains('\u{1b}'));
    }
}
