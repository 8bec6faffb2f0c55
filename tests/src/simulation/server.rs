//! The server's side of a run: the real node on simulated sockets.

use std::collections::BTreeSet;
use std::error::Error;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use stonechat_server::config::Config;
use stonechat_server::conversation::{Caller, Conversations, CreateRequest, Limits};
use stonechat_server::domain::authorization::Actor;
use stonechat_server::domain::{ClientMsgId, ConversationId, CorrelationId, Kind, Member, Role, UnixMillis, UserId};
use stonechat_server::node::{Grounds, Node};
use stonechat_server::storage::Directory;

use super::net::SimListener;
use super::world::{Disk, authenticator, server_host};

/// Where the server listens.
pub(super) const PORT: u16 = 7_400;

/// Serves until the host crashes.
pub(super) async fn serve(disk: Rc<Disk>, seed: u64) -> Result<(), Box<dyn Error>> {
    let host = server_host(seed);
    let backends = disk.backends();
    let grounds = Grounds {
        authenticator: authenticator(&backends, &host),
        backends,
    };
    let listener = SimListener::bind(PORT).await?;
    let _node = Node::start(&Config::default(), host, grounds, Arc::new(listener)).await?;
    std::future::pending::<()>().await;
    Ok(())
}

fn user(name: &str) -> UserId {
    UserId::parse(name).unwrap_or_else(|error| panic!("{error}"))
}

/// Makes users and a group of all of them.
pub(super) async fn create_group(disk: &Disk, users: &[&str], seed: u64) -> ConversationId {
    for name in users {
        let made = disk.directory.ensure_user(&user(name), UnixMillis(0)).await;
        made.unwrap_or_else(|error| panic!("{error}"));
    }
    let rules = Conversations::new(disk.backends(), server_host(seed), Limits::default());
    let request = CreateRequest {
        client_msg_id: ClientMsgId::parse("create").unwrap_or_else(|error| panic!("{error}")),
        owner: user(users[0]),
        kind: Kind::Group,
        name: "group".to_owned(),
        members: users[1..]
            .iter()
            .map(|name| Member {
                user: user(name),
                role: Role::Member,
            })
            .collect(),
        created: None,
    };
    let caller = Caller {
        actor: Actor::User(user(users[0])),
        device: None,
        correlation: CorrelationId::default(),
    };
    let made = rules.create(&caller, request).await;
    made.unwrap_or_else(|refusal| panic!("{refusal}")).id
}

/// A token that outlives the run.
pub(super) fn token(disk: &Disk, name: &str, seed: u64) -> String {
    let issuer = authenticator(&disk.backends(), &server_host(seed));
    let issued = issuer.issue(&user(name), None, &BTreeSet::new(), Duration::from_secs(86_400));
    let issued = issued.unwrap_or_else(|refusal| panic!("{refusal}"));
    issued.token.expose().clone()
}
