//! Prepares what guests boot: Debian's cloud kernel from its package, and an initramfs with our init.
//!
//! ```text
//! <cache>/kernel/current.json               which of the following is used
//! <cache>/kernel/<digest of the package>/   vmlinux (or bzImage), modules/NN-name.ko
//! <cache>/initramfs/<digest>.cpio           modules and init
//! ```
//! The second start reads two small files. A newer kernel is fetched only when `current.json` is removed: a
//! guest's kernel does not change by itself.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::{Deserialize, Serialize};

use super::files;
use crate::bzimage;
use crate::cpio::Archive;

/// The package that names the current kernel.
const META_PACKAGE: &str = "linux-image-cloud-amd64";

/// The modules that a guest needs; what they depend on comes with them. (ext4 is built in.)
const MODULES: [&str; 5] = [
    "virtio_mmio",
    "virtio_console",
    "virtio_blk",
    "virtio_net",
    "overlay",
];

/// The most modules that are taken along, so that a package with a loop in it ends.
const MODULES_MAX: usize = 64;

/// The largest file that is read whole (a kernel, a module, init), in bytes.
const FILE_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// Why there is no kernel.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    /// A file could not be read or written.
    #[error("{what} {path}: {source}", path = path.display())]
    File {
        /// What was being done.
        what: &'static str,
        /// To which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A program failed.
    #[error(
        "`{command}` failed: {detail}; a guest's kernel comes from Debian's package {META_PACKAGE}, so apt must work on this host"
    )]
    Program {
        /// The command line.
        command: String,
        /// Its complaint.
        detail: String,
    },
    /// The package is not as expected.
    #[error("package {package}: {detail}")]
    Package {
        /// Which package.
        package: String,
        /// What is wrong.
        detail: String,
    },
}

/// What guests boot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prepared {
    /// The kernel.
    pub kernel: PathBuf,
    /// The initramfs.
    pub initramfs: PathBuf,
    /// Which kernel it is: the package's name.
    pub package: String,
}

/// What `current.json` holds.
#[derive(Debug, Serialize, Deserialize)]
struct Current {
    package: String,
    digest: String,
    kernel: String,
    modules: Vec<String>,
}

fn at<'a>(what: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> KernelError + 'a {
    move |source| KernelError::File {
        what,
        path: path.to_owned(),
        source,
    }
}

/// Prepares kernel and initramfs under `cache`, with the static binary `init`. Blocks: some milliseconds when
/// all is there, some seconds the first time. Several processes may do so at once.
pub fn prepare(cache: &Path, init: &Path) -> Result<Prepared, KernelError> {
    let folder = cache.join("kernel");
    fs::create_dir_all(&folder).map_err(at("make the folder", &folder))?;
    let current = match current(&folder)? {
        Some(current) => current,
        None => {
            let lock_path = folder.join("lock");
            let lock = File::create(&lock_path).map_err(at("make", &lock_path))?;
            lock.lock().map_err(at("lock", &lock_path))?;
            match current_again(&folder)? {
                Some(current) => current,
                None => fetch(&folder)?,
            }
        }
    };
    let kernel_folder = folder.join(&current.digest);
    let initramfs = initramfs(&cache.join("initramfs"), &kernel_folder, &current, init)?;
    Ok(Prepared {
        kernel: kernel_folder.join(&current.kernel),
        initramfs,
        package: current.package,
    })
}

/// Another process may have fetched it while this one waited for the lock.
fn current_again(folder: &Path) -> Result<Option<Current>, KernelError> {
    current(folder)
}

fn current(folder: &Path) -> Result<Option<Current>, KernelError> {
    let path = folder.join("current.json");
    let Some(current): Option<Current> =
        files::read_json(&path, FILE_BYTES_MAX).map_err(at("read", &path))?
    else {
        return Ok(None);
    };
    let home = folder.join(&current.digest);
    let whole = home.join(&current.kernel).is_file()
        && current
            .modules
            .iter()
            .all(|module| home.join("modules").join(module).is_file());
    Ok(whole.then_some(current))
}

