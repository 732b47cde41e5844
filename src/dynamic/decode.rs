//! From messages to JSON values.

use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MapKey, ReflectMessage as _, Value as Proto};
use serde_json::{Map, Number, Value};

use super::encode::is_well_known;
use super::expect;

/// A message as JSON. Fields without presence are always there; others when they are set. Fields
/// that the descriptor does not know are left out.
pub(super) fn message(message: &DynamicMessage) -> Result<Value, String> {
    let desc = message.descriptor();
    if is_well_known(&desc) {
        return serde_json::to_value(message).map_err(|e| e.to_string());
    }
    let mut out = Map::new();
    for field in desc.fields() {
        if field.supports_presence() && !message.has_field(&field) {
            continue;
        }
        let value = value(&field, &message.get_field(&field))?;
        out.insert(field.name().to_owned(), value);
    }
    Ok(Value::Object(out))
}

fn value(field: &FieldDescriptor, proto: &Proto) -> Result<Value, String> {
    match proto {
        Proto::List(items) => {
            items.iter().map(|item| single(&field.kind(), item)).collect::<Result<_, _>>().map(Value::Array)
        }
        Proto::Map(entries) => {
            let Kind::Message(entry) = field.kind() else { return Err(format!("`{}` is no map", field.name())) };
            let kind = entry.map_entry_value_field().kind();
            // Sorted, so that a value reads the same every time.
            let mut sorted: Vec<_> = entries.iter().collect();
            sorted.sort_by_key(|(key, _)| (*key).clone());
            let mut out = Map::new();
            for (key, item) in sorted {
                out.insert(key_text(key), single(&kind, item)?);
            }
            Ok(Value::Object(out))
        }
        one => single(&field.kind(), one),
    }
}

fn single(kind: &Kind, proto: &Proto) -> Result<Value, String> {
    Ok(match proto {
        Proto::Bool(v) => Value::Bool(*v),
        Proto::I32(v) => Value::from(*v),
        Proto::I64(v) => Value::from(*v),
        Proto::U32(v) => Value::from(*v),
        Proto::U64(v) => Value::from(*v),
        Proto::F32(v) => float(f64::from(*v)),
        Proto::F64(v) => float(*v),
        Proto::String(v) => Value::String(v.clone()),
        Proto::Bytes(v) => expect::value(v),
        Proto::EnumNumber(n) => match kind {
            Kind::Enum(desc) => {
                desc.get_value(*n).map_or_else(|| Value::from(*n), |v| Value::String(v.name().to_owned()))
            }
            _ => Value::from(*n),
        },
        Proto::Message(inner) => message(inner)?,
        Proto::List(_) | Proto::Map(_) => return Err("a list or map inside a list or map".into()),
    })
}

/// A number; text for what JSON has no number for.
fn float(v: f64) -> Value {
    Number::from_f64(v).map_or_else(
        || {
            Value::from(if v.is_nan() {
                "NaN"
            } else if v > 0.0 {
                "Infinity"
            } else {
                "-Infinity"
            })
        },
        Value::Number,
    )
}

fn key_text(key: &MapKey) -> String {
    match key {
        MapKey::Bool(v) => v.to_string(),
        MapKey::I32(v) => v.to_string(),
        MapKey::I64(v) => v.to_string(),
        MapKey::U32(v) => v.to_string(),
        MapKey::U64(v) => v.to_string(),
        MapKey::String(v) => v.clone(),
    }
}

/// A copy for transcripts: texts longer than `limit` bytes are cut and say how long they were, and
/// lists and maps are cut after `limit / 16` entries (16 at least).
#[must_use]
pub fn shorten(value: &Value, limit: usize) -> Value {
    let entries = (limit / 16).max(16);
    match value {
        Value::String(text) if text.len() > limit => {
            let mut end = limit;
            while !text.is_char_boundary(end) {
                end -= 1;
            }
            Value::String(format!("{}… ({} bytes)", &text[..end], text.len()))
        }
        Value::Array(items) => {
            let mut out: Vec<Value> = items.iter().take(entries).map(|v| shorten(v, limit)).collect();
            if items.len() > entries {
                out.push(Value::String(format!("… ({} entries)", items.len())));
            }
            Value::Array(out)
        }
        Value::Object(fields) => {
            let mut out: Map<String, Value> =
                fields.iter().take(entries).map(|(k, v)| (k.clone(), shorten(v, limit))).collect();
            if fields.len() > entries {
                out.insert("…".into(), Value::String(format!("({} entries)", fields.len())));
            }
            Value::Object(out)
        }
        other => other.clone(),
    }
}
