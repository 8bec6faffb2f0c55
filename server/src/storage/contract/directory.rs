//! What every `Directory` must do, sentence by sentence of the trait's documentation.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::domain::roster::Standing;
use crate::domain::{ClientMsgId, ConversationId, DeviceId, Kind, Member, Role, Sender, Seq, Span, UnixMillis, UserId};
use crate::storage::{
    ConversationRecord, Directory, DirectoryError, NewConversation, Projection, Settings, SettingsPatch,
};

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
            device_is_registered_once_and_seen_again,
            device_needs_its_user,
            removed_device_is_gone_and_its_removal_remembered,
            removal_of_an_unknown_device_is_remembered,
            removal_time_never_goes_back,
            blocks_are_set_listed_and_lifted,
            block_needs_its_target,
            blocked_among_sees_both_directions,
            created_conversation_is_read_back,
            same_request_gives_the_same_conversation,
            reused_request_id_is_refused,
            request_ids_of_other_senders_are_apart,
            pair_has_one_conversation,
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
                let (directory, _alive) = $open;
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

pub(crate) async fn upsert_creates_renames_and_keeps_deactivated(directory: AnyDirectory) {
    let ann = user("ann");
    let created = directory.upsert_user(&ann, "Ann", NOW).await.unwrap();
    assert_eq!((created.display_name.as_str(), created.deactivated), ("Ann", false));
    directory.set_deactivated(&ann, true).await.unwrap();
    let renamed = directory.upsert_user(&ann, "Ann 🎈", LATER).await.unwrap();
    assert_eq!((renamed.display_name.as_str(), renamed.deactivated), ("Ann 🎈", true));
    assert_eq!(directory.users(&[ann]).await.unwrap(), [renamed]);
}

pub(crate) async fn ensure_creates_once_and_changes_nothing(directory: AnyDirectory) {
    let ann = user("ann");
    let created = directory.ensure_user(&ann, NOW).await.unwrap();
    assert_eq!((created.display_name.as_str(), created.deactivated), ("", false));
    directory.upsert_user(&ann, "Ann", NOW).await.unwrap();
    directory.set_deactivated(&ann, true).await.unwrap();
    let again = directory.ensure_user(&ann, LATER).await.unwrap();
    assert_eq!((again.display_name.as_str(), again.deactivated), ("Ann", true));
}

pub(crate) async fn users_gives_those_that_exist_by_id(directory: AnyDirectory) {
    with_users(&directory, &["cat", "Bob", "ann"]).await;
    let asked = ["cat", "nobody", "ann", "Bob", "cat"].map(user);
    let found = directory.users(&asked).await.unwrap();
    let ids: Vec<_> = found.iter().map(|user| user.id.as_str()).collect();
    assert_eq!(ids, ["Bob", "ann", "cat"]);
    assert_eq!(directory.users(&[]).await.unwrap(), []);
}

pub(crate) async fn list_users_pages_by_id(directory: AnyDirectory) {
    let names: Vec<String> = (0..7).map(|number| format!("user-{number}")).collect();
    for name in names.iter().rev() {
        directory.ensure_user(&user(name), NOW).await.unwrap();
    }
    let mut listed = Vec::new();
    loop {
        let page = directory.list_users(listed.last(), 3).await.unwrap();
        if page.is_empty() {
            break;
        }
        assert!(page.len() <= 3);
        listed.extend(page.into_iter().map(|user| user.id));
    }
    let listed: Vec<_> = listed.iter().map(UserId::as_str).collect();
    assert_eq!(listed, names);
}

pub(crate) async fn deactivation_is_remembered_and_taken_back(directory: AnyDirectory) {
    let ann = user("ann");
    let missing = directory.set_deactivated(&ann, true).await;
    assert!(matches!(missing, Err(DirectoryError::NoSuchUser(id)) if id == ann));
    directory.ensure_user(&ann, NOW).await.unwrap();
    for deactivated in [true, true, false] {
        assert_eq!(
            directory.set_deactivated(&ann, deactivated).await.unwrap().deactivated,
            deactivated
        );
        let read = directory.users(std::slice::from_ref(&ann)).await.unwrap();
        assert_eq!(read[0].deactivated, deactivated);
    }
}

