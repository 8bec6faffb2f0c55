//! A chat's life through the operations and the admin services, over stores in memory.

use stonechat_proto::admin::v1 as admin_v1;

use super::*;
use crate::api::admin::Administration;
use crate::bus::embedded::EmbeddedBus;
use crate::bus::{Bus, Event, Topic};
use crate::conversation::{Backends, Limits};
use crate::domain::limits::DEVICES_MAX;
use crate::presence::Presence;
use crate::storage::Directory;
use crate::storage::memory::MemoryStore;
use crate::wire::Answer;

struct World {
    operations: Operations,
    routes: Routes,
    authenticator: Arc<Authenticator>,
    admin: Administration,
    directory: Arc<MemoryDirectory>,
    bus: Arc<EmbeddedBus>,
}

fn world() -> World {
    let host = Host::system();
    let store = Arc::new(MemoryStore::new(&host));
    let directory = Arc::new(MemoryDirectory::new());
    let bus = Arc::new(EmbeddedBus::new());
    let backends = Backends {
        log: store.clone(),
        markers: store,
        directory: directory.clone(),
        bus: bus.clone(),
    };
    let conversations = Conversations::new(backends, host.clone(), Limits::default());
    let people = People::new(conversations.clone(), host.clone());
    let presence = Presence::new(bus.clone(), directory.clone(), host, "g1".to_owned());
    let authenticator = authenticator(directory.clone());
    let operations = Operations::new(conversations.clone(), people.clone(), presence);
    let guard = Guard::new(authenticator.clone(), super::unlimited(), Host::system());
    let routes = add_services(Routes::default(), &guard, operations.clone());
    let (rules, of_people) = (conversations.clone(), people.clone());
    let routes = add_admin_services(routes, &guard, rules, of_people, authenticator.clone());
    World {
        operations,
        routes,
        admin: Administration::new(conversations, people, authenticator.clone()),
        authenticator,
        directory,
        bus,
    }
}

fn by(user: &str, device: Option<&str>) -> CallContext {
    CallContext {
        principal: Principal {
            user: UserId::parse(user).unwrap(),
            ..principal(&[])
        },
        device: device.map(|device| DeviceId::parse(device).unwrap()),
        correlation: CorrelationId([7; 16]),
    }
}

fn service() -> CallContext {
    CallContext {
        principal: principal(&SCOPES),
        device: None,
        correlation: CorrelationId([9; 16]),
    }
}

fn reason<A: Answer>(answer: &A) -> v1::RefusalReason {
    answer.refusal().map(v1::Refusal::reason).expect("it was not refused")
}

fn header(conversation_id: &str, client_msg_id: &str) -> Option<v1::AppendHeader> {
    Some(v1::AppendHeader {
        conversation_id: conversation_id.to_owned(),
        client_msg_id: client_msg_id.to_owned(),
        ..Default::default()
    })
}

fn text(plain: &str) -> Option<v1::MessageContent> {
    Some(v1::MessageContent {
        content: Some(v1::message_content::Content::Text(plain.to_owned())),
        ..Default::default()
    })
}

fn member(user_id: &str) -> v1::Member {
    v1::Member {
        user_id: user_id.to_owned(),
        role: 0,
    }
}

impl World {
    async fn users(&self, ids: &[&str]) {
        for id in ids {
            let request = admin_v1::UpsertUserRequest {
                user_id: (*id).to_owned(),
                display_name: id.to_uppercase(),
            };
            let answer = self.admin.upsert_user(&service(), request).await;
            assert!(answer.refusal().is_none(), "{answer:?}");
        }
    }

