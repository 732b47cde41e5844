//! What peers' own texts hint at. Used only where no sense of ours saw anything, and always with
//! the certainty `reported`: texts vary by side, by run and by version.

use super::{Finding, cut, state};
use crate::outcome::evidence::Evidence;
use crate::outcome::{Certainty, Phase};

/// Fragments of texts, in lower case, with what they hint at; the first that is found counts, so
/// the more special ones come first.
const TABLE: &[(&str, Phase, &str)] = &[
    ("signed by unknown authority", Phase::Tls, "tls.rejected.server-cert.by-client.unknown-ca"),
    ("unknownissuer", Phase::Tls, "tls.rejected.server-cert.by-client.unknown-ca"),
    ("unable to get local issuer", Phase::Tls, "tls.rejected.server-cert.by-client.unknown-ca"),
    ("self signed certificate", Phase::Tls, "tls.rejected.server-cert.by-client.unknown-ca"),
    ("self-signed certificate", Phase::Tls, "tls.rejected.server-cert.by-client.unknown-ca"),
    ("certificate has expired", Phase::Tls, "tls.rejected.server-cert.by-client.expired"),
    ("not valid for any names", Phase::Tls, "tls.rejected.server-cert.by-client.name"),
    ("notvalidforname", Phase::Tls, "tls.rejected.server-cert.by-client.name"),
    ("tls: certificate required", Phase::Tls, "tls.rejected.client-cert.by-server.missing"),
    ("remote error: tls: bad certificate", Phase::Tls, "tls.rejected.client-cert.by-server"),
    ("remote error: tls: unknown certificate", Phase::Tls, "tls.rejected.client-cert.by-server"),
    ("certificate_verify_failed", Phase::Tls, "tls.rejected.server-cert.by-client"),
    ("doesn't support any of the certificate's signature", Phase::Tls, "tls.no-common.signature"),
    ("no_common_signature_algorithms", Phase::Tls, "tls.no-common.signature"),
    ("first record does not look like a tls", Phase::Tls, "tls.plaintext-server"),
    ("wrong_version_number", Phase::Tls, "tls.plaintext-server"),
    ("magic cookie", Phase::Handshake, "handshake.cookie"),
    ("incompatible api version", Phase::Handshake, "handshake.version.none-common"),
    ("incompatible core api version", Phase::Handshake, "handshake.line.core-version"),
    ("unrecognized remote plugin message", Phase::Handshake, "handshake.line"),
    ("plugin exited before we could connect", Phase::Handshake, "handshake.exit"),
    ("timeout while waiting for plugin to start", Phase::Handshake, "handshake.silence"),
    ("connection refused", Phase::Connect, "connect.refused"),
    ("no such file or directory", Phase::Connect, "connect.refused"),
    ("authentication handshake failed", Phase::Tls, "tls.failed"),
    ("ssl handshake", Phase::Tls, "tls.failed"),
    ("handshake_failure", Phase::Tls, "tls.failed"),
    ("invalid certificate verification context", Phase::Tls, "tls.failed"),
    ("deadline exceeded", Phase::Rpc, "rpc.deadline"),
    ("no answer to", Phase::Rpc, "timeout.reply"),
];

/// What a text hints at.
pub(super) fn of(text: &str) -> Option<(Phase, &'static str)> {
    let text = text.to_lowercase();
    TABLE.iter().find(|(part, ..)| text.contains(part)).map(|(_, phase, code)| (*phase, *code))
}

/// What the client's own account hints at.
pub(super) fn of_client(e: &Evidence) -> Option<&'static str> {
    let told = e.client.as_ref()?;
    let words = [Some(&told.error), told.native.as_ref(), told.status.as_ref().map(|s| &s.text)];
    words.into_iter().flatten().find_map(|t| of(t)).map(|(_, code)| code)
}

/// The last resort: the peers' accounts are all that there is.
pub(super) fn from_texts(e: &Evidence) -> Finding {
    for (who, told) in [("client", &e.client), ("server", &e.server)] {
        let Some(told) = told else { continue };
        let mut text = format!("the {who} says: {}", cut(&told.error));
        if !e.wire.is_empty() || !e.processes.is_empty() {
            text = format!("{text}; {}", state(e));
        }
        let words = [Some(&told.error), told.native.as_ref(), told.status.as_ref().map(|s| &s.text)];
        if let Some((phase, code)) = words.into_iter().flatten().find_map(|t| of(t)) {
            return Finding::new(told.phase.unwrap_or(phase), code, Certainty::Reported, text);
        }
        let (phase, code) = match told.phase {
            Some(Phase::Build) => (Phase::Build, "spawn.build"),
            Some(Phase::Spawn) => (Phase::Spawn, "spawn.failed"),
            Some(Phase::Handshake) => (Phase::Handshake, "handshake.failed"),
            Some(Phase::Connect) => (Phase::Connect, "connect.failed"),
            Some(Phase::Tls) => (Phase::Tls, "tls.failed"),
            Some(phase) => (phase, "rpc.failed"),
            None => (Phase::Rpc, "unknown"),
        };
        return Finding::new(phase, code, Certainty::Reported, text);
    }
    let text = "nothing that was seen or told says why";
    Finding::new(Phase::Rpc, "unknown", Certainty::Deduced, text)
}
