//! Turns the blocks of a scenario into spaces, and says what is wrong with them on the way.

use std::sync::Arc;

use indexmap::IndexMap;

use crate::axis;
use crate::diag::{Diagnostic, Label, Severity, SourceId, Span};
use crate::filter::{self, Expr};
use crate::scenario::model::{Affects, Axis, AxisValue, Block, IncludeRow, Scenario, Script};

use super::capability::Asker;
use super::condition::{Condition, Dims, Index, Node, UNBOUND};
use super::space::{Dim, DimValue, Remove, RemoveKind, SCRIPT, Space};

/// Axes without which nothing can be run.
const REQUIRED: [&str; 3] = ["client", "server", "service"];

/// A finding with its primary place.
pub(super) fn finding(
    severity: Severity,
    code: &'static str,
    span: Option<Span>,
    label: &str,
    message: String,
    help: Option<String>,
) -> Diagnostic {
    let labels = span.map(|span| Label { span, text: label.to_owned() }).into_iter().collect();
    Diagnostic { code, severity, message, labels, help }
}

/// All spaces of a scenario in plan order.
pub(super) fn spaces(scenario: &Scenario, out: &mut Vec<Diagnostic>) -> Vec<Space> {
    let name: Arc<str> = scenario.name.as_str().into();
    let mut spaces: Vec<Space> = Vec::new();
    for (position, block) in scenario.blocks.iter().enumerate() {
        let builder = Builder { scenario, block, position, name: &name };
        let mut own: Vec<Space> = builder.product(out).into_iter().collect();
        own.extend(block.include.iter().enumerate().filter_map(|(row, include)| builder.include(row, include, out)));
        for mut space in own {
            let node = Node::or(
                spaces.iter().map(|earlier| contained(earlier).compile_of(&space, earlier.block_name.as_deref())),
            );
            if !matches!(node, Node::Constant(false)) {
                space.removes.push(Remove {
                    kind: RemoveKind::Duplicate,
                    text: String::new(),
                    reason: "the same case is already in an earlier block or row".to_owned(),
                    span: space.span,
                    condition: None,
                    node,
                });
            }
            spaces.push(space);
        }
    }
    let shown = shown_axes(&spaces);
    for space in &mut spaces {
        space.shown = shown.iter().filter_map(|axis| space.dim(axis)).collect();
        space.unsupported = Asker { scenario }.unsupported(space);
        space.rules =
            scenario.rules.iter().map(|rule| Condition::Expr(Arc::clone(&rule.when)).compile(space)).collect();
    }
    spaces
}

struct Builder<'a> {
    scenario: &'a Scenario,
    block: &'a Block,
    position: usize,
    name: &'a Arc<str>,
}