fn fetch(folder: &Path) -> Result<Current, KernelError> {
    let work = folder.join("fetch");
    files::remove(&work).map_err(at("remove", &work))?;
    fs::create_dir_all(&work).map_err(at("make the folder", &work))?;
    let package = match real_package()? {
        Some(package) => package,
        None => {
            run(Command::new("apt-get").args(["-q", "update"]))?;
            real_package()?.ok_or_else(|| KernelError::Package {
                package: META_PACKAGE.to_owned(),
                detail: "apt knows no such package, also after an update; is this Debian on amd64?"
                    .to_owned(),
            })?
        }
    };
    tracing::info!(package, "fetching the guests' kernel");
    let download = || {
        Command::new("apt-get")
            .args(["-q", "download", &package])
            .current_dir(&work)
            .stdin(Stdio::null())
            .output()
    };
    match download() {
        Ok(done) if done.status.success() => {}
        // The lists may be older than what the mirror still has.
        _ => {
            run(Command::new("apt-get").args(["-q", "update"]))?;
            run(Command::new("apt-get")
                .args(["-q", "download", &package])
                .current_dir(&work))?;
        }
    }
    let deb = only_file(&work, ".deb", &package)?;
    let digest = blake3::hash(&read(&deb)?).to_hex()[..32].to_owned();
    let tree = work.join("tree");
    run(Command::new("dpkg-deb").arg("-x").arg(&deb).arg(&tree))?;

    let home = work.join("home");
    let modules_folder = home.join("modules");
    fs::create_dir_all(&modules_folder).map_err(at("make the folder", &modules_folder))?;
    let boot = tree.join("boot");
    let bzimage = read(&only_file(&boot, "vmlinuz-", &package)?)?;
    let (kernel, bytes) = match bzimage::unpack(&bzimage) {
        Ok(elf) => ("vmlinux", elf),
        Err(error) => {
            tracing::warn!(%error, "booting the packed kernel, which takes guests longer");
            ("bzImage", bzimage)
        }
    };
    write(&home.join(kernel), &bytes)?;
    let mut modules = Vec::new();
    for (index, (name, content)) in wanted_modules(&tree, &package)?.into_iter().enumerate() {
        let file = format!("{index:02}-{name}.ko");
        write(&modules_folder.join(&file), &content)?;
        modules.push(file);
    }
    let final_home = folder.join(&digest);
    files::remove(&final_home).map_err(at("remove", &final_home))?;
    fs::rename(&home, &final_home).map_err(at("move to", &final_home))?;
    let current = Current {
        package,
        digest,
        kernel: kernel.to_owned(),
        modules,
    };
    let path = folder.join("current.json");
    files::write_json(&path, &current).map_err(at("write", &path))?;
    files::remove(&work).map_err(at("remove", &work))?;
    Ok(current)
}

/// The package that the meta package depends on now.
fn real_package() -> Result<Option<String>, KernelError> {
    let mut command = Command::new("apt-cache");
    command
        .args(["show", "--no-all-versions", META_PACKAGE])
        .stdin(Stdio::null());
    let done = command
        .output()
        .map_err(|error| program(&command, &error.to_string()))?;
    Ok(package_in(&String::from_utf8_lossy(&done.stdout)))
}

fn package_in(description: &str) -> Option<String> {
    description
        .lines()
        .filter_map(|line| line.strip_prefix("Depends:"))
        .flat_map(|list| list.split(','))
        .filter_map(|item| item.split_whitespace().next())
        .find(|name| name.starts_with("linux-image-"))
        .map(str::to_owned)
}

/// The wanted modules of an unpacked package, each after those that it depends on.
fn wanted_modules(tree: &Path, package: &str) -> Result<Vec<(String, Vec<u8>)>, KernelError> {
    let fault = |detail: String| KernelError::Package {
        package: package.to_owned(),
        detail,
    };
    let mut files = BTreeMap::new();
    for root in [tree.join("lib/modules"), tree.join("usr/lib/modules")] {
        if root.is_dir() {
            collect_modules(&root, &mut files)?;
        }
    }
    let mut ordered: Vec<(String, Vec<u8>)> = Vec::new();
    // A stack of (name, seen before): a module is placed when it is met again, after its dependencies.
    let mut stack: Vec<(String, bool)> = MODULES
        .iter()
        .rev()
        .map(|name| ((*name).to_owned(), false))
        .collect();
    let mut steps = 0;
    while let Some((name, ready)) = stack.pop() {
        steps += 1;
        if steps > MODULES_MAX * MODULES_MAX {
            return Err(fault("its modules depend on each other in a circle".to_owned()));
        }
        if ordered.iter().any(|(placed, _)| *placed == name) {
            continue;
        }
        let path = files
            .get(&name)
            .ok_or_else(|| fault(format!("it has no module {name}")))?;
        let content = read(path)?;
        if ready {
            ordered.push((name, without_signature(content)));
        } else {
            let needs = dependencies(&content);
            stack.push((name, true));
            stack.extend(needs.into_iter().map(|need| (need, false)));
        }
    }
    Ok(ordered)
}

