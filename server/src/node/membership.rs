//! A node's place among others: its listener for them, its announcements, and what it takes over from the dead.

use std::sync::Arc;

use stonechat_host::{Connector, Host, Listener, TcpConnector};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

use super::StartError;
use super::listeners::node_files;
use crate::bus::NodeRecord;
use crate::cluster::{Cluster, ForwardingServer, serve};
use crate::config::Config;
use crate::conversation::{Backends, Conversations, Limits};
use crate::domain::CorrelationId;
use crate::gateway::Gateway;
use crate::tls::NodeConnector;

/// Dropping it is a crash to the others.
pub(super) struct Membership {
    cluster: Arc<Cluster>,
    announcing: JoinHandle<()>,
    following_clock: Option<JoinHandle<()>>,
    _serving: ForwardingServer,
}

impl Membership {
    #[cfg(test)]
    pub(super) fn reachable_nodes(&self) -> usize {
        self.cluster.reachable()
    }

    /// Says that the node is not ready while its clock may not be believed (D14).
    pub(super) fn tell_of_clock(&mut self, gateway: Arc<Gateway>, health: HealthReporter) {
        let trusted = self.cluster.clock_trusted();
        self.following_clock = Some(tokio::spawn(tell_of_clock(trusted, gateway, health)));
    }

    /// Nobody says from now on that the node is ready.
    pub(super) fn hush(&self) {
        self.following_clock.as_ref().inspect(|task| task.abort());
    }

    /// The others hand this node nothing more.
    pub(super) async fn leave(&self) {
        self.announcing.abort();
        self.cluster.leave().await;
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        self.announcing.abort();
        self.hush();
    }
}

async fn tell_of_clock(mut trusted: watch::Receiver<bool>, gateway: Arc<Gateway>, health: HealthReporter) {
    while trusted.changed().await.is_ok() {
        let is_trusted = *trusted.borrow_and_update();
        gateway.trust_clock(is_trusted);
        let status = if is_trusted {
            ServingStatus::Serving
        } else {
            ServingStatus::NotServing
        };
        health.set_service_status("", status).await;
    }
}

/// The conversation rules, alone or among the other nodes when there is a listener for them.
pub(super) async fn among_nodes(
    config: &Config,
    host: &Host,
    backends: &Backends,
    limits: Limits,
    nodes: Option<Arc<dyn Listener>>,
) -> Result<(Conversations, Option<Membership>), StartError> {
    let Some(listener) = nodes else {
        return Ok((Conversations::new(backends.clone(), host.clone(), limits), None));
    };
    let address = match &config.node_advertise {
        Some(address) => address.clone(),
        None => super::address_of(&*listener)?.to_string(),
    };
    let me = NodeRecord {
        // A node that came back is another one: nothing of what the others know of the old one holds.
        name: CorrelationId(host.random.bytes16()).to_string(),
        address,
        core: config.roles.core,
        hears_groups: true,
        hears_promoted: true,
        clock: None,
    };
    let (bus, connector) = (Arc::clone(&backends.bus), connector(config, host).await?);
    let cluster = Cluster::new(me, bus, connector, config.clock_offset_max);
    let checked = cluster.check_clock().await;
    checked.map_err(|apart| StartError::Clock(apart.ahead_ms))?;
    cluster.look().await;
    let peers = Arc::clone(&cluster) as _;
    let conversations = Conversations::among(peers, backends.clone(), host.clone(), limits);
    let membership = Membership {
        announcing: tokio::spawn(Arc::clone(&cluster).run()),
        following_clock: None,
        _serving: serve(listener, Arc::clone(&cluster), conversations.clone()),
        cluster,
    };
    Ok((conversations, Some(membership)))
}

async fn connector(config: &Config, host: &Host) -> Result<Arc<dyn Connector>, StartError> {
    match node_files(config)? {
        None => Ok(Arc::new(TcpConnector)),
        Some((files, peers)) => {
            let encrypting = NodeConnector::open(Arc::new(TcpConnector), files, peers, host.clone());
            Ok(Arc::new(encrypting.await?))
        }
    }
}
