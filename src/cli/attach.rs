//! `--attach PEER=ADDRESS`: a server of the scenario that runs already, under a debugger for example.

use std::collections::BTreeSet;
use std::str::FromStr;

use crate::diag::suggestion;
use crate::scenario::model::{DirectWay, Scenario};

/// One `--attach`.
#[derive(Debug, Clone)]
pub(super) struct Attach {
    peer: String,
    address: String,
}

impl FromStr for Attach {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (peer, address) = text.split_once('=').ok_or("write PEER=ADDRESS, like go=127.0.0.1:7443")?;
        let good = match address.strip_prefix("unix:") {
            Some(path) => !path.is_empty(),
            None => {
                address.rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok())
            }
        };
        if !good {
            return Err(format!("`{address}` is no address; write HOST:PORT or unix:PATH"));
        }
        Ok(Self { peer: peer.to_owned(), address: address.to_owned() })
    }
}

impl std::fmt::Display for Attach {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}={}", self.peer, self.address)
    }
}

/// Has the servers that are attached dialled where they are, instead of being started.
pub(super) fn apply(attached: &[Attach], scenario: &mut Scenario) {
    for attach in attached {
        let Some(peer) = scenario.peers.get_mut(&attach.peer) else { continue };
        let Some(server) = &mut peer.server else { continue };
        server.direct = Some(DirectWay::Attach(attach.address.clone()));
        if peer.client.is_none() && server.plugin.is_none() {
            // Nothing of it is run here, so there is nothing to build and no program to ask.
            peer.build = None;
            peer.versions.clear();
        }
    }
}

/// Names that no scenario has a server of.
pub(super) fn unknown<'a>(attached: &[Attach], scenarios: impl Iterator<Item = &'a Scenario>) -> Option<String> {
    let servers: BTreeSet<&str> = scenarios
        .flat_map(|scenario| &scenario.peers)
        .filter(|(_, peer)| peer.server.is_some())
        .map(|(name, _)| name.as_str())
        .collect();
    let wrong = attached.iter().find(|attach| !servers.contains(attach.peer.as_str()))?;
    let help = suggestion(&wrong.peer, "servers", servers.iter().copied());
    Some(format!("--attach: no scenario has a server `{}`; {help}", wrong.peer))
}
