//! The store: ops, journal, certificates, votes and fork proofs on disk, in fjall (an LSM tree with a
//! write-ahead log).
//!
//! ```text
//! ops           place of the first (48)   →  a run of ops, see runs.rs
//! journal       offset (8 BE)             →  record (see journal.rs)
//! certificates  height (8 BE)             →  sum (16) ‖ certificate
//! votes         number (8 BE)             →  sum (16) ‖ what a witness must not forget
//! forks         node (32) ‖ incarnation   →  sum (16) ‖ proof
//! meta          name                      →  bytes
//! ```
//! What [`Store::write`] returned from is there after `kill -9` and after loss of power, as far as the disk
//! keeps what it acknowledged; what it did not return from is there as a whole or not at all.
//!
//! Calls block on the disk: an async caller gives the store a thread of its own. After a write that failed
//! (the disk is full, say) nothing more is written until [`Store::reopen`] has succeeded.

mod runs;
mod tally;

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError, RwLock};

use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};
use tally::Tally;

use crate::codec::{DecodeError, Reader};
use crate::finality::checkpoint::Certificate;
use crate::id::{NetworkId, NodeId, hash};
use crate::journal::JournalRecord;
use crate::op::{Chain, Op};

/// The format of the records described above.
const FORMAT: &[u8] = b"2";

/// Name of the format's number among the meta values.
const FORMAT_NAME: &str = "format";

/// Bytes of a meta value and its name, at most.
pub const META_BYTES_MAX: usize = 64 * 1024;

/// Records that one reading of the journal gives, at most.
pub const JOURNAL_READ_MAX: usize = 10_000;

/// Memory for blocks read.
const CACHE_BYTES: u64 = 16 << 20;

const OP_KEY_BYTES: usize = 48;

/// What the store could not do.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process has it open.
    #[error("{} is in use by another process: stop the other node first, or choose another directory", .0.display())]
    InUse(PathBuf),
    /// It was written by another version.
    #[error("{} holds format {found}, this build reads format {}: use the build that wrote it", dir.display(), String::from_utf8_lossy(FORMAT))]
    OtherFormat {
        /// Where.
        dir: PathBuf,
        /// What the store says.
        found: String,
    },
    /// The disk or the tree on it failed.
    #[error("failed to {doing}")]
    Fault {
        /// What was being done.
        doing: &'static str,
        /// Why it failed.
        source: fjall::Error,
    },
    /// The directory cannot be used.
    #[error("failed to {doing} in {}", dir.display())]
    Directory {
        /// What was being done.
        doing: &'static str,
        /// Where.
        dir: PathBuf,
        /// Why it failed.
        source: std::io::Error,
    },
    /// A write failed before, and the store was not opened again since.
    #[error("the store is closed since a write to it failed")]
    Closed,
    /// A key is not one of its keyspace.
    #[error("the store has a key of {0} bytes where none can be: it is damaged")]
    BadKey(usize),
    /// A record that a witness must not forget is not what was stored.
    #[error(
        "a vote that this node gave is damaged on disk: it must not vote again before the next certificate; move the folder of the ledger away and start again as a new member, or let the admins name other witnesses"
    )]
    DamagedVote,
    /// A record of the journal is not what was stored.
    #[error("journal record {offset} is damaged on disk: {why}")]
    DamagedJournal {
        /// Its number.
        offset: u64,
        /// What is wrong.
        why: DecodeError,
    },
    /// A record was given out of turn.
    #[error("journal record {given} was given where {expected} is next")]
    OutOfTurn {
        /// The next number.
        expected: u64,
        /// The number given.
        given: u64,
    },
    /// A value is too large to be stored.
    #[error("`{name}` has {size} bytes, at most {max} are stored")]
    TooLarge {
        /// What it is.
        name: String,
        /// Its size.
        size: usize,
        /// The bound.
        max: usize,
    },
}

/// What is wrong with a stored record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    /// It does not decode.
    #[error("{0}")]
    Record(#[from] DecodeError),
    /// Its bytes, or those of an op before it, are not what was stored.
    #[error("its bytes do not give the sum that was stored")]
    OtherSum,
    /// It is not there, but a later op of its chain is.
    #[error("it is missing")]
    Missing,
}

