//! The context of a build as one archive: made from a directory by its owner, unpacked by a builder that trusts
//! nobody.
//!
//! Layout: `Formfile` first (canonical, without clear passwords), then `context/...` in the order of the
//! paths' bytes. No times, no owners, modes 644 or 755, so that the same files give the same bytes. The
//! unpacking accepts files, directories and symlinks of exactly this layout; all else in a tar is refused.

use crate::formfile::{self, Complaint, Formfile, Step};
use crate::formignore::{self, Ignore, IgnoreError};
use crate::image::{Digest, DigestHasher, DigestKind};
use std::collections::{BTreeMap, HashSet};
use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use tar::{EntryType, Header};

/// Most bytes of all files together.
pub const CONTEXT_BYTES_MAX: u64 = 1024 * 1024 * 1024;
/// Most files, directories and symlinks together.
pub const CONTEXT_ENTRIES_MAX: usize = 100_000;
/// Most bytes of one path.
pub const CONTEXT_PATH_BYTES_MAX: usize = 2048;
/// Most directories inside one another.
pub const CONTEXT_DEPTH_MAX: usize = 64;

const FORMFILE: &str = "Formfile";
const CONTEXT: &str = "context";

/// Why a directory cannot be the context, or an archive cannot be unpacked.
#[derive(Debug, thiserror::Error)]
pub enum ContextError {
    /// The caller forgot [`Formfile::redacted`].
    #[error("the Formfile still has a password in clear; it is hashed before it leaves this machine")]
    ClearPassword,
    /// COPY names nothing.
    #[error("COPY {0}: there is no such file in the context (or .formignore leaves it out)")]
    Missing(String),
    /// COPY, or a path of an archive, leads outside.
    #[error("{path}: {why}")]
    Outside {
        /// The path.
        path: String,
        /// How.
        why: &'static str,
    },
    /// Neither file, directory nor symlink.
    #[error("{0}: neither a file, a directory nor a symlink; leave it out with .formignore")]
    Kind(String),
    /// A name that is no text.
    #[error("{0}: its name is not UTF-8; rename it or leave it out with .formignore")]
    Name(String),
    /// Over a bound.
    #[error("the context has more than {0}; leave files out with .formignore")]
    TooMuch(&'static str),
    /// Changed while it was read.
    #[error("{0} changed while it was being read; try again")]
    Changed(String),
    /// `.formignore` cannot be used.
    #[error(transparent)]
    Ignore(#[from] IgnoreError),
    /// Not an archive of this layout.
    #[error("this is no context archive: {0}")]
    Malformed(String),
    /// The Formfile inside is wrong.
    #[error("the Formfile in the archive has {} mistakes; the first: {}", .0.len(), .0.first().map_or(String::new(), ToString::to_string))]
    Formfile(Vec<Complaint>),
    /// The disk said no.
    #[error("{doing}: {source}")]
    Io {
        /// What was being done to what.
        doing: String,
        /// What the disk said.
        source: io::Error,
    },
}

fn doing(what: impl Into<String>) -> impl FnOnce(io::Error) -> ContextError {
    let doing = what.into();
    move |source| ContextError::Io { doing, source }
}

/// What an archive holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Archived {
    /// Files, directories and symlinks.
    pub entries: usize,
    /// Bytes of the archive.
    pub bytes: u64,
}

/// Something in the context.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Found {
    Directory,
    File { executable: bool, bytes: u64 },
    Symlink(String),
}

