//! A rolling restart under load, and how long people are without a stream (F17).

use std::time::Duration;

use stonechat_proto::v1;
use stonechat_tests::harness::{Door, Fleet, PATIENCE, RawSession, Role, Waits, crewed};
use tokio::sync::watch;

const NODES: usize = 3;
/// People who only listen, a third of them at each node.
const LISTENERS: usize = 30;
/// What a client gives a node before it tries the next.
const WELCOME_WITHIN: Duration = Duration::from_secs(5);
/// Far beyond the figure, 5 s: what a machine with other work may take.
const BACK_WITHIN: Duration = Duration::from_secs(30);

/// Times of one listener.
#[derive(Default)]
struct Away {
    /// From the end of a stream to the next welcome, the wait that the server asked for included.
    whole: Vec<Duration>,
    /// The same without that wait.
    connecting: Vec<Duration>,
}

/// A client that comes back, after the wait it was told, by way of whichever node answers.
struct Listener {
    doors: Vec<Door>,
    at: usize,
    away: Away,
}

impl Listener {
    fn of(fleet: &Fleet, number: usize) -> Self {
        let user = format!("listener{number}");
        Self {
            doors: fleet.nodes.iter().map(|node| Door::to(node, &user, "phone")).collect(),
            at: number,
            away: Away::default(),
        }
    }

    async fn connect(&mut self) -> RawSession {
        loop {
            let mut session = self.doors[self.at % NODES].open().await;
            let decided = |seen: &stonechat_tests::harness::Observed| seen.welcome.is_some() || seen.ended.is_some();
            if session.sees(WELCOME_WITHIN, decided).await && session.observed().welcome.is_some() {
                return session;
            }
            self.at += 1;
        }
    }

    /// Listens until the restart is over.
    async fn run(mut self, mut over: watch::Receiver<bool>) -> Away {
        let mut session = self.connect().await;
        loop {
            tokio::select! { biased;
                _ = over.wait_for(|over| *over) => return self.away,
                closed = session.end(Duration::from_secs(3_600)) => {
                    // Bye and nothing else would end a stream like that.
                    assert!(matches!(closed, None | Some(v1::CloseReason::Draining)), "{closed:?}");
                }
            }
            let ended = stonechat_host::monotonic();
            let wait = session.observed().closed.map_or(0, |closed| closed.retry_after_ms);
            tokio::time::sleep(Duration::from_millis(wait)).await;
            let tried = stonechat_host::monotonic();
            self.at += 1;
            session = self.connect().await;
            self.away.whole.push(ended.elapsed());
            self.away.connecting.push(tried.elapsed());
        }
    }
}

/// F17: each node is stopped in order and started again, under load; nobody's send fails after its retries, and who listens is
/// soon back.
#[tokio::test]
async fn f17_a_rolling_restart_refuses_nobody_for_long() {
    let Some((mut fleet, mut crew)) = crewed(&[Role::Both; NODES]).await else {
        return;
    };
    let names: Vec<String> = (0..LISTENERS).map(|number| format!("listener{number}")).collect();
    fleet.nodes[0]
        .users(&names.iter().map(String::as_str).collect::<Vec<_>>())
        .await;
    for name in &names {
        fleet.nodes[0].add(crew.room(), name).await;
    }
    let (over, seen) = watch::channel(false);
    let listeners: Vec<_> = (0..LISTENERS)
        .map(|number| tokio::spawn(Listener::of(&fleet, number).run(seen.clone())))
        .collect();
    for turn in 0..NODES {
        crew.burst(&fleet).await;
        fleet.nodes[turn].server.signal("TERM").await;
        crew.answers().await;
        fleet.nodes[turn].server.wait().await;
        fleet.nodes[turn].server.restart(None).await;
        let mut reader = crew.reader(&fleet.nodes[turn], "phone").await;
        crew.hears_all(&fleet.nodes[turn], &mut reader, PATIENCE).await;
    }
    over.send_replace(true);
    let mut all = Away::default();
    for listener in listeners {
        let away = listener.await.expect("no panic");
        all.whole.extend(away.whole);
        all.connecting.extend(away.connecting);
    }
    report(all);
    crew.judge(&mut fleet).await;
}

fn report(all: Away) {
    let (whole, connecting) = (Waits::from(all.whole), Waits::from(all.connecting));
    println!("F17: back after {whole}; without the wait that the server asks for {connecting}");
    assert!(whole.count() >= LISTENERS, "each lost a stream at least once");
    assert!(whole.longest() < BACK_WITHIN, "{whole}");
}
