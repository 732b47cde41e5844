//! What can be typed. Plain data for the commands; knows nothing of the work.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Scenario tests for cross-language RPC compatibility.
#[derive(Debug, Parser)]
#[command(name = "soupscen", version, max_term_width = 100, disable_help_subcommand = true)]
pub(super) struct Cli {
    /// When to use colours.
    #[arg(long, global = true, value_enum, default_value_t = Color::Auto)]
    pub(super) color: Color,
    #[command(subcommand)]
    pub(super) command: Command,
}

/// When to use colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Color {
    /// On a terminal, unless `NO_COLOR` is set.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Read scenarios and say everything that is wrong with them.
    Check(CheckArgs),
    /// Show which cases a scenario has, what is expected of each, and what is left out and why.
    Plan(PlanArgs),
    /// Run scenarios.
    Run(Box<RunArgs>),
    /// Make reports of finished or interrupted runs again.
    Report(ReportArgs),
    /// Serve a service: with the built-in peer, directly or as a go-plugin server, or with any peer.
    Serve(super::serve::ServeArgs),
    /// Call a service: with the built-in client, or with any peer.
    Call(super::call::CallArgs),
    /// Show peers: versions, roles, capabilities, whether they are built, and what is missing.
    Peers(super::peers::PeersArgs),
    /// Check driver programs against the contract.
    Driver(super::driver::DriverArgs),
    /// Print a JSON Schema: of scenarios, peers, results, or the driver contract's messages.
    Schema {
        /// Which one.
        #[arg(value_enum)]
        which: Schema,
    },
}

/// The JSON Schemas that are shipped in `schemas/`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Schema {
    /// Scenario files.
    Scenario,
    /// `peer.yaml`.
    Peer,
    /// `results.json`.
    Results,
    /// Messages of the driver contract.
    Driver,
}

#[derive(Debug, Args)]
pub(super) struct CheckArgs {
    /// Scenario files.
    #[arg(required = true, value_name = "FILE")]
    pub(super) files: Vec<PathBuf>,
    /// A rule that matches no case is an error, also in an included file.
    #[arg(long)]
    pub(super) strict_rules: bool,
}

/// Which cases.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Selection")]
pub(super) struct SelectArgs {
    /// Only cases where this expression holds, e.g. 'client == go and key in [p256, p384]'.
    #[arg(long, value_name = "EXPR")]
    pub(super) filter: Option<String>,
    /// Only the case with this id, key or slug; may be given more than once; globs allowed.
    #[arg(long = "case", value_name = "ID|KEY")]
    pub(super) cases: Vec<String>,
    /// Only cases that were red in these results.
    #[arg(long, value_name = "RESULTS.JSON")]
    pub(super) failed_in: Option<PathBuf>,
    /// One part of the cases, e.g. 2/5; a case stays in its part when others are added.
    #[arg(long, value_name = "N/OF")]
    pub(super) shard: Option<String>,
}

#[derive(Debug, Args)]
pub(super) struct PlanArgs {
    /// Scenario files.
    #[arg(required = true, value_name = "FILE")]
    pub(super) files: Vec<PathBuf>,
    #[command(flatten)]
    pub(super) select: SelectArgs,
    /// Only numbers.
    #[arg(long, conflicts_with_all = ["why", "json"])]
    pub(super) count: bool,
    /// One JSON object a line.
    #[arg(long, conflicts_with = "why")]
    pub(super) json: bool,
    /// Another value for one of the scenario's `vars`; may be given more than once.
    #[arg(long, value_name = "NAME=VALUE")]
    pub(super) set: Vec<super::set::Set>,
    /// Explain one case: where each value, exclusion, capability and rule comes from.
    #[arg(long, value_name = "CASE")]
    pub(super) why: Option<String>,
    /// A rule that matches no case is an error, also in an included file.
    #[arg(long)]
    pub(super) strict_rules: bool,
}

