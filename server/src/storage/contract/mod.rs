//! Contract suites: one per trait, run against every implementation.

#[cfg(test)]
pub(crate) mod directory;
