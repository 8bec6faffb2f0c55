//! One conversation on the screen.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::process::ExitCode;

use stonechat_client::v1::{
    Conversation, Entry, GetReceiptsRequest, MessageContent, Presence, Refusal, entry, message_content,
};
use stonechat_client::{Client, ClientError, Event, Sent, settle, text_content};

use super::command::{Command, HELP};
use super::read_marker::ReadMarker;
use super::ticks::{Tick, Ticks};
use crate::cli::access::no_session;
use crate::cli::failure::Failure;
use crate::cli::output::Output;
use crate::cli::{json, text};

/// Users whose presence one session may watch: the contract's bound.
const WATCHED_MAX: usize = 200;

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flow {
    Stay,
    /// Wait for what was typed last, then leave.
    LastWords,
    Leave,
}

pub(super) struct Room {
    client: Client,
    id: String,
    title: String,
    members: BTreeSet<String>,
    me: String,
    device: String,
    output: Output,
    ticks: Ticks,
    read_marker: Option<ReadMarker>,
    head: u64,
    /// Entries up to here were shown as the past.
    shown: u64,
    unsettled: BTreeSet<String>,
    refused: bool,
    offline: bool,
}

impl Room {
    pub(super) fn enter(
        client: Client,
        conversation: Conversation,
        me: String,
        device: String,
        auto_read: bool,
        output: Output,
    ) -> Self {
        let members: BTreeSet<String> = conversation
            .members
            .iter()
            .map(|member| member.user_id.clone())
            .collect();
        let id = conversation.conversation_id.clone();
        let others = members.iter().filter(|user| **user != me).cloned();
        Self {
            title: title(&conversation, &me),
            ticks: Ticks::new(others),
            read_marker: auto_read.then(|| ReadMarker::start(client.clone(), id.clone())),
            head: conversation.head_seq,
            shown: 0,
            unsettled: BTreeSet::new(),
            refused: false,
            offline: false,
            client,
            id,
            members,
            me,
            device,
            output,
        }
    }

    /// Shows where one is, the past, and who is there.
    pub(super) async fn open(&mut self, history: u32) -> Result<(), Failure> {
        let greeting = format!(
            "You are {} in {}. /help lists commands, /quit leaves.",
            self.me, self.title
        );
        self.output.note(&self.output.paint("2", &greeting));
        if history > 0 {
            let page = self.client.newest(&self.id, history).await?;
            for entry in &page.entries {
                self.output.line(|| text::entry(entry), || json::past(entry));
                self.shown = self.shown.max(entry.seq);
            }
            self.head = self.head.max(self.shown);
            let own = page.entries.iter().rev().find(|entry| entry.sender_user_id == self.me);
            if let Some(own) = own.map(|entry| entry.seq) {
                self.learn_receipts(own).await?;
            }
        }
        self.mark_shown(self.head);
        let others: Vec<String> = self.others().take(WATCHED_MAX).collect();
        if !others.is_empty() {
            let presences = self.client.watch_presence(others, true).await?;
            for presence in presences
                .iter()
                .filter(|presence| json::status(presence.status()) != "offline")
            {
                self.show_presence(presence);
            }
        }
        Ok(())
    }

    fn others(&self) -> impl Iterator<Item = String> {
        self.members.iter().filter(|user| **user != self.me).cloned()
    }

    /// Where the others are, as of one's newest message.
    async fn learn_receipts(&mut self, seq: u64) -> Result<(), Failure> {
        let request = GetReceiptsRequest {
            conversation_id: self.id.clone(),
            seq,
            with_members: true,
        };
        let receipts = settle(self.client.unary()?.receipts().get_receipts(request).await)?;
        for member in &receipts.members {
            self.ticks.moved(&member.user_id, member.delivered_seq, member.read_seq);
        }
        // Who joined later is not among them: it was never theirs to receive.
        let all = |count| {
            if count == receipts.audience_count && count > 0 {
                seq
            } else {
                0
            }
        };
        self.ticks
            .moved_all(all(receipts.delivered_count), all(receipts.read_count));
        self.ticks.sent(seq);
        self.show_ticks();
        Ok(())
    }

