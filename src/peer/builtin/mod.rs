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

use super::PeerError;
use crate::axis::values::KeyType;
use crate::transport::Fault;

/// The key of a certificate that is made where none is asked for. go-plugin makes P-521 keys, which
/// `BoringSSL` (grpcio) cannot verify; the built-in peer makes one that everybody can.
pub const DEFAULT_KEY: KeyType = KeyType::P256;

impl From<Fault> for PeerError {
    fn from(fault: Fault) -> Self {
        Self { reported: fault.reported, refused: fault.refused, harness: false, timed_out: fault.timed_out }
    }
}
