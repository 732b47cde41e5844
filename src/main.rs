//! Temporary dispatch.
fn main() -> std::process::ExitCode {
    soupscen::cli::main()
}
