//! The order of a stream's appends (I4): what each conversation's appends wait for while they name no predecessor.

use std::collections::BTreeMap;

use stonechat_proto::v1::client_frame::Body as Ask;
use stonechat_proto::v1::server_frame::Body as Reply;
use stonechat_proto::v1::{
    AppendHeader, Effect, Refusal, RefusalReason, edit_response, pin_response, react_response, redact_response,
    send_response,
};

use super::limits::REFUSED_APPENDS_MAX;

fn header(ask: &mut Ask) -> Option<&mut AppendHeader> {
    match ask {
        Ask::Send(request) => request.header.as_mut(),
        Ask::Edit(request) => request.header.as_mut(),
        Ask::Redact(request) => request.header.as_mut(),
        Ask::React(request) => request.header.as_mut(),
        Ask::Pin(request) => request.header.as_mut(),
        _ => None,
    }
}

fn refusal(reply: &mut Reply) -> Option<&mut Refusal> {
    match reply {
        Reply::Refusal(refusal) => Some(refusal),
        Reply::Send(answer) => match &mut answer.outcome {
            Some(send_response::Outcome::Refusal(refusal)) => Some(refusal),
            _ => None,
        },
        Reply::Edit(answer) => match &mut answer.outcome {
            Some(edit_response::Outcome::Refusal(refusal)) => Some(refusal),
            _ => None,
        },
        Reply::Redact(answer) => match &mut answer.outcome {
            Some(redact_response::Outcome::Refusal(refusal)) => Some(refusal),
            _ => None,
        },
        Reply::React(answer) => match &mut answer.outcome {
            Some(react_response::Outcome::Refusal(refusal)) => Some(refusal),
            _ => None,
        },
        Reply::Pin(answer) => match &mut answer.outcome {
            Some(pin_response::Outcome::Refusal(refusal)) => Some(refusal),
            _ => None,
        },
        _ => None,
    }
}

/// The appends of one stream that are not settled, by conversation, in the order they first came: those under way, and
/// those whose refusal asks for another try. An append that names no predecessor gets the one before it, so that none
/// overtakes another, also when one fails and is sent again. Bounded by the requests in flight and
/// [`REFUSED_APPENDS_MAX`].
#[derive(Debug, Default)]
pub(super) struct Lanes {
    by_conversation: BTreeMap<String, Lane>,
}

#[derive(Debug, Default)]
struct Lane {
    appends: Vec<Unsettled>,
    /// When its first refused append of now was refused: the serial of that.
    held_since: u64,
}

#[derive(Debug)]
struct Unsettled {
    id: String,
    /// Tries under way; none for one that was refused.
    flying: usize,
    /// See [`Place::in_line`], of its newest try.
    in_line: bool,
}

/// Where an unanswered append stands.
#[derive(Debug)]
pub(super) struct Place {
    conversation: String,
    id: String,
    serial: u64,
    /// Its predecessor follows from the lane: the client named none, or one of the lane that is in line itself. A chain
    /// that hangs on a name from elsewhere is the client's own, whole: were its links kept without its beginning, what
    /// begins it anew would come to stand behind them and wait for ever.
    in_line: bool,
    /// The predecessor that the server set.
    behind: Option<String>,
}

impl Lane {
    fn position(&self, id: &str) -> Option<usize> {
        self.appends.iter().position(|append| append.id == id)
    }

    fn refused(&self) -> usize {
        self.appends.iter().filter(|append| append.flying == 0).count()
    }

    /// Puts a try in line: where the operation stands already, else at the end.
    fn enter(&mut self, id: &str, in_line: bool) -> usize {
        let place = self.position(id).unwrap_or_else(|| {
            self.appends.push(Unsettled {
                id: id.to_owned(),
                flying: 0,
                in_line,
            });
            self.appends.len() - 1
        });
        self.appends[place].flying += 1;
        self.appends[place].in_line = in_line;
        place
    }

    /// What the client gave up by naming another predecessor.
    fn forget_refused(&mut self) {
        self.appends.retain(|append| append.flying > 0);
    }

