//! `group`: the key-exchange group, by its name in the TLS Supported Groups registry. It is
//! negotiated, so it can be pinned at either end.
use super::{AxisDef, Needs, plain};
use crate::scenario::model::Affects;

pub(super) const AXIS: AxisDef = AxisDef {
    name: "group",
    about: "the key-exchange group",
    values: &[
        plain("x25519", &["curve25519"]),
        plain("secp256r1", &["p256", "p-256", "prime256v1"]),
        plain("secp384r1", &["p384", "p-384"]),
        plain("secp521r1", &["p521", "p-521"]),
        plain("x25519mlkem768", &["x25519-mlkem768"]),
    ],
    applies: Some("tls.mode in [auto, server, mutual]"),
    affects: Affects::Server,
    needs: Needs::Either,
    fact: Some("group"),
};
