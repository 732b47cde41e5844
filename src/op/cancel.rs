//! `cancel`: cancels an open stream.

use super::{OpDef, OpReader, ParsedOp, on_stream};
use crate::scenario::model::Op;
use crate::scenario::schema::{Text, shape};
use crate::scenario::yaml::Node;

pub(super) const OP: OpDef = OpDef {
    name: "cancel",
    about: "cancels an open stream",
    expects: &[],
    parse,
    schema: |generator| generator.subschema_for::<Cancel>(),
};

shape! {
    /// Cancels a stream.
    Cancel is "`cancel`" {
        /// The stream's name.
        stream: Text,
    }
}

fn parse(reader: &mut OpReader<'_>, node: &Node) -> Option<ParsedOp> {
    let fields = reader.sink.fields::<Cancel>(node)?;
    Some(on_stream(reader.stream(&fields)?, |stream| Op::Cancel { stream }))
}
