//! The whole decision of a node: every concern, in the order in which the actions help one another. Tables
//! come first, since a machine needs its tap; what frees comes before what takes.

use projections::cloud::Cloud;

use crate::action::Action;
use crate::me::Me;
use crate::observed::Observed;
use crate::sight::Sight;
use crate::{fronts, images, instances, mesh, names, placement};

/// All that this node should do, as of now. What is under way may stand among it again: see
/// [`crate::pace::Pace`].
pub fn decide(cloud: &Cloud, observed: &Observed, me: &Me, now_ms: u64) -> Vec<Action> {
    let sight = Sight::new(cloud, observed, me, now_ms);
    let mut actions = mesh::decide(&sight);
    actions.extend(names::decide(&sight));
    actions.extend(fronts::decide(&sight));
    actions.extend(placement::decide(&sight));
    actions.extend(instances::decide(&sight));
    actions.extend(images::decide(&sight));
    actions
}
