//! The numbers of docs/stock.md.

use bytes::Bytes;
use tonic::Status;

use super::mistake::{Mistake, Wrong};

/// A key, in bytes of UTF-8.
pub(super) const KEY: usize = 512;
/// A value, in bytes.
pub(super) const VALUE: usize = 1 << 20;
/// All keys and values of a server together, in bytes; each key counts [`ENTRY`] more.
pub(super) const STORE: usize = 256 << 20;
/// What a key counts beside its bytes and its value's.
pub(super) const ENTRY: usize = 64;
/// What waits for one reader, in bytes; an event counts as its key, value and padding, and [`EVENT`].
pub(super) const WAITING: usize = 4 << 20;
/// What an event counts beside its bytes.
pub(super) const EVENT: usize = 64;
/// Refused items of a batch.
pub(super) const REFUSED: usize = 1000;
/// Quantity of an order.
pub(super) const QUANTITY: u32 = 1_000_000;
/// Stock of a symbol.
pub(super) const STOCK: u32 = 1_000_000_000;
/// A delay that is asked for, and `settle_ms`, in milliseconds.
pub(super) const DELAY_MS: u32 = 60_000;
/// Padding that is asked for, in bytes.
pub(super) const PADDING: u32 = 8 << 20;
/// Text, and details in all, of a status that is asked for, in bytes.
pub(super) const TEXT: usize = 1024;
/// Broken calls that are remembered.
pub(super) const BROKEN: usize = 1000;

/// Whether a key is one.
pub(super) fn check_key(key: &str, wrong: Wrong) -> Result<(), Status> {
    let length = if wrong.is(Mistake::KeyLimitInCharacters) { key.chars().count() } else { key.len() };
    let limit = if wrong.is(Mistake::KeyLimitOffByOne) { KEY - 1 } else { KEY };
    if key.is_empty() && !wrong.is(Mistake::EmptyKeyTaken) {
        return Err(Status::invalid_argument("the key is empty"));
    }
    if length > limit {
        return Err(Status::invalid_argument(format!("the key has {length} bytes, the limit is {limit}")));
    }
    Ok(())
}

/// The same of a server that may look at no length here.
pub(super) fn check_key_unless(long: Mistake, key: &str, wrong: Wrong) -> Result<(), Status> {
    if wrong.is(long) && key.len() > KEY { Ok(()) } else { check_key(key, wrong) }
}

/// Whether a value is one.
pub(super) fn check_value(value: &Bytes, wrong: Wrong) -> Result<(), Status> {
    if value.len() > VALUE && !wrong.is(Mistake::AnyValueSize) {
        return Err(Status::invalid_argument(format!("the value has {} bytes, the limit is {VALUE}", value.len())));
    }
    Ok(())
}
