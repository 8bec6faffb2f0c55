//! F14: every rpc and every client frame of the contract, by everybody who may and who may not, on a real server. Deny by
//! default (I11).

mod call;
mod frames;
mod rows;
mod streams;

use std::collections::{BTreeMap, BTreeSet};

use stonechat_proto::admin::v1::conversation_admin_service_client::ConversationAdminServiceClient;
use stonechat_proto::admin::v1::user_admin_service_client::UserAdminServiceClient;
use stonechat_proto::v1::RefusalReason;
use stonechat_proto::v1::device_service_client::DeviceServiceClient;
use stonechat_proto::v1::user_service_client::UserServiceClient;
use stonechat_proto::{admin, v1};
use stonechat_tests::harness::{Bench, Claims, PATIENCE, UNHURRIED, header, member};

use call::{Outcome, Rpc, rpcs};
use rows::{ADMIN, CALLERS, May, Scene};

/// Streams, and the rpc that needs a session of its own: `streams` calls them by every kind of caller, `frames` sends every
/// frame on them.
const WITH_A_SESSION: [&str; 3] = [
    "/stonechat.v1.SessionService/Exchange",
    "/stonechat.v1.SessionService/Listen",
    "/stonechat.v1.SessionService/Submit",
];

const EVERY_SCOPE: &str = "admin.users admin.tokens admin.conversations admin.messages";

fn by_path() -> BTreeMap<String, Rpc> {
    rpcs().into_iter().map(|rpc| (rpc.path.clone(), rpc)).collect()
}

#[test]
fn every_rpc_has_a_row() {
    let scene = Scene::default();
    let mut known: BTreeSet<&str> = WITH_A_SESSION.into_iter().collect();
    known.extend(rows::public(&scene, "").iter().map(|row| row.path));
    known.extend(rows::admin(&scene, "").iter().map(|row| row.path));
    let all = by_path();
    assert_eq!(all.keys().map(String::as_str).collect::<BTreeSet<&str>>(), known);
    assert!(
        all.values()
            .all(|rpc| !rpc.streaming || WITH_A_SESSION.contains(&rpc.path.as_str()))
    );
}

/// I11: what nodes say to each other in somebody's name is not there for the public, whatever token it brings.
#[tokio::test]
async fn what_nodes_say_to_each_other_is_not_on_the_public_port() {
    use stonechat_proto::node::v1::ForwardRequest;
    use stonechat_proto::node::v1::forward_service_client::ForwardServiceClient;
    let bench = Bench::start(&[]).await;
    let mut client = ForwardServiceClient::new(bench.admin());
    let requests = tokio_stream::once(ForwardRequest::default());
    let refused = client.forward(requests).await.expect_err("it is served");
    assert_eq!(refused.code(), tonic::Code::Unimplemented);
}

async fn scene(bench: &mut Bench) -> Scene {
    bench.users(&["mallory", "zoe", "yan"]).await;
    let room = bench.group(&["alice", "bob", "carol", "dave", "greg", ADMIN]).await;
    make_admin(bench, &room).await;
    let mut alice = bench.open("alice", "phone").await;
    let seq = bench.send(&mut alice, &room, "seen by all").await;
    bench.remove(&room, "carol").await;
    let one = bench.send(&mut alice, &room, "not seen by carol").await;
    let other = bench.send(&mut alice, &room, "nor this").await;
    alice.bye(PATIENCE).await;
    Scene {
        room,
        seq,
        late_seqs: [one, other],
    }
}

async fn make_admin(bench: &Bench, room: &str) {
    use admin::v1::set_members_response::Outcome;
    let request = admin::v1::SetMembersRequest {
        header: Some(header(room, "make-admin")),
        members: vec![v1::Member {
            role: v1::MemberRole::Admin.into(),
            ..member(ADMIN)
        }],
    };
    let answer = ConversationAdminServiceClient::new(bench.admin())
        .set_members(request)
        .await;
    let outcome = answer.expect("an answer").into_inner().outcome;
    assert!(matches!(outcome, Some(Outcome::Appended(_))), "{outcome:?}");
}

