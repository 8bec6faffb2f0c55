//! CPU from hello to welcome, token check included: on an open connection, and with a connection for each.

use std::time::Duration;

use hdrhistogram::Histogram;

use super::Context;
use crate::Outcome;
use crate::link::{Link, Way};
use crate::population::{Person, Population};
use crate::process::{Kind, Server};
use crate::traffic::Device;

/// Streams one after the other on a connection: a client library gives a connection up on which it reset many.
const LOGINS_PER_CONNECTION: usize = 100;

pub(super) async fn run(context: &mut Context) -> Outcome<()> {
    let bare = both(context, Kind::Bare).await?;
    let own = both(context, Kind::Stonechat).await?;
    let row = context
        .report
        .row("login", "server CPU per hello → welcome", "ms", own.same.cpu_ms);
    row.beside(bare.same.cpu_ms).target("≤ 0.3, then 0.15");
    let row = context
        .report
        .row("login", "the same with a new connection", "ms", own.new.cpu_ms);
    row.beside(bare.new.cpu_ms);
    let latencies = [("stonechat", &own.same.took), ("bare", &bare.same.took)];
    let title = "login: hello → welcome, distribution".to_owned();
    context.report.distribution(title, &latencies);
    Ok(())
}

/// What logins cost.
struct Logins {
    /// CPU of each, milliseconds.
    cpu_ms: f64,
    /// From hello to welcome, microseconds.
    took: Histogram<u64>,
}

struct Both {
    same: Logins,
    new: Logins,
}

async fn both(context: &Context, kind: Kind) -> Outcome<Both> {
    let server = context.server(kind, &[]).await?;
    let pairs = Population::of(&server)?.pairs("login", context.size(100, 5)).await?;
    let people: Vec<Person> = pairs.into_iter().flatten().collect();
    let rounds = context.size(20, 1);
    // Once beforehand: first hellos make users and devices known.
    logins(&server, &people, 1, false).await?;
    let same = logins(&server, &people, rounds, false).await?;
    let new = logins(&server, &people, rounds, true).await?;
    Ok(Both { same, new })
}

async fn logins(server: &Server, people: &[Person], rounds: usize, anew: bool) -> Outcome<Logins> {
    let mut took = Histogram::new(3)?;
    let mut link = Link::open(server.address).await?;
    let before = server.usage()?.cpu;
    for _ in 0..rounds {
        for (number, person) in people.iter().enumerate() {
            if anew || number % LOGINS_PER_CONNECTION == 0 {
                link = Link::open(server.address).await?;
            }
            let begun = stonechat_host::monotonic();
            // Dropped at once: the stream is reset, and the next person takes its place.
            let _device = Device::on(&mut link, person, Way::Native, false).await?;
            took.record(u64::try_from(begun.elapsed().as_micros())?.max(1))?;
        }
    }
    // What a session does after its stream is gone belongs to the login, too.
    tokio::time::sleep(Duration::from_millis(200)).await;
    let used = server.usage()?.cpu.saturating_sub(before);
    Ok(Logins {
        cpu_ms: used.as_secs_f64() * 1_000.0 / (rounds * people.len()) as f64,
        took,
    })
}
