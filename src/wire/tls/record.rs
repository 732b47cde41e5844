//! The record layer: where one record ends and the next begins, without holding a record.

use super::content;

/// The longest record body that any version allows (RFC 5246 section 6.2.3: 2^14 + 2048).
pub(in crate::wire) const MAX_PAYLOAD: usize = (1 << 14) + 2048;

/// What comes next in a stream of records.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::wire) enum Piece<'a> {
    /// A record begins.
    Start { kind: u8 },
    /// Some bytes of its body.
    Body { kind: u8, bytes: &'a [u8] },
    /// It is complete.
    End { kind: u8, length: u16 },
    /// These are no TLS records; nothing more will be understood.
    NotTls,
}

/// Splits a stream into records. Holds a header of five bytes and nothing of any body.
#[derive(Debug, Default)]
pub(in crate::wire) struct Records {
    header: [u8; 5],
    have: usize,
    left: usize,
    started: bool,
    broken: bool,
}

impl Records {
    /// The next piece, taking what it covers off `input`; `None` when more bytes are needed.
    pub(in crate::wire) fn next<'a>(&mut self, input: &mut &'a [u8]) -> Option<Piece<'a>> {
        if self.broken {
            return None;
        }
        while self.have < self.header.len() {
            let (first, rest) = input.split_first()?;
            self.header[self.have] = *first;
            self.have += 1;
            *input = rest;
        }
        let [kind, major, _, high, low] = self.header;
        let length = u16::from_be_bytes([high, low]);
        if !self.started {
            if !looks_like_record(kind, major) || usize::from(length) > MAX_PAYLOAD {
                self.broken = true;
                return Some(Piece::NotTls);
            }
            self.started = true;
            self.left = usize::from(length);
            return Some(Piece::Start { kind });
        }
        if self.left == 0 {
            self.started = false;
            self.have = 0;
            return Some(Piece::End { kind, length });
        }
        if input.is_empty() {
            return None;
        }
        let (bytes, rest) = input.split_at(self.left.min(input.len()));
        self.left -= bytes.len();
        *input = rest;
        Some(Piece::Body { kind, bytes })
    }
}

/// Whether a record may begin like this: a known content type, and major version 3 (SSL 3.0 and
/// every TLS).
pub(in crate::wire) const fn looks_like_record(kind: u8, major: u8) -> bool {
    kind >= content::CHANGE_CIPHER_SPEC && kind <= content::HEARTBEAT && major == 3
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pieces: &[&[u8]]) -> Vec<String> {
        let (mut records, mut out) = (Records::default(), Vec::new());
        for mut input in pieces.iter().copied() {
            while let Some(piece) = records.next(&mut input) {
                out.push(match piece {
                    Piece::Start { kind } => format!("start {kind}"),
                    Piece::Body { kind, bytes } => format!("body {kind} {}", hex::encode(bytes)),
                    Piece::End { kind, length } => format!("end {kind} {length}"),
                    Piece::NotTls => "not tls".into(),
                });
            }
        }
        out
    }

    #[test]
    fn whole_and_split_records_read_alike() {
        let whole = read(&[&[22, 3, 1, 0, 2, 7, 8, 21, 3, 3, 0, 0]]);
        assert_eq!(whole, ["start 22", "body 22 0708", "end 22 2", "start 21", "end 21 0"]);
        let split = read(&[&[22], &[3, 1, 0], &[2, 7], &[8, 21, 3, 3], &[0, 0]]);
        assert_eq!(split, ["start 22", "body 22 07", "body 22 08", "end 22 2", "start 21", "end 21 0"]);
    }

    #[test]
    fn what_is_no_record_stops_the_reading() {
        assert_eq!(read(&[b"GET / HTTP/1.1\r\n"]), ["not tls"]);
        assert_eq!(read(&[&[22, 3, 3, 0xff, 0xff], &[22, 3, 3, 0, 0]]), ["not tls"]);
    }
}
