//! Tests of access, statuses and the guard.

use std::collections::BTreeSet;

use bytes::{BufMut, Bytes, BytesMut};
use http::{Request, Response};
use prost::Message;
use prost_types::FileDescriptorSet;
use stonechat_host::Host;
use stonechat_proto::{refusal_of_status, v1};
use tonic::body::Body;
use tonic::{Code, Status};
use tower::ServiceExt;

use super::access::{Requires, SCOPE_CONVERSATIONS, SCOPE_MESSAGES, SCOPE_TOKENS, SCOPE_USERS, check, requirement};
use super::context::{correlation_of, device_of};
use super::status::{fault_of, of_tonic};
use super::*;
use crate::auth::{AuthOptions, Principal, Secret};
use crate::domain::{CorrelationId, DeviceId, Reason, Refusal, UnixMillis, UserId};
use crate::storage::memory::directory::MemoryDirectory;
use crate::wire::refusal;

#[path = "tests/life.rs"]
mod life;
#[path = "tests/rates.rs"]
mod rates;

const SCOPES: [&str; 4] = [SCOPE_USERS, SCOPE_TOKENS, SCOPE_CONVERSATIONS, SCOPE_MESSAGES];

/// Every rpc of the contract: its path and its package.
fn rpcs() -> Vec<(String, String)> {
    let set = FileDescriptorSet::decode(stonechat_proto::FILE_DESCRIPTOR_SET).unwrap();
    let mut rpcs = Vec::new();
    for file in &set.file {
        for service in &file.service {
            for method in &service.method {
                let path = format!("/{}.{}/{}", file.package(), service.name(), method.name());
                rpcs.push((path, file.package().to_owned()));
            }
        }
    }
    rpcs
}

fn principal(scopes: &[&str]) -> Principal {
    Principal {
        user: UserId::parse("ann").unwrap(),
        device: None,
        scopes: scopes.iter().map(|scope| (*scope).to_owned()).collect::<BTreeSet<_>>(),
        issued: UnixMillis(0),
        expires: UnixMillis(i64::MAX),
    }
}

#[test]
fn f14_every_rpc_has_a_row_and_every_row_an_rpc() {
    let rpcs = rpcs();
    assert!(rpcs.len() > 40, "the descriptor set was not read");
    for (path, _) in &rpcs {
        assert!(requirement(path).is_some(), "{path} has no row");
    }
    let paths: BTreeSet<String> = rpcs.into_iter().map(|(path, _)| path).collect();
    for path in access::paths() {
        assert!(paths.contains(&path), "{path} is not in the contract");
    }
}

#[test]
fn i11_no_user_reaches_admin_and_no_service_acts_as_a_user() {
    for (path, package) in rpcs() {
        let requires = requirement(&path).unwrap();
        let is_admin = package == "stonechat.admin.v1";
        assert_eq!(check(requires, &principal(&[])).is_err(), is_admin, "{path} by a user");
        let passing = SCOPES
            .iter()
            .filter(|scope| check(requires, &principal(&[scope])).is_ok());
        assert_eq!(passing.count(), usize::from(is_admin), "{path} by scopes");
        let by_all = check(requires, &principal(&SCOPES));
        assert_eq!(by_all.is_ok(), is_admin, "{path} by a service with every scope");
        assert!(
            check(requires, &principal(&["admin"])).is_err(),
            "{path} by an unknown scope"
        );
    }
}

#[test]
fn i11_what_is_not_in_the_table_is_refused() {
    for path in [
        "",
        "/",
        "/stonechat.v1.MessageService/Sent",
        "/stonechat.v1.MessageService/",
        "stonechat.v1.MessageService/Send",
    ] {
        assert_eq!(requirement(path), None, "{path}");
    }
    assert_eq!(requirement("/stonechat.v1.MessageService/Send"), Some(Requires::User));
}

fn fault(reason: Reason) -> Option<Code> {
    fault_of(&refusal::to_proto(&Refusal::not_done(reason, "why"))).map(|status| status.code())
}

