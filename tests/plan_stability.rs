//! What a case is called outlives changes of the file around it: another order, more axes, values,
//! scripts and blocks. And every way of selecting cases against the plainest way of doing it.

mod plan_support;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use plan_support::recipe::{Recipe, expression, recipe, scenario};
use proptest::prelude::*;
use soupscen::filter;
use soupscen::plan::{Case, Plan, Selection, Shard};
use soupscen::scenario::model::{AxisValue, Scenario};

/// Assignment with script → key, slug and id.
type Names = BTreeMap<BTreeMap<String, String>, [String; 3]>;

fn plan_of(scenario: Scenario) -> Option<Plan> {
    Some(Plan::new(Arc::new(scenario), false).ok()?.0)
}

fn without_rules(recipe: &Recipe) -> Scenario {
    let mut scenario = Scenario::clone(&scenario(recipe));
    // Rules have no part in names, and contradict each other at random.
    scenario.rules.clear();
    scenario
}

fn all(plan: &Plan) -> Vec<Case> {
    plan.cases(&Selection::default()).collect()
}

fn names(plan: &Plan) -> Names {
    let row = |case: &Case| {
        let mut row = plan.axes(case);
        row.insert("script".into(), plan.script(case).name.clone());
        row
    };
    all(plan).iter().map(|case| (row(case), [plan.key(case), plan.slug(case), plan.id(case)])).collect()
}

/// Turns round everything that has an order.
fn turned(scenario: &Scenario, by: usize) -> Scenario {
    let mut scenario = scenario.clone();
    scenario.scripts.reverse();
    scenario.blocks.reverse();
    for block in &mut scenario.blocks {
        block.scripts.reverse();
        block.exclude.reverse();
        let axes = block.axes.len();
        block.axes.rotate_left(by % axes);
        for axis in &mut block.axes {
            axis.values.reverse();
        }
    }
    scenario
}

/// One more value, like the axis' first, which nothing in the file speaks of.
fn grown(scenario: &Scenario, at: usize) -> (Scenario, String) {
    let mut scenario = scenario.clone();
    let names: Vec<String> =
        scenario.blocks[0].axes.iter().map(|axis| axis.name.clone()).filter(|name| name != "service").collect();
    let name = &names[at % names.len()];
    for axis in scenario.blocks.iter_mut().flat_map(|block| &mut block.axes).filter(|axis| axis.name == *name) {
        let value = AxisValue { name: "quite-new".into(), ..axis.values[0].clone() };
        axis.values.push(value);
    }
    if ["client", "server"].contains(&name.as_str()) {
        let peer = scenario.peers.values().next().unwrap().clone();
        scenario.peers.insert("quite-new".into(), peer);
    }
    (scenario, name.clone())
}

/// Keys by shard.
fn shards(plan: &Plan, of: u32) -> Vec<BTreeSet<String>> {
    let shard = |n| Selection { shard: Shard::new(n, of), ..Selection::default() };
    (1..=of).map(|n| plan.cases(&shard(n)).map(|case| plan.key(&case)).collect()).collect()
}

/// `*` is any text, `?` any sign, the rest itself.
fn naive_glob(pattern: &[char], text: &[char]) -> bool {
    match (pattern, text) {
        ([], rest) => rest.is_empty(),
        (['*', pattern @ ..], text) => (0..=text.len()).any(|at| naive_glob(pattern, &text[at..])),
        (['?', pattern @ ..], [_, text @ ..]) => naive_glob(pattern, text),
        ([own, pattern @ ..], [other, text @ ..]) => own == other && naive_glob(pattern, text),
        _ => false,
    }
}

