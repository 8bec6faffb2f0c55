//! End to end: real clients on a real server process, judged by the history checker.
//!
//! What other chat servers test about sessions, history, unread counts, idempotency and several devices, and what covers it
//! here. Names of tests are looked up below: a row cannot outlive its test.
//!
//! | their case | here |
//! |---|---|
//! | sm_SUITE `resend_unacked_on_reconnection` | `what_was_not_acknowledged_comes_again` |
//! | `resend_unacked_after_resume_timeout` | `what_was_not_acknowledged_comes_again_after_the_resume_token_expired`, `a_token_of_before_a_restart_resumes_nothing_and_loses_nothing` |
//! | `resend_unacked_to_different_res_after_resume_timeout` | `another_device_gets_all_of_it_after_the_resume_token_expired` |
//! | `resend_unacked_from_replaced_sessions` | `what_a_replaced_stream_left_unacknowledged_comes_on_the_newer_one` |
//! | `resume_session_kills_old_…` | `a_second_stream_of_the_same_name_replaces_the_first`, `of_streams_that_open_at_once_one_stays` |
//! | `resume_expired_session_returns_correct_h` | `after_a_failed_resume_sending_again_tells_what_was_stored`, `after_a_restart_sending_again_tells_what_was_stored` |
//! | `resume_session_with_wrong_h_does_not_leak_sessions` | `bad_resume_tokens_leave_no_streams_behind`, `a_resume_token_is_good_once` |
//! | `client_acks_more_than_sent`, `client_enables_sm_twice_…` | `breaking_the_protocol_ends_the_stream_with_its_reason` |
//! | `aggressively_pipelined_resume`, `preserve_order` | `requests_pipelined_behind_a_resuming_hello_are_answered_in_order` |
//! | `too_many_unacked_stanzas` | `a_window_of_deliveries_waits_for_acks`, `i9_the_window_holds_and_moves` |
//! | `resend_more_offline_messages_than_buffer_size` | `who_was_offline_finds_everything_and_is_told_when_it_ends` |
//! | `replies_are_processed_by_resumed_session` | `sends_whose_answers_were_lost_are_answered_after_resuming` |
//! | `messages_are_properly_flushed_during_resumption` | `what_is_sent_while_streams_resume_is_all_there_in_order` |
//! | mam_SUITE `pagination_…`, `before10`, `after10`, complete flags | `every_page_of_the_grid_holds_what_it_must`, `a_page_at_the_end_is_empty_and_says_that_there_is_no_more` |
//! | `flipped_page`, `after_id5_before_id11` | `pages_forward_and_backward_give_the_same_log`, `every_page_of_the_grid_holds_what_it_must` |
//! | unknown id is not found | `anchors_beyond_the_head_and_malformed_queries_are_refused` |
//! | `reconnect_no_ack_different_resource` | `what_was_not_acknowledged_comes_again` (the tablet) |
//! | `same_stanza_id` | `the_echo_names_the_device_and_id_of_the_send` |
//! | retract cases | `a_redacted_message_is_a_tombstone_at_its_seq`, `p7_a_redaction_leaves_a_tombstone_at_its_seq_and_takes_the_edits_with_it`, `i11_roles_bound_what_members_and_admins_may_do` |
//! | `pm_sql_query_failed` | `p6_a_page_that_cannot_be_read_is_refused_not_shortened`, `p15_without_the_directory_the_list_is_refused_and_messages_go_on` |
//! | `…failed_to_decode_message_in_database` | `p6_a_damaged_entry_is_told_and_never_skipped` |
//! | inbox_SUITE `other_resources_do_not_interfere` | `delivered_and_read_reach_the_sender_and_private_reads_do_not`, `what_was_not_acknowledged_comes_again` |
//! | `unread_count_is_the_same_after_going_online_again` | `unread_counts_follow_the_model_through_sends_reads_reconnects_and_kills` |
//! | `try_to_reset_unread_counter_with_bad_marker` | `bad_markers_change_no_count` |
//! | kicked and left rooms | `rows_of_rooms_one_left_or_was_removed_from_stay_as_they_were` |
//! | limit caps | `a_list_gives_at_most_what_it_may`, `pages_of_the_list_give_every_row_once` |
//! | carboncopy_SUITE: one copy for each device | `every_device_gets_one_copy_at_the_same_seq`, `devices_that_come_and_go_get_one_copy_each` |
//! | `dropped_client_doesnt_create_duplicate_carbons` | `devices_that_come_and_go_get_one_copy_each` |
//! | race_conditions_SUITE: a late reply | `i8_a_late_answer_goes_to_the_stream_it_was_asked_on`, `i8_a_late_answer_whose_stream_is_gone_goes_nowhere` |
//! | Complement `TestTxnIdempotency` | `the_same_id_has_the_same_seq_for_ever_and_another_payload_is_refused`, `one_id_tried_many_times_at_once_is_stored_once` |
//! | `TestTxnIdempotencyScopedToDevice` | `another_device_may_use_the_same_id` |
//! | `TestTxnIdWithRefreshToken` | `an_id_outlives_the_token_it_was_sent_with` |
//! | `TestTxnScopeOnLocalEcho` | `the_echo_names_the_device_and_id_of_the_send` |
//! | `TestSyncTimelineGap` | `history_up_to_welcome_joins_the_live_stream` |
//! | `TestCumulativeJoinLeaveJoinSync` | `joins_and_leaves_while_away_leave_exactly_ones_stays` |
//! | presence on sync | `bye_is_answered_and_offline_at_once`, `a_resumed_stream_goes_on_watching` |
//! | ignored users | `a_block_silences_the_pair_alone`, `a_block_stops_the_pair_at_once_and_lifting_it_lets_them_go_on` |
//! | acknowledged, then killed, from every recipient state | `while_the_recipient_is_half_resumed` and its neighbours |
//! | unread counts against a model | `i6_unread_counts_are_those_of_a_plain_model`, `unread_counts_follow_the_model_through_sends_reads_reconnects_and_kills` |
//! | a second device after a day | `a_second_device_that_was_away_for_a_day_finds_what_it_missed`, `while_a_second_device_is_offline` |
//! | no file descriptors left | `a_crowd_takes_no_descriptor_of_the_store` |
//! | a stalled reader costs its window | `i9_two_hundred_stalled_readers_cost_no_copies_of_what_they_are_owed`, `i9_a_queue_without_bound_is_noticed` |
//! | a storm of presence | `i9_a_group_that_flaps_costs_a_few_events_a_member_and_sweep` |
//! | a storm of reconnects, counted at the store | `f7_a_reconnect_storm_costs_a_bounded_number_of_reads_a_client`, `r3_a_hello_costs_the_same_few_reads_whatever_a_user_has` |
//!
//! Not here, because there is nothing of it to test: deleted rooms (none can be), notifications of threads (no threads),
//! device lists on join and leave (no end-to-end encryption yet), bytes that an erased user leaves behind (nobody can be
//! erased yet).

