//! `form-rig`: runs a command as root in a small Linux of its own that has a real `/dev/kvm`, WireGuard,
//! nf_tables and the like, on a host that has none of them. See docs/rig.md.
//!
//! QEMU's translator emulates an AMD processor with its virtualisation, so that Debian's cloud kernel finds
//! a processor on which its `kvm-amd` works. In reading order: [`request`] is the command line; [`kernel`]
//! fetches and keeps the kernel ([`bzimage`] opens it); [`modules`] says what is loaded and when; [`root`]
//! writes the file system with [`cpio`] and [`libraries`]; [`machine`] is QEMU's process; [`take`] brings
//! files back.

mod bzimage;
mod cpio;
mod kernel;
mod libraries;
mod machine;
mod modules;
mod request;
mod root;
mod take;

use std::process::ExitCode;

use anyhow::{Result, ensure};
use kernel::Kernel;
use machine::{Ending, Machine};
use request::{Request, Run};
use take::Disk;

/// Exit status when the command did not end in time.
const TIMED_OUT: u8 = 124;

/// Exit status when the rig itself failed.
const FAILED: u8 = 125;

/// Memory that the kernel and the programs need beside what the root takes, in MiB.
const SPARE_MIB: u64 = 128;

fn main() -> ExitCode {
    let words: Vec<String> = match std::env::args_os().skip(1).map(std::ffi::OsString::into_string).collect() {
        Ok(words) => words,
        Err(word) => {
            eprintln!("rig: {} is not UTF-8, which the rig cannot pass on", word.display());
            return ExitCode::from(FAILED);
        }
    };
    if words.first().is_some_and(|word| word == machine::CHILD) {
        eprintln!("rig: {:#}", machine::become_child(&words[1..]));
        return ExitCode::from(FAILED);
    }
    match answer(words) {
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            eprintln!("rig: {error:#}");
            ExitCode::from(FAILED)
        }
    }
}

fn answer(words: Vec<String>) -> Result<u8> {
    match request::parse(words)? {
        Request::Help => print!("{}", request::USAGE),
        Request::Prepare => println!("{}", Kernel::prepared()?.describe()),
        Request::Run(run) => return perform(&run),
    }
    Ok(0)
}

fn perform(run: &Run) -> Result<u8> {
    // From here on a signal ends QEMU and lets this process clean up.
    let interrupted = machine::interruption()?;
    let kernel = Kernel::prepared()?;
    let disks: Vec<Disk> = run.get.iter().map(Disk::new).collect::<Result<_>>()?;
    let mut modules = vec!["kvm-amd".to_owned()];
    modules.extend(run.modules.iter().cloned());
    if !disks.is_empty() {
        modules.extend(["virtio_pci".to_owned(), "virtio_blk".to_owned()]);
    }
    let modules = modules::load_order(&kernel, &modules)?;
    let root = root::write(&kernel, &modules, run)?;
    // The kernel holds the archive and what it unpacked from it at the same time.
    let needed_mib = 2 * (root.metadata()?.len() >> 20) + SPARE_MIB;
    ensure!(
        needed_mib <= u64::from(run.memory_mib),
        "the files for the command need about {needed_mib} MiB of memory: pass --mem {needed_mib} or more"
    );
    let machine = Machine {
        kernel: &kernel.vmlinux()?,
        root: &root,
        disks: disks.iter().map(Disk::file).collect(),
        memory_mib: run.memory_mib,
        processors: run.processors,
        counts_instructions: run.counts_instructions,
    };
    match machine.run(run.limit, &interrupted)? {
        Ending::Exit(status) => {
            for disk in disks {
                if let Err(error) = disk.take() {
                    eprintln!("rig: {error:#}");
                    // A command that failed has said so itself; its missing files follow from that.
                    return Ok(if status == 0 { FAILED } else { status });
                }
            }
            Ok(status)
        }
        Ending::TimedOut { console } => {
            eprintln!("rig: the command did not end in {} s; its kernel's console:\n{console}", run.limit.as_secs());
            Ok(TIMED_OUT)
        }
        Ending::Interrupted { signal } => Ok(128 + signal),
        Ending::Broken { why, console } => {
            eprintln!("rig: {why}; the console's last lines:\n{console}");
            Ok(FAILED)
        }
    }
}
