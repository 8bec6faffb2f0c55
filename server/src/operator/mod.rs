//! The operator's port: metrics, health, reflection, and the admin rpcs when they were moved here. Nothing of it is on the
//! public port, but health.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::{StatusCode, header};
use tonic::service::Routes;
use tonic_reflection::server::Builder;

use crate::gateway::edge::Edge;
use crate::gateway::{Gateway, gated};
use crate::telemetry::meters;

/// Connections at a time: a few scrapers and probes, and the integrators' backends.
pub const OPERATOR_CONNECTIONS_MAX: usize = 256;
/// Calls of operators that are worked on at a time. Their seats are their own: when the public port is busy they get through, and
/// they never take so many that it notices.
pub const OPERATOR_REQUESTS_AT_ONCE_MAX: usize = 64;
/// What Prometheus calls its text format.
const TEXT_FORMAT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Everything behind the operator's port; `rpcs` are there beside reflection, with the limits of an edge that is theirs alone.
///
/// # Errors
/// The description of the rpcs cannot be read.
pub fn router(gateway: &Arc<Gateway>, rpcs: Routes, edge: &Arc<Edge>) -> Result<Router, String> {
    let described = || Builder::configure().register_encoded_file_descriptor_set(stonechat_proto::FILE_DESCRIPTOR_SET);
    // Both versions: most tools still ask by the older name.
    let newer = described().build_v1().map_err(|error| error.to_string())?;
    let older = described().build_v1alpha().map_err(|error| error.to_string())?;
    let rpcs = rpcs.add_service(newer).add_service(older);
    let rpcs = gated(rpcs.prepare().into_axum_router(), edge, gateway);
    let pages = get(not_found).fallback_service(rpcs.clone());
    let pages = Router::new()
        .route("/metrics", get(metrics))
        .route("/health/live", get(live))
        .route("/health/ready", get(ready).with_state(Arc::clone(gateway)))
        .route("/{*path}", pages)
        .fallback_service(rpcs);
    Ok(gateway.dated(pages))
}

async fn metrics() -> Response {
    ([(header::CONTENT_TYPE, TEXT_FORMAT)], meters::render()).into_response()
}

/// The process answers: restarting it would not help.
async fn live() -> &'static str {
    "ok\n"
}

/// New clients may be sent here.
async fn ready(State(gateway): State<Arc<Gateway>>) -> Response {
    match gateway.unready() {
        Some(why) => (StatusCode::SERVICE_UNAVAILABLE, why).into_response(),
        None => "ok\n".into_response(),
    }
}

async fn not_found() -> Response {
    (StatusCode::NOT_FOUND, "not found\n").into_response()
}
