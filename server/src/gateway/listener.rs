//! The accept loop: bounded, and alive through every error; and the end of all connections.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use stonechat_host::{BoxedIo, Listener};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;

use super::connection::{self, Phase};
use super::edge::{Connection, Edge, Reason, refused};
use super::limits::{ACCEPT_PAUSE, ACCEPT_PAUSE_MAX};
use crate::telemetry::meters::meters;

/// A listener that is being served.
pub struct Serving {
    phase: watch::Sender<Phase>,
    room: Arc<Semaphore>,
    connections_max: usize,
    accepting: JoinHandle<()>,
}

/// Serves every connection of a listener that the edge lets in, at most so many at a time.
#[must_use]
pub fn serve(listener: Arc<dyn Listener>, app: Router, edge: Arc<Edge>, connections_max: usize) -> Serving {
    let (phase, told) = watch::channel(Phase::Serving);
    let room = Arc::new(Semaphore::new(connections_max));
    let accepting = tokio::spawn(accept_all(listener, app, edge, told, Arc::clone(&room)));
    Serving {
        phase,
        room,
        connections_max,
        accepting,
    }
}

async fn accept_all(
    listener: Arc<dyn Listener>,
    app: Router,
    edge: Arc<Edge>,
    phase: watch::Receiver<Phase>,
    room: Arc<Semaphore>,
) {
    let mut draining = phase.clone();
    loop {
        let (io, shared) = tokio::select! { biased;
            _ = draining.wait_for(|phase| *phase != Phase::Serving) => return,
            accepted = accept(&*listener, &edge) => accepted,
        };
        // Above the bound it is closed at once: a client that hears so goes elsewhere or waits, one left in the operating
        // system's queue hangs until it gives up, and nobody sees it there.
        let Ok(seat) = Arc::clone(&room).try_acquire_owned() else {
            refused(Reason::Full);
            continue;
        };
        let (app, phase) = (app.clone(), phase.clone());
        meters().connections_accepted.inc();
        let open = meters().connections.hold();
        tokio::spawn(async move {
            let _ended = connection::serve(io, app, shared, phase).await;
            drop((seat, open));
        });
    }
}

/// The next connection that is let in. Errors are waited out: descriptors come back as connections end.
async fn accept(listener: &dyn Listener, edge: &Arc<Edge>) -> (BoxedIo, Arc<Connection>) {
    let mut pause = ACCEPT_PAUSE;
    loop {
        match listener.accept().await {
            Ok((io, peer)) => {
                pause = ACCEPT_PAUSE;
                match edge.enter(peer) {
                    Ok(connection) => {
                        tracing::trace!(%peer, "connection accepted");
                        return (io, connection);
                    }
                    Err(reason) => tracing::debug!(%peer, ?reason, "connection refused"),
                }
            }
            Err(error) => {
                meters().accept_errors.inc();
                tracing::warn!(%error, "no connection was accepted, trying again");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(ACCEPT_PAUSE_MAX);
            }
        }
    }
}

impl Serving {
    /// Takes no more connections and no more requests on those there are; returns at once.
    pub fn stop_accepting(&self) {
        self.phase.send_if_modified(|phase| {
            let serving = *phase == Phase::Serving;
            if serving {
                *phase = Phase::Draining;
            }
            serving
        });
    }