#[test]
fn faults_are_statuses_and_expected_outcomes_are_answers() {
    assert_eq!(
        fault(Reason::Invalid { field: "send".into() }),
        Some(Code::InvalidArgument)
    );
    assert_eq!(fault(Reason::Unauthenticated), Some(Code::Unauthenticated));
    assert_eq!(
        fault(Reason::RateLimited { retry_after_ms: 1 }),
        Some(Code::ResourceExhausted)
    );
    assert_eq!(
        fault(Reason::Unavailable { retry_after_ms: 1 }),
        Some(Code::Unavailable)
    );
    assert_eq!(fault(Reason::Internal), Some(Code::Internal));
    let expected = [
        Reason::Forbidden,
        Reason::NotFound,
        Reason::ClientMsgIdReused {
            stored: Default::default(),
        },
        Reason::OutOfOrder { last: None },
        Reason::BeyondHead {
            head: Default::default(),
        },
        Reason::CursorExpired {
            first_available: Default::default(),
            head: Default::default(),
        },
        Reason::ResyncRequired,
        Reason::LimitReached,
        Reason::AlreadyExists,
        Reason::Protocol,
        Reason::Blocked,
    ];
    for reason in expected {
        assert_eq!(fault(reason.clone()), None);
        // I8: whoever cannot say "not done" must make the client ask again.
        let unknown = refusal::to_proto(&Refusal::unknown(reason, "why"));
        assert_eq!(fault_of(&unknown).map(|status| status.code()), Some(Code::Unavailable));
    }
}

#[test]
fn a_status_carries_the_whole_refusal() {
    let refused = Refusal::not_done(Reason::RateLimited { retry_after_ms: 250 }, "slow down");
    let carried = refusal_of_status(&status_of(&refused)).unwrap();
    assert_eq!(refusal::from_proto(carried), refused);
    let lacking = status_of(&Refusal::forbidden("no scope"));
    assert_eq!(lacking.code(), Code::PermissionDenied);
    assert!(refusal_of_status(&lacking).is_some());
}

#[test]
fn statuses_that_tonic_makes_get_a_code_of_ours() {
    for status in [Status::out_of_range("x"), Status::internal("x")] {
        let typed = of_tonic(&status).unwrap();
        assert_eq!(typed.code(), Code::InvalidArgument);
        assert_eq!(refusal_of_status(&typed).unwrap().effect(), v1::Effect::NotDone);
    }
    let ours = status_of(&Refusal::not_done(Reason::Internal, "fault"));
    assert!(of_tonic(&ours).is_none());
    assert!(of_tonic(&Status::unimplemented("x")).is_none());
}

fn headers(name: &'static str, value: &str) -> http::HeaderMap {
    let mut headers = http::HeaderMap::new();
    headers.insert(name, value.parse().unwrap());
    headers
}

#[test]
fn a_bound_token_speaks_for_its_device_alone() {
    let phone = DeviceId::parse("phone").unwrap();
    let bound = Principal {
        device: Some(phone.clone()),
        ..principal(&[])
    };
    let none = http::HeaderMap::new();
    assert_eq!(device_of(&none, &bound).unwrap(), Some(phone.clone()));
    assert_eq!(
        device_of(&headers(DEVICE_METADATA, "phone"), &bound).unwrap(),
        Some(phone.clone())
    );
    let other = device_of(&headers(DEVICE_METADATA, "tablet"), &bound).unwrap_err();
    assert_eq!(other.reason, Reason::Forbidden);
    assert_eq!(
        device_of(&headers(DEVICE_METADATA, "phone"), &principal(&[])).unwrap(),
        Some(phone)
    );
    assert_eq!(device_of(&none, &principal(&[])).unwrap(), None);
    let malformed = device_of(&headers(DEVICE_METADATA, "a b"), &principal(&[])).unwrap_err();
    assert!(matches!(malformed.reason, Reason::Invalid { .. }));
}

#[test]
fn a_correlation_id_is_taken_when_well_formed_and_made_otherwise() {
    let host = Host::system();
    let chosen = correlation_of(
        &headers(CORRELATION_METADATA, "00112233445566778899aabbccddeeff"),
        &host,
    );
    assert_eq!(chosen.to_string(), "00112233445566778899aabbccddeeff");
    for malformed in [
        "",
        "0011",
        "00112233-4455-6677-8899-aabbccddeeff",
        "zz112233445566778899aabbccddeeff",
    ] {
        let made = correlation_of(&headers(CORRELATION_METADATA, malformed), &host);
        assert_ne!(made, CorrelationId::default());
    }
}

/// A service whose handlers must not be reached.
#[derive(Clone)]
struct Unreached;

