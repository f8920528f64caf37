//! Which shared libraries a program needs, as `ldd` of this host tells.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

/// The libraries of an ELF file with its loader, by the paths under which the loader will look for them.
/// Nothing for other files and for static programs.
pub(crate) fn of(path: &Path) -> Result<Vec<PathBuf>> {
    let mut magic = Vec::new();
    let file = std::fs::File::open(path).with_context(|| format!("opening {}", path.display()))?;
    file.take(4).read_to_end(&mut magic).with_context(|| format!("reading {}", path.display()))?;
    if magic != b"\x7fELF" {
        return Ok(Vec::new());
    }
    let output = Command::new("ldd")
        .arg(path)
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .output()
        .context("starting ldd")?;
    let (said, complained) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if !output.status.success() {
        let is_static = complained.contains("not a dynamic executable") || said.contains("not a dynamic executable");
        ensure!(is_static, "`ldd {}` failed: {}", path.display(), complained.trim());
        return Ok(Vec::new());
    }
    let mut found = Vec::new();
    for line in said.lines().map(str::trim) {
        let place = match line.split_once(" => ") {
            Some((_, place)) => place,
            None => line,
        };
        // A line without a path names the kernel's own library, or one that is missing: plugins find those
        // in the program that loads them, and a program says so itself when it is started.
        if place.starts_with('/') {
            found.push(PathBuf::from(place.rsplit_once(" (").map_or(place, |(place, _)| place)));
        }
    }
    Ok(found)
}
