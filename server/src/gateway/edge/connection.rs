//! What the requests of one connection share, and what becomes of it.

use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Weak};

use axum::Router;
use axum::body::Body;
use axum::response::{IntoResponse, Response};
use futures_util::future::{Either, Ready, ready};
use http::{Extensions, HeaderMap, HeaderValue, Method, Request, StatusCode, Version, header};
use hyper::body::Incoming;
use tokio::time::Instant;
use tower::ServiceExt;
use tower::util::Oneshot;

use super::Edge;
use super::addresses::{Place, Source};
use super::refusals::{Reason, refused};
use super::stream_task::StreamTask;
use super::traffic::Traffic;
use super::unproven::Unproven;
use crate::api::Standing;
use crate::gateway::limits::{CONNECTION_GRACE, REFUSALS_MAX};

/// A connection that was let in.
pub(in crate::gateway) struct Connection {
    edge: Arc<Edge>,
    source: Source,
    ends: Option<Instant>,
    /// Refused requests above those that passed.
    refused: AtomicU32,
    /// Requests over HTTP/2 that came here since `take_reached`.
    reached: AtomicU32,
    traffic: Traffic,
    /// Somebody on it showed a good token.
    proven: AtomicBool,
    _place: Place,
}

/// What is to become of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::gateway) enum Fate {
    /// Go on.
    Stay,
    /// Take no new requests, finish those under way.
    Leave,
    /// End now.
    End,
}

impl Connection {
    pub(super) fn new(edge: Arc<Edge>, source: Source, ends: Option<Instant>, place: Place) -> Self {
        Self {
            edge,
            source,
            ends,
            refused: AtomicU32::new(0),
            reached: AtomicU32::new(0),
            traffic: Traffic::new(stonechat_host::monotonic()),
            proven: AtomicBool::new(false),
            _place: place,
        }
    }

    /// What was sent by nobody known so far.
    pub(super) fn unproven(&self) -> Unproven {
        Unproven::new(&self.edge.unproven_room)
    }

    /// Somebody on it showed a good token.
    pub(super) fn prove(&self) {
        self.proven.store(true, Ordering::Relaxed);
    }

    /// Whether somebody did.
    pub(super) fn is_proven(&self) -> bool {
        self.proven.load(Ordering::Relaxed)
    }

    /// What it carries.
    pub(super) fn traffic(&self) -> &Traffic {
        &self.traffic
    }

    /// How many requests over HTTP/2 came here since this was last asked.
    pub(super) fn take_reached(&self) -> u32 {
        // Asked at each reading, while a stream makes no new requests: then a look is enough.
        match self.reached.load(Ordering::Relaxed) {
            0 => 0,
            _ => self.reached.swap(0, Ordering::Relaxed),
        }
    }

    /// What is to become of it. Somebody looks whenever it wakes up, which keep-alives make it do, so it needs no timer but for
    /// its first request.
    pub(in crate::gateway) fn fate(&self, now: Instant) -> Fate {
        if self.refused.load(Ordering::Relaxed) >= REFUSALS_MAX {
            refused(Reason::Persistent);
            return Fate::End;
        }
        match self.ends {
            Some(ends) if now >= ends + CONNECTION_GRACE => Fate::End,
            Some(ends) if now >= ends => Fate::Leave,
            _ => self.traffic.fate(now),
        }
    }

    /// Counts a request of its address.
    fn count(&self) -> Option<Standing> {
        let standing = self.edge.addresses.request(self.source, stonechat_host::monotonic())?;
        let before = self.refused.load(Ordering::Relaxed);
        if standing.retry_after.is_some() {
            refused(Reason::AddressRate);
            self.refused.store(before.saturating_add(1), Ordering::Relaxed);
        } else if before > 0 {
            self.refused.store(before - 1, Ordering::Relaxed);
        }
        Some(standing)
    }
}

/// What a session knows of the connection and the stream that it lives on.
#[derive(Clone, Default)]
pub(in crate::gateway) struct Line {
    /// When its connection is to end.
    pub(in crate::gateway) ends: Option<Instant>,
    /// The task of its stream.
    pub(in crate::gateway) stream: StreamTask,
    connection: Weak<Connection>,
}

impl Line {
    /// That of the request with these extensions, inside the task of its stream.
    pub(in crate::gateway) fn of(extensions: &Extensions) -> Self {
        let connection = extensions.get::<Arc<Connection>>();
        Self {
            ends: connection.and_then(|connection| connection.ends),
            stream: StreamTask::current(),
            connection: connection.map(Arc::downgrade).unwrap_or_default(),
        }
    }

    /// Somebody on it showed a good token.
    pub(in crate::gateway) fn prove(&self) {
        if let Some(connection) = self.connection.upgrade() {
            connection.prove();
        }
    }
}

