//! What is started in place of what a client program composed for its server.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::peers::{Plugin, cannot};
use crate::filter::glob;
use crate::peer::PeerError;
use crate::process::hub::{Composed, Composer, StartOrder};
use crate::scenario::model::{ArgRule, Rewrite};
use crate::scenario::template::Renderer;

/// The changes of one side, with their templates filled in.
struct Rules {
    args: Vec<ArgRule>,
    env: Vec<(String, String)>,
    drop_env: Vec<String>,
}

/// `rewrite` of one side, and what its templates see.
#[derive(Clone, Copy)]
pub(super) struct Side<'a> {
    pub(super) peer: &'a str,
    pub(super) rewrite: &'a Rewrite,
    pub(super) context: &'a Map<String, Value>,
}

/// Decides every start of a plugin by a client that composes it: the plugin's own command, with the
/// client's arguments where it asks for them. Changes of the client come first, then those of the
/// plugin, then those of the case (`host`).
///
/// # Errors
/// A template that cannot be filled in.
pub(super) fn composer(
    plugin: &Plugin,
    client: Side<'_>,
    server: Side<'_>,
    host: StartOrder,
) -> Result<Composer, PeerError> {
    let sides = [rules(&client)?, rules(&server)?];
    let (argv, slots, own) = (plugin.argv.clone(), plugin.slots.clone(), plugin.env.clone());
    Ok(Composer::new(move |composed: Composed<'_>| {
        if composed.cut && !slots.is_empty() {
            let text = "the arguments that the client composed cannot be passed on: they are not UTF-8, or more than \
                        1,024 or 128 KiB; leave `{{ client.args }}` out of the plugin's command";
            return Err(text.to_owned());
        }
        let given = composed.argv.get(1..).unwrap_or_default().to_vec();
        let args = sides.iter().fold(given, |args, rules| rewritten(&rules.args, args));
        let [of_client, of_server] = &sides;
        let mut add: BTreeMap<String, String> = BTreeMap::new();
        for (key, value) in of_client.env.iter().chain(&own).chain(&of_server.env).chain(&host.add_env) {
            add.insert(key.clone(), value.clone());
        }
        let globs = || sides.iter().flat_map(|rules| &rules.drop_env);
        let dropped = composed.names.iter().filter(|name| globs().any(|pattern| glob(pattern, name)));
        let drop_env: Vec<_> = dropped.chain(&host.drop_env).cloned().collect();
        for name in &host.drop_env {
            add.remove(name);
        }
        Ok(StartOrder { add_env: add.into_iter().collect(), drop_env, argv: Some(filled(&argv, &slots, &args)) })
    }))
}

fn rules(side: &Side<'_>) -> Result<Rules, PeerError> {
    let renderer = Renderer::new(side.context);
    let text = |template: &String| {
        renderer.text(template).map_err(|e| cannot(&format!("`rewrite` of peer `{}`: {e}", side.peer)))
    };
    let texts = |templates: &[String]| templates.iter().map(text).collect::<Result<Vec<_>, _>>();
    let mut args = Vec::new();
    for rule in &side.rewrite.args {
        args.push(match rule {
            ArgRule::Replace { these, by } => ArgRule::Replace { these: these.clone(), by: texts(by)? },
            ArgRule::Add(more) => ArgRule::Add(texts(more)?),
        });
    }
    let mut env = Vec::new();
    for (key, value) in &side.rewrite.env {
        env.push((key.clone(), text(value)?));
    }
    // As everywhere: what comes out empty is not set.
    env.retain(|(_, value)| !value.is_empty());
    Ok(Rules { args, env, drop_env: side.rewrite.drop_env.clone() })
}

/// Arguments after the rules.
fn rewritten(rules: &[ArgRule], given: Vec<String>) -> Vec<String> {
    rules.iter().fold(given, |mut args, rule| match rule {
        ArgRule::Add(more) => {
            args.extend(more.iter().cloned());
            args
        }
        ArgRule::Replace { these, by } => {
            let mut out = Vec::with_capacity(args.len());
            let mut rest = args.as_slice();
            while let Some((first, behind)) = rest.split_first() {
                let found = rest.get(..these.len()).is_some_and(|run| these.iter().zip(run).all(|(p, a)| glob(p, a)));
                if found {
                    out.extend(by.iter().cloned());
                    rest = rest.get(these.len()..).unwrap_or_default();
                } else {
                    out.push(first.clone());
                    rest = behind;
                }
            }
            out
        }
    })
}

/// A command with the client's arguments before each of the `slots`.
fn filled(argv: &[String], slots: &[usize], args: &[String]) -> Vec<String> {
    let mut out = Vec::new();
    for at in 0..=argv.len() {
        for _ in slots.iter().filter(|slot| **slot == at) {
            out.extend(args.iter().cloned());
        }
        out.extend(argv.get(at).cloned());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn arguments_are_added_dropped_and_replaced_one_rule_after_another() {
        let replace = |these: &str, by: &str| ArgRule::Replace { these: words(these), by: words(by) };
        let rules = [
            replace("--tls-curve *", ""),
            replace("--mode=*", "--mode off"),
            ArgRule::Add(words("--end")),
            replace("--end", "--very-end"),
        ];
        let given = words("rpc --tls-curve p384 --mode=on --tls-curve");
        assert_eq!(rewritten(&rules, given), words("rpc --mode off --tls-curve --very-end"));
        assert_eq!(rewritten(&[replace("*", "x")], words("a b")), words("x x"));
    }

    #[test]
    fn the_clients_arguments_stand_where_the_command_asks_for_them() {
        let argv = words("prog --end");
        assert_eq!(filled(&argv, &[], &words("a b")), argv);
        assert_eq!(filled(&argv, &[1], &words("a b")), words("prog a b --end"));
        assert_eq!(filled(&argv, &[2], &words("a b")), words("prog --end a b"));
    }
}