pub(crate) async fn device_is_registered_once_and_seen_again(directory: AnyDirectory) {
    with_users(&directory, &["ann", "bob"]).await;
    let ann = user("ann");
    directory.touch_device(&ann, &device("tablet"), NOW).await.unwrap();
    directory.touch_device(&ann, &device("phone"), NOW).await.unwrap();
    directory.touch_device(&ann, &device("phone"), LATER).await.unwrap();
    directory
        .touch_device(&user("bob"), &device("laptop"), NOW)
        .await
        .unwrap();
    let seen: Vec<_> = directory.devices(&ann).await.unwrap();
    let seen: Vec<_> = seen
        .iter()
        .map(|device| (device.id.as_str(), device.created, device.last_seen))
        .collect();
    assert_eq!(seen, [("phone", NOW, LATER), ("tablet", NOW, NOW)]);
}

pub(crate) async fn device_needs_its_user(directory: AnyDirectory) {
    let ann = user("ann");
    let refused = directory.touch_device(&ann, &device("phone"), NOW).await;
    assert!(matches!(refused, Err(DirectoryError::NoSuchUser(id)) if id == ann));
    assert_eq!(directory.devices(&ann).await.unwrap(), []);
}

pub(crate) async fn removed_device_is_gone_and_its_removal_remembered(directory: AnyDirectory) {
    with_users(&directory, &["ann"]).await;
    let (ann, phone) = (user("ann"), device("phone"));
    directory.touch_device(&ann, &phone, NOW).await.unwrap();
    assert_eq!(directory.device_removed_at(&ann, &phone).await.unwrap(), None);
    assert!(directory.remove_device(&ann, &phone, LATER).await.unwrap());
    assert!(!directory.remove_device(&ann, &phone, LATER).await.unwrap());
    assert_eq!(directory.devices(&ann).await.unwrap(), []);
    let again = UnixMillis(LATER.0 + 5);
    directory.touch_device(&ann, &phone, again).await.unwrap();
    let devices = directory.devices(&ann).await.unwrap();
    assert_eq!((devices[0].created, devices[0].last_seen), (again, again));
    assert_eq!(directory.device_removed_at(&ann, &phone).await.unwrap(), Some(LATER));
}

pub(crate) async fn removal_of_an_unknown_device_is_remembered(directory: AnyDirectory) {
    with_users(&directory, &["ann"]).await;
    let (ann, phone) = (user("ann"), device("phone"));
    assert!(!directory.remove_device(&ann, &phone, NOW).await.unwrap());
    assert_eq!(directory.device_removed_at(&ann, &phone).await.unwrap(), Some(NOW));
    assert_eq!(directory.devices(&ann).await.unwrap(), []);
    assert!(!directory.remove_device(&user("nobody"), &phone, NOW).await.unwrap());
    assert_eq!(
        directory.device_removed_at(&user("nobody"), &phone).await.unwrap(),
        None
    );
}

pub(crate) async fn removal_time_never_goes_back(directory: AnyDirectory) {
    with_users(&directory, &["ann"]).await;
    let (ann, phone) = (user("ann"), device("phone"));
    directory.touch_device(&ann, &phone, NOW).await.unwrap();
    directory.remove_device(&ann, &phone, LATER).await.unwrap();
    directory.touch_device(&ann, &phone, NOW).await.unwrap();
    assert!(directory.remove_device(&ann, &phone, NOW).await.unwrap());
    assert_eq!(directory.device_removed_at(&ann, &phone).await.unwrap(), Some(LATER));
}

