//! The gate that every call passes before anything is asked about its caller: its rate, its token by itself, its size, its
//! place in the queue, its deadline.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use tokio::time::Instant;
use tonic::Status;

use super::Edge;
use super::body::{Incomplete, LastByteLast, collect};
use super::connection::Connection;
use super::deadline::timeout;
use super::refusals::{Reason, refused};
use super::stream_task::StreamTask;
use crate::api::{Proof, RATE_LIMIT_METADATA, Standing, correlate, correlation_of, status_of, status_of_deadline};
use crate::auth::Authenticator;
use crate::domain::{Reason as Why, Refusal};
use crate::gateway::limits::{
    HELLO_WITHIN, METADATA_ENTRIES_MAX, REQUEST_BYTES_MAX, REQUEST_WITHIN, RESPONSE_WITHIN, UNARY_WITHIN,
};
use crate::room::Share;

/// What kind of call a path is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// One answer to one request.
    Unary,
    /// The same, and let in also when the node has more to do than it can: whether it lives is no question of load.
    Health,
    /// Lives as long as its session, which has deadlines of its own; or it is one of operators, whose connections are few.
    Stream,
}

impl Kind {
    fn of(path: &str) -> Self {
        match path {
            "/stonechat.v1.SessionService/Exchange"
            | "/stonechat.v1.SessionService/Listen"
            | "/grpc.health.v1.Health/Watch"
            | "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"
            | "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo" => Self::Stream,
            "/grpc.health.v1.Health/Check" => Self::Health,
            _ => Self::Unary,
        }
    }
}

/// What the gate stands on.
#[derive(Clone)]
pub(in crate::gateway) struct Gate {
    /// The limits of the port.
    pub(in crate::gateway) edge: Arc<Edge>,
    /// Tells who has a token that proves something.
    pub(in crate::gateway) authenticator: Arc<Authenticator>,
}

/// Lets a call through, or answers it; every answer says how its caller stands.
pub(in crate::gateway) async fn gate(State(gate): State<Gate>, mut request: Request, next: Next) -> Response {
    let standing = request.extensions().get::<Standing>().copied();
    let correlation = correlation_of(request.headers(), &gate.edge.host);
    request.extensions_mut().insert(correlation);
    let answer = match check(&request, standing) {
        Ok(()) => call(&gate, request, next).await,
        Err(status) => Err(status),
    };
    let mut response = answer.unwrap_or_else(|status| {
        let mut response = status.into_http();
        correlate(response.headers_mut(), correlation);
        response
    });
    // The user's standing, when it was told, is the one that matters to them.
    if let Some(standing) = standing
        && !response.headers().contains_key(RATE_LIMIT_METADATA)
    {
        standing.tell(response.headers_mut());
    }
    response
}

fn check(request: &Request, standing: Option<Standing>) -> Result<(), Status> {
    if let Some(standing) = standing {
        standing.check("address").map_err(|refusal| status_of(&refusal))?;
    }
    if request.headers().len() <= METADATA_ENTRIES_MAX {
        return Ok(());
    }
    refused(Reason::Metadata);
    let message = format!("a request has at most {METADATA_ENTRIES_MAX} entries of metadata; not done");
    Err(status_of(&Refusal::invalid("", message)))
}

async fn call(gate: &Gate, mut request: Request, next: Next) -> Result<Response, Status> {
    let now = stonechat_host::monotonic();
    let kind = Kind::of(request.uri().path());
    let response = match kind {
        // Its head comes at once, or with the hello that is the request.
        Kind::Stream => within(now + HELLO_WITHIN, request, next).await?,
        // The guard refuses it at once: without a good token there is no work, and nothing to take in or to wait for.
        Kind::Unary if !proves(gate, &mut request, now + REQUEST_WITHIN).await? => {
            within(now + REQUEST_WITHIN, request, next).await?
        }
        Kind::Unary | Kind::Health => {
            let response = unary(&gate.edge, kind, now, request, next).await?;
            StreamTask::current().end_within(RESPONSE_WITHIN);
            response
        }
    };
    Ok(response.map(|body| Body::new(LastByteLast::new(body))))
}

/// Whether a request shows a token that proves something; the guard finds what.
async fn proves(gate: &Gate, request: &mut Request, deadline: Instant) -> Result<bool, Status> {
    let proof = tokio::time::timeout_at(deadline, Proof::of(request.headers(), &gate.authenticator)).await;
    let proof = proof.map_err(|_| late("the token was not checked in time; not done"))?;
    let is_good = proof.as_ref().is_some_and(Proof::is_good);
    if let Some(connection) = request.extensions().get::<Arc<Connection>>().filter(|_| is_good) {
        connection.prove();
    }
    if let Some(proof) = proof {
        request.extensions_mut().insert(proof);
    }
    Ok(is_good)
}

