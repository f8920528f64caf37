//! The trees that builds begin with: Debian by mmdebstrap from the host's own sources, or nothing.
//!
//! ```text
//! CACHE/bases/NAME          the name of the folder in use
//! CACHE/bases/NAME-KEY/{root,made_from}
//! ```
//! A base is named by what it holds (the versions of its packages), so making it anew without a change upstream
//! keeps every layer that stands on it.

use super::build::BuildError;
use super::edits;
use super::layers::{inside, remove_tree};
use super::sandbox::{self, World};
use super::steplog::StepLog;
use crate::apt;
use crate::formfile::Base;
use crate::image::{Digest, DigestHasher, DigestKind};
use crate::plan::RECIPE_VERSION;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

/// A base older than this is made anew, for its security fixes.
pub const BASE_AGE_MAX: Duration = Duration::from_secs(14 * 24 * 3600);
const MAKE_MS_MAX: u64 = 30 * 60 * 1000;

/// A tree to begin with.
#[derive(Clone, Debug)]
pub(super) struct BaseTree {
    pub(super) root: PathBuf,
    /// Of its content.
    pub(super) key: Digest,
    /// Files changed from this second on were changed by us.
    pub(super) made_from: u32,
    /// Whether it should be made anew.
    pub(super) stale: bool,
}

fn name(base: Base) -> &'static str {
    match base {
        Base::DebianBookworm => "debian-bookworm",
        Base::Scratch => "scratch",
    }
}

/// The base in the cache, if there is one.
pub(super) fn find(bases: &Path, base: Base) -> Option<BaseTree> {
    let folder = fs::read_to_string(bases.join(name(base))).ok()?;
    let key = folder.strip_prefix(name(base))?.strip_prefix('-')?.parse().ok()?;
    let folder = bases.join(&folder);
    let made_from = fs::read_to_string(folder.join("made_from")).ok()?.parse().ok()?;
    let age =
        SystemTime::now().duration_since(SystemTime::UNIX_EPOCH + Duration::from_secs(u64::from(made_from)));
    let stale = base != Base::Scratch && age.is_ok_and(|age| age > BASE_AGE_MAX);
    Some(BaseTree {
        root: folder.join("root"),
        key,
        made_from,
        stale,
    })
}

/// Makes a base and puts it in the place of the one before. `scratch` is an empty folder beside the cache.
pub(super) fn make(
    bases: &Path,
    base: Base,
    scratch: &Path,
    log: &mut StepLog<'_>,
) -> Result<BaseTree, BuildError> {
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs();
    let made = scratch.join("base");
    let root = made.join("root");
    fs::create_dir_all(&root)?;
    let key = match base {
        Base::Scratch => Digest::of(DigestKind::Tree, b"nothing"),
        Base::DebianBookworm => {
            debian(&root, scratch, log)?;
            inside(&root, edits::neutralise)?;
            content_key(&root)?
        }
    };
    fs::write(made.join("made_from"), (now as u32).to_string())?;
    rustix::fs::syncfs(fs::File::open(&made)?).map_err(io::Error::from)?;
    let folder = format!("{}-{key}", name(base));
    let place = bases.join(&folder);
    if place.exists() {
        remove_tree(&place)?;
    }
    fs::rename(&made, &place)?;
    let pointer = scratch.join("pointer");
    fs::write(&pointer, &folder)?;
    fs::rename(&pointer, bases.join(name(base)))?;
    for entry in fs::read_dir(bases)? {
        let entry = entry?;
        let old = entry
            .file_name()
            .to_string_lossy()
            .starts_with(&format!("{}-", name(base)));
        if old && entry.file_name().to_string_lossy() != folder {
            remove_tree(&entry.path())?;
        }
    }
    find(bases, base).ok_or_else(|| BuildError::Host(io::Error::other("the base vanished from the cache")))
}

fn content_key(root: &Path) -> io::Result<Digest> {
    let mut hasher = DigestHasher::new(DigestKind::Tree);
    hasher.part(&RECIPE_VERSION.to_le_bytes());
    hasher.field(std::env::consts::ARCH.as_bytes());
    hasher.field(&fs::read(root.join("var/lib/dpkg/status"))?);
    Ok(hasher.finish())
}

fn debian(root: &Path, scratch: &Path, log: &mut StepLog<'_>) -> Result<(), BuildError> {
    let mut sources = Vec::new();
    let (list, stanzas) = host_sources()?;
    for (file, text) in [
        ("debian.list", list.join("\n")),
        ("debian.sources", stanzas.join("\n\n")),
    ] {
        if !text.is_empty() {
            let path = scratch.join(file);
            fs::write(&path, text + "\n")?;
            sources.push(path);
        }
    }
    if sources.is_empty() {
        return Err(BuildError::NoSources);
    }
    let secure = list.iter().chain(&stanzas).any(|text| text.contains("https://"));
    let mut command = Command::new("mmdebstrap");
    command
        .env("TMPDIR", scratch)
        .env("SOURCE_DATE_EPOCH", crate::ext4::EPOCH.to_string())
        .args(["--mode=root", "--variant=minbase", "--format=directory"])
        .args([
            "--dpkgopt=force-unsafe-io",
            "--dpkgopt=path-exclude=/usr/share/man/*",
            "--dpkgopt=path-exclude=/usr/share/locale/*",
            "--dpkgopt=path-include=/usr/share/locale/locale.alias",
            "--dpkgopt=path-exclude=/usr/share/doc/*",
            "--dpkgopt=path-include=/usr/share/doc/*/copyright",
        ])
        .args(host_settings().into_iter().map(|setting| {
            let (name, value) = setting.split_once('=').unwrap_or((&setting, ""));
            format!("--aptopt={name} \"{value}\"")
        }));
    if secure {
        // apt inside of the tree could not check its mirror otherwise.
        command.arg("--include=ca-certificates");
    }
    command.arg(apt::SUITE).arg(root).args(sources);
    sandbox::run(command, &World::Host, MAKE_MS_MAX, log).map_err(|why| BuildError::Base {
        base: name(Base::DebianBookworm),
        why,
        tail: log.tail(),
    })
}

/// The host's sources that a base can use: one-line entries and stanzas.
fn host_sources() -> io::Result<(Vec<String>, Vec<String>)> {
    let mut lists = vec![PathBuf::from("/etc/apt/sources.list")];
    let mut sources = Vec::new();
    if let Ok(entries) = fs::read_dir("/etc/apt/sources.list.d") {
        for entry in entries {
            let path = entry?.path();
            match path.extension().and_then(|extension| extension.to_str()) {
                Some("list") => lists.push(path),
                Some("sources") => sources.push(path),
                _ => {}
            }
        }
    }
    lists.sort();
    sources.sort();
    let read = |path: &PathBuf| fs::read_to_string(path).unwrap_or_default();
    Ok((
        lists
            .iter()
            .flat_map(|path| apt::list_lines(&read(path)))
            .collect(),
        sources
            .iter()
            .flat_map(|path| apt::stanzas(&read(path)))
            .collect(),
    ))
}

/// How the host's apt reaches its mirrors. Without apt there are no settings.
pub(super) fn host_settings() -> Vec<String> {
    let output = Command::new("apt-config")
        .args(["dump", "--format", "%F=%v%n", "Acquire"])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output();
    output.map_or_else(
        |_| Vec::new(),
        |output| apt::settings(&String::from_utf8_lossy(&output.stdout)),
    )
}
