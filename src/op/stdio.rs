//! `stdio`: what the plugin printed after its handshake line, as its host received it.

use super::{OpDef, OpReader, ParsedOp};
use crate::scenario::model::Op;
use crate::scenario::schema::{Span, shape};
use crate::scenario::yaml::Node;

pub(super) const OP: OpDef = OpDef {
    name: "stdio",
    about: "what the plugin printed, as its host received it by GRPCStdio",
    expects: &["stdout", "stderr"],
    parse,
    schema: |generator| generator.subschema_for::<Stdio>(),
};

shape! {
    /// Waits for output of the plugin.
    Stdio is "`stdio`" {
        /// Budget; the op timeout when left out.
        within: Option<Span>,
    }
}

fn parse(reader: &mut OpReader<'_>, node: &Node) -> Option<ParsedOp> {
    let fields = reader.sink.fields::<Stdio>(node)?;
    let within = reader.within(&fields);
    Some(ParsedOp::of(Op::Stdio { within }))
}
