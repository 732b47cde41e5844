//! What a directly started server's own end tells. It tells of its connections one after another,
//! and of none whose it is: so only as long as all of them were alike is it about each of them.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use crate::outcome::evidence::{ConnectionFacts, ProcessReport, Reported};
use crate::peer::{Account, Served, TlsSpec};

/// The server's end of the connections to one server.
pub(super) struct FarEnd {
    served: Arc<dyn Served>,
    first: OnceLock<Dialled>,
    mixed: AtomicBool,
}

/// What of a connection its server's end can see: who dialled, and what that side was asked for.
#[derive(PartialEq, Eq)]
struct Dialled {
    client: String,
    tls: String,
}

impl FarEnd {
    pub(super) fn new(served: Arc<dyn Served>) -> Arc<Self> {
        Arc::new(Self { served, first: OnceLock::new(), mixed: AtomicBool::new(false) })
    }

    /// A connection is about to be made.
    pub(super) fn dial(&self, client: &str, tls: &TlsSpec) {
        let TlsSpec { mode, ca, identity, version, group, server_name } = tls;
        let certificate = |identity: &Option<Arc<crate::pki::Identity>>| identity.as_ref().map(|i| i.digest());
        let tls =
            format!("{mode} {version:?} {group:?} {server_name} {:?} {:?}", certificate(ca), certificate(identity));
        let own = Dialled { client: client.to_owned(), tls };
        if !self.first.get().is_some_and(|first| *first == own) && self.first.set(own).is_err() {
            self.mixed.store(true, Ordering::Relaxed);
        }
    }

    /// Why a handshake failed at its end.
    pub(super) fn failure(&self) -> Option<Reported> {
        self.newest(|saw| saw.failure)
    }

    /// What it knows of a connection that came to be.
    pub(super) fn facts(&self) -> Option<ConnectionFacts> {
        self.newest(|saw| saw.facts)
    }

    /// Its process, where it has one of its own.
    pub(super) fn process(&self) -> Option<ProcessReport> {
        self.served.process()
    }

    /// What was run of it, where it is only a program.
    pub(super) fn account(&self) -> Account {
        self.served.account()
    }

    fn newest<T>(&self, of: impl Fn(crate::peer::ServerSaw) -> Option<T>) -> Option<T> {
        if self.mixed.load(Ordering::Relaxed) {
            return None;
        }
        self.served.seen().into_iter().rev().find_map(of)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures::future::BoxFuture;

    use super::*;
    use crate::axis::values::TlsMode;
    use crate::outcome::evidence::Side;
    use crate::outcome::{Certainty, Phase};
    use crate::peer::{ServerSaw, Target};

    /// A server that has seen a connection, and one that failed.
    struct Saw;

    impl Served for Saw {
        fn target(&self) -> Target {
            Target::Tcp(([127, 0, 0, 1], 1).into())
        }

        fn seen(&self) -> Vec<ServerSaw> {
            let facts = ConnectionFacts {
                side: Side::Server,
                certainty: Certainty::Observed,
                tls: Some(true),
                version: None,
                group: None,
                cipher: None,
                peer_cert: None,
                peer_cert_sha256: None,
                peer_cert_shown: None,
                transport: None,
            };
            let failure =
                Reported { phase: Some(Phase::Tls), error: "bad".into(), native: None, status: None, cause: None };
            vec![ServerSaw { facts: Some(facts), failure: None }, ServerSaw { facts: None, failure: Some(failure) }]
        }

        fn stop(self: Arc<Self>, _: Duration) -> BoxFuture<'static, ()> {
            Box::pin(async {})
        }
    }

    #[test]
    fn what_it_saw_of_another_connection_is_not_told_of_this_one() {
        let (none, server) = (TlsSpec::none(), TlsSpec { mode: TlsMode::Server, ..TlsSpec::none() });
        let far = FarEnd::new(Arc::new(Saw));
        let tells = || (far.facts().is_some(), far.failure().is_some());
        far.dial("go", &none);
        far.dial("go", &none);
        assert_eq!(tells(), (true, true), "all of them are alike");
        far.dial("go", &server);
        assert_eq!(tells(), (false, false), "another request");
        let far = FarEnd::new(Arc::new(Saw));
        far.dial("go", &none);
        far.dial("python", &none);
        assert!(far.facts().is_none() && far.failure().is_none(), "another client");
    }
}
