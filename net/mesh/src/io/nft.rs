//! The `nft` program: one transaction in, our table's chains out. Always with a time limit.

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use nftables::schema::Nftables;
use serde_json::Value;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::filter;
use crate::plan::RouterBefore;

/// How long one run of `nft` may take.
const WAIT: Duration = Duration::from_secs(20);

/// Why `nft` did not do what it should.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NftError {
    #[error("could not run {program:?} (Debian: apt-get install nftables)")]
    Run { program: PathBuf, source: io::Error },
    #[error("nft did not end within {} s", WAIT.as_secs())]
    Slow,
    #[error("nft refused: {0}")]
    Refused(String),
    #[error("nft's answer is not understood: {0}")]
    Answer(String),
}

/// Our table as it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Standing {
    pub(super) version: Option<u64>,
    pub(super) before: RouterBefore,
}

/// Applies a transaction.
pub(super) async fn apply(program: &Path, rules: &Nftables<'_>) -> Result<(), NftError> {
    let text = serde_json::to_vec(rules).map_err(|error| NftError::Answer(error.to_string()))?;
    let output = run(program, &["-j", "-f", "-"], &text).await?;
    if output.status.success() {
        Ok(())
    } else {
        Err(NftError::Refused(complaint(&output)))
    }
}

/// Reads which of our chains stand; `None` when there is no table of ours.
pub(super) async fn read(program: &Path) -> Result<Option<Standing>, NftError> {
    let output = run(
        program,
        &["-j", "-t", "list", "table", "inet", filter::TABLE],
        &[],
    )
    .await?;
    if !output.status.success() {
        let complaint = complaint(&output);
        // The one complaint that is no fault: there is no such table.
        return if complaint.contains("No such file") {
            Ok(None)
        } else {
            Err(NftError::Refused(complaint))
        };
    }
    let answer: Value =
        serde_json::from_slice(&output.stdout).map_err(|error| NftError::Answer(error.to_string()))?;
    let objects = answer["nftables"]
        .as_array()
        .ok_or_else(|| NftError::Answer("no list in it".to_owned()))?;
    let chains: Vec<&str> = objects
        .iter()
        .filter_map(|object| object["chain"]["name"].as_str())
        .collect();
    let version = chains
        .iter()
        .find_map(|name| name.strip_prefix(filter::VERSION_PREFIX))
        .and_then(|digits| u64::from_str_radix(digits, 16).ok());
    let before = RouterBefore {
        ipv4: !chains.contains(&filter::GUESTS_ONLY_IPV4),
        ipv6: !chains.contains(&filter::GUESTS_ONLY_IPV6),
    };
    Ok(Some(Standing { version, before }))
}

async fn run(program: &Path, arguments: &[&str], input: &[u8]) -> Result<Output, NftError> {
    let failed = |source| NftError::Run {
        program: program.to_owned(),
        source,
    };
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(failed)?;
    let stdin = child.stdin.take();
    let all = async {
        let feed = async {
            if let Some(mut stdin) = stdin {
                // nft may refuse before it has read all; its own words are better than a broken pipe.
                let _ = stdin.write_all(input).await;
            }
        };
        let ((), output) = tokio::join!(feed, child.wait_with_output());
        output
    };
    tokio::time::timeout(WAIT, all)
        .await
        .map_err(|_| NftError::Slow)?
        .map_err(failed)
}

fn complaint(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr);
    text.split_whitespace().take(60).collect::<Vec<_>>().join(" ")
}
