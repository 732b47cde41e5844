//! The table of built-in axes. L1: reads the shared model for [`Affects`] and nothing above it.
//! One file per entry, one line in [`table`]; the reader, the plan, the schema and the docs all
//! take names, aliases, facts and conditions from here. Expressions in it are texts of the
//! language of [`crate::filter`].

mod client;
mod client_key;
mod group;
mod key;
mod launch;
pub mod options;
mod server;
mod service;
mod tls;
mod tls_version;
mod transport;
pub mod values;

use std::borrow::Cow;

use crate::scenario::model::Affects;

/// The name of the value of an axis that is absent or does not apply.
pub const UNSET: &str = "unset";

/// The value of an axis that leaves the choice to the peer: nothing is requested.
pub const AUTO_KEY: &str = "auto";

/// One built-in axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AxisDef {
    /// Its name, as in YAML, expressions and reports.
    pub name: &'static str,
    /// One sentence for people.
    pub about: &'static str,
    /// Its values; empty for `client`, `server` and `service`, whose values the scenario declares.
    pub values: &'static [ValueDef],
    /// The condition under which it takes part in a row; always when absent.
    pub applies: Option<&'static str>,
    /// What it affects, from which follows what cases can share.
    pub affects: Affects,
    /// Which role needs the capability `axis.value` to be asked for a value.
    pub needs: Needs,
    /// The name under which its effective value is recorded; absent when nothing is observed.
    pub fact: Option<&'static str>,
}

/// One value of a built-in axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ValueDef {
    /// Canonical name.
    pub name: &'static str,
    /// Other spellings; letter case and `_` against `-` never matter.
    pub aliases: &'static [&'static str],
    /// Facts, without the axis name.
    pub facts: &'static [(&'static str, FactDef)],
    /// The condition under which a row may have it, and why; always when absent.
    pub applies: Option<(&'static str, &'static str)>,
    /// Asking for it asks nothing of a peer, so it needs no capability (`key: auto`).
    pub asks_nothing: bool,
}

/// A fact of a built-in value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FactDef {
    /// A word.
    Text(&'static str),
    /// A number.
    Number(u32),
}

impl FactDef {
    /// As the model holds facts.
    #[must_use]
    pub fn to_json(self) -> serde_json::Value {
        match self {
            Self::Text(text) => text.into(),
            Self::Number(number) => number.into(),
        }
    }
}

/// Which role needs the capability `axis.value`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Needs {
    /// No capability is asked for.
    Nothing,
    /// The client.
    Client,
    /// The server.
    Server,
    /// Both.
    Both,
    /// One of them is enough: what is negotiated can be pinned at either end.
    Either,
}

/// A value without facts and conditions.
const fn plain(name: &'static str, aliases: &'static [&'static str]) -> ValueDef {
    ValueDef { name, aliases, facts: &[], applies: None, asks_nothing: false }
}

static TABLE: [AxisDef; 10] = [
    client::AXIS,
    server::AXIS,
    service::AXIS,
    launch::AXIS,
    transport::AXIS,
    tls::AXIS,
    key::AXIS,
    client_key::AXIS,
    tls_version::AXIS,
    group::AXIS,
];

/// All built-in axes, in the order that blocks and listings use.
#[must_use]
pub fn table() -> &'static [AxisDef] {
    &TABLE
}

/// The entry of an axis.
#[must_use]
pub fn find(axis: &str) -> Option<&'static AxisDef> {
    TABLE.iter().find(|def| def.name == axis)
}

/// The entry of a canonical value.
#[must_use]
pub fn find_value(axis: &str, value: &str) -> Option<&'static ValueDef> {
    find(axis)?.values.iter().find(|def| def.name == value)
}

/// The canonical name of a value of a built-in axis, from any of its spellings. `None` for an
/// unknown one, and for axes whose values the scenario declares.
#[must_use]
pub fn canonical(axis: &str, text: &str) -> Option<&'static str> {
    let wanted = normal(text);
    find(axis)?.values.iter().find(|def| def.name == wanted || def.aliases.contains(&&*wanted)).map(|def| def.name)
}

