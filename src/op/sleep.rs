//! `sleep`: waits for nothing but the clock, which is why it has to say why.

use std::time::Duration;

use super::{OpDef, OpReader, ParsedOp};
use crate::scenario::model::Op;
use crate::scenario::schema::{Span, Text, shape};
use crate::scenario::yaml::Node;

/// The longest sleep.
const MAX: Duration = Duration::from_mins(1);

pub(super) const OP: OpDef = OpDef {
    name: "sleep",
    about: "waits for the clock, where there is nothing else to wait for",
    expects: &[],
    parse,
    schema: |generator| generator.subschema_for::<Sleep>(),
};

shape! {
    /// Waits; counts against the case's timeout.
    Sleep is "`sleep`" {
        /// How long, at most a minute.
        time as "for": Span,
        /// Why there is nothing else to wait for.
        reason: Text,
    }
}

fn parse(reader: &mut OpReader<'_>, node: &Node) -> Option<ParsedOp> {
    let fields = reader.sink.fields::<Sleep>(node)?;
    let time = fields.require(reader.sink, "for", "say how long: `for: 50ms`");
    let help = "say why there is nothing else to wait for: `reason: the lease of 50 ms must run out`";
    let reason = fields.require(reader.sink, "reason", help);
    let time = time?;
    let pause = reader.sink.duration(time, "`for`");
    let reason = reader.sink.text(reason?, "`reason`")?;
    let pause = pause?;
    if pause > MAX {
        let message = format!("`sleep` is for at most {} s", MAX.as_secs());
        reader.sink.error("out-of-range", time.span, message, "too long", "wait for what happens instead");
    }
    Some(ParsedOp::of(Op::Sleep { pause, reason: reason.value }))
}
