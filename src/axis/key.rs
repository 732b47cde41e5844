//! `key`: the key of the server's certificate. It applies wherever the server shows one.
use super::{AxisDef, FactDef, Needs, ValueDef};
use crate::scenario::model::Affects;

const fn key(
    name: &'static str,
    aliases: &'static [&'static str],
    facts: &'static [(&'static str, FactDef)],
) -> ValueDef {
    ValueDef { name, aliases, facts, applies: None, asks_nothing: false }
}

/// Key types, also those of `client_key`. `bits` is the size of the modulus or of the field.
pub(super) const VALUES: &[ValueDef] = &[
    key("rsa-2048", &["rsa2048"], &[("algorithm", FactDef::Text("rsa")), ("bits", FactDef::Number(2048))]),
    key("rsa-3072", &["rsa3072"], &[("algorithm", FactDef::Text("rsa")), ("bits", FactDef::Number(3072))]),
    key("rsa-4096", &["rsa4096"], &[("algorithm", FactDef::Text("rsa")), ("bits", FactDef::Number(4096))]),
    key(
        "p256",
        &["p-256", "secp256r1", "prime256v1", "nistp256", "ec-256", "ec256", "ecdsa-p256"],
        &[("algorithm", FactDef::Text("ecdsa")), ("curve", FactDef::Text("p256")), ("bits", FactDef::Number(256))],
    ),
    key(
        "p384",
        &["p-384", "secp384r1", "nistp384", "ec-384", "ec384", "ecdsa-p384"],
        &[("algorithm", FactDef::Text("ecdsa")), ("curve", FactDef::Text("p384")), ("bits", FactDef::Number(384))],
    ),
    key(
        "p521",
        &["p-521", "secp521r1", "nistp521", "ec-521", "ec521", "ecdsa-p521"],
        &[("algorithm", FactDef::Text("ecdsa")), ("curve", FactDef::Text("p521")), ("bits", FactDef::Number(521))],
    ),
    key("ed25519", &["ed-25519"], &[("algorithm", FactDef::Text("ed25519")), ("bits", FactDef::Number(256))]),
    ValueDef { name: super::AUTO_KEY, aliases: &["default"], facts: &[], applies: None, asks_nothing: true },
];

pub(super) const AXIS: AxisDef = AxisDef {
    name: "key",
    about: "the key of the server's certificate",
    values: VALUES,
    applies: Some("tls.mode in [auto, server, mutual]"),
    affects: Affects::Server,
    needs: Needs::Server,
    fact: Some("key"),
};
