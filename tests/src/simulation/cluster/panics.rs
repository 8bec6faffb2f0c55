//! Panics of tasks, which a runtime swallows: a run in which the server panicked is not clean.

use std::cell::Cell;
use std::sync::Once;

thread_local! {
    static SEEN: Cell<u64> = const { Cell::new(0) };
}

static HOOK: Once = Once::new();

/// How many panics this thread has seen since it first asked.
pub(super) fn seen() -> u64 {
    HOOK.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            SEEN.with(|seen| seen.set(seen.get() + 1));
            before(info);
        }));
    });
    SEEN.with(Cell::get)
}
