//! The commands as a person or a script meets them: the real binary, its output and its exit codes.

#[path = "cli/lasting.rs"]
mod lasting;
#[path = "cli/migrating.rs"]
mod migrating;

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Output, Stdio};
use std::sync::mpsc;
use std::time::Duration;

/// Longer than any answer takes on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(60);

fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_stonechat"));
    // What the machine has set must not matter.
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("STONECHAT_")) {
        command.env_remove(name);
    }
    command
}

fn run(arguments: &[&str]) -> Output {
    let mut command = program();
    command.args(arguments).stdin(Stdio::null());
    command.output().expect("the binary runs")
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("utf-8")
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).expect("utf-8")
}

/// A child process whose lines can be waited for. Dropping it kills it.
struct Talker {
    child: Child,
    input: Option<ChildStdin>,
    lines: mpsc::Receiver<String>,
}

impl Talker {
    fn start(arguments: &[&str]) -> Self {
        let mut command = program();
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("the binary runs");
        let (told, lines) = mpsc::channel();
        let out = child.stdout.take().expect("a pipe");
        std::thread::spawn(move || {
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                if told.send(line).is_err() {
                    break;
                }
            }
        });
        let input = child.stdin.take();
        Self { child, input, lines }
    }

    fn say(&mut self, line: &str) {
        let input = self.input.as_mut().expect("an open input");
        writeln!(input, "{line}").expect("a line is taken");
    }

    /// The next line that holds `wanted`.
    fn hear(&self, wanted: &str) -> String {
        let mut heard = Vec::new();
        loop {
            match self.lines.recv_timeout(PATIENCE) {
                Ok(line) if line.contains(wanted) => return line,
                Ok(line) => heard.push(line),
                Err(_) => panic!("nothing with {wanted:?} was said, but:\n{}", heard.join("\n")),
            }
        }
    }

    /// Ends the input and waits for the exit code.
    fn finish(mut self) -> i32 {
        drop(self.input.take());
        self.child
            .wait()
            .expect("a child of ours")
            .code()
            .expect("an exit code")
    }
}

impl Drop for Talker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A running demo.
struct Demo {
    talker: Talker,
    folder: tempfile::TempDir,
    server: String,
}

