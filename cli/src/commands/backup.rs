//! `form backup` and `form restore`: a node as one file, and a node from it.
//!
//! The file is a tar archive: the node's key, invitation and settings, and its log (see [`ledger::export`]). A
//! restored node is the same member; it opens a new incarnation, as each start does, so what it says from then
//! on forks nothing that it said after the backup was made. What it has missed its peers send it.

use std::io::Read;
use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use ledger::export;
use ledger::io::store::{Batch, Store, StoreError};
use ledger::op::Op;
use serde::Serialize;

use crate::exit::{Exit, Failure};
use crate::invocation::Invocation;
use crate::node::folder::{DEFAULT_FOLDER, NodeFolder, parse_invitation, write_private};
use crate::output::size;

/// The log in the archive.
const LEDGER: &str = "ledger.export";

/// Bytes of a file of the archive but the log, at most.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Ops that are written to the store at once.
const BATCH: usize = 4096;

/// `form backup`.
#[derive(Debug, Args)]
pub struct BackupArgs {
    /// The file to write; it holds the node's key, so keep it like one
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The node's folder
    #[arg(long, value_name = "DIR", default_value = DEFAULT_FOLDER)]
    dir: PathBuf,
}

/// `form restore`.
#[derive(Debug, Args)]
pub struct RestoreArgs {
    /// A file that `form backup` wrote
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The folder of the node to be; nothing in it is written over
    #[arg(long, value_name = "DIR", default_value = DEFAULT_FOLDER)]
    dir: PathBuf,
}

#[derive(Serialize)]
struct Done {
    node: String,
    network: String,
    ops: usize,
    bytes: u64,
}

fn failed(error: anyhow::Error) -> Failure {
    Failure::new(Exit::Failed, format!("{error:#}"))
}

fn random() -> Result<[u8; 32]> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).context("asking the system for random bytes")?;
    Ok(seed)
}

impl BackupArgs {
    /// Writes it. The log of a node that runs is asked from its API, that of one that does not is read.
    pub async fn run(self, invocation: &Invocation) -> Result<(), Failure> {
        let folder = NodeFolder::at(&self.dir).map_err(failed)?;
        let files = folder.identity().map_err(failed)?;
        let invitation = folder.invitation().map_err(failed)?;
        let network = invitation.invitation.genesis.network();
        let log = match Store::open(&folder.join("ledger")) {
            Ok(store) => {
                let loaded = store
                    .load(network)
                    .context("reading the ledger")
                    .map_err(failed)?;
                if !loaded.damaged.is_empty() || loaded.lost_records > 0 {
                    invocation
                        .output
                        .note("The disk has damaged a part of the ledger: the backup lacks it.");
                }
                export::encode(network, &loaded.ops, &loaded.certificates, &loaded.forks)
            }
            Err(StoreError::InUse(_)) => invocation.client()?.export_ops().await?.to_vec(),
            Err(error) => return Err(failed(anyhow::Error::new(error).context("opening the ledger"))),
        };
        let seed = random().map_err(failed)?;
        let held = export::decode(network, &log, seed).map_err(|error| {
            Failure::new(Exit::Failed, format!("the log cannot be backed up: {error}"))
                .hint("does --api name the node of this folder?")
        })?;
        let archive = pack(files, &log).map_err(failed)?;
        write_private(&self.file, &archive).map_err(failed)?;
        let done = Done {
            node: folder.key().map_err(failed)?.node_id().to_string(),
            network: network.to_string(),
            ops: held.ops.len(),
            bytes: archive.len() as u64,
        };
        invocation.output.value(&done, |done| {
            let file = self.file.display();
            format!(
                "{} ops, {} in {file}; it holds the node's key",
                done.ops,
                size(done.bytes)
            )
        })
    }
}

impl RestoreArgs {
    /// Makes the node's folder from it.
    pub fn run(self, invocation: &Invocation) -> Result<(), Failure> {
        let done = self.restore().map_err(failed)?;
        invocation.output.value(&done, |done| {
            let dir = self.dir.display();
            format!(
                "{} ops restored to {dir}; `form node run` goes on from there",
                done.ops
            )
        })
    }

    fn restore(&self) -> Result<Done> {
        let doing = || format!("reading {}", self.file.display());
        let archive = std::fs::read(&self.file).with_context(doing)?;
        let (files, log) = unpack(&archive).with_context(doing)?;
        // All is read before anything is written.
        let invitation = files.iter().find(|(name, _)| name == "invitation");
        let (_, invitation) = invitation.context("this is not what `form backup` wrote: no invitation")?;
        let invitation = parse_invitation(std::str::from_utf8(invitation).with_context(doing)?)?;
        let network = invitation.invitation.genesis.network();
        let held = export::decode(network, &log, random()?)?;
        let folder = NodeFolder::at(&self.dir)?;
        folder.restore_identity(&files)?;
        let store = Store::open(&folder.join("ledger")).context("making the ledger")?;
        let mut ops: Vec<Op> = held.ops;
        ops.sort_by_key(Op::order);
        for batch in ops.chunks(BATCH) {
            store.append(batch, &[]).context("writing the ledger")?;
        }
        store
            .write(&Batch {
                certificates: &held.certificates,
                forks: &held.forks,
                ..Batch::default()
            })
            .context("writing the ledger")?;
        Ok(Done {
            node: folder.key()?.node_id().to_string(),
            network: network.to_string(),
            ops: ops.len(),
            bytes: archive.len() as u64,
        })
    }
}

fn pack(files: Vec<(&'static str, Vec<u8>)>, log: &[u8]) -> Result<Vec<u8>> {
    let mut archive = tar::Builder::new(Vec::new());
    for (name, bytes) in files
        .iter()
        .map(|(name, bytes)| (*name, &bytes[..]))
        .chain([(LEDGER, log)])
    {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o600);
        header.set_cksum();
        archive
            .append_data(&mut header, name, bytes)
            .with_context(|| format!("packing {name}"))?;
    }
    archive.into_inner().context("packing the backup")
}

type Unpacked = (Vec<(String, Vec<u8>)>, Vec<u8>);

fn unpack(archive: &[u8]) -> Result<Unpacked> {
    let (mut files, mut log) = (Vec::new(), None);
    for entry in tar::Archive::new(archive).entries()? {
        let mut entry = entry?;
        let name = entry.path()?.to_string_lossy().into_owned();
        let mut bytes = Vec::new();
        if name != LEDGER && entry.size() > FILE_BYTES_MAX {
            bail!("this is not what `form backup` wrote: {name} is too large");
        }
        entry.read_to_end(&mut bytes)?;
        if name == LEDGER {
            log = Some(bytes);
        } else {
            files.push((name, bytes));
        }
    }
    let log = log.context("this is not what `form backup` wrote: there is no log in it")?;
    ensure!(
        files.iter().any(|(name, _)| name == "node.key"),
        "this is not what `form backup` wrote: there is no key in it"
    );
    Ok((files, log))
}
