//! What an image is: its manifest, the pieces of its disk, and the digests that name all of them.
//!
//! Not here: where the bytes lie (`io/store.rs`). A manifest has exactly one encoding, and what does not
//! re-encode to the same bytes is refused, so its digest names one thing only.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// Bytes of every piece but the last.
pub const PIECE_BYTES: u32 = 1024 * 1024;
/// Most bytes of one blob: an image's disk or a context.
pub const BLOB_BYTES_MAX: u64 = 16 * 1024 * 1024 * 1024;
/// Most bytes of an encoded manifest: the pieces of the largest blob, and room for the configuration.
pub const MANIFEST_BYTES_MAX: usize = 1024 * 1024;
/// The version of manifests that this code writes and reads.
pub const MANIFEST_VERSION: u16 = 1;
/// Most bytes of the configuration's texts together.
pub const CONFIG_BYTES_MAX: usize = 128 * 1024;

/// A BLAKE3 digest. Its context says what kind of thing it names, so no two kinds ever share one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(pub [u8; 32]);

/// What a digest can name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DigestKind {
    /// A Formfile's canonical text.
    Formfile,
    /// An image's manifest.
    ImageManifest,
    /// A plain blob's manifest.
    BlobManifest,
    /// One piece of any blob.
    Piece,
    /// A step of a build, with all before it.
    BuildStep,
    /// A tree of files.
    Tree,
    /// A whole build: its context, its base and the recipe.
    Build,
}

impl DigestKind {
    fn context(self) -> &'static str {
        match self {
            DigestKind::Formfile => "formation pack v1 formfile",
            DigestKind::ImageManifest => "formation pack v1 image manifest",
            DigestKind::BlobManifest => "formation pack v1 blob manifest",
            DigestKind::Piece => "formation pack v1 piece",
            DigestKind::BuildStep => "formation pack v1 build step",
            DigestKind::Tree => "formation pack v1 tree",
            DigestKind::Build => "formation pack v1 build",
        }
    }
}

impl Digest {
    /// The digest of `bytes` as a thing of this kind.
    pub fn of(kind: DigestKind, bytes: &[u8]) -> Digest {
        let mut hasher = DigestHasher::new(kind);
        hasher.part(bytes);
        hasher.finish()
    }
}

/// A digest in the making, for what does not lie in memory at once.
pub struct DigestHasher(blake3::Hasher);

impl DigestHasher {
    /// Begins a digest of this kind.
    pub fn new(kind: DigestKind) -> Self {
        DigestHasher(blake3::Hasher::new_derive_key(kind.context()))
    }

    /// The next bytes, without a boundary.
    pub fn part(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The next field: its length goes first, so that fields cannot run into each other.
    pub fn field(&mut self, bytes: &[u8]) {
        self.0.update(&(bytes.len() as u64).to_le_bytes());
        self.0.update(bytes);
    }

    /// The digest of all so far.
    pub fn finish(&self) -> Digest {
        Digest(*self.0.finalize().as_bytes())
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&data_encoding::HEXLOWER.encode(&self.0))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({self})")
    }
}

/// A text that is no digest.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a digest is 64 hexadecimal digits in lower case")]
pub struct NotADigest;

impl FromStr for Digest {
    type Err = NotADigest;

    fn from_str(text: &str) -> Result<Self, NotADigest> {
        let bytes = data_encoding::HEXLOWER
            .decode(text.as_bytes())
            .map_err(|_| NotADigest)?;
        bytes.try_into().map(Digest).map_err(|_| NotADigest)
    }
}

/// Hexadecimal for people (JSON), 32 bytes for machines (postcard).
impl Serialize for Digest {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.collect_str(self)
        } else {
            self.0.serialize(serializer)
        }
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            String::deserialize(deserializer)?
                .parse()
                .map_err(serde::de::Error::custom)
        } else {
            <[u8; 32]>::deserialize(deserializer).map(Digest)
        }
    }
}

/// How the host asks an instance whether it is well.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HealthCheck {
    /// Not at all: it is well while its entrypoint runs.
    None,
    /// Something accepts on this port.
    Tcp {
        /// From 1.
        port: u16,
    },
    /// A GET of this path answers 2xx or 3xx.
    Http {
        /// Begins with `/`.
        path: String,
        /// From 1.
        port: u16,
    },
}

