//! Rules that a test takes away from the running server, to see that the history checker says which promise broke.

/// Whether a rule is in force. It always is, except that with the feature `sabotage` the environment variable
/// `STONECHAT_WITHOUT` names, separated by commas, rules that are not, and a simulation names one with [`without`].
#[inline]
#[must_use]
pub fn rule_holds(name: &str) -> bool {
    #[cfg(feature = "sabotage")]
    return !removed::names(name);
    #[cfg(not(feature = "sabotage"))]
    {
        let _ = name;
        true
    }
}

/// Gives a test the time to kill the process at this place. Only to be called where a rule does not hold.
pub fn linger() {
    #[allow(
        clippy::disallowed_methods,
        reason = "nothing announces that a test is about to kill the process"
    )]
    #[cfg(feature = "sabotage")]
    std::thread::sleep(std::time::Duration::from_millis(200));
}

/// Plays something that runs on this thread alone without a rule.
#[cfg(feature = "sabotage")]
pub fn without<T>(rule: &'static str, play: impl FnOnce() -> T) -> T {
    let before = removed::HERE.replace(Some(rule));
    let played = play();
    removed::HERE.set(before);
    played
}

#[cfg(feature = "sabotage")]
mod removed {
    use std::cell::Cell;
    use std::sync::OnceLock;

    static REMOVED: OnceLock<Vec<String>> = OnceLock::new();

    thread_local! {
        pub(super) static HERE: Cell<Option<&'static str>> = const { Cell::new(None) };
    }

    pub(super) fn names(name: &str) -> bool {
        let removed = REMOVED.get_or_init(from_environment);
        HERE.get() == Some(name) || removed.iter().any(|removed| removed == name)
    }

    fn from_environment() -> Vec<String> {
        let list = std::env::var("STONECHAT_WITHOUT").unwrap_or_default();
        list.split(',').map(str::to_owned).collect()
    }
}
