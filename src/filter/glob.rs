//! Globs on names and ids: `*` is any text, `?` any one character, everything else is itself
//! (ids have brackets and commas in them).

/// Whether a whole text matches a glob. Linear in `text` times the number of `*` at worst.
#[must_use]
pub fn glob(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut p, mut t) = (0, 0);
    // Where to go on after a mismatch: behind the last star, with one more byte given to it.
    let mut retry: Option<(usize, usize)> = None;
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                p += 1;
                retry = Some((p, t));
            }
            Some(b'?') => {
                p += 1;
                t += char_len(text, t);
            }
            Some(byte) if *byte == text[t] => {
                p += 1;
                t += 1;
            }
            _ => match retry {
                Some((after_star, from)) => {
                    let from = from + char_len(text, from);
                    retry = Some((after_star, from));
                    p = after_star;
                    t = from;
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|byte| *byte == b'*')
}

/// Bytes of the character that starts at `at`, so that `?` and `*` never split one.
fn char_len(text: &[u8], at: usize) -> usize {
    let mut len = 1;
    while text.get(at + len).is_some_and(|byte| byte & 0xc0 == 0x80) {
        len += 1;
    }
    len
}

#[cfg(test)]
mod tests {
    use super::glob;

    #[test]
    fn globs() {
        for (pattern, text, expected) in [
            ("", "", true),
            ("*", "", true),
            ("kv/*", "kv/put-get[client=go,server=rust]", true),
            ("kv/*[client=go*", "kv/put-get[client=go,server=rust]", true),
            ("*rust]", "kv/put-get[client=go,server=rust]", true),
            ("kv", "kv/x", false),
            ("a?c", "abc", true),
            ("a?c", "aäc", true),
            ("a?c", "ac", false),
            ("a*b*c", "aXbXbXc", true),
            ("a*b*c", "aXbXbX", false),
            ("?", "ä", true),
            ("??", "ä", false),
        ] {
            assert_eq!(glob(pattern, text), expected, "{pattern} on {text}");
        }
    }

    #[test]
    fn many_stars_end() {
        let text = "a".repeat(2000);
        assert!(!glob(&format!("{}b", "*a".repeat(50)), &text));
    }
}
