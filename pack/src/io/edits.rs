//! What a builder itself writes into a tree: copies, accounts, variables, and the order that it leaves behind.
//!
//! All of it runs on a thread for which the tree is `/` (`layers::inside`), so a symlink that a RUN has planted
//! leads nowhere but into the same tree. Not here: programs (`sandbox.rs`).

use crate::accounts::{AccountFiles, Placed};
use crate::ext4::EPOCH;
use crate::formfile::{Account, EnvVar, Scope};
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, openat, readlinkat, statat};
use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, lchown, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

const POLICY: &str = "/usr/sbin/policy-rc.d";
/// What build steps leave and no image needs; much of it holds the hour of the build.
const LITTER: [&str; 12] = [
    "/var/log/apt",
    "/var/log/dpkg.log",
    "/var/log/alternatives.log",
    "/var/log/bootstrap.log",
    "/var/cache/apt",
    "/var/cache/ldconfig/aux-cache",
    "/var/cache/debconf/templates.dat-old",
    "/var/cache/debconf/config.dat-old",
    "/var/lib/dpkg/status-old",
    "/var/lib/dpkg/diversions-old",
    "/var/lib/dpkg/statoverride-old",
    "/var/lib/apt/lists",
];
const BACKUPS: [&str; 6] = [
    "/etc/passwd-",
    "/etc/shadow-",
    "/etc/group-",
    "/etc/gshadow-",
    "/etc/subuid-",
    "/etc/subgid-",
];
/// Where a guest mounts things.
const MOUNT_POINTS: [&str; 6] = ["/proc", "/sys", "/dev", "/run", "/tmp", "/etc"];

fn at(path: impl AsRef<Path>) -> impl FnOnce(io::Error) -> io::Error {
    let path = path.as_ref().display().to_string();
    move |error| io::Error::new(error.kind(), format!("{path}: {error}"))
}

fn remove(path: &str) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Err(_) => Ok(()),
        Ok(meta) if meta.is_dir() => fs::remove_dir_all(path).map_err(at(path)),
        Ok(_) => fs::remove_file(path).map_err(at(path)),
    }
}

/// What `run` needs in the tree: places to mount on, and the working directory.
pub(super) fn prepare(workdir: &str) -> io::Result<()> {
    for path in MOUNT_POINTS {
        fs::create_dir_all(path).map_err(at(path))?;
    }
    fs::set_permissions("/tmp", Permissions::from_mode(0o1777)).map_err(at("/tmp"))?;
    if fs::symlink_metadata("/etc/resolv.conf").is_err() {
        File::create("/etc/resolv.conf").map_err(at("/etc/resolv.conf"))?;
    }
    fs::create_dir_all(workdir).map_err(at(workdir))
}

/// What apt needs besides; true when the rule against starting services is ours to remove.
pub(super) fn before_install() -> io::Result<bool> {
    for path in ["/var/lib/apt/lists", "/var/cache/apt/archives", "/var/log/apt"] {
        fs::create_dir_all(path).map_err(at(path))?;
    }
    if Path::new(POLICY).exists() {
        return Ok(false);
    }
    // A package that is being installed must not start its service in the sandbox.
    fs::write(POLICY, "#!/bin/sh\nexit 101\n").map_err(at(POLICY))?;
    fs::set_permissions(POLICY, Permissions::from_mode(0o755)).map_err(at(POLICY))?;
    Ok(true)
}

/// Takes away what apt and `before_install` left.
pub(super) fn after_install(policy_is_ours: bool) -> io::Result<()> {
    if policy_is_ours {
        remove(POLICY)?;
    }
    sweep()
}

/// Removes the litter of package tools.
pub(super) fn sweep() -> io::Result<()> {
    LITTER.iter().chain(&BACKUPS).try_for_each(|path| remove(path))?;
    // apt complains without these two.
    for path in ["/var/lib/apt/lists/partial", "/var/cache/apt/archives/partial"] {
        if Path::new("/usr/bin/apt-get").exists() {
            fs::create_dir_all(path).map_err(at(path))?;
        }
    }
    Ok(())
}

/// Takes the host's traces out of a fresh base.
pub(super) fn neutralise() -> io::Result<()> {
    remove("/etc/apt/apt.conf.d/99mmdebstrap")?;
    remove("/etc/machine-id")?;
    sweep()?;
    for (path, text) in [
        ("/etc/resolv.conf", ""),
        ("/etc/hostname", "localhost\n"),
        ("/etc/hosts", HOSTS),
    ] {
        remove(path)?;
        fs::write(path, text).map_err(at(path))?;
    }
    Ok(())
}

const HOSTS: &str = "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n";

/// Opens the directory of a context, before the thread that copies loses sight of it.
pub(super) fn open_context(root: &Path) -> io::Result<OwnedFd> {
    Ok(openat(
        rustix::fs::CWD,
        root,
        OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC,
        Mode::empty(),
    )?)
}

