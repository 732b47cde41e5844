//! Reads the HTTP/2 frames of a plaintext connection as they pass (RFC 9113), as far as gRPC's own
//! framing: how many messages each side sent, which of them were compressed, how many PINGs. Pure
//! and bounded: payloads are skipped, not kept, and what is no HTTP/2 or no gRPC ends the reading of
//! its stream. Header blocks stay unread, so that nothing is known of paths and metadata.

use std::collections::HashMap;

use crate::outcome::evidence::{Side, Spoken};

/// Bytes of a frame header (RFC 9113 section 4.1).
const HEADER: usize = 9;
/// Bytes before a gRPC message: the compressed flag and the length (gRPC over HTTP/2, "Requests").
const PREFIX: usize = 5;
/// Streams that are followed at once in one direction; messages of further ones are not counted.
const MAX_STREAMS: usize = 1024;

/// Frame types that matter here (RFC 9113 section 6).
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const PING: u8 = 6;
/// Flags.
const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const PADDED: u8 = 8;

/// Both directions of one connection.
#[derive(Debug, Default)]
pub(super) struct Frames {
    client: Direction,
    server: Direction,
}

/// One direction, somewhere in a frame.
#[derive(Debug, Default)]
struct Direction {
    header: [u8; HEADER],
    /// Bytes of `header` that are there; all of them while in a payload.
    filled: usize,
    /// Bytes of the payload that are still to come.
    payload: u32,
    /// The next byte is the length of the padding.
    pad_due: bool,
    /// Bytes of padding at the end of the payload.
    padding: u32,
    streams: HashMap<u32, Message>,
    /// DATA came from the other side since this side's last PING: the next one may be its answer to
    /// that (a measurement of bandwidth), and not a sign of life.
    prompted: bool,
}

/// Where a stream is in its messages.
#[derive(Debug, Default)]
struct Message {
    prefix: [u8; PREFIX],
    filled: usize,
    /// Bytes of the message that are still to come.
    rest: u32,
    /// It is no gRPC: nothing more of it is read.
    foreign: bool,
}

impl Frames {
    /// Takes bytes of `side` after the client's preface; adds what they say to `spoken`.
    pub(super) fn bytes(&mut self, side: Side, mut input: &[u8], spoken: &mut Spoken) {
        while !input.is_empty() {
            let direction = self.direction(side);
            if direction.filled < HEADER {
                let take = (HEADER - direction.filled).min(input.len());
                let (head, rest) = input.split_at(take);
                direction.header[direction.filled..direction.filled + take].copy_from_slice(head);
                direction.filled += take;
                input = rest;
                if direction.filled == HEADER {
                    self.frame(side, spoken);
                }
                continue;
            }
            let take = usize::try_from(direction.payload).unwrap_or(usize::MAX).min(input.len());
            let (body, rest) = input.split_at(take);
            input = rest;
            self.payload(side, body, spoken);
            self.end_of_frame(side);
        }
    }

    /// Streams that are being followed, of both directions; bounded whatever comes.
    pub(super) fn held(&self) -> usize {
        (self.client.streams.len() + self.server.streams.len()) * size_of::<Message>()
    }

    const fn direction(&mut self, side: Side) -> &mut Direction {
        match side {
            Side::Client => &mut self.client,
            Side::Server => &mut self.server,
        }
    }

    /// A frame header is there.
    fn frame(&mut self, side: Side, spoken: &mut Spoken) {
        let direction = self.direction(side);
        let [a, b, c, kind, flags, ..] = direction.header;
        direction.payload = u32::from_be_bytes([0, a, b, c]);
        direction.pad_due = kind == DATA && flags & PADDED != 0 && direction.payload > 0;
        direction.padding = 0;
        match kind {
            PING if flags & ACK == 0 => {
                let unprompted = !direction.prompted;
                direction.prompted = false;
                let side = spoken.of(side);
                side.pings = side.pings.saturating_add(1);
                side.unprompted_pings = side.unprompted_pings.saturating_add(u64::from(unprompted));
            }
            DATA => self.direction(side.other()).prompted = true,
            _ => {}
        }
        self.end_of_frame(side);
    }