    /// A group of ann (owner), bob and cem.
    async fn group(&self) -> String {
        self.users(&["ann", "bob", "cem"]).await;
        let request = admin_v1::CreateConversationRequest {
            client_msg_id: "g1".to_owned(),
            owner_user_id: "ann".to_owned(),
            kind: v1::ConversationKind::Group.into(),
            name: "Garden".to_owned(),
            members: vec![member("bob"), member("cem")],
        };
        let answer = self.admin.create_conversation(&service(), request).await;
        match answer.outcome {
            Some(admin_v1::create_conversation_response::Outcome::Conversation(made)) => made.conversation_id,
            other => panic!("no group: {other:?}"),
        }
    }

    async fn send(&self, context: &CallContext, group: &str, id: &str, plain: &str) -> v1::SendResponse {
        let request = v1::SendRequest {
            header: header(group, id),
            content: text(plain),
        };
        self.operations.send(context, request).await
    }
}

fn appended(answer: v1::SendResponse) -> v1::Appended {
    match answer.outcome {
        Some(v1::send_response::Outcome::Appended(appended)) => appended,
        other => panic!("not sent: {other:?}"),
    }
}

#[tokio::test]
async fn i2_a_retry_answers_alike_and_devices_have_ids_of_their_own() {
    let world = world();
    let group = world.group().await;
    let phone = by("bob", Some("phone"));
    let first = appended(world.send(&phone, &group, "m1", "hi").await);
    assert_eq!((first.seq, first.duplicate), (2, false));
    assert_eq!(first.correlation_id, phone.correlation.to_string());
    let retried = appended(world.send(&phone, &group, "m1", "hi").await);
    assert_eq!((retried.seq, retried.duplicate), (2, true));
    let other = appended(world.send(&by("bob", Some("tablet")), &group, "m1", "hi").await);
    assert_eq!((other.seq, other.duplicate), (3, false));
    let reused = world.send(&phone, &group, "m1", "other").await;
    assert_eq!(reason(&reused), v1::RefusalReason::ClientMsgIdReused);
    assert_eq!(reused.refusal().unwrap().stored_seq, 2);
}

#[tokio::test]
async fn hidden_and_absent_conversations_answer_alike() {
    let world = world();
    let group = world.group().await;
    world.users(&["eve"]).await;
    let eve = by("eve", Some("phone"));
    let hidden = world.send(&eve, &group, "m1", "hi").await;
    let absent = world
        .send(&eve, "00112233-4455-4677-8899-aabbccddeeff", "m1", "hi")
        .await;
    assert_eq!(hidden, absent);
    assert_eq!(reason(&hidden), v1::RefusalReason::NotFound);
}

#[tokio::test]
async fn an_integrator_speaks_as_the_system_or_for_a_member_bound_by_their_rights() {
    let world = world();
    let group = world.group().await;
    world.users(&["eve"]).await;
    let send = |id: &str, on_behalf_of: &str| admin_v1::SendRequest {
        header: header(&group, id),
        on_behalf_of: on_behalf_of.to_owned(),
        content: text("hi"),
        origin_time_ms: 5,
    };
    let context = service();
    assert!(world.admin.send(&context, send("a1", "")).await.refusal().is_none());
    assert!(world.admin.send(&context, send("a1", "bob")).await.refusal().is_none());
    let outsider = world.admin.send(&context, send("a2", "eve")).await;
    assert_eq!(reason(&outsider), v1::RefusalReason::NotFound);
    let request = admin_v1::GetHistoryRequest {
        query: Some(v1::GetHistoryRequest {
            conversation_id: group.clone(),
            anchor: Some(v1::get_history_request::Anchor::AfterSeq(0)),
            ..Default::default()
        }),
    };
    let answer = world.admin.get_history(&context, request).await;
    let Some(admin_v1::get_history_response::Outcome::Page(page)) = answer.outcome else {
        panic!("no page: {answer:?}");
    };
    let senders: Vec<&str> = page.entries.iter().map(|entry| entry.sender_user_id.as_str()).collect();
    assert_eq!(senders, ["ann", "", "bob"]);
    assert!(page.entries[1..].iter().all(|entry| entry.origin_time_ms == 5));
    assert_eq!(page.entries[2].correlation_id, context.correlation.to_string());
}

