//! A disk that is full, that fails, that hangs (T14), against the real binary: what is refused was not done or is said to be
//! unknown, nothing is acknowledged that is not synced, and what was acknowledged is there afterwards, once (I1, I2, I8).
#![cfg(target_os = "linux")]

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use stonechat_proto::admin::v1 as admin;
use stonechat_proto::v1;
use stonechat_proto::v1::client_frame::Body as Asked;
use stonechat_proto::v1::server_frame::Body as Seen;
use stonechat_server::storage::embedded::EXIT_WRITE_FAILED;
use stonechat_tests::checker::{Check, Verdict};
use stonechat_tests::harness::{
    Bench, DELIVERY, Exit, PATIENCE, RawSession, Sender, ServerProcess, append_outcome, each_once, member, reaches_head,
};

/// The journal and tables of the log.
const LOG: &str = "/log/";
/// The directory, its write-ahead log included.
const DIRECTORY: &str = "directory.sqlite";
/// Any file.
const ANY: &str = "";

/// Messages before the fault, and during it.
const BEFORE: u64 = 50;
const DURING: u64 = 20;

const LOOK_EVERY: Duration = Duration::from_millis(5);

/// The faults of `faults.c`, preloaded into a server.
struct Disk {
    triggers: tempfile::TempDir,
}

impl Disk {
    /// The server must not have been started yet.
    fn below(server: &mut ServerProcess) -> Self {
        let triggers = tempfile::tempdir().expect("a folder");
        server.set_env("LD_PRELOAD", library());
        server.set_env("STONECHAT_FAULTS", triggers.path());
        server.set_env("STONECHAT_FAULTS_BELOW", server.data_folder());
        Self { triggers }
    }

    /// From now on the fault strikes at files whose path contains this.
    fn strike(&self, fault: &str, at: &str) {
        // Made whole, then put in place: a half-written trigger would strike elsewhere.
        let made = self.triggers.path().join("made");
        std::fs::write(&made, at).expect("a trigger");
        std::fs::rename(made, self.triggers.path().join(fault)).expect("a trigger");
    }

    fn heal(&self, fault: &str) {
        std::fs::remove_file(self.triggers.path().join(fault)).expect("a trigger that was set");
    }

    /// Waits until a fault came, which nothing announces.
    async fn struck(&self, fault: &str) {
        let look = async {
            while self.strikes(fault) == 0 {
                tokio::time::sleep(LOOK_EVERY).await;
            }
        };
        let came = tokio::time::timeout(PATIENCE, look).await;
        assert!(came.is_ok(), "{fault} never came");
    }

    /// How often a fault came.
    fn strikes(&self, fault: &str) -> u64 {
        let record = self.triggers.path().join(format!("{fault}.struck"));
        std::fs::metadata(record).map_or(0, |record| record.len())
    }
}

/// Compiles the library of faults; a C compiler is needed to build the server, too.
fn library() -> PathBuf {
    static COMPILED: std::sync::OnceLock<PathBuf> = std::sync::OnceLock::new();
    let compile = || {
        let source = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/kill/faults.c");
        let library = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("faults-{}.so", std::process::id()));
        let compiler = std::env::var("CC").unwrap_or_else(|_| "cc".to_owned());
        let mut command = Command::new(compiler);
        command.args(["-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-Werror", "-o"]);
        let made = command.arg(&library).arg(source).arg("-ldl").status();
        assert!(made.expect("a C compiler").success(), "the faults do not compile");
        library
    };
    COMPILED.get_or_init(compile).clone()
}

struct Scene {
    bench: Bench,
    disk: Disk,
    room: String,
    alice: Sender,
    bob: RawSession,
}

/// People who have chatted for a while on a good disk.
async fn scene() -> Scene {
    let limits = ["--conversation-entries-per-second", "100000"];
    let mut server = ServerProcess::prepare(&limits);
    let disk = Disk::below(&mut server);
    server.restart(None).await;
    let mut bench = Bench::on(server);
    let room = bench.group(&["alice", "bob"]).await;
    let mut alice = Sender::new("alice", &room);
    alice.connect(&bench).await;
    let mut bob = bench.open("bob", "phone").await;
    alice.send(BEFORE).await;
    alice.answers().await;
    assert_eq!(alice.acked(), BEFORE);
    reaches_head(&bench, &mut bob, &room).await;
    Scene {
        bench,
        disk,
        room,
        alice,
        bob,
    }
}

impl Scene {
    /// On a good disk again: sends what is open, and finds everything once with everybody.
    async fn ends_well(mut self) -> Verdict {
        self.alice.finish(&self.bench).await;
        let mut bob = self.bench.open("bob", "phone").await;
        reaches_head(&self.bench, &mut bob, &self.room).await;
        reaches_head(&self.bench, self.alice.session(), &self.room).await;
        let total = each_once(&self.bench, &self.room, &[&self.alice]).await;
        assert_eq!(total, BEFORE + DURING);
        let verdict = self.bench.verdict().await;
        verdict.assert_clean(&DELIVERY);
        verdict
    }

