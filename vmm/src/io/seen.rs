//! Remembers the highest generation of each machine that this host was ever told, also of deleted ones, so
//! that a late order never goes a step back.
//!
//! One small file a machine: `<dir>/seen/<id>` holds the number. Files of machines that are gone are dropped,
//! oldest first, beyond [`GONE_MAX`].

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::files;
use crate::spec::MachineId;

/// How many machines that are gone are remembered.
pub(super) const GONE_MAX: usize = 10_000;

fn path(dir: &Path, id: MachineId) -> PathBuf {
    dir.join("seen").join(id.short(64))
}

/// The highest generation seen of `id`; 0 when none was.
pub(super) fn read(dir: &Path, id: MachineId) -> u64 {
    fs::read_to_string(path(dir, id))
        .ok()
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or(0)
}

/// Notes that `generation` of `id` was seen.
pub(super) fn write(dir: &Path, id: MachineId, generation: u64) -> io::Result<()> {
    files::write_atomically(&path(dir, id), format!("{generation}\n").as_bytes())
}

/// Makes the folder and drops the oldest files over `gone_max` whose machine has no folder in `dir`.
pub(super) fn prune(dir: &Path, gone_max: usize) -> io::Result<()> {
    let folder = dir.join("seen");
    fs::create_dir_all(&folder)?;
    let mut gone = Vec::new();
    for entry in fs::read_dir(&folder)? {
        let entry = entry?;
        if !dir.join(entry.file_name()).exists() {
            gone.push((entry.metadata()?.modified()?, entry.path()));
        }
    }
    gone.sort();
    for (_, path) in gone.iter().take(gone.len().saturating_sub(gone_max)) {
        files::remove(path)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_generation_outlives_its_machine_and_the_oldest_are_dropped() {
        let dir = tempfile::tempdir().unwrap();
        prune(dir.path(), 2).unwrap();
        let ids: Vec<_> = (0..4).map(|byte| MachineId([byte; 32])).collect();
        for id in &ids {
            assert_eq!(read(dir.path(), *id), 0);
            write(dir.path(), *id, 7).unwrap();
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        fs::create_dir(dir.path().join(ids[0].short(64))).unwrap();
        prune(dir.path(), 2).unwrap();
        let kept: Vec<_> = ids.iter().map(|id| read(dir.path(), *id)).collect();
        assert_eq!(kept, [7, 0, 7, 7]);
    }
}
