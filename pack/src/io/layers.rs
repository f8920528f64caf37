//! Trees made of layers: each step of a build writes one, and the next sees all below it (overlayfs).
//!
//! ```text
//! CACHE/layers/KEY/{diff,bytes}    what one step changed, for good
//! CACHE/tmp/RANDOM/{l/,up,work,merged}    one build at work; emptied at each open
//! ```
//! A build runs on a thread of its own with a private mount namespace ([`alone`]): its mounts are seen by nobody
//! else and vanish with the thread, however it ends. Paths in mount options are relative to the build's folder,
//! since a thread with its own namespace has its own working directory too; so they stay short and hold nothing
//! that would need escaping.

use crate::image::Digest;
use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_change, unmount};
use rustix::thread::UnshareFlags;
use std::ffi::CString;
use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};

/// Bytes of layers that stay in the cache; the longest unused go first.
pub(super) const LAYERS_BYTES_MAX: u64 = 20 * 1024 * 1024 * 1024;

/// Runs `work` on a thread whose mounts are its own.
pub(super) fn alone<T: Send, E: From<io::Error> + Send>(
    work: impl FnOnce() -> Result<T, E> + Send,
) -> Result<T, E> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new()
            .name("build".into())
            .spawn_scoped(scope, || {
                unshare(UnshareFlags::NEWNS | UnshareFlags::FS)?;
                let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
                mount_change("/", private).map_err(io::Error::from)?;
                work()
            })?;
        thread
            .join()
            .unwrap_or_else(|_| Err(io::Error::other("the build's thread broke").into()))
    })
}

/// Runs `work` on a thread for which `root` is `/`: no symlink in the tree leads out of it.
pub(super) fn inside<T: Send>(root: &Path, work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new()
            .name("edit".into())
            .spawn_scoped(scope, || {
                let host = fs::metadata("/")?;
                unshare(UnshareFlags::FS)?;
                rustix::process::chdir(root)?;
                rustix::process::chroot(".")?;
                // What follows writes to /etc/passwd and the like: make sure whose that is before anything else.
                let tree = fs::metadata("/")?;
                if (tree.dev(), tree.ino()) == (host.dev(), host.ino()) {
                    return Err(io::Error::other(
                        "the builder would have changed its own host; it changed nothing",
                    ));
                }
                rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
                work()
            })?;
        thread
            .join()
            .unwrap_or_else(|_| Err(io::Error::other("the edit's thread broke")))
    })
}

fn unshare(flags: UnshareFlags) -> io::Result<()> {
    // SAFETY: FILES is not among the flags, so no descriptor changes its meaning for anyone.
    #[allow(unsafe_code)]
    unsafe {
        rustix::thread::unshare_unsafe(flags)?;
    }
    Ok(())
}

/// The layers in the cache.
pub(super) struct Layers {
    pub(super) folder: PathBuf,
}

impl Layers {
    fn path(&self, key: &Digest) -> PathBuf {
        self.folder.join(key.to_string())
    }

    /// The tree of a layer, if it is there; it counts as used now.
    pub(super) fn find(&self, key: &Digest) -> Option<PathBuf> {
        let path = self.path(key);
        let bytes = path.join("bytes");
        if !bytes.exists() {
            return None;
        }
        touch(&bytes);
        Some(path.join("diff"))
    }

    /// Keeps `upper` as the layer of `key`.
    fn keep(&self, key: &Digest, upper: &Path, scratch: &Path) -> io::Result<PathBuf> {
        let made = scratch.join("made");
        fs::create_dir(&made)?;
        fs::rename(upper, made.join("diff"))?;
        let bytes = Extent::of(&made.join("diff"))?.bytes;
        fs::write(made.join("bytes"), bytes.to_string())?;
        // A layer that a power cut emptied must not be taken for whole: to the disk first, then to its name.
        rustix::fs::syncfs(fs::File::open(&made)?)?;
        let path = self.path(key);
        if path.exists() {
            remove_tree(&path)?;
        }
        fs::rename(&made, &path)?;
        Ok(path.join("diff"))
    }

