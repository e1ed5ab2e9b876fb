//! The arguments of a command, from JSON into meaning. Whatever is wrong is named.

use std::{collections::BTreeMap, time::Duration};

use serde_json::Value as Json;

use super::{
    GmError,
    registry::{Argument, Command, Kind},
};

/// A span of time as GMs write it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Span {
    /// `0` or `lift`: no longer.
    Zero,
    /// `30s`, `10m`, `2h`, `7d`.
    For(Duration),
    /// `permanent`.
    Permanent,
}

/// Longer spans are a slip of the keyboard; who means it writes `permanent`.
const DAYS_MAX: u64 = 3650;

impl Span {
    /// Reads a span.
    ///
    /// # Errors
    /// With the rule that it breaks.
    pub(crate) fn parse(text: &str) -> Result<Self, &'static str> {
        const RULE: &str = "is no duration; write 30s, 10m, 2h, 7d or permanent";
        match text {
            "0" | "lift" => return Ok(Span::Zero),
            "permanent" => return Ok(Span::Permanent),
            _ => (),
        }
        let unit_s = match text.chars().last() {
            Some('s') => 1,
            Some('m') => 60,
            Some('h') => 3600,
            Some('d') => 86_400,
            _ => return Err(RULE),
        };
        let digits = &text[..text.len() - 1];
        let plain = (1..=9).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit());
        let seconds = plain.then(|| digits.parse::<u64>().ok()).flatten().ok_or(RULE)? * unit_s;
        match seconds {
            0 => Ok(Span::Zero),
            _ if DAYS_MAX * 86_400 < seconds => Err("is longer than ten years; write permanent"),
            _ => Ok(Span::For(Duration::from_secs(seconds))),
        }
    }

    /// When a sanction of this span ends, as dc keeps it: 0 is without end.
    pub(crate) fn until_ms(self, now_ms: i64) -> i64 {
        match self {
            Span::Zero => now_ms,
            Span::For(duration) => now_ms.saturating_add(i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)),
            Span::Permanent => 0,
        }
    }
}

/// A good value.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Value {
    Text(String),
    Span(Span),
    Count(u32),
    Centimetres(i32),
}

/// Arguments that fit their command.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Arguments(BTreeMap<&'static str, Value>);

impl Arguments {
    /// Reads the arguments of a command.
    ///
    /// # Errors
    /// Naming the argument that is unknown, missing or wrong.
    pub(crate) fn parse(command: &'static Command, given: &serde_json::Map<String, Json>) -> Result<Self, GmError> {
        let known = |name: &String| command.arguments.iter().any(|argument| argument.name == name);
        if let Some(unknown) = given.keys().find(|name| !known(name)) {
            return Err(GmError::bad_argument(unknown, format!("`{}` has no such argument", command.name)));
        }
        let mut arguments = BTreeMap::new();
        for argument in command.arguments {
            match given.get(argument.name).filter(|value| !value.is_null()) {
                Some(value) => {
                    let value = value_of(argument, value).map_err(|why| GmError::bad_argument(argument.name, why))?;
                    arguments.insert(argument.name, value);
                }
                None if argument.required => return Err(GmError::bad_argument(argument.name, "is missing")),
                None => (),
            }
        }
        Ok(Self(arguments))
    }

    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        match self.0.get(name) {
            Some(Value::Text(text)) => Some(text),
            _ => None,
        }
    }

    pub(crate) fn span(&self, name: &str) -> Option<Span> {
        match self.0.get(name) {
            Some(Value::Span(span)) => Some(*span),
            _ => None,
        }
    }

    pub(crate) fn count(&self, name: &str) -> Option<u32> {
        match self.0.get(name) {
            Some(Value::Count(count)) => Some(*count),
            _ => None,
        }
    }

    pub(crate) fn centimetres(&self, name: &str) -> Option<i32> {
        match self.0.get(name) {
            Some(Value::Centimetres(centimetres)) => Some(*centimetres),
            _ => None,
        }
    }
}

fn value_of(argument: &Argument, given: &Json) -> Result<Value, String> {
    // A command line knows only texts, a console also numbers.
    let text = match given {
        Json::String(text) => text.clone(),
        Json::Number(number) => number.to_string(),
        _ => return Err("is neither a text nor a number".into()),
    };
    match argument.kind {
        Kind::Name => good(proto::names::player(&text), text, proto::names::PLAYER_RULE),
        Kind::Word => good((1..=64).contains(&text.len()) && !text.chars().any(char::is_control), text, "has 1 to 64 bytes"),
        Kind::Text => good(proto::names::text(&text), text, proto::names::TEXT_RULE),
        Kind::Choice(choices) => {
            let rule = format!("is one of {}", choices.join(", "));
            good(choices.contains(&text.as_str()), text, &rule)
        }
        Kind::Duration => Span::parse(&text).map(Value::Span).map_err(|why| format!("`{text}` {why}")),
        Kind::Count => text.parse().map(Value::Count).map_err(|_| format!("`{text}` is no whole number")),
        Kind::Metres => metres(&text).map(Value::Centimetres).ok_or_else(|| format!("`{text}` is no number of metres")),
    }
}

