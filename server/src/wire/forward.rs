//! Appends between nodes, both ways. What comes from another node is checked as if a client had sent it.

use stonechat_proto::node::v1 as node;
use stonechat_proto::node::v1::forward_request::Change as Wanted;
use stonechat_proto::node::v1::forward_response::Outcome;

use super::entry::{content_to_proto, member_to_proto};
use super::fields::{self, Within};
use super::{content, refusal, text};
use crate::conversation::{AppendRequest, Appended, Caller, Forwarded};
use crate::domain::authorization::Actor;
use crate::domain::limits::{MEMBERS_PER_CHANGE_MAX, REACTION_BYTES_MAX, REASON_BYTES_MAX};
use crate::domain::{Change, ConversationId, CorrelationId, Reason, Refusal, Seq, UnixMillis};

type Result<T> = std::result::Result<T, Refusal>;

/// The request to another node, without its number.
#[must_use]
pub fn request(forwarded: &Forwarded, view: u64) -> node::ForwardRequest {
    let Forwarded {
        caller,
        request,
        unsure,
    } = forwarded;
    node::ForwardRequest {
        request_id: 0,
        view,
        unsure: *unsure,
        user_id: fields::text(caller.actor.user()),
        system: caller.actor == Actor::System,
        device_id: fields::text(caller.device.as_ref()),
        correlation_id: caller.correlation.0.to_vec().into(),
        conversation_id: request.conversation.to_string(),
        client_msg_id: request.client_msg_id.to_string(),
        previous_client_msg_id: fields::text(request.previous.as_ref()),
        known_head: request.known_head.0,
        origin_time_ms: fields::millis(request.origin_time),
        change: Some(wanted(&request.change)),
    }
}

fn wanted(change: &Change) -> Wanted {
    match change {
        Change::Message(content) => Wanted::Message(content_to_proto(content)),
        Change::Edit { target, content } => Wanted::Edit(node::ForwardedEdit {
            target_seq: target.0,
            content: Some(content_to_proto(content)),
        }),
        Change::Redact { target, reason } => Wanted::Redaction(node::ForwardedRedaction {
            target_seq: target.0,
            reason: reason.clone(),
        }),
        Change::React {
            target,
            reaction,
            remove,
        } => Wanted::Reaction(node::ForwardedReaction {
            target_seq: target.0,
            reaction: reaction.clone(),
            remove: *remove,
        }),
        Change::Pin { target, unpin } => Wanted::Pin(node::ForwardedPin {
            target_seq: target.0,
            unpin: *unpin,
        }),
        Change::SetMembers(members) => Wanted::Members(node::ForwardedMembers {
            members: members.iter().map(member_to_proto).collect(),
        }),
        Change::RemoveMember(user) => Wanted::RemoveMember(user.to_string()),
        Change::Rename(name) => Wanted::Rename(name.clone()),
    }
}

/// The request to take over what was left of a conversation's fan-out, without its number.
#[must_use]
pub fn take_over(conversation: ConversationId, from: Seq, view: u64) -> node::ForwardRequest {
    node::ForwardRequest {
        view,
        conversation_id: conversation.to_string(),
        change: Some(Wanted::TakeOver(node::ForwardedTakeOver { from_seq: from.0 })),
        ..node::ForwardRequest::default()
    }
}

/// What another node asks for.
#[derive(Debug)]
pub enum Asked {
    /// An append.
    Append(Box<Forwarded>),
    /// To take over the fan-out of a conversation from a seq on.
    TakeOver(ConversationId, Seq),
}

/// Checks what another node hands over.
///
/// # Errors
/// Names the field.
pub fn parse(request: node::ForwardRequest) -> Result<Asked> {
    match &request.change {
        Some(Wanted::TakeOver(left)) => fields::operation("forward", || {
            let conversation = fields::conversation("conversation_id", &request.conversation_id)?;
            Ok(Asked::TakeOver(
                conversation,
                fields::entry_seq("from_seq", left.from_seq)?,
            ))
        }),
        _ => parse_append(request).map(|append| Asked::Append(Box::new(append))),
    }
}

