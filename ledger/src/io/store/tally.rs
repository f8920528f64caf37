//! A count beside the store of what it acknowledged.
//!
//! A write-ahead log whose end was damaged looks like one that ends earlier: what is gone leaves no trace in
//! it. The tally is written after each batch to a file of its own, so that a store that lost its end is told
//! from one that never had it. It is not synced: after a loss of power it may lag behind, and then it says
//! less than it could, never more than is true.
//!
//! ```text
//! file := number of the next journal record (8 LE) ‖ first half of its hash (16)
//! ```

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::id::hash;

#[derive(Debug)]
pub(super) struct Tally {
    file: File,
}

fn encode(next: u64) -> [u8; 24] {
    let next = next.to_le_bytes();
    let sum = hash("formation 2026 tally v1", &[&next]);
    let mut bytes = [0; 24];
    bytes[..8].copy_from_slice(&next);
    bytes[8..].copy_from_slice(&sum[..16]);
    bytes
}

impl Tally {
    /// Opens it; gives what it says, if it says anything.
    pub(super) fn open(path: &Path) -> std::io::Result<(Self, Option<u64>)> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)?;
        let mut bytes = [0; 24];
        let said = match file.read_exact_at(&mut bytes, 0) {
            Ok(()) => {
                let next = u64::from_le_bytes(*bytes.first_chunk().expect("24 bytes begin with 8"));
                (encode(next) == bytes).then_some(next)
            }
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => None,
            Err(error) => return Err(error),
        };
        Ok((Self { file }, said))
    }

    /// Notes what was acknowledged. That it cannot be noted harms nothing that is stored.
    pub(super) fn note(&self, next: u64) {
        let _ = self.file.write_all_at(&encode(next), 0);
    }
}
