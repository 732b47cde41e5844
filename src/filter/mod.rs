//! The expression language of `when`, `exclude`, `applies` and `--filter`. L1.

/// A parsed expression with its text and spans.
#[derive(Debug, Clone)]
pub struct Expr {
    /// As written.
    pub text: String,
}
