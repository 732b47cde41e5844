//! `test`: a test of the client program's own, whose outcome is the verdict.

use super::{OpDef, OpReader, ParsedOp};
use crate::scenario::model::Op;
use crate::scenario::schema::{Span, Text, shape};
use crate::scenario::yaml::Node;

pub(super) const OP: OpDef = OpDef {
    name: "test",
    about: "a test of the client program's own: its exit status and output are the verdict",
    expects: &[],
    parse,
    schema: |generator| generator.subschema_for::<Test>(),
};

shape! {
    /// Runs a test that the client program brings along.
    Test is "`test`" {
        /// Its name, `{{ test }}` in the program's arguments; the script's when left out.
        name: Option<Text>,
        /// Budget; the op timeout when left out.
        within: Option<Span>,
    }
}

fn parse(reader: &mut OpReader<'_>, node: &Node) -> Option<ParsedOp> {
    let fields = reader.sink.fields::<Test>(node)?;
    let name = fields.get(reader.sink, "name").and_then(|node| {
        reader.scope.list(reader.sink, node);
        reader.sink.text(node, "`name`").map(|text| text.value)
    });
    let within = reader.within(&fields);
    Some(ParsedOp::of(Op::Test { name, within }))
}
