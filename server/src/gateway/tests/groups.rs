//! Large groups on two nodes over a real Redis: told once for each gateway, and heard as if each member were told (C5, C12, C13,
//! I5, I7).

use std::sync::Arc;

use stonechat_host::Host;
use stonechat_proto::v1;
use stonechat_proto::v1::conversation_service_client::ConversationServiceClient;

use super::harness::{Peer, TestNode, appended, grounds, node_among, send, until};
use super::nodes::{VISIBLE_WITHIN, acquainted};
use crate::bus::redis::{RedisBus, RedisOptions};
use crate::bus::{Bus, Event};
use crate::config::Config;
use crate::conversation::Backends;
use crate::domain::{ConversationId, CorrelationId, UserId};
use crate::node::Grounds;
use crate::storage::contract::samples;
use crate::storage::contract::services::{REDIS, service};

/// Two nodes on the same stores, each with its own connection to one Redis.
struct Pair {
    one: TestNode,
    other: TestNode,
    buses: [Arc<RedisBus>; 2],
}

async fn bus(prefix: &str) -> Option<Arc<RedisBus>> {
    let options = RedisOptions {
        addresses: vec![service(REDIS)?],
        trust: None,
        cluster: false,
        prefix: prefix.to_owned(),
    };
    let opened = RedisBus::open(options, Host::system()).await;
    Some(Arc::new(opened.expect("usable options")))
}

fn member(number: usize) -> String {
    format!("member{number}")
}

impl Pair {
    /// `None` where no Redis is.
    async fn start() -> Option<Self> {
        let prefix = format!("{}:", CorrelationId(Host::system().random.bytes16()));
        let buses = [bus(&prefix).await?, bus(&prefix).await?];
        let first = grounds(Arc::clone(&buses[0]) as _);
        let second = Grounds {
            backends: Backends {
                bus: Arc::clone(&buses[1]) as _,
                ..first.backends.clone()
            },
            authenticator: Arc::clone(&first.authenticator),
        };
        let (one, other) = (
            node_among(first, Config::default()).await,
            node_among(second, Config::default()).await,
        );
        acquainted(&[(&one, 1), (&other, 1)]).await;
        let pair = Self { one, other, buses };
        for bus in &pair.buses {
            let users: Vec<UserId> = (0..500)
                .map(|number| UserId::parse(&format!("nobody{number}")).expect("a user"))
                .collect();
            let event = || Event::OwnRow(ConversationId([1; 16]));
            let hear = async || bus.publish_to_users(&users, event()).await.is_none();
            until("both hear what goes to all gateways", hear).await;
        }
        Some(pair)
    }

    /// A group of its owner and so many members.
    async fn group(&self, members: usize) -> String {
        self.one.direct("owner", "member0").await;
        for number in 0..members {
            self.user(&member(number)).await;
        }
        let create = v1::CreateConversationRequest {
            client_msg_id: "group".into(),
            kind: v1::ConversationKind::Group.into(),
            name: "Large".into(),
            members: (0..members).map(|number| as_member(&member(number))).collect(),
        };
        let mut client = ConversationServiceClient::new(self.one.channel().await);
        let answer = client
            .create_conversation(self.one.request("owner", "setup", create))
            .await;
        match answer.expect("an answer").into_inner().outcome {
            Some(v1::create_conversation_response::Outcome::Conversation(made)) => made.conversation_id,
            other => panic!("not created: {other:?}"),
        }
    }

    async fn user(&self, name: &str) {
        let id = UserId::parse(name).expect("a user");
        let directory = &self.one.grounds.backends.directory;
        directory.ensure_user(&id, Default::default()).await.expect("a user");
    }

    /// Adds a member; the seq of that.
    async fn add(&self, group: &str, user: &str) -> u64 {
        let request = v1::SetMembersRequest {
            header: header(group, "add"),
            members: vec![as_member(user)],
        };
        let mut client = ConversationServiceClient::new(self.one.channel().await);
        let answer = client.set_members(self.one.request("owner", "setup", request)).await;
        match answer.expect("an answer").into_inner().outcome {
            Some(v1::set_members_response::Outcome::Appended(appended)) => appended.seq,
            other => panic!("not added: {other:?}"),
        }
    }

    /// Removes a member; the seq of that.
    async fn remove(&self, group: &str, user: &str) -> u64 {
        let request = v1::RemoveMemberRequest {
            header: header(group, "remove"),
            user_id: user.to_owned(),
        };
        let mut client = ConversationServiceClient::new(self.one.channel().await);
        let answer = client.remove_member(self.one.request("owner", "setup", request)).await;
        match answer.expect("an answer").into_inner().outcome {
            Some(v1::remove_member_response::Outcome::Appended(appended)) => appended.seq,
            other => panic!("not removed: {other:?}"),
        }
    }

    fn publishes(&self) -> u64 {
        self.buses.iter().map(|bus| bus.publishes()).sum()
    }
}

