//! The store: nothing unverified becomes whole, and nothing whole is lost.

#![allow(clippy::unwrap_used)]
#![cfg(feature = "host")]

use pack::image::{
    BlobManifest, Digest, HealthCheck, ImageConfig, ImageManifest, MANIFEST_VERSION, Manifest, ManifestError,
    PIECE_BYTES, PieceList,
};
use pack::io::store::{BlobStore, StoreError};
use proptest::prelude::*;
use std::fs;

fn bytes(length: usize) -> Vec<u8> {
    (0..length)
        .map(|index| (index * 31 + index / 997) as u8)
        .collect()
}

const PIECE: usize = PIECE_BYTES as usize;

fn image(disk: &[u8]) -> ImageManifest {
    ImageManifest {
        version: MANIFEST_VERSION,
        formfile_digest: Digest([1; 32]),
        config: ImageConfig {
            entrypoint: vec!["a".into()],
            env: vec![("K".into(), "v".into())],
            workdir: "/".into(),
            expose: vec![80],
            health: HealthCheck::Http {
                path: "/h".into(),
                port: 80,
            },
        },
        pieces: PieceList::of_bytes(disk),
    }
}

#[test]
fn a_blob_arrives_piece_by_piece_and_goes_on_after_a_restart() {
    let source = tempfile::TempDir::new().unwrap();
    let target = tempfile::TempDir::new().unwrap();
    let data = bytes(3 * PIECE + 17);
    let from = BlobStore::open(source.path()).unwrap();
    let (manifest, digest) = from.import_bytes(&data).unwrap();
    assert_eq!(digest, manifest.digest());
    let manifest = Manifest::Blob(manifest);
    {
        let store = BlobStore::open(target.path()).unwrap();
        let partial = store.begin(manifest.clone()).unwrap();
        assert_eq!(partial.missing(), [0, 1, 2, 3]);
        partial
            .put_piece(3, &from.read_piece(&digest, 3).unwrap())
            .unwrap();
        partial
            .put_piece(1, &from.read_piece(&digest, 1).unwrap())
            .unwrap();
        assert!(matches!(store.begin(manifest.clone()), Err(StoreError::Busy(_))));
        assert!(!store.holds(&digest) && store.path(&digest).is_none());
        assert!(matches!(partial.finish(), Err(StoreError::Incomplete(2))));
    }
    // What the disk did to the pieces meanwhile is found out.
    let part = target
        .path()
        .join("partial")
        .join(digest.to_string())
        .join("data");
    let mut damaged = fs::read(&part).unwrap();
    damaged[PIECE] ^= 1;
    fs::write(&part, damaged).unwrap();
    let store = BlobStore::open(target.path()).unwrap();
    let partial = store.begin(manifest.clone()).unwrap();
    assert_eq!(partial.missing(), [0, 1, 2]);
    for index in partial.missing() {
        partial
            .put_piece(index, &from.read_piece(&digest, index).unwrap())
            .unwrap();
    }
    assert_eq!(partial.finish().unwrap(), digest);
    assert_eq!(fs::read(store.path(&digest).unwrap()).unwrap(), data);
    assert_eq!(store.manifest(&digest).unwrap(), Some(manifest.clone()));
    assert_eq!(store.list().unwrap()[0].total_bytes, data.len() as u64);
    assert_eq!(fs::read_dir(target.path().join("partial")).unwrap().count(), 0);
    let again = store.begin(manifest).unwrap();
    again.abandon().unwrap();
    store.remove(&digest).unwrap();
    assert!(!store.holds(&digest) && store.list().unwrap().is_empty());
    assert_eq!(fs::read_dir(target.path().join("tmp")).unwrap().count(), 0);
}

#[test]
fn a_forged_piece_is_refused() {
    let folder = tempfile::TempDir::new().unwrap();
    let store = BlobStore::open(folder.path()).unwrap();
    let data = bytes(PIECE + 5);
    let partial = store
        .begin(Manifest::Blob(BlobManifest::of_bytes(&data)))
        .unwrap();
    let mut forged = data[..PIECE].to_vec();
    forged[77] ^= 1;
    assert!(matches!(
        partial.put_piece(0, &forged),
        Err(StoreError::WrongPiece(0))
    ));
    assert!(matches!(
        partial.put_piece(0, &data[..PIECE - 1]),
        Err(StoreError::WrongPiece(0))
    ));
    assert!(matches!(
        partial.put_piece(1, &data[..PIECE]),
        Err(StoreError::WrongPiece(1))
    ));
    assert!(matches!(
        partial.put_piece(2, &data[PIECE..]),
        Err(StoreError::WrongPiece(2))
    ));
    assert!(partial.put_piece(1, &data[PIECE..]).is_ok());
    assert_eq!(partial.missing(), [0]);
}

