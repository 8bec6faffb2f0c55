//! The `stonechat` binary with its crash points compiled in, for the suites that kill it.

fn main() -> std::process::ExitCode {
    stonechat_server::cli::run()
}
