//! The tun device: making a tap that stays, and attaching to one.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;

const DEVICE: &str = "/dev/net/tun";

/// Makes a tap that outlives this process. With an owner, a process of that uid may attach to it without any
/// capability. A tap that is there already stays as it is.
pub(crate) fn make(name: &str, owner_uid: Option<u32>) -> io::Result<()> {
    let file = open(name)?;
    if let Some(uid) = owner_uid {
        ioctl(&file, libc::TUNSETOWNER, libc::c_ulong::from(uid))?;
    }
    ioctl(&file, libc::TUNSETPERSIST, 1)
}

/// Attaches to a tap: frames with a virtio-net header of 10 bytes are read from and written to the descriptor,
/// as a machine's network card does. Fails with EBUSY while another process is attached.
pub fn attach(name: &str) -> io::Result<OwnedFd> {
    open(name).map(OwnedFd::from)
}

fn open(name: &str) -> io::Result<File> {
    let mut request = ifreq(name)?;
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_CLOEXEC)
        .open(DEVICE)?;
    let flags = libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR;
    request.ifr_ifru.ifru_flags = libc::c_short::try_from(flags).expect("the three flags are below 0x8000");
    // SAFETY: the descriptor is open, and the argument points to an ifreq that outlives the call, as
    // TUNSETIFF asks; the kernel writes no more than an ifreq back.
    #[allow(unsafe_code)]
    let result = unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF, &raw mut request) };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(file)
    }
}

fn ifreq(name: &str) -> io::Result<libc::ifreq> {
    // SAFETY: ifreq is plain data of integers and arrays; all zero is a valid value of it.
    #[allow(unsafe_code)]
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    if name.is_empty() || name.len() >= request.ifr_name.len() || name.bytes().any(|byte| byte == 0) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("{name:?} is no name of a tap"),
        ));
    }
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    Ok(request)
}

fn ioctl(file: &File, request: libc::Ioctl, value: libc::c_ulong) -> io::Result<()> {
    // SAFETY: TUNSETOWNER and TUNSETPERSIST take an integer by value and touch no memory of ours.
    #[allow(unsafe_code)]
    let result = unsafe { libc::ioctl(file.as_raw_fd(), request, value) };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}
