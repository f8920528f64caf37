//! Blobs on disk, by the digest of their manifest: images as flat files that a machine can use, contexts too.
//!
//! ```text
//! ROOT/blobs/DIGEST/{manifest,data}     whole and verified; renamed here in one step
//! ROOT/partial/DIGEST/{manifest,data}   pieces arriving; which of them are there is read from the data itself
//! ROOT/tmp/RANDOM/...                   imports; emptied at each open
//! ```
//! There is no index to lose and no bitmap to believe: after a crash a partial blob is hashed again, and what
//! matches its manifest is there. Not here: who may fetch what, and from where.

use crate::image::{
    BLOB_BYTES_MAX, BlobManifest, Digest, ImageManifest, MANIFEST_BYTES_MAX, MANIFEST_VERSION, Manifest,
    ManifestError, PIECE_BYTES, PieceList, piece_digest,
};
use rustix::fs::{FlockOperation, flock};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

/// Why the store could not do something.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The manifest is not one.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// The bytes are not what the manifest says.
    #[error("piece {0} is not what its manifest says: it was damaged or forged on its way")]
    WrongPiece(u32),
    /// A file is not what the manifest says.
    #[error("{0} is not what its manifest says")]
    WrongFile(PathBuf),
    /// Pieces are still missing.
    #[error("{0} pieces are still missing")]
    Incomplete(usize),
    /// Someone else receives the same blob.
    #[error("blob {0} is being received by another task")]
    Busy(Digest),
    /// No such blob or piece.
    #[error("there is no blob {0}, or it has no such piece")]
    Unknown(Digest),
    /// Too large to keep.
    #[error("{0} bytes are more than a blob may have ({BLOB_BYTES_MAX})")]
    TooLarge(u64),
    /// The disk said no.
    #[error("{doing}: {source}")]
    Io {
        /// What was being done to what.
        doing: String,
        /// What the disk said.
        source: io::Error,
    },
}

fn doing(what: &str, path: &Path) -> impl FnOnce(io::Error) -> StoreError {
    let doing = format!("cannot {what} {}", path.display());
    move |source| StoreError::Io { doing, source }
}

/// One blob of the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// Its name.
    pub digest: Digest,
    /// Bytes of the whole.
    pub total_bytes: u64,
}

/// The store of one node. Cheap questions and whole files; share it behind an `Arc`.
#[derive(Debug)]
pub struct BlobStore {
    root: PathBuf,
}

impl BlobStore {
    /// Opens or makes the store at `root`, and clears what an interrupted import left.
    pub fn open(root: impl Into<PathBuf>) -> Result<Self, StoreError> {
        let root = root.into();
        for name in ["blobs", "partial", "tmp"] {
            let path = root.join(name);
            fs::create_dir_all(&path).map_err(doing("create", &path))?;
        }
        let tmp = root.join("tmp");
        for entry in fs::read_dir(&tmp).map_err(doing("list", &tmp))?.flatten() {
            // A live import of this process's twin holds a lock on its folder's file.
            let data = entry.path().join("data");
            let locked = File::open(&data)
                .is_ok_and(|file| flock(&file, FlockOperation::NonBlockingLockExclusive).is_err());
            if !locked {
                fs::remove_dir_all(entry.path()).map_err(doing("remove", &entry.path()))?;
            }
        }
        Ok(BlobStore { root })
    }

    fn whole(&self, digest: &Digest) -> PathBuf {
        self.root.join("blobs").join(digest.to_string())
    }

    fn scratch(&self) -> Result<tempfile::TempDir, StoreError> {
        let tmp = self.root.join("tmp");
        tempfile::TempDir::new_in(&tmp).map_err(doing("create a folder in", &tmp))
    }

    /// Keeps bytes as a plain blob.
    pub fn import_bytes(&self, bytes: &[u8]) -> Result<(BlobManifest, Digest), StoreError> {
        if bytes.len() as u64 > BLOB_BYTES_MAX {
            return Err(StoreError::TooLarge(bytes.len() as u64));
        }
        let manifest = BlobManifest::of_bytes(bytes);
        let digest = self.place(&Manifest::Blob(manifest.clone()), |data| data.write_all(bytes))?;
        Ok((manifest, digest))
    }

