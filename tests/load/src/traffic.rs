//! Devices that talk: each a task that sends at its pace, acknowledges what it gets, and writes down how long it took.
//!
//! Latencies count from the moment a message was *meant* to be sent, so that a server that stalls cannot hide it by
//! slowing its clients down (coordinated omission). A message carries that moment: as request id, and in its text.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use stonechat_proto::v1;
use stonechat_proto::v1::client_frame::Body as Asked;
use stonechat_proto::v1::server_frame::Body as Said;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::Outcome;
use crate::counted::{Counted, Shared};
use crate::link::{Inbound, Link, Outbound, Way};
use crate::population::Person;
use crate::process::{Kind, Server};

/// Bytes of a message's text.
const TEXT_BYTES: usize = 100;
/// How long everything under way has to arrive once sending stopped.
const SETTLE_WITHIN: Duration = Duration::from_secs(60);
/// Answers to own messages that one ack covers.
const OWN_ACK_EVERY: u64 = 64;
/// How often a sender that waits for deliveries looks.
const LOOK_EVERY: Duration = Duration::from_millis(1);
/// How often a client shows that it lives.
const PING_EVERY: Duration = Duration::from_secs(25);
/// How long a session may take to open.
const OPEN_WITHIN: Duration = Duration::from_secs(60);

/// When a device sends.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Pace {
    /// Never.
    Listens,
    /// Never, and it does not read either.
    Stalls,
    /// At fixed moments, however the server does; the first after `first`.
    Every { first: Duration, every: Duration },
    /// As soon as fewer than so many are unanswered.
    Unanswered(usize),
    /// As soon as fewer than so many have not reached so many recipients.
    Undelivered { messages: u64, recipients: u64 },
}

/// A device with an open session.
pub(crate) struct Device {
    person: Person,
    outbound: Outbound,
    inbound: Inbound,
    /// Deliveries that one ack covers.
    ack_every: u64,
    unacked: u64,
    /// Answers that stand for deliveries, and are not acknowledged.
    own_unacked: u64,
    unanswered: usize,
    /// Moment of the newest send: each is a request id, so that no two are equal.
    newest_us: u64,
    /// The newest one that was acknowledged; 0 for none.
    acked_us: u64,
    /// Something was refused and is not sent again: the next send must say what it follows instead.
    gave_up: bool,
    /// From the session's opening, for the next one.
    pub(crate) resume: v1::Hello,
}

/// A run's figures.
pub(crate) struct Measured {
    pub(crate) counted: Counted,
    pub(crate) answered: u64,
    pub(crate) delivered: u64,
    pub(crate) cpu: Duration,
    /// Of the node beside the server, if there is one.
    pub(crate) cpu_beside: Duration,
    pub(crate) seconds: f64,
}

impl Measured {
    /// CPU of the server for each acknowledged message, milliseconds.
    pub(crate) fn cpu_ms_per_message(&self) -> f64 {
        self.cpu.as_secs_f64() * 1_000.0 / self.answered.max(1) as f64
    }

    /// CPU of the server for each delivery, microseconds.
    pub(crate) fn cpu_us_per_delivery(&self) -> f64 {
        self.cpu.as_secs_f64() * 1_000_000.0 / self.delivered.max(1) as f64
    }
}

impl Device {
    /// Opens a session on a connection of its own and waits until its backlog is there.
    pub(crate) async fn open(server: &Server, person: &Person, way: Way) -> Outcome<Self> {
        let opening = async {
            let mut link = Link::open(server.address).await?;
            Self::on(&mut link, person, way, server.kind == Kind::Stonechat).await
        };
        tokio::time::timeout(OPEN_WITHIN, opening).await?
    }

    /// Opens a session on a connection.
    pub(crate) async fn on(link: &mut Link, person: &Person, way: Way, catches_up: bool) -> Outcome<Self> {
        let (mut outbound, mut inbound) = link.session(way, person.hello.clone()).await?;
        let mut resume = person.hello.clone();
        let mut has_more = false;
        loop {
            let frame = inbound.next().await?.ok_or("the stream ended before welcome")?;
            match frame.body {
                Some(Said::Welcome(welcome)) => {
                    outbound.welcomed(&welcome);
                    (resume.cursor, resume.resume_token) = (welcome.cursor, welcome.resume_token);
                    has_more = catches_up && welcome.has_more;
                    if !catches_up {
                        break;
                    }
                }
                Some(Said::Closed(closed)) => return Err(format!("closed: {closed:?}").into()),
                Some(Said::Delivery(delivery)) => ack_delivery(&mut outbound, &person.acks_to, &delivery, 1)?,
                Some(Said::CaughtUp(_)) => break,
                _ => {}
            }
        }
        while has_more {
            let list = more_rows(&mut outbound, &mut inbound, &person.acks_to, &resume.cursor).await?;
            (resume.cursor, has_more) = (list.next_cursor, list.has_more);
        }
        let person = person.clone();
        Ok(Self {
            person,
            outbound,
            inbound,
            ack_every: 1,
            unacked: 0,
            own_unacked: 0,
            unanswered: 0,
            newest_us: 0,
            acked_us: 0,
            gave_up: false,
            resume,
        })
    }