/// Archives what the COPY steps of `formfile` take from `dir` into the file `into`, which is replaced.
pub fn archive(dir: &Path, formfile: &Formfile, into: &Path) -> Result<Archived, ContextError> {
    if formfile.has_clear_password() {
        return Err(ContextError::ClearPassword);
    }
    let found = survey(dir, formfile)?;
    let file = File::create(into).map_err(doing(format!("cannot create {}", into.display())))?;
    let mut out = BufWriter::with_capacity(1 << 20, file);
    let failed = || doing(format!("cannot write {}", into.display()));
    let text = formfile.canonical();
    entry(
        &mut out,
        FORMFILE,
        EntryType::Regular,
        0o644,
        text.len() as u64,
        None,
    )
    .map_err(failed())?;
    body(&mut out, &mut text.as_bytes(), text.len() as u64).map_err(failed())?;
    for (path, found) in &found {
        let name = if path.is_empty() {
            CONTEXT.to_string()
        } else {
            format!("{CONTEXT}/{path}")
        };
        match found {
            Found::Directory => {
                entry(&mut out, &name, EntryType::Directory, 0o755, 0, None).map_err(failed())?
            }
            Found::Symlink(target) => {
                entry(&mut out, &name, EntryType::Symlink, 0o777, 0, Some(target)).map_err(failed())?;
            }
            Found::File { executable, bytes } => {
                let mode = if *executable { 0o755 } else { 0o644 };
                // NOFOLLOW: between the survey and now the file may have become a symlink.
                let mut file = fs::OpenOptions::new()
                    .read(true)
                    .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
                    .open(dir.join(path))
                    .map_err(doing(format!("cannot read {path}")))?;
                entry(&mut out, &name, EntryType::Regular, mode, *bytes, None).map_err(failed())?;
                let copied = body(&mut out, &mut file, *bytes).map_err(failed())?;
                let more = file
                    .read(&mut [0])
                    .map_err(doing(format!("cannot read {path}")))?;
                if copied != *bytes || more != 0 {
                    return Err(ContextError::Changed(path.clone()));
                }
            }
        }
    }
    out.write_all(&[0; 1024]).map_err(failed())?;
    let file = out.into_inner().map_err(|error| failed()(error.into_error()))?;
    let bytes = file.metadata().map_err(failed())?.len();
    Ok(Archived {
        entries: found.len() + 1,
        bytes,
    })
}

/// Everything that the COPY steps take, by path.
fn survey(dir: &Path, formfile: &Formfile) -> Result<BTreeMap<String, Found>, ContextError> {
    let ignore = match File::open(dir.join(".formignore")) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ignore::parse("")?,
        Err(error) => return Err(doing("cannot read .formignore")(error)),
        Ok(file) => {
            let mut text = String::new();
            let most = formignore::FILE_BYTES_MAX as u64 + 1;
            file.take(most)
                .read_to_string(&mut text)
                .map_err(doing("cannot read .formignore"))?;
            if text.len() > formignore::FILE_BYTES_MAX {
                return Err(IgnoreError::TooMany.into());
            }
            Ignore::parse(&text)?
        }
    };
    let mut survey = Survey {
        dir,
        ignore,
        found: BTreeMap::new(),
        bytes: 0,
    };
    survey.keep(String::new(), Found::Directory)?;
    for step in &formfile.steps {
        if let Step::Copy { from, .. } = step {
            survey.source(from)?;
        }
    }
    Ok(survey.found)
}

struct Survey<'a> {
    dir: &'a Path,
    ignore: Ignore,
    found: BTreeMap<String, Found>,
    bytes: u64,
}