    fn payload(&mut self, side: Side, body: &[u8], spoken: &mut Spoken) {
        let direction = self.direction(side);
        let mut body = body;
        let before = direction.payload;
        direction.payload -= u32::try_from(body.len()).unwrap_or(before).min(before);
        if direction.header[3] != DATA {
            return;
        }
        let mut left = before;
        if direction.pad_due
            && let Some((pad, rest)) = body.split_first()
        {
            direction.pad_due = false;
            left -= 1;
            // Longer than the frame: an error of the connection, which its ends will see too.
            direction.padding = u32::from(*pad).min(left);
            body = rest;
        }
        let content = usize::try_from(left - direction.padding.min(left)).unwrap_or(usize::MAX);
        let stream = direction.stream();
        let known = direction.streams.len() < MAX_STREAMS || direction.streams.contains_key(&stream);
        if !known {
            return;
        }
        let message = direction.streams.entry(stream).or_default();
        message.bytes(&body[..content.min(body.len())], side, spoken);
    }

    /// Makes ready for the next frame, if this one is over.
    fn end_of_frame(&mut self, side: Side) {
        let direction = self.direction(side);
        if direction.payload > 0 {
            return;
        }
        direction.filled = 0;
        let (kind, flags, stream) = (direction.header[3], direction.header[4], direction.stream());
        if matches!(kind, DATA | HEADERS) && flags & END_STREAM != 0 {
            direction.streams.remove(&stream);
        }
        if kind == RST_STREAM {
            self.client.streams.remove(&stream);
            self.server.streams.remove(&stream);
        }
    }
}

impl Direction {
    /// The stream of the current frame.
    fn stream(&self) -> u32 {
        let [.., a, b, c, d] = self.header;
        u32::from_be_bytes([a, b, c, d]) & 0x7fff_ffff
    }
}

