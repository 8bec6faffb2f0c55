//! A page of 50 from a long log: cold, after a start with an empty page cache, and warm.

use std::fs;

use hdrhistogram::Histogram;
use stonechat_proto::v1;
use stonechat_proto::v1::client_frame::Body as Asked;
use stonechat_server::domain::ConversationId;

use super::Context;
use crate::link::{Inbound, Link, Outbound, Way};
use crate::population::{Person, Population};
use crate::process::{Kind, Server};
use crate::{Outcome, store};

/// Entries of a page.
const PAGE: u32 = 50;
/// A step between pages that never meets the same page twice in a run.
const STRIDE: u64 = 7_919;

pub(super) async fn run(context: &mut Context) -> Outcome<()> {
    let entries = context.size(context.entries, 20_000);
    let pages = context.size(500, 20);
    let server = context.server(Kind::Stonechat, &[]).await?;
    let [reader, _] = Population::of(&server)?.pairs("page", 1).await?.remove(0);
    let folder = server.folder.clone();
    let kept = server.kill().await?;
    let conversation = ConversationId(u128::from_str_radix(&reader.sends_to.replace('-', ""), 16)?.to_be_bytes());
    let took = store::append(&folder, conversation, &reader.hello.device_id, entries).await?;
    context
        .report
        .row("history", "entries appended to the store", "1/s", entries as f64 / took);
    // Only a privileged user may; without it "cold" is only the server's own caches.
    let dropped = fs::write("/proc/sys/vm/drop_caches", "3").is_ok();
    let begun = stonechat_host::monotonic();
    let server = Server::on_folder(&context.binary, folder, &[], kept).await?;
    context
        .report
        .row("history", "start with this log", "s", begun.elapsed().as_secs_f64());
    let cold = read(&server, &reader, entries, pages).await?;
    let warm = read(&server, &reader, entries, pages).await?;
    let name = if dropped {
        "page, cold"
    } else {
        "page, cold server (page cache not dropped)"
    };
    context.report.latency("history", name, &cold, Some("< 100"));
    context.report.latency("history", "page, warm", &warm, Some("< 5"));
    Ok(())
}

/// Reads pages all over the log, one after the other.
async fn read(server: &Server, reader: &Person, entries: u64, pages: u64) -> Outcome<Histogram<u64>> {
    let mut link = Link::open(server.address).await?;
    let mut hello = reader.hello.clone();
    hello.initial_backlog = v1::InitialBacklog::Nothing as i32;
    let (mut outbound, mut inbound) = link.session(Way::Native, hello).await?;
    until(&mut inbound, |body| matches!(body, v1::server_frame::Body::Welcome(_))).await?;
    let mut took = Histogram::new_with_bounds(1, 120_000_000, 3)?;
    for number in 0..pages {
        let from = (entries / pages * number + number * STRIDE) % entries;
        let begun = stonechat_host::monotonic();
        page(&mut outbound, &mut inbound, &reader.sends_to, from).await?;
        took.saturating_record(u64::try_from(begun.elapsed().as_micros())?.max(1));
    }
    Ok(took)
}

async fn page(outbound: &mut Outbound, inbound: &mut Inbound, conversation: &str, after: u64) -> Outcome<()> {
    let ask = v1::GetHistoryRequest {
        conversation_id: conversation.to_owned(),
        anchor: Some(v1::get_history_request::Anchor::AfterSeq(after)),
        limit: PAGE,
        until_seq: 0,
    };
    outbound.send(v1::ClientFrame {
        request_id: after + 1,
        body: Some(Asked::History(ask)),
    })?;
    let answer = until(inbound, |body| matches!(body, v1::server_frame::Body::History(_))).await?;
    match answer {
        v1::server_frame::Body::History(v1::GetHistoryResponse {
            outcome: Some(v1::get_history_response::Outcome::Page(page)),
        }) if !page.entries.is_empty() => Ok(()),
        other => Err(format!("no page: {other:?}").into()),
    }
}

async fn until(
    inbound: &mut Inbound,
    wanted: impl Fn(&v1::server_frame::Body) -> bool,
) -> Outcome<v1::server_frame::Body> {
    loop {
        let frame = inbound.next().await?.ok_or("the stream ended")?;
        match frame.body {
            Some(body) if wanted(&body) => return Ok(body),
            Some(v1::server_frame::Body::Closed(closed)) => return Err(format!("closed: {closed:?}").into()),
            _ => {}
        }
    }
}
