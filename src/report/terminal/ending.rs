//! The summary at the end: what a person needs first comes last, next to the prompt.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use super::super::story::word;
use super::super::summary::{RedCase, Summary};
use super::super::text::{count, indent, micros, one_line, span};
use super::paint::{Paint, Tone};
use super::{COLUMN, Verbosity};
use crate::outcome::Verdict;

/// So many red cases of a verdict are named again, all of them with `-v`.
const NAMED: usize = 20;

/// The line above the summary, where the terminal is not narrower.
const RULER: usize = 76;

/// The whole summary. `width` is that of the terminal, if it goes to one.
pub(super) fn text(paint: Paint, summary: &Summary, verbosity: Verbosity, width: Option<usize>) -> String {
    let mut page = Page { paint, text: String::new(), named: NAMED };
    if verbosity >= Verbosity::Cases {
        page.named = usize::MAX;
    }
    let _ = writeln!(page.text, "\n{}", paint.tone(Tone::Dim, "-".repeat(width.map_or(RULER, |w| w.min(RULER)))));
    page.limitations(summary);
    page.reasons("UNSUPPORTED", &summary.unsupported, Tone::Warn);
    page.slow(summary);
    page.facts(summary);
    page.not_run(summary);
    page.red(summary);
    page.totals(summary);
    page.text
}

struct Page {
    paint: Paint,
    text: String,
    named: usize,
}

impl Page {
    fn line(&mut self, tone: Tone, word: &str, text: &str) {
        let word = self.paint.right(tone, word, COLUMN);
        self.text.push_str(format!("{word} {text}").trim_end());
        self.text.push('\n');
    }

    fn more(&mut self, text: &str) {
        let text = indent(text, COLUMN + 1);
        self.text.push_str(&text);
        self.text.push('\n');
    }

    fn limitations(&mut self, summary: &Summary) {
        for (id, met) in &summary.limitations {
            let rule = summary.header.as_ref().and_then(|header| header.rules.get(id));
            let mut what = count(met.known + met.unsupported, "case");
            if met.passed > 0 {
                let _ = write!(what, ", and {} passed", met.passed);
            }
            let reason = rule.map(|rule| one_line(&rule.reason, 400)).unwrap_or_default();
            self.line(Tone::Warn, "LIMITATION", &format!("{id} ({what}): {reason}"));
            let instead = summary.instead.get(id).into_iter().flatten();
            let instead: Vec<String> =
                instead.map(|(text, n)| format!("{} ({})", one_line(text, 200), count(*n, "case"))).collect();
            if !instead.is_empty() {
                self.more(&format!("asked for {}", instead.join("; ")));
            }
            let Some(rule) = rule else { continue };
            let issue = rule.issue.as_deref().map(|issue| format!("issue {}", one_line(issue, 200)));
            let review = rule.review_by.as_deref().map(|date| format!("review by {}", one_line(date, 20)));
            let more: Vec<String> = issue.into_iter().chain(review).collect();
            if !more.is_empty() {
                self.more(&more.join(", "));
            }
        }
    }

    fn reasons(&mut self, word: &str, reasons: &BTreeMap<String, u64>, tone: Tone) {
        let mut sorted: Vec<(&String, &u64)> = reasons.iter().collect();
        sorted.sort_by(|a, b| b.1.cmp(a.1).then(a.0.cmp(b.0)));
        for (reason, n) in sorted.iter().take(self.named) {
            self.line(tone, word, &format!("{}: {}", count(**n, "case"), one_line(reason, 500)));
        }
        if sorted.len() > self.named {
            self.more(&format!("and {} more", count((sorted.len() - self.named) as u64, "reason")));
        }
    }

    fn slow(&mut self, summary: &Summary) {
        for case in &summary.slowest {
            self.line(Tone::Warn, "SLOW", &format!("{} took {}", case.id, micros(case.elapsed_us)));
        }
        let more = summary.slow.saturating_sub(summary.slowest.len() as u64);
        if more > 0 {
            self.more(&format!("and {} more", count(more, "slow case")));
        }
    }

    fn facts(&mut self, summary: &Summary) {
        if summary.retried > 0 {
            self.line(
                Tone::Warn,
                "RETRIED",
                &format!("{} passed on a retry, as allowed", count(summary.retried, "case")),
            );
        }
        if summary.rerun_fresh > 0 {
            let cases = count(summary.rerun_fresh, "case");
            self.line(
                Tone::Warn,
                "RERUN",
                &format!("{cases} failed on a shared instance and ran again on a fresh one"),
            );
        }
        for (fact, n) in &summary.only_reported {
            let text = format!("{}, {}", count(*n, "passed case"), one_line(fact, 500));
            self.line(Tone::Warn, "REPORTED", &text);
        }
        for (fact, n) in &summary.not_observable {
            self.line(Tone::Dim, "NOT SEEN", &format!("{fact} could not be observed in {}", count(*n, "passed case")));
        }
    }

    fn not_run(&mut self, summary: &Summary) {
        self.reasons("NOT RUN", &summary.not_run, Tone::Warn);
    }

    fn red(&mut self, summary: &Summary) {
        let mut groups: BTreeMap<Verdict, Vec<&RedCase>> = BTreeMap::new();
        summary.red.iter().for_each(|case| groups.entry(case.verdict).or_default().push(case));
        for (verdict, cases) in groups {
            let named = cases.get(..self.named.min(cases.len())).unwrap_or_default();
            for alike in named.chunk_by(|one, next| one.why == next.why) {
                for case in alike {
                    self.line(Tone::Bad, word(verdict), &case.id);
                }
                match alike {
                    [case, ..] if case.why.is_empty() => {}
                    [case] => self.more(&case.why),
                    [case, ..] => self.more(&format!("all {}: {}", alike.len(), case.why)),
                    [] => {}
                }
            }
            let more = summary.of(verdict).saturating_sub(cases.len().min(self.named) as u64);
            if more > 0 {
                self.more(&format!("and {} more", count(more, &format!("{verdict} case"))));
            }
        }
    }

    fn totals(&mut self, summary: &Summary) {
        let time = span(Duration::from_millis(summary.elapsed_ms));
        let counts = self.paint.counts(&summary.verdicts);
        let cases = count(summary.finished, "case");
        if summary.interrupted {
            let left = summary.selected.saturating_sub(summary.finished);
            let text = format!("stopped before its end: {} did not come to a verdict", count(left, "case"));
            self.line(Tone::Bad, "INTERRUPTED", &text);
            // Several runs told as one are none that could be gone on with.
            if let Some(header) = summary.header.as_ref().filter(|header| !header.run.contains('+')) {
                self.more(&format!("go on with: soupscen run --resume {}", header.run));
            }
        }
        let red = summary.red_count();
        let (tone, word) = match (red, summary.executed) {
            (0, 0) => (Tone::Bad, "NOTHING RAN"),
            (0, _) if !summary.interrupted => (Tone::Good, "Summary"),
            _ => (Tone::Bad, "Summary"),
        };
        let red =
            if red > 0 { format!(", {}", self.paint.tone(Tone::Bad, format!("{red} red"))) } else { String::new() };
        let cases = self.paint.tone(Tone::Strong, cases);
        self.line(tone, word, &format!("{cases} in {time}{red}: {counts}"));
    }
}