    /// The refusals of everything that was asked since the fault.
    fn refusals(&mut self) -> Vec<v1::Refusal> {
        let seen = self.alice.session().observed();
        assert!(seen.ended.is_none(), "the sender's stream goes on: {:?}", seen.closed);
        let refusals = seen.answers.values().filter_map(|answer| append_outcome(answer)?.err());
        refusals.cloned().collect()
    }
}

/// A mark was refused in a typed way; whether it was done does not matter, for marking again is harmless.
fn is_unavailable(answer: &Seen) -> bool {
    let refusal = match answer {
        Seen::MarkRead(v1::MarkReadResponse {
            outcome: Some(v1::mark_read_response::Outcome::Refusal(refusal)),
        })
        | Seen::Refusal(refusal) => refusal,
        _ => return false,
    };
    refusal.reason() == v1::RefusalReason::Unavailable
}

async fn create(bench: &Bench, id: &str) -> Result<v1::Conversation, v1::Refusal> {
    use admin::create_conversation_response::Outcome;
    let mut client = admin::conversation_admin_service_client::ConversationAdminServiceClient::new(bench.admin());
    let request = admin::CreateConversationRequest {
        client_msg_id: id.to_owned(),
        owner_user_id: "alice".to_owned(),
        kind: v1::ConversationKind::Group as i32,
        name: "Crew".to_owned(),
        members: vec![member("bob")],
    };
    let answer = client.create_conversation(request).await;
    let outcome = answer.map(|answer| answer.into_inner().outcome.expect("an outcome"));
    match outcome {
        Ok(Outcome::Conversation(made)) => Ok(made),
        Ok(Outcome::Refusal(refusal)) => Err(refusal),
        Err(status) => Err(stonechat_proto::refusal_of_status(&status).expect("a typed refusal")),
    }
}

/// A full disk: sends are refused as not done, reads and streams go on, and with room everything goes on where it was.
#[tokio::test]
async fn a_full_disk_refuses_sends_and_harms_nobody() {
    let mut scene = scene().await;
    scene.disk.strike("room", ANY);
    scene.alice.send(1).await;
    scene.alice.answers().await;
    // Once the writer has seen that there is no room it tries no write, so from here on none may fail.
    scene.disk.strike("write", ANY);
    scene.alice.send(DURING - 1).await;
    scene.alice.answers().await;
    let refusals = scene.refusals();
    assert_eq!(refusals.len() as u64, DURING);
    for refusal in &refusals {
        use v1::RefusalReason::{OutOfOrder, Unavailable};
        assert_eq!(refusal.effect(), v1::Effect::NotDone, "{refusal:?}");
        // What stood behind a refused send of the same device has lost its predecessor.
        assert!(matches!(refusal.reason(), Unavailable | OutOfOrder), "{refusal:?}");
    }
    assert!(refusals[0].message.contains("store"), "says why: {:?}", refusals[0]);
    // Whoever only reads notices nothing.
    let head = BEFORE + 1;
    assert_eq!(scene.bench.entries(&scene.room).await.len() as u64, head);
    assert_eq!(scene.bob.observed().newest(&scene.room), head);
    let read = Asked::MarkRead(v1::MarkReadRequest {
        conversation_id: scene.room.clone(),
        seq: head,
        private: false,
    });
    let marked = scene.bob.request(read, PATIENCE).await;
    assert!(is_unavailable(&marked), "{marked:?}");
    assert_eq!(scene.bench.server.exited(), None);
    scene.disk.heal("write");
    scene.disk.heal("room");
    // No restart is needed, and no new stream; on the old one, what was refused keeps its place (I4).
    scene.alice.again().await;
    scene.alice.answers().await;
    assert_eq!(scene.alice.acked(), BEFORE + DURING);
    scene.bench.send(scene.alice.session(), &scene.room, "room again").await;
    let verdict = scene.ends_well().await;
    assert!(verdict.examined(Check::C9) > 0, "refusals were looked at:\n{verdict}");
}

/// The server cannot even start on a full disk; it says so, and what was acknowledged waits for room.
#[tokio::test]
async fn a_start_on_a_full_disk_is_refused_and_loses_nothing() {
    let mut scene = scene().await;
    scene.alice.send(DURING).await;
    scene.bench.server.kill().await;
    scene.disk.strike("room", ANY);
    scene.disk.strike("write", ANY);
    scene.bench.server.spawn(None);
    assert!(!scene.bench.server.ready_or_gone().await, "it does not serve");
    let told = scene.bench.server.log_tail();
    assert!(told.contains("No space left on device"), "says why: {told}");
    scene.disk.heal("write");
    scene.disk.heal("room");
    scene.bench.server.restart(None).await;
    scene.ends_well().await;
}

