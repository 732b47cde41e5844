//! The built-in Rust peer: client and server for `proto.KV` and
//! `soup.stock.v1.Stock`, in process and as a go-plugin. L4.
//!
//! [`BuiltinServer`] serves in this process; [`plugin`] is the same server as a program (`soupscen
//! serve kv`, `soupscen serve stock`), which any go-plugin host can start; [`BuiltinClient`] dials, and hosts plugins.
//! [`broken`] has the plugins that are wrong on purpose.

mod account;
pub mod broken;
mod channel;
mod client;
mod codec;
mod control;
mod host;
mod kv;
pub mod log;
pub mod plugin;
pub mod proto;
mod server;
pub mod spawn;
pub mod stock;
mod store;
mod stream;

pub use client::BuiltinClient;
pub use server::{BuiltinServer, KV_SERVICE};
pub use stock::STOCK_SERVICE;

use std::collections::BTreeMap;

use super::PeerError;
use crate::axis::values::KeyType;
use crate::transport::Fault;

/// The key of a certificate that is made where none is asked for. go-plugin makes P-521 keys, which
/// `BoringSSL` (grpcio) cannot verify; the built-in peer makes one that everybody can.
pub const DEFAULT_KEY: KeyType = KeyType::P256;

/// Its version, `self`, and those of what it is made of, where the build knows them.
#[must_use]
pub fn versions() -> BTreeMap<String, String> {
    let all = [
        ("self", Some(env!("CARGO_PKG_VERSION"))),
        ("h2", option_env!("SOUPSCEN_H2_VERSION")),
        ("hyper", option_env!("SOUPSCEN_HYPER_VERSION")),
        ("tonic", option_env!("SOUPSCEN_TONIC_VERSION")),
    ];
    all.into_iter().filter_map(|(name, version)| Some((name.to_owned(), version?.to_owned()))).collect()
}

impl From<Fault> for PeerError {
    fn from(fault: Fault) -> Self {
        Self { reported: fault.reported, refused: fault.refused, harness: false, timed_out: fault.timed_out }
    }
}
