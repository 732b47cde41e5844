//! soupscen: a declarative scenario test engine for cross-language RPC compatibility.
pub mod axis;
pub mod diag;
pub mod event;
pub mod filter;
pub mod op;
pub mod outcome;
pub mod plan;
pub mod peer;
pub mod pki;
pub mod process;
pub mod scenario;
