//! Goes through the cases of a plan in order, holding one row.

use super::condition::{Condition, Index, Node, UNBOUND};
use super::select::Selection;
use super::space::Space;
use super::{Case, Plan};

/// The selected cases of a plan, in plan order. Memory does not grow with their number.
#[derive(Debug)]
pub struct Cases {
    plan: Plan,
    wanted: Condition,
    /// The space that is gone through, with the selection compiled for it.
    space: usize,
    keep: Node,
    rows: Rows,
    /// Cases passed so far, selected or not.
    index: u64,
}

impl Cases {
    pub(super) fn new(plan: Plan, selection: &Selection) -> Self {
        let wanted = selection.condition();
        let mut cases = Self { plan, wanted, space: 0, keep: Node::Constant(true), rows: Rows::default(), index: 0 };
        cases.start();
        cases
    }

    fn start(&mut self) {
        if let Some(space) = self.plan.inner.spaces.get(self.space) {
            self.keep = self.wanted.compile(space);
            self.rows = Rows::new(space);
        }
    }
}

impl Iterator for Cases {
    type Item = Case;

    fn next(&mut self) -> Option<Case> {
        loop {
            let space = self.plan.inner.spaces.get(self.space)?;
            while let Some(row) = self.rows.next(space) {
                let index = self.index;
                self.index += 1;
                if self.keep.holds(space, row) {
                    return Some(Case::new(index, self.space, row));
                }
            }
            self.space += 1;
            self.start();
        }
    }
}

/// The rows of a space that no constraint removes: an odometer that leaves a branch as soon as a
/// constraint is decided against it.
#[derive(Debug, Default)]
struct Rows {
    row: Vec<Index>,
    /// One per bound dimension.
    levels: Vec<Level>,
    /// Numbers of the constraints that are not decided yet, a range per level.
    open: Vec<u32>,
}

#[derive(Debug, Clone, Copy)]
struct Level {
    /// Values still to come.
    next: Index,
    end: Index,
    /// The constraints that the levels above left open.
    open: (usize, usize),
}

impl Rows {
    fn new(space: &Space) -> Self {
        let mut rows = Self { row: vec![UNBOUND; space.dims.len()], ..Self::default() };
        for (number, remove) in (0_u32..).zip(&space.removes) {
            match remove.node.eval(space, &rows.row) {
                Some(false) => {}
                // It removes everything: no level, no row.
                Some(true) => return rows,
                None => rows.open.push(number),
            }
        }
        rows.enter(space, (0, rows.open.len()));
        rows
    }

    fn enter(&mut self, space: &Space, open: (usize, usize)) {
        let dim = self.levels.len();
        let unset = space.unset(dim);
        let applies = space.dims[dim].applies.eval(space, &self.row) != Some(false);
        let (next, end) = if applies { (0, unset) } else { (unset, unset + 1) };
        self.levels.push(Level { next, end, open });
    }

    fn next(&mut self, space: &Space) -> Option<&[Index]> {
        while let Some(level) = self.levels.last_mut() {
            let Level { next, end, open } = *level;
            level.next = next.saturating_add(1);
            let depth = self.levels.len() - 1;
            if next >= end {
                self.levels.pop();
                self.row[depth] = UNBOUND;
                continue;
            }
            self.row[depth] = next;
            if !self.stands(space, open) {
                continue;
            }
            if depth + 1 == space.dims.len() {
                return Some(&self.row);
            }
            self.enter(space, (open.1, self.open.len()));
        }
        None
    }

    /// Whether no constraint removes everything below; what stays open is left on the stack.
    fn stands(&mut self, space: &Space, open: (usize, usize)) -> bool {
        self.open.truncate(open.1);
        for position in open.0..open.1 {
            let number = self.open[position];
            match space.removes[number as usize].node.eval(space, &self.row) {
                Some(true) => return false,
                Some(false) => {}
                None => self.open.push(number),
            }
        }
        true
    }
}
