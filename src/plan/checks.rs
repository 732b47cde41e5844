//! What a plan must hold against its scenario: blocks that leave something, rules that match and
//! do not contradict each other.

use std::sync::Arc;

use crate::diag::{Diagnostic, Label, Severity};
use crate::filter::Ast;
use crate::scenario::model::{Rule, Scenario};

use super::build::finding;
use super::condition::{Condition, Node};
use super::space::{RemoveKind, Space};
use super::walk::{Constraint, Effect, Found, Tally, Walk};
use super::{Exclusion, constraints, rule_kinds, rules};

/// What was found out on the way.
#[derive(Default)]
pub(super) struct Checked {
    pub(super) total: Tally,
    pub(super) exclusions: Vec<Exclusion>,
    pub(super) rule_cases: Vec<u64>,
}

pub(super) fn check(scenario: &Scenario, spaces: &[Space], strict_rules: bool, out: &mut Vec<Diagnostic>) -> Checked {
    let kinds = rule_kinds(scenario);
    let mut pending = contradicting(&scenario.rules);
    let mut checked = Checked { rule_cases: vec![0; scenario.rules.len()], ..Checked::default() };
    let mut live = vec![0_u64; scenario.rules.len()];
    let mut per_block = vec![Tally::default(); scenario.blocks.len()];
    for space in spaces {
        let constraints = constraints(space);
        let walk = Walk::new(space, &constraints, &kinds).with_conflicts(pending.clone());
        let Ok((tally, found)) = walk.run() else {
            out.push(too_large(space));
            return checked;
        };
        per_block[space.block].add(tally);
        checked.total.add(tally);
        for (sums, own) in [(&mut checked.rule_cases, &found.rule_cases), (&mut live, &found.rule_live)] {
            for (sum, own) in sums.iter_mut().zip(own) {
                *sum = sum.saturating_add(*own);
            }
        }
        for (a, b, row) in &found.conflicts {
            pending[*a][*b / 64] &= !(1 << (*b % 64));
            out.push(contradiction(&scenario.rules[*a], &scenario.rules[*b], &space.id(row)));
        }
        removed(scenario, space, &found, &mut checked, out);
    }
    for (block, _) in per_block.iter().enumerate().filter(|(_, tally)| tally.cases == 0) {
        empty(scenario, block, spaces, &checked, out);
    }
    // Where nothing is left, that no rule matches says nothing.
    if checked.total.cases > 0 {
        for (number, rule) in scenario.rules.iter().enumerate() {
            if checked.rule_cases[number] == 0 {
                out.push(unmatched(rule, spaces, strict_rules));
            } else if live[number] == 0 {
                out.push(finding(
                    Severity::Note,
                    "rule-never-applies",
                    Some(rule.when.span),
                    "only cases that cannot be asked",
                    format!("every case that rule `{}` is about is unsupported by its peers anyway", rule.id),
                    Some("remove the rule, or the gap in the peer's `provides`".into()),
                ));
            }
        }
    }
    checked
}

fn too_large(space: &Space) -> Diagnostic {
    let sizes =
        space.dims.iter().map(|dim| format!("{} {}", dim.values.len(), dim.axis)).collect::<Vec<_>>().join(" × ");
    finding(
        Severity::Error,
        "plan-too-large",
        space.span,
        "this product",
        format!("a block of the matrix is too large to be counted: {sizes}"),
        Some("split it into blocks, or leave axes out".into()),
    )
}

/// Bit `j` of row `i`: rules `i < j` expect different things and can be in force together.
fn contradicting(rules: &[Rule]) -> Vec<Vec<u64>> {
    let mut pairs = vec![vec![0_u64; rules.len().div_ceil(64)]; rules.len()];
    for (i, a) in rules.iter().enumerate() {
        for (j, b) in rules.iter().enumerate().skip(i + 1) {
            if !rules::agree(a, b) && rules::can_coincide(a, b) {
                pairs[i][j / 64] |= 1 << (j % 64);
            }
        }
    }
    pairs
}

fn contradiction(a: &Rule, b: &Rule, case: &str) -> Diagnostic {
    let label = |rule: &Rule| Label {
        span: rule.span,
        text: format!("`{}` expects {}", rule.id, rules::outcome_in_words(rule)),
    };
    Diagnostic {
        code: "contradicting-rules",
        severity: Severity::Error,
        message: format!("rules `{}` and `{}` expect different things of `{case}`", a.id, b.id),
        labels: vec![label(b), label(a)],
        help: Some(
            "narrow one `when`, or give both the same outcome, phase and match, or `versions` that exclude each other"
                .into(),
        ),
    }
}

