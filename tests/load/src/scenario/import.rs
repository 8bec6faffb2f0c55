//! Import of conversations, against the rate at which the store itself commits as large groups.

use std::io::Write;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use stonechat_server::domain::ConversationId;
use tokio::process::Command;

use super::Context;
use super::idle::mib;
use crate::report::{Plot, Series};
use crate::{Outcome, store};

/// Between two looks at what has been written.
const LOOK_EVERY: Duration = Duration::from_millis(100);
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
    let mut grown = Vec::new();
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    let status = loop {
        tokio::select! { biased;
            status = child.wait() => break status?,
            () = tokio::time::sleep(LOOK_EVERY) => {
                let bytes = size_of(&folder.path().join("imported"));
                grown.push((begun.elapsed().as_secs_f64(), mib(bytes)));
            }
        }
    };
    if !status.success() {
        return Err(format!("import ended with {status}").into());
    }
    let own = lines as f64 / begun.elapsed().as_secs_f64();
    let took = store::append(&folder.path().join("store"), ConversationId([1; 16]), "bench", lines).await?;
    let row = context
        .report
        .row("import", "lines beside the store's own appends", "1/s", own);
    row.beside(lines as f64 / took).target("≥ 0.5 ×, then 0.8");
    context.report.plots.push(Plot {
        title: "import: size of the data folder".to_owned(),
        x: "seconds",
        y: "MiB",
        series: vec![Series {
            name: "import".to_owned(),
            points: grown,
        }],
    });
    Ok(())
}

/// Bytes of all files under a folder; of one that changes meanwhile, about.
fn size_of(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.metadata() {
            Ok(about) if about.is_dir() => size_of(&entry.path()),
            Ok(about) => about.len(),
            Err(_) => 0,
        })
        .sum()
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