fn collect_modules(folder: &Path, found: &mut BTreeMap<String, PathBuf>) -> Result<(), KernelError> {
    for entry in fs::read_dir(folder).map_err(at("list", folder))? {
        let entry = entry.map_err(at("list", folder))?;
        let path = entry.path();
        if entry.file_type().map_err(at("look at", &path))?.is_dir() {
            collect_modules(&path, found)?;
        } else if let Some(name) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.strip_suffix(".ko"))
        {
            found.insert(name.replace('-', "_"), path);
        }
    }
    Ok(())
}

/// A module without the signature at its end. Checking one costs an emulated guest 30 ms a module, and proves
/// nothing here: the modules come from where the kernel comes from, which is not checked by the guest either.
fn without_signature(mut module: Vec<u8>) -> Vec<u8> {
    const MARK: &[u8] = b"~Module signature appended~\n";
    /// Length of what stands between signature and mark; its last four bytes are the signature's length.
    const FACTS_BYTES: usize = 12;
    if let Some(rest) = module.strip_suffix(MARK)
        && let Some((_, length)) = rest.split_last_chunk::<4>()
        && let Some(end) = rest
            .len()
            .checked_sub(FACTS_BYTES + u32::from_be_bytes(*length) as usize)
    {
        module.truncate(end);
    }
    module
}

/// What a module's `.modinfo` says that it depends on.
fn dependencies(module: &[u8]) -> Vec<String> {
    const KEY: &[u8] = b"\0depends=";
    let Some(start) = module.windows(KEY.len()).position(|window| window == KEY) else {
        return Vec::new();
    };
    let list = module[start + KEY.len()..]
        .split(|byte| *byte == 0)
        .next()
        .unwrap_or_default();
    String::from_utf8_lossy(list)
        .split(',')
        .filter(|name| !name.is_empty())
        .map(|name| name.replace('-', "_"))
        .collect()
}

/// The initramfs for this kernel and this init, made if it is not there.
fn initramfs(folder: &Path, home: &Path, current: &Current, init: &Path) -> Result<PathBuf, KernelError> {
    let init_bytes = read(init)?;
    let mut hasher = blake3::Hasher::new();
    hasher.update(current.digest.as_bytes());
    for module in &current.modules {
        hasher.update(module.as_bytes());
    }
    hasher.update(&init_bytes);
    let path = folder.join(format!("{}.cpio", &hasher.finalize().to_hex()[..32]));
    if path.is_file() {
        return Ok(path);
    }
    fs::create_dir_all(folder).map_err(at("make the folder", folder))?;
    let mut archive = Archive::default();
    for name in ["dev", "proc", "sys", "modules", "image", "disk", "root"] {
        archive.folder(name);
    }
    // The kernel opens it as standard input, output and error of init.
    archive.character_device("dev/console", 5, 1);
    for module in &current.modules {
        archive.file(
            &format!("modules/{module}"),
            0o644,
            &read(&home.join("modules").join(module))?,
        );
    }
    archive.file("init", 0o755, &init_bytes);
    files::write_atomically(&path, &archive.finish()).map_err(at("write", &path))?;
    Ok(path)
}

fn read(path: &Path) -> Result<Vec<u8>, KernelError> {
    let length = fs::metadata(path).map_err(at("read", path))?.len();
    if length > FILE_BYTES_MAX {
        let source = io::Error::new(io::ErrorKind::FileTooLarge, "too large for what it should be");
        return Err(KernelError::File {
            what: "read",
            path: path.to_owned(),
            source,
        });
    }
    fs::read(path).map_err(at("read", path))
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), KernelError> {
    files::write_atomically(path, bytes).map_err(at("write", path))
}

