//! A network of real nodes on one machine, for the demo and the black-box tests: what they share.
//!
//! In reading order: [`shell`] runs programs; [`segment`] is a set of network namespaces joined by a
//! bridge; [`cluster`] runs a `form` daemon in each and speaks to them through the `form` command line, as
//! a person would; [`demo`] is the walk through the whole loop.

pub mod cluster;
pub mod demo;
pub mod segment;
pub mod shell;
