//! What the reader makes of good files, and what it says of bad ones.

mod broken_files;
mod diagnostics;
mod model;
mod ops;
mod shipped;

use std::path::Path;

use super::model::Scenario;
use super::{MemoryFiles, load};
use crate::diag::{Diagnostic, SourceMap, render};

/// A scenario that is good as it is; tests bend it.
pub(super) const GOOD: &str = r#"soupscen: 1
name: t
vars: { greeting: hi }
peers:
  rust: { builtin: {} }
  py:
    lang: python
    client: { driver: { run: [./driver] }, provides: [service.kv, tls.*, launch.direct] }
    versions: { grpcio: "1.85.1" }
matrix:
  axes:
    client: [rust, py]
    server: [rust]
    launch: [direct]
    tls: [none, mutual]
    key: [p256, p384]
scripts:
  one:
    ops:
      - put: { key: "{{ case.slug }}", value: "{{ vars.greeting }}" }
      - get: { key: "{{ case.slug }}" }
        expect: { value: "{{ vars.greeting }}" }
expectations:
  - id: r1
    when: client == py and key == p384
    versions: { client.grpcio: "<=1.85.1" }
    outcome: failed
    at: tls
    reason: because
"#;

/// Loads `a.yaml` with this text.
pub(super) fn text(text: &str) -> Result<(Scenario, Vec<Diagnostic>), (SourceMap, Vec<Diagnostic>)> {
    load(Path::new("a.yaml"), &MemoryFiles::new().with("a.yaml", text))
}

/// Loads [`GOOD`] with a piece of it exchanged.
pub(super) fn bent(from: &str, to: &str) -> Result<(Scenario, Vec<Diagnostic>), (SourceMap, Vec<Diagnostic>)> {
    assert!(GOOD.contains(from), "{from:?} is not in the text");
    text(&GOOD.replacen(from, to, 1))
}

/// The scenario, or a panic with its problems.
pub(super) fn good(result: Result<(Scenario, Vec<Diagnostic>), (SourceMap, Vec<Diagnostic>)>) -> Scenario {
    match result {
        Ok((scenario, notes)) => {
            assert!(notes.is_empty(), "{}", render(&scenario.sources, &notes, false));
            scenario
        }
        Err((sources, problems)) => panic!("{}", render(&sources, &problems, false)),
    }
}

/// `code file:line:column "underlined" | help` of every problem.
pub(super) fn problems(result: Result<(Scenario, Vec<Diagnostic>), (SourceMap, Vec<Diagnostic>)>) -> Vec<String> {
    let (sources, problems) = match result {
        Ok((scenario, notes)) => ((*scenario.sources).clone(), notes),
        Err(problems) => problems,
    };
    problems.iter().map(|problem| summary(&sources, problem)).collect()
}

fn summary(sources: &SourceMap, problem: &Diagnostic) -> String {
    let help = problem.help.as_deref().unwrap_or("-");
    let Some(span) = problem.span() else { return format!("{} - {} | {help}", problem.code, problem.message) };
    let place = sources.place(span);
    let source = sources.get(span.source).expect("a source");
    let under: String = source.text[span.start as usize..span.end as usize].chars().take(30).collect();
    format!("{} {}:{}:{} {under:?} | {help}", problem.code, place.file, place.line, place.column)
}

/// The one problem that a bent scenario has.
#[track_caller]
pub(super) fn only(from: &str, to: &str) -> String {
    let problems = problems(bent(from, to));
    assert_eq!(problems.len(), 1, "{problems:#?}");
    problems.into_iter().next().unwrap()
}

/// Asserts that a bent scenario has one problem with this code, at this underlined text, and with
/// this in its help.
#[track_caller]
pub(super) fn check(from: &str, to: &str, code: &str, under: &str, help: &str) {
    let problem = only(from, to);
    let (head, tail) = problem.split_once(" | ").unwrap();
    assert!(head.starts_with(&format!("{code} ")), "{problem}");
    assert!(head.ends_with(&format!("{under:?}")), "{problem}");
    assert!(tail.contains(help), "{problem}");
}