#[tokio::test]
async fn the_rules_refuse_by_the_name_of_the_operation_and_field() {
    let world = world();
    let group = world.group().await;
    let request = v1::SetMembersRequest {
        header: header(&group, "m1"),
        members: vec![member("nobody")],
    };
    let refused = world.operations.set_members(&by("ann", None), request).await;
    assert_eq!(reason(&refused), v1::RefusalReason::NotFound);
    let request = v1::SetBlockRequest {
        user_id: "ann".to_owned(),
        blocked: true,
    };
    let refused = world.operations.set_block(&by("ann", None), request).await;
    assert_eq!(refused.refusal().unwrap().field, "set_block.user_id");
}

#[tokio::test]
async fn blocks_are_listed_sorted_and_may_be_repeated() {
    let world = world();
    world.users(&["ann", "bob", "cem"]).await;
    let ann = by("ann", None);
    let set = |user_id: &str, blocked| v1::SetBlockRequest {
        user_id: user_id.to_owned(),
        blocked,
    };
    for (user, blocked, left) in [
        ("cem", true, &["cem"][..]),
        ("bob", true, &["bob", "cem"]),
        ("bob", true, &["bob", "cem"]),
        ("cem", false, &["bob"]),
        ("cem", false, &["bob"]),
    ] {
        let answer = world.operations.set_block(&ann, set(user, blocked)).await;
        let Some(v1::set_block_response::Outcome::Blocks(blocks)) = answer.outcome else {
            panic!("not set: {answer:?}");
        };
        assert_eq!(blocks.user_ids, left);
    }
    let unknown = world.operations.set_block(&ann, set("nobody", true)).await;
    assert_eq!(reason(&unknown), v1::RefusalReason::NotFound);
}

/// I9: removals of invented devices are remembered up to a bound, and refused in a typed way above it.
#[tokio::test]
async fn removals_of_invented_devices_are_bounded() {
    let world = world();
    for number in 0..=DEVICES_MAX {
        let device_id = format!("invented-{number}");
        let request = v1::RemoveDeviceRequest { device_id };
        let answer = world.operations.remove_device(&by("ann", None), request).await;
        match answer.refusal() {
            None => assert!(number < DEVICES_MAX),
            Some(_) => assert_eq!(
                (number, reason(&answer)),
                (DEVICES_MAX, v1::RefusalReason::LimitReached)
            ),
        }
    }
}

#[tokio::test]
async fn a_removed_device_and_a_deactivated_user_lose_their_streams() {
    let world = world();
    world.users(&["ann"]).await;
    let (ann, phone) = (UserId::parse("ann").unwrap(), DeviceId::parse("phone").unwrap());
    world.directory.touch_device(&ann, &phone, UnixMillis(1)).await.unwrap();
    let mut events = world.bus.subscribe(Topic::User(ann)).await;
    let remove = |device_id: &str| v1::RemoveDeviceRequest {
        device_id: device_id.to_owned(),
    };
    // Twice: a try that stopped before it told the streams is repeated by the client.
    for _ in 0..2 {
        let answer = world.operations.remove_device(&by("ann", None), remove("phone")).await;
        assert!(answer.refusal().is_none(), "{answer:?}");
        let event = events.next().await.unwrap();
        assert!(matches!(event, Event::Revoked { device: Some(device), .. } if device == phone));
    }
    // A token may be bound to a device that never said hello, of a user who never did.
    let (new, tablet) = (UserId::parse("new").unwrap(), DeviceId::parse("tablet").unwrap());
    let answer = world.operations.remove_device(&by("new", None), remove("tablet")).await;
    assert!(answer.refusal().is_none(), "{answer:?}");
    assert!(
        world
            .directory
            .device_removed_at(&new, &tablet)
            .await
            .unwrap()
            .is_some()
    );
    let request = admin_v1::SetUserDeactivatedRequest {
        user_id: "ann".to_owned(),
        deactivated: true,
    };
    assert!(
        world
            .admin
            .set_user_deactivated(&service(), request)
            .await
            .refusal()
            .is_none()
    );
    assert!(matches!(
        events.next().await.unwrap(),
        Event::Revoked { device: None, .. }
    ));
    let request = admin_v1::IssueTokenRequest {
        user_id: "ann".to_owned(),
        ..Default::default()
    };
    let refused = world.admin.issue_token(&service(), request).await;
    assert_eq!(reason(&refused), v1::RefusalReason::Forbidden);
}

