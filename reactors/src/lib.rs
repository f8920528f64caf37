//! What to do: pure decisions. A reactor compares what should be (the [`projections::cloud::Cloud`]) with
//! what is ([`observed::Observed`]) and returns [`action::Action`]s, each with every choice made. It does
//! nothing itself; the hands do, and what came of it is an op, or shows in what is observed.
//!
//! In reading order: [`observed`] and [`action`] are what goes in and what comes out; [`rendezvous`] ranks
//! nodes for a thing without anyone deciding; then one file for each concern.

pub mod action;
pub mod decide;
pub mod me;
pub mod observed;
pub mod pace;
pub mod placement;
pub mod presence;
pub mod sight;
