//! What users ask of this node and of the others, as one rate: told and learned beside the requests, never on their way. While
//! the bus does not answer each node's own count is all there is (I10).

use std::sync::Arc;
use std::time::Duration;

use super::Edge;
use super::keyed::Toll;
use crate::bus::{Bus, Spent};
use crate::domain::UserId;

/// How often nodes tell each other. What passes meanwhile on several nodes is paid for afterwards.
const TELL_EVERY: Duration = Duration::from_secs(1);

impl Edge {
    /// Shares the rates of users with the other nodes on a bus, for as long as it is awaited.
    pub async fn share_user_rates(self: Arc<Self>, bus: Arc<dyn Bus>) {
        self.users.share();
        loop {
            tokio::time::sleep(TELL_EVERY).await;
            self.tell_once(&*bus).await;
        }
    }

    async fn tell_once(&self, bus: &dyn Bus) {
        let tolls = self.users.take_told(stonechat_host::monotonic());
        if tolls.is_empty() {
            return;
        }
        let spent: Vec<Spent> = tolls.into_iter().map(spent).collect();
        let ahead = bus.spend(&spent).await;
        let now = stonechat_host::monotonic();
        for (Spent { user, .. }, ahead) in spent.iter().zip(ahead) {
            if let Some(ahead) = ahead {
                self.users.learn(user, ahead, now);
            }
        }
    }
}

fn spent(toll: Toll<UserId>) -> Spent {
    let Toll { caller, used, most } = toll;
    Spent {
        user: caller,
        used,
        most,
    }
}

#[cfg(test)]
mod tests;
