//! When a group is promoted, and whom its channel reaches.

use super::*;

const GROUP: ConversationId = ConversationId([1; 16]);
const TWO_OTHERS: Option<View> = Some(View { others: 2, epoch: 1 });

fn users(count: usize) -> Vec<UserId> {
    let name = |number| UserId::parse(&format!("u{number:03}")).unwrap();
    (0..count).map(name).collect()
}

/// Events for these users, `apart` from each other, until something is to be announced; at most so many.
async fn events(busy: &Busy, users: &[UserId], most: u32, apart: Duration) -> Option<(u32, Announcement)> {
    for number in 1..=most {
        let way = busy.way(GROUP, users, TWO_OTHERS, true);
        if let Some(announcement) = way.announcement {
            return Some((number, announcement));
        }
        tokio::time::advance(apart).await;
    }
    None
}

/// How many of these users the channel reaches.
fn reached(busy: &Busy, users: &[UserId], view: Option<View>) -> usize {
    let way = busy.way(GROUP, users, view, true);
    way.reached.into_iter().filter(|reached| *reached).count()
}

/// A group that all gateways know to be promoted, and that its channel reaches.
async fn promoted(users: &[UserId]) -> Busy {
    let busy = Busy::default();
    let (_, announcement) = events(&busy, users, EVENTS_MIN, Duration::ZERO).await.unwrap();
    busy.announced(GROUP, &announcement, Some(2));
    tokio::time::advance(SETTLES).await;
    busy
}

#[tokio::test(start_paused = true)]
async fn only_a_large_group_with_many_events_is_promoted() {
    let often = Duration::from_millis(400);
    let begun = |users: Vec<UserId>, apart| async move {
        let (number, announcement) = events(&Busy::default(), &users, 100, apart).await?;
        assert!(announcement.begins());
        assert_eq!(announcement.users, users);
        Some(number)
    };
    assert_eq!(begun(users(USERS_MIN), often).await, Some(EVENTS_MIN));
    assert_eq!(begun(users(USERS_MIN - 1), often).await, None, "small");
    assert_eq!(begun(users(USERS_MIN), 2 * often).await, None, "quiet");
    let busy = Busy::default();
    for _ in 0..EVENTS_MIN {
        let announcement = busy.way(GROUP, &users(USERS_MIN), TWO_OTHERS, false).announcement;
        assert!(announcement.is_none(), "I9: no room");
    }
    for _ in 0..EVENTS_MIN {
        let announcement = busy.way(GROUP, &users(USERS_MIN), None, true).announcement;
        assert!(announcement.is_none(), "a gateway would not hear of it");
    }
    let many = Some(View { others: 1000, epoch: 1 });
    let busy = Busy::default();
    let number = (1..100).find(|_| busy.way(GROUP, &users(500), many, true).announcement.is_some());
    assert_eq!(number, Some(32), "announcing costs more where there are many gateways");
}

/// Who is told by the channel is known to be listening, or had the time to.
#[tokio::test(start_paused = true)]
async fn the_channel_reaches_whom_all_gateways_heard_of_for_a_while() {
    let users = users(USERS_MIN);
    let busy = Busy::default();
    let (_, announcement) = events(&busy, &users, EVENTS_MIN, Duration::ZERO).await.unwrap();
    assert!(
        events(&busy, &users, 20, Duration::ZERO).await.is_none(),
        "one is under way"
    );
    busy.announced(GROUP, &announcement, Some(1));
    tokio::time::advance(SETTLES).await;
    assert_eq!(reached(&busy, &users, TWO_OTHERS), 0, "one gateway did not hear it");
    let (_, announcement) = events(&busy, &users, EVENTS_MIN, AGAIN / 4).await.unwrap();
    assert!(announcement.begins(), "all begins anew");
    busy.announced(GROUP, &announcement, Some(2));
    assert_eq!(reached(&busy, &users, TWO_OTHERS), 0, "they subscribe");
    tokio::time::advance(SETTLES).await;
    assert_eq!(reached(&busy, &users, TWO_OTHERS), USERS_MIN);
    assert_eq!(reached(&busy, &users[1..], TWO_OTHERS), 0, "63 are told each");
}