impl Survey<'_> {
    fn source(&mut self, from: &str) -> Result<(), ContextError> {
        if from == "." {
            return self.children("", 0);
        }
        // The parser refuses these too; a context is no place to rely on another's check.
        if from.starts_with('/') || from.split('/').any(|part| part == ".." || part.is_empty()) {
            return Err(outside(from, "COPY takes only what lies in the context"));
        }
        let mut path = String::new();
        let parts: Vec<&str> = from.split('/').collect();
        for (depth, part) in parts.iter().enumerate() {
            path = join(&path, part);
            let found = match self.look(&path) {
                Ok(found) => found,
                Err(ContextError::Io { source, .. })
                    if matches!(
                        source.kind(),
                        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
                    ) =>
                {
                    return Err(ContextError::Missing(from.into()));
                }
                Err(error) => return Err(error),
            };
            if self.ignore.ignores(&path, found == Found::Directory) {
                return Err(ContextError::Missing(from.into()));
            }
            let last = depth + 1 == parts.len();
            if matches!(found, Found::Symlink(_)) && !last {
                return Err(outside(
                    from,
                    "the path goes through a symlink; name what it points to",
                ));
            }
            let is_directory = found == Found::Directory;
            self.keep(path.clone(), found)?;
            if last && is_directory {
                self.children(&path, depth + 1)?;
            }
        }
        Ok(())
    }

    fn children(&mut self, path: &str, depth: usize) -> Result<(), ContextError> {
        if depth > CONTEXT_DEPTH_MAX {
            return Err(ContextError::TooMuch("64 directories inside one another"));
        }
        let shown = || doing(format!("cannot list {}", self.dir.join(path).display()));
        let mut names = Vec::new();
        for child in fs::read_dir(self.dir.join(path)).map_err(shown())? {
            let name = child.map_err(shown())?.file_name();
            names.push(
                name.into_string()
                    .map_err(|name| ContextError::Name(join(path, &name.to_string_lossy())))?,
            );
            if names.len() > CONTEXT_ENTRIES_MAX {
                return Err(ContextError::TooMuch("100000 files"));
            }
        }
        for name in names {
            let child = join(path, &name);
            // The cheap question first: an ignored socket is nobody's problem.
            let found = match self.look(&child) {
                Err(ContextError::Kind(_)) if self.ignore.ignores(&child, false) => continue,
                found => found?,
            };
            let is_directory = found == Found::Directory;
            if self.ignore.ignores(&child, is_directory) {
                continue;
            }
            self.keep(child.clone(), found)?;
            if is_directory {
                self.children(&child, depth + 1)?;
            }
        }
        Ok(())
    }

    fn look(&self, path: &str) -> Result<Found, ContextError> {
        let full = self.dir.join(path);
        let failed = || doing(format!("cannot read {}", full.display()));
        let meta = fs::symlink_metadata(&full).map_err(failed())?;
        if meta.is_dir() {
            return Ok(Found::Directory);
        }
        if meta.is_file() {
            return Ok(Found::File {
                executable: meta.permissions().mode() & 0o111 != 0,
                bytes: meta.len(),
            });
        }
        if meta.is_symlink() {
            let target = fs::read_link(&full).map_err(failed())?;
            let target = target
                .into_os_string()
                .into_string()
                .map_err(|_| ContextError::Name(path.into()))?;
            return Ok(Found::Symlink(target));
        }
        Err(ContextError::Kind(path.into()))
    }

    fn keep(&mut self, path: String, found: Found) -> Result<(), ContextError> {
        if path.len() > CONTEXT_PATH_BYTES_MAX {
            return Err(ContextError::TooMuch("2048 bytes in a path"));
        }
        if let Found::Symlink(target) = &found {
            check_symlink(&path, target)?;
        }
        let bytes = if let Found::File { bytes, .. } = found {
            bytes
        } else {
            0
        };
        if self.found.insert(path, found).is_none() {
            self.bytes = self.bytes.saturating_add(bytes);
        }
        if self.bytes > CONTEXT_BYTES_MAX {
            return Err(ContextError::TooMuch("1 GiB"));
        }
        if self.found.len() > CONTEXT_ENTRIES_MAX {
            return Err(ContextError::TooMuch("100000 files"));
        }
        Ok(())
    }
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() {
        name.into()
    } else {
        format!("{path}/{name}")
    }
}

fn outside(path: &str, why: &'static str) -> ContextError {
    ContextError::Outside {
        path: path.into(),
        why,
    }
}

/// A symlink may point only to what lies in the context, as its text says.
fn check_symlink(path: &str, target: &str) -> Result<(), ContextError> {
    if target.is_empty() || target.len() > CONTEXT_PATH_BYTES_MAX || target.contains('\0') {
        return Err(outside(path, "a symlink without a usable target"));
    }
    if target.starts_with('/') {
        return Err(outside(
            path,
            "a symlink to an absolute path; make it relative or leave it out",
        ));
    }
    let mut depth = path.matches('/').count() as i64;
    for part in target.split('/') {
        depth += match part {
            "" | "." => 0,
            ".." => -1,
            _ => 1,
        };
        if depth < 0 {
            return Err(outside(path, "a symlink that leaves the context"));
        }
    }
    Ok(())
}

