//! Conditions over the rows of a space, compiled so that a part of a row is often enough to
//! decide them.
//!
//! Every comparison of an expression is about one axis, so it is tabulated over that axis's values
//! alone: a bit per value. A condition is then a tree of bits, and can be asked three ways: with
//! some axes not yet bound (true, false, or not known yet), for 64 values of one axis at once, or
//! for a whole row.

use std::sync::Arc;

use serde_json::Value;

use crate::filter::{Ast, Comparison, Expr, TEXT_NAMES};

use super::select::Pick;
use super::space::Space;

/// Index of a value in its dimension; the dimension's length stands for `unset`.
pub(super) type Index = u16;
/// A dimension that has no value yet.
pub(super) const UNBOUND: Index = Index::MAX;

/// A set of dimensions of one space.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Dims(u128);

impl Dims {
    /// Most dimensions of a space.
    pub(super) const MAX: usize = 128;

    pub(super) fn one(dim: usize) -> Self {
        Self(1 << dim)
    }
    pub(super) fn all(count: usize) -> Self {
        if count >= Self::MAX { Self(u128::MAX) } else { Self((1 << count) - 1) }
    }
    pub(super) fn has(self, dim: usize) -> bool {
        self.0 >> dim & 1 == 1
    }
    pub(super) fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
    pub(super) fn within(self, other: Self) -> bool {
        self.0 & !other.0 == 0
    }
    pub(super) fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }
}

/// A condition that is not yet bound to a space.
#[derive(Debug, Clone)]
pub(super) enum Condition {
    /// As written by a user or in the axis table.
    Expr(Arc<Expr>),
    /// An axis has one of these values.
    OneOf(String, Vec<String>),
    /// An axis has no value.
    Unset(String),
    /// No other axis than these has a value.
    OnlyAxes(Vec<String>),
    /// The opposite.
    Not(Box<Condition>),
    /// All.
    All(Vec<Condition>),
    /// Any.
    Any(Vec<Condition>),
    /// About the case as such.
    Pick(Pick),
}

/// A condition over the dimensions of one space.
#[derive(Debug, Clone)]
pub(super) enum Node {
    Constant(bool),
    /// One dimension has one of these values; the bit after the last value is `unset`.
    Atom(usize, Box<[u64]>),
    Not(Box<Node>),
    And(Vec<Node>),
    Or(Vec<Node>),
    /// About the id or the key of a whole row.
    Pick(Pick),
}

pub(super) fn has_bit(bits: &[u64], index: Index) -> bool {
    bits.get(usize::from(index) / 64).is_some_and(|word| word >> (index % 64) & 1 == 1)
}

impl Condition {
    /// Binds it to the dimensions of a space.
    pub(super) fn compile(&self, space: &Space) -> Node {
        self.compile_of(space, space.block_name.as_deref())
    }

    /// Binds a condition of another block to the dimensions of a space: `block` in it stays the one
    /// that it was written for.
    pub(super) fn compile_of(&self, space: &Space, block: Option<&str>) -> Node {
        match self {
            Self::Expr(expr) => compile_ast(expr.ast(), space, block),
            Self::OneOf(axis, names) => {
                space.atom(axis, |value| value.is_some_and(|value| names.contains(&value.name)))
            }
            Self::Unset(axis) => space.atom(axis, |value| value.is_none()),
            Self::OnlyAxes(axes) => {
                let others = space.dims.iter().filter(|dim| !axes.contains(&dim.axis));
                Node::and(others.map(|dim| space.atom(&dim.axis, |value| value.is_none())))
            }
            Self::Not(inner) => Node::not(inner.compile_of(space, block)),
            Self::All(members) => Node::and(members.iter().map(|member| member.compile_of(space, block))),
            Self::Any(members) => Node::or(members.iter().map(|member| member.compile_of(space, block))),
            Self::Pick(pick) => Node::Pick(pick.clone()),
        }
    }
}

fn compile_ast(ast: &Ast, space: &Space, block: Option<&str>) -> Node {
    match ast {
        Ast::Constant(value) => Node::Constant(*value),
        Ast::Compare(comparison) => compile_comparison(comparison, space, block),
        Ast::Not(inner) => Node::not(compile_ast(inner, space, block)),
        Ast::And(members) => Node::and(members.iter().map(|member| compile_ast(member, space, block))),
        Ast::Or(members) => Node::or(members.iter().map(|member| compile_ast(member, space, block))),
    }
}

fn compile_comparison(comparison: &Comparison, space: &Space, block: Option<&str>) -> Node {
    if TEXT_NAMES.contains(&comparison.name.as_str()) {
        return Node::Pick(Pick::Text(Arc::new(comparison.clone())));
    }
    if comparison.subject() == "block" {
        return Node::Constant(comparison.holds(block.map(Value::from).as_ref()));
    }
    let dim = space.dims.iter().find(|dim| dim.axis == comparison.subject());
    let Some(dim) = dim else { return Node::Constant(comparison.holds(None)) };
    match comparison.fact() {
        None => space
            .atom(&dim.axis, |value| comparison.holds(value.map(|value| Value::String(value.name.clone())).as_ref())),
        Some(fact) => space.atom(&dim.axis, |value| comparison.holds(value.and_then(|value| value.facts.get(fact)))),
    }
}

