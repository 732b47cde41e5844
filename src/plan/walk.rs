//! Counts the rows of a space without holding any: depth first over the dimensions, with every
//! condition dropped as soon as the values bound so far decide it. Where nothing is left to decide,
//! the rest of the product is multiplied out; where everything left is about one dimension, its
//! values are decided 64 at a time.

use super::condition::{Dims, Index, Node, UNBOUND, to_index};
use super::space::Space;

/// Most nodes that one walk visits: some seconds of work.
const MAX_NODES: u64 = 100_000_000;

/// What a condition does to the rows for which it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    /// They are no cases; counted under this number.
    Remove(usize),
    /// Only they are wanted.
    Keep,
    /// A capability is missing.
    Unsupported,
    /// This rule is about them.
    Rule(usize),
}

/// A condition and its effect.
pub(super) struct Constraint<'a> {
    pub(super) node: &'a Node,
    pub(super) effect: Effect,
}

/// What the walk needs to know of a rule.
#[derive(Debug, Clone, Copy)]
pub(super) struct RuleKind {
    /// It says that cases are not executed.
    pub(super) unsupported: bool,
}

/// Cases by what becomes of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Tally {
    pub(super) cases: u64,
    /// A capability is missing.
    pub(super) missing: u64,
    /// Not executed: a capability is missing, or a rule says so.
    pub(super) unsupported: u64,
    /// Executed, and a rule expects something else than a plain pass.
    pub(super) known: u64,
}

impl Tally {
    pub(super) fn add(&mut self, other: Self) {
        self.cases = self.cases.saturating_add(other.cases);
        self.missing = self.missing.saturating_add(other.missing);
        self.unsupported = self.unsupported.saturating_add(other.unsupported);
        self.known = self.known.saturating_add(other.known);
    }
}

/// What a walk found beside its tally.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Rows removed, by number of the constraint. A row is counted once, under the one that was
    /// decided first.
    pub(super) removed: Vec<u64>,
    /// Cases that each rule is about.
    pub(super) rule_cases: Vec<u64>,
    /// The same without those for which a capability is missing.
    pub(super) rule_live: Vec<u64>,
    /// Pairs of contradicting rules, each with one case that both are about.
    pub(super) conflicts: Vec<(usize, usize, Vec<Index>)>,
    /// The first row counted, when only one was asked for.
    pub(super) first: Option<Vec<Index>>,
}

/// The walk gave up: the space is too large to be counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TooLarge;

/// A walk over one space.
pub(super) struct Walk<'a> {
    space: &'a Space,
    constraints: &'a [Constraint<'a>],
    dims: Vec<Dims>,
    rules: &'a [RuleKind],
    /// Bit `j` of row `i`: rules `i` and `j` contradict each other, and no case was found yet.
    pending: Vec<Vec<u64>>,
    order: Vec<usize>,
    /// Dimensions from each depth on.
    remaining: Vec<Dims>,
    /// Rows below each depth, where no condition of applicability is left.
    free: Vec<Option<u64>>,
    row: Vec<Index>,
    /// Undecided constraints, a range per depth.
    open: Vec<u32>,
    /// Rules that hold for everything below.
    on_rules: Vec<usize>,
    only_first: bool,
    nodes: u64,
    found: Found,
}

/// What is decided for everything below a node.
#[derive(Debug, Clone, Copy, Default)]
struct On {
    missing: bool,
    unsupported: bool,
    known: bool,
}

