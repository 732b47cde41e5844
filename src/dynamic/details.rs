//! Rich details of a status: `google.rpc.Status` as JSON.

use prost::Message as _;
use prost_types::Any;
use serde_json::{Value, json};

use super::{Method, decode_as, expect};

/// The trailer that carries them, as `google.rpc.Status` (gRPC's "Richer error model").
pub const DETAILS: &str = "grpc-status-details-bin";

#[derive(Clone, PartialEq, prost::Message)]
struct Status {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
    #[prost(message, repeated, tag = "3")]
    details: Vec<Any>,
}

impl Method {
    /// Details of a status as `{code, message, details}`, each detail with its `@type` (the full
    /// name) and its fields, or `value` where the service's files do not declare the type. Bytes
    /// that are no details are given as they are.
    #[must_use]
    pub fn details(&self, bytes: &[u8]) -> Value {
        let Ok(status) = Status::decode(bytes) else { return expect::value(bytes) };
        let details: Value = status.details.iter().map(|any| self.detail(any)).collect();
        json!({ "code": status.code, "message": status.message, "details": details })
    }

    fn detail(&self, any: &Any) -> Value {
        let name = any.type_url.rsplit('/').next().unwrap_or_default();
        let known = self.descriptor.parent_pool().get_message_by_name(name);
        let mut fields = match known.map(|message| decode_as(&message, &any.value)) {
            Some(Ok(Value::Object(fields))) => fields,
            _ => serde_json::Map::from_iter([("value".to_owned(), expect::value(&any.value))]),
        };
        fields.insert("@type".to_owned(), name.into());
        Value::Object(fields)
    }
}