fn globbed(pattern: &str, text: &str) -> bool {
    naive_glob(&pattern.chars().collect::<Vec<_>>(), &text.chars().collect::<Vec<_>>())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn names_and_shards_do_not_depend_on_order(recipe in recipe(), by in 0_usize..9, of in 1_u32..12) {
        let scenario = without_rules(&recipe);
        let Some(plan) = plan_of(scenario.clone()) else { return Ok(()) };
        // A later block may be left with nothing but what an earlier one has, which is an error.
        let Some(turned) = plan_of(turned(&scenario, by)) else {
            prop_assert!(scenario.blocks.len() > 1, "the same rows in another order are a plan");
            return Ok(());
        };
        prop_assert_eq!(names(&plan), names(&turned));
        prop_assert_eq!(shards(&plan, of), shards(&turned, of));
    }

    #[test]
    fn cases_keep_their_names_and_shards_when_others_come(recipe in recipe(), at in 0_usize..9, of in 1_u32..12) {
        let scenario = without_rules(&recipe);
        let Some(plan) = plan_of(scenario.clone()) else { return Ok(()) };
        let (grown, axis) = grown(&scenario, at);
        let Some(grown) = plan_of(grown) else { return Ok(()) };
        let (before, after) = (names(&plan), names(&grown));
        // Ids leave out what has one value only: there the new value shows the axis.
        let shows = |id: &str| ['[', ','].iter().any(|sign| id.contains(&format!("{sign}{axis}=")));
        let shown = before.values().all(|[_, _, id]| shows(id));
        for (row, [key, slug, id]) in &before {
            let now = after.get(row);
            prop_assert!(now.is_some(), "{} is gone", id);
            let [new_key, new_slug, new_id] = now.unwrap();
            prop_assert_eq!((key, slug), (new_key, new_slug));
            prop_assert!(!shown || id == new_id, "{} is now {}", id, new_id);
        }
        for (before, after) in shards(&plan, of).iter().zip(shards(&grown, of)) {
            prop_assert!(before.is_subset(&after));
        }
        let texts: HashSet<&String> = after.values().flatten().collect();
        prop_assert_eq!(texts.len(), after.len() * 3, "keys, slugs and ids are unique, and none is another's");
    }

    #[test]
    fn every_selection_is_what_brute_force_selects(
        recipe in recipe(),
        text in proptest::option::of(expression(true)),
        patterns in proptest::collection::vec((0_usize..50, 0_usize..4, "[*?a-f0-9=]{0,3}"), 0..3),
        with_keys in any::<bool>(),
        (n, of) in (1_u32..5).prop_flat_map(|of| (1..=of, Just(of))),
    ) {
        let Some(plan) = plan_of(without_rules(&recipe)) else { return Ok(()) };
        let cases = all(&plan);
        // Patterns that mean something: parts of a case's id, key or slug, and some that are made up.
        let pattern = |(at, kind, noise): &(usize, usize, String)| {
            let case = &cases[at % cases.len()];
            match kind {
                0 => plan.id(case),
                1 => format!("{}*", &plan.key(case)[..3]),
                2 => format!("*{noise}{}", &plan.slug(case)[6..]),
                _ => format!("*{noise}*"),
            }
        };
        let patterns: Vec<String> = patterns.iter().map(pattern).collect();
        let keys: Option<HashSet<String>> = with_keys.then(|| cases.iter().step_by(2).map(|case| plan.key(case)).collect());
        let filter = text.map(|text| Arc::new(filter::parse(soupscen::diag::SourceId(7), 0, &text).unwrap()));
        let by_filter: Option<HashSet<u64>> = filter.as_ref().map(|filter| {
            let selection = Selection { filter: Some(Arc::clone(filter)), ..Selection::default() };
            plan.cases(&selection).map(|case| case.index).collect()
        });
        let wanted: Vec<u64> = cases
            .iter()
            .filter(|case| {
                let (id, key, slug) = (plan.id(case), plan.key(case), plan.slug(case));
                let number = u64::from_str_radix(&key, 16).unwrap();
                by_filter.as_ref().is_none_or(|filtered| filtered.contains(&case.index))
                    && (patterns.is_empty()
                        || patterns.iter().any(|pattern| [&id, &key, &slug].iter().any(|text| globbed(pattern, text))))
                    && keys.as_ref().is_none_or(|keys| keys.contains(&key))
                    && number % u64::from(of) == u64::from(n) - 1
            })
            .map(|case| case.index)
            .collect();
        let selection = Selection { filter, cases: patterns, keys, shard: Shard::new(n, of) };
        let selected: Vec<u64> = plan.cases(&selection).map(|case| case.index).collect();
        prop_assert_eq!(&selected, &wanted);
        prop_assert_eq!(plan.count(&selection).selected, wanted.len() as u64);
    }
}

#[test]
fn a_shard_is_a_part_of_something() {
    for (n, of) in [(0, 1), (2, 1), (0, 0), (1, 0)] {
        assert_eq!(Shard::new(n, of), None, "{n}/{of}");
    }
    for text in ["", "1", "0/3", "4/3", "1/0", "-1/3", "1/3/5", "1.0/3", "a/b"] {
        let error = text.parse::<Shard>().unwrap_err();
        assert!(error.contains("N/OF"), "{error}");
    }
    assert_eq!(" 2 / 5 ".parse(), Ok(Shard::new(2, 5).unwrap()));
    assert_eq!(Shard::new(2, 5).unwrap().to_string(), "2/5");
}