    /// Removes the longest unused layers beyond the bound.
    pub(super) fn prune(&self, bytes_max: u64) -> io::Result<()> {
        let mut all = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let path = entry?.path();
            let Ok(meta) = path.join("bytes").metadata() else {
                remove_tree(&path)?;
                continue;
            };
            let bytes: u64 = fs::read_to_string(path.join("bytes"))?.parse().unwrap_or(0);
            all.push((meta.mtime(), bytes, path));
        }
        all.sort();
        let mut total: u64 = all.iter().map(|(_, bytes, _)| bytes).sum();
        for (_, bytes, path) in all {
            if total <= bytes_max {
                break;
            }
            remove_tree(&path)?;
            total -= bytes;
        }
        Ok(())
    }
}

/// Marks a file as used now.
pub(super) fn touch(path: &Path) {
    // Only the order of eviction hangs on it.
    let _ = fs::File::open(path).and_then(|file| file.set_modified(std::time::SystemTime::now()));
}

/// What a tree holds. A RUN may have made anything, so the walk is bounded in every way.
#[derive(Default)]
pub(super) struct Extent {
    pub(super) entries: u64,
    /// On disk.
    pub(super) bytes: u64,
    /// Blocks of an ext4 disk that hold it.
    pub(super) blocks: u64,
}

/// Bytes of a block of the disks that we make.
pub(super) const BLOCK_BYTES: u64 = 4096;
/// Most files, directories and symlinks in an image.
const ENTRIES_MAX: u64 = 2_000_000;
/// Most directories inside one another; a walk goes down by recursion.
const DEPTH_MAX: usize = 256;

impl Extent {
    /// Walks the tree at `path`, symlinks not followed.
    pub(super) fn of(path: &Path) -> io::Result<Extent> {
        let mut extent = Extent::default();
        extent.add(path, 0)?;
        Ok(extent)
    }

    fn add(&mut self, path: &Path, depth: usize) -> io::Result<()> {
        if depth > DEPTH_MAX {
            return Err(io::Error::other(format!(
                "more than {DEPTH_MAX} directories lie inside one another"
            )));
        }
        let meta = path.symlink_metadata()?;
        self.entries += 1;
        if self.entries > ENTRIES_MAX {
            return Err(io::Error::other(format!(
                "the tree has more than {ENTRIES_MAX} files"
            )));
        }
        self.bytes += meta.blocks() * 512;
        // One block more than the bytes ask for: for the extent tree of a large file, or for attributes.
        self.blocks += meta.len().min(meta.blocks() * 512).div_ceil(BLOCK_BYTES) + 1;
        if meta.is_dir() {
            self.blocks += meta.len() / BLOCK_BYTES;
            for entry in fs::read_dir(path)? {
                self.add(&entry?.path(), depth + 1)?;
            }
        }
        Ok(())
    }
}

/// Removes a tree that a step may have made hostile. Nested deeply enough, it would use up the descriptors of a
/// removal by recursion and stay for ever; rm bears any depth.
pub(super) fn remove_tree(path: &Path) -> io::Result<()> {
    if path.symlink_metadata().is_err() {
        return Ok(());
    }
    let status = std::process::Command::new("rm")
        .args(["-rf", "--one-file-system", "--"])
        .arg(path)
        .status()?;
    if status.success() {
        Ok(())
    } else {
        Err(io::Error::other(format!(
            "cannot remove {}: rm failed with {status}",
            path.display()
        )))
    }
}

/// The tree of one build as it grows. Only for a thread made by [`alone`].
pub(super) struct Stack<'a> {
    layers: &'a Layers,
    /// The build's own folder; the thread works in it.
    scratch: PathBuf,
    /// How many layers lie on one another, the base being one.
    height: usize,
    mounted: bool,
}

