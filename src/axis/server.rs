//! `server`: which peer plays the server. Its values are the scenario's peers.
use super::{AxisDef, Needs};
use crate::scenario::model::Affects;

pub(super) const AXIS: AxisDef = AxisDef {
    name: "server",
    about: "the peer that plays the server",
    values: &[],
    applies: None,
    affects: Affects::Server,
    needs: Needs::Nothing,
    fact: None,
};
