//! The shipped backends over a real loopback socket: what was acknowledged is there after a restart.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use stonechat_host::{Host, TcpConnector};
use stonechat_proto::v1;
use stonechat_proto::v1::server_frame::Body as Reply;

use super::harness::{Peer, TestNode};
use crate::config::Config;
use crate::node::{Grounds, Node};

async fn start(config: &Config) -> TestNode {
    let host = Host::system();
    let grounds = Grounds::open(config, &host).await.expect("backends");
    let listener = stonechat_host::TcpListener::bind(&config.listen.to_string())
        .await
        .expect("a port");
    let handle = Node::start(config, host, grounds.clone(), Arc::new(listener)).await;
    TestNode::over_tcp(handle.expect("a node"), grounds, TcpConnector)
}

/// I1: sent over TCP, drained, opened again: the other side has it at its next hello, once, and the sender's retry too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i1_acknowledged_messages_survive_a_restart() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = Config {
        data_folder: folder.path().join("data"),
        listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
        ..Config::default()
    };
    let node = start(&config).await;
    let conversation = node.direct("alice", "bob").await;
    let mut alice = node.live("alice", "a1").await;
    for number in 0..50 {
        assert_eq!(alice.say(&conversation, &format!("m{number}")).await, number + 2);
    }
    node.handle.drain().await;
    assert_eq!(alice.closed().await.reason(), v1::CloseReason::Draining);
    let log = Arc::downgrade(&node.grounds.backends.log);
    drop((node, alice));
    // The last task of the first node lets go of the folder.
    while log.upgrade().is_some() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }

    let node = start(&config).await;
    let mut alice = node.live_with_backlog("alice", "a1").await;
    assert_eq!(
        alice.say(&conversation, "m7").await,
        9,
        "a retry gets the seq of the first try"
    );
    let (mut bob, _) = node.open(node.hello("bob", "b1")).await;
    read_all(&mut bob, &conversation, 51).await;
    node.handle.drain().await;
}

async fn read_all(peer: &mut Peer, conversation: &str, head: u64) {
    for seq in 1..=head {
        assert_eq!(peer.delivery().await.0.seq, seq);
        peer.ack(conversation, seq).await;
    }
    peer.until(|body| matches!(body, Reply::CaughtUp(_))).await;
}
