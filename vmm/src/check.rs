//! Whether a spec can be booted at all: the bounds of what a machine may ask for. Pure.
//!
//! The spec comes from a signed command by way of the reactors, but its texts end up on QEMU's command line
//! and in files of the guest, so the hand looks at them once more.

use crate::spec::{Health, MachineSpec};

/// The most virtual processors.
pub const VCPUS_MAX: u8 = 128;
/// The least memory that the guest's kernel boots in, in MiB.
pub const MEMORY_MIB_MIN: u32 = 96;
/// The most memory, in MiB (1 TiB).
pub const MEMORY_MIB_MAX: u32 = 1024 * 1024;
/// The largest own disk, in GiB.
pub const DISK_GIB_MAX: u16 = 4096;
/// The most bytes of entrypoint and environment together: they travel in one frame.
pub const WORKLOAD_BYTES_MAX: usize = 128 * 1024;
/// The most name servers.
pub const RESOLVERS_MAX: usize = 8;
/// The longest path of a health check.
pub const HEALTH_PATH_BYTES_MAX: usize = 1024;

/// What is wrong with a spec.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpecError {
    /// A number is out of its range.
    #[error("{what} is {value}, it must be {least} to {most}")]
    Range {
        /// Of what.
        what: &'static str,
        /// What was asked for.
        value: u64,
        /// The least.
        least: u64,
        /// The most.
        most: u64,
    },
    /// A text is not of its form.
    #[error("{what} {text:?}: {rule}")]
    Text {
        /// Of what.
        what: &'static str,
        /// The text, cut short.
        text: String,
        /// What it must be.
        rule: &'static str,
    },
}

fn range(what: &'static str, value: u64, least: u64, most: u64) -> Result<(), SpecError> {
    if (least..=most).contains(&value) {
        Ok(())
    } else {
        Err(SpecError::Range {
            what,
            value,
            least,
            most,
        })
    }
}

fn text(what: &'static str, text: &str, good: bool, rule: &'static str) -> Result<(), SpecError> {
    if good {
        Ok(())
    } else {
        Err(SpecError::Text {
            what,
            text: text.chars().take(100).collect(),
            rule,
        })
    }
}

/// Checks `spec`.
pub fn check(spec: &MachineSpec) -> Result<(), SpecError> {
    range("vcpus", spec.vcpus.into(), 1, VCPUS_MAX.into())?;
    range(
        "memory_mib",
        spec.memory_mib.into(),
        MEMORY_MIB_MIN.into(),
        MEMORY_MIB_MAX.into(),
    )?;
    range("disk_gib", spec.disk_gib.into(), 1, DISK_GIB_MAX.into())?;
    range(
        "number of resolvers",
        spec.nic.resolvers.len() as u64,
        0,
        RESOLVERS_MAX as u64,
    )?;
    let name = &spec.hostname;
    let letter = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.';
    let good = (1..=63).contains(&name.len()) && name.chars().all(letter) && !name.starts_with(['-', '.']);
    text(
        "hostname",
        name,
        good,
        "1 to 63 letters, digits, dots and hyphens",
    )?;
    let tap = &spec.nic.tap;
    let good =
        (1..=15).contains(&tap.len()) && tap.chars().all(|c| c.is_ascii_graphic() && c != '/' && c != '%');
    text(
        "tap",
        tap,
        good,
        "the name of a network device, 1 to 15 characters",
    )?;
    text(
        "image",
        &spec.image.to_string_lossy(),
        spec.image.is_absolute(),
        "an absolute path",
    )?;
    check_workload(spec)
}

