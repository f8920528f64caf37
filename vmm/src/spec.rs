//! All that a boot needs, with no choice left: the reactors have decided, a driver only performs.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Names a machine on its host. It is the id of the instance that the machine serves.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct MachineId(pub [u8; 32]);

impl MachineId {
    /// The first `digits / 2` bytes in lower-case hexadecimal: for file, tap and process names.
    pub fn short(&self, digits: usize) -> String {
        let mut text: String = self.0.iter().map(|byte| format!("{byte:02x}")).collect();
        text.truncate(digits);
        text
    }
}

impl std::fmt::Debug for MachineId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "MachineId({})", self.short(12))
    }
}

/// What to boot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MachineSpec {
    /// Which machine this is.
    pub id: MachineId,
    /// Generation of the placement that asks for it. A hand refuses a lower one than it last saw.
    pub generation: u64,
    /// Host name inside the guest.
    pub hostname: String,
    /// Virtual processors, 1 to 128.
    pub vcpus: u8,
    /// Guest memory in MiB.
    pub memory_mib: u32,
    /// The read-only root disk (raw ext4), shared by all machines of the image.
    pub image: PathBuf,
    /// Size of this machine's writable overlay, in GiB (sparse).
    pub disk_gib: u16,
    /// Its network card.
    pub nic: Nic,
    /// What to run inside.
    pub workload: Workload,
}

/// The network card of a machine: a tap that `net` made, and the addresses inside the guest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Nic {
    /// Name of the tap device on the host.
    pub tap: String,
    /// Ethernet address inside the guest.
    pub mac: [u8; 6],
    /// The instance's own address (a /128): it keeps it when it moves.
    pub ipv6: Ipv6Addr,
    /// Link-local address of the host's end of the tap, the guest's IPv6 default route.
    pub gateway_v6: Ipv6Addr,
    /// Node-local IPv4 address (a /32, for egress by NAT).
    pub ipv4: Ipv4Addr,
    /// The guest's on-link IPv4 default route.
    pub gateway_v4: Ipv4Addr,
    /// Name servers written to the guest's `/etc/resolv.conf`.
    pub resolvers: Vec<IpAddr>,
}

/// What the guest's init starts and watches.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Workload {
    /// Program and arguments. Empty: the guest boots and idles.
    pub entrypoint: Vec<String>,
    /// Environment of the entrypoint.
    pub env: Vec<(String, String)>,
    /// Working directory of the entrypoint.
    pub workdir: String,
    /// What to do when the entrypoint ends.
    pub restart: Restart,
    /// How to tell that the workload serves.
    pub health: Health,
}

/// What to do when the entrypoint ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restart {
    /// How many times an entrypoint that fails is started again before the machine counts as failed. The
    /// count starts anew after the entrypoint ran for a minute.
    pub attempts: u32,
    /// Pause before the first restart in milliseconds; it doubles each time, up to 30 s.
    pub backoff_ms: u64,
}

/// How to tell that a workload serves. Checked from inside the guest by init.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Health {
    /// Serves as long as its entrypoint runs.
    Process,
    /// Serves when something listens on this TCP port.
    Tcp {
        /// The port inside the guest.
        port: u16,
    },
    /// Serves when `GET path` on this port answers 200 to 399.
    Http {
        /// The port inside the guest.
        port: u16,
        /// Absolute path of the request.
        path: String,
    },
}