/// A 1:1 with messages of one, whom the other has blocked since.
async fn blocked_scene(bench: &mut Bench) -> Scene {
    let room = bench.direct("kim", "lee").await;
    let mut kim = bench.open("kim", "phone").await;
    let seq = bench.send(&mut kim, &room, "before the block").await;
    let late = bench.send(&mut kim, &room, "and this").await;
    kim.bye(PATIENCE).await;
    let request = v1::SetBlockRequest {
        user_id: "kim".to_owned(),
        blocked: true,
    };
    let mut users = UserServiceClient::new(bench.call_as(&Claims::user("lee"), "phone"));
    let outcome = users.set_block(request).await.expect("an answer").into_inner().outcome;
    assert!(matches!(outcome, Some(v1::set_block_response::Outcome::Blocks(_))));
    Scene {
        room,
        seq,
        late_seqs: [late; 2],
    }
}

fn expected(may: May) -> Outcome {
    match may {
        May::Yes => Outcome::Allowed,
        May::Forbidden => Outcome::Refused(RefusalReason::Forbidden),
        May::Hidden => Outcome::Refused(RefusalReason::NotFound),
        May::Beyond => Outcome::Refused(RefusalReason::BeyondHead),
        May::Blocked => Outcome::Refused(RefusalReason::Blocked),
    }
}

