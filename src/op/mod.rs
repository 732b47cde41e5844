//! The table of ops: what a step of a script can do. L1: reads the shared model and the tree reader
//! of `scenario`; read by `scenario` and the schema.
//!
//! An op is one file with one [`OpDef`] and one line in [`table`]. Ops that a service declares
//! (`put`, `get`) are not in the table: their names are the user's, see `named`.

mod call;
mod cancel;
mod connect;
mod end;
mod expect;
mod half_close;
mod named;
mod nest;
mod open;
mod options;
mod receive;
mod send;
mod server;
mod sleep;
mod stdio;
mod step;
mod test;

use schemars::{Schema, SchemaGenerator};

use crate::diag::{Span, Spanned};
use crate::scenario::decode::{Fields, Sink};
use crate::scenario::model::Op;
use crate::scenario::scope::Scope;
use crate::scenario::yaml::Node;

pub use expect::OPERATORS;
pub(crate) use step::{Noted, SIBLINGS, StepForm, Vocabulary, parse_step};

/// One op of the table.
pub(crate) struct OpDef {
    /// Its name, the key of a step.
    pub(crate) name: &'static str,
    /// One sentence for people.
    pub(crate) about: &'static str,
    /// Which fields of `expect` have a meaning for it.
    pub(crate) expects: &'static [&'static str],
    /// Reads its value.
    pub(crate) parse: fn(&mut OpReader<'_>, &Node) -> Option<ParsedOp>,
    /// The schema of its value.
    pub(crate) schema: fn(&mut SchemaGenerator) -> Schema,
}

static TABLE: [OpDef; 14] = [
    call::OP,
    open::OP,
    send::OP,
    receive::OP,
    half_close::OP,
    cancel::OP,
    end::OP,
    stdio::OP,
    test::OP,
    nest::PARALLEL,
    nest::REPEAT,
    sleep::OP,
    server::OP,
    connect::OP,
];

/// All ops of the engine.
pub(crate) fn table() -> &'static [OpDef] {
    &TABLE
}

/// What reading an op needs.
pub(crate) struct OpReader<'a> {
    /// Where problems go.
    pub(crate) sink: &'a mut Sink,
    /// Names that its templates may use.
    pub(crate) scope: &'a mut Scope,
    /// The ops that services declare.
    pub(crate) ops: &'a Vocabulary<'a>,
    /// How many steps it is inside of.
    pub(crate) nesting: usize,
}

/// An op with the places of what is checked against the rest of the scenario.
pub(crate) struct ParsedOp {
    /// The op.
    pub(crate) op: Op,
    /// The method that it names.
    pub(crate) method: Option<Spanned<String>>,
    /// The stream that it names.
    pub(crate) stream: Option<Spanned<String>>,
    /// The connection that it makes.
    pub(crate) connects: Option<Spanned<String>>,
    /// The steps inside of it, by branch.
    pub(crate) inner: Vec<Vec<Noted>>,
}

impl ParsedOp {
    /// An op that names nothing.
    const fn of(op: Op) -> Self {
        Self { op, method: None, stream: None, connects: None, inner: Vec::new() }
    }
}

impl OpReader<'_> {
    /// The stream that an op is about.
    fn stream(&mut self, fields: &Fields<'_>) -> Option<Spanned<String>> {
        let node = fields.require(self.sink, "stream", "name the stream that an `open` of this script opened")?;
        self.sink.text(node, "`stream`")
    }

    /// The budget of an op that waits.
    fn within(&mut self, fields: &Fields<'_>) -> Option<std::time::Duration> {
        let node = fields.get(self.sink, "within")?;
        self.sink.duration(node, "`within`")
    }
}

/// An op that is about one stream and nothing else.
fn on_stream(stream: Spanned<String>, op: impl FnOnce(String) -> Op) -> ParsedOp {
    ParsedOp { stream: Some(stream.clone()), ..ParsedOp::of(op(stream.value)) }
}

/// A span for tests and for spans that cover two others.
fn join(first: Span, last: Span) -> Span {
    Span { source: first.source, start: first.start, end: last.end.max(first.end) }
}
