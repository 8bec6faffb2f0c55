//! Lines of standard input.

use std::io::BufRead;

use tokio::sync::mpsc;

use crate::cli::failure::Failure;

/// Lines read ahead of what was sent: enough to keep a pipe busy.
const LINES_MAX: usize = 64;

/// Reads on a thread of its own: nothing can interrupt a read of a terminal, and the process must end all the same.
pub(super) struct Input(mpsc::Receiver<String>);

impl Input {
    pub(super) fn start() -> Result<Self, Failure> {
        let (lines, taken) = mpsc::channel(LINES_MAX);
        std::thread::Builder::new().name("stdin".to_owned()).spawn(move || {
            for line in std::io::stdin().lock().lines() {
                let Ok(line) = line else { break };
                if lines.blocking_send(line).is_err() {
                    break;
                }
            }
        })?;
        Ok(Self(taken))
    }

    /// The next line; `None` at the end of the input.
    pub(super) async fn next(&mut self) -> Option<String> {
        self.0.recv().await
    }
}
