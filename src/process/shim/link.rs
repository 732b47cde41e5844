//! A shim's connection to its hub. Every wait is bounded: without a hub, or with one that does not
//! answer, the plugin must run as if there were no shim.

use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::process::messages::{ANSWER_WITHIN, FromShim, MESSAGE_BYTES, ToShim, VARIABLE, encode};

/// How long a message may wait for room in the hub's socket.
const SEND_WITHIN: Duration = Duration::from_secs(1);

/// What came from the hub.
pub(super) enum Heard {
    /// A message.
    Message(ToShim),
    /// Nothing whole yet.
    Nothing,
    /// The hub is gone, or talks nonsense.
    Lost,
}

/// The connection.
pub(super) struct Link {
    socket: socket2::Socket,
    received: Vec<u8>,
}

impl Link {
    /// Connects to the hub that the environment names; gives the ticket's token as well.
    pub(super) fn from_environment() -> Option<(Self, String)> {
        Self::by_ticket(&std::env::var(VARIABLE).ok()?)
    }

    /// The same with a ticket, `TOKEN@SOCKET`.
    pub(super) fn by_ticket(ticket: &str) -> Option<(Self, String)> {
        let (token, path) = ticket.split_once('@')?;
        let socket = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None).ok()?;
        // Bounds connecting too, when the hub's queue is full.
        socket.set_write_timeout(Some(SEND_WITHIN)).ok()?;
        socket.connect(&socket2::SockAddr::unix(path).ok()?).ok()?;
        Some((Self { socket, received: Vec::new() }, token.to_owned()))
    }

    /// The descriptor, to wait for readability.
    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Sends; `false` when the hub is gone.
    pub(super) fn send(&mut self, message: &FromShim) -> bool {
        self.socket.write_all(&encode(message)).is_ok()
    }

    /// Takes in what is there. Call when the descriptor is readable.
    pub(super) fn hear(&mut self) -> Heard {
        let mut chunk = [0; 16 * 1024];
        match self.socket.read(&mut chunk) {
            Ok(n @ 1..) => self.received.extend_from_slice(chunk.get(..n).unwrap_or_default()),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            _ => return Heard::Lost,
        }
        let Some(end) = self.received.iter().position(|b| *b == b'\n') else {
            return if self.received.len() > MESSAGE_BYTES { Heard::Lost } else { Heard::Nothing };
        };
        let line: Vec<u8> = self.received.drain(..=end).collect();
        serde_json::from_slice(&line).map_or(Heard::Lost, Heard::Message)
    }

    /// Waits for the answer to a hello, for as long as the front lives.
    pub(super) fn answer(&mut self, life: &OwnedFd) -> Option<ToShim> {
        let until = Instant::now() + ANSWER_WITHIN;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            // Signals of the host may wait in the lifeline: only its end counts here.
            let mut ready =
                [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN), PollFd::new(life.as_fd(), PollFlags::empty())];
            let got = poll(&mut ready, PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO)).ok()?;
            let front_gone = ready[1].revents().is_some_and(|r| !r.is_empty());
            if got == 0 || front_gone {
                return None;
            }
            match self.hear() {
                Heard::Message(message) => return Some(message),
                Heard::Nothing => {}
                Heard::Lost => return None,
            }
        }
    }
}
