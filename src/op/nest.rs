//! `parallel` and `repeat`: ops made of steps.

use schemars::{JsonSchema, Schema, SchemaGenerator};

use super::{Noted, OpDef, OpReader, ParsedOp, StepForm, parse_step};
use crate::scenario::model::{Branches, Op, Step};
use crate::scenario::schema::shape;
use crate::scenario::scope::Scope;
use crate::scenario::yaml::{Kind, Node};

/// Branches of one `parallel`.
const MAX_BRANCHES: i64 = 256;
/// Rounds of one `repeat`. The case's timeout ends most before that.
const MAX_ROUNDS: i64 = 100_000;
/// Steps within steps within steps.
const MAX_NESTING: usize = 4;

pub(super) const PARALLEL: OpDef = OpDef {
    name: "parallel",
    about: "branches that run at once; it ends when all have",
    expects: &[],
    parse: parallel,
    schema: |generator| generator.subschema_for::<BranchesForm>(),
};

pub(super) const REPEAT: OpDef = OpDef {
    name: "repeat",
    about: "goes through steps again and again; {{ round }} counts from 0",
    expects: &[],
    parse: repeat,
    schema: |generator| generator.subschema_for::<Repeat>(),
};

shape! {
    /// Steps, again and again.
    Repeat is "`repeat`" {
        /// How often, 1 to 100000.
        times: u32,
        /// The steps; `{{ round }}` counts from 0.
        ops: Vec<StepForm>,
    }
}

shape! {
    /// Branches that do the same.
    Same is "`parallel`" {
        /// How many branches, 1 to 256.
        times: u32,
        /// The steps of each; `{{ branch }}` counts from 0.
        ops: Vec<StepForm>,
    }
}

/// Branches written out, or one that is done several times at once.
struct BranchesForm;

impl JsonSchema for BranchesForm {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Branches".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let (same, each) = (generator.subschema_for::<Same>(), generator.subschema_for::<Vec<Vec<StepForm>>>());
        schemars::json_schema!({ "anyOf": [each, same] })
    }
}

fn parallel(reader: &mut OpReader<'_>, node: &Node) -> Option<ParsedOp> {
    let scope = reader.scope.clone().root("branch", []);
    if matches!(node.kind, Kind::Map(_)) {
        let fields = reader.sink.fields::<Same>(node)?;
        let times = fields.require(reader.sink, "times", "say how many branches: `times: 100`");
        let list = fields.require(reader.sink, "ops", "list the steps of each branch: `ops: [{ get: { key: a } }]`");
        let times = reader.sink.number(times?, "`times`", 1, MAX_BRANCHES);
        let (steps, noted) = reader.steps(list?, &mut scope.clone())?;
        let op = Op::Parallel(Branches::Same { times: u32::try_from(times?).ok()?, steps });
        return Some(ParsedOp { inner: vec![noted], ..ParsedOp::of(op) });
    }
    let lists = reader.sink.list(node, "`parallel`")?;
    if i64::try_from(lists.len()).is_ok_and(|n| !(1..=MAX_BRANCHES).contains(&n)) {
        let message = format!("`parallel` has {} branches, and it can have 1 to {MAX_BRANCHES}", lists.len());
        reader.sink.error("out-of-range", node.span, message, "these branches", "");
    }
    let (mut branches, mut inner) = (Vec::new(), Vec::new());
    for list in lists {
        // What a branch captures stays its own: its sisters run at the same time.
        if let Some((steps, noted)) = reader.steps(list, &mut scope.clone()) {
            branches.push(steps);
            inner.push(noted);
        }
    }
    Some(ParsedOp { inner, ..ParsedOp::of(Op::Parallel(Branches::Each(branches))) })
}

fn repeat(reader: &mut OpReader<'_>, node: &Node) -> Option<ParsedOp> {
    let fields = reader.sink.fields::<Repeat>(node)?;
    let times = fields.require(reader.sink, "times", "say how often: `times: 10`");
    let list = fields.require(reader.sink, "ops", "list its steps: `ops: [{ get: { key: a } }]`");
    let times = reader.sink.number(times?, "`times`", 1, MAX_ROUNDS);
    let (steps, noted) = reader.steps(list?, &mut reader.scope.clone().root("round", []))?;
    for name in steps.iter().flat_map(|step| step.capture.keys()) {
        reader.scope.open(name);
    }
    let op = Op::Repeat { times: u32::try_from(times?).ok()?, steps };
    Some(ParsedOp { inner: vec![noted], ..ParsedOp::of(op) })
}

impl OpReader<'_> {
    /// Steps inside of a step.
    fn steps(&mut self, list: &Node, scope: &mut Scope) -> Option<(Vec<Step>, Vec<Noted>)> {
        let items = self.sink.list(list, "`ops`")?;
        if items.is_empty() {
            self.sink.error("empty", list.span, "there are no steps in it", "it would do nothing", "");
        }
        if self.nesting == MAX_NESTING {
            let message = format!("steps are nested more than {MAX_NESTING} deep");
            let help = "make the inner ones a script of their own";
            self.sink.error("too-deep", list.span, message, "too deep", help);
            return None;
        }
        let (mut steps, mut noted) = (Vec::new(), Vec::new());
        for (position, item) in items.iter().enumerate() {
            let parsed = parse_step(self.sink, scope, self.ops, item, position, self.nesting + 1)?;
            steps.push(parsed.step);
            noted.push(parsed.noted);
        }
        Some((steps, noted))
    }
}
