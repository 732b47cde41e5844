//! The whole table of verdicts, one test per column and question.

use proptest::prelude::*;

use super::*;
use crate::outcome::{Cause, Certainty, Exit, GrpcStatus, Match};

const BAD: [Ending; 3] = [Ending::Failed, Ending::TimedOut, Ending::Crashed];

fn seen(ending: Ending) -> Observation {
    Observation {
        ending,
        phase: None,
        cause: None,
        status: None,
        exit: None,
        alert: None,
        texts: Vec::new(),
        facts: Vec::new(),
        checks: Vec::new(),
        checked: 1,
        elapsed_us: 1,
    }
}

/// A failure in the TLS handshake, with everything that a rule can match.
fn in_tls(ending: Ending) -> Observation {
    Observation {
        phase: Some(Phase::Tls),
        cause: Some(Cause {
            code: "tls.rejected.server-cert.by-client".into(),
            certainty: Certainty::Deduced,
            text: "the client rejected the server's certificate".into(),
        }),
        status: Some(GrpcStatus { code: "UNAVAILABLE".into(), text: "connection closed".into() }),
        exit: Some(Exit::Code(7)),
        alert: Some(42),
        texts: vec!["SSL_ERROR_SSL: bad point".into()],
        ..seen(ending)
    }
}

fn in_rpc() -> Observation {
    Observation { phase: Some(Phase::Rpc), ..seen(Ending::Failed) }
}

fn fact(name: &str, asked: Option<&str>, got: Option<&str>) -> FactReading {
    FactReading {
        fact: name.into(),
        requested: asked.map(Into::into),
        effective: got.map_or(Effective::NotObservable, |g| Effective::Value(g.into())),
        certainty: got.map(|_| Certainty::Observed),
        source: "server hello".into(),
        report_only: None,
    }
}

/// Passed, with these facts.
fn passed(facts: Vec<FactReading>) -> Observation {
    Observation { facts, ..seen(Ending::Passed) }
}

fn other_key() -> Observation {
    passed(vec![fact("transport", Some("tcp"), Some("tcp")), fact("key", Some("p521"), Some("p384"))])
}

fn rule(at: Option<Phase>, matches: Match, or_passed: bool) -> Expected {
    Expected::Failed { rule: "r".into(), at, matches, or_passed }
}
fn fails_in_tls() -> Expected {
    rule(Some(Phase::Tls), Match { cause: Some("tls.rejected".into()), ..Match::default() }, false)
}
fn fails_or_passes() -> Expected {
    rule(Some(Phase::Tls), Match::default(), true)
}
fn no_key() -> Expected {
    Expected::NotEffective { rule: "r".into(), fact: "key".into() }
}
fn unsupported() -> Expected {
    Expected::Unsupported { rule: None, reason: "server go has no capability transport.tcp".into() }
}
fn every_expectation() -> [Expected; 5] {
    [Expected::Passed, fails_in_tls(), fails_or_passes(), no_key(), unsupported()]
}

fn of(expected: &Expected, attempts: &[Observation]) -> Verdict {
    verdict(expected, attempts, false)
}
fn allowed(expected: &Expected, attempts: &[Observation]) -> Verdict {
    verdict(expected, attempts, true)
}
fn why(expected: &Expected, attempts: &[Observation]) -> String {
    explain(expected, attempts, false)
}

#[test]
fn row_passed() {
    let attempts = [passed(Vec::new())];
    assert_eq!(of(&Expected::Passed, &attempts), Verdict::Passed);
    assert_eq!(of(&fails_in_tls(), &attempts), Verdict::UnexpectedPass);
    assert_eq!(of(&fails_or_passes(), &attempts), Verdict::Passed);
    assert_eq!(of(&no_key(), &attempts), Verdict::UnexpectedPass);
    assert_eq!(of(&unsupported(), &attempts), Verdict::UnexpectedPass);
}

#[test]
fn row_passed_without_a_requested_fact() {
    let attempts = [other_key()];
    assert_eq!(of(&Expected::Passed, &attempts), Verdict::NotEffective);
    assert_eq!(of(&fails_in_tls(), &attempts), Verdict::NotEffective);
    assert_eq!(of(&fails_or_passes(), &attempts), Verdict::NotEffective);
    assert_eq!(of(&no_key(), &attempts), Verdict::Known);
    assert_eq!(of(&unsupported(), &attempts), Verdict::Unsupported);
    assert_eq!(why(&Expected::Passed, &attempts), "asked for key p521, got p384");
}

#[test]
fn a_rule_about_a_fact_covers_the_connections_that_a_script_made() {
    let other = |name| passed(vec![fact("key", Some("p521"), Some("p384")), fact(name, Some("p521"), Some("p384"))]);
    assert_eq!(allowed(&no_key(), &[other("other.key")]), Verdict::Known);
    assert_eq!(allowed(&no_key(), &[other("other.client_key")]), Verdict::NotEffective);
}

