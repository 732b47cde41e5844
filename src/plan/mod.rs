//! Turns a resolved scenario into cases: product of axes, constraints, capabilities, rules,
//! selection. L2, pure: no clock, no I/O. Reads `scenario`, `filter`, `axis` and `outcome`; read by
//! `exec` and `cli`.
//!
//! A plan holds no cases. It holds [spaces](space), one per block of the matrix and per `include`
//! row, whose dimensions are the axes and, last, the scripts. [`Plan::cases`] goes through their
//! rows in order, [`Plan::count`] and the checks of [`Plan::new`] [count](walk) them by deciding
//! [conditions](condition) as early as the axes bound so far allow.
//!
//! What makes a case is its assignment of values to axes and its script. Its key is a hash of
//! these and of the scenario's name, and of nothing else, so it is the same on every machine and
//! in every order of axes and values. `include` rows are added as they are: `exclude` is not asked
//! about them.

mod build;
mod capability;
mod case;
mod cases;
mod checks;
mod condition;
mod rules;
mod select;
mod space;
mod walk;
mod why;

use std::fmt::Write as _;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::Serialize;
use xxhash_rust::xxh3::xxh3_128;

use crate::diag::{Diagnostic, Place, Severity};
use crate::filter::Domain;
use crate::outcome::Expected;
use crate::scenario::model::{Branches, Op, OpDef, Rule, Scenario, Step};

pub use capability::Missing;
pub use case::{Case, ChosenBy, Disposition, Lacking, OnlyReported};
pub use cases::Cases;
pub use rules::{Conflict, VoidRule, expected as expected_by, outcome_in_words};
pub use select::{Selection, Shard};
pub use space::RemoveKind;
pub use why::{Why, WhyAsk, WhyAxis, WhyConstraint, WhyRule};

use capability::Asker;
use space::{DimValue, Space};
use walk::{Constraint, Effect, RuleKind, Tally, Walk};

/// A scenario's cases. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Plan {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    scenario: Arc<Scenario>,
    spaces: Vec<Space>,
    domain: Domain,
    total: Tally,
    exclusions: Vec<Exclusion>,
    /// Cases per rule.
    rule_cases: Vec<u64>,
}

/// Cases by what becomes of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, JsonSchema)]
pub struct Counts {
    /// All that the selection wants.
    pub selected: u64,
    /// Of these, those that are executed.
    pub run: u64,
    /// Of these, those that are not: a capability is missing, or a rule says so.
    pub unsupported: u64,
    /// Of those executed, those of which a rule expects something else than a plain pass. Rules
    /// with `versions` count, although they may turn out to be void.
    pub known: u64,
}

impl From<Tally> for Counts {
    fn from(tally: Tally) -> Self {
        let Tally { cases, unsupported, known, .. } = tally;
        Self { selected: cases, run: cases.saturating_sub(unsupported), unsupported, known }
    }
}

/// Why rows are no cases.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Exclusion {
    /// What kind of constraint it is.
    pub kind: RemoveKind,
    /// The block, when it has a name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub block: Option<String>,
    /// The condition, as written where a user wrote it.
    #[serde(rename = "when")]
    pub text: String,
    /// Why.
    pub reason: String,
    /// Where it is written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub place: Option<Place>,
    /// How many rows are left out for it. A row is counted once, under one of the constraints that
    /// it meets.
    pub cases: u64,
}

impl Plan {
    /// Plans, and gives warnings and notes beside the plan. With `strict_rules`, a rule that
    /// matches no case is an error in included files too.
    ///
    /// # Errors
    /// A block that leaves no case, axes whose applicability is circular, `include` rows without
    /// meaning, rules that match no case (of the scenario's own file, or with `strict_rules`),
    /// rules that contradict each other on a case, a product too large to be counted.
    pub fn new(scenario: Arc<Scenario>, strict_rules: bool) -> Result<(Self, Vec<Diagnostic>), Vec<Diagnostic>> {
        let mut out = Vec::new();
        let spaces = build::spaces(&scenario, &mut out);
        let failed = |out: &[Diagnostic]| out.iter().any(|diagnostic| diagnostic.severity == Severity::Error);
        if failed(&out) {
            return Err(out);
        }
        let checked = checks::check(&scenario, &spaces, strict_rules, &mut out);
        if failed(&out) {
            return Err(out);
        }
        let checks::Checked { total, exclusions, rule_cases } = checked;
        let domain = domain(&scenario);
        Ok((Self { inner: Arc::new(Inner { scenario, spaces, domain, total, exclusions, rule_cases }) }, out))
    }

