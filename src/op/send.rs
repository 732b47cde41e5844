//! `send`: sends one message on an open stream.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{OpDef, OpReader, ParsedOp};
use crate::scenario::model::Op;
use crate::scenario::schema::{Text, shape};
use crate::scenario::yaml::Node;

pub(super) const OP: OpDef = OpDef {
    name: "send",
    about: "sends one message on an open stream",
    expects: &[],
    parse,
    schema: |generator| generator.subschema_for::<Send>(),
};

shape! {
    /// Sends one message.
    Send is "`send`" {
        /// The stream's name.
        stream: Text,
        /// The message; texts are templates.
        message: BTreeMap<String, Value>,
    }
}

fn parse(reader: &mut OpReader<'_>, node: &Node) -> Option<ParsedOp> {
    let fields = reader.sink.fields::<Send>(node)?;
    let stream = reader.stream(&fields);
    let message = fields.require(reader.sink, "message", "`message: {}` sends an empty one")?;
    let message = reader.message(message)?;
    let stream = stream?;
    Some(super::on_stream(stream, |stream| Op::Send { stream, message }))
}