/// The one file in `folder` whose name holds `part`.
fn only_file(folder: &Path, part: &str, package: &str) -> Result<PathBuf, KernelError> {
    let entries = fs::read_dir(folder).map_err(at("list", folder))?;
    let mut names: Vec<_> = entries
        .filter_map(|entry| Some(entry.ok()?.file_name()))
        .collect();
    names.retain(|name| name.to_str().is_some_and(|name| name.contains(part)));
    match &names[..] {
        [name] => Ok(folder.join(name)),
        names => Err(KernelError::Package {
            package: package.to_owned(),
            detail: format!("{} files named *{part}* where one was expected", names.len()),
        }),
    }
}

fn program(command: &Command, detail: &str) -> KernelError {
    let words: Vec<_> = std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(|word| word.to_string_lossy())
        .collect();
    KernelError::Program {
        command: words.join(" "),
        detail: crate::guest::readable(detail),
    }
}

fn run(command: &mut Command) -> Result<(), KernelError> {
    let done = command
        .stdin(Stdio::null())
        .output()
        .map_err(|error| program(command, &error.to_string()))?;
    if done.status.success() {
        return Ok(());
    }
    let words = String::from_utf8_lossy(&done.stderr);
    // apt marks its errors; what it merely warns of would only hide them.
    let errors: Vec<_> = words.lines().filter(|line| line.starts_with("E:")).collect();
    Err(program(
        command,
        &if errors.is_empty() {
            words.trim().to_owned()
        } else {
            errors.join(" ")
        },
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_real_package_is_the_image_that_the_meta_package_depends_on() {
        let text = "Package: linux-image-cloud-amd64\nDepends: foo (>= 1), linux-image-6.1.0-56-cloud-amd64 (= 6.1.192-2)\n";
        assert_eq!(
            package_in(text).as_deref(),
            Some("linux-image-6.1.0-56-cloud-amd64")
        );
        assert_eq!(package_in("N: no packages found\n"), None);
    }

    #[test]
    fn dependencies_are_read_from_modinfo() {
        assert_eq!(
            dependencies(b"xx\0license=GPL\0depends=virtio_ring,net-failover\0name=a\0"),
            ["virtio_ring", "net_failover"]
        );
        assert!(dependencies(b"\0depends=\0").is_empty());
        assert!(dependencies(b"").is_empty());
    }

    #[test]
    fn a_signature_is_cut_off_and_nothing_else() {
        let mut module = b"code".to_vec();
        assert_eq!(without_signature(module.clone()), b"code");
        module.extend([9; 5]);
        module.extend([0; 8]);
        module.extend(5u32.to_be_bytes());
        module.extend(b"~Module signature appended~\n");
        assert_eq!(without_signature(module.clone()), b"code");
        let claims_too_much = [
            &[0; 8][..],
            &u32::MAX.to_be_bytes(),
            b"~Module signature appended~\n",
        ]
        .concat();
        assert_eq!(without_signature(claims_too_much.clone()), claims_too_much);
    }

    #[test]
    fn a_module_comes_after_all_that_it_needs() {
        let tree = tempfile::tempdir().unwrap();
        let folder = tree.path().join("lib/modules/6/kernel/drivers");
        fs::create_dir_all(&folder).unwrap();
        for (name, needs) in [
            ("virtio", ""),
            ("virtio_ring", "virtio"),
            ("virtio_mmio", "virtio_ring,virtio"),
            ("virtio_console", "virtio,virtio_ring"),
            ("virtio_blk", "virtio_ring"),
            ("failover", ""),
            ("net_failover", "failover"),
            ("virtio_net", "net_failover,virtio"),
            ("overlay", ""),
            ("unwanted", ""),
        ] {
            fs::write(folder.join(format!("{name}.ko")), format!("\0depends={needs}\0")).unwrap();
        }
        let names: Vec<_> = wanted_modules(tree.path(), "p")
            .unwrap()
            .into_iter()
            .map(|(name, _)| name)
            .collect();
        let place = |name: &str| names.iter().position(|other| other == name).unwrap();
        assert_eq!(names.len(), 9);
        assert!(place("virtio") < place("virtio_ring") && place("virtio_ring") < place("virtio_mmio"));
        assert!(place("failover") < place("net_failover") && place("net_failover") < place("virtio_net"));

        fs::write(folder.join("virtio.ko"), "\0depends=virtio_ring\0").unwrap();
        assert!(matches!(
            wanted_modules(tree.path(), "p"),
            Err(KernelError::Package { .. })
        ));
    }
}