impl Demo {
    fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let data = folder.path().join("data");
        let data = data.to_str().expect("a path in utf-8");
        let talker = Talker::start(&["demo", "--data-folder", data, "--listen", "127.0.0.1:0"]);
        let line = talker.hear("serves on");
        let server = line.split_whitespace().find(|word| word.starts_with("http://"));
        let server = server.expect("an address").trim_end_matches(',').to_owned();
        talker.hear("Tokens for your own client");
        Self { talker, folder, server }
    }

    fn path(&self, name: &str) -> String {
        let path = self.folder.path().join(name);
        path.to_str().expect("a path in utf-8").to_owned()
    }

    /// Arguments, and how to reach this demo.
    fn reach(&self, arguments: &[&str]) -> Vec<String> {
        let reach = [
            "--server".to_owned(),
            self.server.clone(),
            "--data-folder".to_owned(),
            self.path("data"),
        ];
        arguments
            .iter()
            .map(|argument| (*argument).to_owned())
            .chain(reach)
            .collect()
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let all = self.reach(arguments);
        run(&all.iter().map(String::as_str).collect::<Vec<_>>())
    }

    fn talk(&self, arguments: &[&str]) -> Talker {
        let all = self.reach(arguments);
        Talker::start(&all.iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// An admin command's answer.
    fn admin(&self, arguments: &[&str]) -> serde_json::Value {
        let mut all = vec!["admin", "--json"];
        all.extend(arguments);
        let output = self.run(&all);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {}", stderr(&output));
        serde_json::from_str(stdout(&output).lines().next().unwrap_or("null")).expect("a line of JSON")
    }

    /// Asks it to stop and waits until it has.
    fn stop(&mut self) {
        let id = self.talker.child.id().to_string();
        Command::new("kill").args(["-TERM", &id]).status().expect("kill runs");
        let code = self.talker.child.wait().expect("a child of ours").code();
        assert_eq!(code, Some(0), "a drained server ends with 0");
    }
}

/// Two people, two terminals: text, ticks, typing, presence, reactions, edits; input through pipes.
#[test]
fn two_people_chat() {
    let demo = Demo::start();
    let mut bob = demo.talk(&["chat", "--as", "bob", "--with", "alice"]);
    bob.hear("alice: Everything, I hope.");
    let mut alice = demo.talk(&["chat", "--as", "alice", "--with", "bob"]);
    alice.hear("bob is online");
    bob.hear("alice is online");
    alice.say("hello \u{1f469}\u{200d}\u{1f467} שלום");
    alice.hear("✓ #5");
    bob.hear("alice: hello \u{1f469}\u{200d}\u{1f467} שלום");
    alice.hear("✓✓ #5 read");
    bob.say("/typing");
    alice.hear("bob is typing");
    bob.say("/react 5 👍");
    alice.hear("bob reacted 👍 to #5");
    alice.say("/edit 5 hello again");
    bob.hear("alice edited #5: hello again");
    alice.say("/redact 5 second thoughts");
    bob.hear("alice removed #5 (second thoughts)");
    bob.say("/edit 5 not mine");
    bob.hear("✗ not sent");
    alice.say("/who");
    alice.hear("bob is online");
    alice.say("/quit");
    assert_eq!(alice.finish(), 0);
    bob.hear("alice is offline");
    assert_eq!(bob.finish(), 1, "something was refused");
}

/// A script that talks to `chat` reads JSON alone: the past, who is there, and what became of its commands among it.
#[test]
fn chat_speaks_json_to_scripts() {
    let demo = Demo::start();
    let bob = demo.talk(&["chat", "--as", "bob", "--with", "alice"]);
    bob.hear("alice: Everything, I hope.");
    let mut alice = demo.talk(&["chat", "--as", "alice", "--with", "bob", "--json"]);
    let heard = |talker: &Talker, event: &str| -> serde_json::Value {
        let line = talker.hear(&format!("\"event\":\"{event}\""));
        serde_json::from_str(&line).expect("a line of JSON")
    };
    let past: Vec<u64> = (0..4)
        .map(|_| heard(&alice, "history")["entry"]["seq"].as_u64().expect("a seq"))
        .collect();
    assert_eq!(past, [1, 2, 3, 4]);
    assert_eq!(heard(&alice, "presence")["presence"]["user_id"], "bob");
    alice.say("/who");
    assert_eq!(heard(&alice, "presence")["presence"]["status"], "online");
    alice.say("/read");
    assert_eq!(heard(&alice, "markers")["markers"]["read_seq"], 4);
    alice.say("/edit nothing");
    assert!(
        heard(&alice, "not_done")["message"]
            .as_str()
            .is_some_and(|why| why.contains("/edit"))
    );
    assert_eq!(alice.finish(), 0);
}

/// I1, I2: what `send` reports is there; the same id is the same message; exit codes say what was done.
#[test]
fn i2_send_is_durable_and_repeatable() {
    let demo = Demo::start();
    let send = |text: &str| {
        demo.run(&[
            "send", "--as", "alice", "--with", "bob", "--json", "--id", "fixed", text,
        ])
    };
    let first = send("once");
    assert_eq!(first.status.code(), Some(0), "{}", stderr(&first));
    let first: serde_json::Value = serde_json::from_str(&stdout(&first)).unwrap();
    let again: serde_json::Value = serde_json::from_str(&stdout(&send("once"))).unwrap();
    assert_eq!((&again["seq"], &again["duplicate"]), (&first["seq"], &true.into()));
    let other = send("another text");
    assert_eq!(other.status.code(), Some(1));
    assert!(stderr(&other).contains("not_done"), "{}", stderr(&other));
    let unknown = demo.run(&["send", "--as", "alice", "--with", "nobody", "x"]);
    assert_eq!(unknown.status.code(), Some(1));
    assert!(stderr(&unknown).contains("admin upsert-user nobody"));
    let history = demo.run(&["history", "--as", "bob", "--with", "alice", "--limit", "1"]);
    assert!(stdout(&history).contains("alice: once"), "{}", stdout(&history));
}

#[test]
fn bad_usage_and_an_absent_server_are_told_apart() {
    assert_eq!(run(&["send", "--as", "alice"]).status.code(), Some(2));
    assert_eq!(run(&["--help"]).status.code(), Some(0));
    let nobody = [
        "send",
        "--token",
        "t",
        "--conversation",
        "c",
        "x",
        "--server",
        "http://127.0.0.1:1",
    ];
    let refused = run(&nobody);
    assert_eq!(refused.status.code(), Some(1));
    assert!(stderr(&refused).contains("stonechat serve"), "{}", stderr(&refused));
    assert_eq!(stderr(&refused).lines().count(), 1);
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().to_str().unwrap();
    let no_secret = run(&["conversations", "--as", "alice", "--data-folder", data]);
    assert_eq!(no_secret.status.code(), Some(1));
    let found = std::fs::read_dir(folder.path()).unwrap().count();
    assert_eq!(found, 0, "a client never makes a secret");
}

/// It would fail when it mints the first token, with a server running and a folder made.
#[test]
fn a_demo_with_an_identity_provider_is_refused_before_anything_starts() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    let path = data.to_str().expect("a path in utf-8");
    for keys in [
        ["--jwks-file", "/no/such/keys"],
        ["--jwks-url", "https://127.0.0.1:1/keys"],
    ] {
        let rest = ["demo", "--data-folder", path, "--listen", "127.0.0.1:0"];
        let refused = run(&[&rest[..], &keys[..]].concat());
        assert_eq!(refused.status.code(), Some(2));
        assert!(stderr(&refused).contains("identity provider"), "{refused:?}");
        assert!(!data.exists(), "nothing was made");
    }
}

