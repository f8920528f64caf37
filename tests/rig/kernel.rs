//! The kernel that the rig boots and the busybox in its root: fetched once with apt, unpacked, kept.
//!
//! ```text
//! ${XDG_CACHE_HOME:-~/.cache}/formation-rig/
//!   lock                one process at a time fetches
//!   kernel/             appears whole or not at all
//!     sums              a line for each file below: SHA-256, its name
//!     package           name and version of Debian's package
//!     vmlinux           the kernel, decompressed
//!     busybox           the static one
//!     built-in          names of modules that are in the kernel already
//!     modules/NAME.ko   decompressed, with underscores in the name
//! ```
//! A package is checked against the sum that apt's signed lists tell; a kept file against `sums` each time it
//! is used. A kept kernel does not change by itself: remove the folder for a newer one.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use sha2::{Digest, Sha256};

use crate::bzimage;

/// The package that depends on the newest kernel made for virtual machines.
const NEWEST: &str = "linux-image-cloud-amd64";

/// How often a mirror is asked for the same thing.
const TRIES: u32 = 3;

/// The kept kernel.
pub(crate) struct Kernel {
    folder: PathBuf,
    sums: BTreeMap<String, String>,
    built_in: Vec<String>,
}

impl Kernel {
    /// The kept kernel, fetched first if there is none.
    pub(crate) fn prepared() -> Result<Self> {
        let cache = cache()?;
        let folder = cache.join("kernel");
        if !folder.exists() {
            fs::create_dir_all(&cache).with_context(|| format!("making {}", cache.display()))?;
            let lock = File::create(cache.join("lock")).context("making the cache's lock")?;
            lock.lock().context("waiting for another rig that fetches the kernel")?;
            if !folder.exists() {
                fetch_into(&cache, &folder).context("fetching the kernel")?;
            }
        }
        let sums = fs::read_to_string(folder.join("sums"))
            .with_context(|| format!("reading the sums in {}; remove it to fetch anew", folder.display()))?;
        let sums = sums.lines().filter_map(|line| line.split_once("  "));
        let sums = sums.map(|(sum, name)| (name.to_owned(), sum.to_owned())).collect();
        let mut kernel = Self { folder, sums, built_in: Vec::new() };
        kernel.built_in = kernel.text("built-in")?.lines().map(str::to_owned).collect();
        Ok(kernel)
    }

    /// Its package and its place, for people.
    pub(crate) fn describe(&self) -> String {
        let package = self.text("package").unwrap_or_else(|error| format!("{error:#}"));
        format!("{package} in {}", self.folder.display())
    }

    /// The file of the decompressed kernel.
    pub(crate) fn vmlinux(&self) -> Result<PathBuf> {
        self.read("vmlinux")?;
        Ok(self.folder.join("vmlinux"))
    }

    /// The program `busybox`.
    pub(crate) fn busybox(&self) -> Result<Vec<u8>> {
        self.read("busybox")
    }

    /// The names under which `busybox` can be called.
    pub(crate) fn applets(&self) -> Result<Vec<String>> {
        let list = printed(Command::new(self.folder.join("busybox")).arg("--list"))?;
        Ok(list.lines().map(str::to_owned).collect())
    }

    /// Whether there is a file for this module.
    pub(crate) fn has_module(&self, name: &str) -> bool {
        self.sums.contains_key(&format!("modules/{name}.ko"))
    }

    /// Whether the kernel has this module in itself.
    pub(crate) fn is_built_in(&self, name: &str) -> bool {
        self.built_in.iter().any(|known| known == name)
    }

    /// The file of a module.
    pub(crate) fn module(&self, name: &str) -> Result<Vec<u8>> {
        ensure!(self.has_module(name), "the kernel has no module `{name}`");
        self.read(&format!("modules/{name}.ko"))
    }

    fn text(&self, name: &str) -> Result<String> {
        String::from_utf8(self.read(name)?).with_context(|| format!("reading {name}"))
    }

    fn read(&self, name: &str) -> Result<Vec<u8>> {
        let path = self.folder.join(name);
        let bytes = fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
        ensure!(
            self.sums.get(name).is_some_and(|sum| *sum == sum_of(&bytes)),
            "{} is not what was fetched; remove {} to fetch it anew",
            path.display(),
            self.folder.display()
        );
        Ok(bytes)
    }
}

fn cache() -> Result<PathBuf> {
    let base = match std::env::var_os("XDG_CACHE_HOME").filter(|folder| !folder.is_empty()) {
        Some(folder) => PathBuf::from(folder),
        None => PathBuf::from(std::env::var_os("HOME").context("neither XDG_CACHE_HOME nor HOME is set")?).join(".cache"),
    };
    Ok(base.join("formation-rig"))
}

