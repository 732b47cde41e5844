//! soupscen: a declarative scenario test engine for cross-language RPC compatibility.
pub mod axis;
// Only what compiles yet; `pub mod cli;` when all commands are there.
pub mod cli {
    pub mod plan;
}
pub mod diag;
pub mod event;
pub mod filter;
pub mod journal;
pub mod op;
pub mod outcome;
pub mod plan;
pub mod peer;
pub mod pki;
pub mod scenario;
pub mod wire;
pub mod transport;
pub mod handshake;
