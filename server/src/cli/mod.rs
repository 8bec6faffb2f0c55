//! The command line.

/// Runs the command in the process's arguments.
#[must_use]
pub fn run() -> std::process::ExitCode {
    std::process::ExitCode::SUCCESS
}
