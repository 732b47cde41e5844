//! Random scenarios: the plan against the plainest possible expansion, written again here.

mod plan_support;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use plan_support::recipe::{expression, recipe, scenario};
use proptest::prelude::*;
use serde_json::Value;
use soupscen::filter::{self, Expr, Lookup};
use soupscen::plan::{Case, Counts, Disposition, Plan, Selection, Shard};
use soupscen::scenario::model::Scenario;

/// An assignment, script among the axes.
type Row = BTreeMap<String, String>;

struct RowLookup<'a> {
    row: &'a Row,
    case: Option<(&'a Plan, &'a Case)>,
}

impl Lookup for RowLookup<'_> {
    fn get(&self, name: &str) -> Option<Value> {
        match (name, self.case) {
            ("id" | "case.id", case) => return case.map(|(plan, case)| plan.id(case).into()),
            ("case.key", case) => return case.map(|(plan, case)| plan.key(case).into()),
            _ => {}
        }
        let Some((axis, fact)) = name.split_once('.') else {
            return self.row.get(name).map(|value| value.as_str().into());
        };
        let value = self.row.get(axis)?;
        match (axis, fact) {
            ("client" | "server", _) => Some(value.as_str().into()),
            _ => soupscen::axis::find_value(axis, value)?
                .facts
                .iter()
                .find(|(name, _)| *name == fact)
                .map(|(_, fact)| fact.to_json()),
        }
    }
}

fn holds(expr: &Expr, row: &Row, case: Option<(&Plan, &Case)>) -> bool {
    expr.eval(&RowLookup { row, case })
}

/// The product, row by row.
fn expand(scenario: &Scenario) -> Vec<Row> {
    let mut out: Vec<Row> = Vec::new();
    for block in &scenario.blocks {
        let mut axes: Vec<_> = block.axes.iter().collect();
        // Conditions name only axes before them, but for `color`, which may name all others.
        axes.sort_by_key(|axis| axis.applies.is_some());
        let mut rows = vec![Row::new()];
        for axis in axes {
            rows = rows
                .into_iter()
                .flat_map(|row| {
                    if axis.applies.as_ref().is_some_and(|applies| !holds(applies, &row, None)) {
                        return vec![row];
                    }
                    axis.values
                        .iter()
                        .map(|value| row.clone().into_iter().chain([(axis.name.clone(), value.name.clone())]).collect())
                        .collect()
                })
                .collect();
        }
        for row in rows {
            for script in &block.scripts {
                let mut row = row.clone();
                row.insert("script".into(), script.clone());
                let is = |axis: &str, value: &str| row.get(axis).is_some_and(|own| own == value);
                let removed = is("tls", "auto") && !is("launch", "plugin")
                    || block.exclude.iter().any(|exclude| holds(&exclude.when, &row, None))
                    || scenario.scripts[script].when.as_ref().is_some_and(|when| !holds(when, &row, None));
                if !removed && !out.contains(&row) {
                    out.push(row);
                }
            }
        }
    }
    out
}

fn row_of(plan: &Plan, case: &Case) -> Row {
    plan.axes(case).into_iter().chain([("script".to_owned(), plan.script(case).name.clone())]).collect()
}

