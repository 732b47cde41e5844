//! `JUnit` XML, for CI servers. One suite per scenario, one testcase per case.
//!
//! Every `<testcase>` element is written by the junit-report crate. The frame around them is
//! written here, because the crate holds a whole report in memory and has no place for
//! `<properties>`, the number of skipped cases and totals. It also leaves two things to its caller,
//! which [`cdata`] and [`xml`] do: `]]>` in a text, and characters that XML 1.0 forbids.
//!
//! Streaming: a suite's testcases go to a nameless temporary file while events come.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, BufWriter, Seek, Write};
use std::path::PathBuf;

use indexmap::IndexMap;
use junit_report::{Duration, OffsetDateTime, Report, TestCase, TestResult, TestSuite};

use super::output::Output;
use super::story::{Limits, Part, Scene, op_line, story};
use super::summary::{Summary, reason};
use super::text::{one_line, plain, tail};
use super::{ReportError, Reporter};
use crate::event::{CaseRecord, RunEvent};
use crate::outcome::Verdict;

/// Characters of a message attribute.
const MESSAGE: usize = 1000;
/// Characters of a case's name.
const NAME: usize = 2000;
/// Bytes of `system-out` and of `system-err` of one case.
const OUTPUT: usize = 256 << 10;
const LIMITS: Limits = Limits { lines: 200, bytes: 16 << 10, items: 50, output: false, ops: false };
/// What the crate puts after the last testcase.
const CRATE_END: &[u8] = b"</testsuite></testsuites>";

/// Writes `JUnit` XML to a file.
#[derive(Debug)]
pub(super) struct Junit {
    path: PathBuf,
    scene: Scene,
    suites: IndexMap<String, Suite>,
    versions: BTreeMap<String, String>,
    trouble: Option<io::Error>,
}

/// A suite in the making.
#[derive(Debug)]
struct Suite {
    cases: BufWriter<File>,
    totals: Totals,
}

#[derive(Debug, Default, Clone, Copy)]
struct Totals {
    tests: u64,
    failures: u64,
    errors: u64,
    skipped: u64,
    us: u64,
}

impl Junit {
    pub(super) fn new(path: PathBuf, folder: Option<PathBuf>) -> Self {
        let scene = Scene { header: None, folder };
        Self { path, scene, suites: IndexMap::new(), versions: BTreeMap::new(), trouble: None }
    }

    fn case(&mut self, record: &CaseRecord) -> io::Result<()> {
        let case = testcase(&self.scene, record);
        if !self.suites.contains_key(&record.scenario) {
            let cases = BufWriter::with_capacity(64 << 10, tempfile::tempfile()?);
            self.suites.insert(record.scenario.clone(), Suite { cases, totals: Totals::default() });
        }
        let Some(suite) = self.suites.get_mut(&record.scenario) else { return Ok(()) };
        let totals = &mut suite.totals;
        totals.tests += 1;
        totals.us += record.elapsed_us();
        match &case.result {
            TestResult::Success => {}
            TestResult::Skipped | TestResult::SkippedWithCause { .. } => totals.skipped += 1,
            TestResult::Error { .. } => totals.errors += 1,
            TestResult::Failure { .. } => totals.failures += 1,
        }
        write_case(&mut suite.cases, case)
    }

    fn write(&mut self, summary: &Summary) -> io::Result<()> {
        let mut out = Output::create(&self.path)?;
        let all = self.suites.values().fold(Totals::default(), |sum, suite| sum.and(suite.totals));
        write!(out, "<?xml version=\"1.0\" encoding=\"utf-8\"?>\n<testsuites name=\"soupscen\" {}>", all.attributes())?;
        let started = self.scene.header.as_ref().map_or(0, |h| i64::try_from(h.started_unix_ms / 1000).unwrap_or(0));
        let started = OffsetDateTime::from_unix_timestamp(started).unwrap_or(OffsetDateTime::UNIX_EPOCH);
        let timestamp = started.format(&time::format_description::well_known::Rfc3339).unwrap_or_default();
        let properties = self.properties(summary.interrupted);
        for (id, (name, suite)) in self.suites.iter_mut().enumerate() {
            let (name, totals) = (attribute(name), suite.totals.attributes());
            write!(
                out,
                "\n<testsuite id=\"{id}\" name=\"{name}\" package=\"{name}\" {totals} hostname=\"localhost\" \
                 timestamp=\"{timestamp}\">\n{properties}"
            )?;
            suite.cases.flush()?;
            let file = suite.cases.get_mut();
            file.rewind()?;
            io::copy(file, &mut out)?;
            write!(out, "</testsuite>")?;
        }
        out.write_all(b"\n</testsuites>\n")?;
        out.finish()
    }