/// COPY.
pub(super) fn copy(context: &OwnedFd, from: &str, to: &str) -> io::Result<()> {
    let mut parent = context.try_clone()?;
    let mut parts: Vec<&str> = from.split('/').filter(|part| *part != ".").collect();
    let Some(last) = parts.pop() else {
        return copy_children(parent.as_fd(), Path::new(to));
    };
    for part in parts {
        parent = open_directory(parent.as_fd(), part.as_bytes())?;
    }
    let stat = statat(&parent, last, AtFlags::SYMLINK_NOFOLLOW)?;
    let target = Path::new(to);
    if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
        return copy_children(open_directory(parent.as_fd(), last.as_bytes())?.as_fd(), target);
    }
    let target = if to.ends_with('/') || target.is_dir() {
        target.join(last)
    } else {
        target.into()
    };
    if let Some(directory) = target.parent() {
        fs::create_dir_all(directory).map_err(at(directory))?;
    }
    copy_one(parent.as_fd(), last.as_bytes(), &target)
}

fn open_directory(parent: BorrowedFd<'_>, name: &[u8]) -> io::Result<OwnedFd> {
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(parent, name, flags, Mode::empty())
        .map_err(|error| at(String::from_utf8_lossy(name).as_ref())(error.into()))
}

fn copy_children(directory: BorrowedFd<'_>, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to).map_err(at(to))?;
    let mut names: Vec<Vec<u8>> = Vec::new();
    for entry in Dir::read_from(directory)? {
        let name = entry?.file_name().to_bytes().to_vec();
        if name != b"." && name != b".." {
            names.push(name);
        }
    }
    // The order in which names enter a directory shows in the image.
    names.sort();
    for name in names {
        copy_one(directory, &name, &to.join(std::ffi::OsStr::from_bytes(&name)))?;
    }
    Ok(())
}

fn copy_one(parent: BorrowedFd<'_>, name: &[u8], to: &Path) -> io::Result<()> {
    let stat = statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
    if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
        return copy_children(open_directory(parent, name)?.as_fd(), to);
    }
    match fs::symlink_metadata(to) {
        Ok(meta) if meta.is_dir() => {
            return Err(at(to)(io::Error::other("a directory is in the way of this file")));
        }
        Ok(_) => fs::remove_file(to).map_err(at(to))?,
        Err(_) => {}
    }
    if FileType::from_raw_mode(stat.st_mode) == FileType::Symlink {
        let target = readlinkat(parent, name, Vec::new())?;
        return symlink(std::ffi::OsStr::from_bytes(target.as_bytes()), to).map_err(at(to));
    }
    let source = openat(
        parent,
        name,
        OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o644)
        .open(to)
        .map_err(at(to))?;
    io::copy(&mut File::from(source), &mut file).map_err(at(to))?;
    file.set_permissions(Permissions::from_mode(stat.st_mode & 0o777))
        .map_err(at(to))?;
    // One moment for all: what a RUN compiles from this file remembers the file's time.
    file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(EPOCH.into()))
        .map_err(at(to))
}

/// Most bytes of an account file; a RUN may have written anything there.
const ACCOUNT_FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;

fn read_text(path: &str) -> io::Result<String> {
    match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        Err(error) => Err(at(path)(error)),
        Ok(meta) if !meta.is_file() || meta.len() > ACCOUNT_FILE_BYTES_MAX => {
            Err(at(path)(io::Error::other("this is no file of a usual size")))
        }
        Ok(_) => fs::read_to_string(path).map_err(at(path)),
    }
}

fn read_accounts() -> io::Result<AccountFiles> {
    Ok(AccountFiles {
        passwd: read_text("/etc/passwd")?,
        shadow: read_text("/etc/shadow")?,
        group: read_text("/etc/group")?,
    })
}

fn write_accounts(files: &AccountFiles) -> io::Result<()> {
    fs::create_dir_all("/etc").map_err(at("/etc"))?;
    let shadow_group = files
        .group
        .lines()
        .find_map(|line| line.strip_prefix("shadow:x:")?.split(':').next()?.parse().ok());
    let write = |path: &str, text: &str, mode: u32, gid: u32| -> io::Result<()> {
        if read_text(path)? == text {
            return Ok(());
        }
        fs::write(path, text).map_err(at(path))?;
        fs::set_permissions(path, Permissions::from_mode(mode)).map_err(at(path))?;
        lchown(path, Some(0), Some(gid)).map_err(at(path))
    };
    write("/etc/passwd", &files.passwd, 0o644, 0)?;
    write("/etc/group", &files.group, 0o644, 0)?;
    write("/etc/shadow", &files.shadow, 0o640, shadow_group.unwrap_or(0))
}