#[tonic::async_trait]
impl v1::device_service_server::DeviceService for Unreached {
    async fn list_devices(
        &self,
        _: tonic::Request<v1::ListDevicesRequest>,
    ) -> Result<tonic::Response<v1::ListDevicesResponse>, Status> {
        panic!("the handler was reached")
    }

    async fn remove_device(
        &self,
        _: tonic::Request<v1::RemoveDeviceRequest>,
    ) -> Result<tonic::Response<v1::RemoveDeviceResponse>, Status> {
        panic!("the handler was reached")
    }
}

type Server = v1::device_service_server::DeviceServiceServer<Unreached>;

fn server() -> Server {
    Server::new(Unreached).max_decoding_message_size(FRAME_BYTES_MAX)
}

/// A gRPC request whose one message has this length prefix and these bytes.
fn request(path: &str, prefix: usize, message: &[u8]) -> Request<Body> {
    let mut bytes = BytesMut::new();
    bytes.put_u8(0);
    bytes.put_u32(u32::try_from(prefix).unwrap());
    bytes.put_slice(message);
    let body = Body::new(axum::body::Body::from(Bytes::from(bytes)));
    Request::post(format!("http://localhost{path}"))
        .header("content-type", "application/grpc")
        .body(body)
        .unwrap()
}

fn status(response: &Response<Body>) -> Status {
    Status::from_header_map(response.headers()).expect("no status in the head of the answer")
}

const LIST: &str = "/stonechat.v1.DeviceService/ListDevices";
const REMOVE: &str = "/stonechat.v1.DeviceService/RemoveDevice";

#[tokio::test]
async fn undecodable_and_oversize_requests_are_invalid_and_not_done() {
    let oversize = request(REMOVE, FRAME_BYTES_MAX + 1, &[]);
    let undecodable = request(REMOVE, 2, &[0x0a, 0x05]);
    let not_utf8 = request(REMOVE, 3, &[0x0a, 0x01, 0xff]);
    for broken in [oversize, undecodable, not_utf8] {
        let answer = guard::typed(server().oneshot(broken).await.unwrap());
        let status = status(&answer);
        assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
        let refusal = refusal_of_status(&status).unwrap();
        assert_eq!(
            (refusal.reason(), refusal.effect()),
            (v1::RefusalReason::Invalid, v1::Effect::NotDone)
        );
    }
}

/// Tokens signed with a secret of the test's own.
fn authenticator(directory: Arc<MemoryDirectory>) -> Arc<Authenticator> {
    let options = AuthOptions {
        issuer: "stonechat".to_owned(),
        audience: "stonechat".to_owned(),
        require_known_users: false,
    };
    let secret = Secret::from_bytes([5; 32]);
    Arc::new(Authenticator::with_secret(secret, options, directory, Host::system()))
}

#[tokio::test]
async fn i11_nobody_passes_the_guard_without_a_token() {
    let authenticator = authenticator(Arc::new(MemoryDirectory::new()));
    let guarded = Guard::new(authenticator, unlimited(), Host::system()).wrap(server());
    for authorization in [None, Some("Bearer"), Some("Basic YTpi"), Some("Bearer forged")] {
        let mut call = request(LIST, 0, &[]);
        if let Some(value) = authorization {
            call.headers_mut().insert("authorization", value.parse().unwrap());
        }
        let answer = guarded.clone().oneshot(call).await.unwrap();
        let status = status(&answer);
        assert_eq!(status.code(), Code::Unauthenticated);
        assert_eq!(refusal_of_status(&status).unwrap().effect(), v1::Effect::NotDone);
        let correlation = answer.headers()[CORRELATION_METADATA].to_str().unwrap();
        assert!(correlation.parse::<CorrelationId>().is_ok());
    }
    let unknown = request("/stonechat.v1.DeviceService/Steal", 0, &[]);
    let answer = guarded.oneshot(unknown).await.unwrap();
    assert_eq!(status(&answer).code(), Code::Unimplemented);
}

#[test]
fn i11_a_handler_without_a_guard_before_it_lets_nobody_pass() {
    let refused = public::admitted(tonic::Request::new(())).unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated);
}

/// Rates that nobody exceeds in a test.
fn unlimited() -> Arc<dyn super::UserRates> {
    let config = crate::config::Config {
        user_requests_per_second: 0,
        ..Default::default()
    };
    crate::gateway::edge::Edge::new(&config, Host::system())
}
