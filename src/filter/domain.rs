//! What expressions can be about in one place: names, their values and facts.

use std::collections::{BTreeMap, BTreeSet};

use indexmap::IndexMap;
use serde_json::Value;

use crate::axis;
use crate::scenario::model::{Axis, AxisValue, Peer, Service};

/// Texts of a case that expressions can be about, beside the axes. Their values are not known
/// before the plan is, so only what they are compared *how* is checked.
pub const TEXT_NAMES: [&str; 4] = ["id", "case.id", "case.key", "case.slug"];

/// The values and facts of one name.
#[derive(Debug, Clone, Default)]
pub(super) struct Values {
    /// Names of values, each with its facts.
    pub(super) values: IndexMap<String, BTreeMap<String, Value>>,
    /// Components whose versions are only known at run time.
    pub(super) components: BTreeSet<String>,
}

/// What expressions can be about in one place.
#[derive(Debug, Clone)]
pub struct Domain {
    pub(super) axes: IndexMap<String, Values>,
    pub(super) texts: bool,
}

impl Domain {
    /// The built-in axes with their values, and whatever [`Self::peers`] and its siblings add.
    #[must_use]
    pub fn builtin() -> Self {
        let mut axes = IndexMap::new();
        for def in axis::table() {
            let values = def.values.iter().map(|value| {
                let facts = value.facts.iter().map(|(name, fact)| ((*name).to_owned(), fact.to_json())).collect();
                (value.name.to_owned(), facts)
            });
            axes.insert(def.name.to_owned(), Values { values: values.collect(), components: BTreeSet::new() });
        }
        Self { axes, texts: true }
    }

    /// Everything that a scenario declares. Peers are values of `client` and `server` whether or
    /// not a matrix lists them, so that a rule can be about a peer that this run leaves out.
    #[must_use]
    pub fn of<'a>(
        peers: &IndexMap<String, Peer>,
        services: &IndexMap<String, Service>,
        scripts: impl IntoIterator<Item = &'a str>,
        blocks: impl IntoIterator<Item = &'a str>,
        axes: impl IntoIterator<Item = &'a Axis>,
    ) -> Self {
        let mut domain = Self::builtin();
        for (name, peer) in peers {
            domain.peer(name, peer);
        }
        for name in services.keys() {
            domain.value("service", name, BTreeMap::new());
        }
        domain.axis("script");
        for name in scripts {
            domain.value("script", name, BTreeMap::new());
        }
        for name in blocks {
            domain.value("block", name, BTreeMap::new());
        }
        for axis in axes {
            domain.axis(&axis.name);
            for value in &axis.values {
                domain.axis_value(&axis.name, value);
            }
        }
        domain
    }

    /// Where no case exists yet (`applies`, conditions of capabilities): ids and keys cannot be
    /// asked for.
    #[must_use]
    pub fn without_case(mut self) -> Self {
        self.texts = false;
        self
    }

    /// Makes an axis known.
    pub fn axis(&mut self, name: &str) {
        self.axes.entry(name.to_owned()).or_default();
    }

    /// Adds a value with its facts to an axis.
    pub fn value(&mut self, axis: &str, name: &str, facts: BTreeMap<String, Value>) {
        let values = &mut self.axes.entry(axis.to_owned()).or_default().values;
        values.entry(name.to_owned()).or_default().extend(facts);
    }

    /// Adds a value as the model has it, with the facts of its built-in meaning.
    pub fn axis_value(&mut self, axis: &str, value: &AxisValue) {
        self.value(axis, &value.name, facts_of(axis, value));
    }

    /// Makes a component known whose version is probed.
    pub fn component(&mut self, axis: &str, name: &str) {
        self.axes.entry(axis.to_owned()).or_default().components.insert(name.to_owned());
    }

    /// Adds a peer as a value of `client` and `server`.
    fn peer(&mut self, name: &str, peer: &Peer) {
        let mut facts: BTreeMap<String, Value> =
            peer.facts.iter().map(|(fact, text)| (fact.clone(), text.clone().into())).collect();
        facts.insert("name".to_owned(), name.into());
        for role in ["client", "server"] {
            self.value(role, name, facts.clone());
            for component in peer.versions.keys() {
                self.component(role, component);
            }
        }
    }
}

/// All facts of a value: those of its built-in meaning, overlaid with its own.
#[must_use]
pub(crate) fn facts_of(axis: &str, value: &AxisValue) -> BTreeMap<String, Value> {
    let mut facts: BTreeMap<String, Value> = axis::find_value(axis, &value.means)
        .map(|def| def.facts.iter().map(|(name, fact)| ((*name).to_owned(), fact.to_json())).collect())
        .unwrap_or_default();
    facts.extend(value.facts.iter().map(|(name, fact)| (name.clone(), fact.clone())));
    facts
}