    /// Acknowledges only each so many deliveries.
    pub(crate) fn acking_every(mut self, deliveries: u64) -> Self {
        self.ack_every = deliveries;
        self
    }

    async fn run(mut self, pace: Pace, shared: Arc<Shared>, phase: watch::Receiver<Phase>) -> Outcome<Self> {
        let begun = stonechat_host::monotonic();
        let (mut sent, mut done) = (0_u32, phase.clone());
        let mut ping = begun;
        let reads = !matches!(pace, Pace::Stalls);
        let mut cut_off = false;
        loop {
            let sending = *phase.borrow() == Phase::Sending;
            let next = if sending {
                self.due(pace, begun, sent, &shared)
            } else {
                None
            };
            tokio::select! { biased;
                () = over(&mut done) => return Ok(self),
                () = tokio::time::sleep_until(ping), if !cut_off => {
                    ping += PING_EVERY;
                    let pinged = self.ping();
                    // Who never reads is cut off by and by, once answers to its pings have filled its queue.
                    cut_off = !reads && pinged.is_err();
                    if !cut_off {
                        pinged?;
                    }
                }
                () = until(self.outbound.due()) => {
                    for answer in self.outbound.flush().await? {
                        self.take(answer, &shared)?;
                    }
                }
                frame = self.inbound.next(), if reads => {
                    let frame = frame?.ok_or("the stream ended under load")?;
                    self.take(frame, &shared)?;
                }
                meant = wait(next) => {
                    let sending = *phase.borrow() == Phase::Sending;
                    let Some(meant) = meant.filter(|_| sending) else { continue };
                    sent += 1;
                    self.send(meant, &shared)?;
                }
            }
        }
    }

    /// When to look or send next, and whether it is a send.
    fn due(&self, pace: Pace, begun: Instant, sent: u32, shared: &Shared) -> Option<(Instant, bool)> {
        let now = stonechat_host::monotonic();
        match pace {
            Pace::Listens | Pace::Stalls => None,
            Pace::Every { first, every } => Some((begun + first + every * sent, true)),
            Pace::Unanswered(most) => (self.unanswered < most).then_some((now, true)),
            Pace::Undelivered { messages, recipients } => {
                let sent = shared.sent.load(Ordering::Relaxed);
                let under_way = sent.saturating_sub(shared.refused.load(Ordering::Relaxed));
                let open = (under_way * recipients).saturating_sub(shared.delivered.load(Ordering::Relaxed));
                let ready = open < messages * recipients;
                Some((if ready { now } else { now + LOOK_EVERY }, ready))
            }
        }
    }

    fn send(&mut self, meant: Instant, shared: &Shared) -> Outcome<()> {
        let meant_us = u64::try_from(meant.duration_since(shared.start).as_micros())?;
        let meant_us = meant_us.max(self.newest_us + 1);
        self.newest_us = meant_us;
        let frame = v1::ClientFrame {
            request_id: meant_us,
            body: Some(self.message(meant_us)),
        };
        shared.sent.fetch_add(1, Ordering::Relaxed);
        self.unanswered += 1;
        self.outbound.send(frame)
    }

    /// What this device said itself reaches nobody by coming back.
    fn is_own(&self, delivery: &v1::Delivery) -> bool {
        let entry = delivery.entry.as_ref();
        entry.is_some_and(|entry| entry.sender_device_id == self.person.hello.device_id)
    }

    fn ping(&mut self) -> Outcome<()> {
        let body = Some(Asked::Ping(v1::Ping {}));
        let request_id = u64::MAX;
        self.outbound.send(v1::ClientFrame { request_id, body })
    }