fn as_member(user: &str) -> v1::Member {
    v1::Member {
        user_id: user.to_owned(),
        role: 0,
    }
}

fn header(group: &str, id: &str) -> Option<v1::AppendHeader> {
    Some(v1::AppendHeader {
        conversation_id: group.to_owned(),
        client_msg_id: id.to_owned(),
        ..Default::default()
    })
}

/// The seqs of a conversation that come until one of another conversation does.
async fn heard_until(peer: &mut Peer, group: &str, end: &str) -> Vec<u64> {
    let mut seqs = Vec::new();
    loop {
        let (entry, _) = peer.delivery().await;
        if entry.conversation_id == end {
            return seqs;
        }
        assert_eq!(entry.conversation_id, group);
        seqs.push(entry.seq);
    }
}

/// C5, I3: every session has each entry once, in order, on both nodes; and an entry costs about one publish, not one for each
/// member.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_member_of_a_large_group_hears_each_entry_once_for_one_publish() {
    /// Beside the owner: the most that a group can have.
    const MEMBERS: usize = 499;
    const ENTRIES: u64 = 20;
    let Some(pair) = Pair::start().await else { return };
    let group = pair.group(MEMBERS).await;
    let mut sender = pair.one.live_with_backlog("owner", "phone").await;
    let mut peers = Vec::new();
    for number in 1..=40 {
        let node = if number % 2 == 0 { &pair.one } else { &pair.other };
        peers.push(node.live_with_backlog(&member(number * 10), "phone").await);
    }
    let before = pair.publishes();
    for number in 0..ENTRIES {
        assert_eq!(sender.say(&group, &format!("m{number}")).await, number + 2);
    }
    for peer in &mut peers {
        for expected in 2..ENTRIES + 2 {
            let (entry, backlog) = peer.delivery().await;
            assert_eq!((entry.seq, backlog), (expected, false));
        }
    }
    let publishes = pair.publishes() - before;
    println!("{publishes} publishes for {ENTRIES} entries to {MEMBERS} members on 2 nodes");
    // With those of receipts for the backlog, and for a moment at which a node did not answer.
    assert!(publishes < ENTRIES * MEMBERS as u64 / 4, "{publishes} publishes");
}

/// C12, C13, I7: under load, the entry that removes somebody is their last, and the one that adds somebody their first, with
/// everything after it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c12_c13_who_leaves_and_joins_a_large_group_hears_exactly_their_part() {
    let Some(pair) = Pair::start().await else { return };
    let group = pair.group(100).await;
    pair.user("comer").await;
    let mut sender = pair.one.live_with_backlog("owner", "phone").await;
    // On both nodes: one of them owns the group, and hears its entries without Redis.
    let (mut leavers, mut stayers, mut comers) = (Vec::new(), Vec::new(), Vec::new());
    for (node, device) in [(&pair.one, "phone"), (&pair.other, "laptop")] {
        leavers.push(node.live_with_backlog(&member(1), device).await);
        stayers.push(node.live_with_backlog(&member(2), device).await);
        comers.push(node.live_with_backlog("comer", device).await);
    }
    let (mut asked, mut left, mut joined) = (Vec::new(), 0, 0);
    for number in 0..30 {
        asked.push(sender.ask(send(&group, &format!("m{number}"), "x")).await);
        match number {
            10 => left = pair.remove(&group, &member(1)).await,
            20 => joined = pair.add(&group, "comer").await,
            _ => {}
        }
    }
    for request in asked {
        appended(sender.answer(request).await);
    }
    let head = 1 + 30 + 2;
    for stayer in &mut stayers {
        for expected in 2..=head {
            assert_eq!(stayer.delivery().await.0.seq, expected);
        }
    }
    // What a node heard before is with its sessions before this.
    for (name, peers, part) in [
        (member(1), &mut leavers, 2..=left),
        ("comer".to_owned(), &mut comers, joined..=head),
    ] {
        let end = pair.one.direct("owner", &name).await;
        for peer in peers {
            let heard = heard_until(peer, &group, &end).await;
            assert_eq!(heard, part.clone().collect::<Vec<u64>>(), "{name}");
        }
    }
}

/// I5: an entry of a large group that nobody fanned out, because who appended it died, is visible within 15 s on both nodes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i5_what_a_dead_owner_left_of_a_large_group_is_fanned_out_by_another() {
    let Some(pair) = Pair::start().await else { return };
    let group = pair.group(100).await;
    let mut peers = [
        pair.one.live_with_backlog(&member(1), "phone").await,
        pair.other.live_with_backlog(&member(2), "phone").await,
    ];
    let id = group.parse().expect("an id");
    let log = &*pair.one.grounds.backends.log;
    samples::append(log, id, &[samples::message("left")])
        .await
        .expect("appended");
    for peer in &mut peers {
        let heard = tokio::time::timeout(VISIBLE_WITHIN, peer.delivery()).await;
        assert_eq!(heard.expect("it stayed hidden").0.seq, 2);
    }
}