async fn unary(edge: &Edge, kind: Kind, now: Instant, request: Request, next: Next) -> Result<Response, Status> {
    let asked = timeout(request.headers()).unwrap_or(UNARY_WITHIN);
    let deadline = now + asked.min(UNARY_WITHIN);
    let mut share = match kind {
        Kind::Unary => edge.room.share(),
        _ => edge.open_room.share(),
    };
    // Whole before it takes a seat: a seat is for work, not for a client that is slow, or says nothing.
    let request = whole(edge, &mut share, deadline.min(now + REQUEST_WITHIN), request).await?;
    let _seat = match kind {
        Kind::Unary => Some(edge.admit(deadline).await.map_err(|refusal| status_of(&refusal))?),
        _ => None,
    };
    drop(share);
    within(deadline, request, next).await
}

/// The request with all of its body.
async fn whole(edge: &Edge, share: &mut Share, deadline: Instant, request: Request) -> Result<Request, Status> {
    let (head, body) = request.into_parts();
    let body = tokio::time::timeout_at(deadline, collect(body, REQUEST_BYTES_MAX, share)).await;
    match body {
        Ok(Ok(body)) => Ok(Request::from_parts(head, Body::from(body))),
        Ok(Err(Incomplete::TooLarge)) => {
            let message = "the request is larger than any rpc takes; not done";
            Err(status_of(&Refusal::invalid("", message)))
        }
        Ok(Err(Incomplete::NoRoom)) => {
            refused(Reason::RequestBytes);
            let message = "the node takes in as many requests as it can; not done";
            Err(status_of(&edge.too_much(message)))
        }
        Ok(Err(Incomplete::Broken)) => Err(status_of(&Refusal::invalid("", "the request broke off; not done"))),
        Err(_) => Err(late("the request did not come in time; not done")),
    }
}

/// Nothing was done, because something did not come in time.
fn late(message: &'static str) -> Status {
    refused(Reason::Deadline);
    let why = Why::Unavailable { retry_after_ms: 0 };
    status_of_deadline(&Refusal::not_done(why, message))
}

