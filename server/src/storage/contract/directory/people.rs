//! Users, devices, blocks.

use super::{AnyDirectory, LATER, NOW, device, user, with_users};
use crate::domain::limits::{DEVICES_MAX, REMOVAL_KEPT_MS};
use crate::domain::{UnixMillis, UserId};
use crate::storage::{DirectoryError, Revocation};

pub(crate) async fn upsert_creates_renames_and_keeps_deactivated(directory: AnyDirectory) {
    let ann = user("ann");
    let created = directory.upsert_user(&ann, "Ann", NOW).await.unwrap();
    assert_eq!((created.display_name.as_str(), created.deactivated), ("Ann", false));
    directory.set_deactivated(&ann, true, NOW).await.unwrap();
    let renamed = directory.upsert_user(&ann, "Ann 🎈", LATER).await.unwrap();
    assert_eq!((renamed.display_name.as_str(), renamed.deactivated), ("Ann 🎈", true));
    assert_eq!(directory.users(&[ann]).await.unwrap(), [renamed]);
}

pub(crate) async fn ensure_creates_once_and_changes_nothing(directory: AnyDirectory) {
    let ann = user("ann");
    let created = directory.ensure_user(&ann, NOW).await.unwrap();
    assert_eq!((created.display_name.as_str(), created.deactivated), ("", false));
    directory.upsert_user(&ann, "Ann", NOW).await.unwrap();
    directory.set_deactivated(&ann, true, NOW).await.unwrap();
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
    let missing = directory.set_deactivated(&ann, true, NOW).await;
    assert!(matches!(missing, Err(DirectoryError::NoSuchUser(id)) if id == ann));
    directory.ensure_user(&ann, NOW).await.unwrap();
    for deactivated in [true, true, false] {
        assert_eq!(
            directory
                .set_deactivated(&ann, deactivated, NOW)
                .await
                .unwrap()
                .deactivated,
            deactivated
        );
        let read = directory.users(std::slice::from_ref(&ann)).await.unwrap();
        assert_eq!(read[0].deactivated, deactivated);
    }
}

/// Deactivation revokes; coming back does not take it back.
pub(crate) async fn revoked_tokens_are_remembered_and_their_time_never_goes_back(directory: AnyDirectory) {
    let ann = user("ann");
    let missing = directory.revoke_tokens(&ann, NOW).await;
    assert!(matches!(missing, Err(DirectoryError::NoSuchUser(id)) if id == ann));
    assert_eq!(directory.ensure_user(&ann, NOW).await.unwrap().tokens_revoked, None);
    let back = directory.set_deactivated(&ann, false, NOW).await.unwrap();
    assert_eq!(back.tokens_revoked, None);
    let revoked = directory.revoke_tokens(&ann, NOW).await.unwrap();
    assert_eq!((revoked.tokens_revoked, revoked.deactivated), (Some(NOW), false));
    for (deactivated, now, expected) in [(true, LATER, LATER), (false, LATER, LATER), (true, NOW, LATER)] {
        let written = directory.set_deactivated(&ann, deactivated, now).await.unwrap();
        assert_eq!(written.tokens_revoked, Some(expected));
    }
    let revoked = directory.revoke_tokens(&ann, NOW).await.unwrap();
    assert_eq!(revoked.tokens_revoked, Some(LATER));
    let renamed = directory.upsert_user(&ann, "Ann", NOW).await.unwrap();
    assert_eq!(renamed, directory.users(std::slice::from_ref(&ann)).await.unwrap()[0]);
    assert_eq!(renamed, directory.list_users(None, 1).await.unwrap()[0]);
    assert_eq!(renamed.tokens_revoked, Some(LATER));
}

pub(crate) async fn revocations_are_listed_in_order_and_paged(directory: AnyDirectory) {
    with_users(&directory, &["ann", "bob"]).await;
    let at = |offset| UnixMillis(NOW.0 + offset);
    directory
        .remove_device(&user("bob"), &device("phone"), at(3))
        .await
        .unwrap();
    directory
        .remove_device(&user("ann"), &device("phone"), at(3))
        .await
        .unwrap();
    directory
        .remove_device(&user("ann"), &device("old"), at(1))
        .await
        .unwrap();
    directory.revoke_tokens(&user("ann"), at(3)).await.unwrap();
    directory.revoke_tokens(&user("bob"), at(2)).await.unwrap();
    directory.set_deactivated(&user("bob"), true, at(5)).await.unwrap();
    let revocation = |offset, name, on: Option<&str>| Revocation {
        at: at(offset),
        user: user(name),
        device: on.map(device),
    };
    let all = [
        revocation(1, "ann", Some("old")),
        revocation(3, "ann", None),
        revocation(3, "ann", Some("phone")),
        revocation(3, "bob", Some("phone")),
        revocation(5, "bob", None),
    ];
    assert_eq!(directory.revocations(NOW, None, 10).await.unwrap(), all);
    assert_eq!(directory.revocations(at(3), None, 10).await.unwrap(), all[1..]);
    assert_eq!(directory.revocations(at(6), None, 10).await.unwrap(), []);
    for size in 1..all.len() {
        let mut listed: Vec<Revocation> = Vec::new();
        loop {
            let page = directory.revocations(at(1), listed.last(), size).await.unwrap();
            assert!(page.len() <= size);
            if page.is_empty() {
                break;
            }
            listed.extend(page);
        }
        assert_eq!(listed, all, "pages of {size}");
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

/// I9: invented ids, of hellos or of removals, leave a bounded number of rows.
pub(crate) async fn devices_of_a_user_are_bounded(directory: AnyDirectory) {
    with_users(&directory, &["ann", "bob"]).await;
    let ann = user("ann");
    directory.touch_device(&ann, &device("phone"), NOW).await.unwrap();
    for number in 1..DEVICES_MAX {
        let invented = device(&format!("invented-{number}"));
        directory.remove_device(&ann, &invented, LATER).await.unwrap();
    }
    let too_many = |refused| matches!(refused, Err(DirectoryError::TooManyDevices(id)) if id == ann);
    assert!(too_many(
        directory.remove_device(&ann, &device("one"), LATER).await.map(drop)
    ));
    assert!(too_many(directory.touch_device(&ann, &device("one"), LATER).await));
    assert_eq!(directory.device_removed_at(&ann, &device("one")).await.unwrap(), None);
    // What is known is served on, and another user is not concerned.
    directory.touch_device(&ann, &device("phone"), LATER).await.unwrap();
    directory
        .touch_device(&ann, &device("invented-1"), LATER)
        .await
        .unwrap();
    assert!(
        directory
            .remove_device(&ann, &device("invented-1"), LATER)
            .await
            .unwrap()
    );
    directory
        .touch_device(&user("bob"), &device("one"), LATER)
        .await
        .unwrap();
    // Much later the oldest removal makes room, once.
    let much_later = UnixMillis(LATER.0 + REMOVAL_KEPT_MS);
    directory
        .remove_device(&ann, &device("invented-2"), much_later)
        .await
        .unwrap();
    directory.touch_device(&ann, &device("one"), much_later).await.unwrap();
    assert_eq!(
        directory.device_removed_at(&ann, &device("invented-1")).await.unwrap(),
        None
    );
    assert_eq!(
        directory.device_removed_at(&ann, &device("invented-2")).await.unwrap(),
        Some(much_later)
    );
    assert_eq!(directory.devices(&ann).await.unwrap().len(), 2);
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