/// Ops of a chain that the disk has damaged: from here on the chain is fetched again from peers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damaged {
    /// The chain.
    pub chain: Chain,
    /// The first op that cannot be read.
    pub seq: u64,
    /// What is wrong.
    pub why: Damage,
}

impl std::fmt::Display for Damaged {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { chain, seq, why } = self;
        write!(
            f,
            "op {seq} of chain {:x} of node {} is damaged on disk: {why}",
            chain.incarnation, chain.node
        )
    }
}

fn fault(doing: &'static str) -> impl Fn(fjall::Error) -> StoreError {
    move |source| StoreError::Fault { doing, source }
}

/// What is written at once.
#[derive(Clone, Copy, Debug, Default)]
pub struct Batch<'a> {
    /// Newly admitted ops.
    pub ops: &'a [Op],
    /// What they, and others through them, became.
    pub journal: &'a [JournalRecord],
    /// New certificates. What was voted before is forgotten with them.
    pub certificates: &'a [Certificate],
    /// What a witness must not forget.
    pub votes: &'a [Vec<u8>],
    /// Proofs that a chain was forked.
    pub forks: &'a [(Chain, Vec<u8>)],
}

impl Batch<'_> {
    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.ops.is_empty()
            && self.journal.is_empty()
            && self.certificates.is_empty()
            && self.votes.is_empty()
            && self.forks.is_empty()
    }
}

/// What [`Store::load`] found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Loaded {
    /// The ops in their total order.
    pub ops: Vec<Op>,
    /// What could not be read: the peers have it.
    pub damaged: Vec<Damaged>,
    /// The number of the next journal record.
    pub next_offset: u64,
    /// Journal records that were acknowledged and are gone: the end of the write-ahead log was damaged. What
    /// they told of is gone as well, as far as no peer has it.
    pub lost_records: u64,
    /// The certificates, by height.
    pub certificates: Vec<Certificate>,
    /// What the node voted since the last of them, in order.
    pub votes: Vec<Vec<u8>>,
    /// Proofs of forks.
    pub forks: Vec<(Chain, Vec<u8>)>,
}

struct Open {
    database: Database,
    ops: Keyspace,
    journal: Keyspace,
    certificates: Keyspace,
    votes: Keyspace,
    forks: Keyspace,
    meta: Keyspace,
}

/// The numbers of what is written next.
#[derive(Clone, Copy, Debug)]
struct Next {
    offset: u64,
    vote: u64,
}

/// The store. One process at a time.
pub struct Store {
    dir: PathBuf,
    open: RwLock<Option<Open>>,
    tally: Tally,
    lost_records: u64,
    /// Held while a batch is written.
    next: Mutex<Next>,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Store(…)")
    }
}

impl Open {
    fn at(dir: &Path) -> Result<Self, StoreError> {
        let opening = fault("open the store");
        let database = Database::builder(dir.join("log"))
            .cache_size(CACHE_BYTES)
            .open()
            .map_err(|error| match error {
                fjall::Error::Locked => StoreError::InUse(dir.to_path_buf()),
                error => opening(error),
            })?;
        let keyspace = |name| {
            database
                .keyspace(name, KeyspaceCreateOptions::default)
                .map_err(&opening)
        };
        let meta = keyspace("meta")?;
        match meta.get(FORMAT_NAME).map_err(&opening)? {
            Some(found) if *found == *FORMAT => {}
            Some(found) => {
                let found = String::from_utf8_lossy(&found).into_owned();
                let dir = dir.to_path_buf();
                return Err(StoreError::OtherFormat { dir, found });
            }
            None => {
                meta.insert(FORMAT_NAME, FORMAT).map_err(&opening)?;
                database.persist(PersistMode::SyncAll).map_err(&opening)?;
            }
        }
        let votes = keyspace("votes")?;
        Ok(Self {
            ops: keyspace("ops")?,
            journal: keyspace("journal")?,
            certificates: keyspace("certificates")?,
            forks: keyspace("forks")?,
            votes,
            meta,
            database,
        })
    }
}