fn fetch_into(cache: &Path, folder: &Path) -> Result<()> {
    // Dropped with all that is in it if anything fails; its last part is renamed to its place.
    let work = tempfile::Builder::new().prefix("fetching-").tempdir_in(cache).context("making a folder")?;
    let (root, new) = (work.path().join("root"), work.path().join("kernel"));
    fs::create_dir_all(new.join("modules")).context("making a folder")?;
    let package = newest_kernel()?;
    for name in [package.as_str(), "busybox-static"] {
        eprintln!("rig: fetching {name}");
        let file = fetch(name, work.path())?;
        printed(Command::new("dpkg-deb").arg("-x").arg(&file).arg(&root))?;
        if name == package {
            let version = printed(Command::new("dpkg-deb").arg("-f").arg(&file).arg("Version"))?;
            fs::write(new.join("package"), format!("{name} {}", version.trim())).context("writing a file")?;
        }
    }
    let busybox = ["bin/busybox", "usr/bin/busybox"].map(|place| root.join(place));
    let busybox = busybox.iter().find(|path| path.is_file()).context("there is no busybox in busybox-static")?;
    fs::copy(busybox, new.join("busybox")).context("copying busybox")?;
    let release = package.trim_start_matches("linux-image-");
    let image = fs::read(root.join("boot").join(format!("vmlinuz-{release}"))).context("reading the kernel")?;
    bzimage::unpack(&image, &new.join("vmlinux"))?;
    let lib = ["usr/lib/modules", "lib/modules"].map(|place| root.join(place).join(release));
    let lib = lib.iter().find(|path| path.is_dir()).context("there are no modules in the kernel's package")?;
    keep_modules(lib, &new)?;
    let mut sums = String::new();
    for path in files(&new)? {
        let name = path.strip_prefix(&new).expect("it was found there").to_string_lossy().into_owned();
        let bytes = fs::read(&path).with_context(|| format!("reading {name}"))?;
        sums.push_str(&format!("{}  {name}\n", sum_of(&bytes)));
    }
    fs::write(new.join("sums"), sums).context("writing a file")?;
    fs::rename(&new, folder).with_context(|| format!("renaming to {}", folder.display()))
}

/// Moves the modules of the unpacked package into `new`, decompressed, and lists those that are built in.
fn keep_modules(lib: &Path, new: &Path) -> Result<()> {
    for (ending, program) in [("xz", "xz"), ("zst", "zstd"), ("gz", "gzip")] {
        let packed: Vec<PathBuf> =
            files(lib)?.into_iter().filter(|path| path.to_string_lossy().ends_with(&format!(".ko.{ending}"))).collect();
        if !packed.is_empty() {
            printed(Command::new(program).arg("-d").args(packed))?;
        }
    }
    for path in files(lib)?.into_iter().filter(|path| path.extension().is_some_and(|ending| ending == "ko")) {
        let name = module_name(&path).context("a module without a name")?;
        fs::rename(&path, new.join("modules").join(format!("{name}.ko"))).context("moving a module")?;
    }
    let list = fs::read_to_string(lib.join("modules.builtin")).context("reading what is built in")?;
    let names: Vec<String> = list.lines().filter_map(|line| module_name(Path::new(line))).collect();
    fs::write(new.join("built-in"), names.join("\n")).context("writing a file")
}

fn module_name(path: &Path) -> Option<String> {
    Some(path.file_stem()?.to_str()?.replace('-', "_"))
}

/// All files below a folder.
fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let (mut found, mut open) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(&folder).with_context(|| format!("listing {}", folder.display()))? {
            let entry = entry?;
            let kind = entry.file_type()?;
            if kind.is_dir() {
                open.push(entry.path());
            } else if kind.is_file() {
                found.push(entry.path());
            }
        }
    }
    Ok(found)
}

/// The name of the package that [`NEWEST`] depends on.
fn newest_kernel() -> Result<String> {
    with_fresh_lists(|| {
        let list = printed(Command::new("apt-cache").args(["depends", NEWEST]))?;
        let names = list.lines().filter_map(|line| line.trim().strip_prefix("Depends: "));
        let name = names.filter(|name| name.starts_with("linux-image-")).map(str::to_owned).next();
        name.with_context(|| format!("apt knows no kernel behind {NEWEST}; the rig needs Debian's package lists"))
    })
}

/// Downloads a package into `folder` and checks it against the sum in apt's lists.
fn fetch(package: &str, folder: &Path) -> Result<PathBuf> {
    with_fresh_lists(|| {
        // 'ADDRESS' NAME BYTES SHA256:SUM
        let told = printed(apt_get().args(["download", "--print-uris", package]))?;
        let mut words = told.split_whitespace().skip(1);
        let name = words.next().filter(|name| !name.contains('/')).context("apt tells no name of a file")?;
        let sum = words.nth(1).and_then(|sum| sum.strip_prefix("SHA256:")).context("apt tells no SHA-256")?;
        printed(apt_get().args(["download", package]).current_dir(folder))?;
        let path = folder.join(name);
        let bytes = fs::read(&path).with_context(|| format!("reading {name}"))?;
        ensure!(sum_of(&bytes) == sum, "{name} has another SHA-256 than apt's lists tell");
        Ok(path)
    })
}

/// Tries again with new lists of packages: the old ones may be missing, or name what the mirror has dropped.
fn with_fresh_lists<T>(mut work: impl FnMut() -> Result<T>) -> Result<T> {
    let mut tried = 1;
    loop {
        match work() {
            Ok(value) => return Ok(value),
            Err(error) if tried == TRIES => return Err(error),
            Err(error) => eprintln!("rig: {error:#}; updating the lists of packages"),
        }
        if !rustix::process::geteuid().is_root() {
            bail!("only root can update the lists: run `apt-get update` as root, then try again");
        }
        if let Err(error) = printed(apt_get().arg("update")) {
            eprintln!("rig: {error:#}");
            std::thread::sleep(Duration::from_secs(5) * tried);
        }
        tried += 1;
    }
}

fn apt_get() -> Command {
    let mut command = Command::new("apt-get");
    // apt's own user may not write into a folder of root's.
    command.args(["-qq", "-o", "APT::Sandbox::User=root", "-o", "DPkg::Lock::Timeout=120"]);
    command
}

/// What a program printed, or an error with what it complained about.
fn printed(command: &mut Command) -> Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("starting {name}"))?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{name} ended with {}: {}", output.status, complaint.trim());
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn sum_of(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}
