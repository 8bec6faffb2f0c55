//! A reconnect after ten conversations changed: of somebody with 5,000 conversations, and of somebody with ten.

use std::time::Duration;

use hdrhistogram::Histogram;

use super::Context;
use crate::Outcome;
use crate::link::Way;
use crate::population::{Person, Population};
use crate::process::{Kind, Server};
use crate::traffic::{Device, Pace, Span, drive};

/// Conversations that change between two connects.
const CHANGED: usize = 10;
/// Acknowledgements are stored by then.
const ACKS_WITHIN: Duration = Duration::from_millis(300);

pub(super) async fn run(context: &mut Context) -> Outcome<()> {
    let server = context.server(Kind::Stonechat, &[]).await?;
    let (many, few) = (context.size(5_000, 50), CHANGED);
    let of_few = catch_ups(context, &server, "few", few).await?;
    let of_many = catch_ups(context, &server, "many", many).await?;
    let what = format!("server CPU, {CHANGED} changed of {many} beside of {few}");
    let row = context.report.row("catchup", &what, "ms", of_many.cpu_ms);
    row.beside(of_few.cpu_ms).target("≤ 1.5 ×, then 1.1");
    let mean = |of: &CatchUps| of.took.mean() / 1_000.0;
    let row = context
        .report
        .row("catchup", "hello → caught up, beside that of few", "ms", mean(&of_many));
    row.beside(mean(&of_few));
    let latencies = [("many", &of_many.took), ("few", &of_few.took)];
    let title = "catchup: hello → caught up, distribution".to_owned();
    context.report.distribution(title, &latencies);
    Ok(())
}

/// What catch-ups cost.
struct CatchUps {
    /// CPU of each, milliseconds.
    cpu_ms: f64,
    /// From hello to caught up, microseconds.
    took: Histogram<u64>,
}

async fn catch_ups(context: &Context, server: &Server, name: &str, conversations: usize) -> Outcome<CatchUps> {
    let population = Population::of(server)?;
    let (mut reader, writers) = population.star(name, conversations, CHANGED).await?;
    // The first connect lists and delivers everything; it is not what is measured.
    catch_up(server, &mut reader).await?;
    let rounds = context.size(20, 2);
    let (mut cpu, mut took) = (Duration::ZERO, Histogram::new(3)?);
    for _ in 0..rounds {
        say_one_each(server, &writers).await?;
        let before = server.usage()?.cpu;
        let time = catch_up(server, &mut reader).await?;
        took.record(u64::try_from(time.as_micros())?.max(1))?;
        cpu += server.usage()?.cpu.saturating_sub(before);
    }
    Ok(CatchUps {
        cpu_ms: cpu.as_secs_f64() * 1_000.0 / f64::from(rounds),
        took,
    })
}

/// Connects, and hangs up once what was delivered is acknowledged; the time until it was there.
async fn catch_up(server: &Server, reader: &mut Person) -> Outcome<Duration> {
    let begun = stonechat_host::monotonic();
    let device = Device::open(server, reader, Way::Native).await?;
    let took = begun.elapsed();
    tokio::time::sleep(ACKS_WITHIN).await;
    reader.hello = device.resume.clone();
    Ok(took)
}

/// Each writer says one thing, and hangs up.
async fn say_one_each(server: &Server, writers: &[Person]) -> Outcome<()> {
    for writer in writers {
        let device = Device::open(server, writer, Way::Native).await?;
        let pace = Pace::Every {
            first: Duration::ZERO,
            every: Duration::from_secs(3_600),
        };
        let span = Span {
            warm_up: Duration::ZERO,
            measure: Duration::from_millis(20),
        };
        drive(server, vec![(device, pace)], span, 0).await?;
    }
    Ok(())
}