/// Turns what a walk removed into exclusions, and warns of excludes without effect.
fn removed(scenario: &Scenario, space: &Space, found: &Found, checked: &mut Checked, out: &mut Vec<Diagnostic>) {
    for (number, remove) in space.removes.iter().enumerate() {
        let cases = found.removed.get(number).copied().unwrap_or(0);
        if remove.kind == RemoveKind::Exclude
            && cases == 0
            && first_row(space, &[Constraint { node: &remove.node, effect: Effect::Keep }]).is_none()
        {
            out.push(finding(
                Severity::Warning,
                "exclude-matches-nothing",
                remove.span,
                "no row of the block",
                format!("an `exclude` matches no row: `{}`", remove.text),
                Some(match remove.node {
                    Node::Constant(_) => "the block does not have what it names: remove it".into(),
                    _ => "remove it".into(),
                }),
            ));
        }
        if cases > 0 || remove.kind == RemoveKind::Exclude {
            checked.exclusions.push(Exclusion {
                kind: remove.kind,
                block: space.block_name.clone(),
                text: remove.text.clone(),
                reason: remove.reason.clone(),
                place: remove
                    .span
                    .filter(|span| scenario.sources.get(span.source).is_some())
                    .map(|span| scenario.sources.place(span)),
                cases,
            });
        }
    }
}

/// Some row of a space for which constraints hold.
pub(super) fn first_row(space: &Space, constraints: &[Constraint<'_>]) -> Option<Vec<super::condition::Index>> {
    Walk::new(space, constraints, &[]).only_first().run().ok()?.1.first
}

/// A block that leaves no case, with what each constraint took.
fn empty(scenario: &Scenario, block: usize, spaces: &[Space], checked: &Checked, out: &mut Vec<Diagnostic>) {
    let mut labels = Vec::new();
    for remove in spaces.iter().filter(|space| space.block == block).flat_map(|space| &space.removes) {
        let place = remove.span.filter(|span| scenario.sources.get(span.source).is_some());
        let taken = checked
            .exclusions
            .iter()
            .find(|exclusion| exclusion.text == remove.text && exclusion.reason == remove.reason);
        if let (Some(span), Some(exclusion)) = (place, taken)
            && exclusion.cases > 0
        {
            let rows = if exclusion.cases == 1 { "1 row".to_owned() } else { format!("{} rows", exclusion.cases) };
            labels.push(Label { span, text: format!("leaves out {rows}: {}", remove.reason) });
        }
    }
    let name =
        scenario.blocks[block].name.as_ref().map_or_else(|| "the matrix".to_owned(), |name| format!("block `{name}`"));
    out.push(Diagnostic {
        code: "empty-matrix",
        severity: Severity::Error,
        message: format!("{name} leaves no case"),
        labels,
        help: Some("loosen a constraint, or add a value or an `include` row".into()),
    });
}

fn unmatched(rule: &Rule, spaces: &[Space], strict_rules: bool) -> Diagnostic {
    let severity = if rule.included && !strict_rules { Severity::Note } else { Severity::Error };
    let why = culprits(rule, spaces);
    finding(
        severity,
        "rule-matches-nothing",
        Some(rule.when.span),
        "matches no case",
        format!("rule `{}` matches no case of the plan", rule.id),
        Some(why.unwrap_or_else(|| "each part matches cases, but no case meets all of them".into())),
    )
}

/// Which parts of a rule's `when` match nothing by themselves.
fn culprits(rule: &Rule, spaces: &[Space]) -> Option<String> {
    let parts: Vec<&Ast> = match rule.when.ast() {
        Ast::And(members) => members.iter().collect(),
        other => vec![other],
    };
    let alone: Vec<String> = parts
        .into_iter()
        .filter(|part| {
            let condition = Condition::Expr(Arc::new(rule.when.part(part)));
            !spaces.iter().any(|space| {
                let node = condition.compile(space);
                let mut constraints: Vec<Constraint<'_>> = space
                    .removes
                    .iter()
                    .enumerate()
                    .map(|(number, remove)| Constraint { node: &remove.node, effect: Effect::Remove(number) })
                    .collect();
                constraints.push(Constraint { node: &node, effect: Effect::Keep });
                first_row(space, &constraints).is_some()
            })
        })
        .map(|part| format!("`{part}`"))
        .collect();
    if alone.is_empty() { None } else { Some(format!("no case has {}", alone.join(" or "))) }
}