    /// Waits for what is under way, then cuts off who is left after `patience`.
    pub async fn finish(self, patience: Duration) {
        self.stop_accepting();
        let _accepting = self.accepting.await;
        let all = u32::try_from(self.connections_max).unwrap_or(u32::MAX);
        let ended = self.room.acquire_many(all);
        if tokio::time::timeout(patience, ended).await.is_err() {
            let open = self.connections_max - self.room.available_permits();
            tracing::warn!(open, "connections did not end in time, cutting them off");
        }
        self.phase.send_replace(Phase::Stopped);
        // Each ends at its next step now; there is nothing left to wait for but that.
        let _ended = tokio::time::timeout(patience, self.room.acquire_many(all)).await;
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::net::SocketAddr;
    use std::sync::Mutex;

    use async_trait::async_trait;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::config::Config;

    fn edge() -> Arc<Edge> {
        Edge::new(&Config::default(), stonechat_host::Host::system())
    }

    /// Fails as a machine without descriptors does, then gives what it has, then nothing more.
    struct Flaky {
        failures: Mutex<usize>,
        connections: Mutex<Vec<BoxedIo>>,
    }

    impl Flaky {
        fn fails(&self) -> bool {
            let mut left = self.failures.lock().expect("a lock");
            let fails = *left > 0;
            *left = left.saturating_sub(1);
            fails
        }
    }

    #[async_trait]
    impl Listener for Flaky {
        async fn accept(&self) -> io::Result<(BoxedIo, SocketAddr)> {
            if self.fails() {
                return Err(io::Error::from_raw_os_error(24));
            }
            let next = self.connections.lock().expect("a lock").pop();
            match next {
                Some(io) => Ok((io, SocketAddr::from(([127, 0, 0, 1], 1)))),
                None => std::future::pending().await,
            }
        }

        fn local_addr(&self) -> io::Result<SocketAddr> {
            Ok(SocketAddr::from(([127, 0, 0, 1], 1)))
        }
    }

    /// Running out of descriptors does not end the node.
    #[tokio::test(start_paused = true)]
    async fn accept_errors_are_waited_out() {
        let (mut client, server) = tokio::io::duplex(1024);
        let listener = Flaky {
            failures: Mutex::new(20),
            connections: Mutex::new(vec![Box::new(server)]),
        };
        let app = Router::new().route("/", axum::routing::get(|| async { "here" }));
        let serving = serve(Arc::new(listener), app, edge(), 8);
        client
            .write_all(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
            .await
            .expect("written");
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.expect("an answer");
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        serving.finish(Duration::from_secs(1)).await;
    }

    /// I9: above the bound a connection is closed at once, and says so; a place that comes free is taken again.
    #[tokio::test(start_paused = true)]
    async fn i9_a_full_node_refuses_at_once() {
        let (ways, connections) = (0..3).map(|_| tokio::io::duplex(1024)).fold(
            (Vec::new(), Vec::new()),
            |(mut ways, mut ends), (client, server)| {
                ways.push(client);
                ends.insert(0, Box::new(server) as BoxedIo);
                (ways, ends)
            },
        );
        let listener = Flaky {
            failures: Mutex::new(0),
            connections: Mutex::new(connections),
        };
        let app = Router::new().route("/", axum::routing::get(|| async { "here" }));
        let serving = serve(Arc::new(listener), app, edge(), 1);
        let started = stonechat_host::monotonic();
        let [mut first, mut second, mut third] = <[_; 3]>::try_from(ways).expect("three");
        for refused in [&mut second, &mut third] {
            assert_eq!(refused.read(&mut [0; 8]).await.expect("closed"), 0);
        }
        assert!(started.elapsed().is_zero());
        first
            .write_all(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
            .await
            .expect("written");
        let mut answer = String::new();
        first.read_to_string(&mut answer).await.expect("an answer");
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        serving.finish(Duration::from_secs(1)).await;
    }

    /// A peer that never ends its request does not keep the node from ending.
    #[tokio::test(start_paused = true)]
    async fn who_does_not_end_is_cut_off() {
        let (mut client, server) = tokio::io::duplex(1024);
        let listener = Flaky {
            failures: Mutex::new(0),
            connections: Mutex::new(vec![Box::new(server)]),
        };
        let app = Router::new().route("/", axum::routing::get(std::future::pending::<&'static str>));
        let serving = serve(Arc::new(listener), app, edge(), 8);
        client
            .write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
            .await
            .expect("written");
        tokio::time::sleep(Duration::from_millis(1)).await;
        serving.finish(Duration::from_secs(3)).await;
        assert_eq!(client.read(&mut [0; 8]).await.expect("closed"), 0);
    }
}
