//! From JSON values to messages, with the path of whatever does not fit.

use std::collections::HashMap;

use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MapKey, MessageDescriptor, Value as Proto};
use serde_json::{Map, Value};

use super::{DynamicError, expect, suggest};

fn fail<T>(place: &str, why: impl Into<String>, help: impl Into<String>) -> Result<T, DynamicError> {
    Err(DynamicError::Encode { place: place.to_owned(), why: why.into(), help: help.into() })
}

/// Builds a message. `place` names where the value came from.
pub(super) fn message(desc: &MessageDescriptor, value: &Value, place: &str) -> Result<DynamicMessage, DynamicError> {
    if is_well_known(desc) && !(value.is_null() && desc.full_name() != "google.protobuf.Value") {
        return DynamicMessage::deserialize(desc.clone(), value).or_else(|e| fail(place, e.to_string(), ""));
    }
    let mut out = DynamicMessage::new(desc.clone());
    let fields = match value {
        Value::Null => return Ok(out),
        Value::Object(fields) => fields,
        other => {
            let why = format!("expected a map of the fields of `{}`, got {}", desc.full_name(), kind_of(other));
            return fail(place, why, "");
        }
    };
    for (name, value) in fields {
        let place = format!("{place}.{name}");
        let Some(field) = find(desc, name) else { return Err(unknown(desc, name, &place)) };
        if value.is_null() {
            continue;
        }
        if let Some(oneof) = field.containing_oneof()
            && let Some(other) = oneof.fields().find(|f| *f != field && out.has_field(f))
        {
            let why = format!("`{}` is set already, and of `{}` only one can be", other.name(), oneof.name());
            return fail(&place, why, "; leave one of them out");
        }
        let value = if field.is_map() {
            map(&field, value, &place)?
        } else if field.is_list() {
            list(&field, value, &place)?
        } else {
            single(&field.kind(), value, &place)?
        };
        if let Err(error) = out.try_set_field(&field, value) {
            return fail(&place, error.to_string(), "");
        }
    }
    Ok(out)
}

/// Problems of the field names of a template, all of them.
pub(super) fn check_names(desc: &MessageDescriptor, template: &Value) -> Vec<DynamicError> {
    let mut out = Vec::new();
    names(desc, template, desc.full_name(), &mut out);
    out
}

fn names(desc: &MessageDescriptor, template: &Value, place: &str, out: &mut Vec<DynamicError>) {
    let Value::Object(fields) = template else { return };
    if is_well_known(desc) {
        return;
    }
    for (name, value) in fields {
        let place = format!("{place}.{name}");
        let Some(field) = find(desc, name) else {
            out.push(unknown(desc, name, &place));
            continue;
        };
        if let Kind::Message(inner) = field.kind()
            && !field.is_map()
        {
            match value {
                Value::Array(items) => {
                    for (i, item) in items.iter().enumerate() {
                        names(&inner, item, &format!("{place}[{i}]"), out);
                    }
                }
                one => names(&inner, one, &place, out),
            }
        }
    }
}

/// By the name in the file, or its JSON name.
pub(super) fn find(desc: &MessageDescriptor, name: &str) -> Option<FieldDescriptor> {
    desc.get_field_by_name(name).or_else(|| desc.get_field_by_json_name(name))
}

pub(super) fn unknown(desc: &MessageDescriptor, name: &str, place: &str) -> DynamicError {
    let known: Vec<String> = desc.fields().map(|f| f.name().to_owned()).collect();
    DynamicError::Encode {
        place: place.to_owned(),
        why: format!("`{}` has no field `{name}`", desc.full_name()),
        help: suggest::help(name, &known, "fields"),
    }
}

fn list(field: &FieldDescriptor, value: &Value, place: &str) -> Result<Proto, DynamicError> {
    let Value::Array(items) = value else {
        let why = format!("the field is repeated: expected a list, got {}", kind_of(value));
        return fail(place, why, "; write it as `[…]`");
    };
    let kind = field.kind();
    let items = items.iter().enumerate().map(|(i, item)| single(&kind, item, &format!("{place}[{i}]")));
    items.collect::<Result<Vec<_>, _>>().map(Proto::List)
}

fn map(field: &FieldDescriptor, value: &Value, place: &str) -> Result<Proto, DynamicError> {
    let Value::Object(entries) = value else {
        return fail(place, format!("expected a map, got {}", kind_of(value)), "");
    };
    let Kind::Message(entry) = field.kind() else { return fail(place, "the field is no map", "") };
    let (keys, values) = (entry.map_entry_key_field().kind(), entry.map_entry_value_field().kind());
    let mut out = HashMap::with_capacity(entries.len());
    for (key, value) in entries {
        let place = format!("{place}.{key}");
        let key = match single(&keys, &Value::String(key.clone()), &place)? {
            Proto::Bool(v) => MapKey::Bool(v),
            Proto::I32(v) => MapKey::I32(v),
            Proto::I64(v) => MapKey::I64(v),
            Proto::U32(v) => MapKey::U32(v),
            Proto::U64(v) => MapKey::U64(v),
            Proto::String(v) => MapKey::String(v),
            _ => return fail(&place, "this cannot be a map's key", ""),
        };
        out.insert(key, single(&values, value, &place)?);
    }
    Ok(Proto::Map(out))
}

