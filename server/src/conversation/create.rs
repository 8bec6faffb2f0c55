//! Creating conversations. The directory's row decides that one exists; its first log entry follows from the row, also
//! after a crash in between.

use super::membership::{check_first, check_joining};
use super::sequencer::{doubted, unasked};
use super::state::directory_refusal;
use super::{Caller, ConversationInfo, Conversations, CreateRequest};
use crate::domain::{ConversationId, Kind, Member, Refusal, Role, Sender, UserId};
use crate::storage::NewConversation;

impl Conversations {
    /// Creates a group, or finds or creates the 1:1 of a pair. The same creator, device and id give the same
    /// conversation for ever.
    ///
    /// # Errors
    /// Typed, with whether it was certainly not done.
    pub async fn create(&self, caller: &Caller, request: CreateRequest) -> Result<ConversationInfo, Refusal> {
        self.refuse_when_closing().map_err(unasked)?;
        let members = first_members(&request)?;
        check_first(&members)?;
        let owner = request.owner.clone();
        let new = NewConversation {
            id: ConversationId::from_random(self.core.host.random.bytes16()),
            kind: request.kind,
            name: request.name,
            creator: Sender {
                user: Some(request.owner),
                device: caller.device.clone(),
            },
            client_msg_id: request.client_msg_id,
            correlation: caller.correlation,
            members,
            created: request.created.unwrap_or_else(|| self.core.now()),
        };
        let directory = &self.core.backends.directory;
        if !self.is_there(&new).await? {
            let joining: Vec<UserId> = new.members.iter().map(|member| member.user.clone()).collect();
            check_joining(&**directory, Some(&owner), &joining).await?;
        }
        let record = directory.create_conversation(new).await.map_err(directory_refusal)?;
        stonechat_host::crash_point("create.decided");
        self.begun(caller, record.first.id).await.map_err(doubted)
    }

    /// Whether creating it would only find what is there, for the same request or the same pair: what holds nobody back
    /// who asks again holds no finder back either, a block of today among it (I2).
    async fn is_there(&self, new: &NewConversation) -> Result<bool, Refusal> {
        let directory = &self.core.backends.directory;
        let requested = directory.requested(&new.creator, &new.client_msg_id).await;
        if requested.map_err(directory_refusal)?.is_some() {
            return Ok(true);
        }
        let Some((low, high)) = new.pair() else {
            return Ok(false);
        };
        let direct = directory.direct(low, high).await.map_err(directory_refusal)?;
        Ok(direct.is_some())
    }

    /// A conversation that the directory has decided on; what fails from here on does not undo that.
    async fn begun(&self, caller: &Caller, id: ConversationId) -> Result<ConversationInfo, Refusal> {
        self.core.state(id).await?;
        self.core.barrier.wait_for(id).await;
        self.get(caller, id).await
    }

    /// One conversation with its members. Who is no member any more learns neither who is one today, nor what it is called
    /// or has pinned today (I7).
    ///
    /// # Errors
    /// Hidden and absent answer alike.
    pub async fn get(&self, caller: &Caller, id: ConversationId) -> Result<ConversationInfo, Refusal> {
        let state = self.fresh_state(id).await?;
        state.check_visible(&caller.actor)?;
        let mine = match caller.actor.user() {
            Some(user) => self.summary(user, caller.device.as_ref(), id).await?,
            None => None,
        };
        let (name, members, pins) = if state.is_former(&caller.actor) {
            Default::default()
        } else {
            (state.name.clone(), state.members(), state.pins_shown())
        };
        Ok(ConversationInfo {
            id,
            kind: state.kind,
            name,
            members,
            head: state.readable_head(&caller.actor),
            created: state.created,
            mine,
            pins,
        })
    }
}

/// The members of the first entry, sorted, the owner among them. In a 1:1 both are plain members: it belongs to neither.
fn first_members(request: &CreateRequest) -> Result<Vec<Member>, Refusal> {
    let mut members = request.members.clone();
    let owner_role = match request.kind {
        Kind::Group => Role::Owner,
        Kind::Direct => {
            check_pair(request)?;
            for member in &mut members {
                member.role = Role::Member;
            }
            Role::Member
        }
    };
    members.retain(|member| member.user != request.owner);
    members.push(Member {
        user: request.owner.clone(),
        role: owner_role,
    });
    members.sort_by(|one, other| one.user.cmp(&other.user));
    Ok(members)
}

fn check_pair(request: &CreateRequest) -> Result<(), Refusal> {
    let [peer] = request.members.as_slice() else {
        return Err(Refusal::invalid(
            "members",
            "a 1:1 has exactly one other member; nothing was created",
        ));
    };
    if peer.user == request.owner {
        return Err(Refusal::invalid(
            "members",
            "a 1:1 needs another user; nothing was created",
        ));
    }
    if !request.name.is_empty() {
        return Err(Refusal::invalid("name", "a 1:1 has no name; nothing was created"));
    }
    Ok(())
}
