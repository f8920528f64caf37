//! The composition root: the loop that owns the core of a node and the hands that act for it.
//!
//! In reading order: [`config`] is what a node is told at its start; [`folder`] is where its key, its
//! invitation and its data lie.

pub mod config;
pub mod folder;