/// The number after the last key of a keyspace whose keys are numbers.
fn next_number(keyspace: &Keyspace) -> Result<u64, StoreError> {
    match keyspace.last_key_value() {
        Some(last) => Ok(number_of(&last.key().map_err(fault("open the store"))?)? + 1),
        None => Ok(0),
    }
}

impl Store {
    /// Opens the store in a directory of its own, which is made if it is not there.
    pub fn open(dir: &Path) -> Result<Self, StoreError> {
        let directory = |doing| {
            move |source| StoreError::Directory {
                doing,
                dir: dir.to_path_buf(),
                source,
            }
        };
        std::fs::create_dir_all(dir).map_err(directory("make the store"))?;
        let mut entries = std::fs::read_dir(dir).map_err(directory("look"))?;
        let ours = ["log", "tally", "lost+found"];
        let foreign =
            entries.any(|entry| entry.is_ok_and(|entry| !ours.iter().any(|name| entry.file_name() == *name)));
        if foreign && !dir.join("log").exists() {
            return Err(StoreError::OtherFormat {
                dir: dir.to_path_buf(),
                found: "1, or no ledger at all".into(),
            });
        }
        let open = Open::at(dir)?;
        let (tally, said) = Tally::open(&dir.join("tally")).map_err(directory("open the tally"))?;
        let found = next_number(&open.journal)?;
        // Numbers that were told once are never given to other records.
        let offset = found.max(said.unwrap_or(0));
        let vote = next_number(&open.votes)?;
        Ok(Self {
            dir: dir.to_path_buf(),
            open: RwLock::new(Some(open)),
            tally,
            lost_records: offset - found,
            next: Mutex::new(Next { offset, vote }),
        })
    }

    /// Closes the store, if it is open, and opens it again: after a write that failed.
    pub fn reopen(&self) -> Result<(), StoreError> {
        let mut open = self.open.write().unwrap_or_else(PoisonError::into_inner);
        // Its lock must go before it can be taken again.
        drop(open.take());
        let again = Open::at(&self.dir)?;
        // The batch that failed may be there after all; the caller writes it again, which changes nothing.
        *open = Some(again);
        Ok(())
    }

    fn with<T>(&self, read: impl FnOnce(&Open) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let open = self.open.read().unwrap_or_else(PoisonError::into_inner);
        read(open.as_ref().ok_or(StoreError::Closed)?)
    }

    /// Reads all that the node begins with, and checks that the bytes of the ops give what was stored, each in
    /// its place after the one before. What is damaged is left out, with all that follows it in its chain.
    pub fn load(&self, network: NetworkId) -> Result<Loaded, StoreError> {
        let next_offset = self.next_offset();
        self.with(|open| {
            let (ops, damaged) = load_ops(open, network)?;
            Ok(Loaded {
                ops,
                damaged,
                next_offset,
                lost_records: self.lost_records,
                certificates: load_certificates(open)?,
                votes: load_votes(open)?,
                forks: load_forks(open)?,
            })
        })
    }

    /// Writes ops and journal records, see [`Self::write`].
    pub fn append(&self, ops: &[Op], journal: &[JournalRecord]) -> Result<(), StoreError> {
        self.write(&Batch {
            ops,
            journal,
            ..Batch::default()
        })
    }

    /// Writes a batch as one; when it returns, it is durable. Written twice it is there once.
    pub fn write(&self, batch: &Batch<'_>) -> Result<(), StoreError> {
        if batch.is_empty() {
            return Ok(());
        }
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        match self.with(|open| write(open, batch, *next)) {
            Ok(after) => {
                *next = after;
                self.tally.note(after.offset);
                Ok(())
            }
            Err(error) => {
                if matches!(error, StoreError::Fault { .. }) {
                    // What a failed write leaves in memory is not to be built upon.
                    self.open.write().unwrap_or_else(PoisonError::into_inner).take();
                }
                Err(error)
            }
        }
    }

