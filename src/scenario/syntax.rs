//! What the YAML parser's errors mean to someone who writes scenarios. Read by `yaml`.

use serde_saphyr::granit_parser::{ErrorKind, ScanError};

use crate::diag::{Diagnostic, SourceId, Span};

/// A syntax error as a diagnostic with place, cause and way out.
pub(super) fn explain(source: SourceId, text: &str, error: &ScanError) -> Diagnostic {
    let at = error.marker().byte_offset().unwrap_or(0).min(text.len());
    let span = one_char(source, text, at);
    match error.kind() {
        ErrorKind::TabNotAllowed
        | ErrorKind::TabInBlockIndentation
        | ErrorKind::TabAtBlockScalarStart
        | ErrorKind::TabInIndentation
        | ErrorKind::TabInPlainScalar => tab(source, text, at),
        // A text that runs on into a line of the surrounding map lacks its closing quote.
        ErrorKind::UnclosedQuotedScalar
        | ErrorKind::DocumentIndicatorInQuotedScalar
        | ErrorKind::InvalidQuotedScalarIndent => {
            Diagnostic::error("unclosed-quote", "a quoted text is not closed")
                .at(opening(source, text, at), "opened here")
                .help("add the closing quote; inside '…' a quote is written '', inside \"…\" it is \\\"")
        }
        ErrorKind::UnclosedFlowCollection { open } => {
            Diagnostic::error("unclosed-bracket", format!("`{open}` is not closed"))
                .at(span, "still open here")
                .help(format!("add the closing `{}`", if *open == '[' { ']' } else { '}' }))
        }
        ErrorKind::UnexpectedEofFlowSequence => Diagnostic::error("unclosed-bracket", "the file ends inside a list")
            .at(span, "the file ends here")
            .help("add the closing `]`"),
        ErrorKind::UnexpectedEofFlowMapping | ErrorKind::UnexpectedEofImplicitFlowMapping => {
            Diagnostic::error("unclosed-bracket", "the file ends inside a map")
                .at(span, "the file ends here")
                .help("add the closing `}`")
        }
        ErrorKind::ExpectedFlowMappingSeparator | ErrorKind::ExpectedFlowSequenceSeparator => {
            Diagnostic::error("syntax", "expected `,` or the closing bracket").at(span, "instead there is this").help(
                "inside {…} and […], separate entries by commas; quote texts that hold `,`, `{`, `}`, `[` or `]`, as templates do",
            )
        }
        ErrorKind::MismatchedFlowCollectionEnd { open, close } => {
            Diagnostic::error("unclosed-bracket", format!("`{open}` is closed by `{close}`")).at(span, "closed here")
        }
        ErrorKind::UnknownAnchor => Diagnostic::error("unknown-alias", "the alias refers to an anchor that does not exist")
            .at(span, "no such anchor before this")
            .help("define it first as `&name`; a text that begins with `*` needs quotes"),
        ErrorKind::UnexpectedCharacter { character } => {
            Diagnostic::error("syntax", format!("a text cannot begin with `{character}`"))
                .at(span, "reserved in YAML")
                .help("put the text in quotes")
        }
        ErrorKind::MappingValueNotAllowed => {
            Diagnostic::error("syntax", "a `key: value` is not possible here")
                .at(span, "this `:`")
                .help("quote a text that holds `: `, or begin the entry on its own line with the indentation of its neighbours")
        }
        ErrorKind::RecursionLimitExceeded => {
            Diagnostic::error("too-deep", "maps and lists are nested too deep").at(span, "too deep")
        }
        ErrorKind::SimpleKeyExpected | ErrorKind::InvalidSimpleKey => {
            Diagnostic::error("syntax", "expected `key: value`")
                .at(span, "there is no `:` after this")
                .help("write `key: value`; inside a map every line is an entry")
        }
        ErrorKind::InvalidIndentation
        | ErrorKind::ExpectedBlockMappingKey
        | ErrorKind::ExpectedBlockSequenceEntry
        | ErrorKind::InvalidFlowScalarIndent
        | ErrorKind::InvalidBlockScalarIndent => {
            Diagnostic::error("syntax", "this line does not fit the lines before it")
                .at(span, "unexpected here")
                .help("entries of one map or list begin in the same column")
        }
        ErrorKind::UnknownQuotedScalarEscape => {
            Diagnostic::error("syntax", "unknown escape in a \"…\" text")
                .at(span, "not an escape")
                .help("use '…' quotes for texts with backslashes, such as regular expressions")
        }
        kind => Diagnostic::error("syntax", format!("this is not YAML: {kind}")).at(span, "here"),
    }
}

/// Puts the label on the first tab of the line, which may stand before where the parser gave up.
fn tab(source: SourceId, text: &str, at: usize) -> Diagnostic {
    let line = text[..floor(text, at)].rfind('\n').map_or(0, |n| n + 1);
    let end = text[line..].find('\n').map_or(text.len(), |n| line + n);
    let tab = text[line..end].find('\t').map_or(at, |n| line + n);
    Diagnostic::error("tab", "a tab indents this line; YAML wants spaces")
        .at(one_char(source, text, tab), "a tab")
        .help("replace it by spaces, two for each level")
}

/// The quote that opened the text in which the parser ran out of input: the parser's place is its
/// start where it knows it, otherwise the end of the file.
fn opening(source: SourceId, text: &str, at: usize) -> Span {
    let at = floor(text, at);
    if text[at..].starts_with(['"', '\'']) {
        return one_char(source, text, at);
    }
    let quote = text[..at].rfind(['"', '\'']).unwrap_or(at);
    one_char(source, text, quote)
}

fn one_char(source: SourceId, text: &str, at: usize) -> Span {
    let at = floor(text, at);
    let len = text[at..].chars().next().map_or(0, char::len_utf8);
    let small = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    Span { source, start: small(at), end: small(at + len) }
}

fn floor(text: &str, at: usize) -> usize {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}