pub(crate) async fn blocks_are_set_listed_and_lifted(directory: AnyDirectory) {
    with_users(&directory, &["ann", "bob", "cat"]).await;
    let ann = user("ann");
    for name in ["cat", "bob", "bob"] {
        directory.set_block(&ann, &user(name), true).await.unwrap();
    }
    assert_eq!(directory.blocks(&ann).await.unwrap(), ["bob", "cat"].map(user));
    assert_eq!(directory.blocks(&user("bob")).await.unwrap(), []);
    for _ in 0..2 {
        directory.set_block(&ann, &user("bob"), false).await.unwrap();
        assert_eq!(directory.blocks(&ann).await.unwrap(), [user("cat")]);
    }
}

pub(crate) async fn block_needs_its_target(directory: AnyDirectory) {
    with_users(&directory, &["ann"]).await;
    for blocked in [true, false] {
        let refused = directory.set_block(&user("ann"), &user("nobody"), blocked).await;
        assert!(matches!(refused, Err(DirectoryError::NoSuchUser(id)) if id == user("nobody")));
    }
    let refused = directory.set_block(&user("nobody"), &user("ann"), true).await;
    assert!(matches!(refused, Err(DirectoryError::NoSuchUser(id)) if id == user("nobody")));
}

pub(crate) async fn blocked_among_sees_both_directions(directory: AnyDirectory) {
    with_users(&directory, &["ann", "bob", "cat", "dan"]).await;
    let ann = user("ann");
    directory.set_block(&ann, &user("dan"), true).await.unwrap();
    directory.set_block(&user("bob"), &ann, true).await.unwrap();
    directory.set_block(&user("bob"), &user("cat"), true).await.unwrap();
    let others = ["dan", "cat", "bob", "nobody", "dan"].map(user);
    assert_eq!(
        directory.blocked_among(&ann, &others).await.unwrap(),
        ["bob", "dan"].map(user)
    );
    assert_eq!(directory.blocked_among(&ann, &[user("cat")]).await.unwrap(), []);
    assert_eq!(directory.blocked_among(&ann, &[]).await.unwrap(), []);
}

pub(crate) async fn created_conversation_is_read_back(directory: AnyDirectory) {
    with_users(&directory, &["ann", "bob"]).await;
    let mut new = group(1, "request", &["ann", "bob"]);
    new.name = "نادي الكتاب 📚".to_owned();
    new.members[0].role = Role::Owner;
    let mut by_system = group(2, "request", &["ann", "bob"]);
    by_system.creator = Sender {
        user: None,
        device: None,
    };
    for new in [new, by_system] {
        let created = directory.create_conversation(new.clone()).await.unwrap();
        assert_eq!((created.name.as_str(), created.applied), (new.name.as_str(), Seq::ZERO));
        assert!(created.roster.is_empty() && created.pins.is_empty());
        assert_eq!(created.first, new);
        assert_eq!(read(&directory, new.id).await, created);
    }
    assert_eq!(directory.conversation(conversation_id(9)).await.unwrap(), None);
}

pub(crate) async fn same_request_gives_the_same_conversation(directory: AnyDirectory) {
    with_users(&directory, &["ann", "bob"]).await;
    let first = directory
        .create_conversation(group(1, "request", &["ann", "bob"]))
        .await
        .unwrap();
    let mut retry = group(2, "request", &["ann", "bob"]);
    retry.created = LATER;
    assert_eq!(directory.create_conversation(retry).await.unwrap(), first);
    assert_eq!(
        directory.list_conversations(None, 10).await.unwrap(),
        [conversation_id(1)]
    );
    // For ever: also when what is asked no longer is what the conversation became.
    let mut renamed = projection(5, &[("ann", standing(Role::Owner, &[(1, None)]))]);
    renamed.name = Some("chess club".to_owned());
    directory.apply(first.first.id, renamed).await.unwrap();
    let late = directory
        .create_conversation(group(3, "request", &["ann", "bob"]))
        .await
        .unwrap();
    assert_eq!((late.first.id, late.name.as_str()), (first.first.id, "chess club"));
}