#[test]
fn a_rotten_piece_is_not_served() {
    let folder = tempfile::TempDir::new().unwrap();
    let store = BlobStore::open(folder.path()).unwrap();
    let (_, digest) = store.import_bytes(&bytes(2 * PIECE)).unwrap();
    let path = store.path(&digest).unwrap();
    let mut data = fs::read(&path).unwrap();
    data[PIECE + 1] ^= 1;
    fs::write(&path, data).unwrap();
    assert!(store.read_piece(&digest, 0).is_ok());
    assert!(matches!(
        store.read_piece(&digest, 1),
        Err(StoreError::WrongPiece(1))
    ));
    assert!(matches!(
        store.read_piece(&digest, 2),
        Err(StoreError::Unknown(_))
    ));
    assert!(matches!(
        store.read_piece(&Digest([9; 32]), 0),
        Err(StoreError::Unknown(_))
    ));
}

#[test]
fn an_image_is_taken_with_its_manifest_or_not_at_all() {
    let folder = tempfile::TempDir::new().unwrap();
    let store = BlobStore::open(folder.path().join("store")).unwrap();
    let disk = folder.path().join("disk");
    fs::write(&disk, bytes(PIECE + 1)).unwrap();
    let manifest = image(&bytes(PIECE + 1));
    let digest = store.import_image(&manifest, &disk).unwrap();
    assert_eq!(digest, manifest.digest());
    assert_eq!(store.image(&digest).unwrap(), Some(manifest));
    let other = image(&bytes(PIECE + 2));
    assert!(matches!(
        store.import_image(&other, &disk),
        Err(StoreError::WrongFile(_))
    ));
    let (_, plain) = store.import_file(&disk).unwrap();
    assert_ne!(plain, digest);
    assert_eq!(
        store.image(&plain).unwrap(),
        None,
        "a blob is no image, whatever its bytes"
    );
    assert_eq!(store.list().unwrap().len(), 2);
}

#[test]
fn what_an_interrupted_import_left_is_cleared() {
    let folder = tempfile::TempDir::new().unwrap();
    fs::create_dir_all(folder.path().join("tmp/left")).unwrap();
    fs::write(folder.path().join("tmp/left/data"), "half").unwrap();
    let store = BlobStore::open(folder.path()).unwrap();
    assert_eq!(fs::read_dir(folder.path().join("tmp")).unwrap().count(), 0);
    let (_, empty) = store.import_bytes(b"").unwrap();
    assert_eq!(store.path(&empty).unwrap().metadata().unwrap().len(), 0);
}

#[test]
fn a_manifest_that_lies_is_refused() {
    let good = Manifest::Image(image(&bytes(10)));
    let check = |change: &dyn Fn(&mut ImageManifest)| {
        let mut manifest = image(&bytes(10));
        change(&mut manifest);
        Manifest::from_bytes(&Manifest::Image(manifest).to_bytes()).unwrap_err()
    };
    assert_eq!(Manifest::from_bytes(&good.to_bytes()).unwrap(), good);
    assert_eq!(check(&|m| m.version = 2), ManifestError::Version(2));
    assert_eq!(check(&|m| m.pieces.piece_bytes = 1), ManifestError::PieceSize(1));
    assert_eq!(
        check(&|m| m.pieces.total_bytes = u64::MAX),
        ManifestError::TooLarge(u64::MAX)
    );
    assert!(matches!(
        check(&|m| m.pieces.total_bytes = PIECE as u64 + 1),
        ManifestError::PieceCount { .. }
    ));
    assert!(matches!(
        check(&|m| m.config.workdir = "x".into()),
        ManifestError::Config(_)
    ));
    assert!(matches!(
        check(&|m| m.config.expose = vec![0]),
        ManifestError::Config(_)
    ));
    assert!(matches!(
        check(&|m| m.config.env = vec![("a\0".into(), String::new())]),
        ManifestError::Config(_)
    ));
    assert!(matches!(
        check(&|m| m.config.health = HealthCheck::Tcp { port: 0 }),
        ManifestError::Config(_)
    ));
    let mut trailing = good.to_bytes();
    trailing.push(0);
    assert_eq!(Manifest::from_bytes(&trailing), Err(ManifestError::NotCanonical));
    let long = vec![0; pack::image::MANIFEST_BYTES_MAX + 1];
    assert_eq!(
        Manifest::from_bytes(&long),
        Err(ManifestError::TooLong(long.len()))
    );
}

#[test]
fn a_digest_is_read_as_it_is_written() {
    let digest = Digest([0xab; 32]);
    assert_eq!(digest.to_string().parse(), Ok(digest));
    assert!("AB".repeat(32).parse::<Digest>().is_err());
    assert!("ab".parse::<Digest>().is_err());
    let json = serde_json::to_string(&digest).unwrap();
    assert_eq!(serde_json::from_str::<Digest>(&json).unwrap(), digest);
}

proptest! {
    #[test]
    fn any_bytes_are_a_manifest_in_one_spelling_or_none(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(manifest) = Manifest::from_bytes(&bytes) {
            prop_assert_eq!(manifest.to_bytes(), bytes);
        }
    }

    #[test]
    fn a_changed_byte_makes_another_image_or_none(at in 0_usize..1000, bit in 0_u8..8) {
        let good = Manifest::Image(image(&bytes(10)));
        let mut changed = good.to_bytes();
        let at = at % changed.len();
        changed[at] ^= 1 << bit;
        if let Ok(manifest) = Manifest::from_bytes(&changed) {
            prop_assert_ne!(manifest.digest(), good.digest());
        }
    }
}
