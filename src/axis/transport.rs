//! `transport`: the socket family between client and server. Under `launch: plugin` it is the
//! plugin's choice, so the server needs the capability to be asked for one in either case.
use super::{AxisDef, Needs, plain};
use crate::scenario::model::Affects;

pub(super) const AXIS: AxisDef = AxisDef {
    name: "transport",
    about: "the socket family",
    values: &[plain("tcp", &[]), plain("unix", &["uds", "unix-socket"])],
    applies: None,
    affects: Affects::Server,
    needs: Needs::Both,
    fact: Some("transport"),
};
