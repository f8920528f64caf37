//! The bytes of an ext4 disk that depend on when it was made, set to one moment.
//!
//! mke2fs copies each file's change time and stamps its own; two builds of the same tree would differ in them
//! alone. This finds the inode tables of a disk made with the features that the builder asks for (no checksums,
//! no journal, 32-byte group descriptors) and settles the times in them. It knows nothing else of ext4, and
//! reads no disk itself: the caller brings the bytes and takes them back.

/// Where the superblock lies, and how long it is.
pub const SUPERBLOCK: std::ops::Range<u64> = 1024..2048;
/// Features that the builder gives to mke2fs; the layout below relies on what is absent here.
pub const FEATURES: &str =
    "none,ext_attr,dir_index,filetype,extent,flex_bg,sparse_super,large_file,huge_file,dir_nlink,extra_isize";
/// The moment that stands for every time that the build itself made: 2025-01-01.
pub const EPOCH: u32 = 1_735_689_600;

const MAGIC: u16 = 0xef53;
const DESCRIPTOR_BYTES: u64 = 32;
/// 64bit, meta_bg: they move or grow the descriptors.
const INCOMPAT_REFUSED: u32 = 0x80 | 0x10;
/// gdt_csum, metadata_csum: an edit would break their sums.
const RO_COMPAT_REFUSED: u32 = 0x10 | 0x400;
const INODE_BYTES: u16 = 256;

/// Why a disk is not one of ours.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LayoutError {
    /// Not ext4 at all.
    #[error("this is no ext4 disk")]
    Magic,
    /// Made with other features.
    #[error("this ext4 disk was made with features that its times cannot be settled under")]
    Features,
}

/// Where the inodes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    block_bytes: u64,
    inodes_per_group: u32,
    groups: u32,
    first_block: u32,
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    bytes
        .get(at..at + 2)
        .map_or(0, |b| u16::from_le_bytes([b[0], b[1]]))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes
        .get(at..at + 4)
        .map_or(0, |b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]))
}

impl Layout {
    /// Reads the superblock.
    pub fn read(superblock: &[u8]) -> Result<Layout, LayoutError> {
        if u16_at(superblock, 56) != MAGIC {
            return Err(LayoutError::Magic);
        }
        let blocks = u32_at(superblock, 4);
        let first_block = u32_at(superblock, 20);
        let log_block_bytes = u32_at(superblock, 24);
        let blocks_per_group = u32_at(superblock, 32);
        let inodes_per_group = u32_at(superblock, 40);
        let refused = u32_at(superblock, 96) & INCOMPAT_REFUSED != 0
            || u32_at(superblock, 100) & RO_COMPAT_REFUSED != 0
            || u16_at(superblock, 88) != INODE_BYTES
            || log_block_bytes > 6
            || blocks_per_group == 0
            || inodes_per_group > 1 << 20;
        if refused {
            return Err(LayoutError::Features);
        }
        let groups = blocks.saturating_sub(first_block).div_ceil(blocks_per_group);
        Ok(Layout {
            block_bytes: 1024 << log_block_bytes,
            inodes_per_group,
            groups,
            first_block,
        })
    }

    /// Where the group descriptors lie.
    pub fn descriptors(&self) -> std::ops::Range<u64> {
        let start = (u64::from(self.first_block) + 1) * self.block_bytes;
        start..start + u64::from(self.groups) * DESCRIPTOR_BYTES
    }

    /// Where each group's inode table lies.
    pub fn inode_tables(&self, descriptors: &[u8]) -> Vec<std::ops::Range<u64>> {
        let bytes = u64::from(self.inodes_per_group) * u64::from(INODE_BYTES);
        descriptors
            .chunks_exact(DESCRIPTOR_BYTES as usize)
            .map(|descriptor| {
                let start = u64::from(u32_at(descriptor, 8)) * self.block_bytes;
                start..start + bytes
            })
            .collect()
    }
}

/// Settles the times of every inode in use. A modification time before `made_from` came with a package or the
/// context and stays: byte-compiled files compare it. All others are the build's own and become [`EPOCH`].
pub fn settle_times(table: &mut [u8], made_from: u32) {
    for inode in table.chunks_exact_mut(INODE_BYTES as usize) {
        let in_use = u16_at(inode, 0) != 0;
        if !in_use {
            continue;
        }
        let own = u32_at(inode, 16) >= made_from;
        let extra_end = 128 + usize::from(u16_at(inode, 128));
        // atime, ctime, and their nanoseconds and 2446-bits; crtime; mtime.
        let mut fields = vec![
            (8, EPOCH),
            (12, EPOCH),
            (132, 0),
            (140, 0),
            (144, EPOCH),
            (148, 0),
        ];
        if own {
            fields.extend([(16, EPOCH), (136, 0)]);
        }
        for (at, value) in fields {
            if at < 128 || at + 4 <= extra_end {
                inode[at..at + 4].copy_from_slice(&value.to_le_bytes());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_builds_own_times_are_settled() {
        let mut table = vec![0_u8; 3 * INODE_BYTES as usize];
        let set = |table: &mut [u8], inode: usize, at: usize, bytes: &[u8]| {
            let at = inode * INODE_BYTES as usize + at;
            table[at..at + bytes.len()].copy_from_slice(bytes);
        };
        for (inode, mtime) in [(0_usize, 100_u32), (2, 900)] {
            set(&mut table, inode, 0, &0o100_644_u16.to_le_bytes());
            set(&mut table, inode, 16, &mtime.to_le_bytes());
            set(&mut table, inode, 128, &32_u16.to_le_bytes());
            set(&mut table, inode, 136, &7_u32.to_le_bytes());
        }
        settle_times(&mut table, 500);
        assert_eq!(
            (u32_at(&table, 16), u32_at(&table, 136), u32_at(&table, 12)),
            (100, 7, EPOCH)
        );
        assert_eq!((u32_at(&table, 512 + 16), u32_at(&table, 512 + 136)), (EPOCH, 0));
        assert!(
            table[256..512].iter().all(|byte| *byte == 0),
            "a free inode stays free"
        );
    }

    #[test]
    fn another_disk_is_refused() {
        assert_eq!(Layout::read(&[0; 1024]), Err(LayoutError::Magic));
        let mut superblock = [0; 1024];
        superblock[56..58].copy_from_slice(&MAGIC.to_le_bytes());
        assert_eq!(Layout::read(&superblock), Err(LayoutError::Features));
    }
}
