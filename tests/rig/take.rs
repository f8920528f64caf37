//! Brings files back from the rig: each on a disk of its own, to whose start `tar` writes.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

use crate::request::Copy;
use crate::root::quoted;

/// Size of such a disk. It takes room on this host only as it is written to.
const DISK_BYTES: u64 = 4 << 30;

/// A disk for one file or folder.
pub(crate) struct Disk {
    file: File,
    /// Its last name in the rig.
    name: String,
    wanted: Copy,
}

impl Disk {
    /// An empty one, in a file without a name.
    pub(crate) fn new(wanted: &Copy) -> Result<Self> {
        let (_, name) = place(&wanted.from);
        ensure!(!name.is_empty(), "--get cannot bring back `{}`", wanted.from);
        let file = tempfile::tempfile().context("making a disk")?;
        file.set_len(DISK_BYTES).context("making a disk")?;
        Ok(Self { file, name: name.to_owned(), wanted: wanted.clone() })
    }

    /// For QEMU to open.
    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// Puts what came to its place on this host: a file replaces a file; a folder must be new or empty.
    pub(crate) fn take(self) -> Result<()> {
        let to = std::path::absolute(&self.wanted.to).with_context(|| format!("finding {}", self.wanted.to))?;
        let above: &Path = to.parent().context("--get to /")?;
        // Beside its place, so that a rename brings it there.
        let work = tempfile::Builder::new().prefix(".rig-").tempdir_in(above);
        let work = work.with_context(|| format!("making a folder in {}", above.display()))?;
        let output = Command::new("tar")
            .args(["--extract", "--no-same-owner", "--file=-"])
            .arg("--directory")
            .arg(work.path())
            .stdin(self.file)
            .stdout(Stdio::null())
            .output()
            .context("starting tar")?;
        let came: PathBuf = work.path().join(&self.name);
        if !output.status.success() || fs::symlink_metadata(&came).is_err() {
            let limit_mib = DISK_BYTES >> 20;
            bail!("{} did not come back: it is not there or larger than {limit_mib} MiB", self.wanted.from);
        }
        fs::rename(&came, &to).with_context(|| format!("putting {} to {}", self.wanted.from, to.display()))
    }
}

/// Shell lines with which the rig writes each to its disk.
pub(crate) fn script(wanted: &[Copy]) -> String {
    let disks = (b'a'..=b'z').map(char::from);
    let lines = wanted.iter().zip(disks).map(|(copy, disk)| {
        let (folder, name) = place(&copy.from);
        let (folder, name) = (quoted(&format!("{folder}/")), quoted(name));
        format!("tar -c -f /dev/vd{disk} -C {folder} {name}\n")
    });
    lines.collect()
}

/// A path's folder and its last name.
fn place(path: &str) -> (&str, &str) {
    path.trim_end_matches('/').rsplit_once('/').unwrap_or_default()
}
