//! Random scenarios.

use std::sync::Arc;

use proptest::prelude::*;
use soupscen::outcome::Phase;
use soupscen::scenario::model::{Op, RuleOutcome, Scenario};

use super::Draft;

pub const AXES: [(&str, &[&str]); 9] = [
    ("client", &["go", "rust", "python"]),
    ("server", &["go", "rust", "python"]),
    ("launch", &["plugin", "direct"]),
    ("tls", &["none", "auto", "server", "mutual"]),
    ("key", &["p256", "p521", "rsa-2048"]),
    ("client_key", &["p256", "auto"]),
    ("tls_version", &["1.2", "1.3"]),
    ("size", &["s", "m", "l"]),
    ("color", &["red", "blue"]),
];
pub const SCRIPTS: [&str; 2] = ["put-get", "absent"];

/// What a random scenario consists of.
#[derive(Debug, Clone)]
pub struct Recipe {
    /// Per block: how many values of which axes.
    pub blocks: Vec<Vec<(usize, usize)>>,
    pub color_if: Option<String>,
    pub excludes: Vec<(usize, String)>,
    pub rules: Vec<(String, bool)>,
    pub script_when: Option<String>,
    /// Capabilities of the peer `python` as a client and as a server.
    pub provides: (Vec<&'static str>, Vec<&'static str>),
}

fn comparison(with_texts: bool) -> impl Strategy<Value = String> {
    let values = || {
        proptest::sample::select(AXES.as_slice()).prop_flat_map(|(axis, values)| {
            (Just(axis), proptest::sample::subsequence(values.to_vec(), 1..=values.len()))
        })
    };
    let one = (values(), any::<bool>())
        .prop_map(|((axis, values), equal)| format!("{axis} {} {}", if equal { "==" } else { "!=" }, values[0]));
    let list = (values(), any::<bool>()).prop_map(|((axis, values), within)| {
        format!("{axis} {} [{}]", if within { "in" } else { "not in" }, values.join(", "))
    });
    let facts = proptest::sample::select(vec![
        "key.bits >= 384",
        "key.algorithm == rsa",
        "client.lang == go",
        "server.name ~ \"*o*\"",
        "tls == unset",
        "key != unset",
        "tls_version > 1.2",
        "script == absent",
        "size ~ \"?\"",
    ])
    .prop_map(str::to_owned);
    let texts = proptest::sample::select(vec!["id ~ \"*client=go*\"", "case.key ~ \"*a*\""]).prop_map(str::to_owned);
    let weight = u32::from(with_texts);
    prop_oneof![4 => one, 3 => list, 3 => facts, weight => texts]
}

pub fn expression(with_texts: bool) -> impl Strategy<Value = String> {
    comparison(with_texts).prop_recursive(3, 8, 3, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 2..4).prop_map(|parts| format!("({})", parts.join(" and "))),
            proptest::collection::vec(inner.clone(), 2..4).prop_map(|parts| format!("({})", parts.join(" or "))),
            inner.prop_map(|part| format!("not ({part})")),
        ]
    })
}

pub fn recipe() -> impl Strategy<Value = Recipe> {
    let sizes = AXES.iter().enumerate().map(|(at, (_, values))| {
        let least = usize::from(at < 2);
        (Just(at), least..=values.len().min(3))
    });
    let block = sizes.collect::<Vec<_>>().prop_map(|sizes| sizes.into_iter().filter(|(_, size)| *size > 0).collect());
    let capabilities = || {
        proptest::sample::subsequence(
            vec![
                "launch.*",
                "tls.none",
                "tls.mutual when client == python",
                "key.p256",
                "client_key.* when launch == plugin",
                "kv",
                "tls_version.1.3",
                "tls.auto",
            ],
            0..8,
        )
    };
    (
        proptest::collection::vec(block, 1..3),
        proptest::option::of(
            proptest::sample::select(vec!["size != s", "tls == none or client == go", "size == unset"])
                .prop_map(str::to_owned),
        ),
        proptest::collection::vec((0_usize..2, expression(false)), 0..4),
        proptest::collection::vec((expression(true), any::<bool>()), 0..4),
        proptest::option::of(expression(false)),
        (capabilities(), capabilities()),
    )
        .prop_map(|(blocks, color_if, excludes, rules, script_when, provides)| Recipe {
            blocks,
            color_if,
            excludes,
            rules,
            script_when,
            provides,
        })
}

pub fn scenario(recipe: &Recipe) -> Arc<Scenario> {
    let mut draft = Draft::new();
    draft.peer("python", &recipe.provides.0, &recipe.provides.1);
    draft.script(SCRIPTS[0], named_op(), None).script(SCRIPTS[1], named_op(), recipe.script_when.as_deref());
    for (number, axes) in recipe.blocks.iter().enumerate() {
        if number > 0 {
            draft.block("second");
        }
        for (axis, size) in axes {
            let (name, values) = AXES[*axis];
            let values = &values[values.len() - size..];
            match &recipe.color_if {
                Some(condition) if name == "color" => {
                    let condition = draft.expr(condition);
                    draft.axis_if(name, values, Some(condition));
                }
                _ => {
                    draft.axis(name, values);
                }
            }
        }
        for (_, exclude) in recipe.excludes.iter().filter(|(block, _)| *block == number) {
            draft.exclude(exclude);
        }
    }
    for (number, (when, same)) in recipe.rules.iter().enumerate() {
        let rule = draft.failed_at(&format!("rule-{number}"), when, if *same { Phase::Tls } else { Phase::Rpc });
        // A rule without a case is no error here.
        rule.included = true;
        if !same {
            rule.outcome = RuleOutcome::FailedOrPassed;
        }
    }
    draft.finish()
}

fn named_op() -> Op {
    Op::Named { name: "put".into(), args: serde_json::Map::new() }
}