/// What the guest's init does with an image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageConfig {
    /// The program and its arguments; empty when nothing is started.
    pub entrypoint: Vec<String>,
    /// Variables of system scope, each key once, in the order of their first appearance.
    pub env: Vec<(String, String)>,
    /// Where the entrypoint starts.
    pub workdir: String,
    /// TCP ports that others may reach.
    pub expose: Vec<u16>,
    /// How the host asks for its health.
    pub health: HealthCheck,
}

/// A blob as a list of verified pieces.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PieceList {
    /// Bytes of the whole.
    pub total_bytes: u64,
    /// Bytes of each piece but the last: always [`PIECE_BYTES`].
    pub piece_bytes: u32,
    /// The digest of each piece.
    pub pieces: Vec<[u8; 32]>,
}

impl fmt::Debug for PieceList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "PieceList({} bytes in {} pieces)",
            self.total_bytes,
            self.pieces.len()
        )
    }
}

impl PieceList {
    /// The pieces of bytes in memory.
    pub fn of_bytes(bytes: &[u8]) -> PieceList {
        let pieces = bytes.chunks(PIECE_BYTES as usize).map(piece_digest).collect();
        PieceList {
            total_bytes: bytes.len() as u64,
            piece_bytes: PIECE_BYTES,
            pieces,
        }
    }

    /// Where piece `index` begins and how long it is.
    pub fn place(&self, index: u32) -> Option<(u64, usize)> {
        if index as usize >= self.pieces.len() {
            return None;
        }
        let offset = u64::from(index) * u64::from(self.piece_bytes);
        let length = self
            .total_bytes
            .checked_sub(offset)?
            .min(u64::from(self.piece_bytes));
        Some((offset, length as usize))
    }

    /// Whether `bytes` are piece `index`.
    pub fn holds(&self, index: u32, bytes: &[u8]) -> bool {
        let Some((_, length)) = self.place(index) else {
            return false;
        };
        bytes.len() == length && self.pieces.get(index as usize) == Some(&piece_digest(bytes))
    }

    fn check(&self) -> Result<(), ManifestError> {
        if self.piece_bytes != PIECE_BYTES {
            return Err(ManifestError::PieceSize(self.piece_bytes));
        }
        if self.total_bytes > BLOB_BYTES_MAX {
            return Err(ManifestError::TooLarge(self.total_bytes));
        }
        if self.total_bytes.div_ceil(u64::from(PIECE_BYTES)) != self.pieces.len() as u64 {
            return Err(ManifestError::PieceCount {
                total_bytes: self.total_bytes,
                pieces: self.pieces.len(),
            });
        }
        Ok(())
    }
}

/// The digest of one piece.
pub fn piece_digest(bytes: &[u8]) -> [u8; 32] {
    Digest::of(DigestKind::Piece, bytes).0
}

/// A finished image: what it runs and the pieces of its disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageManifest {
    /// [`MANIFEST_VERSION`].
    pub version: u16,
    /// The Formfile it was built from.
    pub formfile_digest: Digest,
    /// What the guest's init does with it.
    pub config: ImageConfig,
    /// The pieces of its ext4 disk.
    pub pieces: PieceList,
}

/// A plain blob, for instance the context of a build.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlobManifest {
    /// [`MANIFEST_VERSION`].
    pub version: u16,
    /// The pieces.
    pub pieces: PieceList,
}

/// Either kind of manifest; what a store holds and what travels between nodes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Manifest {
    /// An image.
    Image(ImageManifest),
    /// A plain blob.
    Blob(BlobManifest),
}

/// Why bytes are no manifest.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// Longer than any honest one.
    #[error("a manifest of {0} bytes; at most {MANIFEST_BYTES_MAX} are read")]
    TooLong(usize),
    /// Not an encoding, or not the canonical one.
    #[error("these bytes are no canonical manifest")]
    NotCanonical,
    /// Of a version that this node does not know.
    #[error("a manifest of version {0}; this node reads version {MANIFEST_VERSION}: upgrade it")]
    Version(u16),
    /// The piece size is fixed.
    #[error("pieces of {0} bytes; they are of {PIECE_BYTES}")]
    PieceSize(u32),
    /// The blob is too large.
    #[error("a blob of {0} bytes; at most {BLOB_BYTES_MAX} are kept")]
    TooLarge(u64),
    /// Size and count disagree.
    #[error("{total_bytes} bytes cannot be {pieces} pieces")]
    PieceCount {
        /// As declared.
        total_bytes: u64,
        /// As listed.
        pieces: usize,
    },
    /// The configuration could not be what a Formfile gives.
    #[error("the image's configuration is out of bounds: {0}")]
    Config(&'static str),
}

