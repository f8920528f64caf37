//! A cpio archive in the "newc" format, as the kernel unpacks it for its initramfs. Pure and deterministic:
//! the same entries in the same order give the same bytes; all times are zero, all owners root.

/// An archive that grows entry by entry. A folder must be added before what lies in it.
#[derive(Debug, Default)]
pub struct Archive {
    bytes: Vec<u8>,
    entries: u32,
}

const MODE_FOLDER: u32 = 0o040_000;
const MODE_FILE: u32 = 0o100_000;
const MODE_CHARACTER_DEVICE: u32 = 0o020_000;

impl Archive {
    /// Adds a folder with permissions rwxr-xr-x.
    pub fn folder(&mut self, path: &str) {
        self.entry(path, MODE_FOLDER | 0o755, &[], (0, 0));
    }

    /// Adds a file.
    pub fn file(&mut self, path: &str, permissions: u32, content: &[u8]) {
        self.entry(path, MODE_FILE | (permissions & 0o7777), content, (0, 0));
    }

    /// Adds a character device that only root may use.
    pub fn character_device(&mut self, path: &str, major: u32, minor: u32) {
        self.entry(path, MODE_CHARACTER_DEVICE | 0o600, &[], (major, minor));
    }

    /// Ends the archive.
    pub fn finish(mut self) -> Vec<u8> {
        self.entries = 0;
        self.entry("TRAILER!!!", 0, &[], (0, 0));
        self.bytes.resize(self.bytes.len().next_multiple_of(512), 0);
        self.bytes
    }

    fn entry(&mut self, path: &str, mode: u32, content: &[u8], device: (u32, u32)) {
        self.entries += 1;
        let length = u32::try_from(content.len()).expect("an initramfs holds no file of 4 GiB");
        let name_length = u32::try_from(path.len() + 1).expect("a path is short");
        let links = if mode & MODE_FOLDER != 0 { 2 } else { 1 };
        let fields = [
            self.entries,
            mode,
            0,
            0,
            links,
            0,
            length,
            0,
            0,
            device.0,
            device.1,
            name_length,
            0,
        ];
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            self.bytes.extend_from_slice(format!("{field:08X}").as_bytes());
        }
        self.bytes.extend_from_slice(path.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(content);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_laid_out_as_newc_wants_it() {
        let mut archive = Archive::default();
        archive.file("ab", 0o755, b"hello");
        let bytes = archive.finish();
        assert_eq!(&bytes[..6], b"070701");
        assert_eq!(&bytes[14..22], b"000081ED");
        assert_eq!(&bytes[54..62], b"00000005");
        assert_eq!(&bytes[94..102], b"00000003");
        // Head and name end on a multiple of four, so does the content.
        assert_eq!(&bytes[110..116], b"ab\0\0\0\0");
        assert_eq!(&bytes[116..121], b"hello");
        assert_eq!(&bytes[124..130], b"070701");
        assert_eq!(bytes.len() % 512, 0);
        assert!(bytes.windows(10).any(|window| window == b"TRAILER!!!"));
    }

    #[test]
    fn the_same_entries_give_the_same_bytes() {
        let make = || {
            let mut archive = Archive::default();
            archive.folder("dev");
            archive.character_device("dev/console", 5, 1);
            archive.file("init", 0o755, &[1; 1000]);
            archive.finish()
        };
        assert_eq!(make(), make());
    }
}
