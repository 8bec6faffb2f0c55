//! Import: reads lines, sends each through the rules that every request goes through. Running it again stores nothing
//! twice (I2): a line's id is its `client_msg_id`.

use std::collections::BTreeMap;
use std::io::BufRead;

use futures_util::FutureExt;
use stonechat_host::{Host, crash_point};
use stonechat_proto::admin;

use super::lane::{Landed, Lanes};
use super::record::{Record, RecordType, Reference};
use super::requests::{append, block, creation, missing, referenced, sender};
use crate::conversation::{Backends, Caller, Conversations, People};
use crate::domain::authorization::Actor;
use crate::domain::{ConversationId, CorrelationId, Reason, Refusal, Seq, UnixMillis, UserId};
use crate::wire;

/// Bytes of a line: a 16 KiB text with every character escaped, and 500 members, are far below.
const LINE_BYTES_MAX: u64 = 1024 * 1024;
/// Conversations of one file: about 150 MB of ids.
const CONVERSATIONS_MAX: usize = 1_000_000;

/// What an import did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Lines read.
    pub lines: u64,
    /// Lines that were stored now.
    pub stored: u64,
    /// Lines that an earlier run had stored.
    pub known: u64,
    /// Lines that were refused.
    pub refused: u64,
}

/// Is told as the import goes on.
pub trait Progress {
    /// So many bytes were read.
    fn read(&mut self, bytes: u64);
    /// This line was refused.
    fn refused(&mut self, line: u64, refusal: &Refusal);
}

/// The import stopped. Every line before the one it names is stored or was refused; run it again to go on.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The file cannot be read.
    #[error("line {line} cannot be read: {cause}; run the import again to go on")]
    Read {
        /// The line.
        line: u64,
        /// What the system says.
        cause: std::io::Error,
    },
    /// The store cannot go on.
    #[error("stopped at line {line}: {refusal}; run the import again to go on")]
    Store {
        /// The first line that it did not take. Lines of other conversations behind it may be stored.
        line: u64,
        /// What the store says.
        refusal: Refusal,
    },
}

/// Imports `input` and says what became of it.
///
/// # Errors
/// The file cannot be read or the store cannot go on; a line that is refused is no error, it is reported and passed over.
pub async fn import(
    conversations: &Conversations,
    backends: &Backends,
    host: &Host,
    mut input: impl BufRead,
    progress: &mut dyn Progress,
) -> Result<Report, ImportError> {
    let mut importer = Importer {
        people: People::new(conversations.clone(), host.clone()),
        conversations,
        backends,
        host,
        progress,
        known: BTreeMap::new(),
        lanes: Lanes::default(),
        stopped: None,
        report: Report::default(),
    };
    let read = importer.take_lines(&mut input).await;
    importer.land_all().await;
    // What was in flight when the file could not be read on lies before that.
    if let Some((line, refusal)) = importer.stopped {
        return Err(ImportError::Store { line, refusal });
    }
    read?;
    conversations.drain().await;
    Ok(importer.report)
}

struct Importer<'a> {
    people: People,
    conversations: &'a Conversations,
    backends: &'a Backends,
    host: &'a Host,
    progress: &'a mut dyn Progress,
    /// Conversations of this file, by the file's ids; bounded by `CONVERSATIONS_MAX`.
    known: BTreeMap<String, ConversationId>,
    lanes: Lanes,
    /// The first line that the store did not take, and why: nothing is started behind it, or what comes later in the file
    /// would come first in the conversation.
    stopped: Option<(u64, Refusal)>,
    report: Report,
}

type Line = Result<Record, Refusal>;

