//! A fleet on three CQL servers, each with a copy of everything, one of which dies and another of which freezes: sends go on,
//! and nothing is lost, doubled or reordered (I1–I3, T16). By itself, because three servers take the machine for a while.

use std::time::Duration;

use stonechat_tests::checker::Moment;
use stonechat_tests::harness::{Cql, Crew, Fleet, Ground, PATIENCE, Ring, Role, Waits, crewed_on};

/// How long a server is away, at least, while people send.
const AWAY: Duration = Duration::from_secs(5);

/// Half of what is sent while a server is frozen has its ack by then. The driver finds out after 7 s, and all waited for that.
const PASSED_BY_WITHIN: Duration = Duration::from_secs(5);

/// Copies of the keyspace, as the servers say it.
async fn copies(fleet: &Fleet) -> String {
    let rows = Cql::of(fleet)
        .await
        .run("SELECT replication FROM system_schema.keyspaces WHERE keyspace_name = 'KS'")
        .await;
    format!("{rows:?}")
}

/// People send for a while, and everything sent since a moment before the harm is acknowledged and with the reader before it is
/// undone. Returns how long acks took.
async fn goes_on(fleet: &Fleet, crew: &mut Crew, since: Moment, without: &str) -> Waits {
    let before = crew.acked();
    crew.keep_sending(fleet, AWAY).await;
    crew.settle(fleet).await;
    assert!(crew.acked() > before, "nothing was acknowledged without {without}");
    let waits = crew.ack_waits(fleet, since);
    println!("without {without}: acks {waits}");
    let mut reader = crew.reader(&fleet.nodes[1], "phone").await;
    crew.hears_all(&fleet.nodes[1], &mut reader, PATIENCE).await;
    waits
}

#[tokio::test]
async fn i1_i2_i3_one_of_three_cql_servers_may_die_or_freeze() {
    if !Fleet::can_start() {
        return;
    }
    let ring = Ring::start().await;
    let ground = Ground {
        cql: Some(ring.contact_points.clone()),
        ..Ground::default()
    };
    let Some((mut fleet, mut crew)) = crewed_on(ground, &[Role::Both; 2]).await else {
        return;
    };
    let copies = copies(&fleet).await;
    assert!(copies.contains("\"3\""), "three copies: {copies}");
    let since = fleet.nodes[0].recorder.now();
    crew.keep_sending(&fleet, Duration::from_secs(3)).await;
    println!("with all three: acks {}", crew.ack_waits(&fleet, since));

    let since = fleet.nodes[0].recorder.now();
    crew.burst(&fleet).await;
    ring.kill(1).await;
    goes_on(&fleet, &mut crew, since, "the server that was killed").await;
    tokio::join!(ring.revive(1), crew.keep_sending(&fleet, AWAY));

    let since = fleet.nodes[0].recorder.now();
    crew.burst(&fleet).await;
    ring.pause(2).await;
    let waits = goes_on(&fleet, &mut crew, since, "the server that is frozen").await;
    assert!(
        waits.percentile(50) < PASSED_BY_WITHIN,
        "a frozen server is waited for: {waits}"
    );
    crew.burst(&fleet).await;
    ring.resume(2).await;
    crew.answers().await;
    crew.judge(&mut fleet).await;
}
