//! Cases whose peers are still being built or probed. They are looked through when a peer has
//! changed and at no other time: a run may have a hundred thousand of them.

use std::collections::VecDeque;

/// The queue, in plan order.
pub(super) struct Waiting<T> {
    pending: VecDeque<T>,
    due: VecDeque<T>,
    /// The number of changes of peers that has been looked at.
    looked: u64,
}

impl<T> Waiting<T> {
    /// Empty; `changes` is how often peers have changed so far.
    pub(super) fn new(changes: u64) -> Self {
        Self { pending: VecDeque::new(), due: VecDeque::new(), looked: changes }
    }

    /// Puts one aside until its peers are there.
    pub(super) fn push(&mut self, case: T) {
        self.pending.push_back(case);
    }

    /// Sorts out those that need not wait any longer, if peers have changed since the last look.
    /// A number and no notification, so that a change is seen whoever was woken by it.
    pub(super) fn look(&mut self, changes: u64, is_pending: impl Fn(&T) -> bool) {
        if self.looked == changes {
            return;
        }
        self.looked = changes;
        for case in std::mem::take(&mut self.pending) {
            let queue = if is_pending(&case) { &mut self.pending } else { &mut self.due };
            queue.push_back(case);
        }
    }

    /// The next one that need not wait.
    pub(super) fn next(&mut self) -> Option<T> {
        self.due.pop_front()
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.pending.len() + self.due.len()
    }

    /// All of them, those that need not wait first.
    pub(super) fn into_all(self) -> impl Iterator<Item = T> {
        self.due.into_iter().chain(self.pending)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn only_a_change_makes_it_look_and_order_is_kept() {
        let asked = Cell::new(0_u32);
        let mut waiting = Waiting::new(0);
        (0..1000).for_each(|n| waiting.push(n));
        let odd_are_pending = |n: &i32| {
            asked.set(asked.get() + 1);
            n % 2 == 1
        };
        waiting.look(0, odd_are_pending);
        assert_eq!((asked.get(), waiting.next()), (0, None));
        for _ in 0..1000 {
            waiting.look(1, odd_are_pending);
        }
        assert_eq!(asked.get(), 1000, "each is asked about once per change");
        assert_eq!((waiting.next(), waiting.next(), waiting.len()), (Some(0), Some(2), 998));
        waiting.push(1000);
        waiting.look(2, |_| false);
        let rest: Vec<_> = waiting.into_all().collect();
        assert_eq!((rest[0], rest[498], rest.len()), (4, 1, 999), "those due first, each in the order of the plan");
        assert_eq!(rest.last(), Some(&1000));
    }
}