/// Writes one header, with GNU's long names before it where a name needs one.
fn entry(
    out: &mut impl Write,
    path: &str,
    kind: EntryType,
    mode: u32,
    bytes: u64,
    link: Option<&str>,
) -> io::Result<()> {
    const SHORT_MAX: usize = 100;
    let mut long = |kind: EntryType, text: &str| -> io::Result<()> {
        let mut header = plain_header(kind, 0o644, text.len() as u64 + 1);
        header.as_gnu_mut().expect("it was made so").name[..13].copy_from_slice(b"././@LongLink");
        header.set_cksum();
        out.write_all(header.as_bytes())?;
        let mut text = text.as_bytes().to_vec();
        text.push(0);
        let length = text.len() as u64;
        body(out, &mut text.as_slice(), length).map(|_| ())
    };
    if let Some(link) = link.filter(|link| link.len() > SHORT_MAX) {
        long(EntryType::GNULongLink, link)?;
    }
    if path.len() > SHORT_MAX {
        long(EntryType::GNULongName, path)?;
    }
    let mut header = plain_header(kind, mode, bytes);
    let gnu = header.as_gnu_mut().expect("it was made so");
    let place = |field: &mut [u8; 100], text: &str| {
        let length = text.len().min(SHORT_MAX);
        field[..length].copy_from_slice(&text.as_bytes()[..length]);
    };
    place(&mut gnu.name, path);
    place(&mut gnu.linkname, link.unwrap_or(""));
    header.set_cksum();
    out.write_all(header.as_bytes())
}

fn plain_header(kind: EntryType, mode: u32, bytes: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(bytes);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header
}

/// Copies at most `bytes` and fills up to a block; how many were there.
fn body(out: &mut impl Write, from: &mut impl Read, bytes: u64) -> io::Result<u64> {
    const BLOCK: u64 = 512;
    let copied = io::copy(&mut from.take(bytes), out)?;
    out.write_all(&vec![0; ((BLOCK - bytes % BLOCK) % BLOCK) as usize])?;
    Ok(copied)
}

/// A context on a builder's disk.
#[derive(Debug)]
pub struct Unpacked {
    /// The Formfile, parsed anew: what it says is not taken from anyone's word.
    pub formfile: Formfile,
    /// The directory that COPY takes from.
    pub root: PathBuf,
}

/// Unpacks the archive `from` into `into`, which must not exist. On an error the caller removes `into`.
pub fn unpack(from: &Path, into: &Path) -> Result<Unpacked, ContextError> {
    let file = File::open(from).map_err(doing(format!("cannot open {}", from.display())))?;
    fs::create_dir(into).map_err(doing(format!("cannot create {}", into.display())))?;
    let mut unpacking = Unpacking {
        into,
        directories: HashSet::new(),
        paths: HashSet::new(),
        bytes: 0,
    };
    let mut formfile = None;
    let mut long_name: Option<String> = None;
    let mut long_link: Option<String> = None;
    let mut archive = tar::Archive::new(BufReader::with_capacity(1 << 20, file));
    let malformed = |error: io::Error| ContextError::Malformed(error.to_string());
    for raw in archive.entries().map_err(malformed)?.raw(true) {
        let mut raw = raw.map_err(malformed)?;
        let header = raw.header().clone();
        let kind = header.entry_type();
        if matches!(kind, EntryType::GNULongName | EntryType::GNULongLink) {
            let slot = if kind == EntryType::GNULongName {
                &mut long_name
            } else {
                &mut long_link
            };
            if slot.replace(text_of(&mut raw)?).is_some() {
                return Err(ContextError::Malformed("two long names for one entry".into()));
            }
            continue;
        }
        let path = match long_name.take() {
            Some(path) => path,
            None => short_text(&header.path_bytes())?,
        };
        let link = match (long_link.take(), kind) {
            (Some(link), EntryType::Symlink) => Some(link),
            (Some(_), _) => {
                return Err(ContextError::Malformed(format!(
                    "{path}: a target for no symlink"
                )));
            }
            (None, EntryType::Symlink) => Some(short_text(&header.link_name_bytes().unwrap_or_default())?),
            (None, _) => None,
        };
        let size = header.entry_size().map_err(malformed)?;
        if formfile.is_none() {
            if path != FORMFILE || kind != EntryType::Regular || size > formfile::FILE_BYTES_MAX as u64 {
                return Err(ContextError::Malformed(
                    "it does not begin with a Formfile".into(),
                ));
            }
            formfile = Some(read_formfile(&mut raw, size)?);
            continue;
        }
        unpacking.accept(
            &path,
            kind,
            header.mode().map_err(malformed)?,
            size,
            link,
            &mut raw,
        )?;
    }
    let formfile = formfile.ok_or_else(|| ContextError::Malformed("it is empty".into()))?;
    let root = into.join(CONTEXT);
    if !unpacking.directories.contains(CONTEXT) {
        return Err(ContextError::Malformed("it has no context".into()));
    }
    Ok(Unpacked { formfile, root })
}

