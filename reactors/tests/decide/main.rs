//! What a node decides, in small worlds: real ops in the real fold, hosts that are a few lines each, and a
//! clock that the test moves. See `world` for how actions are shown as text.

mod images;
mod instances;
mod laws;
mod placement;
mod tables;
mod world;