    fn properties(&self, interrupted: bool) -> String {
        let mut all: Vec<(String, String)> = Vec::new();
        if let Some(header) = &self.scene.header {
            all.extend(header.labels.iter().map(|(name, value)| (format!("label.{name}"), value.clone())));
            all.push(("soupscen.version".into(), header.version.clone()));
            all.push(("soupscen.run".into(), header.run.clone()));
            all.push(("soupscen.plan".into(), header.plan_digest.clone()));
            if !header.selection.is_empty() {
                all.push(("soupscen.selection".into(), header.selection.join(" ")));
            }
        }
        if interrupted {
            // Not all cases are in it.
            all.push(("soupscen.interrupted".into(), "true".into()));
        }
        all.extend(self.versions.iter().map(|(name, value)| (name.clone(), value.clone())));
        let one = |(name, value): &(String, String)| {
            format!("<property name=\"{}\" value=\"{}\"/>", attribute(name), attribute(value))
        };
        if all.is_empty() {
            return String::new();
        }
        format!("<properties>{}</properties>\n", all.iter().map(one).collect::<String>())
    }
}

impl Reporter for Junit {
    fn event(&mut self, event: &RunEvent) {
        match event {
            RunEvent::RunStarted(header) => self.scene.header = Some(header.clone()),
            RunEvent::PeerVersions { peer, versions } => {
                for (component, version) in versions {
                    self.versions.insert(format!("peer.{peer}.{component}"), version.clone());
                }
            }
            RunEvent::CaseFinished(record) if self.trouble.is_none() => {
                self.trouble = self.case(record).err();
            }
            _ => {}
        }
    }

    fn finish(&mut self, summary: &Summary) -> Result<(), ReportError> {
        let result = self.trouble.take().map_or_else(|| self.write(summary), Err);
        result.map_err(ReportError::of("junit", &self.path))
    }
}

impl Totals {
    const fn and(self, other: Self) -> Self {
        Self {
            tests: self.tests + other.tests,
            failures: self.failures + other.failures,
            errors: self.errors + other.errors,
            skipped: self.skipped + other.skipped,
            us: self.us + other.us,
        }
    }

    fn attributes(self) -> String {
        let Self { tests, failures, errors, skipped, us } = self;
        let time = format!("{}.{:06}", us / 1_000_000, us % 1_000_000);
        format!("tests=\"{tests}\" failures=\"{failures}\" errors=\"{errors}\" skipped=\"{skipped}\" time=\"{time}\"")
    }
}

fn testcase(scene: &Scene, record: &CaseRecord) -> TestCase {
    let judged = record.judge();
    let type_ = judged.verdict.name().to_owned();
    let message = xml(&one_line(&reason(record), MESSAGE));
    let parts = if judged.verdict == Verdict::Passed { Vec::new() } else { story(scene, record, &judged, LIMITS) };
    let cause = Some(cdata(&told(&parts))).filter(|text| !text.is_empty());
    let result = match judged.verdict {
        Verdict::Passed => TestResult::Success,
        Verdict::Known | Verdict::Unsupported | Verdict::NotRun => {
            TestResult::SkippedWithCause { type_, message: limitation(scene, record).unwrap_or(message), cause }
        }
        Verdict::Failed | Verdict::UnexpectedPass | Verdict::WrongFailure | Verdict::NotEffective | Verdict::Flaky => {
            TestResult::Failure { type_, message, cause }
        }
        Verdict::Errored => TestResult::Error { type_, message, cause },
    };
    TestCase {
        name: xml(&one_line(&record.id, NAME)),
        time: Duration::microseconds(i64::try_from(record.elapsed_us()).unwrap_or(i64::MAX)),
        result,
        classname: Some(classname(record)),
        filepath: scene.file(record).map(|file| xml(&plain(file))),
        system_out: output(record, false),
        system_err: output(record, true),
    }
}

