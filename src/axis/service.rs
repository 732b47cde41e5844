//! `service`: which proto service is under test. Its values are the scenario's services.
//!
//! The capability is `service.NAME`, or the bare name as people write it (`provides: [orders]`).
//! Clients that name no service at all can be asked for any (the plan knows that exception).
use super::{AxisDef, Needs};
use crate::scenario::model::Affects;

pub(super) const AXIS: AxisDef = AxisDef {
    name: "service",
    about: "the service under test",
    values: &[],
    applies: None,
    affects: Affects::Server,
    needs: Needs::Both,
    fact: None,
};