#[test]
fn row_failed_as_the_rule_says() {
    for ending in BAD {
        let attempts = [in_tls(ending)];
        assert_eq!(of(&Expected::Passed, &attempts), Verdict::Failed);
        assert_eq!(of(&fails_in_tls(), &attempts), Verdict::Known);
        assert_eq!(of(&fails_or_passes(), &attempts), Verdict::Known);
        assert_eq!(of(&no_key(), &attempts), Verdict::WrongFailure);
        assert_eq!(of(&unsupported(), &attempts), Verdict::Unsupported);
    }
}

#[test]
fn row_failed_in_another_way() {
    let attempts = [in_rpc()];
    assert_eq!(of(&Expected::Passed, &attempts), Verdict::Failed);
    assert_eq!(of(&fails_in_tls(), &attempts), Verdict::WrongFailure);
    assert_eq!(of(&fails_or_passes(), &attempts), Verdict::WrongFailure);
    assert_eq!(of(&no_key(), &attempts), Verdict::WrongFailure);
    assert_eq!(of(&unsupported(), &attempts), Verdict::Unsupported);
    assert_eq!(
        why(&fails_in_tls(), &attempts),
        "the rule `r` does not describe this failure: expected phase tls, failed in rpc; \
         expected cause tls.rejected, but the cause is not known"
    );
    assert_eq!(
        why(&no_key(), &attempts),
        "the rule `r` expects it to pass without an effective key, and it failed in rpc"
    );
}

#[test]
fn row_could_not_run_is_never_excused() {
    for expected in every_expectation() {
        assert_eq!(of(&expected, &[seen(Ending::CouldNotRun)]), Verdict::Errored, "{expected:?}");
        assert_eq!(of(&expected, &[in_tls(Ending::Failed), seen(Ending::CouldNotRun)]), Verdict::Errored);
    }
}

#[test]
fn row_checked_nothing_is_never_a_pass() {
    for expected in every_expectation() {
        let nothing = Observation { checked: 0, ..passed(Vec::new()) };
        assert_eq!(of(&expected, std::slice::from_ref(&nothing)), Verdict::Errored, "{expected:?}");
        assert_eq!(allowed(&expected, &[in_rpc(), nothing.clone()]), Verdict::Errored);
        assert!(why(&expected, &[nothing]).contains("single check"));
    }
}

#[test]
fn row_refused_by_peer_is_unsupported_and_hides_no_failure() {
    let refused = seen(Ending::RefusedByPeer);
    for expected in every_expectation() {
        assert_eq!(of(&expected, std::slice::from_ref(&refused)), Verdict::Unsupported);
        assert_eq!(of(&expected, &[in_rpc(), refused.clone()]), of(&expected, &[in_rpc()]), "{expected:?}");
    }
    assert_eq!(of(&Expected::Passed, &[in_rpc(), refused, passed(Vec::new())]), Verdict::Flaky);
}

#[test]
fn row_not_executed() {
    for expected in every_expectation() {
        let asked =
            if matches!(expected, Expected::Unsupported { .. }) { Verdict::Unsupported } else { Verdict::NotRun };
        assert_eq!(of(&expected, &[]), asked);
    }
    assert_eq!(why(&unsupported(), &[]), "server go has no capability transport.tcp");
}

#[test]
fn row_passed_on_a_retry() {
    let attempts = [in_rpc(), passed(Vec::new())];
    assert_eq!(of(&Expected::Passed, &attempts), Verdict::Flaky);
    assert_eq!(allowed(&Expected::Passed, &attempts), Verdict::Passed);
    assert_eq!(of(&fails_in_tls(), &attempts), Verdict::Flaky);
    assert_eq!(allowed(&fails_in_tls(), &attempts), Verdict::Flaky);
    assert_eq!(of(&fails_or_passes(), &attempts), Verdict::Passed);
    assert_eq!(of(&no_key(), &[in_rpc(), other_key()]), Verdict::Flaky);
    assert_eq!(allowed(&no_key(), &[in_rpc(), other_key()]), Verdict::Known);
    assert_eq!(of(&unsupported(), &attempts), Verdict::UnexpectedPass);
    assert_eq!(why(&Expected::Passed, &attempts), "it held on attempt 2 only; before, it failed in rpc");
}

#[test]
fn a_retry_hides_nothing_that_is_red_by_itself() {
    assert_eq!(allowed(&Expected::Passed, &[in_rpc(), other_key()]), Verdict::NotEffective);
    assert_eq!(allowed(&no_key(), &[in_rpc(), passed(Vec::new())]), Verdict::UnexpectedPass);
    assert_eq!(allowed(&Expected::Passed, &[in_tls(Ending::TimedOut), in_rpc()]), Verdict::Failed);
}

