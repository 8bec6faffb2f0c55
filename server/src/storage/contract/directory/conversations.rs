//! Creating conversations: one for each pair and each request.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{
    AnyDirectory, LATER, conversation_id, device, direct, group, projection, read, standing, user, with_users,
};
use crate::domain::{Kind, Role, Sender, Seq};
use crate::storage::DirectoryError;

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

pub(crate) async fn requests_and_pairs_are_found_without_creating(directory: AnyDirectory) {
    with_users(&directory, &["ann", "bob", "cat"]).await;
    let (ann, bob, cat) = (user("ann"), user("bob"), user("cat"));
    let new = direct(1, "request", "ann", "bob");
    assert_eq!(directory.direct(&ann, &bob).await.unwrap(), None);
    assert_eq!(
        directory.requested(&new.creator, &new.client_msg_id).await.unwrap(),
        None
    );
    directory.create_conversation(new.clone()).await.unwrap();
    let other = group(2, "other", &["ann", "bob"]);
    directory.create_conversation(other.clone()).await.unwrap();
    for (one, two) in [(&ann, &bob), (&bob, &ann)] {
        assert_eq!(directory.direct(one, two).await.unwrap(), Some(new.id));
    }
    for (one, two) in [(&ann, &cat), (&ann, &ann)] {
        assert_eq!(directory.direct(one, two).await.unwrap(), None);
    }
    for asked in [&new, &other] {
        let found = directory.requested(&asked.creator, &asked.client_msg_id).await;
        assert_eq!(found.unwrap(), Some(asked.id));
    }
    let of_nobody = Sender {
        user: None,
        ..new.creator.clone()
    };
    for creator in [of_nobody, super::sender("bob")] {
        let found = directory.requested(&creator, &new.client_msg_id).await;
        assert_eq!(found.unwrap(), None);
    }
    assert_eq!(directory.list_conversations(None, 9).await.unwrap().len(), 2);
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
