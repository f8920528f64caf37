//! What the rig (docs/rig.md) promises: a machine in which KVM is fit for real kernels and modules are at
//! hand, whose command's status and outputs come through, and of which nothing stays.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Once;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tests::shell::{programs, project, wait_for};

/// How long a machine may take to boot on a busy host. It takes about four seconds.
const BOOT_LIMIT: Duration = Duration::from_secs(90);

static PREPARED: Once = Once::new();

fn script() -> Command {
    let mut command = Command::new(project().join("tests/rig/rig"));
    command.stdin(Stdio::null());
    command
}

/// The rig, unless QEMU is missing: then the test says by name that it did not run.
fn rig(test: &str) -> Option<Command> {
    let path = std::env::var("PATH").unwrap_or_default();
    if !path
        .split(':')
        .any(|folder| Path::new(folder).join("qemu-system-x86_64").is_file())
    {
        eprintln!("SKIPPED {test}: qemu-system-x86_64 is missing (package qemu-system-x86)");
        return None;
    }
    // Once for all, so that what it says about fetching the kernel is no part of a command's words.
    PREPARED.call_once(|| {
        let (output, _, err) = ended(&mut script(), &["prepare"]);
        assert_eq!(output.status.code(), Some(0), "{err}");
    });
    let mut command = script();
    command.args(["run", "--timeout", "180", "--mem", "512"]);
    Some(command)
}

