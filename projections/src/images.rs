//! Builds and the images that came of them.

use ledger::clock::Hlc;
use ledger::command::images::BuildImage;
use ledger::id::{AccountId, BuildId, Digest, NodeId};
use ledger::report::images::{ImageBuilt, ImageFailed};
use serde::{Deserialize, Serialize};

use crate::commands::Asked;
use crate::entries::Told;
use crate::nodes;
use crate::outcome::Void;
use crate::undo::{Builds, Writer};

/// A build of an image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Build {
    /// Its id: the command that asked for it.
    pub id: BuildId,
    /// Who asked.
    pub owner: AccountId,
    /// What was asked.
    pub request: BuildImage,
    /// When.
    pub asked: Hlc,
    /// What became of it. The first report in the order of the log counts.
    pub state: BuildState,
}

/// What became of a build.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum BuildState {
    /// Nobody has reported yet.
    Asked,
    /// There is an image.
    Built {
        /// Digest of its manifest.
        image: Digest,
        /// Size of the disk image.
        bytes: u64,
        /// How long it took.
        took_ms: u64,
        /// Who built it, and holds it.
        by: NodeId,
        /// When that was said.
        at: Hlc,
    },
    /// There is none, and the same would happen again.
    Failed {
        /// The last lines of the log.
        reason: String,
        /// Who tried.
        by: NodeId,
        /// When that was said.
        at: Hlc,
    },
}

/// Asks for an image. A context that no member holds can never be built from.
pub(crate) fn build(
    writer: &mut Writer<'_>,
    asked: &Asked,
    owner: AccountId,
    ask: &BuildImage,
) -> Result<(), Void> {
    if nodes::check_member(writer, ask.held_by, asked.certified_ms).is_err() {
        return Err(Void::NotFound(format!("node: {}", ask.held_by)));
    }
    let id = BuildId::from(asked.command);
    let build = Build {
        id,
        owner,
        request: ask.clone(),
        asked: asked.at,
        state: BuildState::Asked,
    };
    writer.put::<Builds>(id, build);
    Ok(())
}

/// A node has built an image.
pub(crate) fn built(writer: &mut Writer<'_>, told: &Told, report: &ImageBuilt) -> Result<(), Void> {
    let state = BuildState::Built {
        image: report.image,
        bytes: report.bytes,
        took_ms: report.took_ms,
        by: told.node,
        at: told.at,
    };
    end(writer, report.build, state)
}

/// A node says that an image cannot be built.
pub(crate) fn failed(writer: &mut Writer<'_>, told: &Told, report: &ImageFailed) -> Result<(), Void> {
    let state = BuildState::Failed {
        reason: report.reason.clone(),
        by: told.node,
        at: told.at,
    };
    end(writer, report.build, state)
}

/// The first report counts, whatever it says.
fn end(writer: &mut Writer<'_>, id: BuildId, state: BuildState) -> Result<(), Void> {
    let build = writer
        .builds
        .get(&id)
        .ok_or_else(|| Void::NotFound(format!("build: {id}")))?;
    if build.state != BuildState::Asked {
        return Err(Void::AlreadyReported);
    }
    let ended = Build {
        state,
        ..build.clone()
    };
    writer.put::<Builds>(id, ended);
    Ok(())
}
