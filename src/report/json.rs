//! `results.json`: everything that is known of a run, for programs. Streaming: cases are written as
//! they come, the totals after them.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead, BufWriter, Seek, Write};
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::de::{DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};

use super::output::Output;
use super::summary::Summary;
use super::{ReportError, Reporter};
use crate::diag::Place;
use crate::event::{CaseRecord, FORMAT, RunEvent, RunHeader};
use crate::outcome::Verdict;

/// The document that `--json` writes; its schema is `schemas/results.schema.json`.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[schemars(title = "soupscen results")]
pub struct Results {
    /// Version of the document, 1.
    pub format: u32,
    /// The head of the run.
    pub run: RunHeader,
    /// Cases in the order in which they ended.
    pub cases: Vec<CaseResult>,
    /// Peers by name.
    pub peers: BTreeMap<String, PeerResult>,
    /// What people should know beside the cases.
    pub notes: Vec<Note>,
    /// The totals.
    pub summary: Summary,
    /// What the run ended with, or would have.
    pub exit_status: u8,
}

/// A case with its verdict.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
pub struct CaseResult {
    /// The verdict.
    pub verdict: Verdict,
    /// Why, where the observation alone does not say it.
    #[serde(default)]
    pub why: Option<String>,
    /// Everything else.
    #[serde(flatten)]
    pub record: CaseRecord,
}

/// What became of a peer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PeerResult {
    /// Component → version; the peer's own is `self`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub versions: BTreeMap<String, String>,
    /// Milliseconds that its build took; absent when nothing was built.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub build_ms: Option<u64>,
    /// Nothing had to be built.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cached: Option<bool>,
    /// Why its build failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub build_error: Option<String>,
    /// Why it could not be had.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missing: Option<String>,
}

/// A note.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Note {
    /// A sentence.
    pub text: String,
    /// Where, when it is about the input.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<Place>,
}

/// How a [`CaseResult`] is written, without a copy of the record.
#[derive(Serialize)]
struct Written<'a> {
    verdict: Verdict,
    #[serde(skip_serializing_if = "str::is_empty")]
    why: &'a str,
    #[serde(flatten)]
    record: &'a CaseRecord,
}

/// Writes `results.json`.
#[derive(Debug)]
pub(super) struct Json {
    path: PathBuf,
    /// Nameless until the end: a run that is killed leaves nothing behind.
    out: Option<BufWriter<File>>,
    trouble: Option<io::Error>,
    cases: u64,
    peers: BTreeMap<String, PeerResult>,
    notes: Vec<Note>,
}

impl Json {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, out: None, trouble: None, cases: 0, peers: BTreeMap::new(), notes: Vec::new() }
    }

    fn start(&mut self, header: &RunHeader) -> io::Result<()> {
        let mut out = BufWriter::with_capacity(64 << 10, tempfile::tempfile()?);
        write!(out, "{{\"format\":{FORMAT},\n\"run\":")?;
        serde_json::to_writer(&mut out, header)?;
        out.write_all(b",\n\"cases\":[")?;
        self.out = Some(out);
        Ok(())
    }

    fn case(&mut self, record: &CaseRecord) -> io::Result<()> {
        let Some(out) = &mut self.out else { return Ok(()) };
        out.write_all(if self.cases == 0 { b"\n" } else { b",\n" })?;
        self.cases += 1;
        let judged = record.judge();
        let why = judged.why.to_string();
        serde_json::to_writer(out, &Written { verdict: judged.verdict, why: &why, record })?;
        Ok(())
    }

    fn end(&mut self, summary: &Summary) -> io::Result<()> {
        let none = || io::Error::other("the run has no head");
        let mut out = self.out.take().ok_or_else(none)?;
        out.write_all(b"\n],\n\"peers\":")?;
        serde_json::to_writer(&mut out, &self.peers)?;
        out.write_all(b",\n\"notes\":")?;
        serde_json::to_writer(&mut out, &self.notes)?;
        out.write_all(b",\n\"summary\":")?;
        serde_json::to_writer(&mut out, summary)?;
        writeln!(out, ",\n\"exit_status\":{}}}", summary.exit_status(false).code())?;
        let mut whole = out.into_inner().map_err(io::IntoInnerError::into_error)?;
        whole.rewind()?;
        let mut place = Output::create(&self.path)?;
        io::copy(&mut whole, &mut place)?;
        place.finish()
    }

    fn peer(&mut self, name: &str) -> &mut PeerResult {
        self.peers.entry(name.to_owned()).or_default()
    }
}

