//! Takes the uncompressed kernel (an ELF file) out of a bzImage. Pure: bytes in, bytes out.
//!
//! An emulated guest spends a third of a second on unpacking its own kernel; unpacked once on the host, that
//! time is saved at each start. Debian compresses its cloud kernel with LZ4 in the legacy framing, which is
//! all that is understood here; for another packing the bzImage itself is booted.
//!
//! ```text
//! 0x1f1 setup_sects u8 │ 0x202 "HdrS" │ 0x248 payload_offset u32 │ 0x24c payload_length u32
//! payload: 02 21 4c 18, then blocks: compressed length u32 LE, LZ4 block (8 MiB unpacked at most)
//! ```

/// The most that a kernel may unpack to, in bytes.
pub const KERNEL_BYTES_MAX: usize = 256 * 1024 * 1024;

const LZ4_LEGACY_MAGIC: [u8; 4] = [0x02, 0x21, 0x4c, 0x18];
/// Type of the ELF note that names the kernel's PVH entry point.
const NOTE_PVH_ENTRY: u32 = 18;
const PROGRAM_HEADER_NOTE: u32 = 4;

/// Why no kernel came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BzImageError {
    /// The file is no bzImage of boot protocol 2.08 or newer.
    #[error("this is no bzImage")]
    NotBzImage,
    /// The payload is packed in another way than LZ4.
    #[error("the kernel is not packed with LZ4")]
    OtherPacking,
    /// The packed bytes make no sense.
    #[error("the packed kernel is damaged")]
    Damaged,
    /// The unpacked kernel has no PVH entry, so that no monitor could start it.
    #[error("the unpacked kernel has no PVH entry point")]
    NoPvhEntry,
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(
        bytes.get(at..at.checked_add(2)?)?.try_into().ok()?,
    ))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(
        bytes.get(at..at.checked_add(4)?)?.try_into().ok()?,
    ))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<usize> {
    usize::try_from(u64::from_le_bytes(
        bytes.get(at..at.checked_add(8)?)?.try_into().ok()?,
    ))
    .ok()
}

/// The ELF kernel inside `bzimage`, with a PVH entry point.
pub fn unpack(bzimage: &[u8]) -> Result<Vec<u8>, BzImageError> {
    let payload = payload(bzimage).ok_or(BzImageError::NotBzImage)?;
    let blocks = payload
        .strip_prefix(&LZ4_LEGACY_MAGIC)
        .ok_or(BzImageError::OtherPacking)?;
    let elf = lz4_legacy(blocks).ok_or(BzImageError::Damaged)?;
    if !has_pvh_entry(&elf) {
        return Err(BzImageError::NoPvhEntry);
    }
    Ok(elf)
}

fn payload(bzimage: &[u8]) -> Option<&[u8]> {
    if bzimage.get(0x202..0x206)? != b"HdrS" {
        return None;
    }
    let setup_sectors = match *bzimage.get(0x1f1)? {
        0 => 4,
        some => usize::from(some),
    };
    let start = (setup_sectors + 1) * 512 + u32_at(bzimage, 0x248)? as usize;
    bzimage.get(start..start.checked_add(u32_at(bzimage, 0x24c)? as usize)?)
}

fn lz4_legacy(mut blocks: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    // What follows the last block is the unpacked length: shorter than a block's head and body.
    while let Some(length) = u32_at(blocks, 0) {
        if length.to_le_bytes() == LZ4_LEGACY_MAGIC {
            blocks = &blocks[4..];
            continue;
        }
        let Some(block) = blocks.get(4..(length as usize).checked_add(4)?) else {
            break;
        };
        if block.is_empty() {
            break;
        }
        lz4_block(block, &mut out)?;
        blocks = &blocks[4 + block.len()..];
    }
    Some(out)
}

/// Appends one unpacked LZ4 block to `out`.
fn lz4_block(block: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let begin = out.len();
    let mut at = 0;
    loop {
        let token = *block.get(at)?;
        at += 1;
        let literals = lz4_length(block, &mut at, token >> 4)?;
        let literal_bytes = block.get(at..at.checked_add(literals)?)?;
        if out.len() + literals > KERNEL_BYTES_MAX {
            return None;
        }
        out.extend_from_slice(literal_bytes);
        at += literals;
        if at == block.len() {
            return Some(());
        }
        let distance = usize::from(u16_at(block, at)?);
        at += 2;
        let length = lz4_length(block, &mut at, token & 15)?.checked_add(4)?;
        if distance == 0 || distance > out.len() - begin || out.len().checked_add(length)? > KERNEL_BYTES_MAX
        {
            return None;
        }
        let from = out.len() - distance;
        if distance >= length {
            out.extend_from_within(from..from + length);
        } else {
            // The match overlaps what it makes: byte by byte, as the format means it.
            for index in from..from + length {
                out.push(out[index]);
            }
        }
    }
}

