//! What the boot tests stand on: a network namespace with a tap, a tiny image, the binaries; and waiting for
//! a state with a limit.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use vmm::io::machines::{Machines, MachinesConfig};
use vmm::machine::{MachineState, MachineStatus};
use vmm::spec::{Health, MachineId, MachineSpec, Nic, Restart, Workload};

/// How long any awaited thing may take on a busy host.
pub(crate) const LIMIT: Duration = Duration::from_secs(150);

const TAP: &str = "ft-test";

/// Why this cannot run here; `None` when it can.
pub(crate) fn missing() -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("it needs root (for a network namespace and a tap)".to_owned());
    }
    for (program, package) in [
        ("qemu-system-x86_64", "qemu-system-x86"),
        ("mkfs.ext4", "e2fsprogs"),
        ("ip", "iproute2"),
        ("busybox", "busybox-static"),
    ] {
        if found(program).is_none() {
            return Some(format!("{program} is missing (package {package})"));
        }
    }
    (!Path::new("/dev/net/tun").exists()).then(|| "there is no /dev/net/tun".to_owned())
}

/// Says by name that a test did not run.
#[macro_export]
macro_rules! skip_unless_possible {
    ($name:literal) => {
        if let Some(why) = rig::missing() {
            eprintln!("SKIPPED {}: {why}", $name);
            return;
        }
    };
}

fn found(program: &str) -> Option<PathBuf> {
    let path = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin";
    path.split(':')
        .map(|folder| Path::new(folder).join(program))
        .find(|path| path.is_file())
}

fn run(line: &str) {
    let words: Vec<_> = line.split_whitespace().collect();
    let done = Command::new(words[0]).args(&words[1..]).output().unwrap();
    assert!(
        done.status.success(),
        "{line}: {}",
        String::from_utf8_lossy(&done.stderr)
    );
}

/// Moves this thread, and what it starts, into a network namespace of its own with a tap.
pub(crate) fn own_network() {
    #[allow(unsafe_code)]
    // SAFETY: only this thread's network changes, which no memory depends on.
    unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWNET) }.unwrap();
    run(&format!("ip tuntap add dev {TAP} mode tap"));
    run("ip link set lo up");
    run(&format!("ip link set {TAP} up"));
    run(&format!("ip -6 addr add fe80::1/64 dev {TAP} nodad"));
    run(&format!("ip addr add 10.77.0.1/32 dev {TAP}"));
    run(&format!("ip route add 10.77.0.2/32 dev {TAP}"));
    run(&format!("ip -6 route add fd77::2/128 dev {TAP}"));
    run(&format!("ip -6 addr add fd77::1/128 dev {TAP} nodad"));
}

/// A shell script as a workload.
pub(crate) fn script(text: &str) -> Vec<String> {
    ["/bin/sh", "-c", text].map(str::to_owned).into()
}

/// The web server of the tiny image.
pub(crate) fn web_server() -> Vec<String> {
    ["/bin/httpd", "-f", "-p", "8080", "-h", "/www"]
        .map(str::to_owned)
        .into()
}

/// Folders and binaries of one test.
pub(crate) struct Rig {
    folder: tempfile::TempDir,
}

impl Rig {
    pub(crate) fn new() -> Self {
        // Before the network is left: the kernel comes from a mirror.
        let rig = Rig {
            folder: tempfile::tempdir().unwrap(),
        };
        let config = rig.config();
        vmm::io::kernel::prepare(&config.cache_dir, &config.form_init).unwrap();
        own_network();
        rig
    }

    pub(crate) fn config(&self) -> MachinesConfig {
        MachinesConfig {
            dir: self.folder.path().join("machines"),
            cache_dir: target().join("guest-kernel"),
            form_machine: env!("CARGO_BIN_EXE_form-machine").into(),
            form_init: form_init().to_owned(),
        }
    }

    /// A spec that boots the tiny image with this entrypoint.
    pub(crate) fn spec(&self, generation: u64, entrypoint: Vec<String>, health: Health) -> MachineSpec {
        MachineSpec {
            id: MachineId([7; 32]),
            generation,
            hostname: "tiny".to_owned(),
            vcpus: 1,
            memory_mib: 192,
            image: image().to_owned(),
            disk_gib: 1,
            nic: Nic {
                tap: TAP.to_owned(),
                mac: [0x52, 0x54, 0, 0x77, 0, 2],
                ipv6: "fd77::2".parse().unwrap(),
                gateway_v6: "fe80::1".parse().unwrap(),
                ipv4: "10.77.0.2".parse().unwrap(),
                gateway_v4: "10.77.0.1".parse().unwrap(),
                resolvers: vec!["10.77.0.1".parse().unwrap()],
            },
            workload: Workload {
                entrypoint,
                env: vec![("GREETING".to_owned(), "good day".to_owned())],
                workdir: "/srv/work".to_owned(),
                restart: Restart {
                    attempts: 0,
                    backoff_ms: 100,
                },
                health,
            },
        }
    }
}

