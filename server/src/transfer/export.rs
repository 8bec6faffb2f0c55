//! Export: writes users and conversations as lines that an import takes back.

use std::io::Write;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures_util::StreamExt;

use super::record::{CiphertextRecord, MediaRecord, MemberRecord, Record, RecordType, Reference};
use super::requests::CONVERSATION_PREFIX;
use crate::conversation::Backends;
use crate::domain::{Body, Content, ConversationId, Entry, Kind, Member, MessageContent, Ordinal, Role, Sender, Seq};
use crate::storage::{DirectoryError, PageLimit, ReadError, StoredEntry, walk};

/// The export stopped; what was written so far is whole lines.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The directory cannot be read.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// A log cannot be read.
    #[error(transparent)]
    Log(#[from] ReadError),
    /// The output cannot be written.
    #[error("cannot write: {0}")]
    Write(#[from] std::io::Error),
}

type Result<T> = std::result::Result<T, ExportError>;

/// Writes everything, users first, then each conversation's lines in order, at last who blocks whom: what the two wrote
/// before must get in. Conversations are sorted by the line ids, so
/// the same content gives the same bytes. Returns the number of lines.
///
/// # Errors
/// See [`ExportError`].
pub async fn export(backends: &Backends, output: &mut dyn Write) -> Result<u64> {
    let mut exporter = Exporter {
        backends,
        output,
        lines: 0,
    };
    exporter.users().await?;
    for (name, id) in exporter.conversations().await? {
        exporter.conversation(&name, id).await?;
    }
    exporter.blocks().await?;
    exporter.output.flush()?;
    Ok(exporter.lines)
}

struct Exporter<'a> {
    backends: &'a Backends,
    output: &'a mut dyn Write,
    lines: u64,
}

