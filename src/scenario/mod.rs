//! Reads a scenario and its includes into a resolved, checked [`model::Scenario`]. L1: reads `diag`,
//! `filter`, `axis` and `op`; read by everything above. Files come through [`Files`], so nothing
//! but `disk` touches the disk.
//!
//! Text → spanned tree (`yaml`) → typed parts, problem by problem (`decode`, and one module for each
//! part) → names resolved and expressions checked (`load`). Every problem of every file is reported
//! at once, each with its place.

pub mod disk;
pub mod files;
pub mod made;
pub mod model;
pub mod schema;
pub mod template;

mod axes;
mod builtin;
pub(crate) mod decode;
pub mod exec;
mod expr;
pub(crate) mod json;
mod load;
mod matrix;
mod peers;
mod proto;
mod reader;
pub(crate) mod reads;
mod rules;
pub(crate) mod scope;
mod scripts;
mod services;
mod settings;
mod syntax;
mod variants;
pub(crate) mod yaml;

#[cfg(test)]
mod tests;

pub use disk::DiskFiles;
pub use files::{FileProblem, Files, MAX_FILE, MemoryFiles};
pub use load::{PeerList, load, load_peers};
