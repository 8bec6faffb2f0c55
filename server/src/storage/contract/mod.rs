//! Contract suites: one per trait, run against every implementation.