impl Builder<'_> {
    fn product(&self, out: &mut Vec<Diagnostic>) -> Option<Space> {
        let before = out.len();
        let mut dims: Vec<Dim> = self.block.axes.iter().map(|axis| self.axis(axis)).collect();
        for axis in REQUIRED {
            if !dims.iter().any(|dim| dim.axis == axis) {
                out.push(finding(
                    Severity::Error,
                    "missing-axis",
                    self.span(),
                    "in this block",
                    format!("a block of the matrix has no axis `{axis}`"),
                    Some(format!("name at least one {axis}")),
                ));
            }
        }
        for dim in &dims {
            if dim.values.is_empty() {
                out.push(finding(
                    Severity::Error,
                    "empty-axis",
                    dim.span,
                    "no values",
                    format!("axis `{}` has no values", dim.axis),
                    Some("name at least one, or leave the axis out".into()),
                ));
            }
            if dim.values.len() >= usize::from(UNBOUND) {
                out.push(finding(
                    Severity::Error,
                    "plan-too-large",
                    dim.span,
                    "too many values",
                    format!(
                        "axis `{}` has {} values, at most {} are possible",
                        dim.axis,
                        dim.values.len(),
                        UNBOUND - 1
                    ),
                    None,
                ));
            }
        }
        if dims.len() + 1 >= Dims::MAX {
            out.push(finding(
                Severity::Error,
                "plan-too-large",
                dims.last().and_then(|dim| dim.span),
                "one too many",
                format!("a block has {} axes, at most {} are possible", dims.len(), Dims::MAX - 2),
                None,
            ));
        }
        sort(&mut dims, out);
        let scripts = self.scripts();
        if scripts.values.is_empty() {
            out.push(finding(
                Severity::Error,
                "no-scripts",
                self.span(),
                "in this block",
                "a block of the matrix runs no script".into(),
                Some("add a script under `scripts`".into()),
            ));
        }
        dims.push(scripts);
        let failed = out[before..].iter().any(|diagnostic| diagnostic.severity == Severity::Error);
        if failed { None } else { Some(self.space(dims, None, self.span(), &self.block.exclude_conditions())) }
    }

    fn span(&self) -> Option<Span> {
        self.block.axes.first().map(|axis| axis.span)
    }

    fn axis(&self, axis: &Axis) -> Dim {
        Dim {
            axis: axis.name.clone(),
            values: axis.values.iter().map(|value| DimValue::new(&axis.name, value, self.scenario)).collect(),
            condition: axis.applies.clone(),
            applies: Node::Constant(true),
            affects: axis.affects,
            span: Some(axis.span),
        }
    }

    fn own_scripts(&self) -> impl Iterator<Item = &Arc<Script>> {
        self.block.scripts.iter().filter_map(|name| self.scenario.scripts.get(name))
    }

    fn scripts(&self) -> Dim {
        Dim {
            axis: SCRIPT.to_owned(),
            values: self.own_scripts().map(|script| DimValue::script(script)).collect(),
            condition: None,
            applies: Node::Constant(true),
            affects: Affects::Call,
            span: None,
        }
    }

    fn include(&self, position: usize, row: &IncludeRow, out: &mut Vec<Diagnostic>) -> Option<Space> {
        let mut values: IndexMap<String, AxisValue> = row.values.clone();
        for name in REQUIRED {
            if values.contains_key(name) {
                continue;
            }
            // The one peer or service of a block goes without saying.
            let only = self.block.axes.iter().find(|axis| axis.name == name).filter(|axis| axis.values.len() == 1);
            let Some(value) = only.and_then(|axis| axis.values.first()) else {
                out.push(finding(
                    Severity::Error,
                    "incomplete-include",
                    Some(row.span),
                    "this row",
                    format!("an `include` row names no `{name}`"),
                    Some(format!("the block has several, so add `{name}: …`")),
                ));
                return None;
            };
            values.insert(name.to_owned(), value.clone());
        }
        let rank = |name: &str| axis::table().iter().position(|def| def.name == name).unwrap_or(usize::MAX);
        values.sort_by(|a, _, b, _| rank(a).cmp(&rank(b)));
        let mut dims: Vec<Dim> = values.iter().map(|(name, value)| self.include_dim(name, value, row.span)).collect();
        dims.push(self.scripts());
        let space = self.space(dims, Some(position), Some(row.span), &[]);
        self.check_include(&space, &values, row.span, out);
        Some(space)
    }

    fn include_dim(&self, name: &str, value: &AxisValue, span: Span) -> Dim {
        let declared = self.block.axes.iter().find(|axis| axis.name == name).map(|axis| axis.affects);
        Dim {
            axis: name.to_owned(),
            values: vec![DimValue::new(name, value, self.scenario)],
            condition: None,
            applies: Node::Constant(true),
            affects: declared.or_else(|| axis::find(name).map(|def| def.affects)).unwrap_or(Affects::Server),
            span: Some(span),
        }
    }

    /// An `include` row says what it wants; what has no meaning there is a mistake.
    fn check_include(
        &self,
        space: &Space,
        values: &IndexMap<String, AxisValue>,
        span: Span,
        out: &mut Vec<Diagnostic>,
    ) {
        let row: Vec<Index> = vec![0; space.dims.len()];
        for name in values.keys() {
            let declared = self.block.axes.iter().find(|axis| axis.name == *name).and_then(|axis| axis.applies.clone());
            let condition = declared.or_else(|| table_condition(axis::find(name)?.applies?));
            if let Some(condition) = condition
                && !Condition::Expr(Arc::clone(&condition)).compile(space).holds(space, &row)
            {
                out.push(finding(
                    Severity::Error,
                    "meaningless-include",
                    Some(span),
                    "this row",
                    format!("axis `{name}` does not apply to an `include` row that names it"),
                    Some(format!("it applies only where `{}`", condition.text)),
                ));
            }
        }
        for remove in space
            .removes
            .iter()
            .filter(|remove| remove.kind == RemoveKind::Meaningless && remove.node.holds(space, &row))
        {
            out.push(finding(
                Severity::Error,
                "meaningless-include",
                Some(span),
                "this row",
                format!("an `include` row has no meaning: {}", remove.reason),
                None,
            ));
        }
    }

    fn space(
        &self,
        dims: Vec<Dim>,
        include: Option<usize>,
        span: Option<Span>,
        excludes: &[(Condition, String, String, Span)],
    ) -> Space {
        let mut key_order: Vec<usize> = (0..dims.len()).collect();
        key_order.sort_by(|a, b| dims[*a].axis.cmp(&dims[*b].axis));
        let mut space = Space {
            scenario: Arc::clone(self.name),
            block: self.position,
            block_name: self.block.name.clone(),
            include,
            span,
            dims,
            scripts: self.own_scripts().cloned().collect(),
            removes: Vec::new(),
            unsupported: Vec::new(),
            rules: Vec::new(),
            key_order,
            shown: Vec::new(),
        };
        for dim in 0..space.dims.len() {
            if let Some(condition) = space.dims[dim].condition.clone() {
                space.dims[dim].applies = Condition::Expr(condition).compile(&space);
            }
        }
        let mut removes = meaningless(&space);
        for (condition, text, reason, span) in excludes {
            removes.push(removal(
                &space,
                RemoveKind::Exclude,
                condition.clone(),
                text.clone(),
                reason.clone(),
                Some(*span),
            ));
        }
        removes.extend(self.script_conditions(&space));
        removes.retain(|remove| remove.kind == RemoveKind::Exclude || !matches!(remove.node, Node::Constant(false)));
        space.removes = removes;
        space
    }

    fn script_conditions(&self, space: &Space) -> Vec<Remove> {
        self.own_scripts()
            .filter_map(|script| {
                let when = script.when.as_ref()?;
                let condition = Condition::All(vec![
                    Condition::OneOf(SCRIPT.to_owned(), vec![script.name.clone()]),
                    Condition::Not(Box::new(Condition::Expr(Arc::clone(when)))),
                ]);
                let text = format!("script == {} and not ({})", script.name, when.text);
                let reason = format!("script `{}` runs only where `{}`", script.name, when.text);
                Some(removal(space, RemoveKind::Script, condition, text, reason, Some(when.span)))
            })
            .collect()
    }
}

