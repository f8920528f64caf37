//! Finds out how guests can be executed on this host: by KVM where a tiny guest proves that it can run a
//! real kernel, or else by translation.
//!
//! That `/dev/kvm` opens proves nothing: under some nested hypervisors it runs simple code and fails on SSE
//! arithmetic or `cmpxchg16b`, which every 64-bit kernel uses, or runs a hundred times too slowly. The tiny
//! guest may hang in the kernel, so the daemon runs it in a child ([`kvm_in_child`]) with a time limit.

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use kvm_bindings::{kvm_segment, kvm_userspace_memory_region};
use kvm_ioctls::{Kvm, VcpuExit};
use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryMmap};

use crate::driver::{Accelerator, DriverReport};

/// The word that makes `form-machine` run [`kvm`] and nothing else.
pub const PROBE_ARGUMENT: &str = "--probe-kvm";

/// What the tiny guest may take. It executes two million instructions: some milliseconds on a real processor.
const PROBE_LIMIT: Duration = Duration::from_millis(1500);

/// How long the time stamp counter is watched to learn its rate.
const TSC_WATCH: Duration = Duration::from_millis(40);

const MEMORY_BYTES: usize = 1 << 20;
const TABLES_AT: u64 = 0x4000;
const CODE_AT: u64 = 0x1000;
const STACK_AT: u64 = 0x4000;
const PORT: u16 = 0x10;
const GOOD: u8 = 0x4b;

/// 64-bit code of the tiny guest: SSE arithmetic, a locked 16-byte exchange at 0x3000, a loop of a million
/// turns, then one byte to the port: 0x4b when all came out right.
const CODE: [u8; 75] = [
    0xb8, 0x01, 0x00, 0x00, 0x00, //       mov eax, 1
    0x66, 0x48, 0x0f, 0x6e, 0xc0, //       movq xmm0, rax
    0x66, 0x0f, 0xd4, 0xc0, //             paddq xmm0, xmm0
    0x66, 0x48, 0x0f, 0x7e, 0xc0, //       movq rax, xmm0
    0x48, 0x83, 0xf8, 0x02, //             cmp rax, 2
    0x75, 0x2e, //                         jne bad
    0xbe, 0x00, 0x30, 0x00, 0x00, //       mov esi, 0x3000
    0x31, 0xc0, //                         xor eax, eax
    0x31, 0xd2, //                         xor edx, edx
    0xbb, 0x07, 0x00, 0x00, 0x00, //       mov ebx, 7
    0xb9, 0x09, 0x00, 0x00, 0x00, //       mov ecx, 9
    0xf0, 0x48, 0x0f, 0xc7, 0x0e, //       lock cmpxchg16b [rsi]
    0x75, 0x14, //                         jne bad
    0x48, 0x83, 0x7e, 0x08, 0x09, //       cmp qword [rsi + 8], 9
    0x75, 0x0d, //                         jne bad
    0xb9, 0x40, 0x42, 0x0f, 0x00, //       mov ecx, 1000000
    0xff, 0xc9, //                   more: dec ecx
    0x75, 0xfc, //                         jne more
    0xb0, GOOD, //                         mov al, 0x4b
    0xe6, 0x10, //                         out 0x10, al
    0xb0, 0x21, //                    bad: mov al, 0x21
    0xe6, 0x10, //                         out 0x10, al
];

/// Runs the tiny guest in this process. `Err` says why KVM is unfit. May hang: see [`kvm_in_child`].
pub fn kvm() -> Result<(), String> {
    let kvm = Kvm::new().map_err(|error| format!("/dev/kvm cannot be opened ({error})"))?;
    run_tiny_guest(&kvm).map_err(|error| format!("/dev/kvm opens, but {error}"))
}

