//! What a machine for this agent needs: processors, memory, disk, GPUs, with the limits of the language.
//!
//! GPUs are parsed and kept so that placement can refuse them for a reason; no host offers one yet.

use serde::Serialize;

/// Least and most virtual processors.
pub(super) const VCPUS: std::ops::RangeInclusive<u64> = 1..=128;
/// Least and most memory in MiB.
pub(super) const MEMORY_MIB: std::ops::RangeInclusive<u64> = 512..=256_000;
/// Least and most disk in GiB.
pub(super) const DISK_GIB: std::ops::RangeInclusive<u64> = 5..=65_535;
/// Least and most GPUs of one kind.
pub(super) const GPU_COUNT: std::ops::RangeInclusive<u64> = 1..=8;

/// What the machine needs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Shape {
    /// VCPU.
    pub vcpus: u8,
    /// MEMORY.
    pub memory_mib: u32,
    /// DISK: sizes the instance's own layer, never the image.
    pub disk_gib: u16,
    /// GPU.
    pub gpus: Vec<Gpu>,
}

impl Default for Shape {
    fn default() -> Self {
        Shape {
            vcpus: 1,
            memory_mib: 512,
            disk_gib: 5,
            gpus: Vec::new(),
        }
    }
}

/// One GPU directive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Gpu {
    /// Which.
    pub model: GpuModel,
    /// How many.
    pub count: u8,
}

/// The GPUs that the language knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum GpuModel {
    /// NVIDIA RTX 5090.
    #[serde(rename = "RTX5090")]
    Rtx5090,
    /// NVIDIA H100.
    H100,
    /// NVIDIA H200.
    H200,
    /// NVIDIA B200.
    B200,
}

impl GpuModel {
    /// Every one, in the order of the documentation.
    pub const ALL: [GpuModel; 4] = [GpuModel::Rtx5090, GpuModel::H100, GpuModel::H200, GpuModel::B200];

    /// As GPU says it.
    pub fn word(self) -> &'static str {
        match self {
            GpuModel::Rtx5090 => "RTX5090",
            GpuModel::H100 => "H100",
            GpuModel::H200 => "H200",
            GpuModel::B200 => "B200",
        }
    }
}
