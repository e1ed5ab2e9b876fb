//! How enums and byte strings look in JSON and YAML: by name, and as hexadecimal digits.

/// `FaultCode` by the name that `client.proto` gives it.
pub mod fault_code {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    use crate::client::FaultCode;

    /// Number to name; a number that this version does not know is written as digits.
    ///
    /// # Errors
    /// The serializer's own.
    pub fn serialize<S: Serializer>(code: &i32, to: S) -> Result<S::Ok, S::Error> {
        match FaultCode::try_from(*code) {
            Ok(code) => to.serialize_str(code.as_str_name()),
            Err(_) => to.serialize_str(&code.to_string()),
        }
    }

    /// Name to number.
    ///
    /// # Errors
    /// When there is no such code.
    pub fn deserialize<'a, D: Deserializer<'a>>(from: D) -> Result<i32, D::Error> {
        let name = String::deserialize(from)?;
        let code = FaultCode::from_str_name(&name).ok_or_else(|| D::Error::custom(format!("no fault code is named `{name}`")))?;
        Ok(code.into())
    }
}

/// `EntityKind` by the name that `client.proto` gives it.
pub mod entity_kind {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    use crate::client::EntityKind;

    /// Number to name; a number that this version does not know is written as digits.
    ///
    /// # Errors
    /// The serializer's own.
    pub fn serialize<S: Serializer>(kind: &i32, to: S) -> Result<S::Ok, S::Error> {
        match EntityKind::try_from(*kind) {
            Ok(kind) => to.serialize_str(kind.as_str_name()),
            Err(_) => to.serialize_str(&kind.to_string()),
        }
    }

    /// Name to number.
    ///
    /// # Errors
    /// When there is no such kind.
    pub fn deserialize<'a, D: Deserializer<'a>>(from: D) -> Result<i32, D::Error> {
        let name = String::deserialize(from)?;
        let kind = EntityKind::from_str_name(&name).ok_or_else(|| D::Error::custom(format!("no entity kind is named `{name}`")))?;
        Ok(kind.into())
    }
}

/// Packed positions as a list.
pub mod moved {
    use bytes::Bytes;
    use serde::{Deserialize, Deserializer, Serializer};

    use crate::moves::{self, Moved};

    /// One object for each that moved.
    ///
    /// # Errors
    /// The serializer's own.
    pub fn serialize<S: Serializer>(bytes: &Bytes, to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(moves::read(bytes))
    }

    /// From such a list.
    ///
    /// # Errors
    /// When it is none.
    pub fn deserialize<'a, D: Deserializer<'a>>(from: D) -> Result<Bytes, D::Error> {
        Ok(moves::pack(&Vec::<Moved>::deserialize(from)?))
    }
}

/// Bytes as lower-case hexadecimal digits.
pub mod hex {
    use bytes::Bytes;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    /// Two digits a byte.
    pub fn encode(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The bytes of an even number of digits; `None` for anything else.
    pub fn decode(digits: &str) -> Option<Bytes> {
        if !digits.len().is_multiple_of(2) || !digits.is_ascii() {
            return None;
        }
        let bytes: Option<Vec<u8>> = (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(&digits[at..at + 2], 16).ok()).collect();
        bytes.map(Bytes::from)
    }

    /// As a string of digits.
    ///
    /// # Errors
    /// The serializer's own.
    pub fn serialize<S: Serializer>(bytes: &Bytes, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&encode(bytes))
    }

    /// From a string of digits.
    ///
    /// # Errors
    /// When it is no even number of hexadecimal digits.
    pub fn deserialize<'a, D: Deserializer<'a>>(from: D) -> Result<Bytes, D::Error> {
        let digits = String::deserialize(from)?;
        decode(&digits).ok_or_else(|| D::Error::custom(format!("`{digits}` is no even number of hexadecimal digits")))
    }
}

/// Lists of bytes, each as lower-case hexadecimal digits.
pub mod hex_list {
    use bytes::Bytes;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    use super::hex::{decode, encode};

    /// As strings of digits.
    ///
    /// # Errors
    /// The serializer's own.
    pub fn serialize<S: Serializer>(list: &[Bytes], to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(list.iter().map(|bytes| encode(bytes)))
    }

    /// From strings of digits.
    ///
    /// # Errors
    /// When one is no even number of hexadecimal digits.
    pub fn deserialize<'a, D: Deserializer<'a>>(from: D) -> Result<Vec<Bytes>, D::Error> {
        let list = Vec::<String>::deserialize(from)?;
        let bytes =
            |digits: &String| decode(digits).ok_or_else(|| D::Error::custom(format!("`{digits}` is no even number of hexadecimal digits")));
        list.iter().map(bytes).collect()
    }
}

/// Behaviour events as one flat JSON object: the head's fields, `kind` (the body's name in snake case), and the body's fields.
pub mod event {
    use serde_json::Value;

    use crate::event::Event;

    /// The flat object. Where a body's field is named as one of the head's, the body's is prefixed with `body_`.
    ///
    /// # Panics
    /// Never: events have string keys and finite numbers only.
    pub fn to_json(event: &Event) -> Value {
        let Value::Object(mut flat) = serde_json::to_value(event).expect("an event is JSON") else {
            unreachable!("a message is an object")
        };
        if let Some(Value::Object(body)) = flat.remove("body") {
            for (kind, fields) in body {
                flat.insert("kind".into(), kind.into());
                let Value::Object(fields) = fields else { continue };
                for (name, value) in fields {
                    let name = if flat.contains_key(&name) { format!("body_{name}") } else { name };
                    flat.insert(name, value);
                }
            }
        }
        Value::Object(flat)
    }

    /// The body's name in snake case; empty for an event without a body (a type that this version does not know).
    pub fn kind(event: &Event) -> String {
        match to_json(event).get("kind") {
            Some(Value::String(kind)) => kind.clone(),
            _ => String::new(),
        }
    }

    #[cfg(test)]
    mod tests {
        use super::*;
        use crate::event::{Chat, event::Body};

        #[test]
        fn a_body_lies_flat_beside_the_head() {
            let chat = Chat { channel: "say".into(), text: "hi".into(), to: String::new() };
            let event = Event { player: 7, body: Some(Body::Chat(chat)), ..Event::default() };
            let json = to_json(&event);
            assert_eq!(json["kind"], "chat");
            assert_eq!(json["text"], "hi");
            assert_eq!(json["player"], 7);
            assert_eq!(kind(&event), "chat");
        }
    }
}
