//! Messages in words of a shell: `key=a ask.delay_ms=5` to a value, and back for people.

use prost_reflect::{FieldDescriptor, Kind, MessageDescriptor};
use serde_json::{Map, Value};

use super::encode::{find, unknown};
use super::{DynamicError, Method};

impl Method {
    /// The request that `NAME=VALUE` words spell. A name is a field, or the dotted path of one; what
    /// its value means depends on the field: text is taken as it stands, numbers, booleans and whole
    /// messages as JSON. A repeated field takes a JSON list, or its entries word by word.
    ///
    /// # Errors
    /// A name that the message does not have; the error names the nearest ones.
    pub fn from_words(&self, words: &[(String, String)]) -> Result<Value, DynamicError> {
        let message = self.descriptor.input();
        let mut out = Map::new();
        for (path, text) in words {
            set(&message, &mut out, path, text, message.full_name())?;
        }
        Ok(Value::Object(out))
    }

    /// Whether its request has a field of this name.
    #[must_use]
    pub fn takes(&self, name: &str) -> bool {
        find(&self.descriptor.input(), name).is_some()
    }

    /// The names of its request's fields.
    #[must_use]
    pub fn fields(&self) -> Vec<String> {
        self.descriptor.input().fields().map(|field| field.name().to_owned()).collect()
    }
}

fn set(
    message: &MessageDescriptor,
    out: &mut Map<String, Value>,
    path: &str,
    text: &str,
    place: &str,
) -> Result<(), DynamicError> {
    let (name, rest) = path.split_once('.').map_or((path, None), |(name, rest)| (name, Some(rest)));
    let place = format!("{place}.{name}");
    let Some(field) = find(message, name) else { return Err(unknown(message, name, &place)) };
    match (rest, field.kind()) {
        (Some(rest), Kind::Message(inner)) if !field.is_map() && !field.is_list() => {
            let inside = out.entry(name).or_insert_with(|| Value::Object(Map::new()));
            if let Value::Object(inside) = inside {
                return set(&inner, inside, rest, text, &place);
            }
            let why = "it is given as a whole already".to_owned();
            return Err(DynamicError::Encode { place, why, help: String::new() });
        }
        (Some(_), _) => {
            let why = "it is no message, so it has no fields".to_owned();
            return Err(DynamicError::Encode { place, why, help: String::new() });
        }
        (None, _) => {}
    }
    if field.is_list() {
        match serde_json::from_str(text) {
            Ok(list @ Value::Array(_)) => {
                out.insert(name.to_owned(), list);
            }
            _ => {
                if let Value::Array(list) = out.entry(name).or_insert_with(|| Value::Array(Vec::new())) {
                    list.push(single(&field, text));
                }
            }
        }
    } else {
        out.insert(name.to_owned(), single(&field, text));
    }
    Ok(())
}

fn single(field: &FieldDescriptor, text: &str) -> Value {
    let as_text = || Value::String(text.to_owned());
    let json = || serde_json::from_str(text).ok();
    match field.kind() {
        _ if field.is_map() => json().unwrap_or_else(as_text),
        Kind::String => as_text(),
        // Bytes that are no text have a form of their own.
        Kind::Bytes => json().filter(|value: &Value| value.get("$base64").is_some()).unwrap_or_else(as_text),
        _ => json().unwrap_or_else(as_text),
    }
}

/// The fields of a message as words, `key=a revision=2`, without those that are empty. Texts that
/// are no plain word are written as JSON.
#[must_use]
pub fn to_words(message: &Value) -> String {
    let Value::Object(fields) = message else { return message.to_string() };
    let words: Vec<String> = fields.iter().filter_map(|(name, value)| word(name, value)).collect();
    words.join(" ")
}

fn word(name: &str, value: &Value) -> Option<String> {
    let plain = |text: &str| text.chars().all(|c| !c.is_whitespace() && !c.is_control() && !"\"'{}[]".contains(c));
    match value {
        Value::String(text) if text.is_empty() => None,
        Value::Array(list) if list.is_empty() => None,
        Value::String(text) if plain(text) => Some(format!("{name}={text}")),
        other => Some(format!("{name}={other}")),
    }
}
