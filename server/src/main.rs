//! The `stonechat` binary: arguments in, exit code out.

fn main() -> std::process::ExitCode {
    stonechat_server::cli::run()
}
