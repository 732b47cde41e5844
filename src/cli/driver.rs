//! `soupscen driver check`: does a driver meet the contract?

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::exit;
use super::peer_files;
use super::printer::Printer;
use crate::exec::driver_program;
use crate::peer::check::{self, Line, Verdict};
use crate::process::{Program, Spawner, guard};

/// Work on drivers.
#[derive(Debug, Args)]
pub(super) struct DriverArgs {
    #[command(subcommand)]
    command: DriverCommand,
}

#[derive(Debug, Subcommand)]
enum DriverCommand {
    /// Prove that a driver meets the contract, rule by rule: docs/driver-contract.md.
    ///
    /// Exit statuses: 0 every rule that applies holds, 1 one does not, 2 nothing could be checked.
    Check(CheckArgs),
}

#[derive(Debug, Args)]
struct CheckArgs {
    /// The driver program with its arguments.
    #[arg(last = true, value_name = "COMMAND", required_unless_present = "peer", conflicts_with = "peer")]
    command: Vec<String>,
    /// A declared peer instead; it is built where it has to be.
    #[arg(long, value_name = "NAME")]
    peer: Option<String>,
    /// The file that declares it: a scenario or a file of peers [default: scenarios/peers/*.yaml and
    /// fixtures/peers/*/peer.yaml].
    #[arg(long, value_name = "FILE", requires = "peer")]
    from: Option<PathBuf>,
    /// Only this rule, or all that begin like this; may be given more than once.
    #[arg(long = "rule", value_name = "RULE", value_parser = rule)]
    rules: Vec<String>,
    /// Tell only of rules that do not hold.
    #[arg(long, short)]
    quiet: bool,
}

fn rule(text: &str) -> Result<String, String> {
    if check::rules().any(|id| id.starts_with(text)) {
        return Ok(text.to_owned());
    }
    Err(format!("no rule begins with `{text}`; rules are {}", check::rules().collect::<Vec<_>>().join(", ")))
}

/// Runs the command under a guard.
pub(super) fn main(args: DriverArgs, printer: &Printer) -> ExitCode {
    let DriverCommand::Check(args) = args.command;
    guard::run_guarded(|| {
        let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => return unusable(printer, &format!("the async runtime cannot be started: {error}")),
        };
        let status = runtime.block_on(check(args, printer));
        runtime.shutdown_background();
        status
    })
}

fn unusable(printer: &Printer, text: &str) -> ExitCode {
    printer.error(text);
    ExitCode::from(exit::INVALID)
}

async fn check(args: CheckArgs, printer: &Printer) -> ExitCode {
    let spawner = match Spawner::start(&format!("driver-check-{}", std::process::id())) {
        Ok(spawner) => spawner,
        Err(error) => {
            return unusable(printer, &format!("the thread that starts processes cannot be started: {error}"));
        }
    };
    let program = match args.peer {
        Some(peer) => match of_peer(&peer, args.from.as_deref(), &spawner, printer).await {
            Ok(program) => program,
            Err(status) => return status,
        },
        None => Program::new(args.command),
    };
    let mut counts = [0_u32; 3];
    let started = std::time::Instant::now();
    let checked = check::check(
        program,
        spawner,
        |id| args.rules.is_empty() || args.rules.iter().any(|wanted| id.starts_with(wanted.as_str())),
        |hello| printer.line(&check::introduce(hello)),
        |line| {
            counts[match line.verdict {
                Verdict::Held => 0,
                Verdict::Broken(_) => 1,
                Verdict::Skipped(_) => 2,
            }] += 1;
            if !args.quiet || matches!(line.verdict, Verdict::Broken(_)) {
                show(line, printer);
            }
        },
    )
    .await;
    if let Err(error) = checked {
        return unusable(printer, &error.to_string());
    }
    let [held, broken, skipped] = counts;
    let rest = if skipped == 0 { String::new() } else { format!(", {skipped} not applicable") };
    printer.line(&format!("{held} rules hold, {broken} broken{rest} ({:.1} s)", started.elapsed().as_secs_f64()));
    ExitCode::from(if broken == 0 { exit::OK } else { exit::RED })
}

fn show(line: &Line, printer: &Printer) {
    let (word, colour) = match line.verdict {
        Verdict::Held => ("  ok", "32"),
        Verdict::Broken(_) => ("FAIL", "1;31"),
        Verdict::Skipped(_) => ("   -", "2"),
    };
    let (on, off) = if printer.colour_stdout() { (format!("\x1b[{colour}m"), "\x1b[0m") } else { (String::new(), "") };
    let id = line.id;
    match &line.verdict {
        Verdict::Held => printer.line(&format!("{on}{word}{off}  {id:<22} {}", line.about)),
        Verdict::Skipped(why) => printer.line(&format!("{on}{word}  {id:<22} not checked: {why}{off}")),
        Verdict::Broken(why) => {
            printer.line(&format!("{on}{word}{off}  {id:<22} {}", line.about));
            for part in why.lines() {
                printer.line(&format!("      {part}"));
            }
        }
    }
}

/// The driver of a peer that a file declares, built where it has to be.
async fn of_peer(name: &str, from: Option<&Path>, spawner: &Spawner, printer: &Printer) -> Result<Program, ExitCode> {
    let peer = peer_files::find(name, from, printer)?.peer;
    let built = peer_files::build(&peer, spawner, printer).await?;
    match driver_program(&peer, built.output) {
        Some(Ok(program)) => Ok(program),
        Some(Err(text)) => Err(unusable(printer, &text)),
        None => Err(unusable(printer, &format!("peer `{name}` is not run by a driver: nothing to check"))),
    }
}