impl ImageManifest {
    /// THE digest of the image.
    pub fn digest(&self) -> Digest {
        Digest::of(DigestKind::ImageManifest, &encode(self))
    }

    /// The canonical bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        encode(self)
    }

    /// Reads canonical bytes; refuses all others.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, ManifestError> {
        let manifest: ImageManifest = decode(bytes)?;
        Manifest::Image(manifest.clone()).check()?;
        Ok(manifest)
    }
}

impl BlobManifest {
    /// The manifest of bytes in memory.
    pub fn of_bytes(bytes: &[u8]) -> BlobManifest {
        BlobManifest {
            version: MANIFEST_VERSION,
            pieces: PieceList::of_bytes(bytes),
        }
    }

    /// The digest of the blob.
    pub fn digest(&self) -> Digest {
        Digest::of(DigestKind::BlobManifest, &encode(self))
    }
}

impl Manifest {
    /// The digest: of the image or of the blob.
    pub fn digest(&self) -> Digest {
        match self {
            Manifest::Image(image) => image.digest(),
            Manifest::Blob(blob) => blob.digest(),
        }
    }

    /// The pieces.
    pub fn pieces(&self) -> &PieceList {
        match self {
            Manifest::Image(image) => &image.pieces,
            Manifest::Blob(blob) => &blob.pieces,
        }
    }

    /// The canonical bytes, the kind first.
    pub fn to_bytes(&self) -> Vec<u8> {
        encode(self)
    }

    /// Reads canonical bytes; refuses all others.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, ManifestError> {
        let manifest: Manifest = decode(bytes)?;
        manifest.check()?;
        Ok(manifest)
    }

    /// Refuses what no honest builder writes.
    pub fn check(&self) -> Result<(), ManifestError> {
        let version = match self {
            Manifest::Image(image) => image.version,
            Manifest::Blob(blob) => blob.version,
        };
        if version != MANIFEST_VERSION {
            return Err(ManifestError::Version(version));
        }
        self.pieces().check()?;
        if let Manifest::Image(image) = self {
            image.config.check()?;
        }
        Ok(())
    }
}

impl ImageConfig {
    fn check(&self) -> Result<(), ManifestError> {
        use crate::formfile::{ENTRYPOINT_WORDS_MAX, PATH_BYTES_MAX, PORTS_MAX, STEPS_MAX};
        let refuse = |bad: bool, what| {
            if bad {
                Err(ManifestError::Config(what))
            } else {
                Ok(())
            }
        };
        refuse(
            self.entrypoint.len() > ENTRYPOINT_WORDS_MAX,
            "too many words of the entrypoint",
        )?;
        refuse(self.env.len() > STEPS_MAX, "too many variables")?;
        refuse(
            self.expose.len() > PORTS_MAX || self.expose.contains(&0),
            "its ports",
        )?;
        refuse(
            !self.workdir.starts_with('/') || self.workdir.len() > PATH_BYTES_MAX,
            "its working directory",
        )?;
        let texts = self
            .entrypoint
            .iter()
            .chain(self.env.iter().flat_map(|(key, value)| [key, value]));
        refuse(texts.clone().any(|text| text.contains('\0')), "a NUL in a text")?;
        refuse(
            texts.map(String::len).sum::<usize>() > CONFIG_BYTES_MAX,
            "too much text",
        )?;
        match &self.health {
            HealthCheck::None => Ok(()),
            HealthCheck::Tcp { port } => refuse(*port == 0, "port 0 of the health check"),
            HealthCheck::Http { path, port } => {
                let bad = *port == 0 || !path.starts_with('/') || path.len() > PATH_BYTES_MAX;
                refuse(
                    bad || !path.bytes().all(|b| b.is_ascii_graphic()),
                    "the health check",
                )
            }
        }
    }
}

fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    postcard::to_stdvec(value).expect("a manifest has nothing that postcard cannot write")
}

fn decode<T: Serialize + for<'de> Deserialize<'de>>(bytes: &[u8]) -> Result<T, ManifestError> {
    if bytes.len() > MANIFEST_BYTES_MAX {
        return Err(ManifestError::TooLong(bytes.len()));
    }
    let value = postcard::from_bytes(bytes).map_err(|_| ManifestError::NotCanonical)?;
    // postcard alone accepts trailing bytes and padded numbers.
    if encode(&value) == bytes {
        Ok(value)
    } else {
        Err(ManifestError::NotCanonical)
    }
}
