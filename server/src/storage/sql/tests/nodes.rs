//! Several nodes on one Postgres: what each decides must be one decision.

use std::sync::Arc;

use super::super::PostgresDirectory;
use super::schema::Schema;
use super::{NOW, user};
use crate::domain::limits::DEVICES_MAX;
use crate::domain::roster::Standing;
use crate::domain::{ClientMsgId, ConversationId, CorrelationId, DeviceId, Kind, Member, Role, Sender, Seq, Span};
use crate::storage::{Directory, DirectoryError, NewConversation, Projection};

/// Races per test: each starts anew, so that some of them meet between a look and a write.
const ROUNDS: u16 = 30;

/// Projections of one conversation.
const STEPS: u64 = 40;

type Node = Arc<PostgresDirectory>;

async fn two_nodes() -> Option<(Node, Node, Schema)> {
    let schema = Schema::create().await?;
    Some((schema.node().await, schema.node().await, schema))
}

async fn with_users(node: &Node, names: &[&str]) {
    for name in names {
        node.ensure_user(&user(name), NOW).await.unwrap();
    }
}

fn id(node: u8, round: u16) -> ConversationId {
    let mut bytes = [node; 16];
    bytes[..2].copy_from_slice(&round.to_be_bytes());
    ConversationId(bytes)
}

fn new(id: ConversationId, request: &str, names: &[&str]) -> NewConversation {
    let member = |name: &&str| Member {
        user: user(name),
        role: Role::Member,
    };
    NewConversation {
        id,
        kind: Kind::Group,
        name: "book club".to_owned(),
        creator: Sender {
            user: Some(user(names[0])),
            device: None,
        },
        client_msg_id: ClientMsgId::parse(request).unwrap(),
        correlation: CorrelationId([5; 16]),
        members: names.iter().map(member).collect(),
        created: NOW,
    }
}

