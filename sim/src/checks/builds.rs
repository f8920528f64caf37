//! Every build comes to an end: an image, or the reason why there is none.

use projections::cloud::Cloud;
use projections::images::BuildState;

use super::{Holds, Place, Violation, held_somewhere};

/// At the end: no build waits, unless its context went with a node that is gone.
pub fn all_ended(cloud: &Cloud, places: &[Place<'_>]) -> Holds {
    for build in cloud.builds.values() {
        if build.state != BuildState::Asked || !held_somewhere(places, build.request.context) {
            continue;
        }
        // A builder asks the node of the upload and other builders; what only a third holds is not found.
        let sources = places
            .iter()
            .filter(|place| place.id == build.request.held_by || place.roles.builder);
        let found = sources
            .clone()
            .any(|place| place.host.holds(build.request.context).is_some());
        if found && places.iter().any(|place| place.roles.builder) {
            let seen = format!("build {} was asked for and never ended", build.id.short());
            return Err(Violation {
                claim: "builds",
                seen,
            });
        }
    }
    Ok(())
}
