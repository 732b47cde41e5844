//! Foreign text made harmless, and small ways of writing for people. Read by every reporter.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::time::Duration;

/// Text of a peer as it may be shown: escape sequences gone, line ends plain, other control
/// characters and marks that turn the writing direction written as `\u{…}`.
pub(super) fn plain(text: &str) -> Cow<'_, str> {
    if text.chars().all(is_harmless) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '\u{1b}' => skip_escape(&mut rest),
            '\u{9b}' => skip_control_sequence(&mut rest),
            '\r' if rest.peek() == Some(&'\n') => {}
            '\r' => out.push('\n'),
            c if is_harmless(c) => out.push(c),
            c => {
                let _ = write!(out, "\\u{{{:x}}}", u32::from(c));
            }
        }
    }
    Cow::Owned(out)
}

fn is_harmless(c: char) -> bool {
    match c {
        '\n' | '\t' => true,
        // Bidirectional overrides and isolates can make a line read as something else.
        '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{2028}' | '\u{2029}' => false,
        c => !c.is_control(),
    }
}

type Chars<'a> = std::iter::Peekable<std::str::Chars<'a>>;

/// Skips what follows an ESC (ECMA-48): a control sequence, a string with its end, or one character.
fn skip_escape(rest: &mut Chars<'_>) {
    match rest.next_if(|c| ('\u{20}'..='\u{7e}').contains(c)) {
        Some('[') => skip_control_sequence(rest),
        Some(']' | 'P' | 'X' | '^' | '_') => {
            // Up to BEL or ST; an unterminated one must not swallow the lines after it.
            while let Some(c) = rest.next_if(|c| *c != '\n') {
                if c == '\u{7}' || c == '\u{9c}' || (c == '\u{1b}' && rest.next_if_eq(&'\\').is_some()) {
                    break;
                }
            }
        }
        Some(' '..='/') => while rest.next_if(|c| ('\u{20}'..='\u{2f}').contains(c)).is_some() || final_byte(rest) {},
        _ => {}
    }
}

fn final_byte(rest: &mut Chars<'_>) -> bool {
    let _ = rest.next_if(|c| ('\u{30}'..='\u{7e}').contains(c));
    false
}

/// Skips parameters, intermediates and the final character of a control sequence.
fn skip_control_sequence(rest: &mut Chars<'_>) {
    while rest.next_if(|c| ('\u{20}'..='\u{3f}').contains(c)).is_some() {}
    let _ = rest.next_if(|c| ('\u{40}'..='\u{7e}').contains(c));
}

/// The first `lines` lines and `bytes` bytes, with a word on what is missing.
pub(super) fn head(text: &str, lines: usize, bytes: usize) -> Cow<'_, str> {
    let text = text.trim_end();
    let mut end = text.match_indices('\n').nth(lines.saturating_sub(1)).map_or(text.len(), |(at, _)| at);
    end = floor(text, end.min(bytes));
    if end == text.len() {
        return Cow::Borrowed(text);
    }
    Cow::Owned(format!("{} … {} bytes more", text[..end].trim_end(), text.len() - end))
}

/// The last `lines` lines and `bytes` bytes, with a word on what is missing.
pub(super) fn tail(text: &str, lines: usize, bytes: usize) -> Cow<'_, str> {
    let text = text.trim_end();
    let mut start = text.rmatch_indices('\n').nth(lines.saturating_sub(1)).map_or(0, |(at, _)| at + 1);
    start = text.len() - floor_from_end(text, (text.len() - start).min(bytes));
    if start == 0 {
        return Cow::Borrowed(text);
    }
    Cow::Owned(format!("… {start} bytes before\n{}", &text[start..]))
}

/// The largest character boundary of `text` up to `at`.
pub(super) fn floor(text: &str, at: usize) -> usize {
    if at >= text.len() {
        return text.len();
    }
    (0..=at).rev().find(|i| text.is_char_boundary(*i)).unwrap_or(0)
}

/// How many of the last `bytes` bytes make whole characters.
fn floor_from_end(text: &str, bytes: usize) -> usize {
    let start = text.len() - bytes;
    text.len() - (start..=text.len()).find(|i| text.is_char_boundary(*i)).unwrap_or(text.len())
}

