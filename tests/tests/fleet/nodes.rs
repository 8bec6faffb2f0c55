//! Nodes that die and freeze (T4, T14, F3, F11), and whom they speak to.

use std::time::Duration;

use stonechat_proto::v1;
use stonechat_tests::harness::{
    Authority, BURST, Crew, Fleet, Ground, Lines, PATIENCE, Role, binary, crewed, crewed_on,
};
use tokio::process::Command;

use crate::VISIBLE_WITHIN;

/// How long a node is frozen, at least: the others forget it meanwhile (5 s), and so does Redis.
const FROZEN: Duration = Duration::from_secs(12);
/// Appends that a node took from others.
const TAKEN: &str = "stonechat_forwards_taken_total";

#[tokio::test]
async fn people_talk_through_all_nodes_of_a_fleet() {
    let roles = [Role::Gateway, Role::Gateway, Role::Core, Role::Core];
    let Some((mut fleet, mut crew)) = crewed(&roles).await else {
        return;
    };
    for _ in 0..3 {
        crew.burst(&fleet).await;
        crew.answers().await;
    }
    assert_eq!(crew.acked(), crew.sent());
    crew.judge(&mut fleet).await;
}

/// What the doctor says of the fleet's Redis to who believes this authority, and shows a certificate of the one that Redis believes.
async fn told_of_redis(fleet: &Fleet, authority: &Authority, shows: Option<&Authority>) -> String {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut doctor = Command::new(binary());
    doctor.arg("doctor").arg("--data-folder").arg(folder.path());
    doctor.args([
        "--redis",
        &format!("rediss://{}", fleet.to_redis.authority()),
        "--redis-ca",
    ]);
    doctor.arg(authority.file());
    if let Some(shown) = shows {
        let (certificate, key) = shown.service("doctor");
        doctor.arg("--redis-certificate").arg(certificate);
        doctor.arg("--redis-key").arg(key);
    }
    let said = doctor.output().await.expect("the binary");
    String::from_utf8_lossy(&said.stdout).into_owned()
}

/// I11: with lines to the stores that are encrypted, to certified servers alone, of which Redis asks for a certificate in turn; the
/// ports behind them speak nothing else. A Redis that comes back empty is found again that way, too.
#[tokio::test]
async fn people_talk_over_encrypted_stores() {
    let ground = Ground {
        stores: Some(Authority::new()),
        ..Ground::default()
    };
    let Some((mut fleet, mut crew)) = crewed_on(ground, &[Role::Gateway, Role::Core]).await else {
        return;
    };
    let ours = fleet.ground.stores.as_ref().expect("encrypted stores");
    let is_reached = |told: &str| told.contains(" is redis ");
    let told = told_of_redis(&fleet, ours, Some(ours)).await;
    assert!(is_reached(&told), "{told}");
    let told = told_of_redis(&fleet, ours, None).await;
    assert!(!is_reached(&told) && told.contains("FAIL"), "{told}");
    let stranger = Authority::new();
    let told = told_of_redis(&fleet, ours, Some(&stranger)).await;
    assert!(!is_reached(&told) && told.contains("FAIL"), "{told}");
    let told = told_of_redis(&fleet, &stranger, Some(ours)).await;
    assert!(told.contains("invalid peer certificate"), "{told}");
    crew.burst(&fleet).await;
    crew.answers().await;
    fleet.redis.kill();
    crew.burst(&fleet).await;
    fleet.redis.restart().await;
    crew.answers().await;
    assert_eq!(crew.acked(), crew.sent());
    crew.judge(&mut fleet).await;
}

/// T14, F3: SIGKILL, of each node in turn, under load.
#[tokio::test]
async fn i1_i2_killed_nodes_take_nothing_with_them() {
    let Some((mut fleet, mut crew)) = crewed(&[Role::Both; 3]).await else {
        return;
    };
    let mut reader = crew.reader(&fleet.nodes[0], "phone").await;
    let welcome = reader.welcome(PATIENCE).await;
    assert_eq!(welcome.durability(), v1::Durability::Quorum);
    crew.outlives_each_node(&mut fleet, &mut reader, VISIBLE_WITHIN).await;
    crew.judge(&mut fleet).await;
}

/// The node that takes the crew's messages from the others: the owner of their room.
pub(crate) async fn owner(fleet: &Fleet, crew: &mut Crew) -> usize {
    let found = async {
        loop {
            let before = fleet.counts(TAKEN).await;
            crew.burst(fleet).await;
            crew.answers().await;
            let after = fleet.counts(TAKEN).await;
            let took: Vec<usize> = (0..fleet.nodes.len())
                .filter(|node| after[*node] > before[*node])
                .collect();
            if let [owner] = took[..] {
                return owner;
            }
        }
    };
    let found = tokio::time::timeout(PATIENCE, found).await;
    found.expect("one node that takes what all others have")
}

/// F11, T4: a frozen owner is passed by, and when it thaws its late appends lose or are the first try of what was sent again.
#[tokio::test]
async fn i1_i3_a_frozen_owner_is_passed_by() {
    let Some((mut fleet, mut crew)) = crewed(&[Role::Both; 3]).await else {
        return;
    };
    let owner = owner(&fleet, &mut crew).await;
    let beside = (owner + 1) % fleet.nodes.len();
    let mut reader = crew.reader(&fleet.nodes[beside], "phone").await;
    let since = fleet.nodes[beside].recorder.now();
    // What is on its way to it as it freezes, and from its own people.
    crew.burst(&fleet).await;
    fleet.nodes[owner].server.signal("STOP").await;
    let frozen = stonechat_host::monotonic();
    let mut rounds = crate::rounds();
    while frozen.elapsed() < FROZEN {
        rounds.tick().await;
        crew.pour_elsewhere(owner, BURST).await;
        crew.acked_elsewhere(owner).await;
    }
    crew.hears_all(&fleet.nodes[beside], &mut reader, VISIBLE_WITHIN).await;
    let waits = crew.ack_waits(&fleet, since);
    println!("F11: acks while the owner is frozen {waits}");
    assert!(waits.longest() <= VISIBLE_WITHIN, "{waits}");
    fleet.nodes[owner].server.signal("CONT").await;
    crew.answers().await;
    crew.judge(&mut fleet).await;
}

/// I11: nodes with certificates of one authority and a name on the list speak to each other; one with another name
/// is spoken to by nobody, and its people lose nothing by it.
#[tokio::test]
async fn i11_nodes_speak_to_certified_nodes_alone() {
    let roles = [Role::Gateway, Role::Core, Role::Both];
    let ground = Ground {
        lines: Lines::certified(),
        ..Ground::default()
    };
    let Some((mut fleet, mut crew)) = crewed_on(ground, &roles).await else {
        return;
    };
    crew.burst(&fleet).await;
    crew.answers().await;
    let log = |node: usize| std::fs::read_to_string(fleet.nodes[node].server.log_file()).expect("a log");
    let (up, down) = ("line to another node is up", "no line to another node");
    let said = async {
        while !(log(0).contains(up) && log(0).contains(down) && log(2).contains(down)) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let said = tokio::time::timeout(PATIENCE, said).await;
    assert!(said.is_ok(), "{}\n\n{}", log(0), log(2));
    assert!(!log(2).contains(up), "{}", log(2));
    crew.judge(&mut fleet).await;
}
