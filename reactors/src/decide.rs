//! The whole decision of a node: every concern, in the order in which the actions help one another.

use projections::cloud::Cloud;

use crate::action::Action;
use crate::me::Me;
use crate::observed::Observed;
use crate::placement;
use crate::sight::Sight;

/// All that this node should do, as of now. What is under way may stand among it again: see
/// [`crate::pace::Pace`].
pub fn decide(cloud: &Cloud, observed: &Observed, me: &Me, now_ms: u64) -> Vec<Action> {
    let sight = Sight::new(cloud, observed, me, now_ms);
    placement::decide(&sight)
}