/// Puts an axis behind those that its condition names, and otherwise changes nothing.
fn sort(dims: &mut Vec<Dim>, out: &mut Vec<Diagnostic>) {
    let mut left = std::mem::take(dims);
    while !left.is_empty() {
        let waits = |dim: &Dim| {
            let names = dim.condition.as_ref().map(|condition| condition.names()).unwrap_or_default();
            names.iter().any(|name| left.iter().any(|other| other.axis == *name))
        };
        if let Some(next) = left.iter().position(|dim| !waits(dim)) {
            dims.push(left.remove(next));
        } else {
            let names = left.iter().map(|dim| format!("`{}`", dim.axis)).collect::<Vec<_>>().join(", ");
            out.push(finding(
                Severity::Error,
                "circular-applies",
                left[0].span,
                "whether it applies depends on itself",
                format!("whether the axes {names} apply depends on each other"),
                Some("let `applies` name only axes that do not depend on this one".into()),
            ));
            dims.append(&mut left);
        }
    }
    if let Some(dim) =
        dims.iter().find(|dim| dim.condition.as_ref().is_some_and(|condition| condition.names().contains(&SCRIPT)))
    {
        out.push(finding(
            Severity::Error,
            "circular-applies",
            dim.span,
            "depends on the script",
            format!("whether axis `{}` applies cannot depend on the script", dim.axis),
            Some("use `when` of the script".into()),
        ));
    }
}