fn parse_append(request: node::ForwardRequest) -> Result<Forwarded> {
    fields::operation("forward", || {
        let actor = actor(&request.user_id, request.system)?;
        Ok(Forwarded {
            unsure: request.unsure,
            caller: Caller {
                actor,
                device: fields::optional(&request.device_id, |id| fields::device("device_id", id))?,
                correlation: correlation(&request.correlation_id)?,
            },
            request: AppendRequest {
                conversation: fields::conversation("conversation_id", &request.conversation_id)?,
                client_msg_id: fields::client_msg_id("client_msg_id", &request.client_msg_id)?,
                previous: fields::optional(&request.previous_client_msg_id, |id| {
                    fields::client_msg_id("previous_client_msg_id", id)
                })?,
                known_head: fields::seq(request.known_head),
                change: change(request.change.ok_or_else(newer)?)?,
                origin_time: fields::optional_time("origin_time_ms", request.origin_time_ms)?,
            },
        })
    })
}

/// Who asks. The system may do what no user may, so it is named, never what is left when a name is missing (I11).
fn actor(user: &str, system: bool) -> Result<Actor> {
    match (user.is_empty(), system) {
        (true, true) => Ok(Actor::System),
        (false, false) => fields::user("user_id", user).map(Actor::User),
        (false, true) => Err(Refusal::invalid("system", "comes without a user_id")),
        // A node of the release before asks like this for the system: it is told for certain, and does it itself.
        (true, false) => {
            let reason = Reason::Unavailable { retry_after_ms: 0 };
            Err(Refusal::not_done(reason, "nobody is named who asks; not done"))
        }
    }
}

/// A change that this release does not know, from a newer node: whoever knows it does it by themself.
fn newer() -> Refusal {
    let reason = Reason::Unavailable { retry_after_ms: 0 };
    Refusal::not_done(reason, "this node does not know the change; not done")
}

fn correlation(bytes: &[u8]) -> Result<CorrelationId> {
    let bytes = bytes.try_into();
    bytes
        .map(CorrelationId)
        .map_err(|_| Refusal::invalid("correlation_id", "has 16 bytes"))
}

fn change(wanted: Wanted) -> Result<Change> {
    Ok(match wanted {
        Wanted::Message(message) => Change::Message(content::parse(Some(message))?),
        Wanted::Edit(edit) => Change::Edit {
            target: fields::entry_seq("target_seq", edit.target_seq)?,
            content: content::parse(edit.content)?,
        },
        Wanted::Redaction(redaction) => Change::Redact {
            target: fields::entry_seq("target_seq", redaction.target_seq)?,
            reason: text::body("reason", redaction.reason, 0, REASON_BYTES_MAX)?,
        },
        Wanted::Reaction(reaction) => Change::React {
            target: fields::entry_seq("target_seq", reaction.target_seq)?,
            reaction: text::line("reaction", reaction.reaction, 1, REACTION_BYTES_MAX)?,
            remove: reaction.remove,
        },
        Wanted::Pin(pin) => Change::Pin {
            target: fields::entry_seq("target_seq", pin.target_seq)?,
            unpin: pin.unpin,
        },
        Wanted::Members(members) => {
            let members = content::parse_members(&members.members, 1, MEMBERS_PER_CHANGE_MAX).within("members")?;
            Change::SetMembers(members)
        }
        Wanted::RemoveMember(user) => Change::RemoveMember(fields::user("remove_member", &user)?),
        Wanted::Rename(name) => Change::Rename(text::required_name("rename", name)?),
        Wanted::TakeOver(_) => return Err(newer()),
    })
}

