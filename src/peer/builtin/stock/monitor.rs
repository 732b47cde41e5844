//! `Monitor`: what there is, then what changes. A reader that does not keep up loses its stream, not
//! the server its memory.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::{self, BoxStream};
use tokio::sync::Notify;
use tonic::Status;

use super::super::proto::stock::WatchEvent;
use super::super::proto::stock::watch_event::Kind;
use super::ask::Asked;
use super::limits::{EVENT, WAITING, check_key_unless};
use super::mistake::{Mistake, Wrong};
use super::store::Store;

/// Which keys a reader sees.
#[derive(Debug, Clone)]
pub(super) enum Pattern {
    Key(String),
    /// With the slash that it ends with.
    Below(String),
}

impl Pattern {
    pub(super) fn read(text: &str, wrong: Wrong) -> Result<Self, Status> {
        check_key_unless(Mistake::LongPatternTaken, text, wrong)?;
        Ok(match text.strip_suffix('*') {
            Some(prefix) if prefix.ends_with('/') => Self::Below(prefix.to_owned()),
            _ => Self::Key(text.to_owned()),
        })
    }

    pub(super) fn matches(&self, key: &str, wrong: Wrong) -> bool {
        match self {
            Self::Key(own) if wrong.is(Mistake::KeyIsPrefix) => key.starts_with(own.as_str()),
            Self::Key(own) => key == own,
            Self::Below(prefix) if wrong.is(Mistake::PrefixWithoutSlash) => {
                key.starts_with(prefix.trim_end_matches('/'))
            }
            Self::Below(prefix) if wrong.is(Mistake::OneLevelOnly) => {
                key.strip_prefix(prefix.as_str()).is_some_and(|rest| !rest.contains('/'))
            }
            Self::Below(prefix) => key.starts_with(prefix.as_str()),
        }
    }
}

/// Changes that a reader has not taken yet.
#[derive(Debug)]
pub(super) struct Waiting {
    queue: Mutex<Queue>,
    grown: Notify,
    /// What each event will be padded with.
    padding: usize,
    wrong: Wrong,
}

#[derive(Debug, Default)]
struct Queue {
    events: VecDeque<WatchEvent>,
    bytes: usize,
    /// An event did not fit: none comes after those that wait.
    overrun: bool,
    lost_one: bool,
}

impl Waiting {
    fn cost(&self, event: &WatchEvent) -> usize {
        event.key.len() + event.value.len() + self.padding + EVENT
    }

    pub(super) fn push(&self, event: WatchEvent) {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let cost = self.cost(&event);
        if self.wrong.is(Mistake::FirstChangeLost) && !std::mem::replace(&mut queue.lost_one, true) {
            return;
        }
        if self.wrong.is(Mistake::ChangesCoalesced) && queue.events.back().is_some_and(|last| last.key == event.key) {
            queue.events.pop_back();
        }
        if queue.overrun || (!queue.events.is_empty() && queue.bytes + cost > WAITING) {
            queue.overrun = !self.wrong.is(Mistake::SlowReadersMiss);
        } else {
            queue.bytes += cost;
            queue.events.push_back(event);
        }
        drop(queue);
        self.grown.notify_one();
    }

    /// The next change; the end when there was no room for more.
    async fn next(&self) -> Result<WatchEvent, Status> {
        loop {
            // A push between the look and the wait is kept by `Notify` as a permit.
            {
                let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(event) = queue.events.pop_front() {
                    queue.bytes = queue.bytes.saturating_sub(self.cost(&event));
                    return Ok(event);
                }
                if queue.overrun {
                    let text = format!("slow reader: more than {WAITING} bytes of events were waiting for it");
                    return Err(Status::resource_exhausted(text));
                }
            }
            self.grown.notified().await;
        }
    }
}

/// The events of one call.
pub(super) fn events(
    store: &Store,
    pattern: &Pattern,
    snapshot: bool,
    asked: Asked,
    wrong: Wrong,
) -> BoxStream<'static, Result<WatchEvent, Status>> {
    let padding = asked.padding_length();
    let waiting = Arc::new(Waiting { queue: Mutex::default(), grown: Notify::new(), padding, wrong });
    let (mut first, revision) = store.watch(pattern, &waiting);
    if !snapshot && !wrong.is(Mistake::SnapshotUnasked) {
        first.clear();
    }
    if wrong.is(Mistake::SnapshotUnmarked) {
        for event in &mut first {
            event.kind = Kind::Put.into();
        }
    }
    if wrong.is(Mistake::SnapshotAtReadyRevision) {
        for event in &mut first {
            event.revision = revision;
        }
    }
    let ready = WatchEvent { kind: Kind::Ready.into(), revision, ..WatchEvent::default() };
    if snapshot || !wrong.is(Mistake::ReadyOnlyAfterSnapshot) {
        let at = if wrong.is(Mistake::ReadyBeforeSnapshot) { 0 } else { first.len() };
        first.insert(at, ready);
    }
    let changes = stream::unfold(Some(waiting), |waiting| async {
        let waiting = waiting?;
        let event = waiting.next().await;
        let goes_on = event.is_ok();
        Some((event, goes_on.then_some(waiting)))
    });
    let all = stream::iter(first.into_iter().map(Ok)).chain(changes);
    let (after, status) = (asked.after(), asked.status());
    let limit = if status.is_some() { after } else { usize::MAX };
    let end = stream::iter(status.map(Err));
    let padded = all.take(limit).map(move |event| {
        let padding = if asked.pads() { asked.padding() } else { Bytes::new() };
        event.map(|event| WatchEvent { padding, ..event })
    });
    padded.chain(end).boxed()
}
