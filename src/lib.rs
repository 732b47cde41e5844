//! soupscen: a declarative scenario test engine for cross-language RPC compatibility.
//!
//! scenario text → spanned document → resolved scenario → plan → execution → observation → verdict
//! → reports. A module may use those on its own level and below; `tests/layers.rs` holds us to it.
//!
//! | level | module | duty |
//! |---|---|---|
//! | 0 | [`diag`] | source text, spans, diagnostics and how they are shown |
//! | 1 | [`scenario`] | YAML → spanned tree → resolved, checked scenario; templates; schemas |
//! | 1 | [`filter`] | the expression language of `when`, `exclude`, `--filter` |
//! | 1 | [`axis`], [`op`] | the tables of axes and ops: one file per entry |
//! | 1 | [`outcome`] | evidence → diagnosis; observation × expectation → verdict (pure) |
//! | 2 | [`plan`] | product, constraints, capabilities, selection, shards, keys and ids |
//! | 2 | [`event`] | serialisable run events: all that the journal and the reporters know |
//! | 3 | [`journal`] | `events.jsonl`: writing, reading, resuming, merging |
//! | 3 | [`pki`], [`transport`] | keys, certificates, verifiers · sockets and TLS under tonic |
//! | 3 | [`wire`], [`handshake`] | the relay, its readers of TLS records and HTTP/2 frames · the go-plugin line and environment |
//! | 3 | [`process`] | guard, keepers, shim and hub, spawning, capture, temporary folders |
//! | 3 | [`dynamic`] | descriptors, messages as JSON, expectations with diffs |
//! | 4 | [`peer`] | traits of the two roles; built-in peers, drivers, programs, builds; the check of drivers |
//! | 5 | [`exec`] | admission, shared lanes, attempts, retries, teardown; one role alone (`serve`, `call`) |
//! | 5 | [`report`] | one table of reporters: terminal, JUnit, JSON, GitHub |
//! | 6 | [`cli`] | argv → settings → command → exit status |

// What tests may do and the library may not.
#![warn(unreachable_pub)]
#![cfg_attr(
    not(test),
    warn(
        clippy::dbg_macro,
        clippy::exit,
        clippy::expect_used,
        clippy::print_stderr,
        clippy::print_stdout,
        clippy::todo,
        clippy::unwrap_used
    )
)]
// Tests may be plain and long.
#![cfg_attr(
    test,
    allow(
        clippy::format_collect,
        clippy::format_push_string,
        clippy::match_same_arms,
        clippy::needless_pass_by_value,
        clippy::too_many_lines,
        clippy::unnecessary_wraps,
        clippy::unused_unit
    )
)]

pub mod axis;
pub mod cli;
pub mod diag;
pub mod dynamic;
pub mod event;
pub mod exec;
pub mod filter;
pub mod handshake;
pub mod journal;
pub mod op;
pub mod outcome;
pub mod peer;
pub mod pki;
pub mod plan;
pub mod process;
pub mod report;
pub mod scenario;
pub mod transport;
pub mod wire;
