//! What there is to tell about one case, in the order in which a person needs it. Every reporter
//! that is read by people tells it: the terminal in colours, `JUnit` as text, `GitHub` as markdown.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use super::summary::rule_of;
use super::text::{count, head, micros, one_line, plain, shell, tail};
use crate::event::{Attempt, CaseRecord, RuleInfo, RunHeader};
use crate::outcome::{Effective, Judgement, Observation, Phase, Verdict, Why};

/// How much of each foreign text is told.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// Lines of a text.
    pub lines: usize,
    /// Bytes of a text.
    pub bytes: usize,
    /// Checks that did not hold, and texts of peers.
    pub items: usize,
    /// The peers' output is part of the story.
    pub output: bool,
    /// The transcript of ops is part of the story.
    pub ops: bool,
}

/// A labelled part of a story; `text` may have several lines and is harmless to show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Part {
    pub label: Cow<'static, str>,
    pub text: String,
}

/// What stories need to know of the run.
#[derive(Debug, Clone, Default)]
pub(super) struct Scene {
    pub header: Option<RunHeader>,
    /// The run's folder, as people can name it.
    pub folder: Option<PathBuf>,
}

impl Scene {
    pub(super) fn rule(&self, record: &CaseRecord) -> Option<&RuleInfo> {
        self.header.as_ref()?.rules.get(rule_of(&record.expected)?)
    }

    /// The scenario file of a case, as given on the command line.
    pub(super) fn file(&self, record: &CaseRecord) -> Option<&str> {
        let header = self.header.as_ref()?;
        let at = header.scenarios.iter().position(|name| *name == record.scenario)?;
        header.files.get(at).or_else(|| header.files.first()).map(String::as_str)
    }

    /// The one command that runs just this case.
    pub(super) fn again(&self, record: &CaseRecord) -> String {
        let mut words: Vec<Cow<'_, str>> = vec!["soupscen".into(), "run".into()];
        words.extend(self.file(record).map(shell));
        // What changes how a case is run has to be the same again.
        let given = self.header.as_ref().map(|header| &*header.argv).unwrap_or_default();
        if given.iter().any(|word| word == "--probe-unsupported") {
            words.push("--probe-unsupported".into());
        }
        for (word, next) in given.iter().zip(given.iter().skip(1).map(Some).chain([None])) {
            match (word.strip_prefix("--set="), next) {
                (Some(set), _) => words.extend(["--set".into(), shell(set)]),
                (None, Some(set)) if word == "--set" => words.extend(["--set".into(), shell(set)]),
                _ => {}
            }
        }
        words.push("--case".into());
        words.push(shell(&record.key));
        plain(&words.join(" ")).into_owned()
    }

    fn evidence(&self, attempt: &Attempt) -> Option<String> {
        let folder = Path::new(attempt.folder.as_deref()?);
        let whole = self.folder.as_ref().map_or_else(|| folder.to_owned(), |run| run.join(folder));
        Some(plain(&whole.to_string_lossy()).into_owned())
    }
}

/// Tells a case.
pub(super) fn story(scene: &Scene, record: &CaseRecord, judged: &Judgement<'_>, limits: Limits) -> Vec<Part> {
    let mut teller = Teller { parts: Vec::new(), limits };
    teller.outcome(record, judged);
    // Of a flaky case, the attempt that failed is what people want to understand.
    let telling = match judged.why {
        Why::OnlyOnRetry { before, .. } => Some(before),
        _ => judged.deciding,
    };
    if let Some(seen) = telling {
        teller.observation(seen);
    }
    let is_told = |attempt: &&Attempt| telling.is_some_and(|seen| std::ptr::eq(seen, &raw const attempt.observation));
    if let Some(attempt) = record.attempts.iter().find(is_told) {
        teller.attempt(attempt);
    }
    if let Some(rule) = scene.rule(record) {
        teller.rule(rule_of(&record.expected).unwrap_or_default(), rule);
    }
    if let Some(path) = record.attempts.iter().rev().find_map(|a| scene.evidence(a)) {
        teller.say("evidence", path);
    }
    teller.say("again", scene.again(record));
    teller.parts
}

struct Teller {
    parts: Vec<Part>,
    limits: Limits,
}

impl Teller {
    fn say(&mut self, label: impl Into<Cow<'static, str>>, text: impl Into<String>) {
        let text = text.into();
        if !text.is_empty() {
            self.parts.push(Part { label: label.into(), text });
        }
    }

    /// Foreign text: made harmless and cut.
    fn quote(&mut self, label: impl Into<Cow<'static, str>>, text: &str) {
        let text = head(&plain(text), self.limits.lines, self.limits.bytes).into_owned();
        self.say(label, text);
    }

    fn outcome(&mut self, record: &CaseRecord, judged: &Judgement<'_>) {
        if let Some(seen) = judged.deciding
            && (seen.phase.is_some() || seen.cause.is_some())
        {
            let place = seen.phase.map_or_else(String::new, |phase| format!("in {phase}: "));
            let what = seen.cause.as_ref().map_or_else(
                || "the cause is not known".to_owned(),
                |cause| {
                    let text = failed_checks(seen).unwrap_or_else(|| cause.text.clone());
                    format!("{text} ({}, {})", cause.code, cause.certainty)
                },
            );
            self.quote("cause", &format!("{place}{what}"));
        }
        // Facts that differ are told one by one, with how that is known.
        if !matches!(judged.why, Why::Differ(_)) {
            self.quote("because", &judged.why.to_string());
        }
        if let Some(reason) = &record.not_run {
            self.quote("not run", reason);
        }
        if record.attempts.len() > 1 {
            let mut lines = Vec::new();
            for (i, attempt) in record.attempts.iter().enumerate().take(self.limits.items) {
                let counted = i + 1 == record.attempts.len() || !attempt.on_shared;
                let shared = if counted { "" } else { ", on a shared instance, not blamed" };
                let end = ending(&attempt.observation);
                lines.push(format!("{} of {}: {end}{shared}", i + 1, record.attempts.len()));
            }
            self.say("attempts", lines.join("\n"));
        }
    }

