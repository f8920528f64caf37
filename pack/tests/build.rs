//! Real builds, as root, with mmdebstrap: looked at from outside, with debugfs.

#![allow(clippy::unwrap_used)]
#![cfg(feature = "host")]

use pack::formfile::{Formfile, parse};
use pack::image::{HealthCheck, ImageManifest};
use pack::io::build::{BuildError, BuildEvent, Builder, BuiltImage};
use pack::io::context;
use std::fs;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::time::Instant;

/// Bases and packages outlive the tests, as on a builder: a first run fetches them.
fn cache(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(name)
}

/// Builders of this file share one cache, so they take turns.
static TURN: Mutex<()> = Mutex::new(());

fn cannot_run(test: &str) -> bool {
    match Builder::check_host() {
        Ok(()) => false,
        Err(error) => {
            eprintln!("NOT RUN: {test}: {error}");
            true
        }
    }
}

fn formfile(text: &str) -> Formfile {
    parse(text)
        .formfile
        .unwrap_or_else(|complaints| panic!("{complaints:?}"))
        .redacted(&[3; 32])
}

struct Bench {
    folder: tempfile::TempDir,
    builder: Builder,
}

impl Bench {
    fn new(cache_name: &str) -> Bench {
        let folder = tempfile::TempDir::new().unwrap();
        Bench {
            folder,
            builder: Builder::open(cache(cache_name)).unwrap(),
        }
    }

    fn archive(&self, dir: &Path, formfile: &Formfile) -> PathBuf {
        let path = self.folder.path().join("context.tar");
        context::archive(dir, formfile, &path).unwrap();
        path
    }

    fn build_dir(&self, dir: &Path) -> (Result<BuiltImage, BuildError>, Vec<BuildEvent>) {
        let text = fs::read_to_string(dir.join("Formfile")).unwrap();
        self.build(dir, &text)
    }

    fn build(&self, dir: &Path, text: &str) -> (Result<BuiltImage, BuildError>, Vec<BuildEvent>) {
        let archive = self.archive(dir, &formfile(text));
        let mut events = Vec::new();
        let started = Instant::now();
        let mut last = Instant::now();
        let result = self.builder.build(&archive, &mut |event| {
            if let BuildEvent::Done { ms } = &event {
                eprintln!("  {ms} ms");
            }
            if let BuildEvent::Step { text, cached, .. } = &event {
                eprintln!("{text}{}", if *cached { " (cached)" } else { "" });
                last = Instant::now();
            }
            events.push(event);
        });
        let _ = last;
        eprintln!("build: {} ms", started.elapsed().as_millis());
        (result, events)
    }
}

fn debugfs(disk: &Path, request: &str) -> String {
    let output = Command::new("debugfs")
        .args(["-R", request])
        .arg(disk)
        .output()
        .unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn fsck(disk: &Path) {
    let output = Command::new("e2fsck")
        .args(["-f", "-n"])
        .arg(disk)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stdout)
    );
}

/// Nothing of any build stays mounted or on the floor.
fn is_clean(cache: &Path) {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(cache.to_str().unwrap()), "{mounts}");
    assert_eq!(fs::read_dir(cache.join("tmp")).unwrap().count(), 0);
}

fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples")
}

