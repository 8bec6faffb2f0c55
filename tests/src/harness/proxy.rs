//! A TCP proxy that stands between a node and a service, and does to its connections what networks do.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use stonechat_host::{BoxedIo, Connector, Listener, TcpConnector, TcpListener, monotonic};
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::pushes::Pushes;

/// Bytes carried at a time.
const CHUNK_BYTES: usize = 16 * 1024;
/// Chunks of one connection on their way at a time, 16 MiB: what is late is not held back.
const CHUNKS_MAX: usize = 1024;

/// A direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// What the service is asked.
    Asked,
    /// What it answers.
    Answered,
}

/// What happens to connections, those that are open among them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weather {
    /// Everything passes.
    Clear,
    /// What the service is asked arrives at once, what it answers this much later, also after the weather has changed.
    Late(Duration),
    /// Open connections are cut, new ones are closed at once.
    Cut,
    /// Nothing passes and nothing ends: both sides wait.
    Held,
    /// What the service answers is lost, what it is asked arrives: outcomes are unknown. Connections are cut after a moment,
    /// as nobody waits for ever.
    AnswersLost,
    /// What goes this way vanishes, and nobody is told. A connection that lost something carries nothing that way any more, in
    /// no weather, since what came next would make no sense: it is for its ends to give it up.
    HalfOpen(Way),
    /// Of a Redis: what it tells its subscribers is lost, and nobody is told; answers pass. To be turned to and from when it
    /// tells nothing, as it is told apart from there on.
    PushesLost,
}

/// A proxy to one address. Dropping it cuts everything.
pub struct Proxy {
    host: String,
    port: u16,
    sky: Sky,
    accepting: JoinHandle<()>,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.turn(Weather::Cut);
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
        let (turn, weather) = watch::channel(Weather::Clear);
        let sky = Sky {
            turn,
            weather,
            armed: Arc::default(),
            lost: Arc::default(),
            broken: watch::Sender::new(0),
        };
        let (target, over): (Arc<str>, _) = (target.into(), sky.clone());
        let accepting = tokio::spawn(async move {
            while let Ok((io, _)) = listener.accept().await {
                tokio::spawn(carry(io, Arc::clone(&target), over.clone()));
            }
        });
        Self {
            host: host.to_owned(),
            port,
            sky,
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
        *self.sky.armed() = None;
        self.sky.turn.send_replace(weather);
    }

    /// Changes it when the next logged batch of CQL passes, which is how messages are appended: its answer is the first that
    /// meets the weather.
    pub fn turn_at_append(&self, weather: Weather) {
        *self.sky.armed() = Some(weather);
    }

    /// Waits until no line is left that lost something on one way: their ends have given them up.
    ///
    /// # Panics
    /// They do not in time.
    pub async fn mended(&self, within: Duration) {
        let mut broken = self.sky.broken.subscribe();
        let none = tokio::time::timeout(within, broken.wait_for(|broken| *broken == 0)).await;
        assert!(none.is_ok(), "half-open lines are kept for {within:?}");
    }

    /// How many pushes were lost.
    #[must_use]
    pub fn pushes_lost(&self) -> u64 {
        self.sky.lost.load(Ordering::Relaxed)
    }
}

/// What connections of one proxy share.
#[derive(Clone)]
struct Sky {
    turn: watch::Sender<Weather>,
    weather: watch::Receiver<Weather>,
    /// What it turns to at the next append.
    armed: Arc<Mutex<Option<Weather>>>,
    /// Pushes that were lost.
    lost: Arc<AtomicU64>,
    /// Ways of open lines on which something vanished.
    broken: watch::Sender<usize>,
}

