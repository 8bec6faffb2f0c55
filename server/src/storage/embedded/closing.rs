//! The end of the engine, which must not hold up the end of the process.

use std::sync::mpsc;
use std::time::Duration;

/// What is closed when this is dropped, on a thread of its own that is waited for, but not for ever: the engine's close has been
/// seen never to return (fjall issue 260), and everything that was written is durable by then.
pub(super) struct Closing<T: Send + 'static> {
    what: Option<T>,
    within: Duration,
}

impl<T: Send + 'static> Closing<T> {
    pub(super) fn new(what: T, within: Duration) -> Self {
        Self {
            what: Some(what),
            within,
        }
    }
}

impl<T: Send + 'static> Drop for Closing<T> {
    fn drop(&mut self) {
        let Some(what) = self.what.take() else { return };
        let (done, closed) = mpsc::channel::<()>();
        let close = move || {
            drop(what);
            drop(done);
        };
        let closing = std::thread::Builder::new().name("closing".to_owned()).spawn(close);
        // Where there is no thread to be had it was closed here.
        if closing.is_ok() && closed.recv_timeout(self.within) == Err(mpsc::RecvTimeoutError::Timeout) {
            tracing::error!(
                within = ?self.within,
                "the engine does not close; nothing is lost, and its folder is free once this process ends"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use stonechat_host::monotonic;

    use super::*;

    /// Closes when it is told to.
    struct Slow(mpsc::Receiver<()>, mpsc::Sender<&'static str>);

    impl Drop for Slow {
        fn drop(&mut self) {
            let _told = self.0.recv();
            self.1.send("closed").expect("heard");
        }
    }

    fn slow() -> (mpsc::Sender<()>, mpsc::Receiver<&'static str>, Slow) {
        let (tell, told) = mpsc::channel();
        let (says, said) = mpsc::channel();
        (tell, said, Slow(told, says))
    }

    #[test]
    fn what_closes_is_waited_for() {
        let (tell, said, slow) = slow();
        drop(tell);
        drop(Closing::new(slow, Duration::from_secs(60)));
        assert_eq!(said.try_recv(), Ok("closed"));
    }

    /// A process that was told to end ends.
    #[test]
    fn what_never_closes_is_not_waited_for_longer() {
        let (tell, said, slow) = slow();
        let begun = monotonic();
        drop(Closing::new(slow, Duration::from_millis(50)));
        assert!(begun.elapsed() < Duration::from_secs(30));
        assert!(said.try_recv().is_err(), "it still closes");
        drop(tell);
        assert_eq!(said.recv(), Ok("closed"));
    }
}
