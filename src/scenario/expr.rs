//! Expressions of a scenario: parsed where they stand, checked at the end, when every peer, axis
//! and script is known.

use std::sync::Arc;

use super::decode::Sink;
use super::yaml::Node;
use crate::filter::{self, Domain, Expr};

/// Expressions that wait for their check.
#[derive(Default)]
pub(super) struct Pending {
    /// May be about ids and keys of cases.
    with_case: Vec<Arc<Expr>>,
    /// Conditions that are evaluated before there are cases.
    without_case: Vec<Arc<Expr>>,
}

impl Pending {
    /// Reads an expression; `case` says whether it may be about ids and keys of cases.
    pub(super) fn read(&mut self, sink: &mut Sink, node: &Node, what: &str, case: bool) -> Option<Arc<Expr>> {
        let text = sink.text(node, what)?;
        let scalar = sink.scalar(node, what)?;
        let parsed = match scalar.offset {
            Some(offset) => filter::parse(node.span.source, offset, &text.value),
            None => filter::parse_at(node.span, &text.value),
        };
        match parsed {
            Ok(expr) => {
                let expr = Arc::new(expr);
                let list = if case { &mut self.with_case } else { &mut self.without_case };
                list.push(Arc::clone(&expr));
                Some(expr)
            }
            Err(problems) => {
                sink.extend(problems);
                None
            }
        }
    }

    /// Checks all of them.
    pub(super) fn check(&self, sink: &mut Sink, domain: &Domain) {
        self.with_case.iter().for_each(|expr| sink.extend(expr.check(domain)));
        let domain = domain.clone().without_case();
        self.without_case.iter().for_each(|expr| sink.extend(expr.check(&domain)));
    }
}