/// The whole life of a conversation by an integrator.
#[test]
fn an_integrator_runs_a_chat() {
    let demo = Demo::start();
    demo.admin(&["upsert-user", "erin", "--name", "Erin"]);
    let group = [
        "create-conversation",
        "--owner",
        "erin",
        "--name",
        "Team",
        "--member",
        "bob:admin",
        "--id",
        "team-1",
    ];
    let made = demo.admin(&group);
    let id = made["conversation_id"].as_str().unwrap();
    assert_eq!(demo.admin(&group)["conversation_id"], id, "the same id finds it");
    assert_eq!(demo.admin(&["send", id, "from the system"])["seq"], 2);
    assert_eq!(demo.admin(&["send", id, "hi", "--as", "erin"])["seq"], 3);
    assert_eq!(demo.admin(&["set-members", id, "carol"])["seq"], 4);
    assert_eq!(demo.admin(&["react", id, "3", "👍", "--as", "bob"])["seq"], 5);
    assert_eq!(demo.admin(&["redact", id, "2"])["seq"], 6);
    assert_eq!(demo.admin(&["mark-read", id, "bob", "6"])["unread_count"], 0);
    assert_eq!(demo.admin(&["remove-member", id, "carol"])["seq"], 7);
    assert_eq!(demo.admin(&["deactivate", "erin"])["deactivated"], true);
    let token = demo.admin(&["token", "bob"])["token"].as_str().unwrap().to_owned();
    let listed = run(&["conversations", "--token", &token, "--server", &demo.server]);
    assert!(stdout(&listed).contains("Team"), "{}", stdout(&listed));
    let refused = run(&["admin", "list-users", "--token", &token, "--server", &demo.server]);
    assert_eq!(refused.status.code(), Some(1), "a user's token has no admin scope");
}