fn lz4_length(block: &[u8], at: &mut usize, nibble: u8) -> Option<usize> {
    let mut length = usize::from(nibble);
    if nibble == 15 {
        loop {
            let more = *block.get(*at)?;
            *at += 1;
            length = length.checked_add(usize::from(more))?;
            if more != 255 {
                break;
            }
        }
    }
    Some(length)
}

/// Whether an ELF file of 64 bits carries the note with the PVH entry point.
fn has_pvh_entry(elf: &[u8]) -> bool {
    if !elf.starts_with(b"\x7fELF\x02\x01") {
        return false;
    }
    let (Some(table), Some(size), Some(count)) = (u64_at(elf, 0x20), u16_at(elf, 0x36), u16_at(elf, 0x38))
    else {
        return false;
    };
    (0..usize::from(count)).any(|index| {
        let Some(header) = table
            .checked_add(index * usize::from(size))
            .and_then(|at| elf.get(at..))
        else {
            return false;
        };
        u32_at(header, 0) == Some(PROGRAM_HEADER_NOTE) && note_segment_has_pvh(elf, header).unwrap_or(false)
    })
}

fn note_segment_has_pvh(elf: &[u8], header: &[u8]) -> Option<bool> {
    let offset = u64_at(header, 0x08)?;
    let mut notes = elf.get(offset..offset.checked_add(u64_at(header, 0x20)?)?)?;
    while let (Some(name), Some(content), Some(kind)) = (u32_at(notes, 0), u32_at(notes, 4), u32_at(notes, 8))
    {
        if kind == NOTE_PVH_ENTRY && notes.get(12..16) == Some(b"Xen\0") {
            return Some(true);
        }
        let padded = |length: u32| (length as usize).next_multiple_of(4);
        notes = notes.get(12 + padded(name) + padded(content)..)?;
    }
    Some(false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn block(bytes: &[u8]) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        lz4_block(bytes, &mut out).map(|()| out)
    }

    #[test]
    fn a_match_may_overlap_what_it_makes() {
        // "ab", then 6 bytes from 2 back, then the literal "x".
        assert_eq!(
            block(&[0x22, b'a', b'b', 2, 0, 0x10, b'x']),
            Some(b"ababababx".to_vec())
        );
    }

    #[test]
    fn a_match_before_the_beginning_is_damage() {
        assert_eq!(block(&[0x10, b'a', 9, 0, 0x00]), None);
        assert_eq!(block(&[0x10, b'a', 0, 0, 0x00]), None);
    }

    #[test]
    fn a_match_in_an_earlier_block_is_damage() {
        let mut out = b"an earlier block".to_vec();
        assert_eq!(lz4_block(&[0x10, b'a', 9, 0, 0x00], &mut out), None);
    }

    #[test]
    fn long_lengths_continue_in_further_bytes() {
        let mut packed = vec![0xf0, 255, 10];
        packed.extend([7; 280]);
        assert_eq!(block(&packed), Some(vec![7; 280]));
    }

    #[test]
    fn what_is_no_bzimage_is_refused() {
        assert_eq!(unpack(b"MZ"), Err(BzImageError::NotBzImage));
        assert_eq!(unpack(&[0; 4096]), Err(BzImageError::NotBzImage));
    }

    proptest! {
        #[test]
        fn damaged_kernels_never_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..4096)) {
            if bytes.len() > 0x250 {
                bytes[0x202..0x206].copy_from_slice(b"HdrS");
                bytes[0x1f1] = 1;
                bytes[0x248..0x24c].copy_from_slice(&0u32.to_le_bytes());
                bytes[0x24c..0x250].copy_from_slice(&64u32.to_le_bytes());
                if bytes.len() > 1100 {
                    bytes[1024..1028].copy_from_slice(&LZ4_LEGACY_MAGIC);
                    bytes[1028..1032].copy_from_slice(&20u32.to_le_bytes());
                }
            }
            let _ = unpack(&bytes);
        }

        #[test]
        fn any_block_is_unpacked_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
            let _ = block(&bytes);
            let _ = has_pvh_entry(&bytes);
        }
    }
}
