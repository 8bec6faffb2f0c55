//! What the suites share: the history checker and the harness that drives real processes.

pub mod checker;
