//! Rules that a test takes away from the running server, to see that the history checker says which promise broke.

/// Whether a rule is in force. It always is, except that with the feature `sabotage` the environment variable
/// `STONECHAT_WITHOUT` names, separated by commas, rules that are not.
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

#[cfg(feature = "sabotage")]
mod removed {
    use std::sync::OnceLock;

    static REMOVED: OnceLock<Vec<String>> = OnceLock::new();

    pub(super) fn names(name: &str) -> bool {
        REMOVED
            .get_or_init(from_environment)
            .iter()
            .any(|removed| removed == name)
    }

    fn from_environment() -> Vec<String> {
        let list = std::env::var("STONECHAT_WITHOUT").unwrap_or_default();
        list.split(',').map(str::to_owned).collect()
    }
}