/// The requests of a connection, on their way to the router.
pub(in crate::gateway) struct Requests {
    pub(in crate::gateway) app: Router,
    pub(in crate::gateway) connection: Arc<Connection>,
}

impl hyper::service::Service<Request<Incoming>> for Requests {
    type Response = Response;
    type Error = Infallible;
    type Future = Either<Ready<Result<Response, Infallible>>, Oneshot<Router, Request<Incoming>>>;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        // Over HTTP/1 this task is the stream's, and the request before may have set its end.
        StreamTask::current().go_on();
        if request.version() < Version::HTTP_2 {
            self.connection.traffic.is_http1();
        } else {
            self.connection.reached.fetch_add(1, Ordering::Relaxed);
        }
        hide_secrets(request.headers_mut());
        if let Some(standing) = self.connection.count() {
            if standing.retry_after.is_some() && !is_rpc(&request) {
                return Either::Left(ready(Ok(too_many(standing))));
            }
            request.extensions_mut().insert(standing);
        }
        request.extensions_mut().insert(Arc::clone(&self.connection));
        Either::Right(self.app.clone().oneshot(request))
    }
}

/// Whoever prints headers must not print these.
fn hide_secrets(headers: &mut HeaderMap) {
    for name in [header::AUTHORIZATION, header::COOKIE] {
        if let header::Entry::Occupied(mut values) = headers.entry(name) {
            values.iter_mut().for_each(|value| value.set_sensitive(true));
        }
    }
}

/// Rpcs are refused in gRPC, by the gate. Pages have none before them, and may be asked for with any content type.
fn is_rpc<B>(request: &Request<B>) -> bool {
    let kind = request.headers().get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
    request.method() == Method::POST && kind.is_some_and(|kind| kind.starts_with(b"application/grpc"))
}

fn too_many(standing: Standing) -> Response {
    let mut response = (StatusCode::TOO_MANY_REQUESTS, "this address asks too often\n").into_response();
    standing.tell(response.headers_mut());
    let wait = standing.retry_after.unwrap_or_default().as_secs() + 1;
    response
        .headers_mut()
        .insert(header::RETRY_AFTER, HeaderValue::from(wait));
    response.map(Body::new)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use stonechat_host::Host;

    use super::*;
    use crate::config::Config;

    /// One with a stream open.
    fn connection(config: &Config) -> Arc<Connection> {
        let edge = Edge::new(config, Host::system());
        let connection = edge.enter(([192, 0, 2, 1], 1).into()).expect("a connection");
        connection.traffic.begin();
        connection
    }

    #[test]
    fn secrets_are_not_printed() {
        let mut headers = HeaderMap::new();
        headers.append(header::AUTHORIZATION, HeaderValue::from_static("Bearer canary-one"));
        headers.append(header::AUTHORIZATION, HeaderValue::from_static("Bearer canary-two"));
        headers.append(header::COOKIE, HeaderValue::from_static("canary"));
        hide_secrets(&mut headers);
        assert_eq!(headers.len(), 3);
        assert!(!format!("{headers:?}").contains("canary"), "{headers:?}");
    }

    #[test]
    fn what_is_got_is_no_rpc() {
        let is = |method: Method, kind: &str| {
            let request = Request::builder().method(method).header(header::CONTENT_TYPE, kind);
            is_rpc(&request.body(()).expect("a request"))
        };
        assert!(is(Method::POST, "application/grpc") && is(Method::POST, "application/grpc-web+proto"));
        for method in [Method::GET, Method::HEAD, Method::OPTIONS] {
            assert!(!is(method, "application/grpc"));
        }
        assert!(!is(Method::POST, "text/plain"));
    }

    #[tokio::test(start_paused = true)]
    async fn an_old_connection_leaves_then_ends() {
        let config = Config {
            connection_age: Duration::from_secs(100),
            ..Config::default()
        };
        let connection = connection(&config);
        let ends = connection.ends.expect("an end");
        let moment = Duration::from_millis(1);
        assert_eq!(connection.fate(ends - moment), Fate::Stay);
        assert_eq!(connection.fate(ends), Fate::Leave);
        assert_eq!(connection.fate(ends + CONNECTION_GRACE), Fate::End);
    }

    /// I9: who is refused and goes on asking loses the connection; who asks a little too fast does not.
    #[tokio::test(start_paused = true)]
    async fn who_goes_on_asking_is_cut_off() {
        let config = Config {
            address_requests_per_second: 10,
            ..Config::default()
        };
        let connection = connection(&config);
        let now = || stonechat_host::monotonic();
        // A tenth above the rate, for a long time.
        for _ in 0..20 * REFUSALS_MAX {
            tokio::time::advance(Duration::from_millis(90)).await;
            connection.count();
        }
        assert_eq!(connection.fate(now()), Fate::Stay);
        for _ in 0..REFUSALS_MAX + 100 {
            connection.count();
        }
        assert_eq!(connection.fate(now()), Fate::End);
    }
}
