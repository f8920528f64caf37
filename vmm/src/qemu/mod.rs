//! The driver that runs a guest under QEMU's microvm machine: for hosts without a fit KVM, by translation.
//!
//! [`arguments`] is the pure half: which words QEMU is called with. [`process`] starts and watches it.

pub mod arguments;
pub mod process;

pub use process::Qemu;
