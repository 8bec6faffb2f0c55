//! Commands over restarts of theirs and of the server, and what scripts read of them.

use std::io::Write;
use std::process::{Output, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use super::{Demo, Talker, program, run, stderr, stdout};

/// Between two looks at what nothing announces, and how many there are: a minute and more.
const LOOK_EVERY: Duration = Duration::from_millis(20);
const LOOKS_MAX: usize = 3_000;

/// Waits until something holds that nothing announces.
pub(super) fn awaited(what: &str, mut holds: impl FnMut() -> bool) {
    let (_kept, nothing) = mpsc::channel::<()>();
    for _ in 0..LOOKS_MAX {
        if holds() {
            return;
        }
        let _never = nothing.recv_timeout(LOOK_EVERY);
    }
    panic!("{what}");
}

impl Demo {
    /// SIGKILL: nothing is written any more.
    fn die(&mut self) {
        self.talker.child.kill().expect("a child of ours");
        self.talker.child.wait().expect("a child of ours");
    }

    /// A server on the folder and at the address of the one that died.
    fn serve_again(&mut self) {
        let data = self.path("data");
        let listen = self.server.trim_start_matches("http://").to_owned();
        self.talker = Talker::start(&["serve", "--data-folder", &data, "--listen", &listen]);
        awaited("the server does not come back", || {
            self.run(&["conversations", "--as", "alice"]).status.code() == Some(0)
        });
    }

    /// Texts of alice and bob's conversation, each line of JSON read.
    fn history(&self) -> Vec<serde_json::Value> {
        let output = self.run(&[
            "history", "--as", "bob", "--with", "alice", "--after", "0", "--limit", "200", "--json",
        ]);
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        let text = stdout(&output);
        text.lines()
            .map(|line| serde_json::from_str(line).expect("JSON"))
            .collect()
    }

    fn times_said(&self, text: &str) -> usize {
        let quoted = format!("{text:?}");
        self.history()
            .iter()
            .filter(|line| line.to_string().contains(&quoted))
            .count()
    }
}

/// Waits until a journal keeps a message of this text: its lines hold frames in hex.
fn keeps(path: &str, text: &str) {
    let hex: String = text.bytes().map(|byte| format!("{byte:02x}")).collect();
    awaited("it is never kept", || {
        std::fs::read_to_string(path).is_ok_and(|journal| journal.contains(&hex))
    });
}

fn feed(arguments: &[&str], input: &str) -> Output {
    let mut command = program();
    command.args(arguments);
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().expect("the binary runs");
    let mut pipe = child.stdin.take().expect("a pipe");
    pipe.write_all(input.as_bytes()).expect("it is read");
    drop(pipe);
    child.wait_with_output().expect("a child of ours")
}

/// A token by `stonechat token` is as good as one of the server's, for whom and what it says alone.
#[test]
fn a_minted_token_opens_what_it_says_and_no_more() {
    let demo = Demo::start();
    let data = demo.path("data");
    let mint = |arguments: &[&str]| {
        let all: Vec<&str> = [&["token"], arguments, &["--data-folder", &data]].concat();
        run(&all)
    };
    let of = |output: &Output| {
        assert_eq!(output.status.code(), Some(0), "{}", stderr(output));
        let text = stdout(output);
        assert_eq!(text.lines().count(), 1, "a line for a script: {text}");
        text.trim().to_owned()
    };
    let listed = |token: &str| run(&["conversations", "--token", token, "--server", &demo.server]);
    let users = |token: &str| run(&["admin", "list-users", "--token", token, "--server", &demo.server]);
    let alice = of(&mint(&["alice"]));
    assert!(stdout(&listed(&alice)).contains("bob"), "alice's list");
    assert_eq!(users(&alice).status.code(), Some(1), "a user is no integrator");
    let service = of(&mint(&["backend", "--scope", "admin.users"]));
    assert_eq!(users(&service).status.code(), Some(0), "{}", stderr(&users(&service)));
    assert_eq!(listed(&service).status.code(), Some(1), "a service is no user");
    let json: serde_json::Value = serde_json::from_str(&of(&mint(&["alice", "--json", "--ttl", "60"]))).expect("JSON");
    assert!(json["token"].is_string() && json["expires_ms"].is_i64(), "{json}");
    assert_eq!(mint(&["alice", "--ttl", "0"]).status.code(), Some(1));
    assert_eq!(mint(&["not a user"]).status.code(), Some(2));
    let nowhere = demo.path("nowhere");
    let refused = run(&["token", "alice", "--data-folder", &nowhere]);
    assert_eq!(refused.status.code(), Some(1), "{}", stderr(&refused));
    assert!(
        !std::path::Path::new(&nowhere).exists(),
        "a secret is made by servers alone"
    );
}

/// I1, I2: a chat goes on over a server that dies, and what was typed meanwhile is stored once.
#[test]
fn i2_a_chat_outlives_the_death_of_its_server() {
    let mut demo = Demo::start();
    let mut alice = demo.talk(&["chat", "--as", "alice", "--with", "bob"]);
    alice.say("before the death");
    alice.hear("✓ #");
    demo.die();
    alice.say("typed while it was dead");
    demo.serve_again();
    alice.hear("✓ #");
    alice.say("and after");
    alice.hear("✓ #");
    assert_eq!(alice.finish(), 0);
    for text in ["before the death", "typed while it was dead", "and after"] {
        assert_eq!(demo.times_said(text), 1, "{text}");
    }
}

/// With `--state` what was typed outlives the command as well.
#[test]
fn i2_what_a_chat_could_not_send_is_sent_by_the_next_one() {
    let mut demo = Demo::start();
    let state = demo.path("chat.journal");
    let chat = ["chat", "--as", "alice", "--with", "bob", "--state", &state];
    let mut alice = demo.talk(&chat);
    alice.say("sent at once");
    alice.hear("✓ #");
    demo.die();
    alice.say("kept in the file");
    keeps(&state, "kept in the file");
    // Dropped: killed, as by a closed terminal.
    drop(alice);
    demo.serve_again();
    assert_eq!(demo.times_said("kept in the file"), 0);
    let alice = demo.talk(&chat);
    awaited("it is never sent", || demo.times_said("kept in the file") == 1);
    assert_eq!(alice.finish(), 0);
    for text in ["sent at once", "kept in the file"] {
        assert_eq!(demo.times_said(text), 1, "{text}");
    }
}

/// The same id by the same device is the same message, over a restart of the server and of the command.
#[test]
fn i2_send_with_state_stores_once_over_a_restart() {
    let mut demo = Demo::start();
    let state = demo.path("send.journal");
    let send = |demo: &Demo| {
        let output = demo.run(&[
            "send",
            "--as",
            "alice",
            "--with",
            "bob",
            "--json",
            "--id",
            "once",
            "--state",
            &state,
            "stored once",
        ]);
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        serde_json::from_str::<serde_json::Value>(&stdout(&output)).expect("JSON")
    };
    let first = send(&demo);
    demo.die();
    demo.serve_again();
    let again = send(&demo);
    assert_eq!(again["seq"], first["seq"]);
    assert_eq!(
        (&first["duplicate"], &again["duplicate"]),
        (&false.into(), &true.into())
    );
    assert_eq!(demo.times_said("stored once"), 1);
}

/// For scripts: a line for each entry, in order, and one that says how they lie in the log.
#[test]
fn history_as_json_is_a_line_an_entry_and_one_for_the_page() {
    let demo = Demo::start();
    let lines = demo.history();
    let (page, entries) = lines.split_last().expect("lines");
    let seqs: Vec<u64> = entries.iter().filter_map(|entry| entry["seq"].as_u64()).collect();
    assert_eq!(seqs.len(), entries.len(), "each line is an entry: {lines:?}");
    assert_eq!(seqs, (1..=seqs.len() as u64).collect::<Vec<_>>());
    assert_eq!(page["page"]["head_seq"], *seqs.last().expect("entries"), "{page}");
    assert_eq!(page["page"]["has_more"], false, "{page}");
}

/// Import from a pipe; its exit code says whether all of it was taken.
#[test]
fn import_reads_a_pipe_and_tells_by_its_exit_code() {
    let sample = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/sample.jsonl");
    let sample = std::fs::read_to_string(sample).expect("the sample");
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    let data = data.to_str().expect("a path in utf-8");
    let import = |input: &str| feed(&["import", "-", "--data-folder", data], input);
    let taken = import(&sample);
    assert_eq!(taken.status.code(), Some(0), "{}", stderr(&taken));
    assert!(stdout(&taken).contains(" 0 refused"), "{}", stdout(&taken));
    let partly = import(&format!("{sample}not json\n"));
    assert_eq!(partly.status.code(), Some(1), "one line was refused");
    assert!(stdout(&partly).contains(" 1 refused"), "{}", stdout(&partly));
    assert_eq!(import("").status.code(), Some(0), "nothing to do is done");
    let missing = run(&["import", "/no/such/file", "--data-folder", data]);
    assert_eq!(missing.status.code(), Some(1));
    assert!(stderr(&missing).contains("nothing imported"), "{}", stderr(&missing));
    assert_eq!(run(&["import"]).status.code(), Some(2), "usage");
    let demo = Demo::start();
    let busy = feed(&["import", "-", "--data-folder", &demo.path("data")], &sample);
    assert_eq!(busy.status.code(), Some(1), "a server uses the folder");
    assert!(stderr(&busy).contains("in use"), "{}", stderr(&busy));
}
