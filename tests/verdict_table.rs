//! The verdict of every combination, against the table of `docs/verdicts.md`: what people read is
//! what the engine does. Nothing is random here.

use std::collections::BTreeMap;

use soupscen::outcome::{
    Cause, Certainty, Effective, Ending, Expected, FactReading, Match, Observation, Phase, Verdict, verdict,
};

const DOCS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/verdicts.md");
const HEADING: &str = "## Observation × expectation";

const PASSED: &str = "passed";
const NOT_IN_FORCE: &str = "passed, a requested fact was not in force";
const UNCHECKED: &str = "passed without a single check";
const AS_SAID: &str = "failed, timed out or crashed, as the rule says";
const OTHERWISE: &str = "the same in another phase, or for another cause";
const REFUSED: &str = "refused by the peer";
const COULD_NOT: &str = "could not run";
const RETRIED: &str = "passed after a failure";
const KNOWN_RETRIED: &str = "failed as the rule says, after another failure";
const NOT_EXECUTED: &str = "not executed";
const ROWS: [&str; 10] =
    [PASSED, NOT_IN_FORCE, UNCHECKED, AS_SAID, OTHERWISE, REFUSED, COULD_NOT, RETRIED, KNOWN_RETRIED, NOT_EXECUTED];

/// What a cell says: without and with `retry: {flaky: allow}`.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Cell(Verdict, Verdict);

/// Row → its cells, one per expectation; `None` where the page has a dash.
type Table = BTreeMap<String, Vec<Option<Cell>>>;

fn named(name: &str) -> Verdict {
    *Verdict::ALL.iter().find(|verdict| verdict.name() == name).unwrap_or_else(|| panic!("`{name}` is no verdict"))
}

/// `**flaky** (passed where allowed)`. A red verdict is bold, a green one is not.
fn cell(text: &str) -> Option<Cell> {
    let (strict, rest) = text.split_once(' ').unwrap_or((text, ""));
    if strict == "–" {
        return None;
    }
    let verdict = named(strict.trim_matches('*'));
    assert_eq!(strict.starts_with("**"), verdict.is_red(), "bold is red: {text}");
    let allowed = rest.strip_suffix(" where allowed)").map_or(verdict, |word| named(word.trim_start_matches('(')));
    Some(Cell(verdict, allowed))
}

fn table() -> Table {
    let page = std::fs::read_to_string(DOCS).unwrap();
    let (_, section) = page.split_once(HEADING).unwrap();
    let lines = section.lines().skip_while(|line| !line.starts_with('|')).take_while(|line| line.starts_with('|'));
    let rows = lines.skip(2).map(|line| {
        let mut cells = line.trim_matches('|').split('|').map(str::trim);
        let row = cells.next().unwrap().to_owned();
        (row, cells.map(cell).collect())
    });
    rows.collect()
}

/// The expectations, in the order of the columns.
fn expectations() -> [Expected; 5] {
    let failed = |or_passed| Expected::Failed {
        rule: "r".into(),
        at: Some(Phase::Tls),
        matches: Match { cause: Some("tls.rejected".into()), ..Match::default() },
        or_passed,
    };
    [
        Expected::Passed,
        failed(false),
        failed(true),
        Expected::NotEffective { rule: "r".into(), fact: "key".into() },
        Expected::Unsupported { rule: None, reason: "it has no capability for it".into() },
    ]
}
const NOT_EFFECTIVE_COLUMN: usize = 3;

fn fact(name: &str, asked: Option<&str>, got: Option<&str>, softened: bool) -> FactReading {
    FactReading {
        fact: name.into(),
        requested: asked.map(Into::into),
        effective: got.map_or(Effective::NotObservable, |got| Effective::Value(got.into())),
        certainty: None,
        source: "a test".into(),
        report_only: softened.then(|| "why not".into()),
    }
}

/// Two facts, each in every state that it can have: not there, not asked for, not seen, in force,
/// another one in force, and the same but only reported.
fn all_facts() -> Vec<Vec<FactReading>> {
    let states = |name: &str| {
        [
            None,
            Some(fact(name, None, Some("b"), false)),
            Some(fact(name, Some("a"), None, false)),
            Some(fact(name, Some("a"), Some("a"), false)),
            Some(fact(name, Some("a"), Some("b"), false)),
            Some(fact(name, Some("a"), Some("b"), true)),
        ]
    };
    let pairs = states("key").into_iter().flat_map(|key| states("tls").map(|tls| [key.clone(), tls]));
    pairs.map(|pair| pair.into_iter().flatten().collect()).collect()
}

const ENDINGS: [Ending; 6] =
    [Ending::Passed, Ending::Failed, Ending::TimedOut, Ending::Crashed, Ending::RefusedByPeer, Ending::CouldNotRun];

/// Every ending in every one of these phases, for every one of these causes, with these facts.
fn observations(phases: &[Option<Phase>], causes: &[Option<&str>], facts: &[Vec<FactReading>]) -> Vec<Observation> {
    let mut all = Vec::new();
    for ending in ENDINGS {
        for phase in phases {
            for cause in causes {
                for facts in facts {
                    for checked in [0, 2] {
                        all.push(Observation {
                            ending,
                            phase: *phase,
                            cause: cause.map(|code| Cause {
                                code: code.into(),
                                certainty: Certainty::Observed,
                                text: String::new(),
                            }),
                            status: None,
                            exit: None,
                            alert: None,
                            texts: Vec::new(),
                            facts: facts.clone(),
                            checks: Vec::new(),
                            checked,
                            elapsed_us: 1,
                        });
                    }
                }
            }
        }
    }
    all
}

