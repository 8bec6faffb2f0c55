//! People who write to each other through all nodes of a fleet while something goes wrong, and what must be true then.

use std::time::Duration;

use stonechat_tests::harness::{Bench, DELIVERY, Fleet, Lines, RawSession, Role, Sender, each_once, reaches_head};

/// Messages that each sender has on the way when something happens.
pub(crate) const BURST: u64 = 20;

/// One sender for each node, all in one group with a reader who only listens.
pub(crate) struct Crew {
    room: String,
    senders: Vec<Sender>,
}

/// A fleet and its crew; `None` where the services are not there.
pub(crate) async fn crewed(roles: &[Role]) -> Option<(Fleet, Crew)> {
    crewed_over(Lines::Plain, roles).await
}

/// The same, with this between the nodes.
pub(crate) async fn crewed_over(lines: Lines, roles: &[Role]) -> Option<(Fleet, Crew)> {
    crewed_among(lines, roles, 0).await
}

/// The same, in a group with so many more, who are called `other0` and so on.
pub(crate) async fn crewed_among(lines: Lines, roles: &[Role], others: usize) -> Option<(Fleet, Crew)> {
    let mut fleet = Fleet::start_over(lines, roles).await?;
    let names: Vec<String> = (0..roles.len()).map(|number| format!("sender{number}")).collect();
    let others: Vec<String> = (0..others).map(|number| format!("other{number}")).collect();
    let mut users: Vec<&str> = names.iter().chain(&others).map(String::as_str).collect();
    users.push("reader");
    let room = fleet.nodes[0].group(&users).await;
    let senders = names.iter().map(|name| Sender::new(name, &room)).collect();
    Some((fleet, Crew { room, senders }))
}

impl Crew {
    /// Everybody connects, each through a node of their own, and sends; nobody waits for an answer.
    pub(crate) async fn burst(&mut self, fleet: &Fleet) {
        for (sender, node) in self.senders.iter_mut().zip(&fleet.nodes) {
            sender.connect(node).await;
            sender.send(BURST).await;
        }
    }

    /// Their conversation.
    pub(crate) fn room(&self) -> &str {
        &self.room
    }

    /// Everything sent has its answer, or its stream is over.
    pub(crate) async fn answers(&mut self) {
        for sender in &mut self.senders {
            sender.answers().await;
        }
    }

    /// How many messages were acknowledged.
    pub(crate) fn acked(&self) -> u64 {
        self.senders.iter().map(Sender::acked).sum()
    }

    pub(crate) fn sent(&self) -> u64 {
        self.senders.iter().map(Sender::sent).sum()
    }

    /// A stream of the reader.
    pub(crate) async fn reader(&self, node: &Bench, device: &str) -> RawSession {
        node.open("reader", device).await
    }

    /// Within so long, a stream has everything that is in the log.
    pub(crate) async fn hears_all(&self, node: &Bench, reader: &mut RawSession, within: Duration) {
        let heard = tokio::time::timeout(within, reaches_head(node, reader, &self.room)).await;
        assert!(heard.is_ok(), "{within:?} and not at the head: I5");
    }

    /// After all is well again: everything is acknowledged, in the log once, with everybody, and nothing that anybody saw
    /// contradicts a promise.
    pub(crate) async fn judge(mut self, fleet: &mut Fleet) {
        for (sender, node) in self.senders.iter_mut().zip(&fleet.nodes) {
            sender.finish(node).await;
        }
        for node in &fleet.nodes {
            let mut reader = self.reader(node, "judge").await;
            reaches_head(node, &mut reader, &self.room).await;
        }
        for (sender, node) in self.senders.iter_mut().zip(&fleet.nodes) {
            reaches_head(node, sender.session(), &self.room).await;
        }
        let node = &fleet.nodes[0];
        let senders: Vec<&Sender> = self.senders.iter().collect();
        let total = each_once(node, &self.room, &senders).await;
        println!("{total} messages, each once, through {} nodes", fleet.nodes.len());
        node.verdict().await.assert_clean(&DELIVERY);
    }
}
