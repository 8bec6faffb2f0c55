//! Says hello and prints what comes: `cargo run -p stonechat-client --example hello -- TOKEN CONVERSATION_ID`.
//!
//! Kill it, kill the server, cut the network: what was taken is sent once, what was handled does not come again.

use std::sync::Arc;

use stonechat_client::{Client, ClientConfig, Event, FileStore, StaticToken};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(token), Some(conversation)) = (arguments.next(), arguments.next()) else {
        return Err("usage: hello TOKEN CONVERSATION_ID".into());
    };
    let config = ClientConfig {
        store: Arc::new(FileStore::open("hello.journal")?),
        ..ClientConfig::new("http://127.0.0.1:7400", Arc::new(StaticToken(token)), "hello-1")
    };
    let (client, mut events) = Client::connect(config).await?;
    let sent = client.send_text(&conversation, "hello").await?;
    println!("in the outbox as {}", sent.client_msg_id);
    while let Some(event) = events.next().await {
        match event {
            Event::SendAccepted(appended) => println!("stored as #{}", appended.seq),
            Event::Delivered { entry, .. } => println!("#{} {}: {:?}", entry.seq, entry.sender_user_id, entry.body),
            Event::Disconnected { reason, retry } => println!("disconnected ({reason:?}), next try in {retry:?}"),
            other => println!("{other:?}"),
        }
    }
    Ok(())
}