impl<'a> Walk<'a> {
    pub(super) fn new(space: &'a Space, constraints: &'a [Constraint<'a>], rules: &'a [RuleKind]) -> Self {
        let dims: Vec<Dims> = constraints.iter().map(|constraint| constraint.node.dims(space)).collect();
        let mentioned = dims.iter().fold(Dims::default(), |all, dims| all.union(*dims));
        let order = order(space, mentioned);
        let mut remaining = vec![Dims::default(); order.len() + 1];
        let mut free = vec![Some(1); order.len() + 1];
        for depth in (0..order.len()).rev() {
            let dim = &space.dims[order[depth]];
            remaining[depth] = remaining[depth + 1].union(Dims::one(order[depth]));
            free[depth] = match dim.applies {
                Node::Constant(true) => free[depth + 1].map(|rows: u64| rows.saturating_mul(dim.values.len() as u64)),
                _ => None,
            };
        }
        let removes = constraints.iter().filter_map(|constraint| match constraint.effect {
            Effect::Remove(number) => Some(number + 1),
            _ => None,
        });
        Self {
            space,
            constraints,
            dims,
            rules,
            pending: Vec::new(),
            order,
            remaining,
            free,
            row: vec![UNBOUND; space.dims.len()],
            open: Vec::new(),
            on_rules: Vec::new(),
            only_first: false,
            nodes: 0,
            found: Found {
                removed: vec![0; removes.max().unwrap_or(0)],
                rule_cases: vec![0; rules.len()],
                rule_live: vec![0; rules.len()],
                ..Found::default()
            },
        }
    }

    /// Looks for a case of each of these contradicting pairs.
    pub(super) fn with_conflicts(mut self, pending: Vec<Vec<u64>>) -> Self {
        self.pending = pending;
        self
    }

    /// Stops at the first case.
    pub(super) fn only_first(mut self) -> Self {
        self.only_first = true;
        self
    }

    /// Walks.
    pub(super) fn run(mut self) -> Result<(Tally, Found), TooLarge> {
        self.open = (0..u32::try_from(self.constraints.len()).unwrap_or(u32::MAX)).collect();
        let tally = self.settle(0, 0, self.open.len(), None, On::default());
        if self.nodes >= MAX_NODES { Err(TooLarge) } else { Ok((tally, self.found)) }
    }

    fn done(&self) -> bool {
        self.nodes >= MAX_NODES || self.only_first && self.found.first.is_some()
    }

    /// Decides the constraints `from..to` of the stack as far as the value of `bound` (or, without
    /// one, nothing) lets it, and visits `depth` with the rest.
    fn settle(&mut self, depth: usize, from: usize, to: usize, bound: Option<usize>, mut on: On) -> Tally {
        let start = self.open.len();
        let rules_before = self.on_rules.len();
        for position in from..to {
            let number = self.open[position] as usize;
            let effect = self.constraints[number].effect;
            if effect == Effect::Unsupported && on.missing {
                continue;
            }
            if bound.is_some_and(|dim| !self.dims[number].has(dim)) {
                self.open.push(self.open[position]);
                continue;
            }
            match (self.constraints[number].node.eval(self.space, &self.row), effect) {
                (None, _) => self.open.push(self.open[position]),
                (Some(true), Effect::Keep)
                | (Some(false), Effect::Remove(_) | Effect::Unsupported | Effect::Rule(_)) => {}
                (Some(true), Effect::Unsupported) => on = On { missing: true, unsupported: true, ..on },
                (Some(true), Effect::Rule(rule)) => {
                    self.on_rules.push(rule);
                    on.unsupported |= self.rules[rule].unsupported;
                    on.known |= !self.rules[rule].unsupported;
                }
                (Some(false), Effect::Keep) => {
                    self.undo(start, rules_before);
                    return Tally::default();
                }
                (Some(true), Effect::Remove(reason)) => {
                    self.undo(start, rules_before);
                    let rows = self.raw(depth);
                    self.found.removed[reason] = self.found.removed[reason].saturating_add(rows);
                    return Tally::default();
                }
            }
        }
        let tally = self.visit(depth, start, self.open.len(), on);
        for position in rules_before..self.on_rules.len() {
            let rule = self.on_rules[position];
            self.count_rule(rule, tally.cases, tally.cases - tally.missing);
        }
        self.undo(start, rules_before);
        tally
    }

    fn undo(&mut self, open: usize, rules: usize) {
        self.open.truncate(open);
        self.on_rules.truncate(rules);
    }

    fn count_rule(&mut self, rule: usize, cases: u64, live: u64) {
        self.found.rule_cases[rule] = self.found.rule_cases[rule].saturating_add(cases);
        self.found.rule_live[rule] = self.found.rule_live[rule].saturating_add(live);
    }

    fn visit(&mut self, depth: usize, from: usize, to: usize, on: On) -> Tally {
        self.nodes += 1;
        if self.done() {
            return Tally::default();
        }
        let open =
            self.open[from..to].iter().fold(Dims::default(), |all, number| all.union(self.dims[*number as usize]));
        if from == to
            && let Some(rows) = self.rows_below(depth)
        {
            return self.bulk(rows, on);
        }
        let Some(dim) = self.order.get(depth).copied() else {
            // Every dimension is bound, so every constraint was decided.
            return Tally::default();
        };
        if self.space.dims[dim].applies.eval(self.space, &self.row) == Some(false) {
            return self.bind(depth, dim, self.space.unset(dim), from, to, on);
        }
        if open.within(self.bound(depth).union(Dims::one(dim)))
            && let Some(tail) = self.rows_below(depth + 1)
        {
            return self.decide_values(dim, tail, from, to, on);
        }
        let mut tally = Tally::default();
        for value in 0..self.space.dims[dim].values.len() {
            tally.add(self.bind(depth, dim, to_index(value), from, to, on));
            if self.done() {
                break;
            }
        }
        tally
    }

    /// Dimensions bound above a depth.
    fn bound(&self, depth: usize) -> Dims {
        self.space.all().without(self.remaining[depth])
    }

    fn bind(&mut self, depth: usize, dim: usize, value: Index, from: usize, to: usize, on: On) -> Tally {
        self.row[dim] = value;
        let tally = self.settle(depth + 1, from, to, Some(dim), on);
        self.row[dim] = UNBOUND;
        tally
    }

    /// Rows of the dimensions from a depth on, where the bound ones decide which of them apply.
    fn rows_below(&self, depth: usize) -> Option<u64> {
        if let Some(rows) = self.free[depth] {
            return Some(rows);
        }
        self.order[depth..].iter().try_fold(1_u64, |rows, dim| {
            let dim = &self.space.dims[*dim];
            let applies = dim.applies.eval(self.space, &self.row)?;
            Some(if applies { rows.saturating_mul(dim.values.len() as u64) } else { rows })
        })
    }

    /// Rows from a depth on, whatever it takes.
    fn raw(&mut self, depth: usize) -> u64 {
        if let Some(rows) = self.rows_below(depth) {
            return rows;
        }
        self.nodes += 1;
        if self.done() {
            return 0;
        }
        let dim = self.order[depth];
        let applies = self.space.dims[dim].applies.eval(self.space, &self.row) != Some(false);
        let values = if applies { 0..self.space.unset(dim) } else { self.space.unset(dim)..self.space.unset(dim) + 1 };
        let mut rows = 0_u64;
        for value in values {
            self.row[dim] = value;
            rows = rows.saturating_add(self.raw(depth + 1));
        }
        self.row[dim] = UNBOUND;
        rows
    }

    /// Nothing is left to decide for these rows.
    fn bulk(&mut self, rows: u64, on: On) -> Tally {
        self.note_first(|_| {});
        if !on.missing {
            for position in 1..self.on_rules.len() {
                for other in 0..position {
                    self.note_conflict(self.on_rules[position], self.on_rules[other], |_| {});
                }
            }
        }
        let some = |yes: bool| if yes { rows } else { 0 };
        Tally {
            cases: rows,
            missing: some(on.missing),
            unsupported: some(on.unsupported),
            known: some(on.known && !on.unsupported),
        }
    }

    /// Everything that is left to decide is about `dim`; every value of it stands for `tail` rows.
    fn decide_values(&mut self, dim: usize, tail: u64, from: usize, to: usize, on: On) -> Tally {
        let mut tally = Tally::default();
        let count = self.space.dims[dim].values.len();
        // Rules with some value here: number and values.
        let mut matching: Vec<(usize, u64)> = Vec::new();
        for word in 0..count.div_ceil(64) {
            let width = (count - word * 64).min(64);
            let mut cases = if width == 64 { u64::MAX } else { (1 << width) - 1 };
            let rows = |values: u64| u64::from(values.count_ones()).saturating_mul(tail);
            for position in from..to {
                let constraint = &self.constraints[self.open[position] as usize];
                match constraint.effect {
                    Effect::Remove(reason) => {
                        let removed = constraint.node.mask(self.space, &mut self.row, dim, word, cases);
                        self.found.removed[reason] = self.found.removed[reason].saturating_add(rows(removed));
                        cases &= !removed;
                    }
                    Effect::Keep => cases = constraint.node.mask(self.space, &mut self.row, dim, word, cases),
                    Effect::Unsupported | Effect::Rule(_) => {}
                }
            }
            if cases == 0 {
                continue;
            }
            let mut missing = if on.missing { cases } else { 0 };
            matching.clear();
            for position in from..to {
                let constraint = &self.constraints[self.open[position] as usize];
                match constraint.effect {
                    Effect::Unsupported => {
                        missing |= constraint.node.mask(self.space, &mut self.row, dim, word, cases & !missing);
                    }
                    Effect::Rule(rule) => {
                        let values = constraint.node.mask(self.space, &mut self.row, dim, word, cases);
                        if values != 0 {
                            matching.push((rule, values));
                        }
                    }
                    Effect::Remove(_) | Effect::Keep => {}
                }
            }
            let mut unsupported = missing | if on.unsupported { cases } else { 0 };
            let mut known = if on.known { cases } else { 0 };
            for (rule, values) in &matching {
                if self.rules[*rule].unsupported {
                    unsupported |= values;
                } else {
                    known |= values;
                }
                self.count_rule(*rule, rows(*values), rows(values & !missing));
            }
            tally.add(Tally {
                cases: rows(cases),
                missing: rows(missing),
                unsupported: rows(unsupported),
                known: rows(known & !unsupported),
            });
            let bind = |values: u64| {
                move |row: &mut [Index]| row[dim] = to_index(word * 64 + values.trailing_zeros() as usize)
            };
            self.note_first(bind(cases));
            self.note_conflicts(&matching, cases & !missing, bind);
        }
        tally
    }

    fn note_conflicts<B: Fn(&mut [Index])>(&mut self, matching: &[(usize, u64)], live: u64, bind: impl Fn(u64) -> B) {
        if self.pending.is_empty() || live == 0 {
            return;
        }
        for (position, (rule, values)) in matching.iter().enumerate() {
            let values = values & live;
            if values == 0 {
                continue;
            }
            for (other, others) in &matching[..position] {
                if values & others != 0 {
                    self.note_conflict(*rule, *other, bind(values & others));
                }
            }
            for position in 0..self.on_rules.len() {
                self.note_conflict(*rule, self.on_rules[position], bind(values));
            }
        }
        for position in 1..self.on_rules.len() {
            for other in 0..position {
                self.note_conflict(self.on_rules[position], self.on_rules[other], bind(live));
            }
        }
    }

    fn note_conflict(&mut self, a: usize, b: usize, bind: impl Fn(&mut [Index])) {
        let (a, b) = (a.min(b), a.max(b));
        let Some(word) = self.pending.get_mut(a).and_then(|row| row.get_mut(b / 64)) else { return };
        if *word >> (b % 64) & 1 == 1 {
            *word &= !(1 << (b % 64));
            let row = self.sample(bind);
            self.found.conflicts.push((a, b, row));
        }
    }

    fn note_first(&mut self, bind: impl Fn(&mut [Index])) {
        if self.only_first && self.found.first.is_none() {
            self.found.first = Some(self.sample(bind));
        }
    }

    /// A whole row of those that are being counted.
    fn sample(&self, bind: impl Fn(&mut [Index])) -> Vec<Index> {
        let mut row = self.row.clone();
        bind(&mut row);
        self.space.complete(&mut row);
        row
    }
}

/// The order in which the walk binds dimensions: after those that their applicability is about;
/// then those with one value, then small before large (the last one is decided 64 values at a
/// time), and those that no condition is about at the end, where they are multiplied out.
fn order(space: &Space, mentioned: Dims) -> Vec<usize> {
    let needs: Vec<Dims> = space.dims.iter().map(|dim| dim.applies.dims(space)).collect();
    let mentioned = needs.iter().fold(mentioned, |all, dims| all.union(*dims));
    let mut order = Vec::with_capacity(space.dims.len());
    let mut bound = Dims::default();
    while order.len() < space.dims.len() {
        let next = (0..space.dims.len())
            .filter(|dim| !bound.has(*dim) && needs[*dim].within(bound))
            .min_by_key(|dim| (!mentioned.has(*dim), space.dims[*dim].values.len(), *dim));
        // Spaces order their dimensions by applicability, so there always is one.
        let Some(next) = next else { break };
        bound = bound.union(Dims::one(next));
        order.push(next);
    }
    order
}