fn direct(id: ConversationId, request: &str, creator: &str, names: [&str; 2]) -> NewConversation {
    let mut direct = new(id, request, &names);
    direct.kind = Kind::Direct;
    direct.name = String::new();
    direct.creator.user = Some(user(creator));
    direct
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pair_created_on_two_nodes_at_once_is_one() {
    let Some((one, other, _schema)) = two_nodes().await else {
        return;
    };
    for round in 0..ROUNDS {
        let peer = format!("peer{round}");
        with_users(&one, &["ann", &peer]).await;
        let request = format!("request{round}");
        let (here, there) = tokio::join!(
            one.create_conversation(direct(id(1, round), &request, "ann", ["ann", &peer])),
            other.create_conversation(direct(id(2, round), &request, &peer, ["ann", &peer])),
        );
        assert_eq!(here.unwrap(), there.unwrap());
    }
    assert_eq!(
        one.list_conversations(None, 1_000).await.unwrap().len(),
        usize::from(ROUNDS)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_repeated_on_two_nodes_at_once_creates_once() {
    let Some((one, other, _schema)) = two_nodes().await else {
        return;
    };
    with_users(&one, &["ann", "bob"]).await;
    for round in 0..ROUNDS {
        let request = format!("request{round}");
        let (here, there) = tokio::join!(
            one.create_conversation(new(id(1, round), &request, &["ann", "bob"])),
            other.create_conversation(new(id(2, round), &request, &["ann", "bob"])),
        );
        assert_eq!(here.unwrap(), there.unwrap());
    }
    assert_eq!(
        one.list_conversations(None, 1_000).await.unwrap().len(),
        usize::from(ROUNDS)
    );
}

/// One asks for a group and the other for a 1:1 that is there already, which writes the request alone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_id_used_on_two_nodes_for_two_things_is_refused_to_one() {
    let Some((one, other, _schema)) = two_nodes().await else {
        return;
    };
    with_users(&one, &["ann", "bob"]).await;
    let pair = direct(id(9, 0), "first", "ann", ["ann", "bob"]);
    one.create_conversation(pair).await.unwrap();
    for round in 0..ROUNDS {
        let request = format!("request{round}");
        let (here, there) = tokio::join!(
            one.create_conversation(new(id(1, round), &request, &["ann", "bob"])),
            other.create_conversation(direct_without_device(&request)),
        );
        match (here, there) {
            (Ok(_), Err(DirectoryError::IdReused)) | (Err(DirectoryError::IdReused), Ok(_)) => {}
            others => panic!("{others:?}"),
        }
    }
}

fn direct_without_device(request: &str) -> NewConversation {
    direct(id(2, u16::MAX), request, "ann", ["ann", "bob"])
}

/// What entries up to `seq` make: the name and ann's stay say which it was.
fn step(seq: u64) -> Projection {
    let spans = vec![Span {
        joined: Seq(seq),
        left: None,
    }];
    let standing = Standing {
        role: Role::Owner,
        spans,
    };
    Projection {
        applied: Seq(seq),
        standings: [(user("ann"), standing)].into(),
        name: Some(seq.to_string()),
        pins: vec![(Seq(1), true), (Seq(seq), true)],
    }
}

async fn apply_all(node: Node, id: ConversationId, steps: Vec<u64>) {
    for seq in steps {
        node.apply(id, step(seq)).await.unwrap();
    }
}

/// Checks that all a node reads is of one projection.
async fn read_whole(node: &Node, id: ConversationId) -> u64 {
    let record = node.conversation(id).await.unwrap().unwrap();
    let applied = record.applied;
    if applied > Seq(0) {
        assert_eq!(record.name, applied.to_string());
        assert_eq!(record.roster.standing(&user("ann")).unwrap().spans[0].joined, applied);
        assert!(record.pins.contains(&applied));
    }
    applied.0
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn projections_on_two_nodes_at_once_end_at_the_highest_and_are_read_whole() {
    let Some((one, other, _schema)) = two_nodes().await else {
        return;
    };
    with_users(&one, &["ann", "bob"]).await;
    let id = id(1, 1);
    one.create_conversation(new(id, "request", &["ann", "bob"]))
        .await
        .unwrap();
    let (odd, even) = (1..=STEPS).partition::<Vec<u64>, _>(|seq| seq % 2 == 1);
    let writers = [(&one, odd), (&other, even.clone()), (&one, even)];
    let mut writers: Vec<_> = writers
        .into_iter()
        .map(|(node, steps)| tokio::spawn(apply_all(Arc::clone(node), id, steps)))
        .collect();
    while writers.iter().any(|writer| !writer.is_finished()) {
        read_whole(&other, id).await;
    }
    for writer in writers.drain(..) {
        writer.await.unwrap();
    }
    assert_eq!(read_whole(&one, id).await, STEPS);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn devices_are_bounded_across_nodes() {
    let Some((one, other, _schema)) = two_nodes().await else {
        return;
    };
    with_users(&one, &["ann"]).await;
    // All but one of those that are kept.
    sqlx::query(
        "INSERT INTO devices (user_id, device_id, present, created_ms, last_seen_ms)
         SELECT 'ann', 'old' || number, TRUE, 1, 1 FROM generate_series(2, $1::BIGINT) AS number",
    )
    .bind(i64::try_from(DEVICES_MAX).unwrap())
    .execute(one.writer())
    .await
    .unwrap();
    let hello = |node: &Node, number: u32| {
        let (node, device) = (Arc::clone(node), DeviceId::parse(&format!("new{number}")).unwrap());
        tokio::spawn(async move { node.touch_device(&user("ann"), &device, NOW).await })
    };
    let hellos: Vec<_> = (0..8)
        .map(|number| hello([&one, &other][number as usize % 2], number))
        .collect();
    let mut registered = 0;
    for hello in hellos {
        match hello.await.unwrap() {
            Ok(()) => registered += 1,
            Err(DirectoryError::TooManyDevices(_)) => {}
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!(registered, 1);
    assert_eq!(one.devices(&user("ann")).await.unwrap().len(), DEVICES_MAX);
}