#[derive(Debug, Args)]
pub(super) struct RunArgs {
    /// Scenario files.
    #[arg(required_unless_present = "resume", value_name = "FILE")]
    pub(super) files: Vec<PathBuf>,
    #[command(flatten)]
    pub(super) select: SelectArgs,
    /// Cases in flight [default: 4 x cores].
    #[arg(long, short, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub(super) jobs: Option<u16>,
    /// Stop after so many red cases.
    #[arg(long, value_name = "N", num_args = 0..=1, default_missing_value = "1", require_equals = true)]
    pub(super) fail_fast: Option<u64>,
    /// Cases of a peer that cannot be had are errors, whatever the scenario says.
    #[arg(long, env = "SOUPSCEN_REQUIRE_PEERS", value_parser = clap::builder::FalseyValueParser::new())]
    pub(super) require_peers: bool,
    /// Execute what is called unsupported too; red where it works.
    #[arg(long)]
    pub(super) probe_unsupported: bool,
    /// A rule that matches no case is an error, also in an included file.
    #[arg(long)]
    pub(super) strict_rules: bool,
    /// Dial this server instead of starting it, where it is launched directly; may be given more
    /// than once.
    #[arg(long, value_name = "PEER=ADDRESS")]
    pub(super) attach: Vec<super::attach::Attach>,
    /// Another value for one of the scenario's `vars`; may be given more than once.
    #[arg(long, value_name = "NAME=VALUE")]
    pub(super) set: Vec<super::set::Set>,
    /// Start everything of this case but one side, say how to start that by hand, and wait: its id,
    /// key or slug.
    #[arg(long, value_name = "ID|KEY", conflicts_with_all = ["cases", "filter", "failed_in", "shard", "resume", "jobs"])]
    pub(super) debug: Option<String>,
    /// The side that is started by hand.
    #[arg(long, value_enum, default_value_t = DebugSide::Client, requires = "debug")]
    pub(super) debug_side: DebugSide,
    /// Build peers again, even if their cache is good.
    #[arg(long)]
    pub(super) rebuild: bool,
    /// Go on with a run: its name, its folder, or `latest`; finished cases are not run again.
    #[arg(long, value_name = "RUN")]
    pub(super) resume: Option<String>,
    #[command(flatten)]
    pub(super) outputs: OutputArgs,
    /// Say more: each case (-v), each op (-vv).
    #[arg(short, action = clap::ArgAction::Count)]
    pub(super) verbose: u8,
    /// Which evidence to keep.
    #[arg(long, value_enum, default_value_t = Evidence::Red)]
    pub(super) evidence: Evidence,
    /// Log level handed to the peers as `LOG_LEVEL`.
    #[arg(long, value_name = "LEVEL", value_parser = ["trace", "debug", "info", "warn", "error", "off"])]
    pub(super) peer_log_level: Option<String>,
}

/// A side that people start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum DebugSide {
    /// The one that dials.
    Client,
    /// The one that listens.
    Server,
}

/// Which reports to write.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Reports")]
pub(super) struct OutputArgs {
    /// Write a `JUnit` report.
    #[arg(long, value_name = "PATH")]
    pub(super) junit: Option<PathBuf>,
    /// Write everything as JSON.
    #[arg(long, value_name = "PATH")]
    pub(super) json: Option<PathBuf>,
    /// Print GitHub annotations and write the step summary.
    #[arg(long)]
    pub(super) github: bool,
}

/// Which evidence to keep.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Evidence {
    /// Of red and known cases.
    Red,
    /// Of all cases.
    All,
}

#[derive(Debug, Args)]
pub(super) struct ReportArgs {
    /// Names or folders of runs, or `latest`; shards of one plan are merged.
    #[arg(required = true, value_name = "RUN")]
    pub(super) runs: Vec<String>,
    #[command(flatten)]
    pub(super) outputs: OutputArgs,
    /// Say more: each case (-v), each op (-vv).
    #[arg(short, action = clap::ArgAction::Count)]
    pub(super) verbose: u8,
}
