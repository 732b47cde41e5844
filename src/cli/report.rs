//! `soupscen report RUN…`: any report again, from journals; shards of one run as one.

use std::process::ExitCode;

use super::args::ReportArgs;
use super::exit;
use super::printer::Printer;
use crate::report::{ReportOptions, tell_again};

/// Tells runs again; the exit status is the one that their verdicts give.
pub(super) fn main(args: &ReportArgs, printer: &Printer) -> ExitCode {
    let options = ReportOptions {
        junit: args.outputs.junit.clone(),
        json: args.outputs.json.clone(),
        github: args.outputs.github,
        verbose: args.verbose,
        colour: printer.colour_stdout(),
    };
    match tell_again(&super::run::home().join("runs"), &args.runs, &options) {
        Ok(status) => ExitCode::from(status.code()),
        Err(error) => {
            printer.error(&error.to_string());
            ExitCode::from(exit::INVALID)
        }
    }
}
