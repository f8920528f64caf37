//! Writes the archive that a kernel unpacks as its first root: cpio in its "newc" format.
//!
//! ```text
//! "070701", 13 numbers of 8 hexadecimal digits, the name and a zero byte, padding to 4; the data, padding to 4
//! ```
//! Every file belongs to root. A path that is already in the archive stays as it is: the first wins.
//! Format: Documentation/driver-api/early-userspace/buffer-format.rst of the kernel.

use std::collections::BTreeSet;
use std::io::{Read, Write};

use anyhow::{Context, Result, ensure};

const FOLDER: u32 = 0o040_000;
const FILE: u32 = 0o100_000;
const LINK: u32 = 0o120_000;
const DEVICE: u32 = 0o020_000;

/// An archive that is being written.
pub(crate) struct Archive<W: Write> {
    out: W,
    paths: BTreeSet<String>,
    inode: u32,
}

impl<W: Write> Archive<W> {
    /// An empty archive.
    pub(crate) fn new(out: W) -> Self {
        Self { out, paths: BTreeSet::new(), inode: 0 }
    }

    /// Adds a folder and those above it.
    pub(crate) fn folder(&mut self, path: &str, permissions: u32) -> Result<()> {
        let Some(path) = self.claim(path)? else { return Ok(()) };
        self.entry(&path, FOLDER | permissions, 0, (0, 0))
    }

    /// Adds a file of `length` bytes, read from `data`.
    pub(crate) fn file(&mut self, path: &str, permissions: u32, length: u64, data: impl Read) -> Result<()> {
        let Some(path) = self.claim(path)? else { return Ok(()) };
        let length = u32::try_from(length).with_context(|| format!("{path} is larger than 4 GiB"))?;
        self.entry(&path, FILE | (permissions & 0o7777), length, (0, 0))?;
        let copied = std::io::copy(&mut data.take(length.into()), &mut self.out).context("writing the root")?;
        ensure!(copied == u64::from(length), "{path} shrank while it was read");
        self.pad(length)
    }

    /// Adds a file with these bytes.
    pub(crate) fn bytes(&mut self, path: &str, permissions: u32, data: &[u8]) -> Result<()> {
        self.file(path, permissions, data.len() as u64, data)
    }

    /// Adds a symbolic link.
    pub(crate) fn link(&mut self, path: &str, target: &str) -> Result<()> {
        let Some(path) = self.claim(path)? else { return Ok(()) };
        let length = u32::try_from(target.len()).context("a link is too long")?;
        self.entry(&path, LINK | 0o777, length, (0, 0))?;
        self.out.write_all(target.as_bytes()).context("writing the root")?;
        self.pad(length)
    }

    /// Adds a character device.
    pub(crate) fn device(&mut self, path: &str, permissions: u32, number: (u32, u32)) -> Result<()> {
        let Some(path) = self.claim(path)? else { return Ok(()) };
        self.entry(&path, DEVICE | permissions, 0, number)
    }

    /// Ends the archive.
    pub(crate) fn finish(mut self) -> Result<W> {
        self.entry("TRAILER!!!", 0, 0, (0, 0))?;
        Ok(self.out)
    }

    /// The path as archives name it, without the slash; `None` if it is there already.
    fn claim(&mut self, path: &str) -> Result<Option<String>> {
        let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
        ensure!(!parts.contains(&".."), "`{path}` points upwards");
        let path = parts.join("/");
        if path.is_empty() || self.paths.contains(&path) {
            return Ok(None);
        }
        if let Some((above, _)) = path.rsplit_once('/') {
            self.folder(above, 0o755)?;
        }
        self.paths.insert(path.clone());
        Ok(Some(path))
    }

    fn entry(&mut self, path: &str, mode: u32, length: u32, device: (u32, u32)) -> Result<()> {
        self.inode += 1;
        let name_length = u32::try_from(path.len() + 1).context("a path is too long")?;
        let (inode, links, (major, minor)) = (self.inode, 1, device);
        let mut head = b"070701".to_vec();
        for number in [inode, mode, 0, 0, links, 0, length, 0, 0, major, minor, name_length, 0] {
            head.extend(format!("{number:08x}").bytes());
        }
        head.extend(path.bytes());
        head.push(0);
        head.resize(head.len().next_multiple_of(4), 0);
        self.out.write_all(&head).context("writing the root")
    }

    fn pad(&mut self, length: u32) -> Result<()> {
        let missing = length.next_multiple_of(4) - length;
        self.out.write_all(&[0; 4][..missing as usize]).context("writing the root")
    }
}
