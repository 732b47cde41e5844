//! Words, quoted strings and signs of an expression, with their byte ranges.

use super::Within;

/// One token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Token {
    pub(super) kind: Kind,
    pub(super) at: Within,
}

/// What a token is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    /// A bare word: a name, a value, a number, or a keyword.
    Word(String),
    /// A quoted string, without its quotes.
    Quoted(String),
    /// `==`, `!=`, `~`, `<`, `<=`, `>`, `>=`, `(`, `)`, `[`, `]`, `,`.
    Sign(&'static str),
    /// The end.
    End,
}

/// What is wrong: the range, the cause, the way out.
pub(super) struct LexError {
    pub(super) at: Within,
    pub(super) message: String,
    pub(super) help: Option<String>,
}

/// Longer signs first.
const SIGNS: [&str; 12] = ["==", "!=", "<=", ">=", "~", "<", ">", "(", ")", "[", "]", ","];

/// Signs of other languages, and what they are called here.
const FOREIGN: [(&str, &str); 8] =
    [("&&", "and"), ("||", "or"), ("=~", "~"), ("=", "=="), ("!", "not"), ("&", "and"), ("|", "or"), ("{", "(")];

/// Cuts a text into tokens; the last one is always `End`.
pub(super) fn tokens(text: &str) -> Result<Vec<Token>, LexError> {
    let mut out = Vec::new();
    let mut pos = 0;
    while let Some(c) = text[pos..].chars().next() {
        let rest = &text[pos..];
        if c.is_whitespace() {
            pos += c.len_utf8();
        } else if let Some(sign) = SIGNS.iter().find(|sign| rest.starts_with(**sign)) {
            out.push(Token { kind: Kind::Sign(sign), at: within(pos, pos + sign.len()) });
            pos += sign.len();
        } else if c == '"' || c == '\'' {
            let (value, len) = quoted(rest, c).ok_or_else(|| LexError {
                at: within(pos, text.len()),
                message: "a quoted text is not closed".into(),
                help: Some(format!("end it with {c}")),
            })?;
            out.push(Token { kind: Kind::Quoted(value), at: within(pos, pos + len) });
            pos += len;
        } else if is_word(c) {
            let len = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
            out.push(Token { kind: Kind::Word(rest[..len].to_owned()), at: within(pos, pos + len) });
            pos += len;
        } else {
            let foreign = FOREIGN.iter().find(|(sign, _)| rest.starts_with(sign));
            let len = foreign.map_or(c.len_utf8(), |(sign, _)| sign.len());
            return Err(LexError {
                at: within(pos, pos + len),
                message: format!("`{}` has no meaning in an expression", rest[..len].escape_debug()),
                help: Some(foreign.map_or_else(
                    || "quote texts that are more than letters, digits and `_-./:@+`".to_owned(),
                    |(_, own)| format!("write `{own}`"),
                )),
            });
        }
    }
    out.push(Token { kind: Kind::End, at: within(text.len(), text.len()) });
    Ok(out)
}

/// A quoted text and its length with quotes; a backslash takes the next character as it is.
fn quoted(rest: &str, quote: char) -> Option<(String, usize)> {
    let mut value = String::new();
    let mut chars = rest.char_indices().skip(1);
    while let Some((at, c)) = chars.next() {
        match c {
            _ if c == quote => return Some((value, at + 1)),
            '\\' => value.push(chars.next()?.1),
            _ => value.push(c),
        }
    }
    None
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | '/' | ':' | '@' | '+' | '*' | '?')
}

/// Texts are at most [`super::MAX_TEXT`] long.
pub(super) fn within(start: usize, end: usize) -> Within {
    Within { start: u32::try_from(start).unwrap_or(u32::MAX), end: u32::try_from(end).unwrap_or(u32::MAX) }
}
