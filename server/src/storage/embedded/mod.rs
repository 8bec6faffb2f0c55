//! The embedded backends: fjall for log and markers, SQLite for the directory.

pub mod directory;
