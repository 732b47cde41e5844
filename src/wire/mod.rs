//! The relay between client and server, and the passive reader of what passes through it. L3.
//! Produces `outcome::evidence::WireReport`; started by `exec` for every instance.

mod conversation;
mod http2;
mod relay;
mod socket;
mod tls;

#[cfg(test)]
mod tests;

pub use conversation::{Conversation, News};
pub use relay::Relay;
pub use socket::Endpoint;

use crate::outcome::evidence::CertFacts;

/// Reads a certificate's DER; `None` when it is no certificate. A plain function, so that this
/// module needs no X.509 of its own.
pub type CertReader = fn(&[u8]) -> Option<CertFacts>;
