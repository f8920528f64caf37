//! The words that QEMU is called with. Pure: a [`Boot`] and an accelerator give a list of texts.
//!
//! QEMU's standard input is the channel to init (a socket), its standard output the guest's console: so it
//! opens no path of ours but kernel, initramfs and disks, and nothing must be waited for.

use std::path::Path;

use crate::driver::{Accelerator, Access, Boot};
use crate::guest::PORT_NAME;

/// Kernel command line of every guest: a quiet console, reboot instead of a halt when the kernel panics (QEMU
/// exits then), and none of the self tests and searches that cost an emulated guest a third of its boot.
const KERNEL_LINE: &str = "console=ttyS0 quiet panic=-1 reboot=t rdinit=/init cryptomgr.notests \
     8250.nr_uarts=1 random.trust_cpu=on rcupdate.rcu_expedited=1 audit=0 apparmor=0 selinux=0 net.ifnames=0";

/// The kernel command line under `accelerator`.
pub fn kernel_line(accelerator: Accelerator) -> String {
    match accelerator {
        Accelerator::Kvm => KERNEL_LINE.to_owned(),
        // The guest is told its clock's rate: measuring it hangs or goes wrong when the host is busy. What
        // shields a processor's speculation is dead weight where there is none, and the watchdog would only
        // complain that the host has little time for it.
        Accelerator::Tcg { tsc_khz } => {
            format!(
                "{KERNEL_LINE} tsc_early_khz={tsc_khz} tsc=reliable no_timer_check nowatchdog mitigations=off"
            )
        }
    }
}

/// The arguments for `boot`.
pub fn arguments(boot: &Boot, accelerator: Accelerator) -> Vec<String> {
    let mut words: Vec<String> = [
        "-name",
        &value(&boot.name),
        "-M",
        "microvm,x-option-roms=off,rtc=on",
        "-nodefaults",
        "-no-user-config",
        "-no-reboot",
        "-display",
        "none",
        "-monitor",
        "none",
        "-sandbox",
        "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
        "-smp",
        &boot.vcpus.to_string(),
        "-m",
        &format!("{}M", boot.memory_mib),
        "-chardev",
        "file,id=console,path=/dev/fd/1",
        "-serial",
        "chardev:console",
        "-device",
        // Two ports, since the guest sets up queues for as many as there could be.
        "virtio-serial-device,max_ports=2",
        "-chardev",
        "socket,id=init,fd=0",
        "-device",
        &format!("virtserialport,chardev=init,name={PORT_NAME}"),
        "-netdev",
        &format!("tap,id=net,ifname={},script=no,downscript=no", value(&boot.tap)),
        "-device",
        &format!("virtio-net-device,netdev=net,mac={}", mac(boot.mac)),
        "-kernel",
        &text(&boot.kernel),
        "-initrd",
        &text(&boot.initramfs),
        "-append",
        &kernel_line(accelerator),
    ]
    .map(str::to_owned)
    .into();
    words.extend(
        match accelerator {
            Accelerator::Kvm => ["-accel", "kvm", "-cpu", "host"],
            Accelerator::Tcg { .. } => ["-accel", "tcg", "-cpu", "max"],
        }
        .map(str::to_owned),
    );
    for (index, disk) in boot.disks.iter().enumerate() {
        let read_only = match disk.access {
            Access::Shared => "on",
            Access::Exclusive => "off",
        };
        words.push("-drive".to_owned());
        words.push(format!(
            "id=disk{index},if=none,format=raw,readonly={read_only},file={}",
            value(&text(&disk.path))
        ));
        words.push("-device".to_owned());
        words.push(format!(
            "virtio-blk-device,drive=disk{index},serial={}",
            disk.serial
        ));
    }
    words
}

/// A comma in a value is doubled, or else it would begin the next option.
fn value(text: &str) -> String {
    text.replace(',', ",,")
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

fn mac(bytes: [u8; 6]) -> String {
    bytes.map(|byte| format!("{byte:02x}")).join(":")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::driver::Disk;

    fn boot() -> Boot {
        Boot {
            name: "form-00".to_owned(),
            kernel: "/cache/vmlinux".into(),
            initramfs: "/cache/initramfs".into(),
            vcpus: 2,
            memory_mib: 512,
            disks: vec![
                Disk {
                    path: "/images/a,b.ext4".into(),
                    serial: "form-image",
                    access: Access::Shared,
                },
                Disk {
                    path: "/m/disk.ext4".into(),
                    serial: "form-disk",
                    access: Access::Exclusive,
                },
            ],
            tap: "ft0".to_owned(),
            mac: [0x52, 0x54, 0, 0xab, 1, 2],
        }
    }

    #[test]
    fn a_comma_in_a_path_opens_no_option() {
        let words = arguments(&boot(), Accelerator::Kvm);
        assert!(
            words.contains(&"id=disk0,if=none,format=raw,readonly=on,file=/images/a,,b.ext4".to_owned()),
            "{words:?}"
        );
    }

    #[test]
    fn only_an_emulated_guest_is_told_its_clock_rate() {
        assert!(kernel_line(Accelerator::Tcg { tsc_khz: 2_300_000 }).contains("tsc_early_khz=2300000 "));
        assert!(!kernel_line(Accelerator::Kvm).contains("tsc"));
    }

    #[test]
    fn the_image_is_read_only_and_the_disk_is_not() {
        let words = arguments(&boot(), Accelerator::Tcg { tsc_khz: 1 }).join(" ");
        assert!(words.contains("readonly=on,file=/images"), "{words}");
        assert!(words.contains("readonly=off,file=/m/disk.ext4"), "{words}");
        assert!(words.contains("mac=52:54:00:ab:01:02"), "{words}");
    }
}
