//! A small server by the contract that misbehaves on demand, on sockets in memory, so that time can be paused.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use stonechat_client::v1::client_frame::Body as Ask;
use stonechat_client::v1::server_frame::Body;
use stonechat_client::v1::session_service_server::{SessionService, SessionServiceServer};
use stonechat_client::v1::{self, *};
use stonechat_host::{BoxedIo, Connector};
use tokio::io::DuplexStream;
use tokio::sync::{Notify, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

pub(crate) const CONVERSATION: &str = "00000000-0000-4000-8000-000000000001";

/// What the server does next to an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mood {
    /// Stores and answers.
    Well,
    /// Stores and breaks the stream before the answer.
    StoreAndBreak,
    /// Breaks the stream without storing.
    Break,
    /// Refuses, not done, to be tried again.
    Busy,
    /// Refuses for good.
    Forbid,
}

#[derive(Default)]
pub(crate) struct State {
    /// The log: client_msg_id and text.
    pub(crate) log: Vec<(String, String)>,
    /// What the device acknowledged.
    pub(crate) acked: u64,
    /// Hellos that arrived, whatever became of them.
    pub(crate) hellos: Vec<Hello>,
    /// Streams that were asked for.
    pub(crate) streams: usize,
    /// Moods of the next operations; well afterwards.
    pub(crate) moods: VecDeque<Mood>,
    /// Refuse every stream with UNAVAILABLE.
    pub(crate) unavailable: bool,
    /// Refuse this token.
    pub(crate) bad_token: Option<String>,
    /// Entries not to deliver, once each.
    pub(crate) skip: Vec<u64>,
    /// Answer nothing at all after the welcome.
    pub(crate) mute: bool,
    /// Milliseconds a token lives.
    pub(crate) token_life_ms: i64,
    pub(crate) reauthenticated: Vec<String>,
    pub(crate) pings: usize,
    pub(crate) histories: usize,
    streams_alive: Vec<mpsc::Sender<Result<ExchangeResponse, Status>>>,
}

#[derive(Clone, Default)]
pub(crate) struct Server {
    state: Arc<Mutex<State>>,
    appended: Arc<Notify>,
}

impl Server {
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Appends as somebody else.
    pub(crate) fn append(&self, text: &str) {
        let mut state = self.state();
        let id = format!("other-{}", state.log.len());
        state.log.push((id, text.to_owned()));
        drop(state);
        self.appended.notify_waiters();
    }

    /// Ends every stream with a reason.
    pub(crate) async fn close(&self, closed: StreamClosed) {
        let streams = std::mem::take(&mut self.state().streams_alive);
        for stream in streams {
            let _ = stream.send(Ok(response(0, Body::Closed(closed.clone())))).await;
        }
    }

    /// Sends an event on every stream.
    pub(crate) async fn tell(&self, body: Body) {
        let streams = self.state().streams_alive.clone();
        for stream in streams {
            let _ = stream.send(Ok(response(0, body.clone()))).await;
        }
    }

    /// Starts serving; returns how to connect.
    pub(crate) fn start(&self) -> Arc<dyn Connector> {
        let (sockets, incoming) = mpsc::channel::<io::Result<DuplexStream>>(16);
        let service = SessionServiceServer::new(self.clone());
        let serving = tonic::transport::Server::builder()
            .add_service(service)
            .serve_with_incoming(ReceiverStream::new(incoming));
        tokio::spawn(serving);
        Arc::new(Sockets(sockets))
    }
}

struct Sockets(mpsc::Sender<io::Result<DuplexStream>>);

#[async_trait]
impl Connector for Sockets {
    async fn connect(&self, _authority: &str) -> io::Result<BoxedIo> {
        let (near, far) = tokio::io::duplex(64 * 1024);
        self.0.send(Ok(far)).await.map_err(io::Error::other)?;
        Ok(Box::new(near))
    }
}

fn response(request_id: u64, body: Body) -> ExchangeResponse {
    ExchangeResponse {
        frame: Some(ServerFrame {
            request_id,
            body: Some(body),
        }),
    }
}

pub(crate) fn refusal(reason: RefusalReason) -> Refusal {
    Refusal {
        reason: reason.into(),
        effect: Effect::NotDone.into(),
        message: "as the test wants it".to_owned(),
        ..Refusal::default()
    }
}

fn status(code: tonic::Code, reason: RefusalReason) -> Status {
    let refusal = refusal(reason);
    Status::with_details(code, "no", stonechat_proto::status_details(code, &refusal))
}