/// The answer to another node.
#[must_use]
pub fn response(request_id: u64, answer: &Result<Appended>) -> node::ForwardResponse {
    let stored = |appended: &Appended| {
        Outcome::Appended(node::ForwardedAppend {
            seq: appended.seq.0,
            time_ms: appended.time.0,
            duplicate: appended.duplicate,
            correlation_id: appended.correlation.0.to_vec().into(),
        })
    };
    respond(request_id, answer.as_ref().map(stored))
}

/// The answer when fan-out was to be taken over.
#[must_use]
pub fn taken(request_id: u64, answer: &Result<Seq>) -> node::ForwardResponse {
    let taken = |up_to: &Seq| Outcome::Taken(node::ForwardedTaken { up_to_seq: up_to.0 });
    respond(request_id, answer.as_ref().map(taken))
}

fn respond(request_id: u64, answer: std::result::Result<Outcome, &Refusal>) -> node::ForwardResponse {
    let outcome = answer.unwrap_or_else(|refused| Outcome::Refusal(refusal::uncounted(refused)));
    node::ForwardResponse {
        request_id,
        outcome: Some(outcome),
    }
}

/// What another node answered to a request.
///
/// # Errors
/// Its refusal; an answer that cannot be read leaves the outcome unknown.
pub fn answer(request: &AppendRequest, response: node::ForwardResponse) -> Result<Appended> {
    match response.outcome {
        Some(Outcome::Appended(appended)) => Ok(Appended {
            conversation: request.conversation,
            client_msg_id: request.client_msg_id.clone(),
            seq: Seq(appended.seq),
            time: UnixMillis(appended.time_ms),
            duplicate: appended.duplicate,
            correlation: correlation(&appended.correlation_id).unwrap_or(CorrelationId([0; 16])),
        }),
        outcome => Err(refused(outcome)),
    }
}

/// Up to where another node took fan-out over.
///
/// # Errors
/// Its refusal; whatever else it says leaves it open.
pub fn taken_up_to(response: node::ForwardResponse) -> Result<Seq> {
    match response.outcome {
        Some(Outcome::Taken(taken)) => Ok(Seq(taken.up_to_seq)),
        outcome => Err(refused(outcome)),
    }
}

