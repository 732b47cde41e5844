//! `exec`: peers that are programs with a command line, and nothing more. Reads them; everything
//! that can be wrong is found here, with its line.

mod client;
mod command;
pub(crate) mod groups;
pub mod model;
mod patterns;
pub(crate) mod rewrite;
mod server;

pub(super) use client::client;
pub(super) use command::environment;
pub(super) use server::server;