impl Reporter for Json {
    fn event(&mut self, event: &RunEvent) {
        match event {
            RunEvent::RunStarted(header) => self.trouble = self.start(header).err(),
            RunEvent::CaseFinished(record) if self.trouble.is_none() => self.trouble = self.case(record).err(),
            RunEvent::BuildFinished { peer, cached, error, elapsed_ms } => {
                let peer = self.peer(peer);
                peer.cached = Some(*cached);
                peer.build_error.clone_from(error);
                peer.build_ms = (!cached).then_some(*elapsed_ms);
            }
            RunEvent::PeerVersions { peer, versions } => self.peer(peer).versions.clone_from(versions),
            RunEvent::PeerMissing { peer, reason, .. } => self.peer(peer).missing = Some(reason.clone()),
            RunEvent::Note { text, place } => self.notes.push(Note { text: text.clone(), place: place.clone() }),
            _ => {}
        }
    }

    fn finish(&mut self, summary: &Summary) -> Result<(), ReportError> {
        let result = self.trouble.take().map_or_else(|| self.end(summary), Err);
        result.map_err(ReportError::of("json", &self.path))
    }
}

/// The JSON Schema of `results.json`, as shipped in `schemas/results.schema.json`.
#[must_use]
pub fn results_schema() -> String {
    format!("{}\n", serde_json::to_string_pretty(&schemars::schema_for!(Results)).unwrap_or_default())
}

/// Keys of the red cases of a `results.json`, for `--failed-in`: only they are held in memory.
///
/// # Errors
/// A sentence with the file, when it cannot be read or is no `results.json` of this format.
pub fn red_keys(path: &Path) -> Result<Vec<String>, String> {
    let file = File::open(path).map_err(|error| format!("cannot open `{}`: {error}", path.display()))?;
    read_red_keys(io::BufReader::new(file)).map_err(|error| {
        format!("`{}` is not the results.json of a run: {error}; write one with `run --json PATH`", path.display())
    })
}

fn read_red_keys(text: impl BufRead) -> Result<Vec<String>, serde_json::Error> {
    let mut from = serde_json::Deserializer::from_reader(text);
    let keys = serde::Deserializer::deserialize_map(&mut from, Document)?;
    from.end()?;
    Ok(keys)
}

/// The whole document.
struct Document;
impl<'de> Visitor<'de> for Document {
    type Value = Vec<String>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an object with `format` and `cases`")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let (mut format, mut keys) = (None, None);
        while let Some(name) = map.next_key::<String>()? {
            match name.as_str() {
                "format" => format = Some(map.next_value::<u32>()?),
                "cases" => keys = Some(map.next_value_seed(Cases)?),
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        match (format, keys) {
            (Some(FORMAT), Some(keys)) => Ok(keys),
            (Some(other), Some(_)) => {
                Err(serde::de::Error::custom(format!("format {other}, and this soupscen reads format {FORMAT}")))
            }
            _ => Err(serde::de::Error::custom("`format` or `cases` is missing")),
        }
    }
}

/// The list of cases, read one by one.
struct Cases;
impl<'de> DeserializeSeed<'de> for Cases {
    type Value = Vec<String>;
    fn deserialize<D: serde::Deserializer<'de>>(self, from: D) -> Result<Self::Value, D::Error> {
        from.deserialize_seq(self)
    }
}
impl<'de> Visitor<'de> for Cases {
    type Value = Vec<String>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a list of cases")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        #[derive(Deserialize)]
        struct Case {
            verdict: Verdict,
            key: String,
        }
        let mut keys = Vec::new();
        while let Some(case) = seq.next_element::<Case>()? {
            if case.verdict.is_red() {
                keys.push(case.key);
            }
        }
        Ok(keys)
    }
}

#[cfg(test)]
#[path = "json_tests.rs"]
mod tests;