    fn message(&self, meant_us: u64) -> Asked {
        let text = format!("{meant_us:<TEXT_BYTES$}");
        let id = |us| format!("{}-{us}", self.person.hello.device_id);
        let gives_up = self.gave_up && self.acked_us > 0 && self.unanswered == 0;
        let header = v1::AppendHeader {
            conversation_id: self.person.sends_to.clone(),
            client_msg_id: id(meant_us),
            previous_client_msg_id: if gives_up { id(self.acked_us) } else { String::new() },
            ..v1::AppendHeader::default()
        };
        let content = v1::message_content::Content::Text(text);
        let content = v1::MessageContent {
            content: Some(content),
            ..v1::MessageContent::default()
        };
        Asked::Send(v1::SendRequest {
            header: Some(header),
            content: Some(content),
        })
    }

    fn take(&mut self, frame: v1::ServerFrame, shared: &Shared) -> Outcome<()> {
        match frame.body {
            Some(Said::Send(answer)) => {
                self.unanswered = self.unanswered.saturating_sub(1);
                match answer.outcome {
                    Some(v1::send_response::Outcome::Appended(appended)) => {
                        self.acked_us = self.acked_us.max(frame.request_id);
                        self.gave_up = false;
                        shared.note_ack(frame.request_id);
                        self.own_unacked += u64::from(appended.is_delivery);
                        if appended.is_delivery && self.own_unacked >= OWN_ACK_EVERY {
                            let deliveries = std::mem::take(&mut self.own_unacked);
                            ack(&mut self.outbound, &appended.conversation_id, appended.seq, deliveries)?;
                        }
                    }
                    Some(v1::send_response::Outcome::Refusal(refusal)) => {
                        self.gave_up = true;
                        shared.note_refusal(&format!("{:?}", refusal.reason()));
                    }
                    None => return Err("an answer without outcome".into()),
                }
            }
            Some(Said::Delivery(delivery)) => {
                if let Some(meant) = meant_of(&delivery).filter(|_| !self.is_own(&delivery)) {
                    shared.note_delivery(meant);
                }
                self.unacked += 1;
                if self.unacked >= self.ack_every {
                    let deliveries = std::mem::take(&mut self.unacked);
                    ack_delivery(&mut self.outbound, &self.person.acks_to, &delivery, deliveries)?;
                }
            }
            Some(Said::Closed(closed)) => return Err(format!("closed under load: {closed:?}").into()),
            Some(Said::Refusal(refusal)) => return Err(format!("refused under load: {refusal:?}").into()),
            _ => {}
        }
        Ok(())
    }
}

/// The next rows of the conversation list.
async fn more_rows(
    outbound: &mut Outbound,
    inbound: &mut Inbound,
    acks_to: &str,
    cursor: &Bytes,
) -> Outcome<v1::ConversationList> {
    let ask = v1::ListConversationsRequest {
        cursor: cursor.clone(),
        limit: 0,
    };
    let body = Some(Asked::Sync(ask));
    outbound.send(v1::ClientFrame { request_id: 2, body })?;
    loop {
        let frame = inbound.next().await?.ok_or("the stream ended while listing")?;
        match frame.body {
            Some(Said::Sync(v1::ListConversationsResponse {
                outcome: Some(v1::list_conversations_response::Outcome::List(list)),
            })) => return Ok(list),
            Some(Said::Delivery(delivery)) => ack_delivery(outbound, acks_to, &delivery, 1)?,
            Some(Said::Closed(closed)) => return Err(format!("closed: {closed:?}").into()),
            Some(Said::Sync(refused)) => return Err(format!("not listed: {refused:?}").into()),
            _ => {}
        }
    }
}

/// Acknowledges a delivery and what came before it, so many in all; to its own conversation when no other name is given.
fn ack_delivery(outbound: &mut Outbound, to: &str, delivery: &v1::Delivery, deliveries: u64) -> Outcome<()> {
    let entry = delivery.entry.as_ref().ok_or("a delivery without entry")?;
    let to = if to.is_empty() { &entry.conversation_id } else { to };
    ack(outbound, to, entry.seq, deliveries)
}

fn ack(outbound: &mut Outbound, conversation: &str, seq: u64, deliveries: u64) -> Outcome<()> {
    let conversation_id = conversation.to_owned();
    outbound.acknowledge(v1::Ack { conversation_id, seq }, deliveries)
}

/// When a message was meant to be sent, microseconds since the run's start.
fn meant_of(delivery: &v1::Delivery) -> Option<u64> {
    let v1::entry::Body::Message(content) = delivery.entry.as_ref()?.body.as_ref()? else {
        return None;
    };
    let v1::message_content::Content::Text(text) = content.content.as_ref()? else {
        return None;
    };
    text.trim_end().parse().ok()
}

