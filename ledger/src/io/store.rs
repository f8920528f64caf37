//! The store: ops and journal on disk, in fjall (an LSM tree with a write-ahead log).
//!
//! ```text
//! ops      node (32) ‖ incarnation (8 BE) ‖ seq (8 BE)  →  1 ‖ sum (16) ‖ 0 ‖ body
//!                                                        | 1 ‖ sum (16) ‖ 1 ‖ signature (64) ‖ body
//! journal  offset (8 BE)                                →  record (see journal.rs)
//! meta     name                                         →  bytes
//! ```
//! The sum is over the op's id, which its bytes, its place and the op before give, and over its signature.
//! An op without a signature came in a run; the next op of its chain that has one vouches for it. What
//! [`Store::append`] returned from is there after `kill -9` and after loss of power, as far as the disk keeps
//! what it acknowledged; what it did not return from is there as a whole or not at all.
//!
//! Calls block on the disk: an async caller gives the store a thread of its own.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};

use crate::codec::{DecodeError, Reader, Writer};
use crate::id::{NetworkId, NodeId, OpId, hash};
use crate::journal::JournalRecord;
use crate::key::{SIGNATURE_BYTES, Signature};
use crate::op::{BODY_BYTES_MAX, Chain, Op, Slot};

/// The format of the records described above.
const FORMAT: &[u8] = b"1";

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
    /// A stored op is not what was stored.
    #[error(
        "op {seq} of chain {incarnation:x} of node {node} is damaged on disk ({why}): move the directory away and start again, the node fetches the ops from its peers",
        node = chain.node, incarnation = chain.incarnation
    )]
    Damaged {
        /// Its chain.
        chain: Chain,
        /// Its place.
        seq: u64,
        /// What is wrong.
        why: Damage,
    },
    /// A key among the ops is not one.
    #[error("the store has an op under a key of {0} bytes: it is damaged")]
    BadKey(usize),
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

/// What is wrong with a stored op.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    /// Its record does not decode.
    #[error("{0}")]
    Record(#[from] DecodeError),
    /// Its bytes, or those of an op before it, are not what was stored.
    #[error("its bytes do not give the sum that was stored")]
    OtherSum,
    /// It is not there, but a later op of its chain is.
    #[error("it is missing")]
    Missing,
}

fn fault(doing: &'static str) -> impl Fn(fjall::Error) -> StoreError {
    move |source| StoreError::Fault { doing, source }
}

/// What [`Store::load`] found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Loaded {
    /// The ops in their total order.
    pub ops: Vec<Op>,
    /// The number of the next journal record.
    pub next_offset: u64,
}

/// The store. One process at a time.
pub struct Store {
    database: Database,
    ops: Keyspace,
    journal: Keyspace,
    meta: Keyspace,
    /// The number of the next journal record; held while a batch is written.
    next_offset: Mutex<u64>,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Store(…)")
    }
}

impl Store {
    /// Opens the store in a directory of its own, which is made if it is not there.
    pub fn open(dir: &Path) -> Result<Self, StoreError> {
        let opening = fault("open the store");
        let database =
            Database::builder(dir)
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
        let (ops, journal, meta) = (keyspace("ops")?, keyspace("journal")?, keyspace("meta")?);
        match meta.get(FORMAT_NAME).map_err(&opening)? {
            Some(found) if *found == *FORMAT => {}
            Some(found) => {
                let found = String::from_utf8_lossy(&found).into_owned();
                return Err(StoreError::OtherFormat {
                    dir: dir.to_path_buf(),
                    found,
                });
            }
            None => {
                meta.insert(FORMAT_NAME, FORMAT).map_err(&opening)?;
                database.persist(PersistMode::SyncAll).map_err(&opening)?;
            }
        }
        let next_offset = match journal.last_key_value() {
            Some(last) => offset_of(&last.key().map_err(&opening)?)? + 1,
            None => 0,
        };
        Ok(Self {
            database,
            ops,
            journal,
            meta,
            next_offset: Mutex::new(next_offset),
        })
    }

    /// Reads all ops and checks that the bytes give the stored ids, each in its place after the one before.
    pub fn load(&self, network: NetworkId) -> Result<Loaded, StoreError> {
        let reading = fault("read the ops from the store");
        let mut ops: Vec<Op> = Vec::new();
        for guard in self.ops.iter() {
            let (key, value) = guard.into_inner().map_err(&reading)?;
            let (chain, seq) = place_of(&key)?;
            let before = ops.last().filter(|op| op.slot().chain == chain);
            let next = before.map_or(0, |op| op.slot().seq + 1);
            if seq != next {
                return Err(StoreError::Damaged {
                    chain,
                    seq: next,
                    why: Damage::Missing,
                });
            }
            let previous = before.map_or(OpId([0; 32]), Op::id);
            let op = read_op(network, Slot { chain, seq, previous }, &value)
                .map_err(|why| StoreError::Damaged { chain, seq, why })?;
            ops.push(op);
        }
        ops.sort_by_key(Op::order);
        Ok(Loaded {
            ops,
            next_offset: *self.next_offset.lock().unwrap_or_else(PoisonError::into_inner),
        })
    }

