//! Where everything of a case comes from, and why a row is no case: `plan --why`.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::Serialize;

use crate::diag::{Place, Span};
use crate::filter::{Ast, Expr};

use super::capability::{Role, Support, roles};
use super::condition::{Condition, Index};
use super::space::{RemoveKind, SCRIPT, Space};
use super::{Case, Disposition, Plan, rules};

/// Where everything of a case comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Why {
    /// Its readable label.
    pub id: String,
    /// Its key.
    pub key: String,
    /// Its storage name.
    pub slug: String,
    /// Its block, when it has a name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub block: Option<String>,
    /// The `include` row that it comes from; absent for a row of the product.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub include: Option<Place>,
    /// Its axes and its script, in plan order; also those that do not apply.
    pub axes: Vec<WhyAxis>,
    /// Constraints of its block: what left it out, or what it would take to be left out.
    pub constraints: Vec<WhyConstraint>,
    /// Why its instances are its own, where its script leaves no choice.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub own_instances: Option<String>,
    /// What it asks of its peers.
    pub asks: Vec<WhyAsk>,
    /// Whether it is executed, as far as capabilities tell; absent where it is no case.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disposition: Option<Disposition>,
    /// The rules that are about it.
    pub rules: Vec<WhyRule>,
}

/// One axis of a case.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct WhyAxis {
    /// Its name.
    pub axis: String,
    /// Its value; absent where it does not apply.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// Where the value is written, or the axis where it does not apply.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub place: Option<Place>,
    /// The condition under which the axis applies.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub applies: Option<String>,
    /// Ids do not show it, since it has the same value everywhere.
    pub hidden: bool,
}

/// A constraint and the row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct WhyConstraint {
    /// What kind it is.
    pub kind: RemoveKind,
    /// The condition.
    pub when: String,
    /// Why it is there.
    pub reason: String,
    /// Where it is written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub place: Option<Place>,
    /// It leaves the row out.
    pub leaves_out: bool,
    /// The parts of the condition that the row does not meet.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unmet: Vec<String>,
}

/// Something that a case asks of a peer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct WhyAsk {
    /// The axis (or `script`) that asks.
    pub axis: String,
    /// The capability.
    pub capability: String,
    /// `client` or `server`.
    pub role: &'static str,
    /// The peer.
    pub peer: String,
    /// The declared capability that covers it; absent where none does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provided_by: Option<String>,
    /// Where that is declared.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub place: Option<Place>,
}

/// A rule that is about a case.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct WhyRule {
    /// Its id.
    pub id: String,
    /// Its `when`.
    pub when: String,
    /// Its outcome, as written.
    pub outcome: String,
    /// `client.grpcio <=1.85.1` and so on: it is void outside.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub versions: Vec<String>,
    /// Why.
    pub reason: String,
    /// Where it is written.
    pub place: Place,
}

pub(super) fn why(plan: &Plan, case: &Case) -> Why {
    let mut why = explain(plan, plan.space(case), &case.row);
    why.disposition = Some(plan.disposition(case));
    why
}

impl Plan {
    /// Where a row with this id comes from that is no case of the plan, and which constraints
    /// leave it out. `None` where no block has such a row at all.
    #[must_use]
    pub fn why_not(&self, id: &str) -> Option<Why> {
        self.inner.spaces.iter().find_map(|space| {
            let row = row_of_id(space, id)?;
            Some(explain(self, space, &row))
        })
    }
}

/// The row that an id names, read from its own text: `scenario/script[axis=value,…]`.
fn row_of_id(space: &Space, id: &str) -> Option<Vec<Index>> {
    let mut wanted = vec![(SCRIPT, id.strip_prefix(&*space.scenario)?.strip_prefix('/')?.split_once('[')?.0)];
    let inside = id.split_once('[')?.1.strip_suffix(']')?;
    wanted.extend(inside.split(',').filter_map(|part| part.split_once('=')));
    let condition =
        wanted.into_iter().map(|(axis, value)| Condition::OneOf(axis.to_owned(), vec![value.to_owned()])).collect();
    let keep = Condition::All(condition).compile(space);
    super::checks::first_row(space, &[super::Constraint { node: &keep, effect: super::Effect::Keep }])
        .filter(|row| space.id(row) == id)
}

