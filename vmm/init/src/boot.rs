//! Brings the guest up: first what is needed to hear the host, then all that it configures.

use std::fs;
use std::io::Write;
use std::net::IpAddr;
use std::os::unix::fs::symlink;
use std::path::Path;

use rustix::mount::{MountFlags, mount, mount_move};
use vmm::guest::GuestConfig;

use crate::{disks, modules, network, system};

/// Where the guest's root is put together before it becomes the root.
pub(crate) const NEW_ROOT: &str = "/root";

/// What can be open at once, by default and at most.
const OPEN_FILES: (u64, u64) = (65_536, 524_288);

fn mounted(kind: &str, at: &str, flags: MountFlags, data: &std::ffi::CStr) -> Result<(), String> {
    let _ = fs::create_dir_all(at);
    mount(kind, at, kind, flags, data).map_err(|error| format!("{kind} cannot be mounted at {at}: {error}"))
}

/// The kernel's own file systems and the modules: enough to find the channel to the host.
pub(crate) fn early() -> Result<(), String> {
    let strict = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mounted("devtmpfs", "/dev", MountFlags::NOSUID, c"mode=0755")?;
    mounted("proc", "/proc", strict, c"")?;
    mounted("sysfs", "/sys", strict, c"")?;
    modules::load()
}

/// All the rest.
pub(crate) fn bring_up(config: &GuestConfig) -> Result<(), String> {
    system::set_clock(config.unix_us);
    disks::mount_root(NEW_ROOT)?;
    for place in ["/dev", "/proc", "/sys"] {
        let target = format!("{NEW_ROOT}{place}");
        let _ = fs::create_dir_all(&target);
        mount_move(place, &target)
            .map_err(|error| format!("{place} cannot be moved to the new root: {error}"))?;
    }
    switch_root().map_err(|error| format!("the new root cannot be entered: {error}"))?;
    later_mounts()?;
    name_it(config)?;
    network::up(&config.nic)?;
    let (soft, hard) = OPEN_FILES;
    let limit = rustix::process::Rlimit {
        current: Some(soft),
        maximum: Some(hard),
    };
    let _ = rustix::process::setrlimit(rustix::process::Resource::Nofile, limit);
    Ok(())
}

fn switch_root() -> rustix::io::Result<()> {
    let _ = fs::remove_file("/init");
    crate::shutdown::hold_first_root();
    rustix::process::chdir(NEW_ROOT)?;
    mount_move(".", "/")?;
    rustix::process::chroot(".")?;
    rustix::process::chdir("/")
}

fn later_mounts() -> Result<(), String> {
    let strict = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mounted(
        "devpts",
        "/dev/pts",
        MountFlags::NOSUID | MountFlags::NOEXEC,
        c"mode=0620,gid=5,ptmxmode=0666",
    )?;
    let _ = fs::create_dir_all("/dev/shm");
    for (at, data) in [
        ("/dev/shm", c"mode=1777"),
        ("/run", c"mode=0755"),
        ("/tmp", c"mode=1777"),
    ] {
        mounted("tmpfs", at, MountFlags::NOSUID | MountFlags::NODEV, data)?;
    }
    if let Err(why) = mounted("cgroup2", "/sys/fs/cgroup", strict, c"") {
        eprintln!("form-init: {why}");
    }
    for (name, target) in [
        ("fd", "fd"),
        ("stdin", "fd/0"),
        ("stdout", "fd/1"),
        ("stderr", "fd/2"),
    ] {
        let _ = symlink(format!("/proc/self/{target}"), format!("/dev/{name}"));
    }
    Ok(())
}

fn name_it(config: &GuestConfig) -> Result<(), String> {
    let name = &config.hostname;
    rustix::system::sethostname(name.as_bytes()).map_err(|error| format!("host name {name:?}: {error}"))?;
    let _ = fs::create_dir_all("/etc");
    replace("/etc/hostname", &format!("{name}\n"))?;
    replace("/etc/hosts", &hosts(config))?;
    replace("/etc/resolv.conf", &resolvers(&config.nic.resolvers))
}

fn hosts(config: &GuestConfig) -> String {
    let name = &config.hostname;
    let short = name.split('.').next().unwrap_or(name);
    let names = if short == name {
        name.clone()
    } else {
        format!("{name} {short}")
    };
    format!(
        "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n{} {names}\n",
        config.nic.ipv6
    )
}

fn resolvers(addresses: &[IpAddr]) -> String {
    addresses
        .iter()
        .map(|address| format!("nameserver {address}\n"))
        .collect()
}

/// Puts a file in place of whatever stands there: in an image it is often a link into nowhere.
fn replace(path: &str, content: &str) -> Result<(), String> {
    let path = Path::new(path);
    let _ = fs::remove_file(path);
    let written = fs::File::create(path).and_then(|mut file| file.write_all(content.as_bytes()));
    written.map_err(|error| format!("{} cannot be written: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_servers_are_written_in_order() {
        assert_eq!(resolvers(&[]), "");
        assert_eq!(
            resolvers(&["10.0.0.1".parse().unwrap(), "fd00::1".parse().unwrap()]),
            "nameserver 10.0.0.1\nnameserver fd00::1\n"
        );
    }
}
