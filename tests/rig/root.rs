//! The root file system of the rig's Linux, as an archive: busybox, modules, the command with what it needs,
//! and the script that runs it.

use std::fs::{self, File};
use std::io::BufWriter;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::cpio::Archive;
use crate::kernel::Kernel;
use crate::libraries;
use crate::modules::Module;
use crate::request::Run;
use crate::take;

type Root = Archive<BufWriter<File>>;

const INIT: &str = include_str!("init.sh");

/// Where a command's program is looked for. Busybox comes last, so that real programs go before its own.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/rig/applets";

const FOLDERS: [&str; 11] = [
    "/dev", "/etc", "/mnt", "/proc", "/rig/root", "/root", "/run", "/sys", "/usr/bin", "/var/lib", "/var/log",
];

/// What programs expect to find about users and names.
const FACTS: [(&str, &str); 4] = [
    ("/etc/passwd", "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n"),
    ("/etc/group", "root:x:0:\nnogroup:x:65534:\n"),
    ("/etc/hosts", "127.0.0.1 localhost rig\n::1 localhost rig\n"),
    ("/etc/nsswitch.conf", "passwd: files\ngroup: files\nhosts: files dns\n"),
];

/// Writes the archive into a file without a name, which goes when the last process closes it.
pub(crate) fn write(kernel: &Kernel, modules: &[Module], run: &Run) -> Result<File> {
    let file = tempfile::tempfile().context("making a file for the root")?;
    let mut root = Archive::new(BufWriter::with_capacity(1 << 20, file));
    // The first that names a path wins, so what the caller wants comes first.
    for copy in &run.with {
        add(&mut root, Path::new(&copy.from), &copy.to)?;
    }
    if let Some(program) = &run.program {
        add(&mut root, program, &run.command[0])?;
    }
    for folder in FOLDERS {
        root.folder(folder, 0o755)?;
    }
    root.folder("/tmp", 0o1777)?;
    // The kernel opens it for the first program, before anything is mounted.
    root.device("/dev/console", 0o600, (5, 1))?;
    for (path, text) in FACTS {
        root.bytes(path, 0o644, text.as_bytes())?;
    }
    root.bytes("/rig/busybox", 0o755, &kernel.busybox()?)?;
    for applet in kernel.applets()? {
        root.link(&format!("/rig/applets/{applet}"), "/rig/busybox")?;
    }
    // Not busybox: its shell runs its own applets even where a real program of that name is on the path.
    add(&mut root, Path::new("/bin/sh"), "/bin/sh")?;
    root.link("/usr/bin/env", "/rig/busybox")?;
    let mut order = String::new();
    for module in modules {
        root.bytes(&format!("/rig/modules/{}.ko", module.name), 0o644, &module.bytes)?;
        order.push_str(&format!("{} {}\n", module.name, module.parameters));
    }
    root.bytes("/rig/order", 0o644, order.as_bytes())?;
    root.bytes("/rig/command", 0o644, script(run).as_bytes())?;
    root.bytes("/rig/give", 0o644, take::script(&run.get).as_bytes())?;
    root.bytes("/init", 0o755, INIT.as_bytes())?;
    root.finish()?.into_inner().context("writing the root")
}

/// Adds a file or a folder of this host with the libraries of its programs.
fn add(root: &mut Root, from: &Path, to: &str) -> Result<()> {
    let about = fs::metadata(from).with_context(|| format!("looking at {}", from.display()))?;
    if !about.is_dir() {
        // A link that is asked for by name is what it points to.
        return add_file(root, from, to);
    }
    root.folder(to, about.mode() & 0o7777)?;
    for entry in fs::read_dir(from).with_context(|| format!("listing {}", from.display()))? {
        let entry = entry.with_context(|| format!("listing {}", from.display()))?;
        let (path, kind) = (entry.path(), entry.file_type()?);
        let name = entry.file_name().into_string().ok().with_context(|| format!("{} is not UTF-8", path.display()))?;
        let to = format!("{to}/{name}");
        if kind.is_symlink() {
            let target = fs::read_link(&path).with_context(|| format!("reading {}", path.display()))?;
            root.link(&to, target.to_str().with_context(|| format!("{} is not UTF-8", target.display()))?)?;
        } else if kind.is_dir() {
            add(root, &path, &to)?;
        } else if kind.is_file() {
            add_file(root, &path, &to)?;
        }
        // Sockets and devices mean nothing in another machine.
    }
    Ok(())
}

fn add_file(root: &mut Root, from: &Path, to: &str) -> Result<()> {
    copy_file(root, from, to)?;
    for library in libraries::of(from)? {
        copy_file(root, &library, library.to_str().context("a library's path is not UTF-8")?)?;
    }
    Ok(())
}

fn copy_file(root: &mut Root, from: &Path, to: &str) -> Result<()> {
    let file = File::open(from).with_context(|| format!("opening {}", from.display()))?;
    let about = file.metadata().with_context(|| format!("looking at {}", from.display()))?;
    if !about.is_file() {
        bail!("{} is neither a file nor a folder", from.display());
    }
    root.file(to, about.mode(), about.len(), file)
}

/// Runs the command in its surroundings.
fn script(run: &Run) -> String {
    let fixed = [("PATH", PATH), ("HOME", "/root"), ("LANG", "C.UTF-8")];
    let fixed = fixed.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned()));
    let mut text = String::new();
    for (name, value) in fixed.chain(run.environment.iter().cloned()) {
        text.push_str(&format!("export {name}={}\n", quoted(&value)));
    }
    let words: Vec<String> = run.command.iter().map(|word| quoted(word)).collect();
    text.push_str(&format!("exec {}\n", words.join(" ")));
    text
}

/// A word that the shell takes as it is.
pub(crate) fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}
