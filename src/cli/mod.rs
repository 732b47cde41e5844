//! The command line: argv → settings → command → exit status. L6: may use everything, is used by
//! nobody. `args` knows clap and nothing of the work; each command is one file.

mod args;
mod attach;
mod certificates;
mod check;
mod driver;
mod peer_files;
mod peers;
mod printer;
mod run;
mod select;
mod serving;

pub mod call;
pub mod plan;
pub mod report;
pub mod serve;
mod set;
mod tls_args;

use std::process::ExitCode;

use clap::Parser;

use self::args::{Cli, Command};
use self::printer::Printer;

/// Exit statuses; documented in `docs/verdicts.md`.
pub mod exit {
    /// Everything as expected.
    pub const OK: u8 = 0;
    /// A red verdict.
    pub const RED: u8 = 1;
    /// The input cannot be used.
    pub const INVALID: u8 = 2;
    /// Nothing but `errored` is red.
    pub const ERRORED: u8 = 3;
    /// Nothing was selected, or nothing was executed.
    pub const NOTHING: u8 = 4;
    /// Interrupted.
    pub const INTERRUPTED: u8 = 130;
}

/// Parses the arguments and runs the command.
#[must_use]
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // clap prints help and version to stdout and exits 0 for them, 2 for mistakes.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(exit::INVALID));
        }
    };
    let printer = Printer::new(cli.color);
    match cli.command {
        Command::Check(args) => check::main(&args, &printer),
        Command::Plan(args) => select::plan_main(&args, &printer),
        Command::Run(args) => run::main(*args, &printer),
        Command::Report(args) => report::main(&args, &printer),
        Command::Serve(args) => serve::main(args, &printer),
        Command::Call(args) => call::main(args, &printer),
        Command::Driver(args) => driver::main(args, &printer),
        Command::Peers(args) => peers::main(&args, &printer),
        Command::Schema { which } => check::schema(which, &printer),
    }
}
