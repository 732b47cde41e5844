//! What programs and drivers say may have any length; what is kept of it is bearable.

/// Characters of a text that are kept. Texts that are compared with what is expected are shorter.
pub(super) const KEPT: usize = 16 << 10;

/// A text of at most `most` characters: beginning and end, and how much is missing between them.
pub(super) fn ends(text: &str, most: usize) -> String {
    let count = text.chars().count();
    if count <= most {
        return text.to_owned();
    }
    let half = most / 2;
    let head: String = text.chars().take(half).collect();
    let tail: String = text.chars().skip(count - half).collect();
    format!("{head} … ({} characters left out) … {tail}", count - 2 * half)
}