/// Every line moved in by `by` columns.
pub(super) fn indent(text: &str, by: usize) -> String {
    let space = " ".repeat(by);
    text.lines().map(|line| format!("{space}{line}")).collect::<Vec<_>>().join("\n")
}

/// One line, not longer than `most` characters.
pub(super) fn one_line(text: &str, most: usize) -> String {
    // Almost every text is one already.
    if text.len() <= most && text.bytes().all(|byte| (b' '..=b'~').contains(&byte)) && !text.contains("  ") {
        return text.trim().to_owned();
    }
    let text = plain(text);
    let mut line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.chars().count() > most {
        line = line.chars().take(most.saturating_sub(1)).collect();
        line.push('…');
    }
    line
}

/// A duration as people read it: `850 us`, `12 ms`, `1.234 s`, `2 min 05 s`.
pub(super) fn span(time: Duration) -> String {
    let seconds = time.as_secs();
    match time.as_micros() {
        us @ 0..1_000 => format!("{us} us"),
        us @ 1_000..1_000_000 => format!("{} ms", us / 1_000),
        us @ 1_000_000..60_000_000 => format!("{}.{:03} s", us / 1_000_000, us / 1_000 % 1_000),
        _ if seconds < 3600 => format!("{} min {:02} s", seconds / 60, seconds % 60),
        _ => format!("{} h {:02} min", seconds / 3600, seconds / 60 % 60),
    }
}

/// The same, of microseconds.
pub(super) fn micros(us: u64) -> String {
    span(Duration::from_micros(us))
}

/// `1 case`, `2 cases`.
pub(super) fn count(n: u64, word: &str) -> String {
    let s = if n == 1 { "" } else { "s" };
    format!("{n} {word}{s}")
}

/// An argument as a POSIX shell takes it.
pub(super) fn shell(word: &str) -> Cow<'_, str> {
    let bare = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@%+".contains(c);
    if !word.is_empty() && word.chars().all(bare) {
        return Cow::Borrowed(word);
    }
    Cow::Owned(format!("'{}'", word.replace('\'', "'\\''")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::samples::NASTY;

    #[test]
    fn foreign_text_cannot_steer_a_terminal() {
        let shown = plain(NASTY);
        assert!(shown.chars().all(is_harmless), "{shown:?}");
        assert!(shown.starts_with("a\\u{0}bred ]]> <x"), "{shown:?}");
        assert!(shown.contains("\nC1: ") && shown.contains("\\u{202e}drawkcab") && !shown.contains("title"));
        assert!(matches!(plain("as it is\tö\n"), Cow::Borrowed(_)));
        assert_eq!(plain("50%\r100%\r\ndone"), "50%\n100%\ndone");
    }

    #[test]
    fn an_unterminated_sequence_swallows_no_more_than_its_line() {
        assert_eq!(plain("\u{1b}]0;title\nnext"), "\nnext");
        assert_eq!(plain("\u{1b}[12;\nnext\u{1b}"), "\nnext");
        assert_eq!(plain("\u{1b}(Bok \u{1b}P x\u{1b}\\done"), "ok done");
    }

    #[test]
    fn texts_are_cut_at_characters_and_say_so() {
        assert_eq!(head("a\nb\nc", 2, 100), "a\nb … 2 bytes more");
        assert_eq!(tail("a\nb\nc\n", 2, 100), "… 2 bytes before\nb\nc");
        assert_eq!(head("ööö", 9, 3), "ö … 4 bytes more");
        assert_eq!(tail("ööö", 9, 3), "… 4 bytes before\nö");
        assert_eq!((head("a\n", 1, 9), tail("a\n", 1, 9)), ("a".into(), "a".into()));
        assert_eq!(one_line("a\n  b\u{1b}[0m c", 4), "a b…");
    }

    #[test]
    fn durations_and_words() {
        let of = |us| micros(us);
        assert_eq!([of(850), of(12_345), of(1_234_567)], ["850 us", "12 ms", "1.234 s"]);
        assert_eq!([of(125_000_000), of(3_725_000_000)], ["2 min 05 s", "1 h 02 min"]);
        assert_eq!((count(1, "case"), count(0, "case")), ("1 case".to_owned(), "0 cases".to_owned()));
        assert_eq!(shell("a b'c"), r"'a b'\''c'");
        assert_eq!(shell("x/y.yaml"), "x/y.yaml");
    }
}