#[tokio::test]
async fn integrators_page_through_users_without_gap_or_repetition() {
    let world = world();
    world.users(&["u1", "u2", "u3", "u4", "u5"]).await;
    let (mut seen, mut after) = (Vec::new(), String::new());
    loop {
        let request = admin_v1::ListUsersRequest {
            after_user_id: after.clone(),
            limit: 2,
        };
        let answer = world.admin.list_users(&service(), request).await;
        let Some(admin_v1::list_users_response::Outcome::Page(page)) = answer.outcome else {
            panic!("no page: {answer:?}");
        };
        seen.extend(page.users.iter().map(|user| user.user_id.clone()));
        after = seen.last().cloned().unwrap_or_default();
        if !page.has_more {
            break;
        }
    }
    assert_eq!(seen, ["u1", "u2", "u3", "u4", "u5"]);
}

#[tokio::test]
async fn i11_a_services_token_does_nothing_as_a_user() {
    let world = world();
    let group = world.group().await;
    let (operations, context) = (&world.operations, service());
    let id = || group.clone();
    let sent = world.send(&context, &group, "m1", "hi").await;
    assert_eq!(reason(&sent), v1::RefusalReason::Forbidden);
    let query = v1::GetHistoryRequest {
        conversation_id: id(),
        anchor: Some(v1::get_history_request::Anchor::AfterSeq(0)),
        ..Default::default()
    };
    let read = operations.get_history(&context, query).await;
    assert_eq!(reason(&read), v1::RefusalReason::Forbidden);
    let listed = operations.list_conversations(&context, Default::default()).await;
    assert_eq!(reason(&listed), v1::RefusalReason::Forbidden);
    let mark = v1::MarkReadRequest {
        conversation_id: id(),
        seq: 1,
        private: false,
    };
    assert_eq!(
        reason(&operations.mark_read(&context, mark).await),
        v1::RefusalReason::Forbidden
    );
    let got = v1::GetConversationRequest { conversation_id: id() };
    assert_eq!(
        reason(&operations.get_conversation(&context, got).await),
        v1::RefusalReason::Forbidden
    );
    let status = operations.set_status(&context, Default::default()).await;
    assert_eq!(reason(&status), v1::RefusalReason::Forbidden);
    let profile = operations.update_profile(&context, Default::default()).await;
    assert_eq!(reason(&profile), v1::RefusalReason::Forbidden);
    let users = v1::GetUsersRequest {
        user_ids: vec!["ann".to_owned()],
    };
    assert_eq!(
        reason(&operations.get_users(&context, users).await),
        v1::RefusalReason::Forbidden
    );
    assert_eq!(
        reason(&operations.list_blocks(&context, Default::default()).await),
        v1::RefusalReason::Forbidden
    );
    assert_eq!(
        reason(&operations.list_devices(&context, Default::default()).await),
        v1::RefusalReason::Forbidden
    );
}

impl World {
    fn token(&self, user: &str, device: Option<&str>, scopes: &[&str]) -> String {
        let user = UserId::parse(user).unwrap();
        let device = device.map(|device| DeviceId::parse(device).unwrap());
        let scopes = scopes.iter().map(|scope| (*scope).to_owned()).collect();
        let ttl = std::time::Duration::from_secs(60);
        let issued = self.authenticator.issue(&user, device.as_ref(), &scopes, ttl).unwrap();
        issued.token.expose().clone()
    }