fn text_of(raw: &mut impl Read) -> Result<String, ContextError> {
    let mut bytes = Vec::new();
    let malformed = |error: io::Error| ContextError::Malformed(error.to_string());
    raw.take(CONTEXT_PATH_BYTES_MAX as u64 + 2)
        .read_to_end(&mut bytes)
        .map_err(malformed)?;
    if bytes.pop() != Some(0) {
        return Err(ContextError::Malformed("a path of more than 2048 bytes".into()));
    }
    short_text(&bytes)
}

fn short_text(bytes: &[u8]) -> Result<String, ContextError> {
    let text =
        std::str::from_utf8(bytes).map_err(|_| ContextError::Malformed("a path is not UTF-8".into()))?;
    if text.contains('\0') || text.is_empty() {
        return Err(ContextError::Malformed("a path is empty or holds a NUL".into()));
    }
    Ok(text.into())
}

fn read_formfile(raw: &mut impl Read, size: u64) -> Result<Formfile, ContextError> {
    let mut bytes = Vec::new();
    let malformed = |error: io::Error| ContextError::Malformed(error.to_string());
    raw.take(size).read_to_end(&mut bytes).map_err(malformed)?;
    let formfile = formfile::parse_bytes(&bytes)
        .formfile
        .map_err(ContextError::Formfile)?;
    if formfile.has_clear_password() {
        return Err(ContextError::ClearPassword);
    }
    if formfile.canonical().as_bytes() != bytes {
        return Err(ContextError::Malformed(
            "its Formfile is not in the canonical spelling".into(),
        ));
    }
    Ok(formfile)
}

struct Unpacking<'a> {
    into: &'a Path,
    /// Directories that this unpacking made: the only ones that it writes into, so no symlink is ever followed.
    directories: HashSet<String>,
    paths: HashSet<String>,
    bytes: u64,
}

