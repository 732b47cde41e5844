//! `soupscen check`: everything that is wrong with scenarios, at once. Also prints schemas.

use std::process::ExitCode;

use super::args::{CheckArgs, Schema};
use super::printer::Printer;
use super::{exit, select};

/// Runs the command.
pub(super) fn main(args: &CheckArgs, printer: &Printer) -> ExitCode {
    let Some(plans) = select::load(&args.files, args.strict_rules, &select::Changes::default(), printer) else {
        return ExitCode::from(exit::INVALID);
    };
    for (file, plan) in args.files.iter().zip(&plans) {
        let scenario = plan.scenario();
        let counts = plan.count(&crate::plan::Selection::default());
        let (scripts, rules) = (scenario.scripts.len() as u64, scenario.rules.len() as u64);
        let all = [(counts.selected, "case"), (scripts, "script"), (rules, "rule")];
        let all = all.map(|(n, word)| format!("{n} {word}{}", if n == 1 { "" } else { "s" }));
        printer.line(&format!("{}: ok, {}", file.display(), all.join(", ")));
    }
    ExitCode::from(exit::OK)
}

/// Prints a schema.
pub(super) fn schema(which: Schema, printer: &Printer) -> ExitCode {
    let text = match which {
        Schema::Scenario => crate::scenario::schema::scenario_schema(),
        Schema::Peer => crate::scenario::schema::peer_schema(),
        Schema::Results => crate::report::results_schema(),
        Schema::Driver => crate::peer::driver::message::schema(),
    };
    printer.line(text.trim_end());
    ExitCode::from(exit::OK)
}