#[allow(unsafe_code)]
fn run_tiny_guest(kvm: &Kvm) -> Result<(), String> {
    let said = |what: &'static str| move |error: kvm_ioctls::Error| format!("{what} failed ({error})");
    let vm = kvm.create_vm().map_err(said("making a virtual machine"))?;
    let memory = GuestMemoryMmap::<()>::from_ranges(&[(GuestAddress(0), MEMORY_BYTES)])
        .map_err(|error| format!("its memory cannot be made ({error})"))?;
    let host = memory
        .get_host_address(GuestAddress(0))
        .map_err(|error| error.to_string())?;
    let region = kvm_userspace_memory_region {
        slot: 0,
        guest_phys_addr: 0,
        memory_size: MEMORY_BYTES as u64,
        userspace_addr: host as u64,
        flags: 0,
    };
    // SAFETY: `memory` is mapped for as long as `vm` and its processor live: it is dropped after them.
    unsafe { vm.set_user_memory_region(region) }.map_err(said("giving it memory"))?;
    let write = |bytes: &[u8], at: u64| {
        memory
            .write_slice(bytes, GuestAddress(at))
            .map_err(|error| error.to_string())
    };
    write(&CODE, CODE_AT)?;
    // One table of each level; the lowest maps the first GiB to itself in pages of 2 MiB.
    write(&(TABLES_AT + 0x1003).to_le_bytes(), TABLES_AT)?;
    write(&(TABLES_AT + 0x2003).to_le_bytes(), TABLES_AT + 0x1000)?;
    for index in 0..512u64 {
        write(
            &((index << 21) | 0x83).to_le_bytes(),
            TABLES_AT + 0x2000 + index * 8,
        )?;
    }

    let mut vcpu = vm.create_vcpu(0).map_err(said("making its processor"))?;
    let cpuid = kvm
        .get_supported_cpuid(kvm_bindings::KVM_MAX_CPUID_ENTRIES)
        .map_err(said("asking for the processor's features"))?;
    vcpu.set_cpuid2(&cpuid)
        .map_err(said("setting the processor's features"))?;
    let mut special = vcpu.get_sregs().map_err(said("reading special registers"))?;
    let flat = |kind: u8, long: u8| kvm_segment {
        base: 0,
        limit: 0xffff_ffff,
        selector: 8,
        type_: kind,
        present: 1,
        s: 1,
        l: long,
        db: 1 - long,
        g: 1,
        ..Default::default()
    };
    special.cs = flat(0b1011, 1);
    let data = flat(0b0011, 0);
    (special.ds, special.es, special.ss, special.fs, special.gs) = (data, data, data, data, data);
    special.cr3 = TABLES_AT;
    special.cr4 = (1 << 5) | (1 << 9) | (1 << 10); // physical address extension, SSE
    special.cr0 = (1 << 31) | (1 << 4) | (1 << 1) | 1; // paging, protection, numeric processor
    special.efer = (1 << 8) | (1 << 10); // long mode
    vcpu.set_sregs(&special)
        .map_err(said("setting special registers"))?;
    let mut registers = vcpu.get_regs().map_err(said("reading registers"))?;
    (registers.rip, registers.rsp, registers.rflags) = (CODE_AT, STACK_AT, 2);
    vcpu.set_regs(&registers).map_err(said("setting registers"))?;

    let begin = Instant::now();
    loop {
        match vcpu.run() {
            Ok(VcpuExit::IoOut(PORT, [GOOD])) => break,
            Ok(VcpuExit::IoOut(PORT, _)) => return Err("a tiny guest computes wrongly in it".to_owned()),
            Ok(VcpuExit::InternalError) => {
                return Err(
                    "it cannot execute instructions that every kernel uses (SSE, cmpxchg16b)".to_owned(),
                );
            }
            Ok(other) => return Err(format!("a tiny guest ended in it with {other:?}")),
            Err(error) if error.errno() == libc::EINTR => {}
            Err(error) => return Err(format!("a tiny guest cannot run in it ({error})")),
        }
        if begin.elapsed() > PROBE_LIMIT {
            return Err("it is far too slow for a real kernel".to_owned());
        }
    }
    drop(vcpu);
    drop(vm);
    drop(memory);
    Ok(())
}

/// Runs [`kvm`] in a child process of `form_machine` with a time limit. `Err` says why KVM is unfit.
pub async fn kvm_in_child(form_machine: &Path) -> Result<(), String> {
    if !Path::new("/dev/kvm").exists() {
        return Err("there is no /dev/kvm".to_owned());
    }
    let child = tokio::process::Command::new(form_machine)
        .arg(PROBE_ARGUMENT)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| format!("the probe {} cannot be started ({error})", form_machine.display()))?;
    match tokio::time::timeout(PROBE_LIMIT * 2, child.wait_with_output()).await {
        Ok(Ok(done)) if done.status.success() => Ok(()),
        Ok(Ok(done)) => {
            let words = crate::guest::readable(String::from_utf8_lossy(&done.stderr).trim());
            Err(if words.is_empty() {
                format!("its probe ended with {}", done.status)
            } else {
                words
            })
        }
        Ok(Err(error)) => Err(format!("its probe cannot be waited for ({error})")),
        Err(_) => Err("/dev/kvm opens, but it is far too slow for a real kernel".to_owned()),
    }
}

/// Chooses the accelerator for the driver `qemu`, and says why.
pub async fn choose(form_machine: &Path) -> (Accelerator, DriverReport) {
    let (accelerator, why) = match kvm_in_child(form_machine).await {
        Ok(()) => (
            Accelerator::Kvm,
            "a tiny guest ran under /dev/kvm all that a kernel needs".to_owned(),
        ),
        Err(why) => (
            Accelerator::Tcg {
                tsc_khz: tsc_khz().await,
            },
            format!("{why}; guests are translated"),
        ),
    };
    let report = DriverReport {
        driver: "qemu".to_owned(),
        accelerator: accelerator.name().to_owned(),
        why,
    };
    (accelerator, report)
}

/// The rate of this host's time stamp counter in kHz, which QEMU passes through to translated guests.
async fn tsc_khz() -> u64 {
    let begin = both_clocks();
    tokio::time::sleep(TSC_WATCH).await;
    let end = both_clocks();
    let elapsed_us = end.0.duration_since(begin.0).as_nanos() as u64 / 1000;
    end.1.wrapping_sub(begin.1).saturating_mul(1000) / elapsed_us.max(1)
}

/// The monotonic clock and the time stamp counter at the same moment: the closest of a few readings.
#[allow(unsafe_code)]
fn both_clocks() -> (Instant, u64) {
    let reading = || {
        let before = Instant::now();
        // SAFETY: reading the counter has no effect, and every x86-64 processor has it.
        let counter = unsafe { core::arch::x86_64::_rdtsc() };
        (before.elapsed(), before, counter)
    };
    let (_, at, counter) = (0..8).map(|_| reading()).min().unwrap_or_else(reading);
    (at, counter)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_counter_rate_is_that_of_a_processor_and_repeats() {
        let (one, two) = (tsc_khz().await, tsc_khz().await);
        assert!((500_000..10_000_000).contains(&one), "{one}");
        assert!(one.abs_diff(two) < one / 500, "{one} {two}");
    }

    #[tokio::test]
    async fn a_probe_that_hangs_or_lacks_is_an_answer_not_a_fault() {
        assert!(
            kvm_in_child(Path::new("/nonexistent/form-machine"))
                .await
                .is_err()
        );
        if Path::new("/dev/kvm").exists() {
            assert!(kvm_in_child(Path::new("/bin/false")).await.is_err());
        } else {
            eprintln!("SKIPPED a_probe_that_hangs_or_lacks: no /dev/kvm here");
        }
    }
}
