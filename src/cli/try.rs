//! Temporary: serve and call without the rest of the command line.
pub mod call;
pub mod serve;
mod tls_args;

use clap::{Parser, Subcommand};

#[derive(Debug, Parser)]
#[command(name = "soupscen", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Serve(serve::ServeArgs),
    Call(call::CallArgs),
}

/// Runs.
#[must_use]
pub fn main() -> std::process::ExitCode {
    match Cli::parse().command {
        Command::Serve(args) => serve::main(args),
        Command::Call(args) => call::main(args),
    }
}
