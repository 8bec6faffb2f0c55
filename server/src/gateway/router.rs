//! What one port serves: a page, health, and every rpc as gRPC or gRPC-Web.

use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{any, get};
use http::{HeaderName, HeaderValue, Method, StatusCode, header};
use stonechat_host::{Clock, Host};
use tonic::Status;
use tonic::service::Routes;
use tonic_web::GrpcWebLayer;
use tower_http::cors::CorsLayer;

use super::Gateway;
use super::edge::{Edge, Gate, Reason, gate, refused};
use crate::api::{
    CORRELATION_METADATA, DEVICE_METADATA, RATE_LIMIT_METADATA, RATE_REMAINING_METADATA, RATE_RESET_METADATA, passing,
};

/// How long a browser may remember what it may do: an hour.
const CORS_MAX_AGE: Duration = Duration::from_secs(3_600);

/// Endless, and free of a token: for operators alone.
const HEALTH_WATCH: &str = "/grpc.health.v1.Health/Watch";

/// What browsers are told.
#[derive(Debug, Clone, Default)]
pub struct Web {
    /// Origins of pages that may call, such as `https://chat.example.org`.
    pub origins: Vec<String>,
}

/// Everything behind the port.
///
/// # Errors
/// An origin is not one.
pub fn router(gateway: &Arc<Gateway>, rpcs: Routes, web: &Web) -> Result<Router, String> {
    let origins = web.origins.iter().map(|origin| parse_origin(origin));
    let origins: Arc<[HeaderValue]> = origins.collect::<Result<Vec<_>, _>>()?.into();
    let rpcs = rpcs.prepare().into_axum_router();
    let rpcs = gated(rpcs, &gateway.on.edge, gateway)
        .layer(GrpcWebLayer::new())
        .layer(from_fn_with_state(Arc::clone(&origins), refuse_foreign))
        .layer(cors(&origins));
    // A plain 404 for pages that are not there: tonic would answer in gRPC.
    let pages = get(not_found).fallback_service(rpcs.clone());
    let pages = Router::new()
        .route("/", get(page))
        .route("/health", get(health).with_state(Arc::clone(gateway)))
        .route(HEALTH_WATCH, any(no_watch))
        .route("/{*path}", pages)
        .fallback_service(rpcs);
    Ok(dated(pages, &gateway.on.host))
}

/// Puts the gate of calls before rpcs, with the limits of this edge.
pub fn gated(rpcs: Router, edge: &Arc<Edge>, gateway: &Gateway) -> Router {
    let gate_of = Gate {
        edge: Arc::clone(edge),
        authenticator: Arc::clone(&gateway.on.authenticator),
    };
    rpcs.layer(from_fn_with_state(gate_of, gate))
}

/// Puts the date on every answer.
pub(super) fn dated(pages: Router, host: &Host) -> Router {
    pages.layer(from_fn_with_state(Arc::clone(&host.clock), add_date))
}

/// Says when it was answered, by the node's clock (RFC 9110, 6.6.1).
async fn add_date(State(clock): State<Arc<dyn Clock>>, request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let since = Duration::from_millis(u64::try_from(clock.unix_ms()).unwrap_or(0));
    let date = httpdate::fmt_http_date(UNIX_EPOCH + since);
    if let Ok(date) = HeaderValue::try_from(date) {
        response.headers_mut().insert(header::DATE, passing(date));
    }
    response
}

fn parse_origin(origin: &str) -> Result<HeaderValue, String> {
    let uri = origin
        .parse::<http::Uri>()
        .map_err(|error| format!("origin {origin:?}: {error}"))?;
    // A browser sends scheme, host and port alone; anything else would never match.
    let bare = matches!(uri.scheme_str(), Some("http" | "https")) && !origin.ends_with('/') && uri.path() == "/";
    if !bare || uri.query().is_some() {
        return Err(format!(
            "origin {origin:?} must be like https://chat.example.org or http://localhost:8080"
        ));
    }
    HeaderValue::from_str(origin).map_err(|error| format!("origin {origin:?}: {error}"))
}