/// One stream.
struct Stream {
    server: Server,
    out: mpsc::Sender<Result<ExchangeResponse, Status>>,
    /// Newest seq sent on this stream.
    sent: u64,
}

#[async_trait]
impl SessionService for Server {
    type ExchangeStream = ReceiverStream<Result<ExchangeResponse, Status>>;
    type ListenStream = ReceiverStream<Result<ListenResponse, Status>>;

    async fn exchange(
        &self,
        request: Request<Streaming<ExchangeRequest>>,
    ) -> Result<Response<Self::ExchangeStream>, Status> {
        self.state().streams += 1;
        if self.state().unavailable {
            return Err(status(tonic::Code::Unavailable, RefusalReason::Unavailable));
        }
        let mut inbound = request.into_inner();
        let first = inbound.message().await?.and_then(|message| message.frame);
        let Some(Ask::Hello(hello)) = first.and_then(|frame| frame.body) else {
            return Err(Status::invalid_argument("no hello"));
        };
        if self.state().bad_token.as_ref() == Some(&hello.token) {
            return Err(status(tonic::Code::Unauthenticated, RefusalReason::Unauthenticated));
        }
        let (out, answers) = mpsc::channel(64);
        let mut stream = Stream {
            server: self.clone(),
            out: out.clone(),
            sent: 0,
        };
        self.state().streams_alive.push(out);
        tokio::spawn(async move {
            stream.welcome(hello).await;
            stream.run(inbound).await;
        });
        Ok(Response::new(ReceiverStream::new(answers)))
    }

    async fn listen(&self, _request: Request<ListenRequest>) -> Result<Response<Self::ListenStream>, Status> {
        Err(Status::unimplemented("not here"))
    }

    async fn submit(&self, _request: Request<SubmitRequest>) -> Result<Response<SubmitResponse>, Status> {
        Err(Status::unimplemented("not here"))
    }
}

impl Stream {
    async fn send(&self, request_id: u64, body: Body) {
        let _ = self.out.send(Ok(response(request_id, body))).await;
    }

    async fn welcome(&mut self, hello: Hello) {
        let welcome = {
            let mut state = self.server.state();
            for position in &hello.positions {
                state.acked = position.seq;
            }
            if hello.forget_device_positions {
                state.acked = 0;
            }
            self.sent = state.acked;
            state.hellos.push(hello);
            Welcome {
                session_id: "s".to_owned(),
                continuous: true,
                server_time_ms: 1_000,
                token_expires_ms: if state.token_life_ms > 0 {
                    1_000 + state.token_life_ms
                } else {
                    0
                },
                cursor: vec![1].into(),
                ..Welcome::default()
            }
        };
        self.send(1, Body::Welcome(welcome)).await;
    }

    async fn run(&mut self, mut inbound: Streaming<ExchangeRequest>) {
        self.deliver().await;
        self.send(0, Body::CaughtUp(CaughtUp::default())).await;
        loop {
            let server = self.server.clone();
            let appended = server.appended.notified();
            self.deliver().await;
            tokio::select! {
                biased;
                message = inbound.message() => match message {
                    Ok(Some(ExchangeRequest { frame: Some(frame) })) => {
                        if !self.on_frame(frame).await {
                            break;
                        }
                    }
                    _ => break,
                },
                () = appended => {}
            }
        }
        // Breaks the stream without a closing frame.
        let own = self.out.clone();
        self.server
            .state()
            .streams_alive
            .retain(|stream| !stream.same_channel(&own));
        let _ = self.out.send(Err(Status::unavailable("broken by the test"))).await;
    }

    async fn deliver(&mut self) {
        loop {
            let next = self.sent + 1;
            let entry = {
                let mut state = self.server.state();
                if state.mute {
                    return;
                }
                let Some((id, text)) = state.log.get(self.sent as usize).cloned() else {
                    return;
                };
                self.sent = next;
                if let Some(at) = state.skip.iter().position(|seq| *seq == next) {
                    state.skip.remove(at);
                    continue;
                }
                entry(next, id, text)
            };
            let entry = Some(entry);
            self.send(0, Body::Delivery(Delivery { entry, backlog: false })).await;
        }
    }

