//! The binary: the shim and the keeper before anything else, then the command line.

use std::process::ExitCode;

fn main() -> ExitCode {
    if let Some(status) = soupscen::process::dispatch(std::env::args_os()) {
        return status;
    }
    soupscen::cli::main()
}
