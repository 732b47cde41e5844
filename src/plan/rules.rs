//! When rules agree, when their versions can both hold, and what they expect of a case.

use semver::{BuildMetadata, Comparator, Op, Prerelease, Version, VersionReq};
use serde::Serialize;

use crate::outcome::Expected;
use crate::scenario::model::{Rule, RuleOutcome};

/// Two rules that expect different things of one case.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("rules `{first}` and `{second}` expect different outcomes of `{case}`")]
pub struct Conflict {
    /// A rule's id.
    pub first: String,
    /// Another rule's id.
    pub second: String,
    /// The case's id.
    pub case: String,
}

/// A rule that would be about a case, but not with the versions of its peers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct VoidRule {
    /// The rule's id.
    pub rule: String,
    /// A sentence: which version it is, and what was measured.
    pub reason: String,
}

/// Whether two rules expect the same.
pub(super) fn agree(a: &Rule, b: &Rule) -> bool {
    a.outcome == b.outcome && a.at == b.at && a.matches == b.matches
}

/// Whether two rules can be in force for the same case at the same time, as far as versions tell.
pub(super) fn can_coincide(a: &Rule, b: &Rule) -> bool {
    a.versions.iter().all(|(component, requirement)| match b.versions.get(component) {
        Some(other) => overlap(requirement, other),
        None => true,
    })
}

/// Whether some release satisfies both requirements.
fn overlap(a: &VersionReq, b: &VersionReq) -> bool {
    let (mut low, mut high) = ((0, 0, 0), None);
    for comparator in a.comparators.iter().chain(&b.comparators) {
        let (from, below) = range(comparator);
        low = low.max(from);
        high = match (high, below) {
            (Some(high), Some(below)) => Some(std::cmp::min::<Triple>(high, below)),
            (high, below) => high.or(below),
        };
    }
    high.is_none_or(|high| low < high)
}

type Triple = (u64, u64, u64);

/// The releases of a comparator: from, and (exclusively) to. After the rules of the `semver` crate
/// for partial versions, without pre-releases.
fn range(comparator: &Comparator) -> (Triple, Option<Triple>) {
    let Comparator { op, major, minor, patch, .. } = comparator;
    let start = (*major, minor.unwrap_or(0), patch.unwrap_or(0));
    let after = match (minor, patch) {
        (Some(minor), Some(patch)) => (*major, *minor, patch.saturating_add(1)),
        (Some(minor), None) => (*major, minor.saturating_add(1), 0),
        (None, _) => (major.saturating_add(1), 0, 0),
    };
    let next_minor = match minor {
        Some(minor) => (*major, minor.saturating_add(1), 0),
        None => (major.saturating_add(1), 0, 0),
    };
    match op {
        Op::Exact | Op::Wildcard => (start, Some(after)),
        Op::Greater => (after, None),
        Op::GreaterEq => (start, None),
        Op::Less => ((0, 0, 0), Some(start)),
        Op::LessEq => ((0, 0, 0), Some(after)),
        Op::Tilde => (start, Some(next_minor)),
        Op::Caret => {
            let end = match (major, minor, patch) {
                (0, Some(0), Some(patch)) => (0, 0, patch.saturating_add(1)),
                (0, Some(minor), _) => (0, minor.saturating_add(1), 0),
                _ => (major.saturating_add(1), 0, 0),
            };
            (start, Some(end))
        }
        _ => ((0, 0, 0), None),
    }
}

/// Reads a version as programs print it: `v1.8.0`, `go1.25`, `1.85`, `1.86.0rc1`. What follows the
/// numbers does not count, so that a release candidate is judged as its release.
pub(super) fn release(text: &str) -> Option<Version> {
    let text = text.trim().trim_start_matches(|c: char| !c.is_ascii_digit());
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let mut numbers = text[..end].split('.').filter(|part| !part.is_empty()).map(|part| part.parse::<u64>().ok());
    let major = numbers.next()??;
    let mut next = || numbers.next().unwrap_or(Some(0));
    Some(Version { major, minor: next()?, patch: next()?, pre: Prerelease::EMPTY, build: BuildMetadata::EMPTY })
}

