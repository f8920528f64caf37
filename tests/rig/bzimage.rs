//! Opens a bzImage: finds the compressed kernel behind its boot code and lets the fitting program
//! decompress it.
//!
//! ```text
//! 0x1f1 sectors of boot code, less one      0x202 "HdrS"
//! 0x248 offset of the payload behind them   0x24c its length
//! payload: the compressed ELF file; its last 4 bytes tell the length of what comes out
//! ```
//! QEMU can boot the bzImage, too, but then the decompression itself is translated, which takes seconds.
//! Format: Documentation/arch/x86/boot.rst of the kernel.

use std::fs::File;
use std::io::{Seek, Write};
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

/// The payload's first bytes, the program that decompresses it, and whether its format ends with the length
/// anyway (gzip), so that those bytes stay.
const FORMATS: [(&[u8], &str, bool); 4] = [
    (&[0x02, 0x21, 0x4c, 0x18], "lz4", false),
    (&[0x28, 0xb5, 0x2f, 0xfd], "zstd", false),
    (&[0xfd, b'7', b'z', b'X', b'Z'], "xz", false),
    (&[0x1f, 0x8b], "gzip", true),
];

/// Writes the ELF kernel that is in `image` to the file `out`.
pub(crate) fn unpack(image: &[u8], out: &Path) -> Result<()> {
    let payload = payload(image).context("reading the kernel's boot header")?;
    let Some((_, program, keeps_length)) = FORMATS.iter().find(|(magic, ..)| payload.starts_with(magic)) else {
        bail!("the kernel is compressed in a way that the rig does not know");
    };
    let (body, length) = payload.split_last_chunk::<4>().context("the kernel is empty")?;
    let mut input = tempfile::tempfile().context("making a file")?;
    input.write_all(if *keeps_length { payload } else { body }).context("writing the compressed kernel")?;
    input.rewind().context("writing the compressed kernel")?;
    let output = File::create(out).with_context(|| format!("making {}", out.display()))?;
    let status = Command::new(program)
        .arg("-dc")
        .stdin(input)
        .stdout(output.try_clone().context("sharing a file")?)
        .status()
        .with_context(|| format!("starting {program}: install Debian's package {program}"))?;
    ensure!(status.success(), "{program} could not decompress the kernel ({status})");
    let (told, came) = (u64::from(u32::from_le_bytes(*length)), output.metadata()?.len());
    ensure!(told == came, "the kernel decompressed to {came} bytes instead of {told}");
    Ok(())
}

fn payload(image: &[u8]) -> Option<&[u8]> {
    let number = |at: usize| {
        let bytes = image.get(at..at + 4)?;
        Some(u32::from_le_bytes(bytes.try_into().ok()?) as usize)
    };
    if image.get(0x202..0x206)? != b"HdrS" {
        return None;
    }
    let sectors = usize::from(*image.get(0x1f1)?) + 1;
    let start = (sectors * 512).checked_add(number(0x248)?)?;
    image.get(start..start.checked_add(number(0x24c)?)?)
}
