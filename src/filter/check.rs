//! Holds the names and values of an expression against what is known.

use serde_json::Value;

use crate::axis::UNSET;
use crate::diag::Diagnostic;

use super::compare::{Comparison, Literal, Operator, has_order, text_of};
use super::domain::{Domain, TEXT_NAMES, Values};
use super::{Expr, Within, glob};

/// How many known names a message lists at most.
const LISTED: usize = 12;

pub(super) fn check(expr: &Expr, domain: &Domain) -> Vec<Diagnostic> {
    let mut out = Vec::new();
    for comparison in expr.comparisons() {
        Checker { expr, domain, comparison, out: &mut out }.check();
    }
    out
}

struct Checker<'a> {
    expr: &'a Expr,
    domain: &'a Domain,
    comparison: &'a Comparison,
    out: &'a mut Vec<Diagnostic>,
}

impl Checker<'_> {
    fn error(&mut self, at: Within, code: &'static str, message: String, label: &str, help: impl Into<Option<String>>) {
        self.out.push(self.expr.places().diagnostic(&self.expr.text, at, code, message, label, help.into()));
    }

    fn check(&mut self) {
        let name = self.comparison.name.as_str();
        if TEXT_NAMES.contains(&name) {
            return self.check_text();
        }
        let domain = self.domain;
        let Some(values) = domain.axes.get(self.comparison.subject()) else {
            let known = domain.axes.keys().map(String::as_str).chain(TEXT_NAMES).collect::<Vec<_>>();
            let subject = self.comparison.subject().to_owned();
            let help = help_for(&subject, "axes", known);
            return self.error(
                self.comparison.at,
                "unknown-axis",
                format!("unknown axis `{subject}`"),
                "not an axis",
                help,
            );
        };
        let Some(fact) = self.comparison.fact() else {
            let known: Vec<Value> = values.values.keys().map(|name| Value::String(name.clone())).collect();
            return self.check_values(&known, true);
        };
        let known: Vec<Value> = values.values.values().filter_map(|facts| facts.get(fact).cloned()).collect();
        if known.is_empty() {
            return self.unknown_fact(values, fact);
        }
        self.check_values(&known, false);
    }

    fn unknown_fact(&mut self, values: &Values, fact: &str) {
        let Comparison { name, at, operator, literals } = self.comparison;
        if values.components.contains(fact) || (fact == "version" && !values.components.is_empty()) {
            let requirement = match (operator, literals.first()) {
                (Operator::Equal, Some(literal)) => format!("={}", literal.text),
                (sign, Some(literal)) if sign.orders() => format!("{}{}", sign.sign(), literal.text),
                _ => "…".to_owned(),
            };
            let component =
                if fact == "version" { format!("{}.self", self.comparison.subject()) } else { name.clone() };
            return self.error(
                *at,
                "version-in-expression",
                format!("`{name}` is a version, which is only known when the peer was probed"),
                "not known when the plan is made",
                format!("let the rule hold within versions: `versions: {{ {component}: \"{requirement}\" }}`"),
            );
        }
        let axis = self.comparison.subject();
        let mut known: Vec<&str> = values.values.values().flat_map(|facts| facts.keys()).map(String::as_str).collect();
        known.sort_unstable();
        known.dedup();
        let help = if known.is_empty() {
            format!("`{axis}` has no facts; compare its value: `{axis} == …`")
        } else {
            help_for(fact, &format!("facts of `{axis}`"), known)
        };
        self.error(*at, "unknown-fact", format!("no value of `{axis}` has a fact `{fact}`"), "unknown fact", help);
    }

    fn check_text(&mut self) {
        if !self.domain.texts {
            return self.error(
                self.comparison.at,
                "unknown-axis",
                format!("`{}` is not known here: the condition is part of what makes the cases", self.comparison.name),
                "not known here",
                "use axes and facts".to_owned(),
            );
        }
        if self.comparison.operator.orders() {
            self.no_order();
        }
    }

    fn no_order(&mut self) {
        let Comparison { name, at, operator, .. } = self.comparison;
        self.error(
            *at,
            "never-holds",
            format!("`{name}` has no order, so `{}` can never hold", operator.sign()),
            "neither a number nor a version",
            "use `==`, `in` or `~`".to_owned(),
        );
    }

    /// `unset_allowed` also says that the name is a bare axis.
    fn check_values(&mut self, known: &[Value], axis: bool) {
        match self.comparison.operator {
            operator if operator.orders() => self.check_order(known),
            Operator::Glob => self.check_glob(known),
            _ => {
                for literal in &self.comparison.literals {
                    self.check_literal(literal, known, axis);
                }
            }
        }
    }

    fn check_literal(&mut self, literal: &Literal, known: &[Value], axis: bool) {
        if literal.text == UNSET && !literal.quoted {
            return;
        }
        let one = Comparison { literals: vec![literal.clone()], operator: Operator::Equal, ..self.comparison.clone() };
        if known.iter().any(|value| one.holds(Some(value))) {
            return;
        }
        let name = &self.comparison.name;
        let texts: Vec<_> = known.iter().map(text_of).collect();
        let mut help = help_for(
            &literal.text,
            if axis { "values" } else { "values of this fact" },
            texts.iter().map(|text| &**text).collect(),
        );
        if axis && self.domain.axes.contains_key(literal.text.as_str()) {
            help = format!("the right side is always a value, never another axis; {help}");
        }
        let what = if axis {
            format!("unknown value `{}` of axis `{name}`", literal.text)
        } else {
            format!("`{name}` is never `{}`", literal.text)
        };
        self.error(literal.at, "unknown-value", what, "can never hold", help);
    }

    fn check_glob(&mut self, known: &[Value]) {
        for literal in &self.comparison.literals {
            if !known.iter().any(|value| glob(&literal.text, &text_of(value))) {
                let texts: Vec<_> = known.iter().map(text_of).collect();
                let help = help_for(&literal.text, "values", texts.iter().map(|text| &**text).collect());
                let message = format!("no value of `{}` matches `{}`", self.comparison.name, literal.text);
                self.error(literal.at, "unknown-value", message, "can never hold", help);
            }
        }
    }

    fn check_order(&mut self, known: &[Value]) {
        if !known.iter().any(has_order) {
            return self.no_order();
        }
        for literal in &self.comparison.literals {
            let sign = self.comparison.operator.sign();
            if !literal.has_order() {
                let message = format!("`{sign}` needs a number or a version, `{}` is neither", literal.text);
                self.error(literal.at, "never-holds", message, "has no order", "use `==`, `in` or `~`".to_owned());
            } else if !known.iter().any(|value| self.comparison.holds(Some(value))) {
                let mut texts: Vec<_> = known.iter().map(|value| text_of(value).into_owned()).collect();
                texts.sort_unstable();
                texts.dedup();
                let message = format!("`{} {sign} {}` can never hold", self.comparison.name, literal.text);
                self.error(
                    literal.at,
                    "never-holds",
                    message,
                    "can never hold",
                    format!("known values: {}", list(&texts)),
                );
            }
        }
    }
}

/// `did you mean …? known …: a, b, c`.
fn help_for(wrong: &str, what: &str, known: Vec<&str>) -> String {
    if known.is_empty() { format!("there are no {what}") } else { crate::diag::suggestion(wrong, what, known) }
}

fn list<T: AsRef<str>>(names: &[T]) -> String {
    let listed = names.iter().take(LISTED).map(AsRef::as_ref).collect::<Vec<_>>().join(", ");
    match names.len().checked_sub(LISTED) {
        None | Some(0) => listed,
        Some(more) => format!("{listed} and {more} more"),
    }
}