/// A machine outlives its daemon, so it would outlive a test that failed.
impl Drop for Rig {
    fn drop(&mut self) {
        let folder = self.folder.path().as_os_str().as_encoded_bytes().to_owned();
        for entry in std::fs::read_dir("/proc").unwrap().flatten() {
            let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let ours = line.windows(folder.len()).any(|window| window == folder);
            let pid = entry.file_name().to_str().and_then(|name| name.parse().ok());
            if let Some(pid) =
                pid.filter(|_| ours && line.windows(12).any(|window| window == b"form-machine"))
            {
                let pid = rustix::process::Pid::from_raw(pid).unwrap();
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            }
        }
    }
}

fn target() -> &'static Path {
    Path::new(env!("CARGO_TARGET_TMPDIR"))
}

/// The static init, built now if it is not there: a plain build of the workspace makes a dynamic one, elsewhere.
fn form_init() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| {
        let done = Command::new(env!("CARGO"))
            .args(["rustc", "--quiet", "-p", "form-init", "--profile", "guest", "--"])
            .args(["-C", "target-feature=+crt-static"])
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .output()
            .unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        target().parent().unwrap().join("guest/form-init")
    })
}

/// A root of busybox alone, in ext4.
fn image() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| {
        let path = target().join("tiny.ext4");
        let fresh = target().join(format!("tiny-{}.ext4", std::process::id()));
        let tree = tempfile::tempdir().unwrap();
        let root = tree.path();
        for folder in ["bin", "www", "etc", "srv"] {
            std::fs::create_dir(root.join(folder)).unwrap();
        }
        std::fs::copy(found("busybox").unwrap(), root.join("bin/busybox")).unwrap();
        for name in [
            "sh", "httpd", "sleep", "cat", "echo", "ip", "mount", "ps", "kill", "hostname", "df", "touch",
            "grep", "nproc", "date",
        ] {
            std::os::unix::fs::symlink("busybox", root.join("bin").join(name)).unwrap();
        }
        std::fs::write(root.join("www/index.html"), "hello from the guest\n").unwrap();
        std::fs::write(root.join("www/health"), "fine\n").unwrap();
        // As in many an image: a link into nowhere.
        std::os::unix::fs::symlink("../run/nowhere/resolv.conf", root.join("etc/resolv.conf")).unwrap();
        let (from, to) = (root.display(), fresh.display());
        run(&format!("mkfs.ext4 -q -F -O ^has_journal -d {from} {to} 8M"));
        std::fs::rename(&fresh, &path).unwrap();
        path
    })
}

/// State changes as they come, with what was seen so far.
pub(crate) struct Events {
    receiver: mpsc::Receiver<MachineStatus>,
    pub(crate) seen: Vec<MachineState>,
    begin: Instant,
}

impl Events {
    pub(crate) fn new(receiver: mpsc::Receiver<MachineStatus>) -> Self {
        Events {
            receiver,
            seen: Vec::new(),
            begin: Instant::now(),
        }
    }

    /// Waits for a state that is as wanted.
    pub(crate) async fn wait(&mut self, what: &str, wanted: impl Fn(&MachineState) -> bool) -> MachineState {
        let search = async {
            while let Some(status) = self.receiver.recv().await {
                eprintln!("{:>6} ms: {:?}", self.begin.elapsed().as_millis(), status.state);
                self.seen.push(status.state.clone());
                if wanted(&status.state) {
                    return status.state;
                }
            }
            panic!("no more states");
        };
        match tokio::time::timeout(LIMIT, search).await {
            Ok(state) => state,
            Err(_) => panic!("no machine was {what}; seen: {:?}", self.seen),
        }
    }

    pub(crate) async fn serving(&mut self) {
        self.wait("serving", |state| {
            assert!(!matches!(state, MachineState::Failed { .. }), "{state:?}");
            *state == MachineState::Running { serving: true }
        })
        .await;
    }

    pub(crate) async fn ended(&mut self) -> MachineState {
        self.wait("ended", |state| !state.is_alive()).await
    }
}

/// What a workload wrote so far.
pub(crate) async fn log_of(machines: &Machines) -> String {
    let chunk = machines.logs(MachineId([7; 32]), None, 1 << 20).await.unwrap();
    String::from_utf8_lossy(&chunk.bytes).into_owned()
}

/// Waits until the log holds `text`.
pub(crate) async fn wait_for_log(machines: &Machines, text: &str) -> String {
    let begin = Instant::now();
    loop {
        let log = log_of(machines).await;
        if log.contains(text) {
            return log;
        }
        assert!(begin.elapsed() < LIMIT, "the log lacks {text:?}:\n{log}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// The answer to a GET, from this thread's network.
pub(crate) fn get(address: &str, path: &str) -> String {
    let address: SocketAddr = address.parse().unwrap();
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(20)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream
        .write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes())
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// How many processes have this word among their arguments.
pub(crate) fn processes_with(word: &str) -> usize {
    let holds = |entry: std::fs::DirEntry| {
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        line.split(|byte| *byte == 0)
            .any(|argument| String::from_utf8_lossy(argument).contains(word))
    };
    std::fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .map(holds)
        .filter(|found| *found)
        .count()
}