#[test]
fn a_limitation_seen_only_on_a_retry_is_flaky() {
    let attempts = [seen(Ending::TimedOut), in_tls(Ending::Failed)];
    assert_eq!(of(&fails_in_tls(), &attempts), Verdict::Flaky);
    assert_eq!(allowed(&fails_in_tls(), &attempts), Verdict::Known);
    assert_eq!(of(&fails_or_passes(), &attempts), Verdict::Known);
    let twice = [in_tls(Ending::Failed), in_tls(Ending::Failed)];
    assert_eq!(of(&fails_in_tls(), &twice), Verdict::Known);
    // An expected failure before a pass: the limitation comes and goes.
    let gone = [in_tls(Ending::Failed), passed(Vec::new())];
    assert_eq!(of(&fails_in_tls(), &gone), Verdict::Flaky);
}

#[test]
fn an_attempt_that_could_not_run_makes_nothing_flaky() {
    assert_eq!(of(&Expected::Passed, &[seen(Ending::CouldNotRun), passed(Vec::new())]), Verdict::Passed);
}

#[test]
fn only_requested_and_required_facts_count() {
    let softened = FactReading { report_only: Some("good enough".into()), ..fact("key", Some("p521"), Some("p384")) };
    let facts = vec![fact("group", None, Some("x25519")), fact("tls", Some("auto"), None), softened.clone()];
    assert_eq!(of(&Expected::Passed, &[passed(facts)]), Verdict::Passed);
    // A rule about a fact that is only reported still describes what is seen.
    assert_eq!(of(&no_key(), &[passed(vec![softened])]), Verdict::Known);
}

#[test]
fn a_not_effective_rule_excuses_its_fact_alone() {
    let both = [passed(vec![fact("key", Some("p521"), Some("p384")), fact("tls", Some("mutual"), Some("server"))])];
    assert_eq!(of(&no_key(), &both), Verdict::NotEffective);
    assert_eq!(why(&no_key(), &both), "asked for tls mutual, got server");
    let unseen = [passed(vec![fact("key", Some("p521"), None)])];
    assert_eq!(of(&no_key(), &unseen), Verdict::UnexpectedPass);
    assert!(why(&no_key(), &unseen).contains("could not be observed"));
    assert!(why(&no_key(), &[passed(vec![fact("key", Some("p521"), Some("p521"))])]).contains("was p521"));
    assert!(why(&no_key(), &[passed(Vec::new())]).contains("asks for no key"));
}

#[test]
fn a_match_names_the_check_that_did_not_hold() {
    let check = |id: &str, held| crate::outcome::CheckResult { id: id.into(), held, diff: None, place: None };
    let mut seen = in_tls(Ending::Failed);
    seen.checks = vec![check("S-GET-1.code", true), check("S-GET-2.code", false), check("S-GET-2.value", false)];
    let attempts = [seen];
    let named = |id: &str| rule(None, Match { check: Some(id.into()), ..Match::default() }, false);
    for id in ["S-GET-2", "S-GET-2.code", "S-GET-2.value"] {
        assert_eq!(of(&named(id), &attempts), Verdict::Known, "{id}");
    }
    for id in ["S-GET-1", "S-GET", "S-GET-2.c", "S-GET-3"] {
        assert_eq!(of(&named(id), &attempts), Verdict::WrongFailure, "{id}");
    }
    assert_eq!(
        why(&named("S-GET-1"), &attempts),
        "the rule `r` does not describe this failure: expected check S-GET-1 to fail, S-GET-2.code did"
    );
}

#[test]
fn every_part_of_a_match_must_hold() {
    let good = Match {
        cause: Some("tls.rejected".into()),
        code: vec!["CANCELLED".into(), "UNAVAILABLE".into()],
        text: Some("(?i)ssl_error".into()),
        alert: Some(42),
        exit: Some(Exit::Code(7)),
        ..Match::default()
    };
    let attempts = [in_tls(Ending::Failed)];
    let judged = |matches: Match| of(&rule(Some(Phase::Tls), matches, false), &attempts);
    assert_eq!(judged(good.clone()), Verdict::Known);
    let wrong = [
        (
            Match { cause: Some("tls.refused".into()), ..good.clone() },
            "expected cause tls.refused, got tls.rejected.se",
        ),
        (Match { code: vec!["CANCELLED".into()], ..good.clone() }, "expected status CANCELLED, got UNAVAILABLE"),
        (Match { text: Some("^nothing like it$".into()), ..good.clone() }, "no text of the failure matches"),
        (Match { text: Some("(".into()), ..good.clone() }, "not a usable regular expression"),
        (Match { alert: Some(48), ..good.clone() }, "expected alert 48, got 42"),
        (Match { exit: Some(Exit::Signal(9)), ..good }, "expected end by signal 9, got exit status 7"),
    ];
    for (matches, said) in wrong {
        assert_eq!(judged(matches.clone()), Verdict::WrongFailure, "{matches:?}");
        let text = why(&rule(Some(Phase::Tls), matches, false), &attempts);
        assert!(text.contains(said), "{text}");
    }
}

