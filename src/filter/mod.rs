//! The expression language of `when`, `exclude`, `applies` and `--filter`: comparisons of a name
//! with literals, joined by `and`, `or` and `not`. L1: reads `diag` for places and `axis` for the
//! spellings of values; read by `scenario` (parsing, checking) and `plan` (tabulation).
//!
//! ```text
//! client == go and key in [p256, p384] and not (server.lang == python)
//! id ~ "kv/*" or script != put-get
//! key.bits >= 384
//! ```
//!
//! A bare axis is the name of its value, a dotted name is a fact of it. An axis that is absent or
//! does not apply has the value `unset`, and so have its facts. Every comparison is about exactly
//! one name, which is what lets the plan tabulate it over the values of one axis.
//!
//! Comparisons know spellings: `key == secp256r1` means `p256`. Order (`<`, `<=`, `>`, `>=`) is
//! that of numbers, or of dotted versions (`1.9` is before `1.10`).

mod check;
mod compare;
mod domain;
mod glob;
mod lex;
mod parse;
#[cfg(test)]
mod tests;

use std::fmt;

use crate::diag::{Diagnostic, Label, Severity, SourceId, Span};

pub use compare::{Comparison, Literal, Operator};
pub(crate) use domain::facts_of;
pub use domain::{Domain, TEXT_NAMES};
pub use glob::glob;

use serde_json::Value;

/// Longest text of an expression, in bytes.
pub const MAX_TEXT: usize = 4096;
/// Deepest nesting of parentheses and `not`.
pub const MAX_DEPTH: usize = 64;

/// A parsed expression with its text and spans.
#[derive(Debug, Clone)]
pub struct Expr {
    /// As written.
    pub text: String,
    /// Where it is written, as a whole.
    pub span: Span,
    exact: bool,
    ast: Ast,
}

/// The tree of an expression. `And` and `Or` have at least two members.
#[derive(Debug, Clone)]
pub enum Ast {
    /// `true` or `false`.
    Constant(bool),
    /// One comparison.
    Compare(Comparison),
    /// The opposite.
    Not(Box<Ast>),
    /// All of them.
    And(Vec<Ast>),
    /// Any of them.
    Or(Vec<Ast>),
}

/// As it would be written, with all parentheses that are needed.
impl fmt::Display for Ast {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let join = |f: &mut fmt::Formatter<'_>, members: &[Self], word: &str| {
            members.iter().enumerate().try_for_each(|(at, member)| {
                let separator = if at == 0 { "" } else { word };
                match member {
                    Self::And(_) | Self::Or(_) => write!(f, "{separator}({member})"),
                    _ => write!(f, "{separator}{member}"),
                }
            })
        };
        match self {
            Self::Constant(value) => write!(f, "{value}"),
            Self::Compare(comparison) => write!(f, "{comparison}"),
            Self::Not(inner) => write!(f, "not ({inner})"),
            Self::And(members) => join(f, members, " and "),
            Self::Or(members) => join(f, members, " or "),
        }
    }
}

/// What a name stands for where an expression is evaluated as a whole.
pub trait Lookup {
    /// The value of a name: a bare axis (`client`), a fact (`client.lang`) or a text (`id`,
    /// `script`). `None` is `unset`.
    fn get(&self, name: &str) -> Option<Value>;
}

/// Parses an expression that stands in a source text as it is, starting at byte `offset`.
///
/// # Errors
/// Everything that is wrong with its grammar, labelled at the exact place.
pub fn parse(source: SourceId, offset: u32, text: &str) -> Result<Expr, Vec<Diagnostic>> {
    let end = offset.saturating_add(u32::try_from(text.len()).unwrap_or(u32::MAX));
    let whole = Span { source, start: offset, end };
    parse::parse(text, &Places { whole, exact: true })
}

/// Parses an expression whose text is not in the source as it is (quoted or folded YAML, a
/// command line): every error is labelled with the whole span and tells the column inside.
///
/// # Errors
/// Everything that is wrong with its grammar.
pub fn parse_at(span: Span, text: &str) -> Result<Expr, Vec<Diagnostic>> {
    parse::parse(text, &Places { whole: span, exact: false })
}

/// Translates byte ranges of an expression's text into places of the source.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Places {
    whole: Span,
    exact: bool,
}

/// A byte range in the text of an expression.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Within {
    /// First byte.
    pub start: u32,
    /// One past the last byte.
    pub end: u32,
}

impl Places {
    fn diagnostic(
        &self,
        text: &str,
        at: Within,
        code: &'static str,
        message: String,
        label: impl Into<String>,
        help: Option<String>,
    ) -> Diagnostic {
        let (span, message) = if self.exact {
            (
                Span { source: self.whole.source, start: self.whole.start + at.start, end: self.whole.start + at.end },
                message,
            )
        } else {
            let column = text.get(..at.start as usize).unwrap_or(text).chars().count() + 1;
            (self.whole, format!("{message} (column {column} of the expression `{}`)", shortened(text)))
        };
        Diagnostic { code, severity: Severity::Error, message, labels: vec![Label { span, text: label.into() }], help }
    }
}

/// Expressions in messages stay readable whatever their size.
fn shortened(text: &str) -> String {
    const MAX: usize = 80;
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.chars().count() <= MAX { line } else { format!("{}…", line.chars().take(MAX).collect::<String>()) }
}

impl Expr {
    /// Its tree.
    #[must_use]
    pub fn ast(&self) -> &Ast {
        &self.ast
    }

    /// A part of it as an expression of its own, with the same place.
    #[must_use]
    pub fn part(&self, part: &Ast) -> Self {
        Self { text: part.to_string(), span: self.span, exact: false, ast: part.clone() }
    }

    /// The axes and text names (`id`, `script`) that it names, sorted, each once, without facts.
    #[must_use]
    pub fn names(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.comparisons().into_iter().map(Comparison::subject).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// All comparisons, from left to right.
    #[must_use]
    pub fn comparisons(&self) -> Vec<&Comparison> {
        fn walk<'a>(ast: &'a Ast, out: &mut Vec<&'a Comparison>) {
            match ast {
                Ast::Constant(_) => {}
                Ast::Compare(comparison) => out.push(comparison),
                Ast::Not(inner) => walk(inner, out),
                Ast::And(members) | Ast::Or(members) => members.iter().for_each(|member| walk(member, out)),
            }
        }
        let mut out = Vec::new();
        walk(&self.ast, &mut out);
        out
    }

    /// Whether it holds.
    #[must_use]
    pub fn eval(&self, lookup: &dyn Lookup) -> bool {
        fn walk(ast: &Ast, lookup: &dyn Lookup) -> bool {
            match ast {
                Ast::Constant(value) => *value,
                Ast::Compare(comparison) => comparison.holds(lookup.get(&comparison.name).as_ref()),
                Ast::Not(inner) => !walk(inner, lookup),
                Ast::And(members) => members.iter().all(|member| walk(member, lookup)),
                Ast::Or(members) => members.iter().any(|member| walk(member, lookup)),
            }
        }
        walk(&self.ast, lookup)
    }

    /// Everything in it that the domain does not know or that can never hold.
    #[must_use]
    pub fn check(&self, domain: &Domain) -> Vec<Diagnostic> {
        check::check(self, domain)
    }

    fn places(&self) -> Places {
        Places { whole: self.span, exact: self.exact }
    }
}
