//! The hand that runs machines. It knows no ledger: a [`spec::MachineSpec`] comes in, states and events
//! come out.
//!
//! In reading order: [`spec`] is all that a boot needs, with no choice left; [`machine`] draws the states
//! of a machine; [`guest`] is the protocol spoken with PID 1 inside the guest, [`control`] the one between
//! daemon and machine, both in [`frame`]s. What touches the host (the drivers, the kernel, the supervisor)
//! stands behind the feature `host`: [`driver`] is what a monitor must be able to do, [`qemu`] one that
//! does it, [`io::machines`] the daemon's door to all of it.

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod check;
pub mod control;
pub mod frame;
pub mod guest;
pub mod machine;
pub mod spec;

#[cfg(feature = "host")]
pub mod bzimage;
#[cfg(feature = "host")]
pub mod cpio;
#[cfg(feature = "host")]
pub mod driver;
#[cfg(feature = "host")]
pub mod io;
#[cfg(feature = "host")]
pub mod order;
#[cfg(feature = "host")]
pub mod qemu;
