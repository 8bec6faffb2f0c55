//! An import that is killed again and again ends as one that never was.

use std::path::Path;

use serde_json::{Value, json};
use stonechat_tests::harness::{Exit, binary};
use tokio::process::Command;

/// Where an import dies; then it runs again, undisturbed. Each of the 60 lines that refer to another waits for what is in
/// flight, so there are at least 60 batches however fast the machine groups them.
const DEATHS: [&str; 12] = [
    "create.decided:1",
    "create.decided:2",
    "import.appended:1",
    "import.appended:50",
    "import.appended:200",
    "append.planned:5",
    "append.stored:7",
    "append.acked:40",
    "writer.batch_checked:6",
    "writer.committed:9",
    "writer.answered:12",
    "fanout.published:4",
];

/// Messages of each conversation in the file.
const MESSAGES: usize = 120;

/// Two conversations with replies, edits, reactions and redactions.
fn file() -> String {
    let mut lines = Vec::new();
    for user in ["alice", "bob", "carol"] {
        lines.push(json!({"type": "user", "id": user, "name": user}));
    }
    for room in ["crew", "pair"] {
        let (kind, others) = if room == "crew" {
            ("group", vec!["bob", "carol"])
        } else {
            ("direct", vec!["bob"])
        };
        let members: Vec<Value> = others
            .iter()
            .map(|user| json!({"user": user, "role": "member"}))
            .collect();
        lines.push(
            json!({"type": "conversation", "id": room, "user": "alice", "device": "d", "kind": kind,
            "name": if kind == "group" { room } else { "" }, "members": members, "time": 1_600_000_000_000_i64}),
        );
        for number in 0..MESSAGES {
            lines.extend(message(room, number));
        }
    }
    lines.iter().map(|line| format!("{line}\n")).collect()
}

/// A message, and now and then something about it.
fn message(room: &str, number: usize) -> Vec<Value> {
    let user = if number.is_multiple_of(2) { "alice" } else { "bob" };
    let id = format!("m-{number}");
    let time = 1_600_000_000_000_i64 + i64::try_from(number).unwrap_or(0);
    let common = |kind: &str, id: &str| json!({"type": kind, "id": id, "conversation": room, "user": user, "device": "d", "time": time});
    let mut sent = common("message", &id);
    sent["text"] = json!(format!("message {number} in {room}"));
    let target = json!({"id": id, "user": user, "device": "d"});
    let mut lines = vec![sent];
    if number % 10 == 3 {
        let mut edit = common("edit", &format!("e-{number}"));
        edit["target"] = target.clone();
        edit["text"] = json!("edited");
        lines.push(edit);
    }
    if number % 10 == 5 {
        let mut reaction = common("reaction", &format!("r-{number}"));
        reaction["target"] = target.clone();
        reaction["reaction"] = json!("👍");
        lines.push(reaction);
    }
    if number % 20 == 7 {
        let mut redaction = common("redaction", &format!("x-{number}"));
        redaction["target"] = target;
        lines.push(redaction);
    }
    lines
}

/// Runs a command of the binary to its end; returns how it ended and what it printed.
async fn run(arguments: &[&str], folder: &Path, crash_at: Option<&str>) -> (Exit, String) {
    let mut command = Command::new(binary());
    command
        .args(arguments)
        .arg("--data-folder")
        .arg(folder)
        .kill_on_drop(true);
    command.env_remove("STONECHAT_CRASH_AT");
    if let Some(point) = crash_at {
        command.env("STONECHAT_CRASH_AT", point);
    }
    let output = command.output().await.expect("the binary runs");
    let exit = output.status.code().map_or(Exit::Signal, Exit::Code);
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(
        matches!(exit, Exit::Signal | Exit::Code(0)),
        "{arguments:?} {exit:?}: {told}"
    );
    (exit, String::from_utf8_lossy(&output.stdout).into_owned())
}

#[tokio::test]
async fn an_import_killed_anywhere_and_run_again_ends_as_one_that_was_not() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("conversations.jsonl");
    std::fs::write(&path, file()).expect("a file");
    let import = ["import", path.to_str().expect("a path in UTF-8")];
    let whole = folder.path().join("whole");
    assert_eq!(run(&import, &whole, None).await.0, Exit::Code(0));
    let wanted = run(&["export"], &whole, None).await.1;
    assert_eq!(wanted.matches("\"type\":\"message\"").count(), 2 * MESSAGES);
    for point in DEATHS {
        let broken = folder.path().join(point.replace([':', '.'], "-"));
        assert_eq!(
            run(&import, &broken, Some(point)).await.0,
            Exit::Signal,
            "{point} was not passed"
        );
        assert_eq!(run(&import, &broken, None).await.0, Exit::Code(0));
        let found = run(&["export"], &broken, None).await.1;
        assert_eq!(found, wanted, "after a death at {point}");
    }
}
