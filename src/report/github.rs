//! GitHub Actions: an annotation per red case at the line that it is about, and a step summary.
//!
//! Workflow commands and their escapes: GitHub's documentation, "Workflow commands for GitHub
//! Actions"; a step summary may have 1 MiB, and GitHub shows no more than ten errors of a step.

use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::PathBuf;

use super::printer::Printer;
use super::story::{Limits, Scene, story, word};
use super::summary::{Summary, reason};
use super::text::{count, floor, one_line, span};
use super::{GithubSettings, ReportError, Reporter};
use crate::event::{CaseRecord, RunEvent};
use crate::outcome::Verdict;

/// So many annotations are printed; GitHub shows ten per step and kind.
const ANNOTATIONS: usize = 50;
/// So many red cases are told in the step summary.
const TOLD: usize = 200;
/// A step summary may be so long, in bytes.
const SUMMARY_BYTES: u64 = 1 << 20;
/// What is left free for the end of it.
const RESERVE: u64 = 4 << 10;
const LIMITS: Limits = Limits { lines: 20, bytes: 2 << 10, items: 5, output: true, ops: false };

/// Prints annotations and writes the step summary.
#[derive(Debug)]
pub(super) struct Github {
    out: Printer,
    step_summary: Option<PathBuf>,
    scene: Scene,
    annotations: String,
    annotated: usize,
    red: Vec<String>,
    red_bytes: usize,
}

impl Github {
    pub(super) fn new(settings: GithubSettings, out: Printer, folder: Option<PathBuf>) -> Self {
        let scene = Scene { header: None, folder };
        let GithubSettings { step_summary } = settings;
        Self { out, step_summary, scene, annotations: String::new(), annotated: 0, red: Vec::new(), red_bytes: 0 }
    }

    fn annotate(&mut self, record: &CaseRecord, verdict: Verdict) {
        self.annotated += 1;
        if self.annotated > ANNOTATIONS {
            return;
        }
        let (file, line) = self.place(record);
        let title = property(&format!("{} {}", word(verdict), one_line(&record.id, 200)));
        let message = data(&format!("{}\nagain: {}", one_line(&reason(record), 1000), self.scene.again(record)));
        let _ = writeln!(self.annotations, "::error file={},line={line},title={title}::{message}", property(&file));
    }

    /// The line that a red case is about: its rule, the check that did not hold, or the scenario.
    fn place(&self, record: &CaseRecord) -> (String, u32) {
        let judged = record.judge();
        let about_rule = matches!(judged.verdict, Verdict::UnexpectedPass | Verdict::WrongFailure);
        let rule = self.scene.rule(record).filter(|_| about_rule).map(|rule| &rule.place);
        let checks = judged.deciding.map(|seen| seen.checks.as_slice()).unwrap_or_default();
        let check = checks.iter().filter(|check| !check.held).find_map(|check| check.place.as_ref());
        rule.or(check).map_or_else(
            || (self.scene.file(record).unwrap_or_default().to_owned(), 1),
            |place| (place.file.clone(), place.line),
        )
    }

    fn tell(&mut self, record: &CaseRecord, verdict: Verdict) {
        let room = usize::try_from(SUMMARY_BYTES / 2).unwrap_or(usize::MAX);
        if self.red.len() >= TOLD || self.red_bytes > room {
            return;
        }
        let mut text = format!("<details><summary><b>{}</b> {}", word(verdict), html(&one_line(&record.id, 300)));
        let _ = writeln!(text, ": {}</summary>\n\n<pre>", html(&one_line(&reason(record), 300)));
        for part in story(&self.scene, record, &record.judge(), LIMITS) {
            let said = part.text.replace('\n', "\n    ");
            text.push_str(&html(&format!("{}: {said}\n", part.label)));
        }
        text.push_str("</pre></details>\n\n");
        self.red_bytes += text.len();
        self.red.push(text);
    }

    fn write_summary(&self, path: &PathBuf, summary: &Summary) -> io::Result<()> {
        let mut file = OpenOptions::new().create(true).append(true).open(path)?;
        let used = file.metadata().map_or(0, |found| found.len());
        let room = usize::try_from(SUMMARY_BYTES.saturating_sub(used + RESERVE)).unwrap_or(0);
        let text = self.markdown(summary);
        let cut = floor(&text, room);
        file.write_all(&text.as_bytes()[..cut])?;
        if cut < text.len() {
            file.write_all(
                b"\n</pre></details>\n\n*The rest does not fit into a step summary; it is in the other reports.*\n",
            )?;
        }
        Ok(())
    }

    fn markdown(&self, summary: &Summary) -> String {
        let name = summary.header.as_ref().map(|header| header.scenarios.join(", ")).unwrap_or_default();
        let icon = if summary.exit_status(true).code() == 0 { "✅" } else { "❌" };
        let time = span(std::time::Duration::from_millis(summary.elapsed_ms));
        let mut text = format!("## {icon} soupscen: {} in {time}\n\n", html(&one_line(&name, 200)));
        if summary.interrupted {
            text.push_str("**The run was stopped before its end.**\n\n");
        }
        text.push_str("| verdict | cases |\n|---|---:|\n");
        for (verdict, n) in &summary.verdicts {
            let mark = if verdict.is_red() { "**" } else { "" };
            let _ = writeln!(text, "| {mark}{verdict}{mark} | {n} |");
        }
        let _ = writeln!(text, "| all | {} |\n", summary.finished);
        self.red.iter().for_each(|red| text.push_str(red));
        let untold = summary.red_count().saturating_sub(self.red.len() as u64);
        if untold > 0 {
            let _ = writeln!(text, "{} more: see the other reports.\n", count(untold, "red case"));
        }
        limitations(&mut text, summary);
        reasons(&mut text, "Not run", &summary.not_run);
        reasons(&mut text, "Unsupported", &summary.unsupported);
        if !summary.notes.is_empty() {
            text.push_str("### Notes\n\n");
            for note in &summary.notes {
                let _ = writeln!(text, "- {}", html(&one_line(note, 500)));
            }
        }
        text
    }
}

