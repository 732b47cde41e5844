//! `variants` of a peer: one definition, several peers. `python` with `variants: { version: [1.80.0,
//! 1.85.1] }` becomes `python@1.80.0` and `python@1.85.1`.

use std::collections::BTreeMap;

use indexmap::IndexMap;

use super::decode::Sink;
use super::model::Peer;
use super::reader::legal_name;
use super::scope::Scope;
use super::template;
use super::yaml::{Entry, Kind, Node, short};

/// Peers that one definition may become.
const MOST: usize = 64;
/// The fact that tells of a variant what it is one of.
pub(super) const VARIANT_OF: &str = "variant_of";
/// Facts that a variant has already.
const TAKEN: &[&str] = &["name", "lang", "stack", VARIANT_OF];

/// Name → its values, in order.
pub(super) type Variants = IndexMap<String, Vec<String>>;

/// Reads `variants` of the peer that `definition` describes; `taken` are names that its templates
/// know already.
pub(super) fn read(sink: &mut Sink, node: &Node, definition: &Entry, taken: &Scope) -> Variants {
    let mut all = Variants::new();
    for entry in sink.entries(node, "`variants`").unwrap_or_default() {
        if !legal_name(sink, &entry.key, entry.span, "a variant") {
            continue;
        }
        if taken.knows(&entry.key) || TAKEN.contains(&entry.key.as_str()) {
            let message = format!("`{}` is a name of something else", entry.key);
            sink.error("bad-name", entry.span, message, "taken", "give it a name of its own, such as `version`");
            continue;
        }
        let texts = sink.texts(&entry.value, "a list of values", true).unwrap_or_default();
        let mut values: Vec<String> = Vec::new();
        for text in texts {
            if values.contains(&text.value) {
                let message = format!("`{}` is there twice", short(&text.value));
                sink.error("duplicate-value", text.span, message, "again here", "");
            } else if legal_name(sink, &text.value, text.span, "a variant") {
                values.push(text.value);
            }
        }
        if values.is_empty() {
            let message = format!("`{}` has no values, so there would be no peers", entry.key);
            sink.error("empty", entry.span, message, "empty", "list them: `version: [\"1.0\", \"2.0\"]`");
            continue;
        }
        if !uses(&definition.value, &entry.key) {
            let message = format!("nothing of the peer depends on `{}`", entry.key);
            let help = format!("use it in `build`, or in a command: `{{{{ {} }}}}`", entry.key);
            sink.error("useless-key", entry.span, message, "the variants would all be the same", &help);
        }
        all.insert(entry.key.clone(), values);
    }
    let count = all.values().try_fold(1_usize, |count, values| count.checked_mul(values.len()));
    if count.is_none_or(|count| count > MOST) {
        let count = count.map_or_else(|| "too many".to_owned(), |count| count.to_string());
        let message = format!("{count} variants of one peer; {MOST} are allowed");
        sink.error("too-many", node.span, message, "too many", "");
        all.clear();
    }
    all
}

/// Whether a text below is a template with this name.
fn uses(node: &Node, name: &str) -> bool {
    match &node.kind {
        Kind::Scalar(scalar) => template::names(&scalar.text).is_ok_and(|names| names.contains(name)),
        Kind::List(items) => items.iter().any(|item| uses(item, name)),
        Kind::Map(entries) => entries.iter().any(|entry| uses(&entry.value, name)),
    }
}

/// One peer per combination of values.
pub(super) fn expand(peer: &Peer, variants: &Variants) -> Vec<Peer> {
    let mut combinations = vec![BTreeMap::new()];
    let mut names = vec![String::new()];
    for (key, values) in variants {
        let product = |(of, name): (&BTreeMap<String, String>, &String)| {
            let with = |value: &String| {
                let mut of = of.clone();
                of.insert(key.clone(), value.clone());
                let join = if name.is_empty() { "@" } else { "+" };
                (of, format!("{name}{join}{value}"))
            };
            values.iter().map(with).collect::<Vec<_>>()
        };
        (combinations, names) = combinations.iter().zip(&names).flat_map(product).unzip();
    }
    let make = |(variant, suffix): (BTreeMap<String, String>, String)| {
        let mut one = Peer { name: format!("{}{suffix}", peer.name), ..peer.clone() };
        one.facts.extend(variant.clone());
        one.facts.insert("name".to_owned(), one.name.clone());
        one.facts.insert(VARIANT_OF.to_owned(), peer.name.clone());
        one.variant = variant;
        one
    };
    combinations.into_iter().zip(names).map(make).collect()
}
