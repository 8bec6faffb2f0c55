//! Rows that the writer read not long ago, with their newest values.
//!
//! A job reads most rows that it writes: heads, marks of fan-out, registers, inbox rows. In a conversation that is going
//! on these are the same ones, message after message, and to look them up in the engine was two thirds of the writer's
//! time. Nobody else writes, so what is here is what is stored.

use fjall::Slice;
use quick_cache::unsync::Cache;

use super::keys::Space;

/// Rows of one keyspace: those of some thousand conversations that are going on, a few MB.
const ROWS_MAX: usize = 16_384;

/// `None`: there is no such row.
type Rows = Cache<Slice, Option<Slice>>;

pub(super) struct Recent {
    rows: [Rows; 3],
}

impl Default for Recent {
    fn default() -> Self {
        Self {
            rows: std::array::from_fn(|_| Rows::new(ROWS_MAX)),
        }
    }
}

impl Recent {
    pub(super) fn get(&self, space: Space, key: &[u8]) -> Option<Option<Slice>> {
        self.rows[space as usize].get(key).cloned()
    }

    /// Keeps what the engine has.
    pub(super) fn remember(&mut self, space: Space, key: Slice, value: Option<Slice>) {
        self.rows[space as usize].insert(key, value);
    }

    /// A row has been written: whoever remembers it has the new value.
    pub(super) fn written(&mut self, space: Space, key: &Slice, value: Option<&Slice>) {
        if let Some(mut known) = self.rows[space as usize].get_mut(key) {
            *known = value.cloned();
        }
    }
}

#[cfg(test)]
mod tests {
    use fjall::Slice;

    use super::{ROWS_MAX, Recent};
    use crate::storage::embedded::keys::Space;

    fn slice(number: usize) -> Slice {
        Slice::from(number.to_be_bytes())
    }

    #[test]
    fn a_row_that_is_remembered_has_its_newest_value() {
        let mut recent = Recent::default();
        recent.remember(Space::Index, slice(1), None);
        recent.written(Space::Index, &slice(1), Some(&slice(7)));
        assert_eq!(recent.get(Space::Index, &slice(1)), Some(Some(slice(7))));
        assert_eq!(recent.get(Space::Users, &slice(1)), None);
        recent.written(Space::Index, &slice(1), None);
        assert_eq!(recent.get(Space::Index, &slice(1)), Some(None));
    }

    #[test]
    fn i9_what_is_remembered_is_bounded() {
        let mut recent = Recent::default();
        for number in 0..4 * ROWS_MAX {
            recent.remember(Space::Index, slice(number), None);
        }
        let known = (0..4 * ROWS_MAX).filter(|number| recent.get(Space::Index, &slice(*number)).is_some());
        assert!((1..=ROWS_MAX).contains(&known.count()));
    }

    #[test]
    fn a_write_of_what_nobody_read_is_not_kept() {
        let mut recent = Recent::default();
        recent.written(Space::Users, &slice(1), Some(&slice(2)));
        assert_eq!(recent.get(Space::Users, &slice(1)), None);
    }
}
