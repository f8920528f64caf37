//! The hand that makes images from Formfiles. It knows no ledger, no network and no machine.
//!
//! ```text
//! text ──parse──▶ Formfile ──plan──▶ BuildPlan ──build (io)──▶ ImageManifest + disk ──▶ store (io)
//!                    └──archive (io)──▶ context ──▶ store (io) ──▶ another node's builder
//! ```
//! Everything outside `io/` is pure: the language, the plan, the manifests and the bytes of an ext4 disk.
//!
//! ```
//! let parsed = pack::formfile::parse("NAME hello\nENTRYPOINT [\"/bin/true\"]\n");
//! let formfile = parsed.formfile.expect("nothing is wrong with it");
//! assert_eq!(formfile.slug(), "hello");
//! assert_eq!(formfile.shape().memory_mib, 512);
//! ```

pub mod accounts;
pub mod apt;
pub mod ext4;
pub mod formfile;
pub mod formignore;
pub mod image;
pub mod plan;

#[cfg(feature = "host")]
pub mod io;

pub use formfile::{Formfile, Shape};
pub use image::{Digest, ImageConfig, ImageManifest};