    /// A try was answered. `again`: it was refused, and the client is expected to send it again.
    fn leave(&mut self, place: &Place, again: bool) {
        let Some(index) = self.position(&place.id) else {
            return;
        };
        let append = &mut self.appends[index];
        append.flying = append.flying.saturating_sub(1);
        if append.flying > 0 && again {
            return;
        }
        if !again {
            // Stored, or never to be: nothing waits for it any more.
            self.appends.remove(index);
        } else if self.refused() == 1 {
            self.held_since = place.serial;
        }
    }
}

impl Lanes {
    /// Puts an append in line; `serial` is unique on the stream and grows. `None` for frames that append nothing.
    pub(super) fn enter(&mut self, serial: u64, ask: &mut Ask) -> Option<Place> {
        let header = header(ask)?;
        let lane = self.by_conversation.entry(header.conversation_id.clone()).or_default();
        let named = header.previous_client_msg_id.clone();
        let predecessor = lane.position(&named);
        if !named.is_empty() && predecessor.is_none() {
            lane.forget_refused();
        }
        let in_line = named.is_empty() || predecessor.is_some_and(|index| lane.appends[index].in_line);
        let place = lane.enter(&header.client_msg_id, in_line);
        let before = place.checked_sub(1).map(|before| lane.appends[before].id.clone());
        let behind = before.filter(|_| named.is_empty());
        if let Some(behind) = &behind {
            header.previous_client_msg_id.clone_from(behind);
        }
        Some(Place {
            conversation: header.conversation_id.clone(),
            id: header.client_msg_id.clone(),
            serial,
            in_line,
            behind,
        })
    }

    /// The append there was answered.
    pub(super) fn leave(&mut self, place: &Place, reply: &mut Reply) {
        let refusal = refusal(reply);
        let again = refusal.as_deref().is_some_and(|refusal| asks_again(refusal, place));
        if let (Some(refusal), Some(behind)) = (refusal, &place.behind)
            && refusal.reason() == RefusalReason::OutOfOrder
        {
            refusal.message = format!(
                "{behind}, which came before it on this stream, is not stored, so this is not either; send {behind} again, or \
                 name the predecessor that this is to follow"
            );
        }
        let Some(lane) = self.by_conversation.get_mut(&place.conversation) else {
            return;
        };
        lane.leave(place, again);
        if lane.appends.is_empty() {
            self.by_conversation.remove(&place.conversation);
        } else if again {
            self.bound(place);
        }
    }

    /// Forgets refused appends above the bound: those of the conversation that waits longest, else the one just refused,
    /// which others before it hold up anyway.
    fn bound(&mut self, newest: &Place) {
        if self.by_conversation.values().map(Lane::refused).sum::<usize>() <= REFUSED_APPENDS_MAX {
            return;
        }
        let others = self.by_conversation.iter().filter(|(conversation, lane)| {
            // What is under way waits for what was refused before it.
            **conversation != newest.conversation && lane.appends.iter().all(|append| append.flying == 0)
        });
        let oldest = others.min_by_key(|(_, lane)| lane.held_since);
        if let Some(oldest) = oldest.map(|(conversation, _)| conversation.clone()) {
            self.by_conversation.remove(&oldest);
        } else if let Some(lane) = self.by_conversation.get_mut(&newest.conversation) {
            lane.appends.retain(|append| append.id != newest.id);
        }
    }
}

/// Whether a refused append is to be sent again as it is. What no second try can mend holds nothing up.
fn asks_again(refusal: &Refusal, place: &Place) -> bool {
    if refusal.effect() != Effect::NotDone {
        return true;
    }
    match refusal.reason() {
        RefusalReason::RateLimited | RefusalReason::Unavailable | RefusalReason::Unauthenticated => true,
        // Who named a predecessor from elsewhere keeps the order themselves.
        RefusalReason::OutOfOrder => place.in_line,
        _ => false,
    }
}

#[cfg(test)]
mod tests;