    /// Writes ops and journal records in one atomic batch; when it returns, they are durable. Many callers
    /// share one wait for the disk when theirs are given together.
    pub fn append(&self, ops: &[Op], journal: &[JournalRecord]) -> Result<(), StoreError> {
        let mut next_offset = self.next_offset.lock().unwrap_or_else(PoisonError::into_inner);
        let mut next = *next_offset;
        let mut batch = self.database.batch().durability(Some(PersistMode::SyncData));
        for op in ops {
            batch.insert(&self.ops, op_key(op.slot()), op_record(op));
        }
        for record in journal {
            let given = record.offset;
            if given != next {
                return Err(StoreError::OutOfTurn {
                    expected: next,
                    given,
                });
            }
            record
                .check()
                .map_err(|why| StoreError::DamagedJournal { offset: given, why })?;
            batch.insert(&self.journal, given.to_be_bytes(), record.encode());
            next += 1;
        }
        if batch.is_empty() {
            return Ok(());
        }
        batch.commit().map_err(fault("write to the store"))?;
        *next_offset = next;
        Ok(())
    }

    /// Journal records from a number on, at most `max` of them (and at most [`JOURNAL_READ_MAX`]).
    pub fn journal(&self, from: u64, max: usize) -> Result<Vec<JournalRecord>, StoreError> {
        let reading = fault("read the journal from the store");
        let mut records = Vec::new();
        for guard in self
            .journal
            .range(from.to_be_bytes()..)
            .take(max.min(JOURNAL_READ_MAX))
        {
            let (key, value) = guard.into_inner().map_err(&reading)?;
            let offset = offset_of(&key)?;
            let damaged = |why| StoreError::DamagedJournal { offset, why };
            let record = JournalRecord::decode(&value).map_err(damaged)?;
            if record.offset != offset {
                return Err(damaged(DecodeError::Meaningless("a record under another number")));
            }
            records.push(record);
        }
        Ok(records)
    }

    /// The number of the next journal record.
    pub fn next_offset(&self) -> u64 {
        *self.next_offset.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A small value by its name.
    pub fn meta(&self, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let value = self
            .meta
            .get(meta_key(name))
            .map_err(fault("read a setting from the store"))?;
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
        let mut batch = self.database.batch().durability(Some(PersistMode::SyncData));
        batch.insert(&self.meta, meta_key(name), bytes);
        batch.commit().map_err(fault("write a setting to the store"))
    }
}

/// Callers' names have a prefix, so that none meets the format's.
fn meta_key(name: &str) -> String {
    format!("value/{name}")
}

fn op_key(slot: &Slot) -> Vec<u8> {
    let mut key = Vec::with_capacity(OP_KEY_BYTES);
    key.extend_from_slice(&slot.chain.node.0);
    key.extend_from_slice(&slot.chain.incarnation.to_be_bytes());
    key.extend_from_slice(&slot.seq.to_be_bytes());
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

fn offset_of(key: &[u8]) -> Result<u64, StoreError> {
    let bytes = key.try_into().map_err(|_| StoreError::BadKey(key.len()))?;
    Ok(u64::from_be_bytes(bytes))
}

fn sum(id: OpId, signature: Option<Signature>) -> [u8; 16] {
    let signature = signature.as_ref().map_or(&[][..], |signature| &signature.0);
    let sum = hash("formation 2026 stored op v1", &[&id.0, signature]);
    *sum.first_chunk().expect("32 bytes begin with 16")
}

fn op_record(op: &Op) -> Vec<u8> {
    let mut writer = Writer::new();
    writer.varint(1).raw(&sum(op.id(), op.signature()));
    match op.signature() {
        Some(signature) => writer.varint(1).raw(&signature.0),
        None => writer.varint(0),
    };
    writer.raw(op.bytes());
    writer.into_bytes()
}

fn read_op(network: NetworkId, slot: Slot, record: &[u8]) -> Result<Op, Damage> {
    let mut reader = Reader::new(record);
    if reader.varint(1, "the version of a stored op")? != 1 {
        return Err(DecodeError::Meaningless("the version of a stored op").into());
    }
    let stored: [u8; 16] = reader.array("a stored op's sum")?;
    let signature = match reader.varint(1, "a stored op's signature")? {
        0 => None,
        _ => Some(Signature(
            reader.array::<SIGNATURE_BYTES>("a stored op's signature")?,
        )),
    };
    let body = reader.rest();
    if body.len() > BODY_BYTES_MAX {
        let (size, max) = (body.len() as u64, BODY_BYTES_MAX as u64);
        return Err(DecodeError::TooLarge {
            what: "a stored op",
            size,
            max,
        }
        .into());
    }
    if sum(slot.id(network, body), signature) != stored {
        return Err(Damage::OtherSum);
    }
    Ok(Op::decode(network, slot, body.to_vec(), signature)?)
}