impl Unpacking<'_> {
    fn accept(
        &mut self,
        path: &str,
        kind: EntryType,
        mode: u32,
        size: u64,
        link: Option<String>,
        raw: &mut impl Read,
    ) -> Result<(), ContextError> {
        let path = path.strip_suffix('/').unwrap_or(path);
        self.check_path(path)?;
        if self.paths.len() >= CONTEXT_ENTRIES_MAX {
            return Err(ContextError::TooMuch("100000 files"));
        }
        if !self.paths.insert(path.into()) {
            return Err(ContextError::Malformed(format!("{path} stands in it twice")));
        }
        let full = self.into.join(path);
        let failed = || doing(format!("cannot write {}", full.display()));
        match (kind, link) {
            (EntryType::Directory, None) => {
                fs::create_dir(&full).map_err(failed())?;
                fs::set_permissions(&full, fs::Permissions::from_mode(0o755)).map_err(failed())?;
                self.directories.insert(path.into());
            }
            (EntryType::Symlink, Some(target)) => {
                let inner = path.strip_prefix("context/").unwrap_or("");
                check_symlink(inner, &target)?;
                symlink(&target, &full).map_err(failed())?;
            }
            (EntryType::Regular, None) => {
                self.bytes = self.bytes.saturating_add(size);
                if self.bytes > CONTEXT_BYTES_MAX {
                    return Err(ContextError::TooMuch("1 GiB"));
                }
                let mode = if mode & 0o111 != 0 { 0o755 } else { 0o644 };
                let mut file = fs::OpenOptions::new()
                    .write(true)
                    .create_new(true)
                    .custom_flags(libc::O_NOFOLLOW)
                    .open(&full)
                    .map_err(failed())?;
                let copied = io::copy(&mut raw.take(size), &mut file).map_err(failed())?;
                if copied != size {
                    return Err(ContextError::Malformed(format!(
                        "it ends in the middle of {path}"
                    )));
                }
                file.set_permissions(fs::Permissions::from_mode(mode))
                    .map_err(failed())?;
            }
            _ => {
                return Err(ContextError::Malformed(format!(
                    "{path} is neither a file, a directory nor a symlink"
                )));
            }
        }
        Ok(())
    }

    fn check_path(&self, path: &str) -> Result<(), ContextError> {
        if path.len() > CONTEXT_PATH_BYTES_MAX + CONTEXT.len() + 1 {
            return Err(ContextError::TooMuch("2048 bytes in a path"));
        }
        if path.split('/').any(|part| matches!(part, "" | "." | "..")) {
            return Err(outside(
                path,
                "a path of an archive has neither `..` nor a `/` at its start",
            ));
        }
        if path.split('/').count() > CONTEXT_DEPTH_MAX + 2 {
            return Err(ContextError::TooMuch("64 directories inside one another"));
        }
        let parent_known = match path.rsplit_once('/') {
            None => path == CONTEXT,
            Some((parent, _)) => self.directories.contains(parent),
        };
        if parent_known {
            Ok(())
        } else {
            Err(outside(path, "its directory is not part of the context"))
        }
    }
}

/// The digest of what lies at `path` of an unpacked context: names, kinds, modes and bytes.
pub fn tree_digest(root: &Path, path: &str) -> Result<Option<Digest>, ContextError> {
    let mut hasher = DigestHasher::new(DigestKind::Tree);
    let full = if path == "." {
        root.to_path_buf()
    } else {
        root.join(path)
    };
    if full.symlink_metadata().is_err() {
        return Ok(None);
    }
    hash_tree(&full, "", &mut hasher)?;
    Ok(Some(hasher.finish()))
}

fn hash_tree(full: &Path, name: &str, hasher: &mut DigestHasher) -> Result<(), ContextError> {
    let failed = || doing(format!("cannot read {}", full.display()));
    let meta = fs::symlink_metadata(full).map_err(failed())?;
    hasher.field(name.as_bytes());
    hasher.part(&meta.permissions().mode().to_le_bytes());
    if meta.is_dir() {
        let mut names: Vec<_> = fs::read_dir(full)
            .map_err(failed())?
            .map(|child| child.map(|child| child.file_name()))
            .collect::<Result<_, _>>()
            .map_err(failed())?;
        names.sort();
        hasher.part(&(names.len() as u64).to_le_bytes());
        for name in names {
            hash_tree(&full.join(&name), &name.to_string_lossy(), hasher)?;
        }
    } else if meta.is_symlink() {
        let target = fs::read_link(full).map_err(failed())?;
        hasher.field(target.as_os_str().as_encoded_bytes());
    } else {
        hasher.part(&meta.len().to_le_bytes());
        let mut file = File::open(full).map_err(failed())?;
        let mut buffer = vec![0; 1 << 18];
        loop {
            match file.read(&mut buffer).map_err(failed())? {
                0 => break,
                read => hasher.part(&buffer[..read]),
            }
        }
    }
    Ok(())
}
