//! What is projected from logs, and what a user's list shows of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{AnyDirectory, conversation_id, direct, projection, read, standing, user, with_group, with_users};
use crate::domain::{Kind, Role, Seq, UnixMillis};
use crate::storage::{DirectoryError, Settings, SettingsPatch};

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
    type Step<'a> = (&'a [(u64, bool)], &'a [u64]);
    let steps: [Step<'_>; 4] = [
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

/// For everybody whom a change concerns, and whoever asked before.
pub(crate) async fn views_are_as_they_were_last_written(directory: AnyDirectory) {
    let here = with_group(&directory, 1, &["ann", "bob"]).await;
    let view = async |name: &str| {
        let mut views = directory.views(&user(name), &[here]).await.unwrap();
        views.remove(&here).unwrap()
    };
    assert_eq!(view("ann").await, view("ann").await);
    assert_eq!(view("bob").await.name, "book club");
    let mut change = projection(2, &[("ann", standing(Role::Member, &[(1, Some(2))]))]);
    change.name = Some("film club".to_owned());
    directory.apply(here, change).await.unwrap();
    for name in ["ann", "bob"] {
        assert_eq!(view(name).await.name, "film club");
    }
    let left = view("ann").await.standing;
    assert_eq!(left, Some(standing(Role::Member, &[(1, Some(2))])));
    let archive = SettingsPatch {
        archived: Some(true),
        ..SettingsPatch::default()
    };
    directory.update_settings(&user("bob"), here, archive).await.unwrap();
    assert!(view("bob").await.settings.archived);
    assert!(!view("ann").await.settings.archived);
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
