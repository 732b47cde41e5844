//! Mistakes in the certificates that a case gave its peers on purpose: what was refused is seen, and
//! why follows from what is known to be wrong with it.

use super::Finding;
use crate::outcome::evidence::{Evidence, Flaw, Side};
use crate::outcome::{Certainty, Phase};

/// Names the mistake in a finding that says no more than that a certificate was refused, or that a
/// side with a wrong key did not get as far as that.
pub(super) fn explain(e: &Evidence, found: &mut Finding) {
    let given = [
        (Side::Server, e.known.server_flaw, "tls.rejected.server-cert.by-client"),
        (Side::Client, e.known.client_flaw, "tls.rejected.client-cert.by-server"),
    ];
    for (side, flaw, rejected) in given {
        let Some(flaw) = flaw else { continue };
        let side = side.name();
        match suffix(flaw) {
            None if unable(found) => {
                *found = Finding {
                    phase: Phase::Tls,
                    code: format!("tls.key-mismatch.of-{side}"),
                    certainty: Certainty::Deduced,
                    text: format!("the {side}'s key file is of another key than its certificate: {}", found.text),
                    exit: found.exit,
                    alert: found.alert,
                };
            }
            Some(suffix) if side == "server" && left(e, found) => {
                found.phase = Phase::Tls;
                found.code = format!("{rejected}{suffix}");
                found.certainty = Certainty::Deduced;
                found.text = format!("{}; the server's certificate {}", found.text, words(flaw));
            }
            Some(suffix) if found.code == rejected => {
                found.code.push_str(suffix);
                found.text = format!("{}; the {side}'s certificate {}", found.text, words(flaw));
            }
            _ => {}
        }
    }
}

/// The end of the code of a refusal.
const fn suffix(flaw: Flaw) -> Option<&'static str> {
    match flaw {
        Flaw::KeyMismatch => None,
        Flaw::UnknownCa => Some(".unknown-ca"),
        Flaw::Expired => Some(".expired"),
        Flaw::Name => Some(".name"),
    }
}

const fn words(flaw: Flaw) -> &'static str {
    match flaw {
        Flaw::KeyMismatch => "has another key",
        Flaw::UnknownCa => "is of an authority that the other side was not told to trust",
        Flaw::Expired => "has expired",
        Flaw::Name => "is for another name",
    }
}

/// The client left before its first call, and nothing more was seen: grpcio looks at the name when
/// the handshake is over, and the wire may not have told yet.
fn left(e: &Evidence, found: &Finding) -> bool {
    let connecting = e.client.as_ref().is_some_and(|c| matches!(c.phase, Some(Phase::Connect | Phase::Tls)));
    connecting && ["tls.closed.by-client", "rpc.closed.by-client", "tls.failed"].contains(&found.code.as_str())
}

/// A failure that a side without a usable key can have: it did not start, or could not sign.
fn unable(found: &Finding) -> bool {
    let before = matches!(found.phase, Phase::Spawn | Phase::Handshake | Phase::Connect | Phase::Tls);
    before && !found.code.starts_with("driver")
}