    /// Receipts moved untold: asks for those that a tick still waits for.
    async fn relearn_receipts(&mut self) {
        let Some(seq) = self.ticks.newest_open() else {
            return;
        };
        // The next receipts that come, or the next session, make up for it.
        if let Err(error) = self.learn_receipts(seq).await {
            tracing::debug!(?error, "receipts could not be asked for");
        }
    }

    pub(super) fn has_unsettled(&self) -> bool {
        !self.unsettled.is_empty()
    }

    pub(super) async fn on_event(&mut self, event: &Event) -> Result<Flow, Failure> {
        if self.output.json() && !self.is_shown(event) {
            self.output.line(String::new, || json::event(event));
        }
        match event {
            Event::Delivered { entry, .. } => self.on_entry(entry),
            Event::SendAccepted(appended) => {
                self.unsettled.remove(&appended.client_msg_id);
                if appended.conversation_id == self.id {
                    self.output
                        .note(&self.output.paint("2", &format!("  ✓ #{}", appended.seq)));
                    self.ticks.sent(appended.seq);
                    self.show_ticks();
                }
            }
            Event::SendFailed {
                client_msg_id, refusal, ..
            } => self.on_refused(client_msg_id, refusal),
            Event::Receipts(moved) if moved.conversation_id == self.id => {
                for member in &moved.members {
                    self.ticks.moved(&member.user_id, member.delivered_seq, member.read_seq);
                }
                self.ticks.moved_all(moved.delivered_to_all_seq, moved.read_by_all_seq);
                self.show_ticks();
            }
            Event::Typing(typing) if typing.conversation_id == self.id && !typing.stopped => {
                self.aside(&format!("* {} is typing", typing.user_id));
            }
            Event::Presence(presence) => self.aside(&text::presence(presence)),
            Event::Connected(_) => {
                self.offline = false;
                self.aside("* connected again");
                self.relearn_receipts().await;
            }
            Event::ReceiptsMissed => self.relearn_receipts().await,
            Event::Disconnected { reason, retry: None } => return Err(no_session(reason)),
            // Said once: further tries that fail are no news.
            Event::Disconnected { reason, .. } if !self.offline => {
                self.offline = true;
                self.aside(&format!(
                    "* {}; trying again, what you type is kept",
                    text::disconnect(reason)
                ));
            }
            _ => {}
        }
        Ok(Flow::Stay)
    }

    /// It came between hello and the page of the past, and so by both.
    fn is_shown(&self, event: &Event) -> bool {
        match event {
            Event::Delivered { entry, .. } => entry.conversation_id == self.id && entry.seq <= self.shown,
            _ => false,
        }
    }

    fn on_entry(&mut self, entry: &Entry) {
        if entry.conversation_id != self.id {
            let text = text::entry(entry);
            return self.aside(&format!("* elsewhere: {text}"));
        }
        self.head = self.head.max(entry.seq);
        self.follow_members(entry);
        // What was typed here is on the screen already.
        let own = entry.sender_user_id == self.me && entry.sender_device_id == self.device;
        if !own && entry.seq > self.shown {
            self.output.note(&text::entry(entry));
        }
        self.mark_shown(entry.seq);
    }

    fn follow_members(&mut self, entry: &Entry) {
        match &entry.body {
            Some(entry::Body::Members(changed)) => {
                for member in changed.members.iter().filter(|member| member.user_id != self.me) {
                    self.members.insert(member.user_id.clone());
                    self.ticks.joined(&member.user_id);
                }
            }
            Some(entry::Body::Left(left)) => {
                self.members.remove(&left.user_id);
                self.ticks.left(&left.user_id);
            }
            _ => {}
        }
    }

    fn on_refused(&mut self, client_msg_id: &str, refusal: &Refusal) {
        self.unsettled.remove(client_msg_id);
        self.refused = true;
        self.aside(&format!("  ✗ not sent: {}", text::safe(&refusal.message)));
    }

    fn aside(&self, text: &str) {
        self.output.note(&self.output.paint("2", text));
    }

    fn show_presence(&self, presence: &Presence) {
        let text = || self.output.paint("2", &text::presence(presence));
        self.output
            .line(text, || json::event(&Event::Presence(presence.clone())));
    }

