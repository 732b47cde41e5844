//! Peers that nobody wrote for us: any client program that does one op per run, any server program
//! that can be dialled. What they print and how they end is all that they tell; the relay sees the
//! rest. Reads the scenario's [`model`](crate::scenario::model), and `process` for everything that
//! runs.

mod client;
mod command;
mod ports;
mod ready;
mod run;
mod server;
mod verdict;

use serde_json::{Map, Value};

pub use client::{Begun, ExecClient, Overseer, refuses};
pub use command::Setting;
pub(crate) use command::quote;
pub(crate) use ready::dialled;
pub use server::{Exclusion, ExecServer};

use crate::outcome::evidence::Reported;
use crate::outcome::{Cause, Certainty, Phase};
use crate::peer::PeerError;
use crate::peer::words::{KEPT, ends};

/// Names and values of templates.
type Context = Map<String, Value>;

/// The harness cannot go on with this program: nothing is said of the pair.
fn harness(code: &str, text: impl Into<String>) -> PeerError {
    let text = ends(&text.into(), KEPT);
    let cause = Cause { code: code.into(), certainty: Certainty::Observed, text: text.clone() };
    PeerError {
        reported: Reported { phase: Some(Phase::Spawn), error: text, native: None, status: None, cause: Some(cause) },
        refused: false,
        harness: true,
        timed_out: false,
    }
}

/// A failure in the words of a program.
fn told(phase: Option<Phase>, text: impl Into<String>, cause: Option<Cause>) -> PeerError {
    PeerError {
        reported: Reported { phase, error: ends(&text.into(), KEPT), native: None, status: None, cause },
        refused: false,
        harness: false,
        timed_out: false,
    }
}
