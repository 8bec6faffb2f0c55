//! Networks that lose packets, and that carry one way only (F6).

use std::time::Duration;

use stonechat_tests::harness::{Ground, Loss, Network, Role, UNHURRIED, crewed_on};

const NODES: usize = 3;
/// Packets lost of a hundred, in each direction, at each node.
const LOST_PERCENT: u8 = 10;
/// How long a line carries one way only, and how long all is as before between two of those.
const ONE_WAY: Duration = Duration::from_secs(6);
const BETWEEN: Duration = Duration::from_secs(3);

/// What goes wrong, in turn.
const TURNS: [(usize, Loss); 6] = [
    (0, Loss::ToNode(1)),
    (1, Loss::ToServices),
    (2, Loss::FromServices),
    (1, Loss::ToNode(2)),
    (2, Loss::ToServices),
    (0, Loss::FromServices),
];

/// A tenth of all packets is lost while lines carry one way only, for so long. Returns how many messages were sent.
async fn lossy(how_long: Duration) -> Option<u64> {
    let network = Network::lay(NODES, LOST_PERCENT)?;
    let ground = Ground {
        network: Some(network),
        flags: UNHURRIED[2..].to_vec(),
        ..Ground::default()
    };
    let (mut fleet, mut crew) = crewed_on(ground, &[Role::Both; NODES]).await?;
    let since = fleet.nodes[0].recorder.now();
    let started = stonechat_host::monotonic();
    let mut turns = 0;
    for (node, loss) in TURNS.into_iter().cycle() {
        if started.elapsed() >= how_long {
            break;
        }
        let network = fleet.ground.network.as_ref()?;
        crew.burst(&fleet).await;
        network.lose(node, loss);
        // The line heals whether or not there are answers: some wait for just that.
        let heals = async {
            tokio::time::sleep(ONE_WAY).await;
            network.lose(node, Loss::Clear);
        };
        tokio::join!(crew.keep_sending(&fleet, ONE_WAY + BETWEEN), heals);
        turns += 1;
    }
    crew.settle(&fleet).await;
    let (sent, waits) = (crew.sent(), crew.ack_waits(&fleet, since));
    println!("F6: {LOST_PERCENT} % lost, {turns} times one way, {sent} messages; acks: {waits}");
    crew.judge(&mut fleet).await;
    Some(sent)
}

/// F6, small: loss, and one line that carries one way.
#[tokio::test]
async fn f6_lost_packets_and_one_way_lines_lose_nothing() {
    lossy(Duration::from_secs(1)).await;
}

/// F6: ten minutes of it.
#[tokio::test]
#[ignore = "ten minutes: a night's figure"]
async fn f6_ten_minutes_of_lost_packets() {
    if let Some(sent) = lossy(crate::span(600)).await {
        println!("F6: {sent} messages, 0 lost");
    }
}
