//! Processes: the guard over a run, keepers over each program, the shim around plugin servers and
//! the hub that it reports to, bounded capture, temporary folders. L3; Linux only. Read by `peer`
//! and `exec`; `main` asks [`dispatch`] first and runs its commands under [`guard::run_guarded`].
//!
//! ```text
//! guard ── engine ── keeper ── program ── …              (each a subreaper but the program)
//!   └─ cleaner                                           (own session; for when both are killed)
//!                       └─ host ── shim front
//!                       └─ shim keeper ── plugin ── …    (own session; reports to the hub)
//! ```
//! Whoever of these is killed, its neighbours notice by the end of a pipe or socket, and everything
//! below is killed by walking up to it: orphans come to the next subreaper, so none is out of reach.

pub mod capture;
pub mod environment;
mod folders;
pub mod guard;
pub mod hub;
mod interrupts;
mod keeper;
pub mod limits;
mod messages;
pub mod scratch;
mod shim;
mod spawned;
mod spawner;
mod sweep;
mod sys;

use std::ffi::OsString;
use std::process::ExitCode;

pub use environment::Inherit;
pub(crate) use folders::remove_tree;
pub use interrupts::Interrupts;
pub use spawned::{Spawned, Watcher};
pub use spawner::{Program, SpawnError, Spawner};

/// The hidden command under which this program is a shim.
pub(crate) const SHIM_COMMAND: &str = "__shim";
/// The hidden command under which this program runs a stand-in: a file that a client takes for its
/// server's program.
pub(crate) const STAND_IN_COMMAND: &str = "__server";

/// Runs this process as a shim, if that is what its arguments say. Must be asked first thing in
/// `main`: a shim is on the critical path of every plugin start.
#[must_use]
pub fn dispatch(arguments: impl IntoIterator<Item = OsString>) -> Option<ExitCode> {
    let mut arguments = arguments.into_iter().skip(1);
    let command = arguments.next()?;
    if command == SHIM_COMMAND {
        return Some(shim::run(arguments.collect()));
    }
    (command == STAND_IN_COMMAND).then(|| shim::stand_in(arguments.collect()))
}