/// A folder that cannot be written to is refused in words, changes nothing, and is whole once it can be: also for root, whom
/// permissions do not stop.
#[tokio::test]
async fn a_read_only_folder_is_refused_and_loses_nothing() {
    let mut scene = scene().await;
    scene.alice.send(DURING).await;
    scene.bench.server.kill().await;
    scene.disk.strike("read-only", ANY);
    scene.bench.server.spawn(None);
    assert!(!scene.bench.server.ready_or_gone().await, "it does not serve");
    assert!(scene.disk.strikes("read-only") > 0);
    assert_eq!(scene.bench.server.exited(), Some(Exit::Code(1)));
    let told = scene.bench.server.log_tail();
    assert!(told.contains("cannot be written to"), "says why: {told}");
    scene.disk.heal("read-only");
    scene.bench.server.restart(None).await;
    scene.ends_well().await;
}

/// The same where there is no folder yet.
#[tokio::test]
async fn a_folder_that_cannot_be_made_is_refused() {
    let mut server = ServerProcess::prepare(&[]);
    let disk = Disk::below(&mut server);
    disk.strike("read-only", ANY);
    server.spawn(None);
    assert!(!server.ready_or_gone().await, "it does not serve");
    let told = server.log_tail();
    assert!(
        told.contains("cannot be made: Read-only file system"),
        "says why: {told}"
    );
    assert!(!server.data_folder().exists());
}

/// A write or a sync of the log fails although there was room: nobody knows what is on disk, so the process stops without
/// another ack, and a new start finds out.
async fn the_log_fails(fault: &str, at: &str) {
    let mut scene = scene().await;
    scene.disk.strike(fault, at);
    scene.alice.send(DURING).await;
    assert_eq!(scene.bench.server.wait().await, Exit::Code(EXIT_WRITE_FAILED));
    assert!(scene.disk.strikes(fault) > 0);
    scene.alice.answers().await;
    assert_eq!(scene.alice.acked(), BEFORE, "no ack after a failed {fault}");
    scene.disk.heal(fault);
    scene.bench.server.restart(None).await;
    scene.ends_well().await;
}

#[tokio::test]
async fn a_failed_sync_of_the_log_stops_the_process() {
    the_log_fails("sync", LOG).await;
}

#[tokio::test]
async fn a_failed_write_of_the_log_stops_the_process() {
    the_log_fails("write", LOG).await;
}

/// The record of what was acknowledged is part of every ack.
#[tokio::test]
async fn a_failed_write_of_the_witness_stops_the_process() {
    the_log_fails("write", "/ACKED").await;
}

/// The directory cannot be written: a creation says that its outcome is unknown, messages go on, and the same id creates
/// the conversation once the disk is well.
async fn the_directory_fails(fault: &str) {
    let mut scene = scene().await;
    scene.disk.strike(fault, DIRECTORY);
    let refusal = create(&scene.bench, "new").await.expect_err("nothing can be created");
    assert_eq!(refusal.reason(), v1::RefusalReason::Unavailable, "{refusal:?}");
    assert_eq!(refusal.effect(), v1::Effect::Unknown, "{refusal:?}");
    assert!(refusal.message.contains("same id"), "says what to do: {refusal:?}");
    assert!(scene.disk.strikes(fault) > 0);
    scene.alice.send(DURING).await;
    scene.alice.answers().await;
    assert_eq!(
        scene.alice.acked(),
        BEFORE + DURING,
        "messages do not need the directory's disk"
    );
    scene.disk.heal(fault);
    let made = create(&scene.bench, "new").await.expect("the same id creates it now");
    scene.bench.server.kill_and_restart().await;
    let again = create(&scene.bench, "new").await.expect("the same id finds it");
    assert_eq!(made.conversation_id, again.conversation_id);
    assert_eq!(scene.bench.entries(&made.conversation_id).await.len(), 1);
    scene.ends_well().await;
}

#[tokio::test]
async fn a_full_disk_of_the_directory_refuses_creations_only() {
    the_directory_fails("write").await;
}

#[tokio::test]
async fn a_failed_sync_of_the_directory_refuses_creations_only() {
    the_directory_fails("sync").await;
}

/// I1: nothing is acknowledged while its sync hangs.
#[tokio::test]
async fn no_ack_comes_before_its_sync_returned() {
    let mut scene = scene().await;
    scene.disk.strike("hold-sync", LOG);
    scene.alice.send(DURING).await;
    scene.disk.struck("hold-sync").await;
    // A stream answers in any order: the ping overtakes the sends that wait for the disk.
    scene.alice.session().ping(PATIENCE).await;
    scene.alice.harvest();
    assert_eq!(scene.alice.acked(), BEFORE);
    scene.disk.heal("hold-sync");
    scene.alice.answers().await;
    assert_eq!(scene.alice.acked(), BEFORE + DURING);
    scene.ends_well().await;
}