    /// Calls an rpc with an empty message through guard, routes and tonic; the status of the answer's head or, when
    /// there is none there, OK.
    async fn call(&self, path: &str, token: &str) -> Status {
        let mut call = request(path, 0, &[]);
        let bearer = format!("bearer {token}");
        call.headers_mut().insert("authorization", bearer.parse().unwrap());
        call.headers_mut()
            .insert(CORRELATION_METADATA, "0".repeat(32).parse().unwrap());
        let answer = self.routes.clone().oneshot(call).await.unwrap();
        assert_eq!(answer.headers()[CORRELATION_METADATA], "0".repeat(32).as_str());
        Status::from_header_map(answer.headers()).unwrap_or_else(|| Status::ok(""))
    }
}

#[tokio::test]
async fn f14_every_unary_rpc_is_served_to_its_callers_and_to_nobody_else() {
    let world = world();
    let user = world.token("ann", None, &[]);
    let service = world.token("backend", None, &SCOPES);
    for (path, package) in rpcs().into_iter().filter(|(path, _)| !path.contains("SessionService")) {
        let is_admin = package == "stonechat.admin.v1";
        let (may, may_not) = if is_admin { (&service, &user) } else { (&user, &service) };
        let status = world.call(&path, may_not).await;
        assert_eq!(status.code(), Code::PermissionDenied, "{path}");
        assert!(refusal_of_status(&status).is_some(), "{path}");
        // An empty request is fine for some rpcs and invalid for the others.
        let code = world.call(&path, may).await.code();
        assert!(matches!(code, Code::Ok | Code::InvalidArgument), "{path}: {code:?}");
    }
}

#[tokio::test]
async fn i11_the_token_of_a_deactivated_user_or_removed_device_passes_no_guard() {
    let world = world();
    world.users(&["ann", "bob"]).await;
    let (ann, bob) = (world.token("ann", None, &[]), world.token("bob", Some("phone"), &[]));
    assert_eq!(world.call(LIST, &ann).await.code(), Code::Ok);
    assert_eq!(world.call(LIST, &bob).await.code(), Code::Ok);
    let user_id = "ann".to_owned();
    let request = admin_v1::SetUserDeactivatedRequest {
        user_id,
        deactivated: true,
    };
    world.admin.set_user_deactivated(&service(), request).await;
    let device_id = "phone".to_owned();
    world
        .operations
        .remove_device(&by("bob", None), v1::RemoveDeviceRequest { device_id })
        .await;
    assert_eq!(world.call(LIST, &ann).await.code(), Code::Unauthenticated);
    assert_eq!(world.call(LIST, &bob).await.code(), Code::Unauthenticated);
}

#[tokio::test]
async fn an_issued_token_is_its_users_and_of_its_device() {
    let world = world();
    world.users(&["ann"]).await;
    let request = admin_v1::IssueTokenRequest {
        user_id: "ann".to_owned(),
        device_id: "phone".to_owned(),
        ttl_seconds: 0,
    };
    let answer = world.admin.issue_token(&service(), request).await;
    let Some(admin_v1::issue_token_response::Outcome::Token(issued)) = answer.outcome else {
        panic!("no token");
    };
    let principal = world.authenticator.verify(&issued.token).await.unwrap();
    assert_eq!(principal.user.as_str(), "ann");
    assert_eq!(principal.device, DeviceId::parse("phone").ok());
    assert!(principal.scopes.is_empty());
    let unknown = admin_v1::IssueTokenRequest {
        user_id: "nobody".to_owned(),
        ..Default::default()
    };
    let refused = world.admin.issue_token(&service(), unknown).await;
    assert_eq!(reason(&refused), v1::RefusalReason::NotFound);
}
