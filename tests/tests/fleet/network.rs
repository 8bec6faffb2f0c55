//! Networks that lose packets, and that carry one way only (F6).

use std::time::Duration;

use stonechat_tests::harness::{BURST, Ground, Loss, Network, Role, UNHURRIED, crewed_on};

const NODES: usize = 3;
/// Packets lost of a hundred, in each direction, at each node.
const LOST_PERCENT: u8 = 10;
/// How long a line carries one way only, and how long all is as before between two of those.
const ONE_WAY: Duration = Duration::from_secs(6);
const BETWEEN: Duration = Duration::from_secs(3);

/// Messages that a sender has on the way in the long form: what one stream may.
const IN_FLIGHT: u64 = 60;

/// What goes wrong, in turn.
const TURNS: [(usize, Loss); 6] = [
    (0, Loss::ToNode(1)),
    (1, Loss::ToServices),
    (2, Loss::FromServices),
    (1, Loss::ToNode(2)),
    (2, Loss::ToServices),
    (0, Loss::FromServices),
];

/// A tenth of all packets is lost while lines carry one way only, for so long; each sender has so many messages on the way.
/// Returns how many messages were sent; `None` where no such network can be made.
async fn lossy(how_long: Duration, burst: u64) -> Option<u64> {
    let network = Network::lay(NODES)?;
    let ground = Ground {
        network: Some(network),
        flags: UNHURRIED[2..].to_vec(),
        ..Ground::default()
    };
    let (mut fleet, crew) = crewed_on(ground, &[Role::Both; NODES]).await?;
    let mut crew = crew.with_bursts_of(burst);
    let network = fleet.ground.network.as_ref()?;
    network.lose_everywhere(LOST_PERCENT);
    let since = fleet.nodes[0].recorder.now();
    let started = stonechat_host::monotonic();
    let mut turns = 0;
    for (node, loss) in TURNS.into_iter().cycle() {
        crew.burst(&fleet).await;
        network.lose(node, LOST_PERCENT, loss);
        // The line heals whether or not there are answers: some wait for just that.
        let heals = async {
            tokio::time::sleep(ONE_WAY).await;
            network.lose(node, LOST_PERCENT, Loss::Nothing);
        };
        tokio::join!(crew.keep_sending(&fleet, ONE_WAY + BETWEEN), heals);
        turns += 1;
        if started.elapsed() >= how_long {
            break;
        }
    }
    crew.settle(&fleet).await;
    network.lose_everywhere(0);
    let (sent, waits) = (crew.sent(), crew.ack_waits(&fleet, since));
    println!("F6: {LOST_PERCENT} % lost, {turns} times one way, {sent} messages; acks: {waits}");
    crew.judge(&mut fleet).await;
    Some(sent)
}

/// F6, small: loss, and one line that carries one way.
#[tokio::test]
async fn f6_lost_packets_and_one_way_lines_lose_nothing() {
    lossy(Duration::ZERO, BURST).await;
}

/// F6: ten minutes of it.
#[tokio::test]
#[ignore = "ten minutes: a night's figure"]
async fn f6_ten_minutes_of_lost_packets() {
    let sent = lossy(crate::span(600), IN_FLIGHT)
        .await
        .expect("a network that loses packets");
    println!("F6: {sent} messages, 0 lost");
}
