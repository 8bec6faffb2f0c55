//! The server's own secret: 32 random bytes in a file that only its owner may read.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use stonechat_host::Random;

use super::KeyError;
use crate::telemetry::Redacted;

/// Bytes of the secret: as many as the hash of HS256 gives (RFC 7518, 3.2, demands no less).
const SECRET_BYTES: usize = 32;
/// Name of the file in the data folder.
const FILE_NAME: &str = "secret.hs256";
/// Read and write for the owner, nothing for others.
const OWNER_ONLY: u32 = 0o600;

/// Signs and checks tokens with HS256.
#[derive(Debug, Clone)]
pub struct Secret(Redacted<[u8; SECRET_BYTES]>);

impl Secret {
    /// Of these bytes.
    #[must_use]
    pub fn from_bytes(bytes: [u8; SECRET_BYTES]) -> Self {
        Self(Redacted::new(bytes))
    }

    /// Reads the secret of a data folder, or makes it there at the first start.
    ///
    /// # Errors
    /// The file cannot be read or written, is malformed, or others may read it.
    pub fn load_or_create(data_folder: &Path, random: &dyn Random) -> Result<Self, KeyError> {
        let path = data_folder.join(FILE_NAME);
        match File::open(&path) {
            Ok(file) => read(&path, &file),
            Err(error) if error.kind() == io::ErrorKind::NotFound => create(&path, random),
            Err(error) => Err(KeyError::file(&path)(error)),
        }
    }

    /// Reads the secret of a data folder; never makes one.
    ///
    /// # Errors
    /// The file is not there, cannot be read, is malformed, or others may read it.
    pub fn load(data_folder: &Path) -> Result<Self, KeyError> {
        let path = data_folder.join(FILE_NAME);
        let file = File::open(&path).map_err(KeyError::file(&path))?;
        read(&path, &file)
    }

    pub(super) fn bytes(&self) -> &[u8] {
        self.0.expose()
    }
}

fn read(path: &Path, file: &File) -> Result<Secret, KeyError> {
    let mode = file.metadata().map_err(KeyError::file(path))?.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(KeyError::Exposed {
            path: path.to_owned(),
            mode,
        });
    }
    // Two digits a byte and a line end; one more shows that the file is too long.
    let mut text = String::new();
    let limit = 2 * SECRET_BYTES as u64 + 3;
    io::Read::read_to_string(&mut io::Read::take(file, limit), &mut text).map_err(KeyError::file(path))?;
    let malformed = || KeyError::malformed(path, format!("{} hex digits are wanted", 2 * SECRET_BYTES));
    decode(text.strip_suffix('\n').unwrap_or(&text))
        .map(Secret::from_bytes)
        .ok_or_else(malformed)
}

fn decode(text: &str) -> Option<[u8; SECRET_BYTES]> {
    if text.len() != 2 * SECRET_BYTES || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let mut bytes = [0; SECRET_BYTES];
    for (byte, at) in bytes.iter_mut().zip((0..text.len()).step_by(2)) {
        *byte = u8::from_str_radix(&text[at..at + 2], 16).ok()?;
    }
    Some(bytes)
}

/// Written aside and renamed: a crash leaves either no secret or a whole one.
fn create(path: &Path, random: &dyn Random) -> Result<Secret, KeyError> {
    let mut bytes = [0; SECRET_BYTES];
    random.fill(&mut bytes);
    write(path, &bytes).map_err(KeyError::file(path))?;
    tracing::info!(path = %path.display(), "made a new secret for tokens");
    Ok(Secret::from_bytes(bytes))
}

fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let aside = path.with_extension("new");
    match fs::remove_file(&aside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(OWNER_ONLY)
        .open(&aside)?;
    let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    writeln!(file, "{digits}")?;
    file.sync_all()?;
    fs::rename(&aside, path)?;
    match path.parent() {
        Some(folder) => File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}
