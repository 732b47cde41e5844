//! `tls`: how the connection is protected. `mode` is the fact to ask for where a scenario names
//! values of its own (`tls: {mine: {mode: mutual, …}}` has `tls == mine` and `tls.mode == mutual`).
use super::{AxisDef, FactDef, Needs, ValueDef};
use crate::scenario::model::Affects;

const fn mode(
    name: &'static str,
    aliases: &'static [&'static str],
    facts: &'static [(&'static str, FactDef)],
) -> ValueDef {
    ValueDef { name, aliases, facts, applies: None, asks_nothing: false }
}

pub(super) const AXIS: AxisDef = AxisDef {
    name: "tls",
    about: "how the connection is protected",
    values: &[
        mode("none", &["disabled", "plaintext", "off", "insecure"], &[("mode", FactDef::Text("none"))]),
        ValueDef {
            name: "auto",
            aliases: &["automtls", "auto-mtls"],
            facts: &[("mode", FactDef::Text("auto"))],
            // AutoMTLS is an exchange of certificates in go-plugin's handshake: without a plugin
            // launch there is nothing that could carry them.
            applies: Some((
                "launch == plugin",
                "`tls: auto` is AutoMTLS of go-plugin, which exists only under `launch: plugin`",
            )),
            asks_nothing: false,
        },
        mode("server", &["server-only", "one-way"], &[("mode", FactDef::Text("server"))]),
        mode("mutual", &["mtls"], &[("mode", FactDef::Text("mutual"))]),
    ],
    applies: None,
    affects: Affects::Server,
    needs: Needs::Both,
    fact: Some("tls"),
};