pub(crate) async fn reused_request_id_is_refused(directory: AnyDirectory) {
    with_users(&directory, &["ann", "bob", "cat"]).await;
    directory
        .create_conversation(group(1, "request", &["ann", "bob"]))
        .await
        .unwrap();
    let mut other_name = group(2, "request", &["ann", "bob"]);
    other_name.name = "chess club".to_owned();
    let mut other_role = group(2, "request", &["ann", "bob"]);
    other_role.members[1].role = Role::Admin;
    let other_members = group(2, "request", &["ann", "bob", "cat"]);
    let other_kind = direct(2, "request", "ann", "bob");
    for other in [other_name, other_role, other_members, other_kind] {
        let refused = directory.create_conversation(other).await;
        assert!(matches!(refused, Err(DirectoryError::IdReused)), "{refused:?}");
    }
    assert_eq!(
        directory.list_conversations(None, 10).await.unwrap(),
        [conversation_id(1)]
    );
}

pub(crate) async fn request_ids_of_other_senders_are_apart(directory: AnyDirectory) {
    with_users(&directory, &["ann", "bob"]).await;
    let from = |number: u16, user_name: Option<&str>, device_name: Option<&str>| {
        let mut new = group(number, "request", &["ann", "bob"]);
        new.creator = Sender {
            user: user_name.map(user),
            device: device_name.map(device),
        };
        new
    };
    let senders = [
        (Some("ann"), Some("phone")),
        (Some("ann"), Some("tablet")),
        (Some("ann"), None),
        (Some("bob"), Some("phone")),
        (None, None),
    ];
    for round in 0..2 {
        for (number, (user_name, device_name)) in (0..).zip(senders) {
            let new = from(number + 10 * round, user_name, device_name);
            let record = directory.create_conversation(new).await.unwrap();
            assert_eq!(record.first.id, conversation_id(number));
        }
    }
}

pub(crate) async fn pair_has_one_conversation(directory: AnyDirectory) {
    with_users(&directory, &["ann", "bob", "cat"]).await;
    let first = directory
        .create_conversation(direct(1, "a", "ann", "bob"))
        .await
        .unwrap();
    let found = directory
        .create_conversation(direct(2, "b", "bob", "ann"))
        .await
        .unwrap();
    assert_eq!(found, first);
    let again = directory
        .create_conversation(direct(3, "c", "ann", "bob"))
        .await
        .unwrap();
    assert_eq!(again, first);
    let other = directory
        .create_conversation(direct(4, "d", "ann", "cat"))
        .await
        .unwrap();
    assert_eq!(other.first.id, conversation_id(4));
    assert_eq!(
        directory.list_conversations(None, 10).await.unwrap(),
        [1, 4].map(conversation_id)
    );
}

pub(crate) async fn request_that_found_the_pair_keeps_its_id(directory: AnyDirectory) {
    with_users(&directory, &["ann", "bob"]).await;
    directory
        .create_conversation(direct(1, "a", "ann", "bob"))
        .await
        .unwrap();
    for _ in 0..2 {
        let found = directory
            .create_conversation(direct(2, "b", "bob", "ann"))
            .await
            .unwrap();
        assert_eq!(found.first.id, conversation_id(1));
    }
    let reused = directory.create_conversation(group(3, "b", &["bob", "ann"])).await;
    assert!(matches!(reused, Err(DirectoryError::IdReused)));
}

/// I3 begins with one log: many tries of both sides at the same moment give one conversation.
pub(crate) async fn pair_created_by_both_at_once_is_one(directory: AnyDirectory) {
    with_users(&directory, &["ann", "bob"]).await;
    let tries: Vec<_> = (0..40_u16)
        .map(|number| {
            let directory = Arc::clone(&directory);
            let (creator, other) = if number % 2 == 0 {
                ("ann", "bob")
            } else {
                ("bob", "ann")
            };
            let new = direct(number, &format!("try-{number}"), creator, other);
            tokio::spawn(async move { directory.create_conversation(new).await })
        })
        .collect();
    let mut answers = Vec::new();
    for one in tries {
        answers.push(one.await.unwrap().unwrap());
    }
    assert!(answers.iter().all(|answer| *answer == answers[0]));
    assert_eq!(
        directory.list_conversations(None, 10).await.unwrap(),
        [answers[0].first.id]
    );
}