    /// What it was made from.
    #[must_use]
    pub fn scenario(&self) -> &Arc<Scenario> {
        &self.inner.scenario
    }

    /// What `--filter` can be about.
    #[must_use]
    pub fn domain(&self) -> &Domain {
        &self.inner.domain
    }

    /// The selected cases in plan order, one at a time.
    #[must_use]
    pub fn cases(&self, selection: &Selection) -> Cases {
        Cases::new(self.clone(), selection)
    }

    /// How many cases are selected, and what becomes of them.
    #[must_use]
    pub fn count(&self, selection: &Selection) -> Counts {
        if selection.is_all() {
            return self.inner.total.into();
        }
        let condition = selection.condition();
        let rules = rule_kinds(self.scenario());
        let mut total = Tally::default();
        for space in &self.inner.spaces {
            let keep = condition.compile(space);
            let mut constraints = constraints(space);
            constraints.push(Constraint { node: &keep, effect: Effect::Keep });
            // A filter only makes a walk shorter that went through in `new`.
            if let Ok((tally, _)) = Walk::new(space, &constraints, &rules).run() {
                total.add(tally);
            }
        }
        total.into()
    }

    /// Why rows of the matrix are no cases, each constraint with how many it took.
    #[must_use]
    pub fn exclusions(&self) -> &[Exclusion] {
        &self.inner.exclusions
    }

    /// Each rule with the number of cases that it is about, whatever their versions.
    pub fn rules(&self) -> impl Iterator<Item = (&Rule, u64)> {
        self.scenario().rules.iter().zip(self.inner.rule_cases.iter().copied())
    }

    /// The rules that are about a case, whatever their versions, in the order of the scenario.
    #[must_use]
    pub fn rules_for(&self, case: &Case) -> Vec<&Rule> {
        let space = self.space(case);
        let nodes = space.rules.iter().zip(&self.scenario().rules);
        nodes.filter(|(node, _)| node.holds(space, &case.row)).map(|(_, rule)| rule).collect()
    }

    /// What is expected of a case, given the versions of its peers: `versions(peer, component)`,
    /// where the peer's own component is `self`. A rule whose versions are not met, or not known,
    /// is void ([`Self::void_rules`] says which). A missing capability comes before every rule.
    ///
    /// # Errors
    /// Two rules in force that expect different outcomes. [`Self::new`] has already refused those
    /// that could be, so this is for callers that take no chances.
    pub fn expected(&self, case: &Case, versions: &dyn Fn(&str, &str) -> Option<String>) -> Result<Expected, Conflict> {
        if let Disposition::Unsupported(lacking) = self.disposition(case) {
            return Ok(Expected::Unsupported { rule: None, reason: lacking.to_string() });
        }
        let mut rules = self.rules_for(case);
        rules.retain(|rule| rules::void(rule, |role| self.peer_of(case, role), versions).is_none());
        let Some((first, others)) = rules.split_first() else { return Ok(Expected::Passed) };
        match others.iter().find(|other| !rules::agree(first, other)) {
            None => Ok(rules::expected(first)),
            Some(other) => Err(Conflict { first: first.id.clone(), second: other.id.clone(), case: self.id(case) }),
        }
    }

    /// The rules that would be about a case with other versions of its peers.
    #[must_use]
    pub fn void_rules(&self, case: &Case, versions: &dyn Fn(&str, &str) -> Option<String>) -> Vec<VoidRule> {
        let rules = self.rules_for(case).into_iter();
        rules
            .filter_map(|rule| {
                let reason = rules::void(rule, |role| self.peer_of(case, role), versions)?;
                Some(VoidRule { rule: rule.id.clone(), reason })
            })
            .collect()
    }

