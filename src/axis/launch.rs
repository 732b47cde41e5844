//! `launch`: who starts the server. An absent axis means `direct`.
//!
//! What a server needs for it is a way of being run (`plugin`, or a direct one), which the plan
//! reads from its role; the capability is the client's: to host plugins, to dial addresses.
use super::{AxisDef, Needs, plain};
use crate::scenario::model::Affects;

pub(super) const AXIS: AxisDef = AxisDef {
    name: "launch",
    about: "who starts the server: the client as a go-plugin host, or the engine",
    values: &[plain("plugin", &["go-plugin"]), plain("direct", &["standalone"])],
    applies: None,
    affects: Affects::Server,
    needs: Needs::Client,
    fact: None,
};
