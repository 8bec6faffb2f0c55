//! Contract suites: one per trait, run against every implementation. A backend joins with one line each:
//! `message_log_contract!(name, factory)` and `markers_contract!(name, factory)`.
//!
//! `factory` is an async closure that gives a fresh store as `(Arc<dyn Trait>, guard)`; the guard (a folder, a server) is
//! dropped after the store. It may give an `Option` of that: `None` where the service it needs is not there.

pub(crate) mod directory;
pub(crate) mod doubled_log;
pub(crate) mod hooked_markers;
pub(crate) mod log;
pub(crate) mod log_redaction;
pub(crate) mod markers;
pub(crate) mod markers_inbox;
pub(crate) mod samples;
pub(crate) mod services;

/// Runs one async test function per name against a fresh store each.
#[macro_export]
macro_rules! contract_tests {
    ($factory:expr; $($suite:ident: $($test:ident)*;)*) => {
        $($(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                let factory = $factory;
                let made: Option<(_, _)> = factory().await.into();
                // A service that is not there was named as skipped.
                if let Some((store, _guard)) = made {
                    $crate::storage::contract::$suite::$test(store).await;
                }
            }
        )*)*
    };
}

/// The suite of `MessageLog`, as tests of a module `name`.
#[macro_export]
macro_rules! message_log_contract {
    ($name:ident, $factory:expr) => {
        mod $name {
            use super::*;
            $crate::contract_tests!($factory;
                log:
                    an_empty_log_has_nothing
                    an_append_stores_everything_together
                    a_stale_head_is_a_conflict_and_changes_nothing
                    a_taken_id_is_a_conflict_and_nothing_of_the_batch_is_stored
                    an_id_twice_in_one_batch_is_a_conflict
                    ids_are_apart_per_user_device_and_conversation
                    an_id_is_found_for_ever
                    a_batch_that_contradicts_itself_is_not_done
                    pages_end_at_entries_or_bytes_and_hold_at_least_one
                    pages_stay_within_their_conversation_and_head
                    fanout_pending_keeps_the_oldest_seq_until_done
                    i5_fanout_is_adopted_up_to_the_head
                    racing_appends_make_one_order_without_holes
                    many_conversations_append_at_once;
                log_redaction:
                    a_redaction_leaves_tombstones_of_target_and_edits
                    a_redaction_reaches_entries_of_its_own_batch
                    the_first_redaction_stays_and_other_entries_are_left_alone
                    a_redacted_id_still_counts_for_duplicates
                    d3_what_was_appended_contradicts_nothing;
            );
        }
    };
}

/// The suite of `Markers`, as tests of a module `name`.
#[macro_export]
macro_rules! markers_contract {
    ($name:ident, $factory:expr) => {
        mod $name {
            use super::*;
            $crate::contract_tests!($factory;
                markers:
                    unknown_users_have_zero_everywhere
                    registers_only_go_forward_in_any_order
                    concurrent_raises_converge
                    answers_come_in_the_order_asked
                    users_and_devices_with_common_prefixes_are_apart
                    device_positions_rise_by_raising_and_move_freely_by_setting
                    a_position_that_goes_down_takes_the_synced_stamp_with_it
                    forgetting_a_device_takes_positions_and_synced_of_it_alone
                    synced_only_goes_forward
                    the_store_has_one_id;
                markers_inbox:
                    a_raised_row_gets_a_higher_stamp
                    a_lower_or_equal_head_changes_nothing_unless_touched
                    markers_do_not_touch_the_inbox
                    changes_hold_each_conversation_once_oldest_first
                    the_newest_rows_come_newest_first
                    paging_through_changes_misses_nothing
                    a_long_page_is_whole
                    what_fanout_leaves_behind_rises_and_is_seen
                    the_inbox_agrees_with_a_model
                    stamps_grow_across_users_and_concurrent_raises;
            );
        }
    };
}
