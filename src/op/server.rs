//! `server`: ends and starts the case's server as a process.

use schemars::{JsonSchema, Schema, SchemaGenerator};

use super::{OpDef, OpReader, ParsedOp};
use crate::scenario::model::{Op, ServerAct};
use crate::scenario::yaml::Node;

pub(super) const OP: OpDef = OpDef {
    name: "server",
    about: "ends the server's process (stop), starts it on the same folder (start), or both (restart)",
    expects: &[],
    parse,
    schema: |generator| generator.subschema_for::<Act>(),
};

const ACTS: &[&str] = &["stop", "start", "restart"];

/// What to do.
struct Act;

impl JsonSchema for Act {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "ServerAct".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        schemars::json_schema!({ "enum": ACTS })
    }
}

fn parse(reader: &mut OpReader<'_>, node: &Node) -> Option<ParsedOp> {
    let act = match reader.sink.word(node, "`server`", ACTS)? {
        "stop" => ServerAct::Stop,
        "start" => ServerAct::Start,
        _ => ServerAct::Restart,
    };
    Some(ParsedOp::of(Op::Server(act)))
}