/// Values of the axis table that have a condition of their own.
fn meaningless(space: &Space) -> Vec<Remove> {
    let mut removes = Vec::new();
    for dim in &space.dims {
        for def in axis::find(&dim.axis).into_iter().flat_map(|def| def.values) {
            let Some((text, why)) = def.applies else { continue };
            let Some(condition) = table_condition(text) else { continue };
            let names: Vec<String> =
                dim.values.iter().filter(|value| value.means == def.name).map(|value| value.name.clone()).collect();
            if names.is_empty() {
                continue;
            }
            let span = dim.values.iter().find(|value| value.means == def.name).and_then(|value| value.span);
            let text = format!("{} == {} and not ({text})", dim.axis, names.join(", "));
            let condition = Condition::All(vec![
                Condition::OneOf(dim.axis.clone(), names),
                Condition::Not(Box::new(Condition::Expr(condition))),
            ]);
            removes.push(removal(space, RemoveKind::Meaningless, condition, text, why.to_owned(), span));
        }
    }
    removes
}

fn removal(
    space: &Space,
    kind: RemoveKind,
    condition: Condition,
    text: String,
    reason: String,
    span: Option<Span>,
) -> Remove {
    let node = condition.compile(space);
    Remove { kind, text, reason, span, condition: Some(condition), node }
}

impl Block {
    fn exclude_conditions(&self) -> Vec<(Condition, String, String, Span)> {
        self.exclude
            .iter()
            .map(|exclude| {
                (
                    Condition::Expr(Arc::clone(&exclude.when)),
                    exclude.when.text.clone(),
                    exclude.reason.clone(),
                    exclude.span,
                )
            })
            .collect()
    }
}

/// A condition of the axis table; a test parses them all.
fn table_condition(text: &str) -> Option<Arc<Expr>> {
    filter::parse(SourceId(u32::MAX), 0, text).ok().map(Arc::new)
}

/// That a row of another space is a row of this one too, or of one before it: what this one leaves
/// out as duplicates, earlier ones have.
fn contained(space: &Space) -> Condition {
    let mut all = Vec::new();
    for dim in &space.dims {
        let names = dim.values.iter().map(|value| value.name.clone()).collect();
        let listed = Condition::OneOf(dim.axis.clone(), names);
        all.push(match &dim.condition {
            None => listed,
            Some(condition) => {
                let applies = Condition::Expr(Arc::clone(condition));
                Condition::Any(vec![
                    Condition::All(vec![applies.clone(), listed]),
                    Condition::All(vec![Condition::Not(Box::new(applies)), Condition::Unset(dim.axis.clone())]),
                ])
            }
        });
    }
    all.push(Condition::OnlyAxes(space.dims.iter().map(|dim| dim.axis.clone()).collect()));
    let removed = space.removes.iter().filter_map(|remove| remove.condition.clone());
    all.extend(removed.map(|condition| Condition::Not(Box::new(condition))));
    Condition::All(all)
}

/// Axes that ids show: client and server, and those that have not the same single value in every
/// space. An axis that is left out is a function of those that are shown, so ids stay unique.
fn shown_axes(spaces: &[Space]) -> Vec<String> {
    let mut axes: Vec<&str> = Vec::new();
    for dim in spaces.iter().flat_map(|space| &space.dims) {
        if dim.axis != SCRIPT && !axes.contains(&dim.axis.as_str()) {
            axes.push(&dim.axis);
        }
    }
    let rank = |name: &str| axis::table().iter().position(|def| def.name == name).unwrap_or(usize::MAX);
    // Users' own axes by name: an id must not change when a file is put in another order.
    axes.sort_by_key(|axis| (rank(axis), *axis));
    let single = |axis: &str| {
        let mut values = spaces.iter().map(|space| {
            let dim = &space.dims[space.dim(axis)?];
            // Where it depends on another axis whether it applies, all spaces must say the same of it.
            let only = if dim.values.len() == 1 { dim.values.first() } else { None };
            only.map(|value| (&value.name, dim.condition.as_ref().map(|condition| &condition.text)))
        });
        let first = values.next().flatten();
        first.is_some() && values.all(|value| value == first)
    };
    axes.retain(|axis| matches!(*axis, "client" | "server") || !single(axis));
    axes.into_iter().map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_conditions_of_the_axis_table_are_expressions_that_hold_somewhere() {
        let domain = filter::Domain::builtin().without_case();
        for def in axis::table() {
            let own = def
                .applies
                .into_iter()
                .chain(def.values.iter().filter_map(|value| value.applies.map(|(text, _)| text)));
            for text in own {
                let expr = table_condition(text).unwrap();
                assert!(expr.check(&domain).is_empty(), "{}: {text}", def.name);
            }
        }
    }
}