    fn observation(&mut self, seen: &Observation) {
        // An OK with a wrong message is told by its check.
        if let Some(status) = seen.status.as_ref().filter(|status| status.code != "OK" || !status.text.is_empty()) {
            let text = if status.text.is_empty() { "(no text)" } else { &status.text };
            self.quote("status", &format!("{}: {text}", status.code));
        }
        if let Some(exit) = seen.exit {
            self.say("process", exit.to_string());
        }
        if let Some(alert) = seen.alert {
            self.say("alert", alert.to_string());
        }
        // The cause often quotes them already.
        let told = |text: &&String| seen.cause.as_ref().is_some_and(|cause| cause.text.contains(text.as_str()));
        for text in seen.texts.iter().filter(|text| !told(text)).take(self.limits.items) {
            self.quote("said", text);
        }
        let failed: Vec<_> = seen.checks.iter().filter(|check| !check.held).collect();
        for check in failed.iter().take(self.limits.items) {
            let place = check.place.as_ref().map(|p| format!(" ({}:{}:{})", p.file, p.line, p.column));
            let diff = check.diff.as_deref().map(|diff| format!("\n{diff}"));
            self.quote("check", &format!("{}{}{}", check.id, place.unwrap_or_default(), diff.unwrap_or_default()));
        }
        if failed.len() > self.limits.items {
            self.say("check", format!("… {} more did not hold", failed.len() - self.limits.items));
        }
        for fact in seen.facts.iter().filter(|fact| fact.differs()) {
            let (Some(asked), Effective::Value(got)) = (&fact.requested, &fact.effective) else { continue };
            let known = fact.certainty.map_or("", |certainty| certainty.name());
            let soft = fact.report_only.as_ref().map_or_else(String::new, |why| format!("; only reported: {why}"));
            let text = format!("{}: asked for {asked}, got {got} ({known}, {}{soft})", fact.fact, fact.source);
            self.quote("effective", &text);
        }
    }

    fn attempt(&mut self, attempt: &Attempt) {
        if self.limits.ops {
            let ops: Vec<String> = attempt.ops.iter().map(op_line).collect();
            self.quote("ops", &ops.join("\n"));
        }
        for command in &attempt.commands {
            self.quote(one_line(&command.role, 40), &command.command);
        }
        if self.limits.output {
            for output in attempt.output.iter().filter(|output| !output.text.trim().is_empty()) {
                let shared = if output.shared { ", shared with other cases" } else { "" };
                let label = format!("{} {}{shared}", one_line(&output.role, 40), one_line(&output.stream, 10));
                let text = tail(&plain(&output.text), self.limits.lines, self.limits.bytes).into_owned();
                self.say(label, text);
            }
        }
    }

    fn rule(&mut self, id: &str, rule: &RuleInfo) {
        let place = &rule.place;
        self.quote("rule", &format!("{id} ({}:{}): {}", place.file, place.line, rule.reason));
        self.quote("issue", rule.issue.as_deref().unwrap_or_default());
        self.quote("advise", rule.advise.as_deref().unwrap_or_default());
    }
}

/// Which checks decided, where they did: their differences are told one by one after the cause.
fn failed_checks(seen: &Observation) -> Option<String> {
    let failed: Vec<&str> = seen.checks.iter().filter(|check| !check.held).map(|check| check.id.as_str()).collect();
    if seen.phase != Some(Phase::Check) || failed.is_empty() {
        return None;
    }
    Some(format!("{} of {} did not hold: {}", failed.len(), count(seen.checked.into(), "check"), failed.join(", ")))
}

/// How an attempt ended, in a line.
fn ending(seen: &Observation) -> String {
    let mut line = seen.ending.verb().to_owned();
    if let Some(phase) = seen.phase {
        line.push_str(" in ");
        line.push_str(phase.name());
    }
    if let Some(cause) = &seen.cause {
        line.push_str(": ");
        line.push_str(&one_line(&cause.text, 200));
    }
    format!("{line} ({})", micros(seen.elapsed_us))
}

/// An op of a transcript, in a line.
pub(super) fn op_line(op: &crate::event::OpRecord) -> String {
    let json = |value: &Option<serde_json::Value>| value.as_ref().map(ToString::to_string);
    let mut line = one_line(&op.op, 80);
    if let Some(sent) = json(&op.sent) {
        let _ = write!(line, " > {}", one_line(&sent, 300));
    }
    if let Some(received) = json(&op.received) {
        let _ = write!(line, " < {}", one_line(&received, 300));
    }
    if let Some(status) = &op.status {
        let _ = write!(line, " {}", one_line(&status.code, 40));
    }
    let _ = write!(line, " ({})", micros(op.elapsed_us));
    line
}

/// The word that a case is announced with.
pub(super) const fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Passed => "PASS",
        Verdict::Known => "KNOWN",
        Verdict::Unsupported => "UNSUPPORTED",
        Verdict::NotRun => "NOT RUN",
        Verdict::Failed => "FAILED",
        Verdict::UnexpectedPass => "UNEXPECTED PASS",
        Verdict::WrongFailure => "WRONG FAILURE",
        Verdict::NotEffective => "NOT EFFECTIVE",
        Verdict::Flaky => "FLAKY",
        Verdict::Errored => "ERRORED",
    }
}