/// `tail` goes on where it was when it keeps its state.
#[test]
fn tail_follows_and_resumes() {
    let demo = Demo::start();
    let state = demo.path("tail.journal");
    let tail = |count: &str| {
        let output = demo.run(&[
            "tail",
            "--as",
            "bob",
            "--json",
            "--backlog",
            "--state",
            &state,
            "--count",
            count,
        ]);
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        let text = stdout(&output);
        let events = text
            .lines()
            .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        let delivered = events.filter(|event| event["event"] == "delivered");
        delivered
            .map(|event| {
                (
                    event["entry"]["conversation_id"].to_string(),
                    event["entry"]["seq"].as_u64(),
                )
            })
            .collect::<Vec<_>>()
    };
    let (first, second) = (tail("3"), tail("5"));
    let all: std::collections::BTreeSet<_> = first.iter().chain(&second).collect();
    assert_eq!(all.len(), 8, "nothing twice: {first:?} then {second:?}");
}

/// Import → export → import is the same, and refused lines are told by number.
#[test]
fn import_and_export_are_inverse() {
    let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/sample.jsonl");
    let sample = sample.to_str().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let done = |arguments: &[&str]| {
        let output = run(arguments);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {}", stderr(&output));
        stdout(&output)
    };
    done(&["import", sample, "--data-folder", &path("one")]);
    let again = done(&["import", sample, "--data-folder", &path("one")]);
    assert!(again.contains(" 0 stored"), "{again}");
    done(&["export", &path("one.jsonl"), "--data-folder", &path("one")]);
    done(&["import", &path("one.jsonl"), "--data-folder", &path("two")]);
    let two = done(&["export", "--data-folder", &path("two")]);
    assert!(
        two == std::fs::read_to_string(path("one.jsonl")).unwrap(),
        "the exports differ"
    );
    let audited = done(&["audit", "--data-folder", &path("two")]);
    assert!(audited.contains("0 contradictions"), "{audited}");
    std::fs::write(path("bad.jsonl"), "{\"type\":\"user\",\"id\":\"zed\"}\nnot json\n").unwrap();
    let bad = run(&["import", &path("bad.jsonl"), "--data-folder", &path("one")]);
    assert_eq!(bad.status.code(), Some(1));
    assert!(stdout(&bad).contains("line 2 refused"), "{}", stdout(&bad));
}

/// A mistyped folder is no empty store.
#[test]
fn what_only_reads_makes_no_folder() {
    let folder = tempfile::tempdir().unwrap();
    let nowhere = folder.path().join("nowhere");
    let target = folder.path().join("target");
    let (nowhere, target) = (nowhere.to_str().unwrap(), target.to_str().unwrap());
    for arguments in [
        &["audit", "--data-folder", nowhere][..],
        &["export", "--data-folder", nowhere],
        &["migrate", "--from", nowhere, "--to", target],
    ] {
        let refused = run(arguments);
        assert_eq!(refused.status.code(), Some(1), "{arguments:?}");
        assert!(stderr(&refused).contains("no data folder"), "{}", stderr(&refused));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "{arguments:?}");
    }
}

/// A folder in use is refused; a server stopped by SIGTERM ends with 0 and frees it.
#[test]
fn a_stopped_server_leaves_its_folder_free() {
    let mut demo = Demo::start();
    let data = demo.path("data");
    let busy = run(&["export", "--data-folder", &data]);
    assert_eq!(busy.status.code(), Some(1));
    assert!(stderr(&busy).contains("in use"), "{}", stderr(&busy));
    demo.stop();
    let exported = run(&["export", "--data-folder", &data]);
    assert_eq!(exported.status.code(), Some(0), "{}", stderr(&exported));
    assert!(stdout(&exported).contains("Lunch"));
}