fn limitations(text: &mut String, summary: &Summary) {
    if summary.limitations.is_empty() {
        return;
    }
    text.push_str("### Known limitations\n\n| cases | rule | reason | issue |\n|---:|---|---|---|\n");
    for (id, met) in &summary.limitations {
        let rule = summary.header.as_ref().and_then(|header| header.rules.get(id));
        let reason = rule.map(|rule| rule.reason.as_str()).unwrap_or_default();
        let issue = rule.and_then(|rule| rule.issue.as_deref()).unwrap_or_default();
        let cases = met.known + met.unsupported;
        let _ = writeln!(text, "| {cases} | {} | {} | {} |", cell(id), cell(reason), cell(issue));
    }
    text.push('\n');
}

fn reasons(text: &mut String, title: &str, reasons: &std::collections::BTreeMap<String, u64>) {
    if reasons.is_empty() {
        return;
    }
    let _ = writeln!(text, "### {title}\n\n| cases | reason |\n|---:|---|");
    for (reason, n) in reasons {
        let _ = writeln!(text, "| {n} | {} |", cell(reason));
    }
    text.push('\n');
}

impl Reporter for Github {
    fn event(&mut self, event: &RunEvent) {
        match event {
            RunEvent::RunStarted(header) => self.scene.header = Some(header.clone()),
            RunEvent::CaseFinished(record) => {
                let verdict = record.verdict();
                if verdict.is_red() {
                    self.annotate(record, verdict);
                    self.tell(record, verdict);
                }
            }
            _ => {}
        }
    }

    fn finish(&mut self, summary: &Summary) -> Result<(), ReportError> {
        let more = self.annotated.saturating_sub(ANNOTATIONS);
        if more > 0 {
            let text = format!("{} more: see the step summary", count(more as u64, "red case"));
            let _ = writeln!(self.annotations, "::error title=soupscen::{}", data(&text));
        }
        for (peer, reason) in &summary.missing_peers {
            let text = data(&one_line(&format!("peer {peer} is missing: {reason}"), 1000));
            let _ = writeln!(self.annotations, "::warning title=soupscen::{text}");
        }
        self.out.print(&self.annotations);
        let Some(path) = &self.step_summary else { return Ok(()) };
        self.write_summary(path, summary).map_err(ReportError::of("github", path))
    }
}

/// The message of a workflow command.
fn data(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

/// A property of a workflow command.
fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}

/// Text in markdown's HTML: nothing of it is markup.
fn html(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// Text in a table's cell.
fn cell(text: &str) -> String {
    html(&one_line(text, 500)).replace('|', "\\|").replace('`', "'")
}

#[cfg(test)]
mod tests {
    use super::super::printer::testing::Shown;
    use super::*;
    use crate::journal::samples::{self, NASTY, attempt, case, done, every_verdict, wrong_value};
    use crate::outcome::{Expected, Observation};

    fn report(events: &[RunEvent], step_summary: Option<PathBuf>) -> String {
        let shown = Shown::default();
        let mut reporter = Github::new(GithubSettings { step_summary }, shown.printer(), Some("runs/x".into()));
        let mut summary = Summary::default();
        for event in events {
            summary.event(event);
            reporter.event(event);
        }
        reporter.finish(&summary).unwrap();
        shown.text()
    }

    #[test]
    fn annotations_and_step_summary_of_every_verdict() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("summary.md");
        let annotations = report(&every_verdict(), Some(path.clone()));
        insta::assert_snapshot!("github_annotations", annotations);
        insta::assert_snapshot!("github_summary", std::fs::read_to_string(path).unwrap());
    }

    #[test]
    fn peers_cannot_write_commands_or_markup() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("summary.md");
        let mut observation = wrong_value();
        observation.cause.as_mut().unwrap().text = format!("{NASTY}\n::error::pwned\n</pre><script>");
        let mut record = case("a", Expected::Passed, vec![attempt(observation)]);
        record.id = format!("kv/{NASTY}");
        let shown = report(&[samples::started(), done(record), samples::finished()], Some(path.clone()));
        assert_eq!(shown.lines().count(), 1, "{shown}");
        assert!(shown.starts_with("::error file=scenarios/quick.yaml,line=22,title=FAILED kv/a"), "{shown}");
        let text = std::fs::read_to_string(path).unwrap();
        assert!(!text.contains("<script>") && !text.contains('\u{1b}'), "{text}");
    }

    #[test]
    fn a_step_summary_keeps_its_bound_together_with_what_is_there() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("summary.md");
        std::fs::write(&path, "x".repeat(900_000)).unwrap();
        let mut events = vec![samples::started()];
        for i in 0..2_000 {
            let texts = vec!["é".repeat(1000); 20];
            let observation = Observation { texts, ..wrong_value() };
            events.push(done(case(&i.to_string(), Expected::Passed, vec![attempt(observation)])));
        }
        let shown = report(&events, Some(path.clone()));
        assert_eq!(shown.lines().count(), ANNOTATIONS + 1);
        assert!(shown.contains("1950 red cases more"));
        let text = std::fs::read(&path).unwrap();
        assert!(text.len() <= 1 << 20 && text.starts_with(b"xx"));
        assert!(String::from_utf8(text).unwrap().contains("does not fit into a step summary"));
    }
}
