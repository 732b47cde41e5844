//! `open`: opens a stream under a name, for the ops that work on it step by step.

use serde_json::Value;

use super::{OpDef, OpReader, ParsedOp};
use crate::scenario::model::Op;
use crate::scenario::schema::{Encoding, OneMessage, Span, Text, shape};
use crate::scenario::yaml::Node;

pub(super) const OP: OpDef = OpDef {
    name: "open",
    about: "opens a stream under a name",
    expects: &[],
    parse,
    schema: |generator| generator.subschema_for::<Open>(),
};

shape! {
    /// Opens a stream.
    Open is "`open`" {
        /// The stream's name in this script.
        stream: Text,
        /// `Method` of the service under test, or `package.Service/Method`.
        method: Text,
        /// Messages to send at once; texts are templates.
        send: Option<OneMessage>,
        /// Metadata: a map, or a list of pairs where order and duplicates matter.
        metadata: Option<Value>,
        /// The gRPC deadline of the whole stream; the case timeout when left out.
        deadline: Option<Span>,
        /// How request messages are sent: `identity` or `gzip`; the library's default when left out.
        compression: Option<Encoding>,
        /// Wait for a connection, within the deadline, instead of failing without one.
        wait_for_ready: Option<bool>,
    }
}

fn parse(reader: &mut OpReader<'_>, node: &Node) -> Option<ParsedOp> {
    let fields = reader.sink.fields::<Open>(node)?;
    let stream = fields.require(reader.sink, "stream", "give the stream a name, for the ops that follow");
    let stream = stream.and_then(|node| reader.sink.text(node, "`stream`"));
    let (call, method) = reader.call(&fields)?;
    let stream = stream?;
    let op = Op::Open { stream: stream.value.clone(), call };
    Some(ParsedOp { method: Some(method), stream: Some(stream), ..ParsedOp::of(op) })
}
