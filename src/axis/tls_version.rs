//! `tls_version`: the TLS version. It is negotiated, so it can be pinned at either end.
use super::{AxisDef, Needs, plain};
use crate::scenario::model::Affects;

pub(super) const AXIS: AxisDef = AxisDef {
    name: "tls_version",
    about: "the TLS version",
    values: &[
        plain("1.2", &["tlsv1.2", "tls1.2", "tls-1.2", "tls12"]),
        plain("1.3", &["tlsv1.3", "tls1.3", "tls-1.3", "tls13"]),
    ],
    applies: Some("tls.mode in [auto, server, mutual]"),
    affects: Affects::Server,
    needs: Needs::Either,
    fact: Some("tls_version"),
};
