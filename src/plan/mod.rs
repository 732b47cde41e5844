//! Turns a resolved scenario into cases. Pure. L2.
