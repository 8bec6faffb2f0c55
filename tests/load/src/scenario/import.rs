//! Import of conversations, against the rate at which the store itself commits as large groups.

use std::io::Write;
use std::path::Path;
use std::process::Stdio;

use stonechat_server::domain::ConversationId;
use tokio::process::Command;

use super::Context;
use crate::{Outcome, store};

/// Users, and conversations, of the file.
const CONVERSATIONS: u64 = 100;

pub(super) async fn run(context: &mut Context) -> Outcome<()> {
    let lines = context.size(200_000, 2_000);
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("import.jsonl");
    write(&file, lines)?;
    let begun = stonechat_host::monotonic();
    let mut command = Command::new(&context.binary);
    command
        .arg("import")
        .arg(&file)
        .arg("--data-folder")
        .arg(folder.path().join("imported"));
    let status = command.stdout(Stdio::null()).stderr(Stdio::null()).status().await?;
    if !status.success() {
        return Err(format!("import ended with {status}").into());
    }
    let own = lines as f64 / begun.elapsed().as_secs_f64();
    let took = store::append(&folder.path().join("store"), ConversationId([1; 16]), "bench", lines).await?;
    let row = context
        .report
        .row("import", "lines beside the store's own appends", "1/s", own);
    row.beside(lines as f64 / took).target("≥ 0.5 ×, then 0.8");
    Ok(())
}

fn write(file: &Path, lines: u64) -> Outcome<()> {
    let mut out = std::io::BufWriter::new(std::fs::File::create(file)?);
    for user in 0..=CONVERSATIONS {
        writeln!(out, r#"{{"type":"user","id":"user{user}"}}"#)?;
    }
    for number in 0..CONVERSATIONS {
        let other = format!(r#"{{"user":"user{}","role":"member"}}"#, number + 1);
        writeln!(
            out,
            r#"{{"type":"conversation","id":"c{number}","kind":"group","name":"Bench","user":"user{number}","members":[{other}],"time":1}}"#
        )?;
    }
    for line in 0..lines {
        let number = line % CONVERSATIONS;
        writeln!(
            out,
            r#"{{"type":"message","id":"m{line}","conversation":"c{number}","user":"user{number}","device":"phone","time":{line},"text":"{line:<100}"}}"#
        )?;
    }
    Ok(out.flush()?)
}
