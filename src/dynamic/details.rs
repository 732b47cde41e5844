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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn details_are_read_where_their_type_is_known() {
        let method = crate::dynamic::Service::compile("soup.stock.v1.Stock", &[], &[]).unwrap().method("Get").unwrap();
        let any = |name: &str, value: &[u8]| Any { type_url: format!("example.org/{name}"), value: value.to_vec() };
        let details = vec![
            any("soup.stock.v1.Note", b"\x0a\x01a"),
            any("x.Unknown", b"\xff"),
            any("soup.stock.v1.Note", b"\xff"),
        ];
        let bytes = Status { code: 5, message: "gone".into(), details }.encode_to_vec();
        let expected = json!({ "code": 5, "message": "gone", "details": [
            { "text": "a", "@type": "soup.stock.v1.Note" },
            { "value": { "$base64": "/w==" }, "@type": "x.Unknown" },
            { "value": { "$base64": "/w==" }, "@type": "soup.stock.v1.Note" },
        ] });
        assert_eq!(method.details(&bytes), expected);
        assert_eq!(method.details(b"\xff\xff"), json!({ "$base64": "//8=" }));
    }
}
