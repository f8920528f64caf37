//! Lays the machine's own disk over the image: the root of the guest.
//!
//! ```text
//! /image  ext4, read only     (the disk with serial form-image)
//! /disk   ext4                (the disk with serial form-disk)   upper/ work/
//! root =  overlay of both
//! ```
//! Which device is which is told by serial numbers: their order is the monitor's whim.

use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use rustix::mount::{MountFlags, mount};
use vmm::guest::{DISK_SERIAL, IMAGE_SERIAL};

/// Where the machine's own disk is mounted, before the root is switched.
pub(crate) const DISK: &str = "/disk";

/// How long the disks may take to appear.
const DISKS_WAIT: Duration = Duration::from_secs(10);

/// Mounts everything and the overlay at `root`.
pub(crate) fn mount_root(root: &str) -> Result<(), String> {
    let image = device(IMAGE_SERIAL)?;
    let disk = device(DISK_SERIAL)?;
    // The image is shared, so its journal must not be replayed.
    let flags = MountFlags::RDONLY | MountFlags::NOATIME;
    mount(format!("/dev/{image}"), "/image", "ext4", flags, c"noload")
        .map_err(|error| format!("the image cannot be mounted (is it ext4?): {error}"))?;
    // What mkfs left undone is not done now: it would keep an emulated guest busy for minutes.
    mount(
        format!("/dev/{disk}"),
        DISK,
        "ext4",
        MountFlags::NOATIME,
        c"noinit_itable",
    )
    .map_err(|error| format!("the machine's disk cannot be mounted: {error}"))?;
    if let Err(why) = grow(&disk) {
        eprintln!("form-init: the disk stays smaller than asked: {why}");
    }
    for folder in ["upper", "work"] {
        let path = format!("{DISK}/{folder}");
        match fs::create_dir(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
                return Err(format!("{path}: {error}"));
            }
            _ => {}
        }
    }
    let data = c"lowerdir=/image,upperdir=/disk/upper,workdir=/disk/work";
    mount("overlay", root, "overlay", MountFlags::empty(), data)
        .map_err(|error| format!("the disk cannot be laid over the image: {error}"))
}

/// The name of the block device with this serial number.
fn device(serial: &str) -> Result<String, String> {
    let begin = Instant::now();
    loop {
        for entry in fs::read_dir("/sys/block")
            .map_err(|error| format!("/sys/block: {error}"))?
            .flatten()
        {
            let path = entry.path().join("serial");
            if fs::read_to_string(path).is_ok_and(|text| text.trim() == serial)
                && let Ok(name) = entry.file_name().into_string()
            {
                return Ok(name);
            }
        }
        if begin.elapsed() > DISKS_WAIT {
            return Err(format!("there is no disk {serial}"));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Lets the file system fill its disk, where the host made the disk larger.
#[allow(unsafe_code)]
fn grow(device: &str) -> Result<(), String> {
    /// `_IOW('f', 16, u64)`.
    const EXT4_IOC_RESIZE_FS: libc::Ioctl = 0x4008_6610;
    let text = |error: std::io::Error| error.to_string();
    let sectors = fs::read_to_string(format!("/sys/block/{device}/size")).map_err(text)?;
    let sectors: u64 = sectors
        .trim()
        .parse()
        .map_err(|_| "its size is no number".to_owned())?;
    let mut head = [0; 32];
    File::open(format!("/dev/{device}"))
        .and_then(|file| file.read_exact_at(&mut head, 1024))
        .map_err(text)?;
    let Some((has, could_have)) = blocks(&head, sectors) else {
        return Ok(());
    };
    if could_have <= has {
        return Ok(());
    }
    let root = File::open(DISK).map_err(text)?;
    // SAFETY: the call reads one u64 through the pointer, which outlives it.
    let done = unsafe { libc::ioctl(root.as_raw_fd(), EXT4_IOC_RESIZE_FS, &raw const could_have) };
    if done == 0 {
        Ok(())
    } else {
        Err(std::io::Error::last_os_error().to_string())
    }
}

/// From the head of an ext4 superblock: how many blocks it has, and how many fit on `sectors` of 512 bytes.
fn blocks(head: &[u8; 32], sectors: u64) -> Option<(u64, u64)> {
    let word = |at: usize| Some(u32::from_le_bytes(head.get(at..at + 4)?.try_into().ok()?));
    let block_bytes = 1024u64
        .checked_shl(word(24)?)
        .filter(|bytes| (1024..=65536).contains(bytes))?;
    // A file system over 16 TiB has more bits elsewhere; no disk of a machine is that large.
    Some((u64::from(word(4)?), sectors / (block_bytes / 512)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_larger_disk_is_told_by_the_superblock() {
        let mut head = [0; 32];
        head[4..8].copy_from_slice(&1000u32.to_le_bytes());
        head[24..28].copy_from_slice(&2u32.to_le_bytes());
        assert_eq!(blocks(&head, 8000), Some((1000, 1000)));
        assert_eq!(blocks(&head, 16000), Some((1000, 2000)));
        head[24..28].copy_from_slice(&99u32.to_le_bytes());
        assert_eq!(blocks(&head, 8000), None);
    }
}