    async fn on_frame(&mut self, frame: ClientFrame) -> bool {
        if self.server.state().mute {
            return true;
        }
        match frame.body {
            Some(Ask::Send(request)) => return self.on_send(frame.request_id, request).await,
            Some(Ask::Ack(ack)) => {
                assert!(ack.seq <= self.sent, "acknowledged {} of {}", ack.seq, self.sent);
                let mut state = self.server.state();
                state.acked = state.acked.max(ack.seq);
            }
            Some(Ask::Ping(_)) => {
                self.server.state().pings += 1;
                let head_seq = self.server.state().log.len() as u64;
                let heads = vec![ConversationHead {
                    conversation_id: CONVERSATION.to_owned(),
                    head_seq,
                }];
                let pong = Pong {
                    heads,
                    ..Pong::default()
                };
                self.send(frame.request_id, Body::Pong(pong)).await;
            }
            Some(Ask::Reauthenticate(new)) => {
                self.server.state().reauthenticated.push(new.token);
                self.send(frame.request_id, Body::Done(Done {})).await;
            }
            Some(Ask::History(request)) => self.on_history(frame.request_id, &request).await,
            Some(Ask::Bye(_)) => {
                let closed = StreamClosed {
                    reason: CloseReason::Bye.into(),
                    ..StreamClosed::default()
                };
                self.send(0, Body::Closed(closed)).await;
                return false;
            }
            _ => self.send(frame.request_id, Body::Done(Done {})).await,
        }
        true
    }

    async fn on_send(&mut self, request_id: u64, request: SendRequest) -> bool {
        let header = request.header.unwrap_or_default();
        let mood = self.server.state().moods.pop_front().unwrap_or(Mood::Well);
        let outcome = match mood {
            Mood::Break => return false,
            Mood::Busy => send_response::Outcome::Refusal(refusal(RefusalReason::RateLimited)),
            Mood::Forbid => send_response::Outcome::Refusal(refusal(RefusalReason::Forbidden)),
            Mood::Well | Mood::StoreAndBreak => self.store(&header, request.content),
        };
        self.server.appended.notify_waiters();
        if mood == Mood::StoreAndBreak {
            return false;
        }
        let outcome = Some(outcome);
        self.send(request_id, Body::Send(SendResponse { outcome })).await;
        true
    }

    fn store(&mut self, header: &AppendHeader, content: Option<MessageContent>) -> send_response::Outcome {
        let mut state = self.server.state();
        let own: Vec<&String> = state
            .log
            .iter()
            .map(|(id, _)| id)
            .filter(|id| !id.starts_with("other-"))
            .collect();
        let newest = own.last().map(|id| (*id).clone()).unwrap_or_default();
        let stored = state.log.iter().position(|(id, _)| *id == header.client_msg_id);
        let duplicate = stored.is_some();
        let wrong = !header.previous_client_msg_id.is_empty() && header.previous_client_msg_id != newest;
        if !duplicate && wrong {
            let refusal = Refusal {
                last_client_msg_id: newest,
                ..refusal(RefusalReason::OutOfOrder)
            };
            return send_response::Outcome::Refusal(refusal);
        }
        let at = stored.unwrap_or_else(|| {
            let text = match content.and_then(|content| content.content) {
                Some(message_content::Content::Text(text)) => text,
                _ => String::new(),
            };
            state.log.push((header.client_msg_id.clone(), text));
            state.log.len() - 1
        });
        send_response::Outcome::Appended(Appended {
            conversation_id: CONVERSATION.to_owned(),
            client_msg_id: header.client_msg_id.clone(),
            seq: at as u64 + 1,
            duplicate,
            ..Appended::default()
        })
    }

    async fn on_history(&mut self, request_id: u64, request: &GetHistoryRequest) {
        let page = {
            let mut state = self.server.state();
            state.histories += 1;
            let Some(get_history_request::Anchor::AfterSeq(after)) = request.anchor else {
                return;
            };
            let rows = state
                .log
                .iter()
                .enumerate()
                .map(|(at, row)| (at as u64 + 1, row.clone()));
            let wanted = rows.filter(|(seq, _)| *seq > after && *seq <= request.until_seq);
            HistoryPage {
                conversation_id: CONVERSATION.to_owned(),
                entries: wanted.map(|(seq, (id, text))| entry(seq, id, text)).collect(),
                head_seq: state.log.len() as u64,
                ..HistoryPage::default()
            }
        };
        let outcome = Some(get_history_response::Outcome::Page(page));
        self.send(request_id, Body::History(GetHistoryResponse { outcome }))
            .await;
    }
}

fn entry(seq: u64, client_msg_id: String, text: String) -> Entry {
    let content = MessageContent {
        content: Some(message_content::Content::Text(text)),
        ..MessageContent::default()
    };
    Entry {
        conversation_id: CONVERSATION.to_owned(),
        seq,
        client_msg_id,
        body: Some(v1::entry::Body::Message(content)),
        ..Entry::default()
    }
}
