//! Named places where a test kills the process, to see what a crash there loses.

/// Dies here, without destructors or flushes, when the environment variable `STONECHAT_CRASH_AT` says `name:n` and this
/// is the n-th time (1 when `:n` is left out) that the process passes `name`. Does nothing without the feature `crash-points`.
#[inline]
pub fn crash_point(name: &str) {
    #[cfg(feature = "crash-points")]
    armed::pass(name);
    #[cfg(not(feature = "crash-points"))]
    let _ = name;
}

#[cfg(feature = "crash-points")]
mod armed {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    struct Armed {
        name: String,
        passes_left: AtomicU64,
    }

    static ARMED: OnceLock<Option<Armed>> = OnceLock::new();

    pub(super) fn pass(name: &str) {
        let Some(armed) = ARMED.get_or_init(from_environment) else {
            return;
        };
        if armed.name == name && armed.passes_left.fetch_sub(1, Ordering::Relaxed) == 1 {
            std::process::abort();
        }
    }

    fn from_environment() -> Option<Armed> {
        let wanted = std::env::var("STONECHAT_CRASH_AT").ok()?;
        let (name, count) = wanted.rsplit_once(':').unwrap_or((&wanted, "1"));
        Some(Armed {
            name: name.to_owned(),
            passes_left: AtomicU64::new(count.parse().ok()?),
        })
    }
}