    /// Keeps a copy of a file as a plain blob.
    pub fn import_file(&self, path: &Path) -> Result<(BlobManifest, Digest), StoreError> {
        let pieces = pieces_of(path)?;
        let manifest = BlobManifest {
            version: MANIFEST_VERSION,
            pieces,
        };
        let digest = self.keep_file(Manifest::Blob(manifest.clone()), path)?;
        Ok((manifest, digest))
    }

    /// Keeps a copy of an image's disk, after comparing it with its manifest.
    pub fn import_image(&self, manifest: &ImageManifest, disk: &Path) -> Result<Digest, StoreError> {
        if self.holds(&manifest.digest()) {
            return Ok(manifest.digest());
        }
        if pieces_of(disk)? != manifest.pieces {
            return Err(StoreError::WrongFile(disk.into()));
        }
        self.keep_file(Manifest::Image(manifest.clone()), disk)
    }

    fn keep_file(&self, manifest: Manifest, path: &Path) -> Result<Digest, StoreError> {
        let pieces = manifest.pieces().clone();
        let mut source = File::open(path).map_err(doing("open", path))?;
        let digest = self.place(&manifest, |data| {
            // io::copy clones extents where the file system can. The copy is hashed once more below: the source
            // is another's file and may change under us.
            io::copy(&mut (&mut source).take(pieces.total_bytes), data).map(|_| ())
        })?;
        Ok(digest)
    }

    /// Writes a whole blob aside, checks it, and renames it into its place.
    fn place(
        &self,
        manifest: &Manifest,
        write: impl FnOnce(&mut File) -> io::Result<()>,
    ) -> Result<Digest, StoreError> {
        manifest.check()?;
        let digest = manifest.digest();
        if self.holds(&digest) {
            return Ok(digest);
        }
        let scratch = self.scratch()?;
        let path = scratch.path().join("data");
        let mut data = File::create(&path).map_err(doing("create", &path))?;
        flock(&data, FlockOperation::NonBlockingLockExclusive).map_err(|_| StoreError::Busy(digest))?;
        write(&mut data).map_err(doing("write", &path))?;
        if pieces_of(&path)? != *manifest.pieces() {
            return Err(StoreError::WrongFile(path));
        }
        data.sync_all().map_err(doing("sync", &path))?;
        write_synced(&scratch.path().join("manifest"), &manifest.to_bytes())?;
        self.settle(scratch.keep(), &digest)
    }

    /// The one step in which a blob becomes whole.
    fn settle(&self, from: PathBuf, digest: &Digest) -> Result<Digest, StoreError> {
        sync_dir(&from)?;
        let to = self.whole(digest);
        match fs::rename(&from, &to) {
            Ok(()) => {}
            // Another task brought the same bytes first.
            Err(_) if self.holds(digest) => {
                fs::remove_dir_all(&from).map_err(doing("remove", &from))?;
            }
            Err(error) => return Err(doing("place", &to)(error)),
        }
        sync_dir(&self.root.join("blobs"))?;
        Ok(*digest)
    }

    /// Whether the whole blob is here.
    pub fn holds(&self, digest: &Digest) -> bool {
        self.whole(digest).join("manifest").exists()
    }

    /// The manifest of a whole blob.
    pub fn manifest(&self, digest: &Digest) -> Result<Option<Manifest>, StoreError> {
        read_manifest(&self.whole(digest), digest)
    }

    /// The manifest of a whole image.
    pub fn image(&self, digest: &Digest) -> Result<Option<ImageManifest>, StoreError> {
        Ok(match self.manifest(digest)? {
            Some(Manifest::Image(image)) => Some(image),
            _ => None,
        })
    }

    /// The flat file of a whole blob. It is shared: open it for reading only.
    pub fn path(&self, digest: &Digest) -> Option<PathBuf> {
        self.holds(digest).then(|| self.whole(digest).join("data"))
    }