/// The canonical text of a fact's value, from any of its spellings (`key.curve == secp256r1` means
/// `p256`); the text itself where there is nothing to resolve.
#[must_use]
pub fn canonical_fact<'a>(axis: &str, fact: &str, text: &'a str) -> Cow<'a, str> {
    match (axis, fact) {
        ("key" | "client_key", "curve") => canonical("key", text).map_or(Cow::Borrowed(text), Cow::Borrowed),
        ("key" | "client_key", "algorithm") if normal(text) == "ec" => Cow::Borrowed("ecdsa"),
        ("tls", "mode") => canonical("tls", text).map_or(Cow::Borrowed(text), Cow::Borrowed),
        _ => Cow::Borrowed(text),
    }
}

/// Spellings differ in letter case and in `_` against `-` only by taste. Aliases in the table are
/// written in this form.
fn normal(text: &str) -> Cow<'_, str> {
    if text.bytes().any(|byte| byte.is_ascii_uppercase() || byte == b'_') {
        Cow::Owned(text.to_ascii_lowercase().replace('_', "-"))
    } else {
        Cow::Borrowed(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_aliases_are_normal_and_unique() {
        for axis in table() {
            let mut seen = std::collections::BTreeSet::new();
            for value in axis.values {
                for name in std::iter::once(&value.name).chain(value.aliases) {
                    assert_eq!(normal(name), *name, "{}: {name} is not in normal form", axis.name);
                    assert!(seen.insert(*name), "{}: {name} is there twice", axis.name);
                    assert_ne!(*name, UNSET);
                }
            }
        }
    }

    #[test]
    fn every_value_of_the_typed_enums_is_in_the_table_and_the_reverse() {
        use values::{Group, KeyType, Launch, TlsMode, TlsVersion, Transport};
        fn names(axis: &str) -> Vec<&'static str> {
            find(axis).unwrap().values.iter().filter(|v| !v.asks_nothing).map(|v| v.name).collect()
        }
        assert_eq!(names("launch"), Launch::ALL.iter().map(|v| v.name()).collect::<Vec<_>>());
        assert_eq!(names("transport"), Transport::ALL.iter().map(|v| v.name()).collect::<Vec<_>>());
        assert_eq!(names("tls"), TlsMode::ALL.iter().map(|v| v.name()).collect::<Vec<_>>());
        assert_eq!(names("key"), KeyType::ALL.iter().map(|v| v.name()).collect::<Vec<_>>());
        assert_eq!(names("client_key"), names("key"));
        assert_eq!(names("tls_version"), TlsVersion::ALL.iter().map(|v| v.name()).collect::<Vec<_>>());
        assert_eq!(names("group"), Group::ALL.iter().map(|v| v.name()).collect::<Vec<_>>());
    }

    #[test]
    fn spellings() {
        for (axis, text, name) in [
            ("key", "secp256r1", "p256"),
            ("key", "P-256", "p256"),
            ("key", "prime256v1", "p256"),
            ("key", "ec_256", "p256"),
            ("key", "ec-384", "p384"),
            ("key", "rsa_2048", "rsa-2048"),
            ("key", "RSA4096", "rsa-4096"),
            ("client_key", "secp521r1", "p521"),
            ("tls", "disabled", "none"),
            ("tls", "mtls", "mutual"),
            ("tls_version", "TLSv1.2", "1.2"),
            ("tls_version", "tls1.3", "1.3"),
            ("group", "p256", "secp256r1"),
            ("group", "X25519MLKEM768", "x25519mlkem768"),
        ] {
            assert_eq!(canonical(axis, text), Some(name), "{axis}: {text}");
        }
        assert_eq!(canonical("key", "p257"), None);
        assert_eq!(canonical("client", "go"), None);
        assert_eq!(canonical_fact("key", "curve", "secp384r1"), "p384");
        assert_eq!(canonical_fact("key", "algorithm", "EC"), "ecdsa");
    }
}