fn planned(recipe: &plan_support::recipe::Recipe) -> Option<(Arc<Scenario>, Plan)> {
    let scenario = scenario(recipe);
    let plan = Plan::new(Arc::clone(&scenario), false).ok()?.0;
    Some((scenario, plan))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, ..ProptestConfig::default() })]

    #[test]
    fn expansion_is_that_of_the_naive_model(recipe in recipe()) {
        let scenario = scenario(&recipe);
        let naive: BTreeSet<Row> = expand(&scenario).into_iter().collect();
        match Plan::new(Arc::clone(&scenario), false) {
            Ok((plan, _)) => {
                let cases: Vec<Case> = plan.cases(&Selection::default()).collect();
                let rows: BTreeSet<Row> = cases.iter().map(|case| row_of(&plan, case)).collect();
                prop_assert_eq!(rows.len(), cases.len(), "no row twice");
                prop_assert_eq!(&rows, &naive);
                prop_assert!(cases.iter().enumerate().all(|(at, case)| case.index == at as u64));
                for text in [Plan::id as fn(&Plan, &Case) -> String, Plan::key, Plan::slug] {
                    prop_assert_eq!(cases.iter().map(|case| text(&plan, case)).collect::<HashSet<_>>().len(), cases.len());
                }
            }
            Err(errors) => {
                // The only mistakes that a recipe can have.
                for error in errors.iter().filter(|error| error.severity == soupscen::diag::Severity::Error) {
                    prop_assert!(["empty-matrix", "contradicting-rules"].contains(&error.code), "{:?}", error);
                }
                if errors.iter().any(|error| error.code == "contradicting-rules") {
                    let conflict = naive_conflict(&scenario, &naive);
                    prop_assert!(conflict.is_none_or(|conflict| conflict), "no two rules meet");
                }
            }
        }
    }

    #[test]
    fn counts_filters_and_rules_are_those_of_the_cases(recipe in recipe(), filter in expression(true)) {
        let Some((scenario, plan)) = planned(&recipe) else { return Ok(()) };
        let filter = Arc::new(filter::parse(soupscen::diag::SourceId(7), 0, &filter).unwrap());
        let all: Vec<Case> = plan.cases(&Selection::default()).collect();
        let wanted: Vec<&Case> = all.iter().filter(|case| holds(&filter, &row_of(&plan, case), Some((&plan, case)))).collect();
        let selection = Selection { filter: Some(Arc::clone(&filter)), ..Selection::default() };
        let selected: Vec<u64> = plan.cases(&selection).map(|case| case.index).collect();
        prop_assert_eq!(&selected, &wanted.iter().map(|case| case.index).collect::<Vec<_>>());
        prop_assert_eq!(plan.count(&selection), naive_counts(&scenario, &plan, &wanted));
        prop_assert_eq!(plan.count(&Selection::default()), naive_counts(&scenario, &plan, &all.iter().collect::<Vec<_>>()));
        for (rule, cases) in plan.rules() {
            prop_assert_eq!(cases, all.iter().filter(|case| holds(&rule.when, &row_of(&plan, case), Some((&plan, case)))).count() as u64, "{}", rule.when.text);
        }
        for case in &all {
            prop_assert_eq!(matches!(plan.disposition(case), Disposition::Unsupported(lacking) if !lacking.0.is_empty()), lacks_something(&plan, case), "{}", plan.id(case));
            // No two rules in force disagree, or the plan would not be.
            prop_assert!(plan.expected(case, &|_, _| None).is_ok());
        }
    }

    #[test]
    fn shards_are_a_partition(recipe in recipe(), of in 1_u32..7) {
        let Some((_, plan)) = planned(&recipe) else { return Ok(()) };
        let mut seen = BTreeSet::new();
        for n in 1..=of {
            let selection = Selection { shard: Shard::new(n, of), ..Selection::default() };
            let mut counted = 0;
            for case in plan.cases(&selection) {
                counted += 1;
                prop_assert!(seen.insert(case.index), "{} is in two shards", plan.id(&case));
            }
            prop_assert_eq!(plan.count(&selection).selected, counted);
        }
        prop_assert_eq!(seen.len() as u64, plan.count(&Selection::default()).selected);
    }

    #[test]
    fn a_printed_expression_means_the_same(text in expression(true), recipe in recipe()) {
        let Some((_, plan)) = planned(&recipe) else { return Ok(()) };
        let expr = filter::parse(soupscen::diag::SourceId(7), 0, &text).unwrap();
        let printed = filter::parse(soupscen::diag::SourceId(7), 0, &expr.ast().to_string()).unwrap();
        for case in plan.cases(&Selection::default()).take(20) {
            let row = row_of(&plan, &case);
            prop_assert_eq!(holds(&expr, &row, Some((&plan, &case))), holds(&printed, &row, Some((&plan, &case))));
        }
    }

    #[test]
    fn any_text_is_an_expression_or_an_error_within_it(text in ".{0,60}", offset in 0_u32..1000) {
        if let Err(errors) = filter::parse(soupscen::diag::SourceId(7), offset, &text) {
            let end = offset + u32::try_from(text.len()).unwrap();
            for label in errors.iter().flat_map(|error| &error.labels) {
                prop_assert!(offset <= label.span.start && label.span.start <= label.span.end && label.span.end <= end);
                prop_assert!(text.is_char_boundary((label.span.start - offset) as usize));
                prop_assert!(text.is_char_boundary((label.span.end - offset) as usize));
            }
        }
    }
}

/// Whether something is not provided that a case asks for, by the words of `why`: a version can be
/// pinned at either end, all else is needed where it is asked.
fn lacks_something(plan: &Plan, case: &Case) -> bool {
    let asks = plan.why(case).asks;
    let provided = |axis: &str| {
        asks.iter().filter(|ask| ask.axis == axis).map(|ask| ask.provided_by.is_some()).collect::<Vec<_>>()
    };
    let axes: BTreeSet<&str> = asks.iter().map(|ask| ask.axis.as_str()).collect();
    axes.into_iter().any(|axis| {
        if axis == "tls_version" { !provided(axis).contains(&true) } else { provided(axis).contains(&false) }
    })
}

fn naive_counts(scenario: &Scenario, plan: &Plan, cases: &[&Case]) -> Counts {
    let mut counts = Counts { selected: cases.len() as u64, ..Counts::default() };
    for case in cases {
        if plan.disposition(case) == Disposition::Run {
            counts.run += 1;
            counts.known +=
                u64::from(scenario.rules.iter().any(|rule| holds(&rule.when, &row_of(plan, case), Some((plan, case)))));
        } else {
            counts.unsupported += 1;
        }
    }
    counts
}

/// Whether two rules with different outcomes meet; `None` where ids would be needed to tell.
fn naive_conflict(scenario: &Scenario, rows: &BTreeSet<Row>) -> Option<bool> {
    if scenario.rules.iter().any(|rule| rule.when.names().iter().any(|name| matches!(*name, "id" | "case.key"))) {
        return None;
    }
    let meet = rows.iter().any(|row| {
        let outcomes: BTreeSet<String> = scenario
            .rules
            .iter()
            .filter(|rule| holds(&rule.when, row, None))
            .map(|rule| format!("{:?}", rule.outcome))
            .collect();
        outcomes.len() > 1
    });
    Some(meet)
}
