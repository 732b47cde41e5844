//! "Did you mean": the end of an error about a name.

/// More names than this are not listed.
const MAX_LISTED: usize = 12;

/// ` · did you mean …` and what is known, ready to follow a sentence.
pub(super) fn help(name: &str, known: &[String], what: &str) -> String {
    let lower = name.to_lowercase();
    let near = known
        .iter()
        .map(|k| (strsim::jaro_winkler(&lower, &k.to_lowercase()), k))
        .filter(|(score, _)| *score > 0.8)
        .max_by(|a, b| a.0.total_cmp(&b.0));
    let mut list = known.iter().take(MAX_LISTED).map(String::as_str).collect::<Vec<_>>().join(", ");
    if known.len() > MAX_LISTED {
        list.push_str(", …");
    }
    match near {
        _ if known.is_empty() => format!("; it has no {what}"),
        Some((_, near)) => format!("; did you mean `{near}`? known {what}: {list}"),
        None => format!("; known {what}: {list}"),
    }
}
