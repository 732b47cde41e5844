//! `receive`: receives one message of an open stream.

use super::{OpDef, OpReader, ParsedOp, on_stream};
use crate::scenario::model::Op;
use crate::scenario::schema::{Span, Text, shape};
use crate::scenario::yaml::Node;

pub(super) const OP: OpDef = OpDef {
    name: "receive",
    about: "receives one message of an open stream",
    expects: &["message"],
    parse,
    schema: |generator| generator.subschema_for::<Receive>(),
};

shape! {
    /// Receives one message.
    Receive is "`receive`" {
        /// The stream's name.
        stream: Text,
        /// Budget; the op timeout when left out.
        within: Option<Span>,
    }
}

fn parse(reader: &mut OpReader<'_>, node: &Node) -> Option<ParsedOp> {
    let fields = reader.sink.fields::<Receive>(node)?;
    let within = reader.within(&fields);
    Some(on_stream(reader.stream(&fields)?, |stream| Op::Receive { stream, within }))
}