/// Why a case is skipped: the reason of its rule, where it has one.
fn limitation(scene: &Scene, record: &CaseRecord) -> Option<String> {
    let rule = scene.rule(record).filter(|_| record.not_run.is_none())?;
    let id = super::summary::rule_of(&record.expected).unwrap_or_default();
    let issue = rule.issue.as_deref().map(|issue| format!(" ({issue})")).unwrap_or_default();
    Some(xml(&one_line(&format!("{id}: {}{issue}", rule.reason), MESSAGE)))
}

/// `scenario.client=go,key=p256,…`; dots in values become `_`, because viewers split class names at dots.
fn classname(record: &CaseRecord) -> String {
    let axes: Vec<String> = record.axes.iter().map(|(axis, value)| format!("{axis}={value}")).collect();
    let axes = one_line(&axes.join(","), NAME).replace('.', "_");
    xml(&format!("{}.{axes}", one_line(&record.scenario, 200).replace('.', "_")))
}

/// A story as text.
fn told(parts: &[Part]) -> String {
    let mut text = String::new();
    for Part { label, text: said } in parts {
        let separator = if said.contains('\n') { ":\n  " } else { ": " };
        text.push_str(label);
        text.push_str(separator);
        text.push_str(&said.replace('\n', "\n  "));
        text.push('\n');
    }
    text
}

/// What both sides printed in all attempts: `stderr` or the rest, with the ops of those that have them.
fn output(record: &CaseRecord, stderr: bool) -> Option<String> {
    let mut text = String::new();
    for (i, attempt) in record.attempts.iter().enumerate() {
        let which = if record.attempts.len() > 1 { format!("attempt {}, ", i + 1) } else { String::new() };
        if !stderr && !attempt.ops.is_empty() {
            let _ = writeln!(text, "--- {which}ops ---");
            attempt.ops.iter().for_each(|op| {
                text.push_str(&op_line(op));
                text.push('\n');
            });
        }
        for output in attempt.output.iter().filter(|output| (output.stream == "stderr") == stderr) {
            let shared = if output.shared { " (shared with other cases)" } else { "" };
            let _ = writeln!(text, "--- {which}{} {}{shared} ---", output.role, output.stream);
            text.push_str(&tail(&output.text, usize::MAX, OUTPUT));
            text.push('\n');
        }
    }
    if text.is_empty() {
        return None;
    }
    Some(cdata(&tail(&plain(&text), usize::MAX, OUTPUT)))
}

/// Only characters that XML 1.0 allows (section 2.2); [`plain`] has taken out the control characters.
fn xml(text: &str) -> String {
    let allowed = |c: char| matches!(c, '\t' | '\n' | ' '..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..);
    text.chars().map(|c| if allowed(c) { c } else { '\u{fffd}' }).collect()
}

/// Text for a CDATA section, whose end mark is spread over two sections.
fn cdata(text: &str) -> String {
    xml(text).replace("]]>", "]]]]><![CDATA[>")
}

/// Text for an attribute that is written here.
fn attribute(text: &str) -> String {
    let mut out = String::new();
    for c in xml(&one_line(text, NAME)).chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            c => out.push(c),
        }
    }
    out
}

/// Writes one `<testcase>`: the crate writes a report of it alone, and its frame is cut away.
fn write_case(out: &mut impl Write, case: TestCase) -> io::Result<()> {
    let suite = TestSuite {
        name: String::new(),
        package: String::new(),
        timestamp: OffsetDateTime::UNIX_EPOCH,
        hostname: String::new(),
        testcases: vec![case],
        system_out: None,
        system_err: None,
    };
    let mut bytes = Vec::with_capacity(1024);
    let mut report = Report::new();
    report.add_testsuite(suite);
    report.write_xml(&mut bytes).map_err(io::Error::other)?;
    let start = bytes.windows(10).position(|at| at == b"<testcase ").unwrap_or(bytes.len());
    let element = bytes[start..].strip_suffix(CRATE_END).ok_or_else(|| io::Error::other("an unknown frame"))?;
    out.write_all(element)?;
    out.write_all(b"\n")
}

#[cfg(test)]
#[path = "junit_tests.rs"]
mod tests;
