//! What passed on a step's connection while it ran, as its `wire` is held against.

use serde_json::{Value, json};

use super::ground::Now;
use crate::outcome::evidence::{SideSpoke, Spoken};

/// What was spoken on a connection so far; `None` where that cannot be read.
pub(super) fn spoken(now: &Now) -> Option<Spoken> {
    now.lane.as_ref().and_then(|lane| lane.senses.spoken())
}

/// What was spoken since then, as a document; null where that cannot be read.
pub(super) fn heard(now: &Now, before: Spoken) -> Value {
    let Some(spoken) = spoken(now) else { return Value::Null };
    let Spoken { client, server } = spoken.since(before);
    json!({
        "requests": client.messages,
        "responses": server.messages,
        "request_compressed": compressed(client),
        "response_compressed": compressed(server),
        "client_pings": client.pings,
        "server_pings": server.pings,
        "client_keepalive": client.unprompted_pings > 0,
        "server_keepalive": server.unprompted_pings > 0,
    })
}

/// Whether all messages are; `some` where only some are, and null where there is none.
fn compressed(side: SideSpoke) -> Value {
    match side.compressed {
        _ if side.messages == 0 => Value::Null,
        0 => false.into(),
        n if n == side.messages => true.into(),
        _ => "some".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compression_of_all_of_some_of_none() {
        let side = |messages, compressed| SideSpoke { messages, compressed, ..SideSpoke::default() };
        assert_eq!(compressed(side(0, 0)), Value::Null);
        assert_eq!(compressed(side(2, 0)), json!(false));
        assert_eq!(compressed(side(2, 1)), json!("some"));
        assert_eq!(compressed(side(2, 2)), json!(true));
    }
}
