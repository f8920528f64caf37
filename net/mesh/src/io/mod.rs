//! Everything with effects: netlink, `nft`, sysctl, the tun device.

mod kernel;
pub(crate) mod mesh;
mod nft;
mod sysctl;
pub mod tap;