#[test]
fn hello_agent_becomes_an_image_with_all_that_its_formfile_says() {
    if cannot_run("hello_agent_becomes_an_image_with_all_that_its_formfile_says") {
        return;
    }
    let _turn = TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let bench = Bench::new("builder");
    let (built, _) = bench.build_dir(&examples().join("hello-agent"));
    let built = built.unwrap_or_else(|error| panic!("{error}"));
    let config = &built.manifest.config;
    assert_eq!(config.entrypoint, ["python3", "-E", "-s", "agent.py"]);
    assert_eq!(config.workdir, "/srv/hello");
    assert_eq!(config.expose, [8000]);
    assert_eq!(
        config.health,
        HealthCheck::Http {
            path: "/health".into(),
            port: 8000
        }
    );
    assert_eq!(config.env[1], ("GREETING".into(), "Hello from the fog".into()));

    fsck(&built.disk);
    let cat = |path: &str| debugfs(&built.disk, &format!("cat {path}"));
    assert!(cat("/srv/hello/agent.py").contains("def word_statistics"));
    assert!(cat("/srv/hello/words/common.txt").contains("the"));
    assert!(cat("/etc/environment").contains("AGENT_NAME=hello-agent"));
    assert_eq!(cat("/etc/hello.env"), "LOG_LEVEL=info\n");
    assert!(cat("/etc/passwd").contains("hello:x:1000:1000:hello:/home/hello:/usr/sbin/nologin"));
    assert!(cat("/etc/shadow").contains("hello:!:"));
    assert_eq!(
        cat("/etc/hostname"),
        "localhost\n",
        "the host's name stays at home"
    );
    let ls = |path: &str| debugfs(&built.disk, &format!("ls -p {path}"));
    assert!(ls("/srv/hello/__pycache__").contains("agent.cpython-311.pyc"));
    assert!(
        !ls("/srv/hello").contains("README.md"),
        ".formignore leaves it out"
    );
    assert!(!ls("/srv/hello").contains("Formfile"));
    assert!(!ls("/usr/share/man").contains("man1"));
    assert!(!ls("/var/lib/apt/lists").contains("Packages"));
    assert!(!ls("/etc/apt/apt.conf.d").contains("99mmdebstrap"));
    let megabytes = built.manifest.pieces.total_bytes >> 20;
    eprintln!("image: {megabytes} MiB");
    assert!(megabytes < 200, "{megabytes} MiB");
    is_clean(&cache("builder"));

    let started = Instant::now();
    let (again, events) = bench.build_dir(&examples().join("hello-agent"));
    let again = again.unwrap();
    assert!(again.cached && events.is_empty());
    assert_eq!(again.manifest, built.manifest);
    assert!(started.elapsed().as_millis() < 1000, "{:?}", started.elapsed());
    assert_eq!(
        ImageManifest::from_bytes(&again.manifest.to_bytes()).unwrap(),
        built.manifest
    );
}

#[test]
fn a_formfile_of_the_earlier_system_builds_unchanged() {
    if cannot_run("a_formfile_of_the_earlier_system_builds_unchanged") {
        return;
    }
    let _turn = TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let bench = Bench::new("builder");
    let (built, _) = bench.build_dir(&examples().join("earlier-system"));
    let built = built.unwrap_or_else(|error| panic!("{error}"));
    fsck(&built.disk);
    let cat = |path: &str| debugfs(&built.disk, &format!("cat {path}"));
    assert!(cat("/app/agent.py").contains("port 8000"));
    assert!(cat("/etc/shadow").contains("agent:$6$rounds=4096$"));
    assert!(cat("/etc/sudoers.d/50-agent").contains("NOPASSWD"));
    assert!(cat("/home/agent/.ssh/authorized_keys").starts_with("ssh-ed25519 "));
    assert!(debugfs(&built.disk, "stat /usr/bin/sudo").contains("Mode:  04755"));
    assert!(debugfs(&built.disk, "stat /home/agent/.ssh").contains("Mode:  0700"));
    assert!(debugfs(&built.disk, "stat /home/agent/.ssh").contains("User:  1000"));
}

/// The other half of the next test: run by it, in a process that it kills.
#[test]
#[ignore = "run by a_killed_builder_takes_its_step_with_it_and_the_next_one_cleans_up"]
fn build_until_killed() {
    let Ok(folder) = std::env::var("PACK_TEST_KILLED") else {
        return;
    };
    let folder = Path::new(&folder);
    let builder = Builder::open(folder.join("cache")).unwrap();
    let archive = folder.join("context.tar");
    let text = "NAME x\nFROM scratch\nCOPY . /bin/\nRUN /bin/busybox sleep 98765\n";
    context::archive(&folder.join("context"), &formfile(text), &archive).unwrap();
    let _ = builder.build(&archive, &mut |event| eprintln!("{event:?}"));
}

fn sleepers() -> usize {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let sleeps = |entry: &fs::DirEntry| {
        fs::read(entry.path().join("cmdline")).is_ok_and(|line| line.ends_with(b"sleep\098765\0"))
    };
    processes.filter(sleeps).count()
}

