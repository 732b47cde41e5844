//! The go-plugin handshake, both sides: the line that a plugin prints and the environment that its
//! host gives it. L3. Pure text; `peer::builtin` is host and plugin with it, the shim reads lines
//! of foreign plugins with it.
//!
//! The rules are those of hashicorp/go-plugin 1.8.0 (`client.go`, `server.go`), as measured.

mod env;
mod line;

pub use env::{Cookie, EnvProblem, HostEnv, PluginEnv, choose_version};
pub use line::{CORE_VERSION, Kind, LINE_LIMIT, Line, Reading, encode_cert, read_line, with_address};

#[cfg(test)]
mod tests;
