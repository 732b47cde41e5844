//! Reads a scenario and its includes into a resolved, checked [`model::Scenario`]. L1.
pub mod model;

mod json;
mod syntax;
mod yaml;