    /// Journal records from a number on, at most `max` of them (and at most [`JOURNAL_READ_MAX`]).
    pub fn journal(&self, from: u64, max: usize) -> Result<Vec<JournalRecord>, StoreError> {
        let reading = fault("read the journal from the store");
        self.with(|open| {
            let mut records = Vec::new();
            for guard in open
                .journal
                .range(from.to_be_bytes()..)
                .take(max.min(JOURNAL_READ_MAX))
            {
                let (key, value) = guard.into_inner().map_err(&reading)?;
                let offset = number_of(&key)?;
                let damaged = |why| StoreError::DamagedJournal { offset, why };
                let record = JournalRecord::decode(&value).map_err(damaged)?;
                if record.offset != offset {
                    return Err(damaged(DecodeError::Meaningless("a record under another number")));
                }
                records.push(record);
            }
            Ok(records)
        })
    }

    /// The number of the next journal record.
    pub fn next_offset(&self) -> u64 {
        self.next.lock().unwrap_or_else(PoisonError::into_inner).offset
    }

    /// Certificates from a height on, at most `max` of them.
    pub fn certificates(&self, from: u64, max: usize) -> Result<Vec<Certificate>, StoreError> {
        self.with(|open| {
            let mut found = Vec::new();
            for guard in open.certificates.range(from.to_be_bytes()..).take(max) {
                let (_, value) = guard.into_inner().map_err(fault("read a certificate"))?;
                match unsealed(&value).map(Certificate::decode) {
                    Some(Ok(certificate)) => found.push(certificate),
                    _ => break,
                }
            }
            Ok(found)
        })
    }

    /// A small value by its name.
    pub fn meta(&self, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let value = self.with(|open| {
            open.meta
                .get(meta_key(name))
                .map_err(fault("read a setting from the store"))
        })?;
        Ok(value.map(|bytes| bytes.to_vec()))
    }

    /// Sets a small value, durably.
    pub fn set_meta(&self, name: &str, bytes: &[u8]) -> Result<(), StoreError> {
        let (size, max) = (bytes.len() + name.len(), META_BYTES_MAX);
        if size > max {
            return Err(StoreError::TooLarge {
                name: name.chars().take(80).collect(),
                size,
                max,
            });
        }
        self.with(|open| {
            let mut batch = open.database.batch().durability(Some(PersistMode::SyncData));
            batch.insert(&open.meta, meta_key(name), bytes);
            batch.commit().map_err(fault("write a setting to the store"))
        })
    }
}

fn write(open: &Open, batch: &Batch<'_>, mut next: Next) -> Result<Next, StoreError> {
    let mut writes = open.database.batch().durability(Some(PersistMode::SyncData));
    for group in runs::groups(batch.ops) {
        writes.insert(&open.ops, op_key(group[0]), runs::encode(&group));
    }
    for record in batch.journal {
        let given = record.offset;
        if given != next.offset {
            return Err(StoreError::OutOfTurn {
                expected: next.offset,
                given,
            });
        }
        record
            .check()
            .map_err(|why| StoreError::DamagedJournal { offset: given, why })?;
        writes.insert(&open.journal, given.to_be_bytes(), record.encode());
        next.offset += 1;
    }
    if !batch.certificates.is_empty() {
        for guard in open.votes.iter() {
            writes.remove(&open.votes, guard.key().map_err(fault("read a vote"))?);
        }
    }
    for certificate in batch.certificates {
        let height = certificate.checkpoint.height.to_be_bytes();
        writes.insert(&open.certificates, height, sealed(&certificate.encode()));
    }
    for vote in batch.votes {
        writes.insert(&open.votes, next.vote.to_be_bytes(), sealed(vote));
        next.vote += 1;
    }
    for (chain, proof) in batch.forks {
        writes.insert(&open.forks, chain_key(chain), sealed(proof));
    }
    writes.commit().map_err(fault("write to the store"))?;
    Ok(next)
}