fn explain(plan: &Plan, space: &Space, row: &[Index]) -> Why {
    let place = |span: Option<Span>| {
        span.filter(|span| plan.scenario().sources.get(span.source).is_some()).map(|span| plan.place(span))
    };
    let axes = space.dims.iter().enumerate().map(|(at, dim)| {
        let value = space.value(row, at);
        WhyAxis {
            axis: dim.axis.clone(),
            value: value.map(|value| value.name.clone()),
            place: place(value.map_or(dim.span, |value| value.span)),
            applies: dim.condition.as_ref().map(|condition| condition.text.clone()),
            hidden: dim.axis != SCRIPT && !space.shown.contains(&at),
        }
    });
    let constraints = space.removes.iter().map(|remove| WhyConstraint {
        kind: remove.kind,
        when: remove.text.clone(),
        reason: remove.reason.clone(),
        place: place(remove.span),
        leaves_out: remove.node.holds(space, row),
        unmet: match &remove.condition {
            Some(Condition::Expr(expr)) => unmet(expr, space, row),
            _ => Vec::new(),
        },
    });
    let scenario = plan.scenario();
    let rules = space.rules.iter().zip(&scenario.rules).filter(|(node, _)| node.holds(space, row));
    Why {
        id: space.id(row),
        key: format!("{:016x}", space.key(row)),
        slug: space.slug(row),
        block: space.block_name.clone(),
        include: space.include.and(place(space.span)),
        axes: axes.collect(),
        constraints: constraints.collect(),
        own_instances: own_instances(plan, space, row),
        asks: asks(plan, space, row),
        disposition: None,
        rules: rules
            .map(|(_, rule)| WhyRule {
                id: rule.id.clone(),
                when: rule.when.text.clone(),
                outcome: rules::outcome_in_words(rule),
                versions: rule
                    .versions
                    .iter()
                    .map(|(component, requirement)| format!("{component} {requirement}"))
                    .collect(),
                reason: rule.reason.clone(),
                place: plan.place(rule.span),
            })
            .collect(),
    }
}

/// The parts of a condition that a row does not meet: of an `and`, its members.
fn unmet(expr: &Expr, space: &Space, row: &[Index]) -> Vec<String> {
    let parts = match expr.ast() {
        Ast::And(members) => members.iter().collect(),
        other => vec![other],
    };
    let parts =
        parts.into_iter().filter(|part| !Condition::Expr(Arc::new(expr.part(part))).compile(space).holds(space, row));
    parts.map(ToString::to_string).collect()
}

fn own_instances(plan: &Plan, space: &Space, row: &[Index]) -> Option<String> {
    let script = plan.scenario().scripts.get(&space.value_of(row, SCRIPT)?.name)?;
    let why = if script.restarts() {
        "ends its server"
    } else if script.needs_own_instance() {
        "makes connections of its own"
    } else {
        return None;
    };
    Some(format!("the script `{}` {why}", script.name))
}

fn asks(plan: &Plan, space: &Space, row: &[Index]) -> Vec<WhyAsk> {
    let asker = plan.asker();
    let mut out = Vec::new();
    for (ask, lacking) in asker.asks(space, row) {
        // Only programs can be asked for less than any op.
        if ask.capability.starts_with("op.") && lacking.is_empty() {
            continue;
        }
        for role in roles(ask.needs) {
            let peer = space.value_of(row, role.name()).map_or("unset", |value| value.name.as_str());
            let (provided_by, span) = if lacking.contains(role) {
                (None, None)
            } else {
                provider(plan, *role, peer, &ask.capability, space, row)
            };
            out.push(WhyAsk {
                axis: ask.axis.clone(),
                capability: ask.capability.clone(),
                role: role.name(),
                peer: peer.to_owned(),
                provided_by,
                place: span.map(|span| plan.place(span)),
            });
        }
    }
    out
}

fn provider(
    plan: &Plan,
    role: Role,
    peer: &str,
    capability: &str,
    space: &Space,
    row: &[Index],
) -> (Option<String>, Option<Span>) {
    let asker = plan.asker();
    match asker.support(role, peer, capability) {
        Support::No => (None, None),
        Support::Yes(None) => (Some("(it names no service, so any)".to_owned()), None),
        Support::Yes(Some(own)) => (Some(own.name.clone()), Some(own.span)),
        Support::When(conditions) => {
            let met = conditions
                .into_iter()
                .find(|(_, when)| Condition::Expr(Arc::clone(when)).compile(space).holds(space, row));
            met.map_or((None, None), |(own, when)| (Some(format!("{} when {}", own.name, when.text)), Some(own.span)))
        }
    }
}
