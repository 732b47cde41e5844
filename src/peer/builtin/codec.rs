//! A codec that passes encoded messages through, so that one client calls any method.

use bytes::{Buf as _, BufMut as _, Bytes};
use tonic::Status;
use tonic::codec::{BufferSettings, Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};

/// tonic allocates a buffer of this size per call and direction, and grows it by as much. Its own
/// 8 KiB is far more than KV messages need and shows at thousands of calls a second.
const BUFFER: BufferSize = BufferSize { grow: 1 << 10, yield_at: 32 << 10 };

struct BufferSize {
    grow: usize,
    yield_at: usize,
}

#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(item);
        Ok(())
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::new(BUFFER.grow, BUFFER.yield_at)
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        // A copy: what is kept of a message must not keep the whole receive buffer alive.
        let mut message = Vec::with_capacity(buffer.remaining());
        message.put(buffer);
        Ok(Some(Bytes::from(message)))
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::new(BUFFER.grow, BUFFER.yield_at)
    }
}
