//! What every `Directory` must do, sentence by sentence of the trait's documentation.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::domain::roster::Standing;
use crate::domain::{
    ClientMsgId, ConversationId, CorrelationId, DeviceId, Kind, Member, Role, Sender, Seq, Span, UnixMillis, UserId,
};
use crate::storage::{ConversationRecord, Directory, NewConversation, Projection};

mod conversations;
mod people;
mod projections;

pub(crate) use conversations::*;
pub(crate) use people::*;
pub(crate) use projections::*;

/// Any backend.
type AnyDirectory = Arc<dyn Directory>;

/// The suite for one backend. `$open` is an expression that gives an empty directory in an `Arc`, and whatever must live
/// as long as it does (`()` when nothing must); it may await.
macro_rules! directory_contract {
    ($open:expr) => {
        directory_contract!($open;
            upsert_creates_renames_and_keeps_deactivated,
            ensure_creates_once_and_changes_nothing,
            users_gives_those_that_exist_by_id,
            list_users_pages_by_id,
            deactivation_is_remembered_and_taken_back,
            revoked_tokens_are_remembered_and_their_time_never_goes_back,
            revocations_are_listed_in_order_and_paged,
            device_is_registered_once_and_seen_again,
            device_needs_its_user,
            removed_device_is_gone_and_its_removal_remembered,
            removal_of_an_unknown_device_is_remembered,
            devices_of_a_user_are_bounded,
            removal_time_never_goes_back,
            blocks_are_set_listed_and_lifted,
            block_needs_its_target,
            blocked_among_sees_both_directions,
            created_conversation_is_read_back,
            same_request_gives_the_same_conversation,
            reused_request_id_is_refused,
            request_ids_of_other_senders_are_apart,
            pair_has_one_conversation,
            requests_and_pairs_are_found_without_creating,
            request_that_found_the_pair_keeps_its_id,
            pair_created_by_both_at_once_is_one,
            request_repeated_at_once_creates_once,
            members_must_exist,
            direct_needs_two,
            conversations_are_listed_by_id,
            projection_is_applied_whole,
            lower_projection_changes_nothing,
            projections_in_any_order_end_at_the_highest,
            pins_keep_their_order,
            standing_keeps_every_stay,
            large_group_is_projected,
            projection_needs_its_conversation,
            views_show_what_concerns_the_user,
            views_leave_out_what_does_not_exist,
            views_take_many_ids,
            views_are_as_they_were_last_written,
            settings_change_field_by_field,
            settings_are_each_users_own,
            settings_need_their_conversation,
            sharing_counts_present_members_only,
            sharing_takes_many_users,
            what_was_refused_left_nothing_behind,
        );
    };
    ($open:expr; $($case:ident),* $(,)?) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                let made: Option<(_, _)> = $open.into();
                // A service that is not there was named as skipped.
                let Some((directory, _alive)) = made else { return };
                crate::storage::contract::directory::$case(directory).await;
            }
        )*
    };
}
pub(crate) use directory_contract;

const NOW: UnixMillis = UnixMillis(1_700_000_000_000);
const LATER: UnixMillis = UnixMillis(1_700_000_060_000);

fn user(name: &str) -> UserId {
    UserId::parse(name).unwrap()
}

fn device(name: &str) -> DeviceId {
    DeviceId::parse(name).unwrap()
}

fn conversation_id(number: u16) -> ConversationId {
    let mut bytes = [7; 16];
    bytes[..2].copy_from_slice(&number.to_be_bytes());
    ConversationId(bytes)
}

fn sender(name: &str) -> Sender {
    Sender {
        user: Some(user(name)),
        device: Some(device("phone")),
    }
}

fn members(names: &[&str]) -> Vec<Member> {
    let names: BTreeSet<&&str> = names.iter().collect();
    let member = |name: &&&str| Member {
        user: user(name),
        role: Role::Member,
    };
    names.iter().map(member).collect()
}

fn group(number: u16, request: &str, names: &[&str]) -> NewConversation {
    NewConversation {
        id: conversation_id(number),
        kind: Kind::Group,
        name: "book club".to_owned(),
        creator: sender(names[0]),
        client_msg_id: ClientMsgId::parse(request).unwrap(),
        correlation: CorrelationId([5; 16]),
        members: members(names),
        created: NOW,
    }
}

/// A 1:1 of `creator`, who is its owner, and `other`.
fn direct(number: u16, request: &str, creator: &str, other: &str) -> NewConversation {
    let mut new = group(number, request, &[creator, other]);
    new.kind = Kind::Direct;
    new.name = String::new();
    for member in &mut new.members {
        if member.user == user(creator) {
            member.role = Role::Owner;
        }
    }
    new
}

fn standing(role: Role, spans: &[(u64, Option<u64>)]) -> Standing {
    let span = |(joined, left): &(u64, Option<u64>)| Span {
        joined: Seq(*joined),
        left: left.map(Seq),
    };
    Standing {
        role,
        spans: spans.iter().map(span).collect(),
    }
}

fn projection(applied: u64, standings: &[(&str, Standing)]) -> Projection {
    Projection {
        applied: Seq(applied),
        standings: standings.iter().map(|(name, is)| (user(name), is.clone())).collect(),
        ..Projection::default()
    }
}

async fn with_users(directory: &AnyDirectory, names: &[&str]) {
    for name in names {
        directory.ensure_user(&user(name), NOW).await.unwrap();
    }
}

/// A group in which those named are members since seq 1.
async fn with_group(directory: &AnyDirectory, number: u16, names: &[&str]) -> ConversationId {
    with_users(directory, names).await;
    let new = group(number, &format!("request-{number}"), names);
    let id = directory.create_conversation(new).await.unwrap().first.id;
    let here: Vec<_> = names
        .iter()
        .map(|name| (*name, standing(Role::Member, &[(1, None)])))
        .collect();
    directory.apply(id, projection(1, &here)).await.unwrap();
    id
}

async fn read(directory: &AnyDirectory, id: ConversationId) -> ConversationRecord {
    directory.conversation(id).await.unwrap().unwrap()
}
