//! Whether the disk has room: a write that would not fit is refused before it is tried, because a failed one stops the
//! store.

use std::path::Path;

use super::engine::FREE_BYTES_MIN;

/// What is answered when there is none.
pub(super) const NO_ROOM: &str = "the disk of the data folder is nearly full; nothing was written";

/// Whether there is room for another group. When the operating system does not say, writing is tried.
pub(super) fn has_room(folder: &Path) -> bool {
    match rustix::fs::statvfs(folder) {
        Ok(disk) => disk.f_bavail.saturating_mul(disk.f_frsize) >= FREE_BYTES_MIN,
        Err(error) => {
            tracing::warn!(%error, "cannot tell how much room the disk has");
            true
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::has_room;

    #[test]
    fn a_file_system_without_room_is_told_from_one_with() {
        let folder = tempfile::tempdir().expect("a folder");
        assert!(has_room(folder.path()));
        assert!(!has_room(Path::new("/proc")), "it has no blocks at all");
    }
}
