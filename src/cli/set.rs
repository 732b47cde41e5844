//! `--set NAME=VALUE`: another value for one of the scenario's `vars`.

use std::str::FromStr;

use serde_json::{Map, Value};

use crate::diag::suggestion;
use crate::scenario::model::{Peer, Scenario};

/// One `--set`.
#[derive(Debug, Clone)]
pub(super) struct Set {
    name: String,
    value: String,
}

impl FromStr for Set {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once('=') {
            Some((name, value)) if !name.is_empty() => Ok(Self { name: name.to_owned(), value: value.to_owned() }),
            _ => Err("write NAME=VALUE, like greeting=hello".to_owned()),
        }
    }
}

impl std::fmt::Display for Set {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}={}", self.name, self.value)
    }
}

/// Gives a scenario's `vars` their other values; what it does not have is left to [`unknown`].
///
/// # Errors
/// A value that is none of the kind that the variable has in the file, a sentence.
pub(super) fn apply(sets: &[Set], scenario: &mut Scenario) -> Result<(), String> {
    change(sets, &mut scenario.vars)?;
    if !sets.is_empty() {
        scenario.peers.values_mut().for_each(|peer| peer.vars.clone_from(&scenario.vars));
    }
    Ok(())
}

/// As [`apply`], for peers without a scenario around them.
///
/// # Errors
/// As there.
pub(super) fn apply_to_peer(sets: &[Set], peer: &mut Peer) -> Result<(), String> {
    change(sets, &mut peer.vars)
}

fn change(sets: &[Set], vars: &mut Map<String, Value>) -> Result<(), String> {
    for set in sets {
        let Some(var) = vars.get_mut(&set.name) else { continue };
        *var = like(var, &set.value).map_err(|kind| {
            format!("--set: `{}` is {kind} in the scenario (`{var}`), and `{}` is none", set.name, set.value)
        })?;
    }
    Ok(())
}

/// The text as a value of the kind that is there.
fn like(old: &Value, text: &str) -> Result<Value, &'static str> {
    match old {
        Value::Number(_) => {
            let number = text.parse().map(Value::Number);
            number.map_err(|_| "a number")
        }
        Value::Bool(_) => text.parse().map(Value::Bool).map_err(|_| "true or false"),
        Value::Array(_) | Value::Object(_) => Err("a list or a map, which only the file can change"),
        Value::String(_) | Value::Null => Ok(text.into()),
    }
}

/// What is set and no `vars` have.
pub(super) fn unknown<'a>(sets: &[Set], all: impl Iterator<Item = &'a Map<String, Value>>) -> Option<String> {
    let known: std::collections::BTreeSet<&str> = all.flat_map(Map::keys).map(String::as_str).collect();
    let wrong = sets.iter().find(|set| !known.contains(set.name.as_str()))?;
    let help = suggestion(&wrong.name, "names", known.iter().copied());
    Some(format!("--set: no scenario has a `{}` among its `vars`; {help}", wrong.name))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn vars(value: Value) -> Map<String, Value> {
        let Value::Object(map) = value else { panic!("a map") };
        map
    }

    #[test]
    fn a_value_keeps_the_kind_that_it_has_in_the_file() {
        let mut all = vars(json!({ "times": 3, "fast": false, "name": "soup", "list": [1] }));
        let sets = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<Set>>();
        change(&sets(&["times=5", "fast=true", "name=a=b", "other=1"]), &mut all).unwrap();
        assert_eq!(Value::Object(all.clone()), json!({ "times": 5, "fast": true, "name": "a=b", "list": [1] }));
        for (text, said) in [("times=many", "a number"), ("fast=1", "true or false"), ("list=2", "a list or a map")] {
            let problem = change(&sets(&[text]), &mut all).unwrap_err();
            assert!(problem.contains(said), "{problem}");
        }
    }

    #[test]
    fn what_is_no_assignment_or_names_nothing_is_said() {
        assert!("name".parse::<Set>().unwrap_err().contains("NAME=VALUE"));
        assert!("=x".parse::<Set>().is_err());
        let all = vars(json!({ "soup_go": "soup-go" }));
        let problem = unknown(&["soup-go=x".parse().unwrap()], std::iter::once(&all)).unwrap();
        assert!(problem.contains("`soup-go`") && problem.contains("soup_go"), "{problem}");
        assert!(unknown(&["soup_go=x".parse().unwrap()], std::iter::once(&all)).is_none());
    }
}
