//! `stonechat export`: writes all conversations of a data folder as JSON Lines.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;

use clap::Args;
use stonechat_host::Host;

use super::failure::Failure;
use super::folder::must_be_there;
use super::import::FolderFlags;
use crate::conversation::{Conversations, Limits};
use crate::node::Grounds;
use crate::transfer;

/// Arguments of `export`.
#[derive(Debug, Args)]
pub(super) struct ExportArgs {
    /// File to write; it must not exist [default: standard output]
    file: Option<PathBuf>,
    #[command(flatten)]
    folder: FolderFlags,
}

pub(super) async fn run(args: ExportArgs) -> Result<(), Failure> {
    let settings = args.folder.settings()?;
    must_be_there(&settings, "exported")?;
    let mut output = open(args.file.as_ref())?;
    let host = Host::system();
    let backends = Grounds::open(&settings, &host).await?.backends;
    // A crash may have left the directory behind the logs.
    let conversations = Conversations::new(backends.clone(), host, Limits::unpaced());
    conversations.recover().await?;
    conversations.drain().await;
    let lines = transfer::export(&backends, &mut output).await;
    let lines = lines.map_err(|error| Failure::refused(format!("the export is incomplete: {error}")))?;
    eprintln!("{lines} lines");
    Ok(())
}

fn open(path: Option<&PathBuf>) -> Result<Box<dyn Write + Send>, Failure> {
    let Some(path) = path else {
        return Ok(Box::new(BufWriter::new(io::stdout())));
    };
    let file = File::create_new(path);
    let file = file.map_err(|error| Failure::refused(format!("nothing exported: {}: {error}", path.display())))?;
    Ok(Box::new(BufWriter::new(file)))
}