/// I2: a request that is retried while its first try still runs creates once.
pub(crate) async fn request_repeated_at_once_creates_once(directory: AnyDirectory) {
    with_users(&directory, &["ann", "bob"]).await;
    let tries: Vec<_> = (0..20)
        .map(|number| {
            let directory = Arc::clone(&directory);
            let new = group(number, "request", &["ann", "bob"]);
            tokio::spawn(async move { directory.create_conversation(new).await })
        })
        .collect();
    let mut ids = BTreeSet::new();
    for one in tries {
        ids.insert(one.await.unwrap().unwrap().first.id);
    }
    let listed = directory.list_conversations(None, 10).await.unwrap();
    assert_eq!(ids.into_iter().collect::<Vec<_>>(), listed);
    assert_eq!(listed.len(), 1);
}

pub(crate) async fn members_must_exist(directory: AnyDirectory) {
    with_users(&directory, &["ann"]).await;
    for new in [
        group(1, "request", &["ann", "nobody"]),
        direct(1, "request", "ann", "nobody"),
    ] {
        let refused = directory.create_conversation(new).await;
        assert!(matches!(refused, Err(DirectoryError::NoSuchUser(id)) if id == user("nobody")));
    }
    assert_eq!(directory.conversation(conversation_id(1)).await.unwrap(), None);
    // Nothing was written: the request id is free once the member exists.
    with_users(&directory, &["nobody"]).await;
    let new = direct(1, "request", "ann", "nobody");
    assert_eq!(directory.create_conversation(new.clone()).await.unwrap().first, new);
}

pub(crate) async fn direct_needs_two(directory: AnyDirectory) {
    with_users(&directory, &["ann", "bob", "cat"]).await;
    for names in [&["ann"][..], &["ann", "bob", "cat"][..]] {
        let mut new = group(1, "request", names);
        new.kind = Kind::Direct;
        assert!(directory.create_conversation(new).await.is_err());
    }
    assert_eq!(directory.list_conversations(None, 10).await.unwrap(), []);
}

pub(crate) async fn conversations_are_listed_by_id(directory: AnyDirectory) {
    with_users(&directory, &["ann", "bob"]).await;
    for number in [5, 300, 1, 4, 2] {
        let new = group(number, &format!("request-{number}"), &["ann", "bob"]);
        directory.create_conversation(new).await.unwrap();
    }
    let first = directory.list_conversations(None, 3).await.unwrap();
    assert_eq!(first, [1, 2, 4].map(conversation_id));
    let rest = directory.list_conversations(first.last().copied(), 3).await.unwrap();
    assert_eq!(rest, [5, 300].map(conversation_id));
    assert_eq!(directory.list_conversations(rest.last().copied(), 3).await.unwrap(), []);
}

pub(crate) async fn projection_is_applied_whole(directory: AnyDirectory) {
    let id = with_group(&directory, 1, &["ann", "bob"]).await;
    let mut change = projection(
        7,
        &[
            ("bob", standing(Role::Member, &[(1, Some(6))])),
            ("cat", standing(Role::Admin, &[(7, None)])),
        ],
    );
    change.name = Some("chess club".to_owned());
    change.pins = vec![(Seq(3), true)];
    directory.apply(id, change).await.unwrap();
    let record = read(&directory, id).await;
    assert_eq!((record.applied, record.name.as_str()), (Seq(7), "chess club"));
    assert_eq!(record.first.name, "book club");
    assert_eq!(record.pins, [Seq(3)]);
    let roster: BTreeMap<_, _> = record.roster.standings().collect();
    let expected = BTreeMap::from([
        (user("ann"), standing(Role::Member, &[(1, None)])),
        (user("bob"), standing(Role::Member, &[(1, Some(6))])),
        (user("cat"), standing(Role::Admin, &[(7, None)])),
    ]);
    assert_eq!(roster, expected.iter().collect());
    assert_eq!(record.roster.len(), 2);
}

