//! Whether a message is what a flow expects. A pattern is a value, in which these objects mean more than themselves:
//! `{any: true}`, `{absent: true}`, `{not: PATTERN}`, `{contains: PATTERN}`, `{at_least: N}`, `{at_most: N}`, `{near: N, by: N}`, `{length: N}`.
//!
//! Any other object matches an object that has at least its fields; a list matches a list of the same length.

use serde_json::{Map, Value};

use super::report::Difference;

/// The differences between a pattern (its variables filled in) and what came; none: it matches.
pub(crate) fn differences(pattern: &Value, got: &Value) -> Vec<Difference> {
    let mut found = Vec::new();
    compare(pattern, Some(got), "", &mut found);
    found
}

/// Whether it matches.
pub(crate) fn matches(pattern: &Value, got: &Value) -> bool {
    differences(pattern, got).is_empty()
}

fn compare(pattern: &Value, got: Option<&Value>, path: &str, found: &mut Vec<Difference>) {
    if let Some(good) = operator(pattern, got) {
        if !good {
            found.push(Difference::new(path, describe(pattern), got));
        }
        return;
    }
    match (pattern, got) {
        // A flow with nothing below `match:` expects the kind alone.
        (Value::Null, _) if path.is_empty() => {}
        (Value::Object(fields), Some(Value::Object(inside))) => {
            for (name, pattern) in fields {
                compare(pattern, inside.get(name), &join(path, name), found);
            }
        }
        (Value::Array(patterns), Some(Value::Array(values))) if patterns.len() == values.len() => {
            for (index, (pattern, value)) in patterns.iter().zip(values).enumerate() {
                compare(pattern, Some(value), &join(path, &index.to_string()), found);
            }
        }
        (_, Some(value)) if equal(pattern, value) => {}
        _ => found.push(Difference::new(path, describe(pattern), got)),
    }
}

/// `None` if the pattern is no operator.
fn operator(pattern: &Value, got: Option<&Value>) -> Option<bool> {
    let operator = Operator::read(pattern.as_object()?)?;
    let number = got.and_then(Value::as_f64);
    Some(match operator {
        Operator::Any(wanted) => got.is_some_and(|value| !value.is_null()) == wanted,
        Operator::Absent(wanted) => got.is_none_or(Value::is_null) == wanted,
        Operator::Not(inner) => got.is_some_and(|value| !matches(inner, value)),
        Operator::Contains(inner) => match got {
            Some(Value::String(text)) => inner.as_str().is_some_and(|part| text.contains(part)),
            Some(Value::Array(list)) => list.iter().any(|value| matches(inner, value)),
            _ => false,
        },
        Operator::AtLeast(least) => number.is_some_and(|number| least <= number),
        Operator::AtMost(most) => number.is_some_and(|number| number <= most),
        Operator::Between(least, most) => number.is_some_and(|number| (least..=most).contains(&number)),
        Operator::Near(middle, by) => number.is_some_and(|number| (number - middle).abs() <= by),
        Operator::Length(length) => match got {
            Some(Value::String(text)) => text.chars().count() as u64 == length,
            Some(Value::Array(list)) => list.len() as u64 == length,
            _ => false,
        },
    })
}