/// The answer, or the status that says that it took too long: what was asked may have been done.
async fn within(deadline: Instant, request: Request, next: Next) -> Result<Response, Status> {
    let answer = tokio::time::timeout_at(deadline, next.run(request)).await;
    answer.map_err(|_| {
        refused(Reason::Deadline);
        let why = Why::Unavailable { retry_after_ms: 0 };
        let message = "not answered within the deadline; whether it was done is not known";
        status_of_deadline(&Refusal::unknown(why, message))
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::convert::Infallible;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::Duration;

    use axum::Router;
    use axum::middleware::from_fn_with_state;
    use bytes::Bytes;
    use futures_util::{StreamExt, stream};
    use http::header::AUTHORIZATION;
    use stonechat_host::Host;
    use stonechat_proto::{refusal_of_status, v1};
    use tonic::Code;
    use tower::ServiceExt;

    use super::*;
    use crate::api::{CORRELATION_METADATA, RATE_REMAINING_METADATA};
    use crate::auth::{AuthOptions, Secret};
    use crate::config::Config;
    use crate::domain::UserId;
    use crate::gateway::limits::{OPEN_REQUESTS_BYTES_MAX, REQUEST_BYTES_FREE, REQUESTS_BYTES_MAX};
    use crate::storage::memory::directory::MemoryDirectory;

    const CALL: &str = "/a.B/C";
    const HEALTH: &str = "/grpc.health.v1.Health/Check";

    /// A gate, and a token that it knows.
    fn gate_and_token() -> (Gate, String) {
        let options = AuthOptions {
            issuer: "test".into(),
            audience: "test".into(),
            require_known_users: false,
        };
        let (secret, directory) = (Secret::from_bytes([7; 32]), Arc::new(MemoryDirectory::new()));
        let authenticator = Authenticator::with_secret(secret, options, directory, Host::system());
        let (ann, hour) = (UserId::parse("ann").expect("a user"), Duration::from_hours(1));
        let issued = authenticator.issue(&ann, None, &BTreeSet::new(), hour);
        let gate = Gate {
            edge: Edge::new(&Config::default(), Host::system()),
            authenticator: Arc::new(authenticator),
        };
        (gate, issued.expect("a token").token.expose().clone())
    }

    /// What the gate answers in front of a handler that never does, and the seconds it took.
    async fn answer(path: &str, headers: &[(&str, &str)], standing: Option<Standing>) -> (Response, u64) {
        let (of, token) = gate_and_token();
        let app = Router::new()
            .fallback(std::future::pending::<&'static str>)
            .layer(from_fn_with_state(of, gate));
        let mut request = Request::post(path).header(AUTHORIZATION, format!("Bearer {token}"));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut request = request.body(Body::from("request")).expect("a request");
        if let Some(standing) = standing {
            request.extensions_mut().insert(standing);
        }
        let started = stonechat_host::monotonic();
        let response = app.oneshot(request).await.expect("an answer");
        (response, started.elapsed().as_secs())
    }

    /// What comes through a gate to a handler that answers at once.
    async fn through(of: &Gate, path: &str, authorization: &str, body: Body) -> Response {
        let app = Router::new()
            .fallback(|| async { "done" })
            .layer(from_fn_with_state(of.clone(), gate));
        let request = Request::post(path).header(AUTHORIZATION, authorization);
        app.oneshot(request.body(body).expect("a request"))
            .await
            .expect("an answer")
    }

    fn refusal(response: &Response) -> (Code, v1::Refusal) {
        let status = Status::from_header_map(response.headers()).expect("a status");
        (status.code(), refusal_of_status(&status).expect("typed"))
    }

    /// I8: a handler that hangs is given up at the deadline, the caller's or the server's, and nobody claims to know
    /// whether it was done.
    #[tokio::test(start_paused = true)]
    async fn i8_a_call_that_hangs_ends_with_an_unknown_outcome() {
        let ours = UNARY_WITHIN.as_secs();
        for (timeout, seconds) in [("2S", 2), ("90000m", ours), ("nonsense", ours)] {
            let (response, took) = answer("/a.B/C", &[("grpc-timeout", timeout)], None).await;
            let (code, refusal) = refusal(&response);
            assert_eq!((code, took), (Code::DeadlineExceeded, seconds), "{timeout}");
            assert_eq!(refusal.effect(), v1::Effect::Unknown);
        }
        let (response, took) = answer("/stonechat.v1.SessionService/Listen", &[], None).await;
        assert_eq!(
            (refusal(&response).0, took),
            (Code::DeadlineExceeded, HELLO_WITHIN.as_secs())
        );
    }

    /// I8: what the gate refuses carries details, the caller's correlation id, and how the caller stands.
    #[tokio::test(start_paused = true)]
    async fn i8_what_is_refused_says_everything() {
        let id = "0123456789abcdef0123456789abcdef";
        let over = Standing {
            limit: 10,
            remaining: 0,
            reset: std::time::Duration::from_secs(10),
            retry_after: Some(std::time::Duration::from_secs(1)),
        };
        let (response, took) = answer("/a.B/C", &[(CORRELATION_METADATA, id)], Some(over)).await;
        let (code, refusal) = refusal(&response);
        assert_eq!((code, took), (Code::ResourceExhausted, 0));
        assert_eq!(refusal.effect(), v1::Effect::NotDone);
        assert!(refusal.retry_after_ms >= 1_000);
        assert_eq!(response.headers()[CORRELATION_METADATA], id);
        assert_eq!(response.headers()[RATE_REMAINING_METADATA], "0");
    }

    /// I9, I8: requests have so much room in all. Who finds none hears when to come back, small ones need none, and who
    /// needs no token takes none from the others.
    #[tokio::test(start_paused = true)]
    async fn i9_a_request_without_room_is_told_when_to_come_back() {
        let (of, token) = gate_and_token();
        let bearer = format!("Bearer {token}");
        let ask = |path, bytes| through(&of, path, &bearer, Body::from(vec![0_u8; bytes]));
        let beyond = REQUEST_BYTES_FREE + 1;
        for (path, other, room, bytes) in [
            (CALL, HEALTH, &of.edge.room, REQUESTS_BYTES_MAX),
            (HEALTH, CALL, &of.edge.open_room, OPEN_REQUESTS_BYTES_MAX),
        ] {
            let others = room.take(bytes).expect("all of it");
            let (code, refusal) = refusal(&ask(path, beyond).await);
            assert_eq!((code, refusal.effect()), (Code::ResourceExhausted, v1::Effect::NotDone));
            assert!(refusal.retry_after_ms > 0);
            for (path, bytes) in [(path, REQUEST_BYTES_FREE), (other, beyond)] {
                assert!(
                    Status::from_header_map(ask(path, bytes).await.headers()).is_none(),
                    "{path}"
                );
            }
            drop(others);
            assert!(
                Status::from_header_map(ask(path, beyond).await.headers()).is_none(),
                "{path}"
            );
            assert!(room.take(bytes).is_some(), "all came back");
        }
    }

    /// I9: what a stranger sends is not taken in, and they are not waited for.
    #[tokio::test(start_paused = true)]
    async fn i9_the_request_of_a_stranger_is_not_taken_in() {
        let (of, token) = gate_and_token();
        let good = format!("Bearer {token}");
        let forged = format!("{}A", &good[..good.len() - 1]);
        let forged = if forged == good { format!("{forged}A") } else { forged };
        for (authorization, takes) in [("x", false), ("Bearer x", false), (&*forged, false), (&*good, true)] {
            let taken = Arc::new(AtomicBool::new(false));
            let seen = Arc::clone(&taken);
            let first = stream::once(async move {
                seen.store(true, Ordering::Relaxed);
                Ok::<_, Infallible>(Bytes::from_static(b"request"))
            });
            let endless = Body::from_stream(first.chain(stream::pending()));
            let started = stonechat_host::monotonic();
            let response = through(&of, CALL, authorization, endless).await;
            let took = if takes { REQUEST_WITHIN.as_secs() } else { 0 };
            assert_eq!(
                (taken.load(Ordering::Relaxed), started.elapsed().as_secs()),
                (takes, took),
                "{authorization}: {response:?}"
            );
        }
    }
}
