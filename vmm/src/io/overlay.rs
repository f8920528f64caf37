//! A machine's own disk: a sparse file with an ext4 file system, over which init lays the image.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::Path;
use std::process::{Command, Stdio};

use super::files;

const GIB: u64 = 1 << 30;

/// Why a machine got no disk.
#[derive(Debug, thiserror::Error)]
pub enum OverlayError {
    /// A disk keeps what was written to it, so it can grow but not shrink.
    #[error("the disk has {has_gib} GiB and cannot shrink to {asked_gib} GiB; ask for {has_gib} GiB or more")]
    Shrinks {
        /// What it has.
        has_gib: u64,
        /// What was asked for.
        asked_gib: u16,
    },
    /// The host could not make it.
    #[error("the disk file cannot be made: {0}")]
    File(#[from] io::Error),
    /// `mkfs.ext4` failed.
    #[error("mkfs.ext4 failed ({0}); is the package e2fsprogs installed, and room on the disk?")]
    Format(String),
}

/// Makes the disk at `path`, or grows the one that is there (the guest's init then grows its file system).
/// Blocks for some tens of milliseconds.
pub fn prepare(path: &Path, gib: u16) -> Result<(), OverlayError> {
    let length = u64::from(gib) * GIB;
    match std::fs::metadata(path) {
        Ok(facts) if facts.len() > length => {
            return Err(OverlayError::Shrinks {
                has_gib: facts.len().div_ceil(GIB),
                asked_gib: gib,
            });
        }
        Ok(facts) => {
            if facts.len() < length {
                OpenOptions::new().write(true).open(path)?.set_len(length)?;
            }
            return Ok(());
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error.into()),
    }
    // Made beside its place and moved, so that no half-made disk is ever found.
    let fresh = path.with_extension("new");
    files::remove(&fresh)?;
    File::create(&fresh)?.set_len(length)?;
    let done = Command::new("mkfs.ext4")
        .args([
            "-q",
            "-F",
            "-m",
            "0",
            "-E",
            "lazy_itable_init=1,lazy_journal_init=1,nodiscard",
        ])
        .arg(&fresh)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| OverlayError::Format(error.to_string()))?;
    if !done.status.success() {
        return Err(OverlayError::Format(crate::guest::readable(
            &String::from_utf8_lossy(&done.stderr),
        )));
    }
    std::fs::rename(&fresh, path)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_grows_but_never_shrinks_and_keeps_its_content() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("disk.ext4");
        match prepare(&path, 2) {
            Err(OverlayError::Format(why)) if why.contains("No such file") => {
                eprintln!("SKIPPED a_disk_grows_but_never_shrinks: no mkfs.ext4 here");
                return;
            }
            made => made.unwrap(),
        }
        assert!(matches!(
            prepare(&path, 1),
            Err(OverlayError::Shrinks {
                has_gib: 2,
                asked_gib: 1
            })
        ));
        let head = |path: &Path| {
            use std::io::Read;
            let mut head = vec![0; 4096];
            File::open(path).unwrap().read_exact(&mut head).unwrap();
            head
        };
        let before = head(&path);
        prepare(&path, 3).unwrap();
        assert_eq!(before, head(&path));
        assert_eq!(std::fs::metadata(&path).unwrap().len(), 3 * GIB);
    }
}
