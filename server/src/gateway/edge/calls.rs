//! The gate that every call passes before it is authenticated: its size, its rate, its place in the queue, its deadline.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use http::header::AUTHORIZATION;
use tokio::time::Instant;
use tonic::Status;

use super::Edge;
use super::body::{Incomplete, LastByteLast, collect};
use super::deadline::timeout;
use super::refusals::{Reason, refused};
use super::stream_task::StreamTask;
use crate::api::{RATE_LIMIT_METADATA, Standing, correlate, correlation_of, status_of, status_of_deadline};
use crate::domain::{Reason as Why, Refusal};
use crate::gateway::limits::{
    HELLO_WITHIN, METADATA_ENTRIES_MAX, REQUEST_BYTES_MAX, REQUEST_WITHIN, RESPONSE_WITHIN, UNARY_WITHIN,
};

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

/// Lets a call through, or answers it; every answer says how its caller stands.
pub(in crate::gateway) async fn gate(State(edge): State<Arc<Edge>>, mut request: Request, next: Next) -> Response {
    let standing = request.extensions().get::<Standing>().copied();
    let correlation = correlation_of(request.headers(), &edge.host);
    request.extensions_mut().insert(correlation);
    let answer = match check(&request, standing) {
        Ok(()) => call(&edge, request, next).await,
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

async fn call(edge: &Edge, request: Request, next: Next) -> Result<Response, Status> {
    let now = stonechat_host::monotonic();
    let response = match Kind::of(request.uri().path()) {
        // Its head comes at once, or with the hello that is the request.
        Kind::Stream => within(now + HELLO_WITHIN, request, next).await?,
        // Refused at once: without a token there is no work, and nothing to wait for.
        Kind::Unary if !request.headers().contains_key(AUTHORIZATION) => {
            within(now + REQUEST_WITHIN, request, next).await?
        }
        kind => {
            let response = unary(edge, kind, now, request, next).await?;
            StreamTask::current().end_within(RESPONSE_WITHIN);
            response
        }
    };
    Ok(response.map(|body| Body::new(LastByteLast::new(body))))
}

async fn unary(edge: &Edge, kind: Kind, now: Instant, request: Request, next: Next) -> Result<Response, Status> {
    let asked = timeout(request.headers()).unwrap_or(UNARY_WITHIN);
    let deadline = now + asked.min(UNARY_WITHIN);
    // Whole before it takes a seat: a seat is for work, not for a client that is slow, or says nothing.
    let request = whole(deadline.min(now + REQUEST_WITHIN), request).await?;
    let _seat = match kind {
        Kind::Unary => Some(edge.admit(deadline).await.map_err(|refusal| status_of(&refusal))?),
        _ => None,
    };
    within(deadline, request, next).await
}

/// The request with all of its body.
async fn whole(deadline: Instant, request: Request) -> Result<Request, Status> {
    let (head, body) = request.into_parts();
    let body = tokio::time::timeout_at(deadline, collect(body, REQUEST_BYTES_MAX)).await;
    match body {
        Ok(Ok(body)) => Ok(Request::from_parts(head, Body::from(body))),
        Ok(Err(Incomplete::TooLarge)) => {
            let message = "the request is larger than any rpc takes; not done";
            Err(status_of(&Refusal::invalid("", message)))
        }
        Ok(Err(Incomplete::Broken)) => Err(status_of(&Refusal::invalid("", "the request broke off; not done"))),
        Err(_) => {
            refused(Reason::Deadline);
            let why = Why::Unavailable { retry_after_ms: 0 };
            let message = "the request did not come in time; not done";
            Err(status_of_deadline(&Refusal::not_done(why, message)))
        }
    }
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
    use axum::Router;
    use axum::middleware::from_fn_with_state;
    use stonechat_host::Host;
    use stonechat_proto::{refusal_of_status, v1};
    use tonic::Code;
    use tower::ServiceExt;

    use super::*;
    use crate::api::{CORRELATION_METADATA, RATE_REMAINING_METADATA};
    use crate::config::Config;

    /// What the gate answers in front of a handler that never does, and the seconds it took.
    async fn answer(path: &str, headers: &[(&str, &str)], standing: Option<Standing>) -> (Response, u64) {
        let edge = Edge::new(&Config::default(), Host::system());
        let app = Router::new()
            .fallback(std::future::pending::<&'static str>)
            .layer(from_fn_with_state(edge, gate));
        let mut request = Request::post(path).header(AUTHORIZATION, "Bearer x");
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
}