fn wait_for(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + std::time::Duration::from_secs(60);
    while !done() {
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}

#[test]
fn a_killed_builder_takes_its_step_with_it_and_the_next_one_cleans_up() {
    let test = "a_killed_builder_takes_its_step_with_it_and_the_next_one_cleans_up";
    if cannot_run(test) {
        return;
    }
    let folder = tempfile::TempDir::new().unwrap();
    fs::create_dir(folder.path().join("context")).unwrap();
    if !busybox(&folder.path().join("context")) {
        eprintln!("NOT RUN: {test}: no static busybox here");
        return;
    }
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "build_until_killed", "--ignored", "--nocapture"])
        .env("PACK_TEST_KILLED", folder.path())
        .spawn()
        .unwrap();
    wait_for("the step", || sleepers() > 0);
    child.kill().unwrap();
    child.wait().unwrap();
    wait_for("its end", || sleepers() == 0);
    let cache = folder.path().join("cache").canonicalize().unwrap();
    assert!(
        fs::read_dir(cache.join("tmp")).unwrap().count() > 0,
        "it was killed at work"
    );
    drop(Builder::open(&cache).unwrap());
    is_clean(&cache);
}

/// A small world without Debian: a static busybox, where there is one.
fn busybox(dir: &Path) -> bool {
    let found = ["/bin/busybox", "/usr/bin/busybox"]
        .iter()
        .find(|path| Path::new(path).exists());
    let is_static = found.is_some_and(|path| {
        let output = Command::new("ldd").arg(path).output();
        output.is_ok_and(|output| String::from_utf8_lossy(&output.stderr).contains("not a dynamic"))
    });
    match found {
        Some(path) if is_static => {
            fs::copy(path, dir.join("busybox")).unwrap();
            std::os::unix::fs::symlink("busybox", dir.join("sh")).unwrap();
            true
        }
        _ => false,
    }
}