fn good(is_good: bool, text: String, rule: &str) -> Result<Value, String> {
    if is_good { Ok(Value::Text(text)) } else { Err(rule.to_owned()) }
}

fn metres(text: &str) -> Option<i32> {
    let centimetres = (text.parse::<f64>().ok()? * 100.0).round();
    let fits = centimetres.is_finite() && 0.0 <= centimetres && centimetres <= f64::from(i32::MAX);
    // Checked: a whole number in the range of the type.
    fits.then_some(centimetres as i32)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{super::registry, *};

    fn parse(command: &str, given: &Json) -> Result<Arguments, GmError> {
        Arguments::parse(registry::find(command).unwrap(), given.as_object().unwrap())
    }

    #[test]
    fn spans_are_read_as_gms_write_them() {
        let seconds = |seconds| Ok(Span::For(Duration::from_secs(seconds)));
        assert_eq!(Span::parse("30s"), seconds(30));
        assert_eq!(Span::parse("10m"), seconds(600));
        assert_eq!(Span::parse("2h"), seconds(7200));
        assert_eq!(Span::parse("7d"), seconds(604_800));
        assert_eq!(Span::parse("permanent"), Ok(Span::Permanent));
        for zero in ["0", "lift", "0s"] {
            assert_eq!(Span::parse(zero), Ok(Span::Zero));
        }
        for bad in ["", "s", "10", "-1m", "1.5h", "10 m", "m10", "9999999999d", "99999d", "10µ", "１m"] {
            assert!(Span::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_sanction_ends_after_its_span() {
        assert_eq!(Span::parse("10m").unwrap().until_ms(1000), 601_000);
        assert_eq!(Span::Permanent.until_ms(1000), 0);
    }

    #[test]
    fn each_commands_arguments_are_read() {
        for (command, given) in [
            ("online", json!({"page": 2})),
            ("player info", json!({"name": "Alice"})),
            ("player find", json!({"prefix": "Al"})),
            ("kick", json!({"name": "Alice"})),
            ("ban", json!({"action": "add", "target": "alice", "for": "2h"})),
            ("mute", json!({"name": "Alice", "for": "10m"})),
            ("announce", json!({"text": "hello everybody"})),
            ("teleport", json!({"name": "Alice", "map": "meadow", "x": "10.5", "y": 20})),
            ("rank", json!({"action": "level", "limit": 3})),
            ("lines", json!({"map": "meadow"})),
            ("line open", json!({"map": "meadow", "scene": "scene-1"})),
            ("line close", json!({"map": "meadow", "line": "2"})),
            ("line move", json!({"map": "meadow", "line": 2, "scene": "scene-2"})),
            ("server info", json!({})),
            ("server shutdown", json!({"in": "60s"})),
            ("audit", json!({"limit": "5", "by": "admin"})),
        ] {
            assert!(parse(command, &given).is_ok(), "{command}");
        }
        let teleport = parse("teleport", &json!({"name": "Alice", "map": "meadow", "x": "10.5", "y": 20})).unwrap();
        assert_eq!((teleport.centimetres("x"), teleport.centimetres("y")), (Some(1050), Some(2000)));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (command, given, named) in [
            ("kick", json!({}), "name"),
            ("kick", json!({"name": "no spaces"}), "name"),
            ("kick", json!({"name": "Alice", "nmae": "x"}), "nmae"),
            ("kick", json!({"name": ["Alice"]}), "name"),
            ("ban", json!({"action": "remove"}), "action"),
            ("mute", json!({"name": "Alice", "for": "soon"}), "for"),
            ("announce", json!({"text": "two\nlines"}), "text"),
            ("teleport", json!({"name": "Alice", "map": "m", "x": "NaN", "y": 1}), "x"),
            ("teleport", json!({"name": "Alice", "map": "m", "x": 1, "y": "1e300"}), "y"),
            ("online", json!({"page": -1}), "page"),
        ] {
            let err = parse(command, &given).unwrap_err();
            assert_eq!((err.status, err.code), (400, "bad_argument"));
            assert!(err.text.starts_with(&format!("`{named}`:")), "{command}: {}", err.text);
        }
    }
}
