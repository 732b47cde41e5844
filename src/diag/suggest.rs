//! Did-you-mean: what someone who mistyped a name probably meant, and what is known instead.

use std::fmt::Write as _;

/// At most this many known names are listed in a help text.
const LISTED: usize = 12;
/// At most this many candidates are compared with a word.
const COMPARED: usize = 1_000;

/// The candidate closest to `word`, if one is close enough to be worth naming: at most one slip
/// (insertion, deletion, swap, replacement) per three letters. Case, `-` and `_` do not count.
#[must_use]
pub fn did_you_mean<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // A distance costs the product of both lengths: do not compare with absurdly long words.
    if word.is_empty() || word.len() > 128 {
        return None;
    }
    let wanted = fold(word);
    let mut best: Option<(usize, &'a str)> = None;
    for candidate in candidates.into_iter().take(COMPARED) {
        if candidate == word {
            continue;
        }
        let folded = fold(candidate);
        let distance = if folded == wanted {
            0
        } else if wanted.len() >= 3 && (folded.starts_with(&wanted) || wanted.starts_with(&folded) && folded.len() >= 3)
        {
            1
        } else {
            strsim::damerau_levenshtein(&wanted, &folded)
        };
        let allowed = (wanted.chars().count().max(folded.chars().count()) / 3).max(1);
        // Replacing every letter of a short word is no slip.
        let whole = distance >= wanted.chars().count().min(folded.chars().count());
        if distance <= allowed && !whole && best.is_none_or(|(d, _)| distance < d) {
            best = Some((distance, candidate));
        }
    }
    best.map(|(_, candidate)| candidate)
}

/// A help text for an unknown `word`: the likely meaning, then what is known.
/// `kind` is a plural: `axes`, `keys of a rule`.
#[must_use]
pub fn suggestion<'a>(word: &str, kind: &str, candidates: impl IntoIterator<Item = &'a str>) -> String {
    let candidates: Vec<&str> = candidates.into_iter().collect();
    if candidates.is_empty() {
        return format!("there are no {kind} here");
    }
    let mut text = String::new();
    if let Some(meant) = did_you_mean(word, candidates.iter().copied()) {
        text = format!("did you mean `{meant}`? ");
    }
    let _ = write!(text, "known {kind}: {}", listed(&candidates));
    text
}

fn listed(candidates: &[&str]) -> String {
    let mut text = candidates.iter().take(LISTED).copied().collect::<Vec<_>>().join(", ");
    if candidates.len() > LISTED {
        let _ = write!(text, " and {} more", candidates.len() - LISTED);
    }
    text
}

fn fold(word: &str) -> String {
    word.chars().filter(|c| *c != '-' && *c != '_').flat_map(char::to_lowercase).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_swaps_case_and_separators() {
        let axes = ["client", "server", "tls", "tls_version", "key"];
        assert_eq!(did_you_mean("tsl", axes), Some("tls"));
        assert_eq!(did_you_mean("TLS-Version", axes), Some("tls_version"));
        assert_eq!(did_you_mean("serevr", axes), Some("server"));
        assert_eq!(did_you_mean("clients", axes), Some("client"));
    }

    #[test]
    fn stays_silent_when_nothing_is_close() {
        assert_eq!(did_you_mean("banana", ["client", "server"]), None);
        assert_eq!(did_you_mean("go", ["py", "js"]), None);
        assert_eq!(did_you_mean("", ["a"]), None);
    }

    #[test]
    fn suggestion_names_the_likely_one_and_the_known_ones() {
        assert_eq!(
            suggestion("tsl", "axes", ["key", "tls", "transport"]),
            "did you mean `tls`? known axes: key, tls, transport"
        );
        let many: Vec<String> = (0..20).map(|n| format!("name{n}")).collect();
        assert!(suggestion("zzz", "names", many.iter().map(String::as_str)).ends_with(" and 8 more"));
    }
}
