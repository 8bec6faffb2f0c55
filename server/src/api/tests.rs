//! Tests of access, statuses and the guard.
