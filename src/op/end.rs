//! `end`: waits for the end of an open stream and its status.

use super::{OpDef, OpReader, ParsedOp, on_stream};
use crate::scenario::model::Op;
use crate::scenario::schema::{Span, Text, shape};
use crate::scenario::yaml::Node;

pub(super) const OP: OpDef = OpDef {
    name: "end",
    about: "waits for the end of an open stream and its status",
    expects: &["code", "status_text", "wire"],
    parse,
    schema: |generator| generator.subschema_for::<End>(),
};

shape! {
    /// Waits for the end of a stream.
    End is "`end`" {
        /// The stream's name.
        stream: Text,
        /// Budget; the op timeout when left out.
        within: Option<Span>,
    }
}

fn parse(reader: &mut OpReader<'_>, node: &Node) -> Option<ParsedOp> {
    let fields = reader.sink.fields::<End>(node)?;
    let within = reader.within(&fields);
    Some(on_stream(reader.stream(&fields)?, |stream| Op::End { stream, within }))
}
