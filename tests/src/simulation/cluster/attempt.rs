//! One try of a request: over a network that loses, delays and doubles, to a node that may die meanwhile.

use std::sync::Arc;
use std::time::Duration;

use stonechat_server::conversation::{AppendRequest, Appended, Caller};
use stonechat_server::domain::{Effect, Refusal, Seq};
use tokio::time::Instant;

use super::node::Node;
use super::world::World;
use crate::checker::{OpId, Seq as SeenSeq, What};

/// Longest that a request or an answer takes when it is late.
const LATE_MAX: Duration = Duration::from_secs(2);
/// When a second copy of a request arrives at the latest.
const DOUBLE_MAX: Duration = Duration::from_secs(20);
/// How long a device waits for an answer.
const PATIENCE: Duration = Duration::from_millis(1_500);

/// A try that is about to leave.
pub(super) struct Try {
    pub(super) node: Arc<Node>,
    pub(super) caller: Caller,
    pub(super) request: AppendRequest,
    pub(super) op: OpId,
    /// When it arrives: a stream keeps its order.
    pub(super) due: Instant,
}

/// How a try ended for its sender.
pub(super) enum Landed {
    Acked(Seq),
    Refused(Refusal),
    Unknown,
}

/// When a request that leaves now arrives.
pub(super) fn due(world: &World) -> Instant {
    let mut due = stonechat_host::monotonic() + world.dice.millis(Duration::from_millis(8));
    if world.weather.strikes(world.weather.faults().net_late, "requests late") {
        due += world.dice.millis(LATE_MAX);
    }
    due
}

/// Sends, waits, and records how it ended.
pub(super) async fn attempt(world: Arc<World>, leaving: Try) -> Landed {
    let op = leaving.op;
    let answer = tokio::time::timeout(PATIENCE, Box::pin(exchange(&world, leaving))).await;
    match answer {
        Ok(Some(Ok(appended))) => {
            world.weather.count("acks");
            let seq = SeenSeq(appended.seq.0);
            world.record(What::SendAcked { op, seq });
            Landed::Acked(appended.seq)
        }
        Ok(Some(Err(refusal))) if refusal.effect == Effect::NotDone => {
            world.weather.count("tries refused");
            world.record(What::SendFailed { op });
            Landed::Refused(refusal)
        }
        Ok(Some(Err(_)) | None) | Err(_) => {
            world.weather.count("tries unknown");
            world.record(What::SendUnknown { op });
            Landed::Unknown
        }
    }
}

/// `None` when the connection broke.
async fn exchange(world: &Arc<World>, leaving: Try) -> Option<Result<Appended, Refusal>> {
    let Try {
        node,
        caller,
        request,
        due,
        ..
    } = leaving;
    tokio::time::sleep_until(due).await;
    let faults = world.weather.faults();
    if world.weather.strikes(faults.net_lost, "requests lost") {
        std::future::pending::<()>().await;
    }
    node.gate.pass().await;
    let honesty = &world.cluster.truth.honesty;
    let asked = honesty.arrived((request.conversation, caller.sender(), request.client_msg_id.clone()));
    let answer = tokio::select! {
        biased;
        () = node.gate.died() => return None,
        answer = node.rules.append(&caller, request) => answer,
    };
    if let Err(refusal) = &answer {
        honesty.refused(asked, refusal);
    }
    node.gate.pass().await;
    world.weather.delay(faults.net_late, "answers late", LATE_MAX).await;
    if world.weather.strikes(faults.net_lost, "answers lost") {
        std::future::pending::<()>().await;
    }
    Some(answer)
}

/// A second copy of a request, which arrives some time at some node. Nobody waits for its answer.
pub(super) fn double(world: &Arc<World>, caller: Caller, request: AppendRequest) {
    let world = Arc::clone(world);
    let wait = world.dice.millis(DOUBLE_MAX);
    tokio::spawn(async move {
        tokio::time::sleep(wait).await;
        if let Some(node) = world.any_node() {
            let id = (request.conversation, caller.sender(), request.client_msg_id.clone());
            let _asked = world.cluster.truth.honesty.arrived(id);
            let _unheard = node.rules.append(&caller, request).await;
        }
    });
}