    fn show_ticks(&mut self) {
        for tick in self.ticks.news() {
            let line = match tick {
                Tick::Delivered(seq) => self.output.paint("2", &format!("  ✓✓ #{seq} delivered")),
                Tick::Read(seq) => self.output.paint("34", &format!("  ✓✓ #{seq} read")),
            };
            self.output.note(&line);
        }
    }

    fn mark_shown(&self, seq: u64) {
        if let Some(marker) = &self.read_marker {
            marker.shown(seq);
        }
    }

    pub(super) async fn obey(&mut self, command: Command) -> Result<Flow, Failure> {
        let (client, id) = (self.client.clone(), self.id.clone());
        match command {
            Command::Empty => {}
            Command::Say(text) => self.took(client.send_text(&id, &text).await),
            Command::Reply(seq, text) => self.took(client.send(&id, reply(seq, text)).await),
            Command::Edit(seq, text) => self.took(client.edit(&id, seq, text_content(&text)).await),
            Command::Redact(seq, reason) => self.took(client.redact(&id, seq, &reason).await),
            Command::React(seq, emoji, remove) => self.took(client.react(&id, seq, &emoji, remove).await),
            Command::Pin(seq, unpin) => self.took(client.pin(&id, seq, unpin).await),
            Command::Read => self.read_all().await,
            Command::Typing => client.set_typing(&id, false).await,
            Command::Who => self.who().await,
            Command::Help => self.output.note(HELP),
            Command::Wrong(form) => self.complain(&form),
            Command::Quit => return Ok(Flow::LastWords),
        }
        Ok(Flow::Stay)
    }

    fn took(&mut self, taken: Result<Sent, ClientError>) {
        match taken {
            Ok(sent) => {
                self.unsettled.insert(sent.client_msg_id);
            }
            Err(error) => {
                self.refused = true;
                let not_sent = format!("not sent: {error}");
                let text = || self.output.paint("2", &format!("  ✗ {not_sent}"));
                self.output.line(text, || json::complaint(&not_sent));
            }
        }
    }

    async fn read_all(&mut self) {
        match self.client.mark_read(&self.id, self.head, false).await {
            Ok(markers) => {
                let text = || self.output.paint("2", &format!("* read up to #{}", markers.read_seq));
                self.output.line(text, || json::event(&Event::Markers(markers.clone())));
            }
            Err(error) => self.complain(&error),
        }
    }

    async fn who(&mut self) {
        let others: Vec<String> = self.others().take(WATCHED_MAX).collect();
        if others.is_empty() {
            return self.aside("* nobody else");
        }
        match self.client.watch_presence(others, true).await {
            Ok(presences) => presences.iter().for_each(|presence| self.show_presence(presence)),
            Err(error) => self.complain(&error),
        }
    }

    fn complain(&self, what: &dyn Display) {
        let text = || self.output.paint("2", &format!("? {what}"));
        self.output.line(text, || json::complaint(&what.to_string()));
    }

    /// Says goodbye; the exit code tells what became of what was typed.
    pub(super) async fn leave(self) -> Result<ExitCode, Failure> {
        self.client.close().await;
        if !self.unsettled.is_empty() {
            let count = self.unsettled.len();
            return Err(Failure::unknown(format!(
                "outcome unknown: {count} of your messages had no answer yet"
            )));
        }
        Ok(if self.refused {
            ExitCode::from(1)
        } else {
            ExitCode::SUCCESS
        })
    }
}

fn title(conversation: &Conversation, me: &str) -> String {
    if !conversation.name.is_empty() {
        return format!("\"{}\"", text::safe(&conversation.name));
    }
    let others = conversation.members.iter().filter(|member| member.user_id != me);
    let names: Vec<&str> = others.map(|member| member.user_id.as_str()).collect();
    format!(
        "a conversation with {}",
        if names.is_empty() { "nobody" } else { names[0] }
    )
}

fn reply(seq: u64, text: String) -> MessageContent {
    MessageContent {
        content: Some(message_content::Content::Text(text)),
        reply_to_seq: seq,
        media: Vec::new(),
    }
}
