//! Several journals, or one that was resumed, read as if they were one run.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};

use serde::Deserialize;
use serde::de::IgnoredAny;
use xxhash_rust::xxh3::xxh3_128;

use super::reader::Lines;
use super::resume::is_resumed;
use super::{JournalError, Reader, RunFolder};
use crate::event::{RunEvent, RunHeader};

/// Where the record of a case that counts is: journal and line.
#[derive(Debug, Clone, Copy)]
struct Winner {
    journal: u32,
    line: u64,
    executed: bool,
}

/// One run made of one or more journals of the same plan: the shards of it, or runs of parts of it.
///
/// An iterator over events: one head, everything of the journals in the order of their start, each
/// case once, and one end. Of two records of a case, one that was executed wins over one that was
/// not, then the later. Memory: some 40 bytes per case when cases can occur twice, none otherwise.
#[derive(Debug)]
pub struct Merged {
    header: RunHeader,
    readers: Vec<Reader>,
    winners: Option<HashMap<u128, Winner>>,
    at: usize,
    interrupted: bool,
    /// The journal at hand has come to an end, not only stopped.
    ended: bool,
    elapsed_ms: u64,
    elapsed_here_ms: u64,
    /// Cases that are in the journal at hand.
    seen: u64,
    /// Cases that are in each journal, where one can be in it twice.
    distinct: Option<Vec<u64>>,
    given: Given,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Given {
    Nothing,
    Head,
    End,
}

/// What is needed to choose between two records of a case.
#[derive(Deserialize)]
struct Sketch<'a> {
    #[serde(borrow)]
    key: std::borrow::Cow<'a, str>,
    #[serde(default)]
    attempts: Vec<IgnoredAny>,
}

impl Merged {
    /// Opens the journals of these runs.
    ///
    /// # Errors
    /// When one cannot be read, or they are of different plans.
    pub fn open(folders: &[RunFolder]) -> Result<Self, JournalError> {
        let mut readers = folders.iter().map(|f| Reader::open(&f.events())).collect::<Result<Vec<_>, _>>()?;
        readers.sort_by_key(|reader| reader.header().started_unix_ms);
        let mut header: Option<RunHeader> = None;
        for reader in &readers {
            match &mut header {
                None => header = Some(reader.header().clone()),
                Some(all) if all.plan_digest == reader.header().plan_digest => join(all, reader.header()),
                Some(_) => {
                    let (first, second) = (readers[0].path().to_owned(), reader.path().to_owned());
                    return Err(JournalError::OtherPlan { first, second });
                }
            }
        }
        let Some(mut header) = header else {
            return Err(JournalError::NoHead { path: "no run was named".into() });
        };
        let twice = match readers.as_slice() {
            [one] => is_resumed(one.path())?,
            _ => true,
        };
        let (winners, distinct) = if twice { choose(&readers).map(|(w, d)| (Some(w), Some(d)))? } else { (None, None) };
        if let (Some(winners), true) = (&winners, readers.len() > 1) {
            header.cases = selected(readers.iter().map(Reader::header)).max(winners.len() as u64);
        }
        Ok(Self {
            header,
            readers,
            winners,
            at: 0,
            interrupted: false,
            ended: false,
            elapsed_ms: 0,
            elapsed_here_ms: 0,
            seen: 0,
            distinct,
            given: Given::Nothing,
        })
    }

    /// The head of the whole.
    #[must_use]
    pub const fn header(&self) -> &RunHeader {
        &self.header
    }

    fn counts(&self, key: &str, line: u64) -> bool {
        let Some(winners) = &self.winners else { return true };
        winners.get(&xxh3_128(key.as_bytes())).is_none_or(|w| w.journal as usize == self.at && w.line == line)
    }