fn check_workload(spec: &MachineSpec) -> Result<(), SpecError> {
    let workload = &spec.workload;
    let no_nul = |text: &str| !text.contains('\0');
    let mut bytes = workload.workdir.len();
    for word in &workload.entrypoint {
        text("entrypoint", word, no_nul(word), "no byte 0 may stand in it")?;
        bytes += word.len() + 8;
    }
    if let Some(program) = workload.entrypoint.first() {
        text(
            "entrypoint",
            program,
            !program.is_empty(),
            "the program must have a name",
        )?;
    }
    for (key, value) in &workload.env {
        let good = !key.is_empty() && !key.contains('=') && no_nul(key);
        text(
            "name in the environment",
            key,
            good,
            "not empty, without = and byte 0",
        )?;
        text(
            "value in the environment",
            value,
            no_nul(value),
            "no byte 0 may stand in it",
        )?;
        bytes += key.len() + value.len() + 8;
    }
    range(
        "bytes of entrypoint and environment",
        bytes as u64,
        0,
        WORKLOAD_BYTES_MAX as u64,
    )?;
    let workdir = &workload.workdir;
    let good = workdir.is_empty() || (workdir.starts_with('/') && no_nul(workdir));
    text("workdir", workdir, good, "an absolute path, or empty for /")?;
    match &workload.health {
        Health::Process => Ok(()),
        Health::Tcp { port } => range("port of the health check", (*port).into(), 1, 65535),
        Health::Http { port, path } => {
            range("port of the health check", (*port).into(), 1, 65535)?;
            let good = path.starts_with('/')
                && path.len() <= HEALTH_PATH_BYTES_MAX
                && path.chars().all(|c| c.is_ascii_graphic());
            text(
                "path of the health check",
                path,
                good,
                "it begins with / and holds no blanks",
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{MachineId, Nic, Restart, Workload};

    fn spec() -> MachineSpec {
        MachineSpec {
            id: MachineId([1; 32]),
            generation: 1,
            hostname: "web-1".to_owned(),
            vcpus: 1,
            memory_mib: 256,
            image: "/images/web.ext4".into(),
            disk_gib: 1,
            nic: Nic {
                tap: "ft0".to_owned(),
                mac: [2, 0, 0, 0, 0, 1],
                ipv6: "fd00::2".parse().unwrap(),
                gateway_v6: "fe80::1".parse().unwrap(),
                ipv4: "10.1.0.2".parse().unwrap(),
                gateway_v4: "10.1.0.1".parse().unwrap(),
                resolvers: Vec::new(),
            },
            workload: Workload {
                entrypoint: vec!["/bin/web".to_owned()],
                env: vec![("A".to_owned(), "b".to_owned())],
                workdir: "/".to_owned(),
                restart: Restart {
                    attempts: 1,
                    backoff_ms: 100,
                },
                health: Health::Process,
            },
        }
    }

    #[test]
    fn a_good_spec_passes() {
        assert_eq!(check(&spec()), Ok(()));
    }

    #[test]
    fn each_bound_is_held() {
        type Case = (&'static str, fn(&mut MachineSpec));
        let cases: [Case; 14] = [
            ("vcpus", |s| s.vcpus = 0),
            ("vcpus", |s| s.vcpus = 129),
            ("memory_mib", |s| s.memory_mib = 95),
            ("disk_gib", |s| s.disk_gib = 0),
            ("hostname", |s| s.hostname = "a b".to_owned()),
            ("hostname", |s| s.hostname = String::new()),
            ("tap", |s| s.nic.tap = "sixteen-letters-".to_owned()),
            ("tap", |s| s.nic.tap = "a/b".to_owned()),
            ("image", |s| s.image = "web.ext4".into()),
            ("entrypoint", |s| s.workload.entrypoint = vec![String::new()]),
            ("environment", |s| {
                s.workload.env = vec![("A=B".to_owned(), String::new())]
            }),
            ("environment", |s| {
                s.workload.env = vec![("A".to_owned(), "x".repeat(WORKLOAD_BYTES_MAX))]
            }),
            ("workdir", |s| s.workload.workdir = "relative".to_owned()),
            ("path of the health", |s| {
                s.workload.health = Health::Http {
                    port: 80,
                    path: "/ HTTP/1.1\r\nX: y".to_owned(),
                };
            }),
        ];
        for (what, spoil) in cases {
            let mut spec = spec();
            spoil(&mut spec);
            let error = check(&spec).expect_err(what).to_string();
            assert!(error.contains(what), "{what}: {error}");
        }
    }
}
