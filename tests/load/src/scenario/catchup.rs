//! A reconnect after ten conversations changed: of somebody with 5,000 conversations, and of somebody with ten.

use std::time::Duration;

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
    let row = context.report.row("catchup", &what, "ms", of_many.0);
    row.beside(of_few.0).target("≤ 1.5 ×, then 1.1");
    let row = context
        .report
        .row("catchup", "hello → caught up, beside that of few", "ms", of_many.1);
    row.beside(of_few.1);
    Ok(())
}

/// CPU and time of each catch-up, milliseconds.
async fn catch_ups(context: &Context, server: &Server, name: &str, conversations: usize) -> Outcome<(f64, f64)> {
    let population = Population::of(server)?;
    let (mut reader, writers) = population.star(name, conversations, CHANGED).await?;
    // The first connect lists and delivers everything; it is not what is measured.
    catch_up(server, &mut reader).await?;
    let rounds = context.size(20, 2);
    let (mut cpu, mut time) = (Duration::ZERO, Duration::ZERO);
    for _ in 0..rounds {
        say_one_each(server, &writers).await?;
        let before = server.usage()?.cpu;
        time += catch_up(server, &mut reader).await?;
        cpu += server.usage()?.cpu.saturating_sub(before);
    }
    let each = |sum: Duration| sum.as_secs_f64() * 1_000.0 / f64::from(rounds);
    Ok((each(cpu), each(time)))
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