    /// The next event of the journal at hand that belongs to the whole; `None` at its end.
    fn step(&mut self) -> Option<Result<RunEvent, JournalError>> {
        loop {
            let reader = self.readers.get_mut(self.at)?;
            let event = match reader.next()? {
                Ok(event) => event,
                Err(error) => return Some(Err(error)),
            };
            let line = reader.line();
            match event {
                // Resumed: whatever ended before did not end the run.
                RunEvent::RunStarted(_) => self.ended = false,
                RunEvent::RunFinished { interrupted, elapsed_ms } => {
                    self.ended = !interrupted;
                    self.elapsed_here_ms += elapsed_ms;
                }
                RunEvent::CaseFinished(record) => {
                    self.seen += 1;
                    if self.counts(&record.key, line) {
                        return Some(Ok(RunEvent::CaseFinished(record)));
                    }
                }
                other => return Some(Ok(other)),
            }
        }
    }
}

impl Iterator for Merged {
    type Item = Result<RunEvent, JournalError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.given == Given::Nothing {
            self.given = Given::Head;
            return Some(Ok(RunEvent::RunStarted(self.header.clone())));
        }
        while self.at < self.readers.len() {
            if let Some(event) = self.step() {
                return Some(event);
            }
            let cases = self.distinct.as_ref().and_then(|all| all.get(self.at).copied()).unwrap_or(self.seen);
            // Whatever its last line says: a case that it was begun with is missing.
            self.interrupted |= !self.ended || cases < self.readers[self.at].header().cases;
            self.elapsed_ms = self.elapsed_ms.max(self.elapsed_here_ms);
            (self.ended, self.elapsed_here_ms, self.seen) = (false, 0, 0);
            self.at += 1;
        }
        if self.given == Given::End {
            return None;
        }
        self.given = Given::End;
        Some(Ok(RunEvent::RunFinished { interrupted: self.interrupted, elapsed_ms: self.elapsed_ms }))
    }
}

/// Reads every journal once for the records that count, and for how many cases are in each.
fn choose(readers: &[Reader]) -> Result<(HashMap<u128, Winner>, Vec<u64>), JournalError> {
    let mut winners = HashMap::new();
    let mut distinct = Vec::new();
    for (journal, reader) in (0_u32..).zip(readers) {
        let mut lines = Lines::open(reader.path())?;
        let mut keys = HashSet::new();
        while lines.advance()? {
            let line = lines.number();
            let Some(sketch) = lines.case::<Sketch<'_>>() else { continue };
            let sketch = sketch?;
            let found = Winner { journal, line, executed: !sketch.attempts.is_empty() };
            let key = xxh3_128(sketch.key.as_bytes());
            keys.insert(key);
            match winners.entry(key) {
                Entry::Vacant(place) => {
                    place.insert(found);
                }
                Entry::Occupied(mut place) => {
                    let old: &mut Winner = place.get_mut();
                    if found.executed || !old.executed {
                        *old = found;
                    }
                }
            }
        }
        distinct.push(keys.len() as u64);
    }
    Ok((winners, distinct))
}

/// How many cases runs are about together: shards of one selection add up, other selections may be
/// about the same cases.
fn selected<'a>(heads: impl Iterator<Item = &'a RunHeader>) -> u64 {
    let mut selections: HashMap<(Vec<&str>, &str), HashMap<&str, u64>> = HashMap::new();
    for head in heads {
        let shard = head.selection.iter().find_map(|flag| flag.strip_prefix("--shard ")?.split_once('/'));
        let (n, of) = shard.unwrap_or_default();
        let others = head.selection.iter().filter(|flag| !flag.starts_with("--shard ")).map(String::as_str);
        let cases = selections.entry((others.collect(), of)).or_default().entry(n).or_default();
        *cases = head.cases.max(*cases);
    }
    selections.values().map(|shards| shards.values().sum()).max().unwrap_or(0)
}

/// Adds what another run's head says.
fn join(all: &mut RunHeader, other: &RunHeader) {
    all.run = format!("{}+{}", all.run, other.run);
    for (names, more) in
        [(&mut all.scenarios, &other.scenarios), (&mut all.files, &other.files), (&mut all.selection, &other.selection)]
    {
        for name in more {
            if !names.contains(name) {
                names.push(name.clone());
            }
        }
    }
    let more = other.changes.iter().filter(|flag| !all.changes.contains(flag));
    all.changes = all.changes.iter().chain(more).cloned().collect();
    all.rules.extend(other.rules.clone());
    all.labels.extend(other.labels.clone());
}
