//! The shape of the files: every map with its keys, once. From here come the keys that the reader
//! knows ([`Shape::KEYS`]), its did-you-mean, and the JSON Schemas for editors in `schemas/`.
//! The structs hold no data: `decode` reads the tree by hand, to report every problem with its place.

use schemars::generate::SchemaSettings;
use schemars::transform::{Transform, transform_subschemas};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::Value;

mod exec;
mod peers;
mod shapes;

pub(crate) use exec::*;
pub(crate) use peers::*;
pub(crate) use shapes::*;

/// A map with a fixed set of keys.
pub(crate) trait Shape {
    /// What messages call it: `a peer`.
    const WHAT: &'static str;
    /// Its keys.
    const KEYS: &'static [&'static str];
}

/// Declares a map: `key: type` with a doc comment, `Option` where it may be left out. A key that
/// cannot be a Rust name is written `name as "key"`.
macro_rules! shape {
    ($(#[$meta:meta])* $name:ident is $what:literal { $($(#[$about:meta])* $field:ident $(as $key:literal)? : $ty:ty),* $(,)? }) => {
        $(#[$meta])*
        #[derive(schemars::JsonSchema)]
        #[schemars(deny_unknown_fields)]
        #[expect(dead_code, reason = "the shape of a map; never filled")]
        #[allow(clippy::struct_field_names, reason = "the names are those of the language")]
        pub(crate) struct $name { $($(#[$about])* $(#[schemars(rename = $key)])? $field: $ty),* }
        impl $crate::scenario::schema::Shape for $name {
            const WHAT: &'static str = $what;
            const KEYS: &'static [&'static str] = &[$($crate::scenario::schema::shape!(@key $field $($key)?)),*];
        }
    };
    (@key $field:ident $key:literal) => { $key };
    (@key $field:ident) => { stringify!($field) };
}
pub(crate) use shape;

/// Declares a scalar with a pattern.
macro_rules! scalar {
    ($(#[$meta:meta])* $name:ident, $schema:tt) => {
        $(#[$meta])*
        pub(crate) struct $name {
            _never: u8,
        }
        impl JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> { stringify!($name).into() }
            fn json_schema(_: &mut SchemaGenerator) -> Schema { json_schema!($schema) }
        }
    };
}

pub(crate) use scalar;

scalar!(
    /// The version of the language.
    Version,
    { "const": 1, "description": "version of the scenario language" }
);
scalar!(
    /// Text; numbers and booleans are taken as written.
    Text,
    { "type": ["string", "number", "boolean"] }
);
scalar!(
    /// Text, or null. Not an `Option`: [`Strict`] would take the null away.
    TextOrNull,
    { "anyOf": [{ "type": ["string", "number", "boolean"] }, { "const": null }] }
);
scalar!(
    /// Null, where it may stand. Not `()`, for the same reason.
    Nothing,
    { "const": null }
);
scalar!(
    /// A duration with its unit.
    Span,
    { "type": "string", "pattern": r"^[0-9]+(\.[0-9]+)?(us|ms|s|m|h)$", "description": "a duration with its unit: 500ms, 20s, 1.5m, 2h" }
);
scalar!(
    /// A number of bytes.
    Size,
    { "type": ["string", "integer"], "pattern": "^[0-9]+(B|KiB|MiB)?$", "description": "a number of bytes: 4096, 64KiB, 5MiB" }
);
scalar!(
    /// An expression.
    When,
    { "type": ["string", "boolean"], "minLength": 1, "description": "an expression: client == go and key in [p256, p384]" }
);
scalar!(
    /// How messages are encoded.
    Encoding,
    { "enum": ["identity", "gzip"] }
);
scalar!(
    /// A phase of a case.
    At,
    { "enum": ["build", "spawn", "handshake", "connect", "tls", "rpc", "check", "teardown", "driver"] }
);
scalar!(
    /// A date.
    Date,
    { "type": "string", "pattern": "^[0-9]{4}-[0-9]{2}-[0-9]{2}$" }
);
/// A gRPC status code or a list of which any will do.
pub(crate) struct Codes {
    _never: u8,
}

impl JsonSchema for Codes {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Codes".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let code = json_schema!({ "enum": crate::scenario::decode::CODES });
        json_schema!({ "anyOf": [code, { "type": "array", "minItems": 1, "items": code }] })
    }
}

scalar!(
    /// What cases may share.
    Sharing,
    { "enum": ["shared", "connection", "case"] }
);

/// The JSON Schema of a scenario file, pretty-printed, with a final newline.
#[must_use]
pub fn scenario_schema() -> String {
    text::<ScenarioFile>("soupscen scenario")
}

/// The JSON Schema of a peer file, pretty-printed, with a final newline.
#[must_use]
pub fn peer_schema() -> String {
    text::<PeerFile>("soupscen peers")
}

fn text<T: JsonSchema>(title: &str) -> String {
    let mut schema = SchemaSettings::draft2020_12().with_transform(Strict).into_generator().into_root_schema_for::<T>();
    schema.insert("title".into(), title.into());
    let mut text = serde_json::to_string_pretty(schema.as_value()).unwrap_or_default();
    text.push('\n');
    text
}

/// A key that may be left out may not be null: takes the `null` out that `Option` puts in.
#[derive(Debug, Clone)]
struct Strict;

impl Transform for Strict {
    fn transform(&mut self, schema: &mut Schema) {
        if let Some(object) = schema.as_object_mut() {
            if let Some(Value::Array(types)) = object.get_mut("type") {
                types.retain(|t| t != "null");
                if let [only] = types.as_slice() {
                    let only = only.clone();
                    object.insert("type".into(), only);
                }
            }
            if let Some(Value::Array(any)) = object.get_mut("anyOf") {
                any.retain(|s| s.get("type").is_none_or(|t| t != "null"));
                if let [Value::Object(only)] = any.as_slice() {
                    let only = only.clone();
                    object.remove("anyOf");
                    for (key, value) in only {
                        object.entry(key).or_insert(value);
                    }
                }
            }
        }
        transform_subschemas(self, schema);
    }
}
