//! File descriptors: connections never take those that the store needs.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Descriptors kept for everything but connections: 900 table files that the log keeps open, its journals, the pools of
/// the directory with three files each, the listeners, and room to accept and refuse.
const RESERVE: u64 = 1_100;

/// Raises the process's limit of descriptors as far as it may go, and returns how many of the wanted connections there
/// is room for beside the store and so many connections that are not of clients: at least one.
#[must_use]
pub fn room_for_connections(wanted: usize, others: usize) -> usize {
    let limit = raise();
    let room = room(limit, wanted, others);
    if room < wanted {
        tracing::warn!(
            wanted,
            room,
            limit,
            "the limit of file descriptors (ulimit -n) leaves room for fewer connections"
        );
    }
    room
}

/// Without the right or the need to raise it, the limit stays.
fn raise() -> Option<u64> {
    let before = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: before.maximum,
        maximum: before.maximum,
    };
    if before.current != before.maximum && setrlimit(Resource::Nofile, raised).is_err() {
        tracing::debug!(limit = before.current, "the limit of file descriptors was not raised");
    }
    getrlimit(Resource::Nofile).current
}

/// `None` is no limit. A small limit is shared by halves: the log then opens its files again and again.
fn room(limit: Option<u64>, wanted: usize, others: usize) -> usize {
    let Some(limit) = limit else {
        return wanted;
    };
    let reserve = RESERVE.saturating_add(u64::try_from(others).unwrap_or(u64::MAX));
    let room = limit - reserve.min(limit / 2);
    wanted.min(usize::try_from(room).unwrap_or(usize::MAX)).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_store_keeps_its_descriptors() {
        assert_eq!(room(None, 10_000, 0), 10_000);
        assert_eq!(room(Some(1_000_000), 10_000, 0), 10_000);
        assert_eq!(room(Some(10_000), 10_000, 0), 8_900);
        assert_eq!(room(Some(10_000), 10_000, 2_000), 6_900);
        assert_eq!(room(Some(1_024), 10_000, 0), 512);
        assert_eq!(room(Some(0), 10_000, usize::MAX), 1);
    }

    #[test]
    fn the_limit_is_as_high_as_it_may_be() {
        let room = room_for_connections(1, 0);
        let limit = getrlimit(Resource::Nofile);
        assert_eq!((room, limit.current), (1, limit.maximum));
    }
}