#[test]
fn a_match_on_what_was_not_seen_does_not_hold() {
    let asked = [
        Match { cause: Some("tls".into()), ..Match::default() },
        Match { code: vec!["OK".into()], ..Match::default() },
        Match { text: Some("x".into()), ..Match::default() },
        Match { alert: Some(1), ..Match::default() },
        Match { exit: Some(Exit::Code(0)), ..Match::default() },
    ];
    for matches in asked {
        assert_eq!(of(&rule(None, matches, false), &[seen(Ending::Failed)]), Verdict::WrongFailure);
    }
    assert_eq!(of(&rule(None, Match::default(), false), &[seen(Ending::Failed)]), Verdict::Known);
}

#[test]
fn a_cause_matches_by_whole_segments() {
    let judged = |cause: &str| {
        of(&rule(None, Match { cause: Some(cause.into()), ..Match::default() }, false), &[in_tls(Ending::Failed)])
    };
    for prefix in ["tls", "tls.rejected", "tls.rejected.", "tls.rejected.server-cert.by-client"] {
        assert_eq!(judged(prefix), Verdict::Known, "{prefix}");
    }
    for other in ["tl", "tls.rejected.server", "tls.rejected.server-cert.by-client.unknown-ca", "rejected"] {
        assert_eq!(judged(other), Verdict::WrongFailure, "{other}");
    }
}

#[test]
fn text_is_searched_in_cause_status_and_peers_words() {
    for pattern in ["rejected the server", "connection closed", "bad point"] {
        let matches = Match { text: Some(pattern.into()), ..Match::default() };
        assert_eq!(of(&rule(None, matches, false), &[in_tls(Ending::Failed)]), Verdict::Known, "{pattern}");
    }
}

fn any_ending() -> impl Strategy<Value = Ending> {
    prop::sample::select(vec![
        Ending::Passed,
        Ending::Failed,
        Ending::TimedOut,
        Ending::Crashed,
        Ending::RefusedByPeer,
        Ending::CouldNotRun,
    ])
}

fn any_observation() -> impl Strategy<Value = Observation> {
    let phase = prop::option::of(prop::sample::select(Phase::ALL.to_vec()));
    let facts = prop::collection::vec(
        ("key|tls", prop::option::of("a|b"), prop::option::of("a|b"), any::<bool>()).prop_map(
            |(f, asked, got, soft)| FactReading {
                report_only: soft.then(|| "why".into()),
                ..fact(&f, asked.as_deref(), got.as_deref())
            },
        ),
        0..3,
    );
    (any_ending(), phase, facts, 0..3_u32).prop_map(|(ending, phase, facts, checked)| {
        let base = if phase == Some(Phase::Tls) { in_tls(ending) } else { seen(ending) };
        Observation { phase, facts, checked, ..base }
    })
}

proptest! {
    /// Total, and never green without a reason that can be named.
    #[test]
    fn every_case_has_a_verdict(
        which in 0..5_usize,
        attempts in prop::collection::vec(any_observation(), 0..4),
        flaky in any::<bool>(),
    ) {
        let expected = &every_expectation()[which];
        let judged = judge(expected, &attempts, flaky);
        prop_assert_eq!(judged.deciding.is_none(), attempts.is_empty());
        prop_assert_eq!(verdict(expected, &attempts, flaky), judged.verdict);
        if judged.verdict == Verdict::Passed {
            let last = judged.deciding.expect("a pass rests on an attempt");
            prop_assert_eq!(last.ending, Ending::Passed);
            prop_assert!(last.checked > 0);
            prop_assert!(!last.facts.iter().any(|f| f.differs() && f.report_only.is_none()));
        }
        if judged.verdict == Verdict::Known {
            let by_rule = matches!(expected, Expected::Failed { .. } | Expected::NotEffective { .. });
            prop_assert!(by_rule);
        }
        if judged.verdict == Verdict::NotRun {
            prop_assert!(attempts.is_empty());
        }
        let speaks_for_itself = [Verdict::Passed, Verdict::Failed, Verdict::NotRun, Verdict::Errored];
        prop_assert!(!judged.why.to_string().is_empty() || speaks_for_itself.contains(&judged.verdict));
        // More attempts before a red last one never make it green.
        if let Some(last) = attempts.last() && last.ending.is_bad() {
            let alone = verdict(expected, [last], flaky);
            prop_assert!(!alone.is_red() || judged.verdict.is_red());
        }
    }
}