impl Message {
    /// Takes content of a stream.
    fn bytes(&mut self, mut input: &[u8], side: Side, spoken: &mut Spoken) {
        while !input.is_empty() && !self.foreign {
            if self.rest > 0 {
                let take = usize::try_from(self.rest).unwrap_or(usize::MAX).min(input.len());
                self.rest -= u32::try_from(take).unwrap_or(self.rest);
                input = &input[take..];
                continue;
            }
            let take = (PREFIX - self.filled).min(input.len());
            self.prefix[self.filled..self.filled + take].copy_from_slice(&input[..take]);
            self.filled += take;
            input = &input[take..];
            if self.filled == PREFIX {
                let [flag, a, b, c, d] = self.prefix;
                if flag > 1 {
                    self.foreign = true;
                    return;
                }
                self.filled = 0;
                self.rest = u32::from_be_bytes([a, b, c, d]);
                let side = spoken.of(side);
                side.messages = side.messages.saturating_add(1);
                side.compressed = side.compressed.saturating_add(u64::from(flag));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let mut frame = vec![length[1], length[2], length[3], kind, flags];
        frame.extend(stream.to_be_bytes());
        frame.extend(payload);
        frame
    }

    fn message(flag: u8, body: &[u8]) -> Vec<u8> {
        let mut message = vec![flag];
        message.extend(u32::try_from(body.len()).unwrap().to_be_bytes());
        message.extend(body);
        message
    }

    fn read(side: Side, bytes: &[u8], piece: usize) -> Spoken {
        let (mut frames, mut spoken) = (Frames::default(), Spoken::default());
        for piece in bytes.chunks(piece) {
            frames.bytes(side, piece, &mut spoken);
        }
        spoken
    }

    /// Two streams whose messages are cut by frames anywhere, with padding, PINGs and all between.
    fn conversation() -> Vec<u8> {
        let (plain, packed) = (message(0, &[7; 300]), message(1, b"packed"));
        let mut bytes = frame(4, 0, 0, &[0; 6]);
        bytes.extend(frame(HEADERS, 4, 1, b"header block"));
        bytes.extend(frame(DATA, 0, 1, &plain[..2]));
        bytes.extend(frame(DATA, 0, 3, &packed));
        bytes.extend(frame(PING, 0, 0, &[0; 8]));
        bytes.extend(frame(PING, ACK, 0, &[0; 8]));
        bytes.extend(frame(DATA, 0, 1, &plain[2..100]));
        let mut padded = vec![3];
        padded.extend(&plain[100..]);
        padded.extend([1, 1, 1]);
        bytes.extend(frame(DATA, PADDED, 1, &padded));
        bytes.extend(frame(DATA, 0, 1, &[]));
        bytes.extend(frame(DATA, 0, 1, &[message(0, b""), message(1, b"x")].concat()));
        bytes.extend(frame(DATA, END_STREAM, 3, &[]));
        bytes
    }

    #[test]
    fn messages_are_counted_however_they_are_cut() {
        let bytes = conversation();
        for piece in 1..=bytes.len() {
            let spoken = read(Side::Client, &bytes, piece);
            assert_eq!((spoken.client.messages, spoken.client.compressed), (4, 2), "by {piece}");
            assert_eq!((spoken.client.pings, spoken.client.unprompted_pings), (1, 1), "by {piece}");
            assert_eq!(spoken.server, Spoken::default().server);
        }
    }

    #[test]
    fn a_ping_after_data_is_no_sign_of_life() {
        let (mut frames, mut spoken) = (Frames::default(), Spoken::default());
        let ping = frame(PING, 0, 0, &[0; 8]);
        frames.bytes(Side::Client, &ping, &mut spoken);
        frames.bytes(Side::Server, &frame(DATA, 0, 1, &message(0, b"x")), &mut spoken);
        frames.bytes(Side::Client, &ping, &mut spoken);
        frames.bytes(Side::Client, &ping, &mut spoken);
        assert_eq!((spoken.client.pings, spoken.client.unprompted_pings), (3, 2));
        assert_eq!(spoken.server.pings, 0);
    }

    #[test]
    fn hostile_bytes_hold_nothing_and_end_nothing() {
        // Lengths of everything at their most, padding longer than its frame, flags that do not exist.
        let mut bytes = Vec::new();
        for kind in 0..=255 {
            bytes.extend(frame(kind, 255, u32::MAX, &[255; 40]));
            bytes.extend(frame(kind, PADDED, 5, &[255]));
            bytes.extend(frame(kind, PADDED, 5, &[]));
        }
        for piece in [1, 2, 3, 7, 64, bytes.len()] {
            read(Side::Server, &bytes, piece);
        }
        // The largest frame that there is, of a message of 4 GiB.
        let mut huge = vec![255, 255, 255, DATA, 0, 0, 0, 0, 1, 0, 255, 255, 255, 255];
        huge.resize(1 << 20, 0);
        assert_eq!(read(Side::Client, &huge, 4096).client.messages, 1);

        let (mut frames, mut spoken) = (Frames::default(), Spoken::default());
        for stream in 1..100_000 {
            frames.bytes(Side::Client, &frame(DATA, 0, stream, &[0]), &mut spoken);
        }
        assert!(frames.held() <= 2 * MAX_STREAMS * size_of::<Message>(), "{}", frames.held());
        for stream in 1..100_000 {
            frames.bytes(Side::Server, &frame(RST_STREAM, 0, stream, &[0; 4]), &mut spoken);
        }
        assert_eq!(frames.held(), 0);
    }

    #[test]
    fn what_is_no_grpc_is_not_counted() {
        let mut bytes = frame(DATA, 0, 1, b"<html>not grpc</html>");
        assert_eq!(read(Side::Server, &bytes, bytes.len()).server.messages, 0);
        // Nor is what comes after it, whatever it looks like.
        bytes.extend(frame(DATA, END_STREAM, 1, &message(0, b"")));
        for piece in [1, bytes.len()] {
            assert_eq!(read(Side::Server, &bytes, piece).server.messages, 0);
        }
    }
}