fn single(kind: &Kind, value: &Value, place: &str) -> Result<Proto, DynamicError> {
    match kind {
        Kind::Message(desc) => message(desc, value, place).map(Proto::Message),
        Kind::String => match value {
            Value::String(text) => Ok(Proto::String(text.clone())),
            other => fail(place, format!("expected text, got {}", kind_of(other)), "; write it in quotes"),
        },
        Kind::Bytes => expect::bytes(value).map(Proto::Bytes).map_or_else(
            || {
                let why = format!("expected bytes, got {}", kind_of(value));
                fail(place, why, "; write text in quotes, or `{$base64: …}` with padded standard base64")
            },
            Ok,
        ),
        Kind::Bool => match value {
            Value::Bool(v) => Ok(Proto::Bool(*v)),
            Value::String(v) if v == "true" || v == "false" => Ok(Proto::Bool(v == "true")),
            other => fail(place, format!("expected true or false, got {}", kind_of(other)), ""),
        },
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => integer(value, place).map(Proto::I32),
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => integer(value, place).map(Proto::I64),
        Kind::Uint32 | Kind::Fixed32 => integer(value, place).map(Proto::U32),
        Kind::Uint64 | Kind::Fixed64 => integer(value, place).map(Proto::U64),
        #[expect(clippy::cast_possible_truncation, reason = "a float field holds what a float can")]
        Kind::Float => float(value, place).map(|v| Proto::F32(v as f32)),
        Kind::Double => float(value, place).map(Proto::F64),
        Kind::Enum(desc) => {
            if let Value::String(name) = value {
                if let Some(found) = desc.get_value_by_name(name) {
                    return Ok(Proto::EnumNumber(found.number()));
                }
                if name.parse::<i32>().is_err() {
                    let known: Vec<String> = desc.values().map(|v| v.name().to_owned()).collect();
                    let why = format!("`{}` has no value `{name}`", desc.full_name());
                    return fail(place, why, suggest::help(name, &known, "values"));
                }
            }
            // An unknown number is legal in proto3, and sending one is a fair test.
            integer(value, place).map(Proto::EnumNumber)
        }
    }
}

/// A number, or its text: a template gives text.
fn integer<T: TryFrom<i128>>(value: &Value, place: &str) -> Result<T, DynamicError> {
    let number = match value {
        Value::Number(n) => {
            n.as_i64().map(i128::from).or_else(|| n.as_u64().map(i128::from)).or_else(|| whole(n.as_f64()?))
        }
        Value::String(text) => text.trim().parse::<i128>().ok(),
        _ => None,
    };
    let Some(number) = number else {
        return fail(place, format!("expected a whole number, got {}", kind_of(value)), "");
    };
    T::try_from(number)
        .or_else(|_| fail(place, format!("{number} does not fit a field of type {}", type_name::<T>()), ""))
}

#[expect(clippy::cast_possible_truncation, reason = "only whole numbers that a double holds exactly pass")]
fn whole(number: f64) -> Option<i128> {
    (number.fract() == 0.0 && number.abs() < 9.0e15).then_some(number as i128)
}

fn type_name<T>() -> &'static str {
    match std::any::type_name::<T>() {
        "i32" => "int32",
        "i64" => "int64",
        "u32" => "uint32",
        _ => "uint64",
    }
}

fn float(value: &Value, place: &str) -> Result<f64, DynamicError> {
    let number = match value {
        Value::Number(n) => n.as_f64(),
        // Also NaN and Infinity, as in protobuf's JSON.
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    };
    number.map_or_else(|| fail(place, format!("expected a number, got {}", kind_of(value)), ""), Ok)
}

/// Messages with a JSON form of their own (protobuf's JSON mapping).
pub(super) fn is_well_known(desc: &MessageDescriptor) -> bool {
    desc.full_name().strip_prefix("google.protobuf.").is_some_and(|name| {
        matches!(
            name,
            "Any"
                | "Timestamp"
                | "Duration"
                | "Struct"
                | "Value"
                | "ListValue"
                | "FieldMask"
                | "Empty"
                | "BoolValue"
                | "BytesValue"
                | "DoubleValue"
                | "FloatValue"
                | "Int32Value"
                | "Int64Value"
                | "StringValue"
                | "UInt32Value"
                | "UInt64Value"
        )
    })
}

/// What a value is, for people.
pub(super) fn kind_of(value: &Value) -> String {
    match value {
        Value::Null => "nothing".into(),
        Value::Bool(v) => format!("{v}"),
        Value::Number(n) => format!("the number {n}"),
        Value::String(text) if text.chars().count() <= 40 => format!("the text {text:?}"),
        Value::String(text) => format!("a text of {} bytes", text.len()),
        Value::Array(items) => format!("a list of {}", items.len()),
        Value::Object(fields) => format!("a map ({})", keys(fields)),
    }
}

fn keys(fields: &Map<String, Value>) -> String {
    let mut keys: Vec<&str> = fields.keys().take(4).map(String::as_str).collect();
    if fields.len() > 4 {
        keys.push("…");
    }
    keys.join(", ")
}