fn load_ops(open: &Open, network: NetworkId) -> Result<(Vec<Op>, Vec<Damaged>), StoreError> {
    let reading = fault("read the ops from the store");
    let (mut all, mut damaged) = (Vec::new(), Vec::<Damaged>::new());
    let mut of_chain: Vec<Op> = Vec::new();
    let mut chain = None;
    for guard in open.ops.iter() {
        let (key, value) = guard.into_inner().map_err(&reading)?;
        let (next_chain, first) = place_of(&key)?;
        if chain.replace(next_chain) != Some(next_chain) {
            all.append(&mut of_chain);
        }
        if damaged.last().is_some_and(|last| last.chain == next_chain) {
            continue;
        }
        if let Err(why) = runs::decode(network, next_chain, first, &value, &mut of_chain) {
            let seq = of_chain.last().map_or(0, |op| op.slot().seq + 1);
            damaged.push(Damaged {
                chain: next_chain,
                seq,
                why,
            });
        }
    }
    all.append(&mut of_chain);
    all.sort_unstable_by_key(|op| (op.order(), op.id()));
    Ok((all, damaged))
}

/// A damaged certificate is left out with all after it: the peers have them.
fn load_certificates(open: &Open) -> Result<Vec<Certificate>, StoreError> {
    let mut found: Vec<Certificate> = Vec::new();
    for guard in open.certificates.iter() {
        let (_, value) = guard.into_inner().map_err(fault("read a certificate"))?;
        match unsealed(&value).map(Certificate::decode) {
            Some(Ok(certificate)) => found.push(certificate),
            _ => break,
        }
    }
    Ok(found)
}

fn load_votes(open: &Open) -> Result<Vec<Vec<u8>>, StoreError> {
    let mut found = Vec::new();
    for guard in open.votes.iter() {
        let (_, value) = guard.into_inner().map_err(fault("read a vote"))?;
        found.push(unsealed(&value).ok_or(StoreError::DamagedVote)?.to_vec());
    }
    Ok(found)
}

/// A damaged proof is left out: whoever has it sends it again.
fn load_forks(open: &Open) -> Result<Vec<(Chain, Vec<u8>)>, StoreError> {
    let mut found = Vec::new();
    for guard in open.forks.iter() {
        let (key, value) = guard.into_inner().map_err(fault("read a fork's proof"))?;
        let mut padded = key.to_vec();
        padded.extend_from_slice(&[0; 8]);
        let (chain, _) = place_of(&padded)?;
        if let Some(proof) = unsealed(&value) {
            found.push((chain, proof.to_vec()));
        }
    }
    Ok(found)
}

fn sealed(bytes: &[u8]) -> Vec<u8> {
    let mut record = hash("formation 2026 stored record v1", &[bytes])[..16].to_vec();
    record.extend_from_slice(bytes);
    record
}

fn unsealed(record: &[u8]) -> Option<&[u8]> {
    let (sum, bytes) = record.split_at_checked(16)?;
    (hash("formation 2026 stored record v1", &[bytes])[..16] == *sum).then_some(bytes)
}

/// Callers' names have a prefix, so that none meets the format's.
fn meta_key(name: &str) -> String {
    format!("value/{name}")
}

fn chain_key(chain: &Chain) -> Vec<u8> {
    let mut key = Vec::with_capacity(OP_KEY_BYTES);
    key.extend_from_slice(&chain.node.0);
    key.extend_from_slice(&chain.incarnation.to_be_bytes());
    key
}

fn op_key(op: &Op) -> Vec<u8> {
    let mut key = chain_key(&op.slot().chain);
    key.extend_from_slice(&op.slot().seq.to_be_bytes());
    key
}

fn place_of(key: &[u8]) -> Result<(Chain, u64), StoreError> {
    let mut reader = Reader::new(key);
    let mut read = || {
        let node = NodeId(reader.array("a node")?);
        let incarnation = u64::from_be_bytes(reader.array("an incarnation")?);
        let seq = u64::from_be_bytes(reader.array("a place")?);
        Ok::<_, DecodeError>((Chain { node, incarnation }, seq))
    };
    match read() {
        Ok(place) if key.len() == OP_KEY_BYTES => Ok(place),
        _ => Err(StoreError::BadKey(key.len())),
    }
}

fn number_of(key: &[u8]) -> Result<u64, StoreError> {
    let bytes = key.try_into().map_err(|_| StoreError::BadKey(key.len()))?;
    Ok(u64::from_be_bytes(bytes))
}
