//! `half_close`: ends the sending side of an open stream.

use super::{OpDef, OpReader, ParsedOp, on_stream};
use crate::scenario::model::Op;
use crate::scenario::schema::{Text, shape};
use crate::scenario::yaml::Node;

pub(super) const OP: OpDef = OpDef {
    name: "half_close",
    about: "ends the sending side of an open stream",
    expects: &[],
    parse,
    schema: |generator| generator.subschema_for::<HalfClose>(),
};

shape! {
    /// Ends the sending side.
    HalfClose is "`half_close`" {
        /// The stream's name.
        stream: Text,
    }
}

fn parse(reader: &mut OpReader<'_>, node: &Node) -> Option<ParsedOp> {
    let fields = reader.sink.fields::<HalfClose>(node)?;
    Some(on_stream(reader.stream(&fields)?, |stream| Op::HalfClose { stream }))
}
