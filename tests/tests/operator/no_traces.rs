//! A binary that was built without traces.

use stonechat_tests::harness::{Exit, ServerProcess};

/// A binary without traces says so instead of sending none.
#[tokio::test]
async fn traces_that_are_not_built_in_are_refused() {
    let mut process = ServerProcess::prepare(&["--otlp-endpoint", "http://127.0.0.1:4317"]);
    process.spawn(None);
    assert_eq!(process.wait().await, Exit::Code(2));
    assert!(process.log_tail().contains("--features otlp"), "{}", process.log_tail());
}
