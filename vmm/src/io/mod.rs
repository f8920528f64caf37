//! What touches this host. [`machines`] is the daemon's door; [`kernel`] prepares what guests boot,
//! [`probe`] finds out how they can be executed; [`overlay`], [`journal`], [`files`] and [`process`] are
//! shared with `form-machine`.

pub mod files;
pub mod journal;
pub mod kernel;
pub mod machines;
pub mod overlay;
pub mod probe;
pub mod process;
mod seen;
mod watch;
