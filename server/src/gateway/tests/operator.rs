//! The operator's port while the node goes down.

use std::pin::pin;

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::sync::mpsc;

use stonechat_proto::v1::session_service_client::SessionServiceClient;

use super::harness::node_with_operator;

async fn get(port: &mpsc::Sender<DuplexStream>, path: &str) -> String {
    let (mut here, there) = tokio::io::duplex(1024 * 1024);
    port.send(there).await.expect("a port");
    let request = format!("GET {path} HTTP/1.1\r\nhost: node\r\nconnection: close\r\n\r\n");
    here.write_all(request.as_bytes()).await.expect("written");
    let mut answer = String::new();
    here.read_to_string(&mut answer).await.expect("an answer");
    answer
}

/// Operators are served to the last: they see that the node goes down, and what keeps it.
#[tokio::test(start_paused = true)]
async fn a_drain_is_seen() {
    let (node, port) = node_with_operator().await;
    assert!(get(&port, "/health/ready").await.starts_with("HTTP/1.1 200"));
    // A stream that has not said hello may go on for 5 s.
    let mut client = SessionServiceClient::new(node.channel().await);
    let (_frames, silent) = mpsc::channel(1);
    let stream = client.exchange(tokio_stream::wrappers::ReceiverStream::new(silent));
    let _stream = stream.await.expect("a stream");
    let mut drain = pin!(node.handle.drain());
    let looks = async {
        let mut ready = get(&port, "/health/ready").await;
        while ready.starts_with("HTTP/1.1 200") {
            tokio::task::yield_now().await;
            ready = get(&port, "/health/ready").await;
        }
        assert!(
            ready.starts_with("HTTP/1.1 503") && ready.ends_with("draining\n"),
            "{ready}"
        );
        assert!(get(&port, "/health/live").await.starts_with("HTTP/1.1 200"));
        let metrics = get(&port, "/metrics").await;
        assert!(metrics.lines().any(|line| line == "stonechat_draining 1"), "{metrics}");
    };
    tokio::select! { biased;
        () = &mut drain => panic!("the node ended first"),
        () = looks => {}
    }
    drain.await;
    assert!(port.is_closed(), "its port is closed with it");
}
