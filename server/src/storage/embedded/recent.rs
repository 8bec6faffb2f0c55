//! Rows that the writer read not long ago, with their newest values.
//!
//! A job reads most rows that it writes: heads, marks of fan-out, registers, inbox rows. In a conversation that is going
//! on these are the same ones, message after message, and to look them up in the engine was two thirds of the writer's
//! time. Nobody else writes, so what is here is what is stored.

use std::collections::HashMap;

use fjall::Slice;

use super::keys::Space;

/// Rows of one generation: those of a few thousand conversations that are going on, some 3 MB.
const GENERATION_ROWS: usize = 16_384;

/// `None`: there is no such row.
type Rows = HashMap<Slice, Option<Slice>>;

/// Two generations: a row that is not asked for while the young one fills is forgotten.
#[derive(Default)]
pub(super) struct Recent {
    young: [Rows; 3],
    old: [Rows; 3],
}

impl Recent {
    pub(super) fn get(&mut self, space: Space, key: &[u8]) -> Option<Option<Slice>> {
        if let Some(value) = self.young[space as usize].get(key) {
            return Some(value.clone());
        }
        let (key, value) = self.old[space as usize].remove_entry(key)?;
        self.remember(space, key, value.clone());
        Some(value)
    }

    /// Keeps what the engine has.
    pub(super) fn remember(&mut self, space: Space, key: Slice, value: Option<Slice>) {
        if self.young.iter().map(Rows::len).sum::<usize>() >= GENERATION_ROWS {
            self.old = std::mem::take(&mut self.young);
        }
        self.young[space as usize].insert(key, value);
    }

    /// A row has been written: whoever remembers it has the new value.
    pub(super) fn written(&mut self, space: Space, key: &Slice, value: Option<&Slice>) {
        for rows in [&mut self.young, &mut self.old] {
            if let Some(known) = rows[space as usize].get_mut(key) {
                *known = value.cloned();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use fjall::Slice;

    use super::{GENERATION_ROWS, Recent};
    use crate::storage::embedded::keys::Space;

    fn slice(number: usize) -> Slice {
        Slice::from(number.to_be_bytes())
    }

    #[test]
    fn a_row_has_its_newest_value_in_whichever_generation_it_is() {
        let mut recent = Recent::default();
        recent.remember(Space::Index, slice(1), None);
        for other in 2..GENERATION_ROWS + 2 {
            recent.remember(Space::Users, slice(other), None);
        }
        recent.written(Space::Index, &slice(1), Some(&slice(7)));
        assert_eq!(recent.get(Space::Index, &slice(1)), Some(Some(slice(7))));
        recent.written(Space::Index, &slice(1), None);
        assert_eq!(recent.get(Space::Index, &slice(1)), Some(None));
    }

    #[test]
    fn what_is_not_asked_for_is_forgotten() {
        let mut recent = Recent::default();
        recent.remember(Space::Index, slice(0), None);
        recent.remember(Space::Index, slice(1), None);
        for other in 2..2 * GENERATION_ROWS + 2 {
            recent.remember(Space::Users, slice(other), None);
            assert!(recent.get(Space::Index, &slice(1)).is_some());
        }
        assert_eq!(recent.get(Space::Index, &slice(0)), None);
        let rows = [&recent.young, &recent.old].into_iter().flatten();
        assert!(rows.map(super::Rows::len).sum::<usize>() <= 2 * GENERATION_ROWS);
    }

    #[test]
    fn a_write_of_what_nobody_read_is_not_kept() {
        let mut recent = Recent::default();
        recent.written(Space::Users, &slice(1), Some(&slice(2)));
        assert_eq!(recent.get(Space::Users, &slice(1)), None);
    }
}