#[tokio::test]
async fn every_public_rpc_by_everybody_in_and_out_of_the_conversation() {
    let mut bench = Bench::start(&UNHURRIED).await;
    let (group, pair) = (scene(&mut bench).await, blocked_scene(&mut bench).await);
    let all = by_path();
    let mut wrong = Vec::new();
    let mut calls = 0;
    // The owner comes last: what they may do changes the scene.
    for (place, (who, user, in_group)) in CALLERS.into_iter().enumerate().rev() {
        let token = bench.token(&Claims::user(user));
        for row in rows::public(if in_group { &group } else { &pair }, user) {
            let rpc = &all[row.path];
            let got = rpc
                .call(bench.server.channel(), Some(&token), "laptop", row.request)
                .await;
            calls += 1;
            if got != expected(row.may[place]) {
                wrong.push(format!("{} by {who}: {got:?}, expected {:?}", row.path, row.may[place]));
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {calls}:\n{}", wrong.len(), wrong.join("\n"));
    println!("{calls} calls, 0 unexpected");
}

/// I11: an integrator acts for users by admin rpcs alone, whatever scopes its token has.
#[tokio::test]
async fn no_public_rpc_serves_an_integrator() {
    let mut bench = Bench::start(&UNHURRIED).await;
    let scene = scene(&mut bench).await;
    let token = bench.token(&Claims {
        scope: Some(EVERY_SCOPE.to_owned()),
        ..Claims::user("alice")
    });
    let all = by_path();
    let mut wrong = Vec::new();
    for row in rows::public(&scene, "alice") {
        let call = all[row.path].call(bench.server.channel(), Some(&token), "", row.request);
        let got = call.await;
        if got != Outcome::Refused(RefusalReason::Forbidden) {
            wrong.push(format!("{}: {got:?}", row.path));
        }
    }
    assert!(wrong.is_empty(), "{}:\n{}", wrong.len(), wrong.join("\n"));
}

#[tokio::test]
async fn every_admin_rpc_by_each_scope_and_by_users() {
    let mut bench = Bench::start(&UNHURRIED).await;
    let scene = scene(&mut bench).await;
    let all = by_path();
    let owner = bench.token(&Claims::user("alice"));
    let mut callers = vec![("a user".to_owned(), owner)];
    for scope in EVERY_SCOPE
        .split(' ')
        .chain(["openid", "admin", "admin.", "admin.everything"])
    {
        callers.push((scope.to_owned(), bench.token(&Claims::scoped(scope))));
    }
    let mut wrong = Vec::new();
    for row in rows::admin(&scene, "integrator") {
        let others: Vec<&str> = EVERY_SCOPE.split(' ').filter(|scope| *scope != row.scope).collect();
        let all_others = ("all others".to_owned(), bench.token(&Claims::scoped(&others.join(" "))));
        for (who, token) in callers.iter().chain([&all_others]) {
            let wanted = if who == row.scope {
                Outcome::Allowed
            } else {
                Outcome::Refused(RefusalReason::Forbidden)
            };
            let got = all[row.path]
                .call(bench.server.channel(), Some(token), "", row.request.clone())
                .await;
            if got != wanted {
                wrong.push(format!("{} by {who}: {got:?}, expected {wanted:?}", row.path));
            }
        }
    }
    assert!(wrong.is_empty(), "{}:\n{}", wrong.len(), wrong.join("\n"));
}

#[tokio::test]
async fn no_rpc_serves_who_proves_nothing_or_was_revoked() {
    let mut bench = Bench::start(&UNHURRIED).await;
    let scene = scene(&mut bench).await;
    let tokens = worthless(&bench).await;
    let requests: BTreeMap<&str, Vec<u8>> = rows::public(&scene, "nobody")
        .into_iter()
        .map(|row| (row.path, row.request))
        .chain(
            rows::admin(&scene, "nobody")
                .into_iter()
                .map(|row| (row.path, row.request)),
        )
        .collect();
    let all = by_path();
    let mut wrong = Vec::new();
    for (path, request) in &requests {
        for (who, token) in &tokens {
            let got = all[*path]
                .call(bench.server.channel(), token.as_deref(), "gone", request.clone())
                .await;
            // What a token may not do is told before anybody looks whether it was revoked, which costs a store.
            let forbidden = path.contains(".admin.") && REVOKED.contains(who);
            let wanted = if forbidden {
                RefusalReason::Forbidden
            } else {
                RefusalReason::Unauthenticated
            };
            if got != Outcome::Refused(wanted) {
                wrong.push(format!("{path} by {who}: {got:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}:\n{}", wrong.len(), wrong.join("\n"));
    let log = bench.final_log(&scene.room).await;
    assert_eq!(log.entries.len() as u64, scene.late_seqs[1], "nothing was done");
}

/// Whose tokens were good.
const REVOKED: [&str; 2] = ["a removed device", "a deactivated user"];

/// Tokens that must open nothing.
async fn worthless(bench: &Bench) -> Vec<(&'static str, Option<String>)> {
    bench.users(&["erin"]).await;
    let everything = |claims: Claims| Claims {
        scope: Some(EVERY_SCOPE.to_owned()),
        ..claims
    };
    let mut forged = bench.token(&Claims::user("alice"));
    forged.truncate(forged.len() - 6);
    forged.push_str("AAAAAA");
    let revoked = of_removed_device(bench).await;
    let deactivated = bench.token(&Claims::user("erin"));
    let mut users = UserAdminServiceClient::new(bench.admin());
    let request = admin::v1::SetUserDeactivatedRequest {
        user_id: "erin".to_owned(),
        deactivated: true,
    };
    users.set_user_deactivated(request).await.expect("deactivated");
    let mut foreign = Claims::user("alice");
    foreign.iss = Some("somebody".to_owned());
    let mut nameless = Claims::user("alice");
    nameless.sub = None;
    let mut endless = Claims::user("alice");
    endless.exp = None;
    vec![
        ("nobody", None),
        ("nonsense", Some("nonsense".to_owned())),
        ("a forger", Some(forged)),
        (
            "an expired user",
            Some(bench.token(&Claims::user("alice").expiring_in(-30))),
        ),
        (
            "an expired integrator",
            Some(bench.token(&everything(Claims::user("x")).expiring_in(-30))),
        ),
        ("another issuer", Some(bench.token(&foreign))),
        ("no subject", Some(bench.token(&nameless))),
        ("no expiry", Some(bench.token(&endless))),
        (REVOKED[0], Some(revoked)),
        (REVOKED[1], Some(deactivated)),
    ]
}

async fn of_removed_device(bench: &Bench) -> String {
    let mut bound = Claims::user("alice");
    bound.dev = Some("gone".to_owned());
    let token = bench.token(&bound);
    let mut device = bench.open("alice", "gone").await;
    let mut devices = DeviceServiceClient::new(bench.call_as(&Claims::user("alice"), "phone"));
    let request = v1::RemoveDeviceRequest {
        device_id: "gone".to_owned(),
    };
    devices.remove_device(request).await.expect("removed");
    device.end(PATIENCE).await;
    token
}