async fn over(phase: &mut watch::Receiver<Phase>) {
    // Without its sender the run is over, too.
    let _over = phase.wait_for(|phase| *phase == Phase::Over).await;
}

async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

/// Waits until the moment; says it back if it is one to send at.
async fn wait(next: Option<(Instant, bool)>) -> Option<Instant> {
    match next {
        Some((at, sends)) => {
            tokio::time::sleep_until(at).await;
            sends.then_some(at)
        }
        None => std::future::pending().await,
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Sending,
    Settling,
    Over,
}

/// How long a run takes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Span {
    /// Not counted.
    pub(crate) warm_up: Duration,
    /// Counted.
    pub(crate) measure: Duration,
}

/// Devices that are running.
pub(crate) struct Running {
    shared: Arc<Shared>,
    phase: watch::Sender<Phase>,
    devices: JoinSet<Outcome<Device>>,
}

impl Running {
    /// Nobody yet.
    pub(crate) fn new() -> Outcome<Self> {
        Ok(Self {
            shared: Arc::new(Shared::new()?),
            phase: watch::Sender::new(Phase::Sending),
            devices: JoinSet::new(),
        })
    }

    /// Lets a device run at its pace.
    pub(crate) fn add(&mut self, device: Device, pace: Pace) {
        let running = device.run(pace, Arc::clone(&self.shared), self.phase.subscribe());
        self.devices.spawn(running);
    }

    /// Ends the run, and gives the devices back. Fails when a delivery is missing: `recipients` is how many devices get each
    /// message.
    pub(crate) async fn end(mut self, recipients: u64) -> Outcome<Vec<Device>> {
        self.phase.send_replace(Phase::Settling);
        // Whoever was about to send has counted it by then.
        tokio::time::sleep(LOOK_EVERY * 10).await;
        let settling = settle(&self.shared, recipients, &mut self.devices);
        let settled = tokio::time::timeout(SETTLE_WITHIN, settling).await;
        self.phase.send_replace(Phase::Over);
        settled.map_err(|_| format!("not everything arrived: {}", self.shared.sums()))??;
        let mut devices = Vec::new();
        while let Some(device) = self.devices.join_next().await {
            devices.push(device??);
        }
        Ok(devices)
    }
}

/// Lets devices talk, each at its pace, and measures; `recipients` as at [`Running::end`].
pub(crate) async fn drive(
    server: &Server,
    devices: Vec<(Device, Pace)>,
    span: Span,
    recipients: u64,
) -> Outcome<(Measured, Vec<Device>)> {
    let mut running = Running::new()?;
    for (device, pace) in devices {
        running.add(device, pace);
    }
    tokio::time::sleep(span.warm_up).await;
    let shared = Arc::clone(&running.shared);
    let mut measured = measure(server, &shared, span.measure).await?;
    let devices = running.end(recipients).await?;
    // Only now: what was meant to be sent in the span and came late is in it.
    measured.counted = shared.lock().clone();
    Ok((measured, devices))
}

async fn measure(server: &Server, shared: &Shared, span: Duration) -> Outcome<Measured> {
    let before = (
        server.usage()?,
        shared.answered.load(Ordering::Relaxed),
        shared.delivered.load(Ordering::Relaxed),
        server.cpu_beside()?,
    );
    let begun = stonechat_host::monotonic();
    let now_us = shared.now_us();
    *shared.lock() = Counted::of(now_us..now_us + u64::try_from(span.as_micros())?)?;
    tokio::time::sleep(span).await;
    let usage = server.usage()?;
    Ok(Measured {
        counted: shared.lock().clone(),
        answered: shared.answered.load(Ordering::Relaxed) - before.1,
        delivered: shared.delivered.load(Ordering::Relaxed) - before.2,
        cpu: usage.cpu.saturating_sub(before.0.cpu),
        cpu_beside: server.cpu_beside()?.saturating_sub(before.3),
        seconds: begun.elapsed().as_secs_f64(),
    })
}

/// Waits until every message was answered and delivered.
async fn settle(shared: &Shared, recipients: u64, running: &mut JoinSet<Outcome<Device>>) -> Outcome<()> {
    loop {
        let refused = shared.refused.load(Ordering::Relaxed);
        let answered = shared.answered.load(Ordering::Relaxed);
        let all = shared.sent.load(Ordering::Relaxed) == answered + refused;
        if all && shared.delivered.load(Ordering::Relaxed) >= answered * recipients {
            return Ok(());
        }
        tokio::select! { biased;
            Some(ended) = running.join_next() => { ended??; }
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
    }
}