fn is_bad(seen: &Observation) -> bool {
    matches!(seen.ending, Ending::Failed | Ending::TimedOut | Ending::Crashed)
}

/// The row that an observation is in, as the page has it.
fn row(seen: &Observation) -> &'static str {
    let red = |fact: &FactReading| {
        fact.report_only.is_none()
            && fact.requested.as_deref() == Some("a")
            && fact.effective == Effective::Value("b".into())
    };
    let cause = seen.cause.as_ref().map(|cause| cause.code.as_str());
    match seen.ending {
        Ending::CouldNotRun => COULD_NOT,
        Ending::RefusedByPeer => REFUSED,
        Ending::Passed if seen.checked == 0 => UNCHECKED,
        Ending::Passed if seen.facts.iter().any(red) => NOT_IN_FORCE,
        Ending::Passed => PASSED,
        _ if seen.phase == Some(Phase::Tls) && cause.is_some_and(|c| c.starts_with("tls.rejected")) => AS_SAID,
        _ => OTHERWISE,
    }
}

/// The one cell that has an `if`: a rule about `key`, and a pass.
fn not_effective(seen: &Observation) -> Verdict {
    let differs = |name: &str, softened: bool| {
        seen.facts.iter().any(|fact| {
            fact.fact == name
                && fact.requested.is_some()
                && fact.effective == Effective::Value("b".into())
                && (softened || fact.report_only.is_none())
        })
    };
    match (differs("tls", false), differs("key", true)) {
        (true, _) => Verdict::NotEffective,
        (false, true) => Verdict::Known,
        (false, false) => Verdict::UnexpectedPass,
    }
}

/// What the page says of one attempt by itself.
fn alone(table: &Table, column: usize, seen: &Observation) -> Verdict {
    let row = row(seen);
    if column == NOT_EFFECTIVE_COLUMN && (row == PASSED || row == NOT_IN_FORCE) {
        return not_effective(seen);
    }
    table[row][column].unwrap_or_else(|| panic!("the page says nothing of `{row}`")).0
}

/// What the page says of two attempts.
fn of_two(table: &Table, column: usize, first: &Observation, last: &Observation, flaky_allowed: bool) -> Verdict {
    let by_itself = alone(table, column, last);
    let choose = |Cell(strict, allowed): Cell| if flaky_allowed { allowed } else { strict };
    if !is_bad(first) {
        return by_itself;
    }
    match row(last) {
        REFUSED => alone(table, column, first),
        // "A retry hides nothing that is red by itself", but for a rule's failure that came and went.
        PASSED | NOT_IN_FORCE if !by_itself.is_red() || by_itself == Verdict::UnexpectedPass && row(last) == PASSED => {
            match column {
                NOT_EFFECTIVE_COLUMN if by_itself.is_red() => by_itself,
                4 if row(last) == NOT_IN_FORCE => by_itself,
                _ => choose(table[RETRIED][column].unwrap()),
            }
        }
        AS_SAID if row(first) != AS_SAID => table[KNOWN_RETRIED][column].map_or(by_itself, choose),
        _ => by_itself,
    }
}

#[test]
fn the_page_has_every_row_and_column() {
    let table = table();
    assert_eq!(table.keys().map(String::as_str).collect::<std::collections::BTreeSet<_>>(), ROWS.into());
    assert!(table.values().all(|cells| cells.len() == expectations().len()), "{table:#?}");
    let blank: Vec<_> = table.iter().filter(|(_, cells)| cells.contains(&None)).map(|(row, _)| row.as_str()).collect();
    assert_eq!(blank, [KNOWN_RETRIED], "only a rule about a failure has failures as it says");
}

#[test]
fn one_attempt_in_every_form() {
    let table = table();
    let phases: Vec<_> = Phase::ALL.into_iter().map(Some).chain([None]).collect();
    let causes = [None, Some("tls.rejected.server-cert"), Some("tls.rejected"), Some("rpc.deadline")];
    let all = observations(&phases, &causes, &all_facts());
    let mut verdicts = BTreeMap::<Verdict, usize>::new();
    for (column, expected) in expectations().iter().enumerate() {
        for seen in &all {
            let got = verdict(expected, [seen], false);
            assert_eq!(got, alone(&table, column, seen), "{} under {expected:?}: {seen:#?}", row(seen));
            // What is allowed of retries means nothing where there was none.
            assert_eq!(got, verdict(expected, [seen], true));
            *verdicts.entry(got).or_default() += 1;
        }
        let none = verdict(expected, [], false);
        assert_eq!(Some(Cell(none, none)), table[NOT_EXECUTED][column]);
    }
    let missing: Vec<_> = Verdict::ALL.into_iter().filter(|verdict| !verdicts.contains_key(verdict)).collect();
    assert_eq!(missing, [Verdict::NotRun, Verdict::Flaky], "they need no attempt, and two");
}

#[test]
fn two_attempts_in_every_form() {
    let table = table();
    let phases = [Some(Phase::Tls), Some(Phase::Rpc)];
    let causes = [Some("tls.rejected.server-cert"), Some("rpc.deadline")];
    let facts =
        |key: &str, tls: &str| vec![fact("key", Some("a"), Some(key), false), fact("tls", Some("a"), Some(tls), false)];
    let all = observations(&phases, &causes, &[vec![], facts("b", "a"), facts("b", "b")]);
    for (column, expected) in expectations().iter().enumerate() {
        for first in &all {
            for last in &all {
                for allowed in [false, true] {
                    let got = verdict(expected, [first, last], allowed);
                    let said = of_two(&table, column, first, last, allowed);
                    assert_eq!(got, said, "{} then {} under {expected:?}, allowed: {allowed}", row(first), row(last));
                }
            }
        }
    }
}
