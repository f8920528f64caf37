//! The proof: whole nodes, unchanged, in one thread, from one seed.
//!
//! Clock, network, disk and host each have a twin here; everything else is the code that the daemon runs.
//! In reading order: [`options`] is drawn from the seed; [`chance`] is the only source of randomness;
//! [`world`] is the run, [`queue`] what is to happen in it, [`station`] the place of a node; [`network`],
//! [`disk`], [`host`] are the twins; [`workload`] is what people ask for; [`checks`] holds a file for each
//! claim; [`trace`] tells what happened, [`summary`] what it came to.

pub mod chance;
pub mod checks;
pub mod disk;
pub mod host;
pub mod network;
pub mod options;
pub mod queue;
pub mod station;
pub mod summary;
pub mod trace;
pub mod workload;
pub mod world;
