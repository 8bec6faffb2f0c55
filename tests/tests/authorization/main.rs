//! F14: every rpc of the contract, by everybody who may and who may not, on a real server. Deny by default (I11).

mod call;
mod rows;

use std::collections::{BTreeMap, BTreeSet};

use stonechat_proto::admin::v1::user_admin_service_client::UserAdminServiceClient;
use stonechat_proto::v1::RefusalReason;
use stonechat_proto::v1::device_service_client::DeviceServiceClient;
use stonechat_proto::{admin, v1};
use stonechat_tests::harness::{Bench, Claims, PATIENCE};

use call::{Outcome, Rpc, rpcs};
use rows::{May, Scene};

/// Streams, and the rpc that needs a session of its own: the end-to-end suite calls them by every kind of caller.
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
    let scene = Scene {
        room: String::new(),
        seq: 0,
        late_seq: 0,
    };
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
    bench.users(&["mallory", "zoe"]).await;
    let room = bench.group(&["alice", "bob", "carol", "dave"]).await;
    let mut alice = bench.open("alice", "phone").await;
    let seq = bench.send(&mut alice, &room, "seen by three").await;
    bench.remove(&room, "carol").await;
    let late_seq = bench.send(&mut alice, &room, "seen by two").await;
    alice.bye(PATIENCE).await;
    Scene { room, seq, late_seq }
}

fn expected(may: May) -> Outcome {
    match may {
        May::Yes => Outcome::Allowed,
        May::Forbidden => Outcome::Refused(RefusalReason::Forbidden),
        May::Hidden => Outcome::Refused(RefusalReason::NotFound),
        May::Beyond => Outcome::Refused(RefusalReason::BeyondHead),
    }
}

#[tokio::test]
async fn every_public_rpc_by_owner_member_former_member_and_stranger() {
    let mut bench = Bench::start(&[]).await;
    let scene = scene(&mut bench).await;
    let all = by_path();
    let mut wrong = Vec::new();
    let mut calls = 0;
    // The owner comes last: what they may do changes the scene.
    for (place, user) in [(3, "mallory"), (2, "carol"), (1, "bob"), (0, "alice")] {
        let token = bench.token(&Claims::user(user));
        for row in rows::public(&scene, user) {
            let rpc = &all[row.path];
            let got = rpc
                .call(bench.server.channel(), Some(&token), "laptop", row.request)
                .await;
            calls += 1;
            if got != expected(row.may[place]) {
                wrong.push(format!(
                    "{} by {user}: {got:?}, expected {:?}",
                    row.path, row.may[place]
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {calls}:\n{}", wrong.len(), wrong.join("\n"));
    println!("{calls} calls, 0 unexpected");
}

#[tokio::test]
async fn every_admin_rpc_by_its_scope_the_other_scopes_and_a_user() {
    let mut bench = Bench::start(&[]).await;
    let scene = scene(&mut bench).await;
    let all = by_path();
    let user = bench.token(&Claims::user("alice"));
    let mut wrong = Vec::new();
    for row in rows::admin(&scene, "integrator") {
        let others: Vec<&str> = EVERY_SCOPE.split(' ').filter(|scope| *scope != row.scope).collect();
        let right = bench.token(&Claims::scoped(row.scope));
        let other = bench.token(&Claims::scoped(&others.join(" ")));
        let cases = [
            ("a user", &user, Outcome::Refused(RefusalReason::Forbidden)),
            ("the other scopes", &other, Outcome::Refused(RefusalReason::Forbidden)),
            ("its scope", &right, Outcome::Allowed),
        ];
        for (who, token, wanted) in cases {
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
    let mut bench = Bench::start(&[]).await;
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
            if got != Outcome::Refused(RefusalReason::Unauthenticated) {
                wrong.push(format!("{path} by {who}: {got:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}:\n{}", wrong.len(), wrong.join("\n"));
    let log = bench.final_log(&scene.room).await;
    assert_eq!(log.entries.len() as u64, scene.late_seq, "nothing was done");
}

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
        ("a removed device", Some(revoked)),
        ("a deactivated user", Some(deactivated)),
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
