//! Small files that must never be seen half written, and are never read beyond a bound.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Writes `bytes` to `path` so that a reader sees the old content or the new, also after a power cut.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> io::Result<()> {
    static WRITES: AtomicU64 = AtomicU64::new(0);
    let mut name = path.file_name().unwrap_or_default().to_owned();
    // Others may write the same file at the same time, in this process too: each has its own fresh one.
    name.push(format!(
        ".new-{}-{}",
        std::process::id(),
        WRITES.fetch_add(1, Ordering::Relaxed)
    ));
    let fresh = path.with_file_name(name);
    let mut file = File::create(&fresh)?;
    file.write_all(bytes)?;
    file.sync_data()?;
    fs::rename(&fresh, path)
}

/// Writes a value as JSON, see [`write_atomically`].
pub fn write_json<V: Serialize>(path: &Path, value: &V) -> io::Result<()> {
    write_atomically(path, &serde_json::to_vec_pretty(value)?)
}

/// Reads a value from JSON. `None` when there is no such file.
pub fn read_json<V: DeserializeOwned>(path: &Path, bytes_max: u64) -> io::Result<Option<V>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut bytes = Vec::new();
    file.take(bytes_max + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > bytes_max {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("{} is longer than {bytes_max} bytes", path.display()),
        ));
    }
    Ok(Some(serde_json::from_slice(&bytes)?))
}

/// Removes a file or a folder with all that is in it; that it is not there is as good.
pub fn remove(path: &Path) -> io::Result<()> {
    let done = match fs::symlink_metadata(path) {
        Ok(facts) if facts.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match done {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_over_the_bound_is_refused_and_a_missing_one_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("value");
        assert_eq!(read_json::<String>(&path, 10).unwrap(), None);
        write_json(&path, &"0123456789").unwrap();
        assert!(read_json::<String>(&path, 10).is_err());
        assert_eq!(
            read_json::<String>(&path, 12).unwrap().as_deref(),
            Some("0123456789")
        );
    }
}
