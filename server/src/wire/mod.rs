//! Between proto and domain, both ways; all input validation.

pub mod entry;