impl Exporter<'_> {
    fn write(&mut self, record: &Record) -> Result<()> {
        let mut line = serde_json::to_vec(record).map_err(std::io::Error::other)?;
        line.push(b'\n');
        self.output.write_all(&line)?;
        self.lines += 1;
        Ok(())
    }

    async fn users(&mut self) -> Result<()> {
        let mut users = walk::users(&*self.backends.directory);
        while let Some(user) = users.next().await {
            let user = user?;
            self.write(&Record {
                record: RecordType::User,
                id: user.id.to_string(),
                name: Some(user.display_name).filter(|name| !name.is_empty()),
                deactivated: user.deactivated,
                ..Record::default()
            })?;
        }
        Ok(())
    }

    async fn blocks(&mut self) -> Result<()> {
        let mut users = walk::users(&*self.backends.directory);
        while let Some(user) = users.next().await {
            let user = user?.id;
            for target in self.backends.directory.blocks(&user).await? {
                self.write(&Record {
                    record: RecordType::Block,
                    id: target.to_string(),
                    user: Some(user.to_string()),
                    ..Record::default()
                })?;
            }
        }
        Ok(())
    }

    /// Line ids and ids of all conversations, sorted by the former.
    async fn conversations(&self) -> Result<Vec<(String, ConversationId)>> {
        let mut named = Vec::new();
        let mut ids = walk::conversations(&*self.backends.directory);
        while let Some(id) = ids.next().await {
            let id = id?;
            if let Some(first) = self.entry(id, Seq(1)).await? {
                named.push((line_id(&first.entry), id));
            }
        }
        named.sort();
        Ok(named)
    }

    async fn entry(&self, id: ConversationId, seq: Seq) -> Result<Option<Arc<StoredEntry>>> {
        let limit = PageLimit {
            entries: 1,
            bytes: usize::MAX,
        };
        if self.backends.log.head(id).await?.is_none_or(|head| head.seq < seq) {
            return Ok(None);
        }
        Ok(self.backends.log.read(id, seq, seq, limit).await?.pop())
    }

    async fn conversation(&mut self, name: &str, id: ConversationId) -> Result<()> {
        let Some(head) = self.backends.log.head(id).await? else {
            return Ok(());
        };
        let mut ordinal = Ordinal::ZERO;
        let mut entries = walk::entries(&*self.backends.log, id, Seq(1), head.seq);
        while let Some(stored) = entries.next().await {
            let entry = &stored?.entry;
            let counted = entry.ordinal > ordinal;
            ordinal = entry.ordinal;
            if let Some(record) = self.record(name, entry, counted).await? {
                self.write(&record)?;
            }
        }
        Ok(())
    }

    /// The line of an entry; `counted` says of a tombstone that a message stood there.
    async fn record(&self, name: &str, entry: &Entry, counted: bool) -> Result<Option<Record>> {
        let mut record = Record {
            id: entry.client_msg_id.to_string(),
            conversation: Some(name.to_owned()),
            user: entry.sender.user.as_ref().map(ToString::to_string),
            device: entry.sender.device.as_ref().map(ToString::to_string),
            time: Some(entry.origin_time.unwrap_or(entry.time).0),
            ..Record::default()
        };
        match &entry.body {
            Body::Created {
                kind,
                name: title,
                members,
            } => fill_created(&mut record, name, *kind, title, members),
            Body::Message(content) => self.fill_content(&mut record, entry, content).await?,
            Body::Edited { target, content } => {
                record.record = RecordType::Edit;
                record.target = self.reference(entry, *target).await?;
                self.fill_content(&mut record, entry, content).await?;
            }
            Body::Tombstone { redacted_by } => {
                record.redacted = true;
                if !counted {
                    record.record = RecordType::Edit;
                    record.target = self.redacted_target(entry, *redacted_by).await?;
                }
            }
            Body::Redacted { target, reason } => {
                record.record = RecordType::Redaction;
                record.target = self.reference(entry, *target).await?;
                record.reason = (!reason.is_empty()).then(|| reason.clone());
            }
            Body::Reaction {
                target,
                reaction,
                removed,
            } => {
                record.record = RecordType::Reaction;
                record.target = self.reference(entry, *target).await?;
                record.reaction = Some(reaction.clone());
                record.removed = *removed;
            }
            Body::Pin { target, pinned } => {
                record.record = RecordType::Pin;
                record.target = self.reference(entry, *target).await?;
                record.removed = !pinned;
            }
            Body::Members(members) => {
                record.record = RecordType::Members;
                record.members = member_records(members);
            }
            Body::Left { user, .. } => {
                record.record = RecordType::Left;
                record.member = Some(user.to_string());
            }
            Body::Renamed(title) => {
                record.record = RecordType::Renamed;
                record.name = Some(title.clone());
            }
        }
        Ok(Some(record))
    }

    async fn fill_content(&self, record: &mut Record, entry: &Entry, content: &MessageContent) -> Result<()> {
        match &content.content {
            Content::Text(text) => record.text = Some(text.clone()),
            Content::Ciphertext { scheme, data } => {
                record.ciphertext = Some(CiphertextRecord {
                    scheme: scheme.clone(),
                    data: STANDARD.encode(data),
                });
            }
        }
        let media = content.media.iter().map(|media| MediaRecord {
            uri: media.uri.clone(),
            content_type: media.content_type.clone(),
            size_bytes: media.size_bytes,
        });
        record.media = media.collect();
        if let Some(reply_to) = content.reply_to {
            record.reply = self.reference(entry, reply_to).await?;
        }
        Ok(())
    }

    async fn redacted_target(&self, entry: &Entry, redacted_by: Seq) -> Result<Option<Reference>> {
        let redaction = self.entry(entry.conversation, redacted_by).await?;
        match redaction.map(|stored| stored.entry.body.clone()) {
            Some(Body::Redacted { target, .. }) => self.reference(entry, target).await,
            _ => Ok(None),
        }
    }

    async fn reference(&self, entry: &Entry, target: Seq) -> Result<Option<Reference>> {
        let stored = self.entry(entry.conversation, target).await?;
        Ok(stored.map(|stored| {
            let Sender { user, device } = &stored.entry.sender;
            Reference {
                id: stored.entry.client_msg_id.to_string(),
                user: user.as_ref().map(ToString::to_string),
                device: device.as_ref().map(ToString::to_string),
            }
        }))
    }
}

fn fill_created(record: &mut Record, name: &str, kind: Kind, title: &str, members: &[Member]) {
    record.record = RecordType::Conversation;
    record.id = name.to_owned();
    record.conversation = None;
    record.kind = Some(match kind {
        Kind::Direct => "direct".to_owned(),
        Kind::Group => "group".to_owned(),
    });
    record.name = (!title.is_empty()).then(|| title.to_owned());
    record.members = member_records(members);
}

fn member_records(members: &[Member]) -> Vec<MemberRecord> {
    let role = |role| match role {
        Role::Member => "member",
        Role::Admin => "admin",
        Role::Owner => "owner",
    };
    let record = |member: &Member| MemberRecord {
        user: member.user.to_string(),
        role: role(member.role).to_owned(),
    };
    members.iter().map(record).collect()
}

/// An imported conversation keeps the id of its line; another one is named by its own id.
fn line_id(first: &Entry) -> String {
    let id = first.client_msg_id.as_str();
    id.strip_prefix(CONVERSATION_PREFIX)
        .map_or_else(|| first.conversation.to_string(), str::to_owned)
}