#[test]
fn a_run_sees_its_own_tree_and_nothing_of_the_host() {
    if cannot_run("a_run_sees_its_own_tree_and_nothing_of_the_host") {
        return;
    }
    let _turn = TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let bench = Bench::new("builder");
    let context = tempfile::TempDir::new().unwrap();
    fs::write(context.path().join("probe.sh"), PROBE).unwrap();
    let secret = bench.folder.path().join("host-secret");
    fs::write(&secret, "secret").unwrap();
    let name = SocketAddr::from_abstract_name("formation-test-of-the-sandbox").unwrap();
    let _host = UnixListener::bind_addr(&name).unwrap();
    let text = format!(
        "NAME probe\nCOPY probe.sh /probe.sh\nENV TOLD='by \"ENV\"'\nWORKDIR /work\n\
         RUN sh /probe.sh {} > /result\nRUN mkdir -p {folder} && ln -s {folder} /out\nCOPY probe.sh /out/escaped\n",
        secret.display(),
        folder = bench.folder.path().display()
    );
    let (built, _) = bench.build(context.path(), &text);
    let built = built.unwrap_or_else(|error| panic!("{error}"));
    let result = debugfs(&built.disk, "cat /result");
    insta::assert_snapshot!(result, @r#"
    pid of the step: 2
    working directory: /work
    variable: by "ENV"
    host name: build
    processes: few
    sees the host's file: no
    sees the host's disks: no
    makes a device: no
    mounts: no
    writes kernel settings: no
    writes sysrq: no
    changes the host's name: no
    changes owners: yes
    writes to /dev/null: yes
    becomes root of a user namespace: no
    reads the host's pages: no
    speaks to a hypervisor: no
    loads programs into the kernel: no
    connects to a socket of the host: no
    stands back: 10
    capabilities: CapEff:00000000a00405fb
    new privileges: NoNewPrivs:1
    "#);
    assert!(
        !bench.folder.path().join("escaped").exists(),
        "a symlink led a COPY out of the tree"
    );
    let landed = debugfs(
        &built.disk,
        &format!("cat {}/escaped", bench.folder.path().display()),
    );
    assert!(landed.contains("try()"), "it leads to the same place inside");
    is_clean(&cache("builder"));
}

const PROBE: &str = r#"
say() { echo "$1: $2"; }
try() { what=$1; shift; if "$@" >/dev/null 2>&1; then say "$what" yes; else say "$what" no; fi; }
say "pid of the step" $PPID
say "working directory" "$(pwd)"
say "variable" "$TOLD"
say "host name" "$(hostname)"
say "processes" "$(ls -d /proc/[0-9]* | wc -l | awk '{print ($1 < 8) ? "few" : "many"}')"
try "sees the host's file" test -e "$1"
try "sees the host's disks" sh -c 'ls /dev/vd* /dev/sd* /dev/nvme*'
try "makes a device" mknod /dev/disk b 254 0
try "mounts" mount -t tmpfs none /mnt
try "writes kernel settings" sh -c 'echo x > /proc/sys/kernel/core_pattern'
try "writes sysrq" sh -c 'echo h > /proc/sysrq-trigger'
try "changes the host's name" hostname other
try "changes owners" sh -c 'touch /o && chown 1000:1000 /o'
try "writes to /dev/null" sh -c 'echo x > /dev/null'
try "becomes root of a user namespace" unshare -Ur true
try "reads the host's pages" sh -c 'head -c 8 /proc/kpageflags | grep -q .'
try "speaks to a hypervisor" perl -e 'socket(S, 40, 1, 0) or exit 1'
try "loads programs into the kernel" perl -e '$! = 0; syscall(321, 0, 0, 0); exit($!{EPERM} ? 1 : 0)'
try "connects to a socket of the host" perl -e 'use Socket; socket(C, AF_UNIX, SOCK_STREAM, 0) or exit 1; connect(C, sockaddr_un("\0formation-test-of-the-sandbox")) or exit 1'
say "stands back" "$(nice)"
say "capabilities" "$(grep CapEff /proc/self/status | tr -d '\t')"
say "new privileges" "$(grep NoNewPrivs /proc/self/status | tr -d '\t')"
"#;

#[test]
fn no_other_user_of_the_host_reaches_what_a_step_made() {
    let folder = tempfile::TempDir::new().unwrap();
    let cache = folder.path().join("cache");
    fs::create_dir(&cache).unwrap();
    fs::set_permissions(&cache, fs::Permissions::from_mode(0o755)).unwrap();
    Builder::open(&cache).unwrap();
    // Within may lie a shell that belongs to root and says so to whoever starts it.
    assert_eq!(fs::metadata(&cache).unwrap().permissions().mode() & 0o777, 0o700);
}

#[test]
fn a_step_that_starts_programs_without_end_is_ended() {
    if cannot_run("a_step_that_starts_programs_without_end_is_ended") {
        return;
    }
    let _turn = TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let bench = Bench::new("builder");
    let context = tempfile::TempDir::new().unwrap();
    let flood = "NAME x\nRUN perl -e 'for (1..6000) { my $p = fork; defined $p or die \"no more: $!\"; \
                 if (!$p) { sleep 20; exit } } sleep 20'\n";
    let (result, _) = bench.build(context.path(), flood);
    let error = result.unwrap_err().to_string();
    // The kernel says no, where a namespace has a bound of its own; else the builder notices.
    assert!(
        error.contains("no more: ") || error.contains("4096 processes"),
        "{error}"
    );
    is_clean(&cache("builder"));
}

#[test]
fn a_failing_step_shows_its_last_lines_and_leaves_nothing_behind() {
    if cannot_run("a_failing_step_shows_its_last_lines_and_leaves_nothing_behind") {
        return;
    }
    let _turn = TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let bench = Bench::new("builder");
    let context = tempfile::TempDir::new().unwrap();
    let text = "NAME x\nRUN echo first; sleep 300 & seq 100; echo 'it broke' >&2; exit 7\n";
    let (result, _) = bench.build(context.path(), text);
    let error = result.unwrap_err();
    let BuildError::Step { tail, log, .. } = &error else {
        panic!("{error}")
    };
    assert_eq!(tail.last().unwrap(), "it broke");
    assert_eq!(tail.len(), pack::io::steplog::TAIL_LINES);
    assert!(error.to_string().contains("exit code 7"), "{error}");
    assert!(
        fs::read_to_string(log).unwrap().contains("\nfirst\n"),
        "the log has all of it"
    );
    is_clean(&cache("builder"));
    let (result, _) = bench.build(context.path(), "NAME x\nRUN kill -9 $$\n");
    assert!(result.unwrap_err().to_string().contains("signal 9"));
    let deep = "NAME x\nRUN perl -e 'for (1..20000) { mkdir \"d\"; chdir \"d\" }'\n";
    let (result, _) = bench.build(context.path(), deep);
    let error = result.unwrap_err().to_string();
    assert!(error.contains("inside one another"), "{error}");
    is_clean(&cache("builder"));
    let (result, _) = bench.build(context.path(), "NAME x\nENV --scope=user:nobody-here A=1\n");
    assert!(result.unwrap_err().to_string().contains("add a USER"));
    let (result, _) = bench.build(context.path(), "NAME x\nINSTALL no-such-package-here\n");
    let error = result.unwrap_err().to_string();
    assert!(error.contains("Unable to locate package"), "{error}");
    is_clean(&cache("builder"));
}

#[test]
fn the_same_formfile_and_context_give_the_same_image_without_any_cache_of_steps() {
    if cannot_run("the_same_formfile_and_context_give_the_same_image_without_any_cache_of_steps") {
        return;
    }
    let _turn = TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let context = tempfile::TempDir::new().unwrap();
    fs::create_dir(context.path().join("d")).unwrap();
    for index in 0..40 {
        fs::write(context.path().join(format!("d/{index}")), format!("{index}")).unwrap();
    }
    let text =
        "NAME x\nUSER username:anna passwd:a sudo:no\nCOPY d /d\nRUN date > /dev/null; echo made > /made\n";
    let mut digests = Vec::new();
    for _ in 0..2 {
        for name in ["layers", "builds"] {
            let path = cache("builder").join(name);
            if path.exists() {
                fs::remove_dir_all(path).unwrap();
            }
        }
        let bench = Bench::new("builder");
        let (built, _) = bench.build(context.path(), text);
        let built = built.unwrap_or_else(|error| panic!("{error}"));
        assert!(!built.cached);
        digests.push(built.manifest.digest());
    }
    assert_eq!(digests[0], digests[1]);
}

#[test]
fn from_scratch_holds_what_was_copied_and_can_run_it() {
    if cannot_run("from_scratch_holds_what_was_copied_and_can_run_it") {
        return;
    }
    let context = tempfile::TempDir::new().unwrap();
    let _turn = TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let bench = Bench::new("builder");
    let (built, _) = bench.build(
        context.path(),
        "NAME x\nFROM scratch\nCOPY . /data/\nUSER username:a\n",
    );
    let built = built.unwrap_or_else(|error| panic!("{error}"));
    fsck(&built.disk);
    assert!(
        built.manifest.pieces.total_bytes < 4 << 20,
        "{}",
        built.manifest.pieces.total_bytes
    );
    assert!(debugfs(&built.disk, "ls -p /").contains("/data/"));
    if !busybox(context.path()) {
        eprintln!(
            "NOT RUN: the RUN of from_scratch_holds_what_was_copied_and_can_run_it: no static busybox here"
        );
        return;
    }
    let text = "NAME x\nFROM scratch\nCOPY . /bin/\nRUN /bin/busybox echo hi > /said\n";
    let (built, _) = bench.build(context.path(), text);
    assert_eq!(debugfs(&built.unwrap().disk, "cat /said"), "hi\n");
}

#[test]
fn builders_of_one_cache_take_turns_and_clear_what_a_killed_one_left() {
    let folder = tempfile::TempDir::new().unwrap();
    let first = Builder::open(folder.path()).unwrap();
    let second = Builder::open(folder.path()).unwrap();
    fs::create_dir_all(folder.path().join("tmp/left-by-a-killed-one")).unwrap();
    // This is no archive: each takes its turn all the same, and gives it back.
    let archive = folder.path().join("no-archive");
    fs::write(&archive, "no archive").unwrap();
    for builder in [&first, &second, &first] {
        assert!(builder.build(&archive, &mut |_| {}).is_err());
    }
    assert!(!folder.path().join("tmp/left-by-a-killed-one").exists());
}