/// USER.
pub(super) fn account(account: &Account) -> io::Result<()> {
    let mut files = read_accounts()?;
    let placed = files.apply(account).map_err(io::Error::other)?;
    write_accounts(&files)?;
    let home = PathBuf::from(&placed.home);
    if placed.new {
        fs::create_dir_all(&home).map_err(at(&home))?;
        if Path::new("/etc/skel").is_dir() {
            copy_children(open_directory(rustix::fs::CWD, b"/etc/skel")?.as_fd(), &home)?;
        }
        own(&home, &placed)?;
        fs::set_permissions(&home, Permissions::from_mode(0o755)).map_err(at(&home))?;
    }
    if !account.ssh_authorized_keys.is_empty() {
        let folder = home.join(".ssh");
        fs::create_dir_all(&folder).map_err(at(&folder))?;
        let keys = folder.join("authorized_keys");
        fs::write(&keys, account.ssh_authorized_keys.join("\n") + "\n").map_err(at(&keys))?;
        fs::set_permissions(&keys, Permissions::from_mode(0o600)).map_err(at(&keys))?;
        fs::set_permissions(&folder, Permissions::from_mode(0o700)).map_err(at(&folder))?;
        own(&folder, &placed)?;
    }
    let name = &account.username;
    if account.sudo {
        let path = format!("/etc/sudoers.d/50-{name}");
        fs::create_dir_all("/etc/sudoers.d").map_err(at("/etc/sudoers.d"))?;
        fs::write(&path, format!("{name} ALL=(ALL:ALL) NOPASSWD:ALL\n")).map_err(at(&path))?;
        fs::set_permissions(&path, Permissions::from_mode(0o440)).map_err(at(&path))?;
    }
    let sshd = "/etc/ssh/sshd_config.d";
    fs::create_dir_all(sshd).map_err(at(sshd))?;
    let yes_no = if account.ssh_pwauth { "yes" } else { "no" };
    let path = format!("{sshd}/50-{name}.conf");
    fs::write(
        &path,
        format!("Match User {name}\n    PasswordAuthentication {yes_no}\n"),
    )
    .map_err(at(&path))?;
    if account.disable_root {
        let path = format!("{sshd}/10-root.conf");
        fs::write(&path, "PermitRootLogin no\n").map_err(at(&path))?;
    }
    Ok(())
}

/// Gives a tree to an account, symlinks themselves and not what they point to.
fn own(path: &Path, placed: &Placed) -> io::Result<()> {
    lchown(path, Some(placed.uid), Some(placed.gid)).map_err(at(path))?;
    if fs::symlink_metadata(path).map_err(at(path))?.is_dir() {
        for entry in fs::read_dir(path).map_err(at(path))? {
            own(&entry?.path(), placed)?;
        }
    }
    Ok(())
}

/// The last step: variables for logins and services, WORKDIR, mount points, and no trace of when and where.
pub(super) fn settle(env: &[EnvVar], workdir: &str) -> io::Result<()> {
    prepare(workdir)?;
    sweep()?;
    let mut files = read_accounts()?;
    if !files.shadow.is_empty() {
        files.settle_days();
        write_accounts(&files)?;
    }
    if fs::symlink_metadata("/etc/hosts").is_err() {
        fs::write("/etc/hosts", HOSTS).map_err(at("/etc/hosts"))?;
    }
    let system: Vec<&EnvVar> = env.iter().filter(|var| var.scope == Scope::System).collect();
    if !system.is_empty() {
        let plain: String = system
            .iter()
            .map(|var| format!("{}={}\n", var.key, var.value))
            .collect();
        append("/etc/environment", &plain)?;
        let shell: String = system.iter().map(|var| export(var)).collect();
        fs::create_dir_all("/etc/profile.d").map_err(at("/etc/profile.d"))?;
        append("/etc/profile.d/50-formfile.sh", &shell)?;
    }
    for var in env {
        match &var.scope {
            Scope::System => {}
            Scope::User(name) => {
                let placed = files.find(name).ok_or_else(|| {
                    io::Error::other(format!(
                        "ENV --scope=user:{name}: the image has no such user; add a USER"
                    ))
                })?;
                let path = format!("{}/.profile", placed.home);
                let new = !Path::new(&path).exists();
                append(&path, &export(var))?;
                if new {
                    lchown(&path, Some(placed.uid), Some(placed.gid)).map_err(at(&path))?;
                }
            }
            Scope::Service(name) => {
                append(
                    &format!("/etc/{name}.env"),
                    &format!("{}={}\n", var.key, var.value),
                )?;
            }
        }
    }
    Ok(())
}

fn append(path: &str, text: &str) -> io::Result<()> {
    let mut file = fs::OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o644)
        .open(path)
        .map_err(at(path))?;
    file.write_all(text.as_bytes()).map_err(at(path))
}

fn export(var: &EnvVar) -> String {
    format!("export {}='{}'\n", var.key, var.value.replace('\'', "'\\''"))
}
