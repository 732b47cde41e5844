//! `call`: a unary call, or a whole stream at once. Also the reader of what `open` shares with it.

use serde_json::{Map, Value};

use super::{OpDef, OpReader, ParsedOp};
use crate::diag::Spanned;
use crate::scenario::decode::Fields;
use crate::scenario::model::{CallDef, Op};
use crate::scenario::schema::{Encoding, OneMessage, Span, Text, shape};
use crate::scenario::yaml::{Kind, Node, short};

pub(super) const OP: OpDef = OpDef {
    name: "call",
    about: "calls a method: unary, or a whole stream at once",
    expects: &["message", "code", "status_text", "wire"],
    parse,
    schema: |generator| generator.subschema_for::<Call>(),
};

/// How often messages are sent in one call, at most.
const MAX_TIMES: i64 = 100_000;

shape! {
    /// A call.
    Call is "`call`" {
        /// `Method` of the service under test, or `package.Service/Method`.
        method: Text,
        /// The message, or a list of messages for a client stream; texts are templates.
        send: Option<OneMessage>,
        /// Metadata: a map, or a list of pairs where order and duplicates matter.
        metadata: Option<Value>,
        /// The gRPC deadline; the op timeout when left out.
        deadline: Option<Span>,
        /// How often what `send` has is sent in a whole stream, 1 to 100000; once when left out. `round`
        /// counts from 0.
        times: Option<u32>,
        /// How request messages are sent: `identity` or `gzip`; the library's default when left out.
        compression: Option<Encoding>,
        /// Wait for a connection, within the deadline, instead of failing without one.
        wait_for_ready: Option<bool>,
    }
}

fn parse(reader: &mut OpReader<'_>, node: &Node) -> Option<ParsedOp> {
    let fields = reader.sink.fields::<Call>(node)?;
    let outer = reader.scope.clone();
    if fields.entry("times").is_some() {
        *reader.scope = outer.clone().root("round", []);
    }
    let read = reader.call(&fields);
    *reader.scope = outer;
    let (mut call, method) = read?;
    if fields.entry("send").is_none() {
        call.send = vec![Value::Object(Map::new())];
    }
    let times = fields.get(reader.sink, "times");
    let times = times.and_then(|node| reader.sink.number(node, "`times`", 1, MAX_TIMES));
    call.times = times.and_then(|times| u32::try_from(times).ok());
    Some(ParsedOp { method: Some(method), ..ParsedOp::of(Op::Call(call)) })
}

impl OpReader<'_> {
    /// Method, messages, metadata and deadline.
    pub(super) fn call(&mut self, fields: &Fields<'_>) -> Option<(CallDef, Spanned<String>)> {
        let method = fields.require(self.sink, "method", "name a method of the service, as in the .proto file");
        let send = fields.get(self.sink, "send").map(|node| self.messages(node)).unwrap_or_default();
        let metadata = fields.get(self.sink, "metadata").map(|node| self.metadata(node)).unwrap_or_default();
        let deadline = fields.get(self.sink, "deadline").and_then(|node| self.sink.duration(node, "`deadline`"));
        let options = self.call_options(fields);
        let method = self.sink.text(method?, "`method`")?;
        Some((CallDef { method: method.value.clone(), send, metadata, deadline, times: None, options }, method))
    }

    fn messages(&mut self, node: &Node) -> Vec<Value> {
        match &node.kind {
            Kind::List(items) => items.iter().filter_map(|item| self.message(item)).collect(),
            _ => self.message(node).into_iter().collect(),
        }
    }

    /// One message.
    pub(super) fn message(&mut self, node: &Node) -> Option<Value> {
        self.sink.entries(node, "a message")?;
        self.made_values(node);
        Some(self.scope.tree(self.sink, node))
    }

    fn metadata(&mut self, node: &Node) -> Vec<(String, Value)> {
        let mut pairs = Vec::new();
        match &node.kind {
            Kind::Map(entries) => {
                for entry in entries {
                    if self.metadata_key(&entry.key, entry.span) {
                        match &entry.value.kind {
                            Kind::List(values) => {
                                pairs.extend(
                                    values.iter().filter_map(|v| Some((entry.key.clone(), self.metadata_value(v)?))),
                                );
                            }
                            _ => pairs.extend(self.metadata_value(&entry.value).map(|v| (entry.key.clone(), v))),
                        }
                    }
                }
            }
            Kind::List(items) => {
                for item in items {
                    let Kind::List(pair) = &item.kind else {
                        self.sink.error(
                            "wrong-type",
                            item.span,
                            "an entry of `metadata` must be a pair",
                            "not a pair",
                            "write `[key, value]`",
                        );
                        continue;
                    };
                    let [key, value] = pair.as_slice() else {
                        self.sink.error(
                            "wrong-type",
                            item.span,
                            "an entry of `metadata` must be a pair",
                            "not a pair",
                            "write `[key, value]`",
                        );
                        continue;
                    };
                    if let Some(key) =
                        self.sink.text(key, "a metadata key").filter(|k| self.metadata_key(&k.value, k.span))
                    {
                        pairs.extend(self.metadata_value(value).map(|value| (key.value, value)));
                    }
                }
            }
            Kind::Scalar(_) => {
                self.sink.entries(node, "`metadata`");
            }
        }
        pairs
    }

    /// gRPC over HTTP/2, "Custom-Metadata": lower-case letters, digits, `_`, `-` and `.`; names that
    /// begin with `grpc-` are the library's.
    fn metadata_key(&mut self, key: &str, span: crate::diag::Span) -> bool {
        let legal = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'_' | b'-' | b'.');
        if !key.is_empty() && key.bytes().all(legal) && !key.starts_with("grpc-") {
            return true;
        }
        let message = format!("`{}` cannot be a metadata key", short(key));
        self.sink.error(
            "bad-metadata",
            span,
            message,
            "not a key",
            "keys have lower-case letters, digits, `_`, `-` and `.`; `grpc-` is reserved",
        );
        false
    }

    fn metadata_value(&mut self, node: &Node) -> Option<Value> {
        if let Kind::Map(entries) = &node.kind {
            if matches!(entries.as_slice(), [only] if only.key == "$base64") {
                return self.expected(node);
            }
            self.sink.error(
                "wrong-type",
                node.span,
                "a metadata value must be text",
                "expected text",
                "for bytes write `{ $base64: … }`",
            );
            return None;
        }
        let scalar = self.sink.scalar(node, "a metadata value")?;
        self.scope.scalar(self.sink, scalar, node.span);
        Some(Value::String(scalar.text.clone()))
    }
}
