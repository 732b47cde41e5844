//! soupscen: a declarative scenario test engine for cross-language RPC compatibility.
pub mod axis;
pub mod diag;
pub mod event;
pub mod filter;
pub mod journal;
pub mod op;
pub mod outcome;
pub mod plan;
pub mod peer;
pub mod pki;
pub mod report;
pub mod scenario;
pub mod wire;
pub mod transport;
pub mod handshake;