enum Operator<'a> {
    Any(bool),
    Absent(bool),
    Not(&'a Value),
    Contains(&'a Value),
    AtLeast(f64),
    AtMost(f64),
    Between(f64, f64),
    Near(f64, f64),
    Length(u64),
}

impl<'a> Operator<'a> {
    fn read(object: &'a Map<String, Value>) -> Option<Self> {
        let number = |name: &str| object.get(name).and_then(Value::as_f64);
        match object.len() {
            1 => {
                let (name, value) = object.iter().next()?;
                Some(match name.as_str() {
                    "any" => Operator::Any(value.as_bool()?),
                    "absent" => Operator::Absent(value.as_bool()?),
                    "not" => Operator::Not(value),
                    "contains" => Operator::Contains(value),
                    "at_least" => Operator::AtLeast(value.as_f64()?),
                    "at_most" => Operator::AtMost(value.as_f64()?),
                    "length" => Operator::Length(value.as_u64()?),
                    _ => return None,
                })
            }
            2 => match (number("at_least"), number("at_most"), number("near"), number("by")) {
                (Some(least), Some(most), None, None) => Some(Operator::Between(least, most)),
                (None, None, Some(middle), Some(by)) => Some(Operator::Near(middle, by)),
                _ => None,
            },
            _ => None,
        }
    }
}

/// `7` written in YAML and 7.0 in a captured value are one number.
fn equal(pattern: &Value, got: &Value) -> bool {
    match (pattern, got) {
        (Value::Number(one), Value::Number(two)) => one == two || one.as_f64() == two.as_f64() && one.as_i64().is_none(),
        _ => pattern == got,
    }
}

fn describe(pattern: &Value) -> String {
    let plain = |number: f64| if number.fract() == 0.0 { format!("{number:.0}") } else { number.to_string() };
    match pattern.as_object().and_then(Operator::read) {
        Some(Operator::Any(true) | Operator::Absent(false)) => "anything".into(),
        Some(Operator::Absent(true) | Operator::Any(false)) => "nothing".into(),
        Some(Operator::Not(inner)) => format!("not {}", describe(inner)),
        Some(Operator::Contains(inner)) => format!("something that contains {}", describe(inner)),
        Some(Operator::AtLeast(least)) => format!("at least {}", plain(least)),
        Some(Operator::AtMost(most)) => format!("at most {}", plain(most)),
        Some(Operator::Between(least, most)) => format!("{} to {}", plain(least), plain(most)),
        Some(Operator::Near(middle, by)) => format!("{} give or take {}", plain(middle), plain(by)),
        Some(Operator::Length(length)) => format!("a length of {length}"),
        None => pattern.to_string(),
    }
}

fn join(path: &str, part: &str) -> String {
    if path.is_empty() { part.to_owned() } else { format!("{path}.{part}") }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_object_is_matched_by_some_of_its_fields() {
        let got = json!({"code": "BANNED", "text": "until Friday", "retry_ms": 0});
        assert!(matches(&json!({"code": "BANNED"}), &got));
        assert!(matches(&Value::Null, &got));
        assert_eq!(
            differences(&json!({"code": "KICKED", "retry_ms": 0}), &got),
            [Difference { path: "code".into(), expected: "\"KICKED\"".into(), got: "\"BANNED\"".into() }]
        );
    }

    #[test]
    fn operators_match_what_they_say() {
        let got = json!({"n": 7, "text": "hello", "list": [{"name": "a"}, {"name": "b"}], "none": null});
        for good in [
            json!({"n": {"at_least": 7}}),
            json!({"n": {"at_most": 7}}),
            json!({"n": {"at_least": 5, "at_most": 7}}),
            json!({"n": {"near": 10, "by": 3}}),
            json!({"n": {"not": 8}}),
            json!({"n": 7.0}),
            json!({"text": {"contains": "ell"}}),
            json!({"text": {"length": 5}}),
            json!({"list": {"contains": {"name": "b"}}}),
            json!({"list": [{"name": "a"}, {"any": true}]}),
            json!({"none": {"absent": true}, "missing": {"absent": true}}),
        ] {
            assert!(matches(&good, &got), "{good}");
        }
        for bad in [
            json!({"n": {"at_least": 8}}),
            json!({"n": {"near": 10, "by": 2}}),
            json!({"n": {"not": 7}}),
            json!({"n": "7"}),
            json!({"text": {"contains": "x"}}),
            json!({"list": {"contains": {"name": "c"}}}),
            json!({"list": [{"name": "a"}]}),
            json!({"none": {"any": true}}),
            json!({"missing": {"any": true}}),
            json!({"missing": 1}),
        ] {
            assert!(!matches(&bad, &got), "{bad}");
        }
    }

    #[test]
    fn differences_name_the_place_and_the_rule() {
        let got = json!({"roles": [{"level": 1}], "sheet": null});
        let found = differences(&json!({"roles": [{"level": {"at_least": 2}}], "sheet": {"coins": 5}}), &got);
        let lines: Vec<String> = found.iter().map(|one| format!("{}: {} / {}", one.path, one.expected, one.got)).collect();
        assert_eq!(lines, ["roles.0.level: at least 2 / 1", "sheet: {\"coins\":5} / null"]);
    }

    #[test]
    fn no_message_has_a_field_that_is_an_operator() {
        for row in proto::kinds::TABLE {
            let fields = proto::kinds::body_to_json(row.kind, &[]).unwrap();
            for name in ["any", "absent", "not", "contains", "at_least", "at_most", "near", "by", "length"] {
                assert!(fields.get(name).is_none(), "{}.{name}", row.name);
            }
        }
    }
}