/// I7: who joins is told by their own topic meanwhile, and an event is for nobody but those that it is for.
#[tokio::test(start_paused = true)]
async fn i7_who_joins_is_told_by_their_own_topic_until_gateways_know() {
    let all = users(USERS_MIN + 1);
    let busy = promoted(&all[..USERS_MIN]).await;
    let way = busy.way(GROUP, &all, TWO_OTHERS, true);
    assert_eq!(way.reached, [vec![true; USERS_MIN], vec![false]].concat());
    let joined = way.announcement.unwrap();
    assert!(joined.begins());
    assert_eq!(joined.users, all[USERS_MIN..]);
    busy.announced(GROUP, &joined, Some(2));
    assert_eq!(reached(&busy, &all, TWO_OTHERS), USERS_MIN);
    tokio::time::advance(SETTLES).await;
    assert_eq!(reached(&busy, &all, TWO_OTHERS), USERS_MIN + 1);
    assert_eq!(reached(&busy, &all[1..], TWO_OTHERS), USERS_MIN, "one left");
}

#[tokio::test(start_paused = true)]
async fn a_busy_group_is_announced_again_and_a_quiet_one_goes_the_way_of_before() {
    let all = users(USERS_MIN + 1);
    let busy = promoted(&all).await;
    // One of them left: they are named for a while.
    let stayed = &all[1..];
    let mut named = Vec::new();
    for _ in 0..4 {
        let (_, again) = events(&busy, stayed, 20, Duration::from_millis(500)).await.unwrap();
        assert!(!again.begins());
        named.push(again.users.len());
        busy.announced(GROUP, &again, Some(2));
        assert_eq!(reached(&busy, stayed, TWO_OTHERS), USERS_MIN);
    }
    assert_eq!(named.first().zip(named.last()), Some((&(USERS_MIN + 1), &USERS_MIN)));
    tokio::time::advance(GOOD_FOR).await;
    assert_eq!(reached(&busy, stayed, TWO_OTHERS), 0, "gateways may have forgotten it");
    let busy = promoted(&all).await;
    tokio::time::advance(2 * WINDOW).await;
    assert!(events(&busy, &all, 100, WINDOW / 4).await.is_none(), "it is quiet");
}

/// I5: nothing goes by a channel that somebody may not hear.
#[tokio::test(start_paused = true)]
async fn i5_what_is_in_doubt_goes_the_way_of_before() {
    let users = users(USERS_MIN);
    let busy = promoted(&users).await;
    assert_eq!(
        reached(&busy, &users, Some(View { others: 3, epoch: 2 })),
        0,
        "one came"
    );
    let busy = promoted(&users).await;
    assert_eq!(reached(&busy, &users, None), 0, "not all are known");
    let busy = promoted(&users).await;
    assert!(busy.heard(GROUP, Some(2)));
    assert!(busy.heard(GROUP, Some(2)));
    assert!(
        !busy.heard(GROUP, Some(1)),
        "one heard the event before and not this one"
    );
    assert!(busy.heard(GROUP, Some(1)), "it left");
    assert!(!busy.heard(GROUP, None), "redis did not answer");
    let (_, again) = events(&busy, &users, 20, Duration::from_millis(500)).await.unwrap();
    busy.announced(GROUP, &again, Some(1));
    assert_eq!(reached(&busy, &users, TWO_OTHERS), 0, "one may not know");
}

/// I9: what is counted is bounded, and makes room once it is quiet.
#[tokio::test(start_paused = true)]
async fn i9_groups_that_are_counted_are_bounded() {
    let (busy, users) = (Busy::default(), users(USERS_MIN));
    let id = |number: usize| ConversationId((number as u128).to_be_bytes());
    for number in 0..2 * COUNTED_MAX {
        busy.way(id(number), &users, TWO_OTHERS, true);
    }
    assert_eq!(lock(&busy.0).len(), COUNTED_MAX);
    tokio::time::advance(2 * WINDOW).await;
    busy.way(id(usize::MAX), &users, TWO_OTHERS, true);
    assert_eq!(lock(&busy.0).len(), 1);
}