/// Why a rule is void for these peers; `None` when it is in force.
pub(super) fn void(
    rule: &Rule,
    peer: impl Fn(&str) -> Option<String>,
    versions: &dyn Fn(&str, &str) -> Option<String>,
) -> Option<String> {
    rule.versions.iter().find_map(|(component, requirement)| {
        let (role, part) = component.split_once('.').unwrap_or((component, "self"));
        let Some(name) = peer(role) else {
            return Some(format!("`{component}` is not a component of the client or the server"));
        };
        let Some(found) = versions(&name, part) else {
            return Some(format!("the version of `{part}` of {role} `{name}` is not known, and the rule holds only within `{requirement}`"));
        };
        match release(&found) {
            None => Some(format!("`{found}`, the version of `{part}` of {role} `{name}`, cannot be compared with `{requirement}`")),
            Some(known) if requirement.matches(&known) => None,
            Some(_) => Some(format!("`{part}` of {role} `{name}` is {found}, and the rule holds only within `{requirement}`")),
        }
    })
}

/// What a rule expects where it is in force.
#[must_use]
pub fn expected(rule: &Rule) -> Expected {
    match &rule.outcome {
        RuleOutcome::Failed | RuleOutcome::FailedOrPassed => Expected::Failed {
            rule: rule.id.clone(),
            at: rule.at,
            matches: rule.matches.clone(),
            or_passed: rule.outcome == RuleOutcome::FailedOrPassed,
        },
        RuleOutcome::NotEffective { fact } => Expected::NotEffective { rule: rule.id.clone(), fact: fact.clone() },
        RuleOutcome::Unsupported => Expected::Unsupported { rule: Some(rule.id.clone()), reason: rule.reason.clone() },
    }
}

/// What a rule expects, in words: `failed at tls`, `not-effective key`.
#[must_use]
pub fn outcome_in_words(rule: &Rule) -> String {
    let at = rule.at.map(|phase| format!(" at {}", format!("{phase:?}").to_lowercase())).unwrap_or_default();
    match &rule.outcome {
        RuleOutcome::Failed => format!("failed{at}"),
        RuleOutcome::FailedOrPassed => format!("failed{at} or passed"),
        RuleOutcome::NotEffective { fact } => format!("not-effective {fact}"),
        RuleOutcome::Unsupported => "unsupported".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn overlaps(a: &str, b: &str) -> bool {
        overlap(&VersionReq::parse(a).unwrap(), &VersionReq::parse(b).unwrap())
    }

    #[test]
    fn disjoint_versions() {
        assert!(!overlaps("<=1.85.1", ">1.85.1"));
        assert!(!overlaps("<1.85", ">=1.85"));
        assert!(overlaps("<=1.85", ">=1.85.7"));
        assert!(!overlaps("^1.2", "^2"));
        assert!(!overlaps("~1.2", "1.3.*"));
        assert!(overlaps("*", "=3.4.5"));
        assert!(overlaps(">=1, <2", ">=1.5"));
        let most = u64::MAX;
        for op in ["=", ">", "<=", "~", "^"] {
            for text in [format!("{op}1.0.{most}"), format!("{op}0.{most}"), format!("{op}{most}")] {
                assert!(!overlaps(&text, "<0.0.1") || op == "<=", "{text}");
            }
        }
    }

    #[test]
    fn ranges_are_those_of_the_crate_that_matches() {
        let texts = [
            "=1.2.3", "=1.2", "=1", ">1.2.3", ">1.2", ">1", ">=1.2", "<1.2.3", "<1", "<=1.2.3", "<=1.2", "<=1", "~1",
            "~1.2", "~1.2.3", "^1", "^1.2.3", "^0", "^0.0", "^0.0.3", "^0.2", "^0.2.3", "1.*", "1.2.*",
        ];
        for text in texts {
            let requirement = VersionReq::parse(text).unwrap();
            let (from, below) = range(&requirement.comparators[0]);
            for major in 0..3 {
                for minor in 0..5 {
                    for patch in 0..5 {
                        let at = (major, minor, patch);
                        let ours = from <= at && below.is_none_or(|below| at < below);
                        assert_eq!(ours, requirement.matches(&Version::new(major, minor, patch)), "{text} at {at:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn versions_as_printed() {
        for (text, version) in [
            ("1.85.1", "1.85.1"),
            ("v1.8.0", "1.8.0"),
            ("go1.25", "1.25.0"),
            ("1.86.0rc1", "1.86.0"),
            ("Python 3.13.2\n", "3.13.2"),
            ("1.2.3.4", "1.2.3"),
        ] {
            assert_eq!(release(text), Some(Version::parse(version).unwrap()), "{text}");
        }
        assert_eq!(release("unknown"), None);
    }
}
