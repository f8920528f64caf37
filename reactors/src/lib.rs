//! What to do: pure decisions. A reactor compares what should be (the [`projections::cloud::Cloud`]) with
//! what is ([`observed::Observed`]) and returns [`action::Action`]s, each with every choice made. It does
//! nothing itself; the hands do, and what came of it is an op, or shows in what is observed.
//!
//! In reading order: [`observed`] and [`me`] are what goes in besides the Cloud, [`action`] is what comes
//! out; [`sight`] is all that one decision looks at; then one file for each concern: [`placement`],
//! [`images`], [`instances`] with the [`nic`]s of their machines, [`mesh`], [`names`], [`fronts`]. [`decide`]
//! puts them together, [`pace`] keeps what it repeats from being done again, [`presence`] is how nodes see
//! each other.

pub mod action;
pub mod decide;
pub mod fronts;
pub mod images;
pub mod instances;
mod load;
pub mod me;
pub mod mesh;
pub mod names;
pub mod nic;
pub mod node;
pub mod observed;
pub mod pace;
pub mod placement;
pub mod presence;
pub mod sight;
