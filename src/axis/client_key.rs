//! `client_key`: the key of the client's certificate. It applies wherever the client shows one.
use super::{AxisDef, Needs};
use crate::scenario::model::Affects;

pub(super) const AXIS: AxisDef = AxisDef {
    name: "client_key",
    about: "the key of the client's certificate",
    values: super::key::VALUES,
    applies: Some("tls.mode in [auto, mutual]"),
    // Under AutoMTLS a server trusts exactly the certificate that it was started with, so another
    // client identity is another server.
    affects: Affects::Server,
    needs: Needs::Client,
    fact: Some("client_key"),
};