    /// One piece of a whole blob, verified on its way out: a disk that rots spreads nothing.
    pub fn read_piece(&self, digest: &Digest, index: u32) -> Result<Vec<u8>, StoreError> {
        let manifest = self.manifest(digest)?.ok_or(StoreError::Unknown(*digest))?;
        let (offset, length) = manifest
            .pieces()
            .place(index)
            .ok_or(StoreError::Unknown(*digest))?;
        let path = self.whole(digest).join("data");
        let mut bytes = vec![0; length];
        let file = File::open(&path).map_err(doing("open", &path))?;
        file.read_exact_at(&mut bytes, offset)
            .map_err(doing("read", &path))?;
        if manifest.pieces().holds(index, &bytes) {
            Ok(bytes)
        } else {
            Err(StoreError::WrongPiece(index))
        }
    }

    /// Every whole blob, by digest.
    pub fn list(&self) -> Result<Vec<Held>, StoreError> {
        let blobs = self.root.join("blobs");
        let mut held = Vec::new();
        for entry in fs::read_dir(&blobs).map_err(doing("list", &blobs))? {
            let entry = entry.map_err(doing("list", &blobs))?;
            let Some(digest) = entry
                .file_name()
                .to_str()
                .and_then(|name| name.parse::<Digest>().ok())
            else {
                continue;
            };
            let data = entry.path().join("data");
            let total_bytes = data.metadata().map_err(doing("read", &data))?.len();
            held.push(Held { digest, total_bytes });
        }
        held.sort_by_key(|held| held.digest);
        Ok(held)
    }

    /// Forgets a blob. A machine that has its file open keeps it until it closes it.
    pub fn remove(&self, digest: &Digest) -> Result<(), StoreError> {
        let path = self.whole(digest);
        if !path.exists() {
            return Ok(());
        }
        // Away in one step, so that no half of it is ever taken for the whole.
        let scratch = self.scratch()?;
        let aside = scratch.path().join("removed");
        fs::rename(&path, &aside).map_err(doing("remove", &path))?;
        sync_dir(&self.root.join("blobs"))
    }

    /// Begins to receive a blob, or goes on where an earlier attempt stopped.
    pub fn begin(&self, manifest: Manifest) -> Result<PartialBlob<'_>, StoreError> {
        manifest.check()?;
        let digest = manifest.digest();
        let folder = self.root.join("partial").join(digest.to_string());
        fs::create_dir_all(&folder).map_err(doing("create", &folder))?;
        let path = folder.join("data");
        let data = fs::OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(doing("open", &path))?;
        flock(&data, FlockOperation::NonBlockingLockExclusive).map_err(|_| StoreError::Busy(digest))?;
        // The lock may be on a file that a finished task has just moved away.
        let same = path
            .metadata()
            .ok()
            .zip(data.metadata().ok())
            .is_some_and(|(there, here)| {
                use std::os::unix::fs::MetadataExt;
                (there.dev(), there.ino()) == (here.dev(), here.ino())
            });
        if !same {
            return Err(StoreError::Busy(digest));
        }
        let total_bytes = manifest.pieces().total_bytes;
        let mut have = vec![false; manifest.pieces().pieces.len()];
        let known = data.metadata().map_err(doing("read", &path))?.len();
        if read_manifest(&folder, &digest).ok().flatten().as_ref() == Some(&manifest) && known == total_bytes
        {
            let mut buffer = vec![0; PIECE_BYTES as usize];
            for (index, have) in have.iter_mut().enumerate() {
                let (offset, length) = manifest
                    .pieces()
                    .place(index as u32)
                    .expect("there are as many places as pieces");
                data.read_exact_at(&mut buffer[..length], offset)
                    .map_err(doing("read", &path))?;
                *have = manifest.pieces().pieces[index] == piece_digest(&buffer[..length]);
            }
        } else {
            write_synced(&folder.join("manifest"), &manifest.to_bytes())?;
            data.set_len(0)
                .and_then(|()| data.set_len(total_bytes))
                .map_err(doing("grow", &path))?;
        }
        Ok(PartialBlob {
            store: self,
            folder,
            digest,
            manifest,
            data,
            have: Mutex::new(have),
        })
    }
}