impl Sky {
    fn armed(&self) -> MutexGuard<'_, Option<Weather>> {
        self.armed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether frames of CQL (version 4) have a logged batch among them: by version and opcode of each, and the kind of batch.
fn has_append(mut bytes: &[u8]) -> bool {
    while let [4, _, _, _, opcode, a, b, c, d, rest @ ..] = bytes {
        if *opcode == 0x0d && rest.first() == Some(&0) {
            return true;
        }
        let length = u32::from_be_bytes([*a, *b, *c, *d]) as usize;
        bytes = rest.get(length..).unwrap_or_default();
    }
    false
}

/// How long a connection whose answers are lost goes on.
const LOST_FOR: Duration = Duration::from_secs(1);

async fn carry(near: BoxedIo, target: Arc<str>, mut sky: Sky) {
    if *sky.weather.borrow_and_update() == Weather::Cut {
        return;
    }
    let Ok(far) = TcpConnector.connect(&target).await else {
        return;
    };
    let ((near_in, near_out), (far_in, far_out)) = (tokio::io::split(near), tokio::io::split(far));
    let asking = copy(near_in, far_out, Stretch::new(Way::Asked, &sky));
    let answering = copy(far_in, near_out, Stretch::new(Way::Answered, &sky));
    tokio::select! { biased;
        () = ended(sky.weather) => {}
        () = asking => {}
        () = answering => {}
    }
}

/// Waits until connections are cut.
async fn ended(mut weather: watch::Receiver<Weather>) {
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
}

/// Bytes, and when they are to arrive.
type Chunk = (Instant, Vec<u8>);

async fn copy(from: ReadHalf<BoxedIo>, to: WriteHalf<BoxedIo>, stretch: Stretch) {
    let (ahead, behind) = mpsc::channel(CHUNKS_MAX);
    let giving = give(to, behind);
    tokio::pin!(giving);
    tokio::select! { biased;
        () = &mut giving => return,
        () = stretch.take(from, ahead) => {}
    }
    giving.await;
}

async fn give(mut to: WriteHalf<BoxedIo>, mut behind: mpsc::Receiver<Chunk>) {
    while let Some((due, chunk)) = behind.recv().await {
        tokio::time::sleep_until(due).await;
        if to.write_all(&chunk).await.is_err() || to.flush().await.is_err() {
            return;
        }
    }
}

/// One direction of one connection.
struct Stretch {
    way: Way,
    sky: Sky,
    /// Something vanished.
    broken: bool,
    pushes: Pushes,
}

impl Drop for Stretch {
    fn drop(&mut self) {
        if self.broken {
            self.sky.broken.send_modify(|broken| *broken -= 1);
        }
    }
}

impl Stretch {
    fn new(way: Way, sky: &Sky) -> Self {
        Self {
            way,
            sky: sky.clone(),
            broken: false,
            pushes: Pushes::default(),
        }
    }

    async fn take(mut self, mut from: ReadHalf<BoxedIo>, ahead: mpsc::Sender<Chunk>) {
        let mut chunk = vec![0; CHUNK_BYTES];
        loop {
            let read = match from.read(&mut chunk).await {
                Ok(0) | Err(_) => return,
                Ok(read) => read,
            };
            let passes = |weather: &Weather| *weather != Weather::Held;
            let Ok(weather) = self.sky.weather.wait_for(passes).await.map(|seen| *seen) else {
                return;
            };
            let (delay, kept) = self.through(weather, &chunk[..read]);
            if !kept.is_empty() && ahead.send((monotonic() + delay, kept)).await.is_err() {
                return;
            }
        }
    }

    /// What is left of a chunk, and how late it is.
    fn through(&mut self, weather: Weather, chunk: &[u8]) -> (Duration, Vec<u8>) {
        if self.way == Way::Asked && has_append(chunk) {
            let turned = self.sky.armed().take();
            if let Some(weather) = turned {
                self.sky.turn.send_replace(weather);
            }
        }
        if weather == Weather::HalfOpen(self.way) && !std::mem::replace(&mut self.broken, true) {
            self.sky.broken.send_modify(|broken| *broken += 1);
        }
        let answered = self.way == Way::Answered;
        match weather {
            _ if self.broken => (Duration::ZERO, Vec::new()),
            Weather::AnswersLost if answered => (Duration::ZERO, Vec::new()),
            Weather::Late(delay) if answered => (delay, chunk.to_vec()),
            Weather::PushesLost if answered => {
                let (kept, lost) = self.pushes.take_out(chunk);
                self.sky.lost.fetch_add(lost, Ordering::Relaxed);
                (Duration::ZERO, kept)
            }
            _ => (Duration::ZERO, [self.pushes.rest(), chunk.to_vec()].concat()),
        }
    }
}
