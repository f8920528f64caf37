//! INSTALL: apt-get inside of the tree, with the lists and packages of a cache beside it.
//!
//! The cache is shared by all builds, so only a tree that holds nothing but Debian's own packages may write to
//! it; once a RUN or COPY has been there, apt works on a throw-away copy of the cache (an overlay).

use super::base::host_settings;
use super::layers::remove_tree;
use super::sandbox::{self, Bind, RunError, STEP_MS_MAX, World};
use super::steplog::StepLog;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use std::ffi::CString;
use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

/// Lists older than this are fetched anew.
const LISTS_AGE_MAX: Duration = Duration::from_secs(6 * 3600);
/// Bytes of packages that stay in the cache.
const ARCHIVES_BYTES_MAX: u64 = 2 * 1024 * 1024 * 1024;

/// The variables of every program in a build.
pub(super) fn environment() -> Vec<(String, String)> {
    let mut all: Vec<(String, String)> = [
        (
            "PATH",
            "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        ),
        ("HOME", "/root"),
        ("LANG", "C.UTF-8"),
        ("DEBIAN_FRONTEND", "noninteractive"),
    ]
    .map(|(key, value)| (key.to_string(), value.to_string()))
    .to_vec();
    all.push(("SOURCE_DATE_EPOCH".into(), crate::ext4::EPOCH.to_string()));
    for key in [
        "http_proxy",
        "https_proxy",
        "no_proxy",
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "NO_PROXY",
    ] {
        // A proxy with a password in it is the host's secret; a stranger's RUN must not read it.
        if let Ok(value) = std::env::var(key)
            && !value.contains('@')
        {
            all.push((key.into(), value));
        }
    }
    all
}

/// Installs `packages` in the tree at `root`. Only for a build's own thread.
pub(super) fn run(
    root: &Path,
    cache: &Path,
    scratch: &Path,
    packages: &[String],
    shared: bool,
    log: &mut StepLog<'_>,
) -> Result<(), RunError> {
    if shared {
        return with_cache(root, cache, packages, log);
    }
    let folder = scratch.join("apt");
    let copy = Copy::mount(&folder, cache).map_err(RunError::Start)?;
    let result = with_cache(root, &copy.merged, packages, log);
    copy.unmount().map_err(RunError::Start)?;
    result
}

fn with_cache(root: &Path, cache: &Path, packages: &[String], log: &mut StepLog<'_>) -> Result<(), RunError> {
    let lists = cache.join("lists");
    let archives = cache.join("archives");
    let resolv = Path::new("/etc/resolv.conf");
    let mut binds = vec![
        Bind {
            source: &lists,
            target: "/var/lib/apt/lists",
            read_only: false,
        },
        Bind {
            source: &archives,
            target: "/var/cache/apt/archives",
            read_only: false,
        },
    ];
    if resolv.exists() {
        binds.push(Bind {
            source: resolv,
            target: "/etc/resolv.conf",
            read_only: true,
        });
    }
    let world = World::Tree {
        root,
        workdir: "/",
        binds: &binds,
    };
    let settings = host_settings();
    let apt = |words: &[&str], names: &[String], log: &mut StepLog<'_>| {
        let mut command = Command::new("/usr/bin/apt-get");
        command.env_clear().envs(environment()).args([
            "-q",
            "-o=Dpkg::Use-Pty=0",
            "-o=Dpkg::Options::=--force-unsafe-io",
            "-o=Dpkg::Options::=--force-confold",
            "-o=Dir::Cache::pkgcache=",
            "-o=Dir::Cache::srcpkgcache=",
            "-o=Acquire::Languages=none",
            "-o=APT::Keep-Downloaded-Packages=1",
            // The sandbox has the right to do this; the user _apt would have to own the cache.
            "-o=APT::Sandbox::User=root",
        ]);
        command
            .args(settings.iter().map(|setting| format!("-o={setting}")))
            .args(words)
            .args(names);
        sandbox::run(command, &world, STEP_MS_MAX, log)
    };
    let stamp = cache.join("updated");
    let age = stamp
        .metadata()
        .and_then(|meta| meta.modified())
        .ok()
        .and_then(|at| SystemTime::now().duration_since(at).ok());
    let known = age.is_some();
    let fresh = age.is_some_and(|age| age < LISTS_AGE_MAX);
    if !fresh {
        match apt(&["update"], &[], log) {
            Ok(()) => fs::write(&stamp, "").map_err(RunError::Start)?,
            Err(error) if known => {
                log.note(&format!(
                    "the package lists are old and could not be fetched: {error}"
                ));
            }
            Err(error) => return Err(error),
        }
    }
    let words = ["install", "--yes", "--no-install-recommends", "--"];
    match apt(&words, packages, log) {
        // A mirror drops old versions; lists from before still name them.
        Err(RunError::Status(_)) if fresh => {
            log.note("it failed with the package lists at hand; trying once more with new ones");
            apt(&["update"], &[], log)?;
            apt(&words, packages, log)
        }
        result => result,
    }
}

/// A throw-away copy of the cache.
struct Copy {
    merged: PathBuf,
}

impl Copy {
    fn mount(folder: &Path, cache: &Path) -> io::Result<Copy> {
        if folder.exists() {
            remove_tree(folder)?;
        }
        for name in ["up", "work", "merged"] {
            fs::create_dir_all(folder.join(name))?;
        }
        // A link, because a path in the mount's options must hold no colon and no comma. Paths in them are
        // relative to the thread's folder, to which we return.
        symlink(cache, folder.join("lower"))?;
        let before = rustix::fs::openat(
            rustix::fs::CWD,
            ".",
            rustix::fs::OFlags::PATH | rustix::fs::OFlags::CLOEXEC,
            rustix::fs::Mode::empty(),
        )?;
        rustix::process::chdir(folder)?;
        let options = CString::new("lowerdir=lower,upperdir=up,workdir=work").map_err(io::Error::other)?;
        let mounted = mount(
            "overlay",
            "merged",
            "overlay",
            MountFlags::empty(),
            Some(options.as_c_str()),
        );
        rustix::process::fchdir(before)?;
        mounted?;
        Ok(Copy {
            merged: folder.join("merged"),
        })
    }

    fn unmount(self) -> io::Result<()> {
        Ok(unmount(&self.merged, UnmountFlags::DETACH)?)
    }
}

/// Removes the oldest packages beyond the bound.
pub(super) fn prune(cache: &Path) -> io::Result<()> {
    let mut all = Vec::new();
    for entry in fs::read_dir(cache.join("archives"))? {
        let entry = entry?;
        let meta = entry.metadata()?;
        if meta.is_file() {
            all.push((meta.modified()?, meta.len(), entry.path()));
        }
    }
    all.sort();
    let mut total: u64 = all.iter().map(|(_, bytes, _)| bytes).sum();
    for (_, bytes, path) in all {
        if total <= ARCHIVES_BYTES_MAX {
            break;
        }
        fs::remove_file(path)?;
        total -= bytes;
    }
    Ok(())
}