fn cors(origins: &[HeaderValue]) -> CorsLayer {
    CorsLayer::new()
        .allow_origin(origins.to_vec())
        .allow_methods([Method::POST])
        .allow_headers([
            header::AUTHORIZATION,
            header::CONTENT_TYPE,
            HeaderName::from_static("x-grpc-web"),
            HeaderName::from_static("x-user-agent"),
            HeaderName::from_static("grpc-timeout"),
            HeaderName::from_static(CORRELATION_METADATA),
            HeaderName::from_static(DEVICE_METADATA),
        ])
        .expose_headers([
            HeaderName::from_static("grpc-status"),
            HeaderName::from_static("grpc-message"),
            HeaderName::from_static("grpc-status-details-bin"),
            HeaderName::from_static(CORRELATION_METADATA),
            HeaderName::from_static(RATE_LIMIT_METADATA),
            HeaderName::from_static(RATE_REMAINING_METADATA),
            HeaderName::from_static(RATE_RESET_METADATA),
        ])
        .max_age(CORS_MAX_AGE)
}

/// CORS only keeps a foreign page from reading the answer; this keeps it from asking. A content type that a form can
/// have is refused for the same reason: a browser asks nobody before it sends one.
async fn refuse_foreign(State(origins): State<Arc<[HeaderValue]>>, request: Request, next: Next) -> Response {
    let origin = request.headers().get(header::ORIGIN);
    if origin.is_some_and(|origin| !origins.contains(origin)) {
        refused(Reason::Origin);
        return (StatusCode::FORBIDDEN, "this origin may not call\n").into_response();
    }
    if !is_rpc(request.headers().get(header::CONTENT_TYPE), origin.is_some()) {
        refused(Reason::ContentType);
        return (StatusCode::UNSUPPORTED_MEDIA_TYPE, "this is not gRPC\n").into_response();
    }
    next.run(request).await
}

/// Whether a content type is one of gRPC; pages speak gRPC-Web alone.
fn is_rpc(content_type: Option<&HeaderValue>, page: bool) -> bool {
    let text = content_type.and_then(|value| value.to_str().ok()).unwrap_or_default();
    let kind = text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let Some(variant) = kind.strip_prefix("application/grpc") else {
        return false;
    };
    match variant
        .strip_prefix("-web")
        .map(|rest| rest.strip_prefix("-text").unwrap_or(rest))
    {
        Some(rest) => rest.is_empty() || rest.starts_with('+'),
        None => !page && (variant.is_empty() || variant.starts_with('+')),
    }
}

async fn not_found() -> Response {
    (StatusCode::NOT_FOUND, "not found\n").into_response()
}

/// What clients that watch take for "not offered": they go on without (gRPC health checking protocol).
async fn no_watch() -> Response {
    Status::unimplemented("health is watched on the operator's port; ask here with Check").into_http()
}

async fn health(State(gateway): State<Arc<Gateway>>) -> Response {
    match gateway.unready() {
        Some(why) => (StatusCode::SERVICE_UNAVAILABLE, why).into_response(),
        None => "ok\n".into_response(),
    }
}

async fn page() -> Html<&'static str> {
    Html(concat!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<title>Stonechat</title>\n",
        "<h1>Stonechat ",
        env!("CARGO_PKG_VERSION"),
        "</h1>\n<p>A chat backend. This port speaks gRPC (HTTP/2 without TLS) and gRPC-Web.</p>\n",
        "<p>Two people, two terminals (<code>stonechat demo</code> makes users and prints such lines with tokens):</p>\n",
        "<pre>stonechat chat --help\nstonechat tail --help</pre>\n",
        "<p>The contract is in <code>proto/stonechat/v1/</code>; a session is <code>stonechat.v1.SessionService/Exchange</code>, ",
        "from browsers <code>Listen</code> and <code>Submit</code>. <a href=\"/health\">Health</a>.</p>\n</html>\n"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rpcs_are_told_by_their_content_type() {
        let of = |text| is_rpc(Some(&HeaderValue::from_static(text)), false);
        let of_page = |text| is_rpc(Some(&HeaderValue::from_static(text)), true);
        for grpc in [
            "application/grpc",
            "application/grpc+proto",
            "Application/GRPC; charset=utf-8",
        ] {
            assert!(of(grpc) && !of_page(grpc), "{grpc}");
        }
        for web in [
            "application/grpc-web",
            "application/grpc-web+proto",
            "application/grpc-web-text+proto",
        ] {
            assert!(of(web) && of_page(web), "{web}");
        }
        for other in [
            "",
            "text/plain",
            "application/json",
            "application/grpcx",
            "application/grpc-webx",
            "application/grpc-",
        ] {
            assert!(!of(other) && !of_page(other), "{other}");
        }
        assert!(!is_rpc(None, false));
    }
}
