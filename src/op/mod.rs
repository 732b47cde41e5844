//! The table of ops, one file per entry. L1.