impl<'a> Stack<'a> {
    /// Begins with `base`. `scratch` is empty and on the file system of the layers.
    pub(super) fn new(layers: &'a Layers, scratch: PathBuf, base: &Path) -> io::Result<Self> {
        rustix::process::chdir(&scratch)?;
        for name in ["l", "merged"] {
            fs::create_dir(scratch.join(name))?;
        }
        let mut stack = Stack {
            layers,
            scratch,
            height: 0,
            mounted: false,
        };
        stack.push(base)?;
        Ok(stack)
    }

    /// Lays a finished tree on top.
    pub(super) fn push(&mut self, tree: &Path) -> io::Result<()> {
        symlink(tree, self.scratch.join("l").join(self.height.to_string()))?;
        self.height += 1;
        Ok(())
    }

    /// Where the whole tree is seen while it is mounted.
    pub(super) fn merged(&self) -> PathBuf {
        self.scratch.join("merged")
    }

    fn lowers(&self) -> String {
        (0..self.height)
            .rev()
            .map(|level| format!("l/{level}"))
            .collect::<Vec<_>>()
            .join(":")
    }

    /// Mounts the tree so far, with a new empty layer on top to write in.
    pub(super) fn open(&mut self) -> io::Result<()> {
        for name in ["up", "work"] {
            let path = self.scratch.join(name);
            if path.exists() {
                remove_tree(&path)?;
            }
            fs::create_dir(&path)?;
        }
        // The layer's root becomes the tree's root: give it the root's mode, not that of our umask.
        fs::set_permissions(
            self.scratch.join("up"),
            std::os::unix::fs::PermissionsExt::from_mode(0o755),
        )?;
        self.mount(&format!("lowerdir={},upperdir=up,workdir=work", self.lowers()))
    }

    /// Mounts the tree so far, for reading.
    pub(super) fn open_read_only(&mut self) -> io::Result<()> {
        // A single lower layer is no overlay; an empty one below it changes nothing.
        fs::create_dir_all(self.scratch.join("l").join("none"))?;
        self.mount(&format!("lowerdir={}:l/none", self.lowers()))
    }

    fn mount(&mut self, options: &str) -> io::Result<()> {
        let options = CString::new(options).map_err(io::Error::other)?;
        mount("overlay", "merged", "overlay", MountFlags::empty(), Some(options.as_c_str())).map_err(|error| {
            let why = match error {
                rustix::io::Errno::INVAL => {
                    "; the cache must lie on a file system that overlayfs can write to (ext4, xfs, btrfs, tmpfs)"
                }
                rustix::io::Errno::PERM => "; building needs root",
                rustix::io::Errno::NODEV => "; this kernel has no overlayfs",
                _ => "",
            };
            io::Error::other(format!("cannot mount the layers: {error}{why}"))
        })?;
        self.mounted = true;
        Ok(())
    }

    pub(super) fn close(&mut self) -> io::Result<()> {
        if std::mem::take(&mut self.mounted) {
            unmount("merged", UnmountFlags::empty())?;
        }
        Ok(())
    }

    /// Ends a step that went well: its layer is kept under `key` and lies on top from now on.
    pub(super) fn commit(&mut self, key: &Digest) -> io::Result<()> {
        self.close()?;
        let tree = self.layers.keep(key, &self.scratch.join("up"), &self.scratch)?;
        self.push(&tree)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_edit_of_the_hosts_own_root_is_refused() {
        if !rustix::process::geteuid().is_root() {
            eprintln!("NOT RUN: an_edit_of_the_hosts_own_root_is_refused: it needs root");
            return;
        }
        let error = inside(Path::new("/"), || Ok(())).expect_err("that is the host");
        assert!(error.to_string().contains("its own host"), "{error}");
        let folder = tempfile::TempDir::new().expect("a folder");
        fs::write(folder.path().join("here"), "").expect("a file");
        let seen = inside(folder.path(), || {
            Ok(Path::new("/here").exists() && !Path::new("/etc").exists())
        });
        assert!(seen.expect("that is a tree"));
    }
}