fn ended(rig: &mut Command, arguments: &[&str]) -> (Output, String, String) {
    let begin = Instant::now();
    let output = rig.args(arguments).output().expect("the rig starts");
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    eprintln!(
        "{:.1} s: rig {}",
        begin.elapsed().as_secs_f64(),
        arguments.join(" ")
    );
    (output, out, err)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn kvm_in_the_rig_is_fit_for_a_real_kernel() {
    let Some(mut rig) = rig("kvm_in_the_rig_is_fit_for_a_real_kernel") else {
        return;
    };
    let machine = programs()
        .expect("this program has a folder")
        .join("form-machine");
    assert!(
        machine.is_file(),
        "{} is not built: run `./dev build`",
        machine.display()
    );
    // The probe has a time limit; where clocks count instructions, this host's load does not matter to it.
    let (output, out, err) = ended(
        &mut rig,
        &[
            "--icount",
            "--",
            machine.to_str().expect("an ordinary path"),
            "--probe-kvm",
        ],
    );
    assert_eq!(
        output.status.code(),
        Some(0),
        "the probe says that KVM is unfit: {err}{out}"
    );
}

#[test]
fn the_probe_needs_the_rigs_kvm() {
    let Some(mut rig) = rig("the_probe_needs_the_rigs_kvm") else {
        return;
    };
    let machine = programs()
        .expect("this program has a folder")
        .join("form-machine");
    let machine = format!("{}:/bin/form-machine", machine.display());
    let script = "rm /dev/kvm; form-machine --probe-kvm";
    let (output, _, err) = ended(&mut rig, &["--with", &machine, "--", "sh", "-c", script]);
    assert_eq!(output.status.code(), Some(1), "{err}");
    assert!(err.contains("/dev/kvm cannot be opened"), "{err}");
}

#[test]
fn a_wireguard_interface_can_be_made() {
    let Some(mut rig) = rig("a_wireguard_interface_can_be_made") else {
        return;
    };
    let script = "ip link add wg0 type wireguard && ip link set wg0 up && cat /sys/class/net/wg0/uevent";
    let (output, out, err) = ended(&mut rig, &["--modules", "wireguard", "--", "sh", "-c", script]);
    assert_eq!(output.status.code(), Some(0), "{err}");
    assert!(out.contains("DEVTYPE=wireguard\nINTERFACE=wg0\n"), "{out}");
}

#[test]
fn status_outputs_and_variables_come_through_untouched() {
    let Some(mut rig) = rig("status_outputs_and_variables_come_through_untouched") else {
        return;
    };
    let script = "seq 1 5000; printf '%s' \"$WORDS\" >&2; test -t 1 && echo a terminal; exit 7";
    let words = "it's \"two\" words\n$HOME";
    let (output, out, err) = ended(
        &mut rig,
        &["--env", &format!("WORDS={words}"), "--", "sh", "-c", script],
    );
    let numbers: String = (1..=5000).map(|number| format!("{number}\n")).collect();
    assert!(out == numbers, "5000 lines, but: {}", &out[..out.len().min(300)]);
    assert_eq!(err, words);
    assert_eq!(output.status.code(), Some(7));
}

#[test]
fn files_go_there_and_back() {
    let Some(mut rig) = rig("files_go_there_and_back") else {
        return;
    };
    let folder = tempfile::tempdir().expect("a folder");
    let there: Vec<u8> = (0..300_000u32).flat_map(u32::to_le_bytes).collect();
    fs::create_dir(folder.path().join("in")).expect("a folder");
    fs::write(folder.path().join("in/numbers"), &there).expect("a file");
    let with = format!("{}:/data", folder.path().join("in").display());
    let get = format!("/data:{}", folder.path().join("out").display());
    // What the command left running neither holds the rig up nor keeps the files from coming.
    let script = "cp /data/numbers /data/copy; sleep 1000 & setsid sleep 1000 &";
    let (output, _, err) = ended(
        &mut rig,
        &["--with", &with, "--get", &get, "--", "sh", "-c", script],
    );
    assert_eq!(output.status.code(), Some(0), "{err}");
    assert!(fs::read(folder.path().join("out/copy")).expect("it came back") == there);
    assert_eq!(
        fs::read_dir(folder.path()).expect("a folder").count(),
        2,
        "something else was left"
    );
}

#[test]
fn a_failure_of_the_rig_is_told_from_one_of_the_command() {
    let name = "a_failure_of_the_rig_is_told_from_one_of_the_command";
    let cases: [(&[&str], i32, &str); 4] = [
        (
            &["--modules", "no_such", "--", "true"],
            125,
            "the kernel has no module no_such",
        ),
        (&["--bogus", "--", "true"], 125, "unrecognized arguments: --bogus"),
        (
            &["--timeout", "6", "--", "sleep", "1000"],
            124,
            "did not end in 6 s",
        ),
        (
            &["--get", "/nothing:nothing", "--", "no-such-command"],
            127,
            "no-such-command: not found",
        ),
    ];
    for (arguments, status, words) in cases {
        let Some(mut rig) = rig(name) else { return };
        let (output, _, err) = ended(&mut rig, arguments);
        assert_eq!(output.status.code(), Some(status), "{arguments:?}: {err}");
        assert!(err.contains(words), "{arguments:?}: {err}");
    }
}

#[test]
fn a_kept_kernel_that_changed_is_refused() {
    let cache = tempfile::tempdir().expect("a folder");
    let kernel = cache.path().join("formation-rig/kernel");
    fs::create_dir_all(&kernel).expect("a folder");
    // SHA-256 of nothing, so `package` is right as long as it is empty.
    let sum = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    fs::write(kernel.join("sums"), format!("{sum}  built-in\n{sum}  package\n")).expect("a file");
    fs::write(kernel.join("built-in"), "").expect("a file");
    for (content, status, words) in [("", 0, ""), ("other", 125, "is not what was fetched; remove")] {
        fs::write(kernel.join("package"), content).expect("a file");
        let (output, _, err) = ended(script().env("XDG_CACHE_HOME", cache.path()), &["prepare"]);
        assert_eq!(output.status.code(), Some(status), "{err}");
        assert!(err.contains(words), "{err}");
    }
}

#[test]
fn qemu_does_not_outlive_the_rig() {
    for (signal, status) in [(Signal::TERM, Some(143)), (Signal::KILL, None)] {
        let Some(mut rig) = rig("qemu_does_not_outlive_the_rig") else {
            return;
        };
        let mut child = rig
            .args(["--", "sh", "-c", "echo up; sleep 1000"])
            .stdout(Stdio::piped())
            .spawn()
            .expect("the rig");
        let mut lines = BufReader::new(child.stdout.take().expect("it is a pipe"));
        let mut line = String::new();
        lines.read_line(&mut line).expect("a line");
        assert_eq!(line, "up\n", "the command did not begin");
        let qemu = child_of(&child);
        kill_process(Pid::from_child(&child), signal).expect("a signal");
        let ended = wait_for("the rig to end", BOOT_LIMIT, || Ok(child.try_wait()?)).expect("it ends");
        assert_eq!(ended.code(), status);
        // Whoever took it over may be slow to notice its end.
        wait_for("QEMU to end", Duration::from_secs(10), || {
            Ok(has_ended(&qemu).then_some(()))
        })
        .expect("it ends");
        lines.read_to_end(&mut Vec::new()).expect("the end of the output");
    }
}

/// The folder in /proc of a process' only child.
fn child_of(parent: &Child) -> PathBuf {
    let parent = format!("PPid:\t{}\n", parent.id());
    let mut children = fs::read_dir("/proc")
        .expect("/proc")
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| fs::read_to_string(path.join("status")).is_ok_and(|status| status.contains(&parent)));
    let child = children.next().expect("the rig has a child");
    assert!(children.next().is_none(), "the rig has one child");
    child
}

fn has_ended(process: &Path) -> bool {
    fs::read_to_string(process.join("status")).map_or(true, |status| status.contains("State:\tZ"))
}
