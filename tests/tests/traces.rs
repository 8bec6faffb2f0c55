//! Traces: what a collector is sent about one message, by the server's own binary.

use std::collections::BTreeSet;
use std::sync::Arc;

use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{TraceService, TraceServiceServer};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use stonechat_host::{Host, Listener, TcpListener};
use stonechat_server::config::Config;
use stonechat_server::gateway::edge::Edge;
use stonechat_server::gateway::{Serving, serve};
use stonechat_tests::harness::{Bench, PATIENCE};
use tokio::sync::watch;
use tonic::service::Routes;
use tonic::{Request, Response, Status};

/// Spans by trace, and by name.
type Spans = BTreeSet<(Vec<u8>, String)>;

/// Keeps what it is sent.
struct Collector(watch::Sender<Spans>);

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let of_scopes = request
            .into_inner()
            .resource_spans
            .into_iter()
            .flat_map(|spans| spans.scope_spans);
        let spans = of_scopes.flat_map(|spans| spans.spans);
        self.0
            .send_modify(|seen| seen.extend(spans.map(|span| (span.trace_id, span.name))));
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

/// A collector, what it is sent, and its address.
async fn collector() -> (Serving, watch::Receiver<Spans>, String) {
    let (seen, spans) = watch::channel(Spans::new());
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let routes = Routes::new(TraceServiceServer::new(Collector(seen)));
    let edge = Edge::new(&Config::default(), Host::system());
    let serving = serve(Arc::new(listener), routes.prepare().into_axum_router(), edge, 8);
    (serving, spans, format!("http://{address}"))
}

fn bytes(hex: &str) -> Vec<u8> {
    let byte = |at| u8::from_str_radix(&hex[at..at + 2], 16).expect("hex digits");
    (0..hex.len()).step_by(2).map(byte).collect()
}

/// The correlation id that sender and recipient see is the trace's id, from the request to the recipient's stream.
#[tokio::test]
async fn one_id_joins_the_way_of_a_message() {
    let (_serving, mut spans, endpoint) = collector().await;
    let mut bench = Bench::start(&["--otlp-endpoint", &endpoint, "--otlp-one-in", "1"]).await;
    let room = bench.direct("alice", "bob").await;
    let mut alice = bench.open("alice", "phone").await;
    let mut bob = bench.open("bob", "phone").await;
    let seq = bench.send(&mut alice, &room, "hello").await;
    bob.until("the message", PATIENCE, |seen| seen.newest(&room) >= seq)
        .await;
    let entries = bench.entries(&room).await;
    let correlation = entries
        .iter()
        .find(|entry| entry.seq == seq)
        .expect("the entry")
        .correlation_id
        .clone();
    let trace = bytes(&correlation);
    let wanted = ["request", "append", "publish", "deliver"];
    let is_whole = |spans: &Spans| {
        wanted
            .iter()
            .all(|name| spans.contains(&(trace.clone(), (*name).to_owned())))
    };
    let whole = tokio::time::timeout(PATIENCE, spans.wait_for(is_whole)).await.is_ok();
    assert!(whole, "trace {correlation} is not whole: {:?}", spans.borrow());
    // The last spans are handed over when the process ends in order.
    let before = spans.borrow_and_update().len();
    bench.send(&mut alice, &room, "bye").await;
    bench.server.signal("TERM").await;
    bench.server.wait().await;
    assert!(spans.borrow().len() > before);
    let log = std::fs::read_to_string(bench.server.log_file()).expect("the log");
    assert!(!log.contains("stage"), "spans of traces stay out of the log: {log}");
}
