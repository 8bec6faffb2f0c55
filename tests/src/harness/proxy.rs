//! A TCP proxy that stands between a node and a service, and does to its connections what networks do.

use std::sync::Arc;
use std::time::Duration;

use stonechat_host::{BoxedIo, Connector, Listener, TcpConnector, TcpListener};
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Bytes carried at a time.
const CHUNK_BYTES: usize = 16 * 1024;

/// What happens to connections, those that are open among them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weather {
    /// Everything passes.
    Clear,
    /// Everything passes, this much later.
    Slow(Duration),
    /// Open connections are cut, new ones are closed at once.
    Cut,
    /// Nothing passes and nothing ends: both sides wait.
    Held,
    /// What the service answers is lost, what it is asked arrives: outcomes are unknown. Connections are cut after a moment,
    /// as nobody waits for ever.
    AnswersLost,
}

/// A proxy to one address. Dropping it cuts everything.
pub struct Proxy {
    host: String,
    port: u16,
    weather: watch::Sender<Weather>,
    accepting: JoinHandle<()>,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.weather.send_replace(Weather::Cut);
        self.accepting.abort();
    }
}

impl Proxy {
    /// Listens on a free port of `host`, an address of this machine, for what goes to `target`.
    ///
    /// # Panics
    /// There is no free port.
    pub async fn before(host: &str, target: &str) -> Self {
        let listener = TcpListener::bind(&format!("{host}:0")).await.expect("a free port");
        let port = listener.local_addr().expect("a bound address").port();
        let (weather, seen) = watch::channel(Weather::Clear);
        let target: Arc<str> = target.into();
        let accepting = tokio::spawn(async move {
            while let Ok((io, _)) = listener.accept().await {
                tokio::spawn(carry(io, Arc::clone(&target), seen.clone()));
            }
        });
        Self {
            host: host.to_owned(),
            port,
            weather,
            accepting,
        }
    }

    /// Where it listens.
    #[must_use]
    pub fn authority(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    /// Changes the weather for all connections.
    pub fn turn(&self, weather: Weather) {
        self.weather.send_replace(weather);
    }
}

/// How long a connection whose answers are lost goes on.
const LOST_FOR: Duration = Duration::from_secs(1);

async fn carry(near: BoxedIo, target: Arc<str>, mut weather: watch::Receiver<Weather>) {
    if *weather.borrow_and_update() == Weather::Cut {
        return;
    }
    let Ok(far) = TcpConnector.connect(&target).await else {
        return;
    };
    let ((near_in, near_out), (far_in, far_out)) = (tokio::io::split(near), tokio::io::split(far));
    let asking = copy(near_in, far_out, weather.clone(), false);
    let answering = copy(far_in, near_out, weather.clone(), true);
    let ended = async {
        loop {
            let now = *weather.borrow_and_update();
            match now {
                Weather::Cut => return,
                Weather::AnswersLost => {
                    tokio::time::sleep(LOST_FOR).await;
                    return;
                }
                _ => {}
            }
            if weather.changed().await.is_err() {
                return;
            }
        }
    };
    tokio::select! { biased;
        () = ended => {}
        () = asking => {}
        () = answering => {}
    }
}

async fn copy(
    mut from: ReadHalf<BoxedIo>,
    mut to: WriteHalf<BoxedIo>,
    mut weather: watch::Receiver<Weather>,
    answers: bool,
) {
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        let read = match from.read(&mut chunk).await {
            Ok(0) | Err(_) => return,
            Ok(read) => read,
        };
        let passable = weather
            .wait_for(|weather| *weather != Weather::Held)
            .await
            .map(|seen| *seen);
        match passable {
            Err(_) => return,
            Ok(Weather::AnswersLost) if answers => continue,
            Ok(Weather::Slow(delay)) => tokio::time::sleep(delay).await,
            Ok(_) => {}
        }
        if to.write_all(&chunk[..read]).await.is_err() || to.flush().await.is_err() {
            return;
        }
    }
}