pub(crate) async fn lower_projection_changes_nothing(directory: AnyDirectory) {
    let id = with_group(&directory, 1, &["ann", "bob"]).await;
    let mut change = projection(7, &[("bob", standing(Role::Admin, &[(1, None)]))]);
    change.pins = vec![(Seq(3), true)];
    directory.apply(id, change.clone()).await.unwrap();
    let before = read(&directory, id).await;
    for applied in [7, 6, 0] {
        let mut stale = projection(applied, &[("bob", standing(Role::Member, &[(1, Some(5))]))]);
        stale.name = Some("stale".to_owned());
        stale.pins = vec![(Seq(3), false), (Seq(2), true)];
        directory.apply(id, stale).await.unwrap();
        assert_eq!(read(&directory, id).await, before);
    }
    directory.apply(id, change).await.unwrap();
    assert_eq!(read(&directory, id).await, before);
}

/// Concurrent projections, each of everything up to its seq: whoever is late changes nothing.
pub(crate) async fn projections_in_any_order_end_at_the_highest(directory: AnyDirectory) {
    let id = with_group(&directory, 1, &["ann", "bob"]).await;
    let tries: Vec<_> = (2..30_u64)
        .map(|seq| {
            let directory = Arc::clone(&directory);
            let mut change = projection(seq, &[("bob", standing(Role::Member, &[(1, Some(seq))]))]);
            change.name = Some(format!("name {seq}"));
            tokio::spawn(async move { directory.apply(id, change).await })
        })
        .collect();
    for one in tries {
        one.await.unwrap().unwrap();
    }
    let record = read(&directory, id).await;
    assert_eq!((record.applied, record.name.as_str()), (Seq(29), "name 29"));
    assert_eq!(
        record.roster.standing(&user("bob")),
        Some(&standing(Role::Member, &[(1, Some(29))]))
    );
}

pub(crate) async fn pins_keep_their_order(directory: AnyDirectory) {
    let id = with_group(&directory, 1, &["ann", "bob"]).await;
    let steps: [(&[(u64, bool)], &[u64]); 4] = [
        (&[(9, true), (3, true), (5, true)], &[9, 3, 5]),
        (&[(3, true)], &[9, 3, 5]),
        (&[(9, false), (4, false), (5, false), (9, true)], &[3, 9]),
        (&[(3, false), (9, false)], &[]),
    ];
    for (applied, (pins, expected)) in (10..).zip(steps) {
        let mut change = projection(applied, &[]);
        change.pins = pins.iter().map(|(seq, pinned)| (Seq(*seq), *pinned)).collect();
        directory.apply(id, change).await.unwrap();
        let shown: Vec<u64> = read(&directory, id).await.pins.iter().map(|seq| seq.0).collect();
        assert_eq!(shown, expected);
    }
}

/// I7: who left and came back is in the audience of both stays and of nothing between them.
pub(crate) async fn standing_keeps_every_stay(directory: AnyDirectory) {
    let id = with_group(&directory, 1, &["ann", "bob"]).await;
    let stays = standing(Role::Admin, &[(1, Some(4)), (9, Some(12)), (20, None)]);
    directory
        .apply(id, projection(20, &[("bob", stays.clone())]))
        .await
        .unwrap();
    let record = read(&directory, id).await;
    assert_eq!(record.roster.standing(&user("bob")), Some(&stays));
    let views = directory.views(&user("bob"), &[id]).await.unwrap();
    assert_eq!(views[&id].standing.as_ref(), Some(&stays));
    assert!(stays.may_read(Seq(12)) && !stays.may_read(Seq(13)));
}