impl Importer<'_> {
    async fn take_lines(&mut self, input: &mut impl BufRead) -> Result<(), ImportError> {
        while self.stopped.is_none()
            && let Some(line) = self.read_line(input)?
        {
            let number = self.report.lines;
            let outcome = match line {
                Ok(record) => self.take(number, record).await,
                Err(refusal) => Err(refusal),
            };
            // When an earlier line stopped it meanwhile, this one may have missed just that one.
            if self.stopped.is_none()
                && let Err(refusal) = outcome
            {
                self.refused(number, refusal);
            }
        }
        Ok(())
    }

    /// The next line that is not empty; `None` at the end.
    fn read_line(&mut self, input: &mut impl BufRead) -> Result<Option<Line>, ImportError> {
        loop {
            let mut bytes = Vec::new();
            let read = read_bounded(input, &mut bytes);
            let read = read.map_err(|cause| ImportError::Read {
                line: self.report.lines + 1,
                cause,
            })?;
            if read == 0 {
                return Ok(None);
            }
            self.report.lines += 1;
            self.progress.read(read);
            if read > LINE_BYTES_MAX {
                return Ok(Some(Err(Refusal::invalid(
                    "line",
                    format!("longer than {LINE_BYTES_MAX} bytes"),
                ))));
            }
            if bytes.iter().all(u8::is_ascii_whitespace) {
                continue;
            }
            let parsed = serde_json::from_slice(&bytes);
            return Ok(Some(
                parsed.map_err(|error| Refusal::invalid("line", error.to_string())),
            ));
        }
    }

    async fn take(&mut self, line: u64, record: Record) -> Result<(), Refusal> {
        match record.record {
            RecordType::User => self.take_user(&record).await,
            RecordType::Conversation => self.take_conversation(record).await,
            RecordType::Block => self.take_block(&record).await,
            _ => self.take_entry(line, &record).await,
        }
    }

    async fn take_user(&mut self, record: &Record) -> Result<(), Refusal> {
        let (id, name) = wire::people::upsert_user(admin::v1::UpsertUserRequest {
            user_id: record.id.clone(),
            display_name: record.name.clone().unwrap_or_default(),
        })?;
        let directory = &self.backends.directory;
        let found = directory.users(std::slice::from_ref(&id)).await.map_err(unavailable)?;
        let before = found.first();
        // What a user became since an earlier run is newer than the file.
        if before.is_none_or(|user| user.display_name.is_empty() && !name.is_empty()) {
            let written = directory.upsert_user(&id, &name, self.now()).await;
            written.map_err(unavailable)?;
        }
        // Deactivating revokes, and that stays: who has nothing revoked never was deactivated, also by a run that broke off.
        let is_untouched = before.is_none_or(|user| !user.deactivated && user.tokens_revoked.is_none());
        if record.deactivated && is_untouched {
            let written = directory.set_deactivated(&id, true, self.now()).await;
            written.map_err(unavailable)?;
        }
        self.count(before.is_some());
        Ok(())
    }

    /// It counts for what comes behind it, and not for what stands before it.
    async fn take_block(&mut self, record: &Record) -> Result<(), Refusal> {
        let (user, target) = block(record)?;
        self.people.user(&user).await?;
        let known = self.people.blocks(&user).await?.contains(&target);
        self.land_all().await;
        if self.stopped.is_some() {
            return Ok(());
        }
        self.people.set_block(&user, &target, true).await?;
        self.count(known);
        Ok(())
    }

    async fn take_conversation(&mut self, record: Record) -> Result<(), Refusal> {
        if self.known.len() >= CONVERSATIONS_MAX {
            let message = format!("more than {CONVERSATIONS_MAX} conversations in one file");
            return Err(Refusal::not_done(Reason::LimitReached, message));
        }
        let request = creation(&record)?;
        let sender = sender(record.user.as_deref(), record.device.as_deref())?;
        let newest = self.backends.markers.newest_change();
        let info = self
            .conversations
            .create(&self.caller(sender.user, sender.device), request)
            .await?;
        let known = self.backends.markers.newest_change() == newest;
        self.known.insert(record.id, info.id);
        self.count(known);
        Ok(())
    }

    async fn take_entry(&mut self, line: u64, record: &Record) -> Result<(), Refusal> {
        let name = record.conversation.as_deref().ok_or_else(|| missing("conversation"))?;
        let conversation = *self.known.get(name).ok_or_else(|| {
            Refusal::not_done(Reason::NotFound, format!("no conversation {name:?} on an earlier line"))
        })?;
        let reply = self.resolve(conversation, record.reply.as_ref()).await?;
        let target = self.resolve(conversation, record.target.as_ref()).await?;
        let sender = sender(record.user.as_deref(), record.device.as_deref())?;
        let request = append(record, conversation, reply, target)?;
        while !self.lanes.has_room(conversation) {
            self.land_one().await;
        }
        let (rules, caller, redacted) = (
            self.conversations.clone(),
            self.caller(sender.user, sender.device),
            record.redacted,
        );
        let append = async move {
            let result = rules.append(&caller, request).await;
            crash_point("import.appended");
            Landed {
                line,
                conversation,
                result,
                redacted,
            }
        };
        if self.stopped.is_none()
            && let Some(landed) = self.lanes.start(conversation, append.boxed())
        {
            self.landed(landed);
        }
        Ok(())
    }

    /// The seq of an earlier line; what is in flight in the conversation lands first.
    async fn resolve(&mut self, id: ConversationId, reference: Option<&Reference>) -> Result<Option<Seq>, Refusal> {
        let Some(reference) = reference else { return Ok(None) };
        self.land_conversation(id).await;
        let (sender, msg_id) = referenced(reference)?;
        let found = self.backends.log.find(id, &sender, &msg_id, Seq::ZERO).await;
        let found = found.map_err(|error| unavailable(error.to_string()))?;
        let prior = found.ok_or_else(|| {
            Refusal::not_done(
                Reason::NotFound,
                format!("no line {} of this sender before it", reference.id),
            )
        })?;
        Ok(Some(prior.seq))
    }

    fn caller(&self, user: Option<UserId>, device: Option<crate::domain::DeviceId>) -> Caller {
        Caller {
            actor: user.map_or(Actor::System, Actor::User),
            device,
            correlation: CorrelationId(self.host.random.bytes16()),
        }
    }

    fn now(&self) -> UnixMillis {
        UnixMillis(self.host.clock.unix_ms())
    }

    async fn land_one(&mut self) {
        if let Some(landed) = self.lanes.next().await {
            self.landed(landed);
        }
    }

    async fn land_conversation(&mut self, id: ConversationId) {
        while self.lanes.in_flight(id) > 0 {
            self.land_one().await;
        }
    }

    async fn land_all(&mut self) {
        while let Some(landed) = self.lanes.next().await {
            self.landed(landed);
        }
    }

    fn landed(&mut self, landed: Landed) {
        match landed.result {
            Ok(appended) => self.count(appended.duplicate),
            // Its content was there in an earlier run and is gone since: the same line.
            Err(Refusal {
                reason: Reason::ClientMsgIdReused { .. },
                ..
            }) if landed.redacted => self.count(true),
            Err(refusal) => self.refused(landed.line, refusal),
        }
    }

    fn count(&mut self, known: bool) {
        if known {
            self.report.known += 1;
        } else {
            self.report.stored += 1;
        }
    }

    /// A refused line is passed over; a store that cannot go on ends the import, and of the lines it did not take the first
    /// one counts.
    fn refused(&mut self, line: u64, refusal: Refusal) {
        if !refusal.is_fault() {
            self.report.refused += 1;
            self.progress.refused(line, &refusal);
        } else if self.stopped.as_ref().is_none_or(|(first, _)| line < *first) {
            self.stopped = Some((line, refusal));
        }
    }
}

fn unavailable(cause: impl std::fmt::Display) -> Refusal {
    Refusal::unknown(Reason::Internal, cause.to_string())
}

/// Reads a line up to `LINE_BYTES_MAX` bytes into `bytes` and passes over the rest of a longer one; returns its whole length.
fn read_bounded(input: &mut impl BufRead, bytes: &mut Vec<u8>) -> std::io::Result<u64> {
    let mut whole = 0;
    loop {
        let chunk = input.fill_buf()?;
        if chunk.is_empty() {
            return Ok(whole);
        }
        let end = chunk.iter().position(|byte| *byte == b'\n');
        let taken = end.map_or(chunk.len(), |end| end + 1);
        if whole < LINE_BYTES_MAX {
            bytes.extend_from_slice(&chunk[..taken]);
        }
        whole += taken as u64;
        input.consume(taken);
        if end.is_some() {
            return Ok(whole);
        }
    }
}
