//! The gate that every call passes before it is authenticated: its size, its rate, its place in the queue, its deadline.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use tokio::time::Instant;
use tonic::Status;

use super::Edge;
use super::body::{Incomplete, LastByteLast, collect};
use super::deadline::timeout;
use super::ending::StreamEnd;
use super::refusals::{Reason, refused};
use crate::api::{RATE_LIMIT_METADATA, Standing, status_of, status_of_deadline};
use crate::domain::{Reason as Why, Refusal};
use crate::gateway::limits::{HELLO_WITHIN, METADATA_ENTRIES_MAX, REQUEST_BYTES_MAX, RESPONSE_WITHIN, UNARY_WITHIN};

/// What kind of call a path is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// One answer to one request.
    Unary,
    /// The same, and let in also when the node has more to do than it can: whether it lives is no question of load.
    Health,
    /// Lives as long as its session, which has deadlines of its own.
    Stream,
}

impl Kind {
    fn of(path: &str) -> Self {
        match path {
            "/stonechat.v1.SessionService/Exchange"
            | "/stonechat.v1.SessionService/Listen"
            | "/grpc.health.v1.Health/Watch" => Self::Stream,
            "/grpc.health.v1.Health/Check" => Self::Health,
            _ => Self::Unary,
        }
    }
}

/// Lets a call through, or answers it; every answer says how its caller stands.
pub(in crate::gateway) async fn gate(State(edge): State<Arc<Edge>>, request: Request, next: Next) -> Response {
    let standing = request.extensions().get::<Standing>().copied();
    let answer = match check(&request, standing) {
        Ok(()) => call(&edge, request, next).await,
        Err(status) => Err(status),
    };
    let mut response = answer.unwrap_or_else(|status| status.into_http());
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
        kind => {
            let asked = timeout(request.headers()).unwrap_or(UNARY_WITHIN);
            let deadline = now + asked.min(UNARY_WITHIN);
            // Whole before it takes a seat: a seat is for work, not for a client that is slow, or says nothing.
            let request = whole(deadline, request).await?;
            let _seat = match kind {
                Kind::Unary => Some(edge.admit(deadline).await.map_err(|refusal| status_of(&refusal))?),
                _ => None,
            };
            let response = within(deadline, request, next).await?;
            StreamEnd::current().end_within(RESPONSE_WITHIN);
            response
        }
    };
    Ok(response.map(|body| Body::new(LastByteLast::new(body))))
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
            let message = "the request did not come within the deadline; not done";
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