/// A blob that is arriving, piece by piece, in any order, from anyone.
#[derive(Debug)]
pub struct PartialBlob<'a> {
    store: &'a BlobStore,
    folder: PathBuf,
    digest: Digest,
    manifest: Manifest,
    data: File,
    have: Mutex<Vec<bool>>,
}

impl PartialBlob<'_> {
    fn have(&self) -> std::sync::MutexGuard<'_, Vec<bool>> {
        self.have
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// The blob's name.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// The pieces not yet here.
    pub fn missing(&self) -> Vec<u32> {
        self.have()
            .iter()
            .enumerate()
            .filter(|(_, have)| !**have)
            .map(|(index, _)| index as u32)
            .collect()
    }

    /// Takes one piece, if it is the right one. Taking it twice is harmless.
    pub fn put_piece(&self, index: u32, bytes: &[u8]) -> Result<(), StoreError> {
        if !self.manifest.pieces().holds(index, bytes) {
            return Err(StoreError::WrongPiece(index));
        }
        let (offset, _) = self
            .manifest
            .pieces()
            .place(index)
            .ok_or(StoreError::WrongPiece(index))?;
        self.data
            .write_all_at(bytes, offset)
            .map_err(doing("write a piece in", &self.folder))?;
        self.have()[index as usize] = true;
        Ok(())
    }

    /// Makes the blob whole, once nothing is missing.
    pub fn finish(self) -> Result<Digest, StoreError> {
        let missing = self.missing().len();
        if missing > 0 {
            return Err(StoreError::Incomplete(missing));
        }
        if self.store.holds(&self.digest) {
            fs::remove_dir_all(&self.folder).map_err(doing("remove", &self.folder))?;
            return Ok(self.digest);
        }
        self.data.sync_all().map_err(doing("sync", &self.folder))?;
        self.store.settle(self.folder, &self.digest)
    }

    /// Gives up and removes what came.
    pub fn abandon(self) -> Result<(), StoreError> {
        fs::remove_dir_all(&self.folder).map_err(doing("remove", &self.folder))
    }
}

/// The pieces of a file.
pub fn pieces_of(path: &Path) -> Result<PieceList, StoreError> {
    let mut file = File::open(path).map_err(doing("open", path))?;
    let mut pieces = Vec::new();
    let mut total_bytes = 0;
    let mut buffer = Vec::with_capacity(PIECE_BYTES as usize);
    loop {
        buffer.clear();
        let read = (&mut file)
            .take(u64::from(PIECE_BYTES))
            .read_to_end(&mut buffer)
            .map_err(doing("read", path))?;
        if read == 0 {
            return Ok(PieceList {
                total_bytes,
                piece_bytes: PIECE_BYTES,
                pieces,
            });
        }
        total_bytes += read as u64;
        if total_bytes > BLOB_BYTES_MAX {
            return Err(StoreError::TooLarge(total_bytes));
        }
        pieces.push(piece_digest(&buffer));
    }
}

fn read_manifest(folder: &Path, digest: &Digest) -> Result<Option<Manifest>, StoreError> {
    let path = folder.join("manifest");
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(doing("open", &path)(error)),
    };
    let mut bytes = Vec::new();
    file.take(MANIFEST_BYTES_MAX as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(doing("read", &path))?;
    let manifest = Manifest::from_bytes(&bytes)?;
    if manifest.digest() == *digest {
        Ok(Some(manifest))
    } else {
        Err(StoreError::WrongFile(path))
    }
}

fn write_synced(path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    let mut file = File::create(path).map_err(doing("create", path))?;
    file.write_all(bytes)
        .and_then(|()| file.sync_all())
        .map_err(doing("write", path))
}

fn sync_dir(path: &Path) -> Result<(), StoreError> {
    File::open(path)
        .and_then(|dir| dir.sync_all())
        .map_err(doing("sync", path))
}
