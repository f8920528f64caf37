//! Loads the kernel modules of the initramfs, in the order of their names.

use std::fs::{self, File};

const FOLDER: &str = "/modules";

/// Loads all of them; the files are removed afterwards, since an initramfs is memory.
pub(crate) fn load() -> Result<(), String> {
    let entries = fs::read_dir(FOLDER).map_err(|error| format!("{FOLDER}: {error}"))?;
    let mut paths: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.sort();
    for path in paths {
        let named = |error: std::io::Error| format!("module {}: {error}", path.display());
        let file = File::open(&path).map_err(named)?;
        match rustix::system::finit_module(&file, c"", 0) {
            Ok(()) | Err(rustix::io::Errno::EXIST) => {}
            Err(error) => return Err(named(error.into())),
        }
        let _ = fs::remove_file(&path);
    }
    Ok(())
}