mod correlation;
mod devices;
mod history;
mod inbox;
mod large;
mod membership;
mod order;
mod receipts;
mod refusals;
mod resume;
mod retries;
mod sessions;
mod stalled;
mod support;
mod sync;
mod talk;
mod web;

use std::collections::BTreeSet;
use std::path::Path;

/// Names of all tests below a folder.
fn tests(folder: &Path, found: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(folder).expect("a folder of the project") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            tests(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.extend(tests_in(&std::fs::read_to_string(&path).expect("source")));
        }
    }
}

/// Functions that carry the attribute of a test: helpers prove nothing.
fn tests_in(source: &str) -> Vec<String> {
    let (mut names, mut is_test) = (Vec::new(), false);
    for line in source.lines().map(str::trim_start) {
        if line.starts_with("#[test]") || line.starts_with("#[tokio::test") {
            is_test = true;
        } else if let Some((_, rest)) = line.split_once("fn ").filter(|_| is_test) {
            names.extend(rest.split(['(', '<']).next().map(str::to_owned));
            is_test = false;
        } else if !line.starts_with("#[") && !line.starts_with("//") {
            is_test = false;
        }
    }
    names
}

#[test]
fn helpers_are_no_tests() {
    let source = "fn helper() {}\n#[tokio::test(start_paused = true)]\n#[ignore = \"slow\"]\nasync fn real() {}\nfn other() {}\n";
    assert_eq!(tests_in(source), ["real"]);
}

#[test]
fn every_case_of_others_names_tests_that_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the project");
    let mut known = BTreeSet::new();
    for folder in ["tests/tests", "server/src"] {
        tests(&root.join(folder), &mut known);
    }
    let rows = include_str!("main.rs")
        .lines()
        .filter_map(|line| line.strip_prefix("//! | "));
    let mut looked_up = 0;
    for row in rows.skip(1) {
        let here = row.trim_end_matches(" |").rsplit(" | ").next().unwrap_or_default();
        let names: Vec<&str> = here.split('`').skip(1).step_by(2).collect();
        assert!(!names.is_empty(), "no test in: {row}");
        for name in names {
            assert!(known.contains(name), "{name} does not exist");
            looked_up += 1;
        }
    }
    assert!(looked_up > 40, "only {looked_up} tests were looked up");
}