pub(crate) async fn large_group_is_projected(directory: AnyDirectory) {
    let names: Vec<String> = (0..500).map(|number| format!("user-{number:03}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let id = with_group(&directory, 1, &names).await;
    let record = read(&directory, id).await;
    assert_eq!(record.first.members.len(), 500);
    assert_eq!(record.roster.len(), 500);
    let all: Vec<_> = names
        .iter()
        .map(|name| (*name, standing(Role::Member, &[(1, Some(2)), (3, None)])))
        .collect();
    directory.apply(id, projection(3, &all)).await.unwrap();
    let record = read(&directory, id).await;
    assert_eq!(record.roster.len(), 500);
    assert!(record.roster.standings().all(|(_, standing)| standing.spans.len() == 2));
}

pub(crate) async fn projection_needs_its_conversation(directory: AnyDirectory) {
    let refused = directory.apply(conversation_id(1), projection(1, &[])).await;
    assert!(matches!(refused, Err(DirectoryError::Unavailable(_))));
}

pub(crate) async fn views_show_what_concerns_the_user(directory: AnyDirectory) {
    let here = with_group(&directory, 1, &["ann", "bob"]).await;
    let elsewhere = with_group(&directory, 2, &["bob"]).await;
    let pair = directory
        .create_conversation(direct(3, "pair", "bob", "ann"))
        .await
        .unwrap();
    let ids = [here, elsewhere, pair.first.id];
    let views = directory.views(&user("ann"), &ids).await.unwrap();
    assert_eq!(views.len(), 3);
    let group = &views[&here];
    assert_eq!((group.kind, group.name.as_str()), (Kind::Group, "book club"));
    assert_eq!((&group.peer, group.settings), (&None, Settings::default()));
    assert_eq!(group.standing, Some(standing(Role::Member, &[(1, None)])));
    assert_eq!(views[&elsewhere].standing, None);
    let direct = &views[&pair.first.id];
    assert_eq!((direct.kind, &direct.peer), (Kind::Direct, &Some(user("bob"))));
    assert_eq!(direct.standing, None);
    let of_bob = directory.views(&user("bob"), &[pair.first.id]).await.unwrap();
    assert_eq!(of_bob[&pair.first.id].peer, Some(user("ann")));
    let of_cat = directory.views(&user("cat"), &[pair.first.id]).await.unwrap();
    assert_eq!(of_cat[&pair.first.id].peer, None);
}

pub(crate) async fn views_leave_out_what_does_not_exist(directory: AnyDirectory) {
    let id = with_group(&directory, 1, &["ann"]).await;
    let views = directory
        .views(&user("ann"), &[conversation_id(8), id, conversation_id(9)])
        .await
        .unwrap();
    assert_eq!(views.keys().collect::<Vec<_>>(), [&id]);
    assert!(directory.views(&user("ann"), &[]).await.unwrap().is_empty());
}

pub(crate) async fn views_take_many_ids(directory: AnyDirectory) {
    let first = with_group(&directory, 0, &["ann"]).await;
    let last = with_group(&directory, 999, &["ann"]).await;
    let mut ids: Vec<_> = (0..1_000).map(conversation_id).collect();
    ids.extend([first, last, first]);
    let views = directory.views(&user("ann"), &ids).await.unwrap();
    assert_eq!(views.keys().collect::<Vec<_>>(), [&first, &last]);
    assert!(
        views
            .values()
            .all(|view| view.standing == Some(standing(Role::Member, &[(1, None)])))
    );
}

pub(crate) async fn settings_change_field_by_field(directory: AnyDirectory) {
    let id = with_group(&directory, 1, &["ann"]).await;
    let mut expected = Settings::default();
    let nothing = SettingsPatch::default();
    let mute = SettingsPatch {
        muted_until: Some(Some(UnixMillis(i64::MAX))),
        ..nothing
    };
    let archive = SettingsPatch {
        archived: Some(true),
        ..nothing
    };
    let unread = SettingsPatch {
        unread_from: Some(Some(Seq(4))),
        ..nothing
    };
    let clear = SettingsPatch {
        muted_until: Some(None),
        unread_from: Some(None),
        archived: None,
    };
    for patch in [nothing, mute, archive, unread, nothing, mute, clear] {
        expected.muted_until = patch.muted_until.unwrap_or(expected.muted_until);
        expected.archived = patch.archived.unwrap_or(expected.archived);
        expected.unread_from = patch.unread_from.unwrap_or(expected.unread_from);
        let answer = directory.update_settings(&user("ann"), id, patch).await.unwrap();
        assert_eq!(answer, expected);
        let views = directory.views(&user("ann"), &[id]).await.unwrap();
        assert_eq!(views[&id].settings, expected);
    }
    assert_eq!((expected.muted_until, expected.archived), (None, true));
}

pub(crate) async fn settings_are_each_users_own(directory: AnyDirectory) {
    let one = with_group(&directory, 1, &["ann", "bob"]).await;
    let other = with_group(&directory, 2, &["ann", "bob"]).await;
    let archive = SettingsPatch {
        archived: Some(true),
        ..SettingsPatch::default()
    };
    directory.update_settings(&user("ann"), one, archive).await.unwrap();
    let archived = async |name: &str, id| {
        let views = directory.views(&user(name), &[id]).await.unwrap();
        views[&id].settings.archived
    };
    assert!(archived("ann", one).await);
    assert!(!archived("bob", one).await);
    assert!(!archived("ann", other).await);
}

pub(crate) async fn settings_need_their_conversation(directory: AnyDirectory) {
    with_users(&directory, &["ann"]).await;
    let refused = directory
        .update_settings(&user("ann"), conversation_id(1), SettingsPatch::default())
        .await;
    assert!(matches!(refused, Err(DirectoryError::Unavailable(_))));
}

pub(crate) async fn sharing_counts_present_members_only(directory: AnyDirectory) {
    let one = with_group(&directory, 1, &["ann", "bob", "cat"]).await;
    with_group(&directory, 2, &["bob", "dan"]).await;
    let others = ["dan", "cat", "bob", "nobody", "cat"].map(user);
    let sharing = async |name: &str| directory.sharing(&user(name), &others).await.unwrap();
    assert_eq!(sharing("ann").await, ["bob", "cat"].map(user));
    assert_eq!(
        directory.sharing(&user("dan"), &[user("bob")]).await.unwrap(),
        [user("bob")]
    );
    let left = standing(Role::Member, &[(1, Some(5))]);
    directory
        .apply(one, projection(5, &[("cat", left.clone())]))
        .await
        .unwrap();
    assert_eq!(sharing("ann").await, [user("bob")]);
    directory.apply(one, projection(6, &[("ann", left)])).await.unwrap();
    assert_eq!(sharing("ann").await, []);
    // Created, but not projected yet: nobody is a member.
    directory
        .create_conversation(direct(3, "pair", "ann", "cat"))
        .await
        .unwrap();
    assert_eq!(sharing("ann").await, []);
}

pub(crate) async fn sharing_takes_many_users(directory: AnyDirectory) {
    with_group(&directory, 1, &["ann", "user-3", "user-997"]).await;
    directory.set_block(&user("user-3"), &user("ann"), true).await.unwrap();
    directory
        .set_block(&user("ann"), &user("user-997"), true)
        .await
        .unwrap();
    let others: Vec<_> = (0..1_000).map(|number| user(&format!("user-{number}"))).collect();
    let both = ["user-3", "user-997"].map(user);
    assert_eq!(directory.sharing(&user("ann"), &others).await.unwrap(), both);
    assert_eq!(directory.blocked_among(&user("ann"), &others).await.unwrap(), both);
    let found = directory.users(&others).await.unwrap();
    assert_eq!(found.into_iter().map(|user| user.id).collect::<Vec<_>>(), both);
}

pub(crate) async fn what_was_refused_left_nothing_behind(directory: AnyDirectory) {
    with_users(&directory, &["ann", "bob"]).await;
    let reused = group(2, "request", &["bob", "ann"]);
    let mut first = group(1, "request", &["ann", "bob"]);
    first.creator = reused.creator.clone();
    first.name = "first".to_owned();
    directory.create_conversation(first).await.unwrap();
    assert!(directory.create_conversation(reused.clone()).await.is_err());
    assert_eq!(directory.conversation(reused.id).await.unwrap(), None);
    // The refused id is free: another request may use it.
    let mut other = group(2, "other", &["ann", "bob"]);
    other.name = "second".to_owned();
    assert_eq!(directory.create_conversation(other.clone()).await.unwrap().first, other);
}
