//! Which cases of a plan are wanted.

use std::collections::HashSet;
use std::sync::Arc;

use serde_json::Value;

use crate::filter::{Comparison, Expr, glob};

use super::condition::{Condition, Index};
use super::space::{KEY_DIGITS, Space};

/// Which cases are wanted; everything that is given must hold.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    /// `--filter`: checked against [`super::Plan::domain`].
    pub filter: Option<Arc<Expr>>,
    /// `--case`: globs, any of which matches id, key or slug. Empty means all.
    pub cases: Vec<String>,
    /// `--failed-in`: these keys only.
    pub keys: Option<HashSet<String>>,
    /// `--shard`: part `n` of `of`.
    pub shard: Option<Shard>,
}

/// One part of a plan, by case key: stable when cases are added.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shard {
    n: u32,
    of: u32,
}

impl Shard {
    /// Part `n` (from 1) of `of`; `None` where that is no part.
    #[must_use]
    pub const fn new(n: u32, of: u32) -> Option<Self> {
        if n >= 1 && n <= of { Some(Self { n, of }) } else { None }
    }
}

impl std::str::FromStr for Shard {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.split_once('/')
            .and_then(|(n, of)| Self::new(n.trim().parse().ok()?, of.trim().parse().ok()?))
            .ok_or_else(|| format!("`{text}` is no shard: write `N/OF` with N from 1 to OF, e.g. `2/5`"))
    }
}

impl std::fmt::Display for Shard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.n, self.of)
    }
}

impl Selection {
    /// Whether it wants everything.
    #[must_use]
    pub fn is_all(&self) -> bool {
        self.filter.is_none() && self.cases.is_empty() && self.keys.is_none() && self.shard.is_none()
    }

    /// It as one condition.
    pub(super) fn condition(&self) -> Condition {
        let mut all = Vec::new();
        if let Some(expr) = &self.filter {
            all.push(Condition::Expr(Arc::clone(expr)));
        }
        // Cheapest first: a shard is one hash, patterns need the id.
        if let Some(shard) = self.shard {
            all.push(Condition::Pick(Pick::Shard(shard)));
        }
        if let Some(keys) = &self.keys {
            all.push(Condition::Pick(Pick::Keys(Arc::new(keys.iter().filter_map(|key| parse_key(key)).collect()))));
        }
        if !self.cases.is_empty() {
            all.push(Condition::Pick(Pick::Patterns(self.cases.as_slice().into())));
        }
        Condition::All(all)
    }
}

/// The number that a key is.
pub(super) fn parse_key(text: &str) -> Option<u64> {
    if text.len() == KEY_DIGITS { u64::from_str_radix(text, 16).ok() } else { None }
}

/// A condition about the id or the key of a row, which needs all of it.
#[derive(Debug, Clone)]
pub(super) enum Pick {
    Text(Arc<Comparison>),
    Patterns(Arc<[String]>),
    Keys(Arc<HashSet<u64>>),
    Shard(Shard),
}

impl Pick {
    pub(super) fn picks(&self, space: &Space, row: &[Index]) -> bool {
        match self {
            Self::Text(comparison) => {
                let text = match comparison.name.as_str() {
                    "case.key" => format!("{:016x}", space.key(row)),
                    "case.slug" => space.slug(row),
                    _ => space.id(row),
                };
                comparison.holds(Some(&Value::String(text)))
            }
            Self::Patterns(patterns) => {
                let texts = [space.id(row), space.slug(row), format!("{:016x}", space.key(row))];
                patterns.iter().any(|pattern| texts.iter().any(|text| glob(pattern, text)))
            }
            Self::Keys(keys) => keys.contains(&space.key(row)),
            Self::Shard(shard) => space.key(row) % u64::from(shard.of) == u64::from(shard.n - 1),
        }
    }
}
