//! A tree as an ext4 disk, as small as its content and the same for the same tree.
//!
//! Not here: what is in the tree, and the bytes of ext4 (`ext4.rs`). The disk has no journal and no free space:
//! it is only ever mounted read-only, under the layer that an instance writes to.

use super::layers::{BLOCK_BYTES, Extent};
use super::sandbox::{self, RunError, World};
use super::steplog::StepLog;
use crate::ext4::{self, EPOCH, FEATURES, Layout, LayoutError};
use crate::image::BLOB_BYTES_MAX;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;

const INODE_BYTES: u64 = 256;
/// Any will do, as long as it never changes: directories are ordered by it.
const HASH_SEED: &str = "6d1cb7f0-6f0c-4d0e-9d8c-0f0b1d6a2e11";
const DISK_UUID: &str = "f0a3a1de-2d9b-4a6b-8a55-7b1f6f726d31";
const MKFS_MS_MAX: u64 = 10 * 60 * 1000;

/// Why a disk could not be made.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// A tool failed.
    #[error("{tool} failed: {source}")]
    Tool {
        /// Which.
        tool: &'static str,
        /// How.
        source: RunError,
    },
    /// The tree is larger than an image may be.
    #[error("the image has {0} bytes; at most {BLOB_BYTES_MAX} are kept")]
    TooLarge(u64),
    /// The tool made a disk that we did not ask for.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// The disk said no.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Makes the disk `into` from the tree `root`. Times from `made_from` on are the build's own.
pub(super) fn make(root: &Path, into: &Path, made_from: u32, log: &mut StepLog<'_>) -> Result<(), DiskError> {
    let need = Extent::of(root)?;
    let inodes = need.entries + 64;
    // Generous: what is not needed is cut off below, and a sparse file costs nothing.
    let blocks = need.blocks + need.blocks / 50 + inodes * INODE_BYTES / BLOCK_BYTES + 4096;
    if blocks * BLOCK_BYTES > BLOB_BYTES_MAX {
        return Err(DiskError::TooLarge(blocks * BLOCK_BYTES));
    }
    let mut command = tool("mke2fs");
    command
        .args([
            "-q", "-t", "ext4", "-F", "-b", "4096", "-I", "256", "-m", "0", "-O", FEATURES, "-U", DISK_UUID,
        ])
        .args(["-N", &inodes.to_string()])
        .arg("-E")
        .arg(format!(
            "hash_seed={HASH_SEED},root_owner=0:0,lazy_itable_init=0,nodiscard"
        ))
        .arg("-d")
        .arg(root)
        .arg(into)
        .arg(blocks.to_string());
    run(command, "mke2fs", log)?;
    let mut command = tool("resize2fs");
    command.args(["-f", "-M"]).arg(into);
    run(command, "resize2fs", log)?;
    let file = File::options().read(true).write(true).open(into)?;
    settle(&file, made_from)?;
    file.sync_all()?;
    fs::set_permissions(into, std::os::unix::fs::PermissionsExt::from_mode(0o444))?;
    Ok(())
}

/// A tool of e2fsprogs, deaf to the host's configuration and clock.
fn tool(name: &str) -> Command {
    let mut command = Command::new(name);
    command
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .env("MKE2FS_CONFIG", "/dev/null")
        .env("E2FSPROGS_FAKE_TIME", EPOCH.to_string());
    command
}

fn run(command: Command, tool: &'static str, log: &mut StepLog<'_>) -> Result<(), DiskError> {
    sandbox::run(command, &World::Host, MKFS_MS_MAX, log).map_err(|source| DiskError::Tool { tool, source })
}

fn settle(file: &File, made_from: u32) -> Result<(), DiskError> {
    let read = |range: &std::ops::Range<u64>| -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; (range.end - range.start) as usize];
        file.read_exact_at(&mut bytes, range.start)?;
        Ok(bytes)
    };
    let layout = Layout::read(&read(&ext4::SUPERBLOCK)?)?;
    for table in layout.inode_tables(&read(&layout.descriptors())?) {
        let mut bytes = read(&table)?;
        ext4::settle_times(&mut bytes, made_from);
        file.write_all_at(&bytes, table.start)?;
    }
    Ok(())
}