    /// A digest of what makes the cases: axes, values, constraints, scripts, ops of services and
    /// `vars`. Rules, capabilities and peers are not in it: they change what is expected, not what a
    /// case is.
    #[must_use]
    pub fn digest(&self) -> String {
        let mut text = String::new();
        for space in &self.inner.spaces {
            let _ = writeln!(text, "space {:?} {:?} {:?}", space.scenario, space.block_name, space.include);
            for dim in &space.dims {
                let _ =
                    writeln!(text, "axis {:?} {:?}", dim.axis, dim.condition.as_ref().map(|condition| &condition.text));
                for value in &dim.values {
                    let DimValue { name, means, facts, files, host, .. } = value;
                    let _ = writeln!(text, "value {name:?} {means:?} {facts:?} {files:?} {host:?}");
                }
            }
            for remove in &space.removes {
                let _ = writeln!(text, "remove {:?}", remove.text);
            }
        }
        for (name, script) in &self.scenario().scripts {
            let _ = writeln!(text, "script {name:?} {:?}", script.isolation);
            write_steps(&mut text, &script.steps);
        }
        for (name, service) in &self.scenario().services {
            let _ = writeln!(text, "service {name:?} {:?}", service.service);
            for (name, OpDef { method, args, send, yields, .. }) in &service.ops {
                let _ = writeln!(text, "op {name:?} {method:?} {args:?} {send} {yields:?}");
            }
        }
        for (name, value) in &self.scenario().vars {
            let _ = writeln!(text, "var {name:?} {value}");
        }
        format!("{:032x}", xxh3_128(text.as_bytes()))
    }

    fn asker(&self) -> Asker<'_> {
        Asker { scenario: self.scenario() }
    }

    fn place(&self, span: crate::diag::Span) -> Place {
        self.scenario().sources.place(span)
    }
}

/// Steps as they count for a digest: without their places in a file.
fn write_steps(text: &mut String, steps: &[Step]) {
    for step in steps {
        let expect = &step.expect;
        let message = expect.message.as_ref().map(|spanned| &spanned.value);
        let value = expect.value.as_ref().map(|spanned| &spanned.value);
        let code = expect.code.as_ref().map(|spanned| &spanned.value);
        let texts =
            [&expect.status_text, &expect.stdout, &expect.stderr].map(|text| text.as_ref().map(|text| &text.value));
        let checks: Vec<_> = step.checks.iter().map(|check| (&check.id, &check.path, &check.expected)).collect();
        let (op, on) = (op_text(&step.op), step.on.as_ref().map(|on| format!(" on {on:?}")).unwrap_or_default());
        let _ = writeln!(
            text,
            "step {:?} {op}{on} {value:?} {message:?} {code:?} {texts:?} {:?} {checks:?}",
            step.id, step.capture
        );
        let lists: Vec<&[Step]> = match &step.op {
            Op::Parallel(Branches::Each(branches)) => branches.iter().map(Vec::as_slice).collect(),
            Op::Parallel(Branches::Same { steps, .. }) | Op::Repeat { steps, .. } => vec![steps],
            _ => Vec::new(),
        };
        for steps in lists {
            text.push_str("in\n");
            write_steps(text, steps);
            text.push_str("out\n");
        }
    }
}

fn op_text(op: &Op) -> String {
    match op {
        Op::Parallel(Branches::Each(_)) => "parallel".to_owned(),
        Op::Parallel(Branches::Same { times, .. }) => format!("parallel {times}"),
        Op::Repeat { times, .. } => format!("repeat {times}"),
        other => format!("{other:?}"),
    }
}

/// Everything that is asked of the rows of a space, but for its rules.
fn constraints(space: &Space) -> Vec<Constraint<'_>> {
    let removes = space
        .removes
        .iter()
        .enumerate()
        .map(|(number, remove)| Constraint { node: &remove.node, effect: Effect::Remove(number) });
    let unsupported = space.unsupported.iter().map(|node| Constraint { node, effect: Effect::Unsupported });
    let rules = space.rules.iter().enumerate().map(|(number, node)| Constraint { node, effect: Effect::Rule(number) });
    removes.chain(unsupported).chain(rules).collect()
}

fn rule_kinds(scenario: &Scenario) -> Vec<RuleKind> {
    let unsupported = |rule: &Rule| rule.outcome == crate::scenario::model::RuleOutcome::Unsupported;
    scenario.rules.iter().map(|rule| RuleKind { unsupported: unsupported(rule) }).collect()
}

fn domain(scenario: &Scenario) -> Domain {
    let mut domain = Domain::of(
        &scenario.peers,
        &scenario.services,
        scenario.scripts.keys().map(String::as_str),
        scenario.blocks.iter().filter_map(|block| block.name.as_deref()),
        scenario.blocks.iter().flat_map(|block| &block.axes),
    );
    for row in scenario.blocks.iter().flat_map(|block| &block.include) {
        for (axis, value) in &row.values {
            domain.axis_value(axis, value);
        }
    }
    domain
}
