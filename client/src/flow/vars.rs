//! Variables of a flow: `$name`, `$client.position.x`, `${name}`; `$$` is a dollar sign.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::random::Random;

/// The longest part of a variable's own name that its fresh value repeats, so that people recognise it.
const HINT_CHARS: usize = 7;
/// Random characters of a fresh name: with the hint, short enough for a player's name.
const UNIQUE_CHARS: usize = 9;

#[derive(Clone, Debug, Default)]
pub(crate) struct Vars(BTreeMap<String, Value>);

impl Vars {
    pub(crate) fn set(&mut self, name: &str, value: Value) {
        self.0.insert(name.to_owned(), value);
    }

    /// Gives a variable a name that nobody has, good for an account (which folds case) and for a player.
    pub(crate) fn set_fresh(&mut self, name: &str, random: &mut Random) {
        let hint: String = name.chars().filter(char::is_ascii_alphanumeric).take(HINT_CHARS).collect();
        let hint = if hint.starts_with(|first: char| first.is_ascii_alphabetic()) { hint } else { format!("n{hint}") };
        let hint: String = hint.chars().take(HINT_CHARS).collect();
        self.set(name, format!("{hint}{}", random.letters(UNIQUE_CHARS)).into());
    }

    /// The value with every variable in it replaced. A string that is nothing but a variable becomes what the variable is.
    pub(crate) fn fill(&self, value: &Value) -> Result<Value, String> {
        Ok(match value {
            Value::String(text) => self.fill_text(text)?,
            Value::Array(list) => Value::Array(list.iter().map(|one| self.fill(one)).collect::<Result<_, _>>()?),
            Value::Object(fields) => {
                Value::Object(fields.iter().map(|(name, one)| Ok((name.clone(), self.fill(one)?))).collect::<Result<_, String>>()?)
            }
            plain => plain.clone(),
        })
    }

    /// A text in which every variable is replaced.
    pub(crate) fn text(&self, text: &str) -> Result<String, String> {
        Ok(as_text(&self.fill_text(text)?))
    }

    fn fill_text(&self, text: &str) -> Result<Value, String> {
        let pieces = pieces(text)?;
        if let [Piece::Variable(path)] = pieces.as_slice() {
            return self.get(path).cloned();
        }
        let mut filled = String::new();
        for piece in pieces {
            match piece {
                Piece::Text(text) => filled.push_str(&text),
                Piece::Variable(path) => filled.push_str(&as_text(self.get(&path)?)),
            }
        }
        Ok(filled.into())
    }

    fn get(&self, path: &str) -> Result<&Value, String> {
        let (name, rest) = path.split_once('.').unwrap_or((path, ""));
        let value = self.0.get(name).ok_or_else(|| format!("`${name}` has no value yet"))?;
        at(value, rest).ok_or_else(|| format!("`${path}`: `${name}` has no `{rest}`"))
    }
}

/// What is at a dotted path: `roles.0.player`; the value itself for the empty path.
pub(crate) fn at<'a>(value: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('.').filter(|part| !part.is_empty()).try_fold(value, |value, part| match value {
        Value::Array(list) => list.get(part.parse::<usize>().ok()?),
        Value::Object(fields) => fields.get(part),
        _ => None,
    })
}

/// The variables (without what follows a dot) that a value names.
pub(crate) fn named_in(value: &Value, found: &mut Vec<String>) -> Result<(), String> {
    match value {
        Value::String(text) => {
            for piece in pieces(text)? {
                if let Piece::Variable(path) = piece {
                    found.push(path.split('.').next().unwrap_or_default().to_owned());
                }
            }
        }
        Value::Array(list) => list.iter().try_for_each(|one| named_in(one, found))?,
        Value::Object(fields) => fields.values().try_for_each(|one| named_in(one, found))?,
        _ => {}
    }
    Ok(())
}

enum Piece {
    Text(String),
    Variable(String),
}

fn pieces(text: &str) -> Result<Vec<Piece>, String> {
    let mut pieces = Vec::new();
    let mut plain = String::new();
    let mut rest = text;
    while let Some(dollar) = rest.find('$') {
        plain.push_str(&rest[..dollar]);
        rest = &rest[dollar + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            plain.push('$');
            rest = after;
            continue;
        }
        let (path, after) = match rest.strip_prefix('{') {
            Some(inside) => inside.split_once('}').ok_or_else(|| format!("`${{` is not closed in `{text}`"))?,
            None => rest.split_at(path_length(rest)),
        };
        if path.is_empty() {
            return Err(format!("a lone `$` in `{text}`; write `$$` for a dollar sign"));
        }
        if !plain.is_empty() {
            pieces.push(Piece::Text(std::mem::take(&mut plain)));
        }
        pieces.push(Piece::Variable(path.to_owned()));
        rest = after;
    }
    plain.push_str(rest);
    if !plain.is_empty() || pieces.is_empty() {
        pieces.push(Piece::Text(plain));
    }
    Ok(pieces)
}

/// Bytes of the variable at the front: a name, then parts after dots, as far as they are whole.
fn path_length(text: &str) -> usize {
    let part = |text: &str| text.find(|one: char| !one.is_ascii_alphanumeric() && one != '_').unwrap_or(text.len());
    let mut length = part(text);
    while length > 0
        && let Some(after) = text[length..].strip_prefix('.')
        && part(after) > 0
    {
        length += 1 + part(after);
    }
    length
}

fn as_text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn vars() -> Vars {
        let mut vars = Vars::default();
        vars.set("alice", json!("alice1"));
        vars.set("one", json!({"player": 7, "list": [{"x": 5}]}));
        vars
    }

    #[test]
    fn a_lone_variable_keeps_its_type() {
        let filled = vars().fill(&json!({"player": "$one.player", "x": ["$one.list.0.x"], "text": "$alice has $one.player. ok"})).unwrap();
        assert_eq!(filled, json!({"player": 7, "x": [5], "text": "alice1 has 7. ok"}));
        assert_eq!(vars().text("${alice}.x costs $$5").unwrap(), "alice1.x costs $5");
    }

    #[test]
    fn what_has_no_value_is_named() {
        for (text, reason) in [("$bob", "`$bob` has no value yet"), ("$one.y", "`$one` has no `y`"), ("$ 5", "lone"), ("${x", "not closed")]
        {
            let error = vars().text(text).unwrap_err();
            assert!(error.contains(reason), "{error}");
        }
    }

    #[test]
    fn fresh_names_are_good_and_not_alike() {
        let mut vars = Vars::default();
        let mut random = Random::new(1);
        for name in ["alice", "Alia", "_x", "a_very_long_variable", "x9"] {
            vars.set_fresh(name, &mut random);
            let first = vars.text(&format!("${name}")).unwrap();
            assert!(proto::names::player(&first) && proto::names::account(&first).is_some(), "{first}");
            vars.set_fresh(name, &mut random);
            assert_ne!(vars.text(&format!("${name}")).unwrap(), first);
        }
    }
}