impl Node {
    pub(super) fn not(inner: Self) -> Self {
        match inner {
            Self::Constant(value) => Self::Constant(!value),
            Self::Not(inner) => *inner,
            other => Self::Not(Box::new(other)),
        }
    }

    pub(super) fn and(members: impl IntoIterator<Item = Self>) -> Self {
        let mut kept = Vec::new();
        for member in members {
            match member {
                Self::Constant(false) => return Self::Constant(false),
                Self::Constant(true) => {}
                Self::And(inner) => kept.extend(inner),
                other => kept.push(other),
            }
        }
        match kept.len() {
            0 => Self::Constant(true),
            1 => kept.remove(0),
            _ => Self::And(kept),
        }
    }

    pub(super) fn or(members: impl IntoIterator<Item = Self>) -> Self {
        let mut kept = Vec::new();
        for member in members {
            match member {
                Self::Constant(true) => return Self::Constant(true),
                Self::Constant(false) => {}
                Self::Or(inner) => kept.extend(inner),
                other => kept.push(other),
            }
        }
        match kept.len() {
            0 => Self::Constant(false),
            1 => kept.remove(0),
            _ => Self::Or(kept),
        }
    }

    /// The dimensions that it is about.
    pub(super) fn dims(&self, space: &Space) -> Dims {
        match self {
            Self::Constant(_) => Dims::default(),
            Self::Atom(dim, _) => Dims::one(*dim),
            Self::Not(inner) => inner.dims(space),
            Self::And(members) | Self::Or(members) => {
                members.iter().fold(Dims::default(), |dims, member| dims.union(member.dims(space)))
            }
            Self::Pick(_) => Dims::all(space.dims.len()),
        }
    }

    /// Whether it holds for a row of which some dimensions may be unbound; `None` where these matter.
    pub(super) fn eval(&self, space: &Space, row: &[Index]) -> Option<bool> {
        match self {
            Self::Constant(value) => Some(*value),
            Self::Atom(dim, bits) => match row[*dim] {
                UNBOUND => None,
                index => Some(has_bit(bits, index)),
            },
            Self::Not(inner) => inner.eval(space, row).map(|value| !value),
            Self::And(members) => decide(members, space, row, false),
            Self::Or(members) => decide(members, space, row, true),
            Self::Pick(pick) => {
                if row.contains(&UNBOUND) {
                    None
                } else {
                    Some(pick.picks(space, row))
                }
            }
        }
    }

    /// Whether it holds for a row that is bound as far as it matters.
    pub(super) fn holds(&self, space: &Space, row: &[Index]) -> bool {
        self.eval(space, row) == Some(true)
    }

    /// For values `64 * word ..` of `dim`, which alone is unbound among what it is about: the bits
    /// of the values for which it holds, limited to `valid`.
    pub(super) fn mask(&self, space: &Space, row: &mut [Index], dim: usize, word: usize, valid: u64) -> u64 {
        match self {
            Self::Constant(value) => {
                if *value {
                    valid
                } else {
                    0
                }
            }
            Self::Atom(own, bits) if *own == dim => bits.get(word).copied().unwrap_or(0) & valid,
            Self::Atom(own, bits) => {
                if has_bit(bits, row[*own]) {
                    valid
                } else {
                    0
                }
            }
            Self::Not(inner) => valid & !inner.mask(space, row, dim, word, valid),
            Self::And(members) => {
                let mut left = valid;
                for member in members {
                    if left == 0 {
                        break;
                    }
                    left = member.mask(space, row, dim, word, left);
                }
                left
            }
            Self::Or(members) => {
                let mut found = 0;
                for member in members {
                    if found == valid {
                        break;
                    }
                    found |= member.mask(space, row, dim, word, valid & !found);
                }
                found
            }
            Self::Pick(pick) => {
                let (mut found, mut rest) = (0, valid);
                while rest != 0 {
                    let bit = rest.trailing_zeros();
                    rest &= rest - 1;
                    row[dim] = to_index(word * 64 + bit as usize);
                    if pick.picks(space, row) {
                        found |= 1 << bit;
                    }
                }
                row[dim] = UNBOUND;
                found
            }
        }
    }
}

/// `And` is decided by one false member, `Or` by one true member (`by`); otherwise by all.
fn decide(members: &[Node], space: &Space, row: &[Index], by: bool) -> Option<bool> {
    let mut open = false;
    for member in members {
        match member.eval(space, row) {
            Some(value) if value == by => return Some(by),
            Some(_) => {}
            None => open = true,
        }
    }
    if open { None } else { Some(!by) }
}

/// Dimensions have fewer than [`UNBOUND`] values.
pub(super) fn to_index(value: usize) -> Index {
    Index::try_from(value).unwrap_or(UNBOUND)
}
