//! What one comparison means for one value.

use std::cmp::Ordering;
use std::fmt;

use serde_json::Value;

use crate::axis::UNSET;

use super::{Within, glob};

/// `name operator literals`.
#[derive(Debug, Clone)]
pub struct Comparison {
    /// As written: `client`, `server.lang`, `id`.
    pub name: String,
    /// Where the name is, in the expression's text.
    pub at: Within,
    /// How it compares.
    pub operator: Operator,
    /// With what: one literal, or those of a list.
    pub literals: Vec<Literal>,
}

/// How a comparison compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operator {
    /// `==`
    Equal,
    /// `!=`
    NotEqual,
    /// `in`
    In,
    /// `not in`
    NotIn,
    /// `~`
    Glob,
    /// `<`
    Less,
    /// `<=`
    LessEqual,
    /// `>`
    Greater,
    /// `>=`
    GreaterEqual,
}

impl Operator {
    /// As written.
    #[must_use]
    pub const fn sign(self) -> &'static str {
        match self {
            Self::Equal => "==",
            Self::NotEqual => "!=",
            Self::In => "in",
            Self::NotIn => "not in",
            Self::Glob => "~",
            Self::Less => "<",
            Self::LessEqual => "<=",
            Self::Greater => ">",
            Self::GreaterEqual => ">=",
        }
    }

    /// Whether it is about order.
    #[must_use]
    pub const fn orders(self) -> bool {
        matches!(self, Self::Less | Self::LessEqual | Self::Greater | Self::GreaterEqual)
    }
}

/// The right side of a comparison.
#[derive(Debug, Clone)]
pub struct Literal {
    /// As written, without quotes.
    pub text: String,
    /// With aliases of the axis table resolved.
    pub canonical: String,
    /// It was quoted.
    pub quoted: bool,
    /// Where it is, in the expression's text.
    pub at: Within,
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let listed = matches!(self.operator, Operator::In | Operator::NotIn);
        write!(f, "{} {} {}", self.name, self.operator.sign(), if listed { "[" } else { "" })?;
        for (at, literal) in self.literals.iter().enumerate() {
            f.write_str(if at == 0 { "" } else { ", " })?;
            if literal.quoted { quote(f, &literal.text)? } else { f.write_str(&literal.text)? }
        }
        f.write_str(if listed { "]" } else { "" })
    }
}

/// A text with quotes, so that it is read again as it is: a backslash takes any character.
fn quote(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    write!(f, "\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

impl Comparison {
    /// The axis or text name that it is about: `server` of `server.lang`. `case.id` and its like
    /// are one name.
    #[must_use]
    pub fn subject(&self) -> &str {
        match self.name.split_once('.') {
            Some(("case", _)) | None => &self.name,
            Some((axis, _)) => axis,
        }
    }

    /// The fact that it is about: `lang` of `server.lang`.
    #[must_use]
    pub fn fact(&self) -> Option<&str> {
        match self.name.split_once('.') {
            Some(("case", _)) | None => None,
            Some((_, fact)) => Some(fact),
        }
    }

    /// Whether it holds for a value; `None` is `unset`.
    #[must_use]
    pub fn holds(&self, actual: Option<&Value>) -> bool {
        let equal = || self.literals.iter().any(|literal| literal.is(actual));
        let order = |accept: fn(Ordering) -> bool| {
            self.literals.iter().any(|literal| actual.and_then(|value| literal.order(value)).is_some_and(accept))
        };
        match self.operator {
            Operator::Equal | Operator::In => equal(),
            Operator::NotEqual | Operator::NotIn => !equal(),
            Operator::Glob => self.literals.iter().any(|literal| match actual {
                Some(value) => glob(&literal.text, &text_of(value)),
                None => false,
            }),
            Operator::Less => order(Ordering::is_lt),
            Operator::LessEqual => order(Ordering::is_le),
            Operator::Greater => order(Ordering::is_gt),
            Operator::GreaterEqual => order(Ordering::is_ge),
        }
    }
}

impl Literal {
    /// Whether a value is this literal.
    fn is(&self, actual: Option<&Value>) -> bool {
        match actual {
            None => !self.quoted && self.text == UNSET,
            Some(Value::String(text)) => *text == self.canonical || *text == self.text,
            Some(Value::Number(number)) => {
                number.to_string() == self.text
                    || matches!((number.as_f64(), self.text.parse::<f64>()), (Some(a), Ok(b)) if a.total_cmp(&b).is_eq())
            }
            Some(other) => text_of(other) == self.text,
        }
    }

    /// How a value stands to this literal; `None` where one of them has no order.
    fn order(&self, actual: &Value) -> Option<Ordering> {
        match actual {
            Value::Number(number) => number.as_f64()?.partial_cmp(&self.text.parse().ok()?),
            Value::String(text) => Some(version(text)?.cmp(&version(&self.canonical)?)),
            _ => None,
        }
    }

    /// Whether it is a number or a version.
    pub(super) fn has_order(&self) -> bool {
        version(&self.canonical).is_some() || self.text.parse::<f64>().is_ok()
    }
}

/// Whether a value is a number or a version.
pub(super) fn has_order(value: &Value) -> bool {
    match value {
        Value::Number(_) => true,
        Value::String(text) => version(text).is_some(),
        _ => false,
    }
}

/// The text of a value, as compared with literals.
pub(super) fn text_of(value: &Value) -> std::borrow::Cow<'_, str> {
    match value {
        Value::String(text) => text.into(),
        other => other.to_string().into(),
    }
}

/// The numbers of a dotted version (`1.85.1`, `v3`), without trailing zeros so that `1.2` is
/// `1.2.0`. What follows `-` or `+` does not count.
fn version(text: &str) -> Option<Vec<u64>> {
    let text = text.strip_prefix('v').unwrap_or(text);
    let text = text.split(['-', '+']).next().unwrap_or(text);
    let mut numbers = text.split('.').map(|part| part.parse().ok()).collect::<Option<Vec<u64>>>()?;
    while numbers.last() == Some(&0) {
        numbers.pop();
    }
    Some(numbers)
}