/// An answer of another kind than was asked for is none.
fn refused(outcome: Option<Outcome>) -> Refusal {
    match outcome {
        Some(Outcome::Refusal(refused)) => refusal::from_proto(refused),
        _ => refusal::from_proto(stonechat_proto::v1::Refusal::default()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{ClientMsgId, Effect, Member, Role, UserId};
    use crate::storage::contract::samples;

    fn forwarded(change: Change) -> Forwarded {
        let sender = samples::sender("ada", "phone");
        Forwarded {
            unsure: true,
            caller: Caller {
                actor: sender.user.map_or(Actor::System, Actor::User),
                device: sender.device,
                correlation: CorrelationId([9; 16]),
            },
            request: AppendRequest {
                conversation: ConversationId([7; 16]),
                client_msg_id: ClientMsgId::parse("m-2").unwrap(),
                previous: Some(ClientMsgId::parse("m-1").unwrap()),
                known_head: Seq(41),
                change,
                origin_time: Some(UnixMillis(1_700_000_000_000)),
            },
        }
    }

    /// I2: the owner must see the very request, or a retry through another node would look like another payload.
    #[test]
    fn every_change_arrives_as_it_was() {
        let user = || UserId::parse("bob").unwrap();
        let (target, content) = (Seq(3), samples::text("hi"));
        let role = Role::Admin;
        let changes = [
            Change::Message(content.clone()),
            Change::Edit { target, content },
            Change::Redact {
                target,
                reason: "spam".to_owned(),
            },
            Change::React {
                target,
                reaction: "👍".to_owned(),
                remove: true,
            },
            Change::Pin { target, unpin: true },
            Change::SetMembers(vec![Member { user: user(), role }]),
            Change::RemoveMember(user()),
            Change::Rename("Crew".to_owned()),
        ];
        for change in changes {
            let sent = forwarded(change);
            let came = parse_append(request(&sent, 1)).unwrap();
            assert_eq!(format!("{came:?}"), format!("{sent:?}"));
        }
    }

    /// A node of the release before cannot do what it does not know: it says so for certain, and the append is done elsewhere.
    #[test]
    fn a_change_of_a_newer_release_is_certainly_not_done() {
        let mut unknown = request(&forwarded(Change::Rename("x".to_owned())), 1);
        unknown.change = None;
        let refused = parse_append(unknown).unwrap_err();
        assert_eq!(refused.effect, Effect::NotDone);
        assert!(matches!(refused.reason, Reason::Unavailable { .. }));
    }

    /// I11: the system is named. What names nobody is not taken for it; a node of the release before, whose requests for the
    /// system look like that, is told for certain and does them itself. Its requests for users are taken.
    #[test]
    fn i11_nobody_is_taken_for_the_system() {
        let of = |actor| {
            let mut sent = forwarded(Change::Rename("x".to_owned()));
            sent.caller.actor = actor;
            sent.caller.device = None;
            sent
        };
        let by_system = request(&of(Actor::System), 1);
        assert!(by_system.system && by_system.user_id.is_empty());
        assert_eq!(parse_append(by_system.clone()).unwrap().caller.actor, Actor::System);
        let old = node::ForwardRequest {
            system: false,
            ..by_system.clone()
        };
        let refused = parse_append(old).unwrap_err();
        assert_eq!(refused.effect, Effect::NotDone);
        assert!(matches!(refused.reason, Reason::Unavailable { .. }), "{refused}");
        let both = node::ForwardRequest {
            user_id: "ada".to_owned(),
            ..by_system
        };
        assert!(matches!(parse_append(both).unwrap_err().reason, Reason::Invalid { .. }));
        let ada = Actor::User(UserId::parse("ada").unwrap());
        let by_user = request(&of(ada.clone()), 1);
        assert!(!by_user.system);
        assert_eq!(parse_append(by_user).unwrap().caller.actor, ada);
    }

    /// I5: a node that is asked to take fan-out over is asked for nothing else, and one of the release before refuses for certain.
    #[test]
    fn i5_taking_over_arrives_as_it_was() {
        let asked = take_over(ConversationId([7; 16]), Seq(3), 1);
        let Asked::TakeOver(conversation, from) = parse(asked.clone()).unwrap() else {
            panic!("an append");
        };
        assert_eq!((conversation, from), (ConversationId([7; 16]), Seq(3)));
        assert_eq!(parse_append(asked).unwrap_err().effect, Effect::NotDone);
        assert_eq!(taken_up_to(taken(1, &Ok(Seq(9)))), Ok(Seq(9)));
        let refusal = Refusal::not_done(Reason::Protocol, "no");
        assert_eq!(
            taken_up_to(taken(1, &Err(refusal))).unwrap_err().effect,
            Effect::NotDone
        );
        // An answer of another kind says nothing.
        let stored = response(1, &Ok(stored()));
        assert_eq!(taken_up_to(stored).unwrap_err().effect, Effect::Unknown);
    }

    /// As the request of `forwarded` is answered.
    fn stored() -> Appended {
        let asked = forwarded(Change::Rename("x".to_owned())).request;
        Appended {
            conversation: asked.conversation,
            client_msg_id: asked.client_msg_id,
            seq: Seq(42),
            time: UnixMillis(1),
            duplicate: true,
            correlation: CorrelationId([1; 16]),
        }
    }

    #[test]
    fn answers_arrive_as_they_were_given() {
        let asked = forwarded(Change::Rename("x".to_owned())).request;
        let refused = Refusal::not_done(Reason::ClientMsgIdReused { stored: Seq(7) }, "no");
        for given in [Ok(stored()), Err(refused)] {
            assert_eq!(answer(&asked, response(7, &given)), given);
        }
        let mute = answer(&asked, node::ForwardResponse::default());
        assert_eq!(mute.unwrap_err().effect, Effect::Unknown);
    }
}
