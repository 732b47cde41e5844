//! `client`: which peer plays the client. Its values are the scenario's peers.
use super::{AxisDef, Needs};
use crate::scenario::model::Affects;

pub(super) const AXIS: AxisDef = AxisDef {
    name: "client",
    about: "the peer that plays the client",
    values: &[],
    applies: None,
    affects: Affects::Client,
    needs: Needs::Nothing,
    fact: None,
};
