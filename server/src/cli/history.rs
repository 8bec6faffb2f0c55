//! `stonechat history`: a part of a conversation's log.

use clap::Args;
use stonechat_client::settle;
use stonechat_client::v1::GetHistoryRequest;
use stonechat_client::v1::get_history_request::Anchor;

use super::access::UserFlags;
use super::failure::Failure;
use super::output::Output;
use super::place::PlaceFlags;
use super::{json, text};

/// Arguments of `history`.
#[derive(Debug, Args)]
pub(super) struct HistoryArgs {
    #[command(flatten)]
    who: UserFlags,
    #[command(flatten)]
    place: PlaceFlags,
    #[command(flatten)]
    part: PartFlags,
}

/// Which part of the log.
#[derive(Debug, Args)]
pub(super) struct PartFlags {
    /// Entries before this seq [default: the newest]
    #[arg(long, value_name = "SEQ", conflicts_with_all = ["after", "around"])]
    before: Option<u64>,
    /// Entries after this seq; 0 begins with the first
    #[arg(long, value_name = "SEQ", conflicts_with = "around")]
    after: Option<u64>,
    /// Entries around this seq
    #[arg(long, value_name = "SEQ")]
    around: Option<u64>,
    /// Most entries, 1 to 200
    #[arg(long, value_name = "COUNT", default_value_t = 50)]
    limit: u32,
}

impl PartFlags {
    pub(super) fn request(&self, conversation_id: &str) -> GetHistoryRequest {
        let anchor = match (self.after, self.around) {
            (Some(after), _) => Anchor::AfterSeq(after),
            (None, Some(around)) => Anchor::AroundSeq(around),
            (None, None) => Anchor::BeforeSeq(self.before.unwrap_or(0)),
        };
        GetHistoryRequest {
            conversation_id: conversation_id.to_owned(),
            limit: self.limit,
            until_seq: 0,
            anchor: Some(anchor),
        }
    }
}

pub(super) async fn run(args: HistoryArgs, output: Output) -> Result<(), Failure> {
    let unary = args.who.unary("cli-history").await?;
    let conversation = args.place.find(&unary).await?;
    let request = args.part.request(&conversation.conversation_id);
    let page = settle(unary.messages().get_history(request).await)?;
    show(&page, output);
    Ok(())
}

/// Prints the entries, then how they lie in the log.
pub(super) fn show(page: &stonechat_client::v1::HistoryPage, output: Output) {
    for entry in &page.entries {
        output.line(|| text::entry(entry), || json::entry(entry));
    }
    if output.json() {
        output.line(String::new, || serde_json::json!({ "page": json::page(page) }));
    } else if page.has_more {
        output.note("(there is more)");
    }
}
