//! Turns diagnostics into text for people: place, the source underlined, cause and way out.
//!
//! Foreign bytes are shown harmlessly (no control character reaches the terminal), long lines are
//! cut around what is underlined, and the number of diagnostics shown is bounded.

use std::fmt::Write as _;

use anstyle::{AnsiColor, Style};

use super::{Diagnostic, Label, Severity, SourceMap, Span};

/// At most this many diagnostics are shown in full; the rest are counted.
const SHOWN: usize = 50;
/// At most this many characters of a source line are shown.
const LINE_WIDTH: usize = 110;
/// Characters kept before an underlined place when a long line is cut.
const LEAD: usize = 30;

/// Renders diagnostics in the given order, each ending with an empty line; the empty text for none.
#[must_use]
pub fn render(sources: &SourceMap, diagnostics: &[Diagnostic], colour: bool) -> String {
    let paint = Paint { colour };
    let mut out = String::new();
    for diagnostic in diagnostics.iter().take(SHOWN) {
        one(&mut out, sources, diagnostic, &paint);
        out.push('\n');
    }
    if diagnostics.len() > SHOWN {
        let _ = writeln!(out, "… and {} more", diagnostics.len() - SHOWN);
    }
    out
}

struct Paint {
    colour: bool,
}

impl Paint {
    fn with(&self, style: Style, text: &str) -> String {
        if self.colour { format!("{style}{text}{style:#}") } else { text.to_owned() }
    }
    fn rule(&self, text: &str) -> String {
        self.with(AnsiColor::Blue.on_default().bold(), text)
    }
    fn severity(&self, severity: Severity, text: &str) -> String {
        let style = match severity {
            Severity::Error => AnsiColor::Red.on_default().bold(),
            Severity::Warning => AnsiColor::Yellow.on_default().bold(),
            Severity::Note => AnsiColor::Cyan.on_default().bold(),
        };
        self.with(style, text)
    }
}

/// A label, resolved to one line of its file.
struct Spot<'a> {
    file: &'a str,
    line: usize,
    /// 0-based, in characters of the line.
    column: usize,
    /// In characters, at least 1.
    width: usize,
    text: &'a str,
    source_line: &'a str,
    primary: bool,
}

fn one(out: &mut String, sources: &SourceMap, diagnostic: &Diagnostic, paint: &Paint) {
    let word = match diagnostic.severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
        Severity::Note => "note",
    };
    let head = paint.severity(diagnostic.severity, &format!("{word}[{}]", diagnostic.code));
    let _ = writeln!(out, "{head}: {}", harmless(&diagnostic.message));

    let mut spots: Vec<Spot<'_>> =
        diagnostic.labels.iter().enumerate().filter_map(|(n, label)| spot(sources, label, n == 0)).collect();
    let gutter = spots.iter().map(|s| s.line).max().map_or(0, |line| line.to_string().len());
    // The primary file comes first, with its lines in order; then the other files in order of mention.
    let files: Vec<&str> = spots.iter().fold(Vec::new(), |mut files, s| {
        if !files.contains(&s.file) {
            files.push(s.file);
        }
        files
    });
    let first = spots.first().map(|s| (s.line, s.column));
    spots.sort_by_key(|s| (files.iter().position(|f| *f == s.file), s.line, s.column));
    let pad = " ".repeat(gutter);
    for (n, file) in files.iter().enumerate() {
        let here: Vec<&Spot<'_>> = spots.iter().filter(|s| s.file == *file).collect();
        let (line, column) = match (n, first) {
            (0, Some(place)) => place,
            _ => here.first().map_or((1, 0), |s| (s.line, s.column)),
        };
        let arrow = paint.rule(if n == 0 { "-->" } else { ":::" });
        let _ = writeln!(out, "{pad}{arrow} {}:{line}:{}", harmless(file), column + 1);
        let _ = writeln!(out, "{pad} {}", paint.rule("|"));
        let mut last_line = 0;
        for s in here {
            if last_line != 0 && s.line > last_line + 1 {
                let _ = writeln!(out, "{}", paint.rule("..."));
            }
            let cut = Cut::around(s.source_line, s.column, s.width);
            if s.line != last_line {
                let number = paint.rule(&format!("{:>gutter$} |", s.line));
                let _ = writeln!(out, "{}", format!("{number} {}", cut.text).trim_end());
            }
            last_line = s.line;
            let mark = if s.primary { "^" } else { "-" }.repeat(cut.width);
            let mark = format!("{mark} {}", harmless(s.text));
            let mark = if s.primary {
                paint.severity(diagnostic.severity, mark.trim_end())
            } else {
                paint.rule(mark.trim_end())
            };
            let _ = writeln!(out, "{pad} {} {}{mark}", paint.rule("|"), " ".repeat(cut.column));
        }
    }
    if let Some(help) = &diagnostic.help {
        let _ =
            writeln!(out, "{pad} {} {}: {}", paint.rule("="), paint.with(Style::new().bold(), "help"), harmless(help));
    }
}

fn spot<'a>(sources: &'a SourceMap, label: &'a Label, primary: bool) -> Option<Spot<'a>> {
    let source = sources.get(label.span.source)?;
    let Span { start, end, .. } = label.span;
    let text = &*source.text;
    let start = floor(text, start as usize);
    let end = floor(text, end as usize).max(start);
    let line_start = text[..start].rfind('\n').map_or(0, |n| n + 1);
    let line_end = text[start..].find('\n').map_or(text.len(), |n| start + n);
    let source_line = text[line_start..line_end].trim_end_matches('\r');
    let column = text[line_start..start].chars().count();
    let width = text[start..end.min(line_end)].trim_end().chars().count().max(1);
    Some(Spot {
        file: &source.name,
        line: text[..start].bytes().filter(|b| *b == b'\n').count() + 1,
        column,
        width,
        text: &label.text,
        source_line,
        primary,
    })
}

