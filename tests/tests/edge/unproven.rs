//! What strangers send before anybody knows them: bytes that wait for a hello that never gets whole.

use stonechat_tests::harness::{Bench, PATIENCE, count, free_port};

use crate::attacks::{EXCHANGE, attacker, id, open};
use crate::unhurried;
use crate::wire::{DATA, WINDOW_UPDATE, Wire, frame};

/// Streams of a connection of which each waits for the rest of its first frame.
const STREAMS: u32 = 16;
/// Pieces of each, as large as a frame may be: together the window of a connection.
const PIECES: usize = 3;
/// Bytes of a piece.
const PIECE: usize = 16 * 1024;
/// Connections: with three quarters of a MiB each, half as much again as all strangers may have.
const CONNECTIONS: usize = 128;

/// As many streams as give a connection's window something to hold, each short of the end of its first frame.
fn half_said() -> Vec<u8> {
    let announced = u32::try_from(PIECES * PIECE).expect("short").to_be_bytes();
    let first = [&[0][..], &announced, &[0; PIECE - 5]].concat();
    let mut said = Vec::new();
    for stream in (0..STREAMS).map(id) {
        said.extend(open(stream, EXCHANGE, &[]));
        said.extend(frame(DATA, 0, stream, &first));
        for _ in 1..PIECES {
            said.extend(frame(DATA, 0, stream, &[0; PIECE]));
        }
    }
    said
}

async fn turned(operators: &str) -> u64 {
    count(operators, "stonechat_edge_refusals_total{reason=\"unproven_bytes\"}").await
}

/// I9, F13: strangers share one room for what waits for the rest of a hello; who finds none is closed, and who is known does
/// not notice.
#[tokio::test]
async fn i9_f13_strangers_share_one_room() {
    let operators = format!("127.0.0.1:{}", free_port());
    let mut bench = Bench::start(&unhurried(&["--operator-listen", &operators])).await;
    let room = bench.direct("alice", "bob").await;
    let mut alice = bench.open("alice", "phone").await;
    let (authority, said) = (bench.server.authority(), half_said());
    // At the end of the 5 s that a hello may take, room comes back: so again, until the server turned somebody away.
    let full = async {
        let mut wires: Vec<Wire> = Vec::new();
        while turned(&operators).await == 0 {
            wires.retain(|wire| !wire.seen().closed);
            for _ in wires.len()..CONNECTIONS {
                let mut wire = attacker(&authority).await.expect("a connection");
                // The window of a connection is that of the RFC until the server says otherwise.
                wire.until(|seen| seen.frames[usize::from(WINDOW_UPDATE)] > 0).await;
                let _closed_meanwhile = wire.write(&said).await;
                wires.push(wire);
            }
        }
        wires
    };
    let wires = tokio::time::timeout(PATIENCE, full)
        .await
        .expect("strangers are turned away");
    bench.send(&mut alice, &room, &"long ".repeat(3_000)).await;
    let mut late = bench.open("bob", "phone").await;
    bench.send(&mut late, &room, "in time").await;
    drop(wires);
}
