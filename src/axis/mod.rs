//! The table of built-in axes. L1. One file per entry, one line here.
pub mod values;