fn floor(text: &str, at: usize) -> usize {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

/// A source line as shown: cut to a bounded width, tabs and control characters made visible.
struct Cut {
    text: String,
    column: usize,
    width: usize,
}

impl Cut {
    fn around(line: &str, column: usize, width: usize) -> Self {
        let start = if column + width <= LINE_WIDTH { 0 } else { column.saturating_sub(LEAD) };
        let mut text = String::new();
        if start > 0 {
            text.push('…');
        }
        let ahead = text.chars().count();
        let mut chars = line.chars().skip(start);
        text.extend(chars.by_ref().take(LINE_WIDTH).map(visible));
        if chars.next().is_some() {
            text.push('…');
        }
        let column = column - start + ahead;
        let room = text.chars().count().saturating_sub(column).max(1);
        Self { text, column, width: width.min(room) }
    }
}

/// One character for one character, so that columns stay true.
fn visible(c: char) -> char {
    match c {
        '\t' => '→',
        // Left-to-right marks and their like could make a line look different from what it is.
        '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200b}'..='\u{200f}' | '\u{feff}' => '\u{fffd}',
        c if c.is_control() => '\u{fffd}',
        c => c,
    }
}

fn harmless(text: &str) -> String {
    text.chars().map(|c| if c == '\n' { '\n' } else { visible(c) }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diag::SourceId;

    fn span(source: SourceId, text: &str, needle: &str) -> Span {
        let start = u32::try_from(text.find(needle).unwrap()).unwrap();
        Span { source, start, end: start + u32::try_from(needle.len()).unwrap() }
    }

    #[test]
    fn shows_place_source_cause_and_way_out() {
        let text = "soupscen: 1\nmatrix:\n  axes:\n    tsl: [auto]\n";
        let mut sources = SourceMap::default();
        let id = sources.add("scenarios/kv.yaml", text);
        let diagnostic = Diagnostic::error("unknown-axis", "unknown axis `tsl`")
            .at(span(id, text, "tsl"), "not an axis")
            .help("did you mean `tls`?");
        insta::assert_snapshot!(render(&sources, &[diagnostic], false), @r"
        error[unknown-axis]: unknown axis `tsl`
         --> scenarios/kv.yaml:4:5
          |
        4 |     tsl: [auto]
          |     ^^^ not an axis
          = help: did you mean `tls`?
        ");
    }

    #[test]
    fn shows_two_places_in_two_files() {
        let (a, b) = ("x: 1\ny: 2\nz: 3\nx: 4\n", "x: 9\n");
        let mut sources = SourceMap::default();
        let (ida, idb) = (sources.add("a.yaml", a), sources.add("b.yaml", b));
        let again = Span { source: ida, start: 15, end: 16 };
        let diagnostic = Diagnostic::error("duplicate-key", "`x` is given twice")
            .at(again, "again here")
            .at(span(ida, a, "x"), "first here")
            .at(span(idb, b, "x"), "and here");
        insta::assert_snapshot!(render(&sources, &[diagnostic], false), @r"
        error[duplicate-key]: `x` is given twice
         --> a.yaml:4:1
          |
        1 | x: 1
          | - first here
        ...
        4 | x: 4
          | ^ again here
         ::: b.yaml:1:1
          |
        1 | x: 9
          | - and here
        ");
    }

    #[test]
    fn long_lines_are_cut_and_control_characters_never_pass() {
        let text = format!("{}\u{1b}[31mBAD\u{7}{}", "a".repeat(5000), "b".repeat(5000));
        let mut sources = SourceMap::default();
        let id = sources.add("a\u{1b}.yaml", text.as_str());
        let diagnostic = Diagnostic::error("x", "m\u{1b}[0m").at(span(id, &text, "BAD"), "t\u{9b}").help("h\u{7}");
        let shown = render(&sources, &[diagnostic], false);
        assert!(shown.chars().all(|c| c == '\n' || !c.is_control()), "{shown:?}");
        assert!(shown.len() < 1000, "{}", shown.len());
        assert!(shown.contains("BAD"), "{shown}");
    }

    #[test]
    fn columns_count_characters_and_spans_past_the_end_are_harmless() {
        let text = "é: ü\n";
        let mut sources = SourceMap::default();
        let id = sources.add("a", text);
        let shown = render(&sources, &[Diagnostic::error("x", "m").at(span(id, text, "ü"), "here")], false);
        assert!(shown.contains("a:1:4"), "{shown}");
        let outside = Span { source: id, start: 900, end: 1000 };
        assert!(render(&sources, &[Diagnostic::error("x", "m").at(outside, "")], false).contains("a:2:1"));
        let unknown = Span { source: SourceId(9), start: 0, end: 0 };
        assert!(render(&sources, &[Diagnostic::error("x", "m").at(unknown, "")], false).contains("error[x]: m"));
    }

    #[test]
    fn colour_only_on_request_and_many_are_counted() {
        let sources = SourceMap::default();
        let many: Vec<_> = (0..60).map(|n| Diagnostic::error("x", format!("m{n}"))).collect();
        let shown = render(&sources, &many, true);
        assert!(shown.contains('\u{1b}') && shown.ends_with("… and 10 more\n"));
        assert!(!render(&sources, &many, false).contains('\u{1b}'));
    }
}
