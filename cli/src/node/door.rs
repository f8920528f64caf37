//! What the API asks of this node, answered from the core's snapshot where that is enough.

use std::collections::BTreeMap;
use std::net::Ipv6Addr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use api::door::{
    Answer, Door, EntryTold, InstanceLive, JournalEntry, Live, LogChunk, LogError, LogQuery, NodeLive,
    OpRecord, OpsQuery, ReadError, SubmitError, Submitted, Told, Upload, UploadError, Uploaded, Wait,
};
use api::views::ledger::{CHAINS_LISTED_MAX, FinalityView, ForkView, HeadView, LedgerView};
use api::views::nodes::Role;
use api::views::status::{DriverReport, NodeStatus, PeerView, VERIFY_FAULTS_MAX, VerifyFault, VerifyReport};
use arc_swap::ArcSwap;
use bytes::Bytes;
use futures::StreamExt;
use ledger::command::SignedCommand;
use ledger::id::{BuildId, InstanceId, NodeId, OpId};
use ledger::op::{Chain, Op};
use ledger::report::Report;
use net::names::NameTable;
use pack::io::store::{BlobStore, StoreError};
use projections::cloud::Cloud;
use projections::outcome::Outcome;
use reactors::node::{self, FinalityStatus, HostEvent, Input, Node};
use tokio::io::AsyncWriteExt;
use tokio::sync::{Semaphore, watch};
use vmm::io::machines::Machines;

use super::blobs;
use super::core::{Core, NotTaken, Refused, Snapshot, now_ms};
use super::logs::Logs;

/// How old the answer to [`Door::live`] may be.
const LIVE_AGE: Duration = Duration::from_millis(200);

/// Uploads taken in at once.
const UPLOADS_MAX: usize = 8;

/// Bytes of an outcome in the journal, at most.
const OUTCOME_BYTES_MAX: usize = ledger::journal::OUTCOME_BYTES_MAX;

/// The node behind the API.
pub struct NodeDoor {
    /// The core.
    pub core: Core,
    /// The transport.
    pub gossip: net_gossip::Handle,
    /// Logs here and elsewhere.
    pub logs: Logs,
    /// Images and contexts.
    pub blobs: Arc<BlobStore>,
    /// The machines, on a node that runs them.
    pub machines: Option<Arc<Machines>>,
    /// What the DNS answers from.
    pub names: Arc<ArcSwap<NameTable>>,
    /// What does not change while the node runs.
    pub own: Own,
    /// Where uploads are taken in.
    pub uploads: std::path::PathBuf,
    /// Bounds them.
    pub upload_turns: Semaphore,
    /// One at a time reads and checks the whole log.
    pub verify_turn: Semaphore,
    /// The last answer to `live`, and when it was made.
    pub live: Mutex<Option<(Instant, Arc<Live>)>>,
}

/// What a node knows of itself from its start on.
#[derive(Clone, Debug)]
pub struct Own {
    /// Its key.
    pub id: NodeId,
    /// Its name.
    pub name: String,
    /// Its parts.
    pub roles: Vec<Role>,
    /// When it started.
    pub started: Instant,
    /// What listens where.
    pub listens: BTreeMap<String, Vec<String>>,
    /// What does not work here, and why.
    pub lacks: Vec<String>,
}

/// How many uploads a node takes in at once.
pub fn upload_turns() -> Semaphore {
    Semaphore::new(UPLOADS_MAX)
}

impl Door for NodeDoor {
    fn submit(&self, command: SignedCommand, wait: Wait) -> Answer<'_, Result<Submitted, SubmitError>> {
        Box::pin(async move {
            let id = command.id();
            let core_wait = match wait {
                Wait::Durable | Wait::Tentative => node::Wait::Tentative,
                Wait::Replicated(others) => node::Wait::Replicated(others),
                Wait::Final => node::Wait::Final,
            };
            let submitted = match self.core.submit(command.bytes().to_vec(), id, core_wait).await {
                Ok(done) => done.map_err(|refused| match refused {
                    Refused::NotWritten(why) => SubmitError::NotWritten(why.0.to_string()),
                    Refused::Core(
                        error @ (node::SubmitError::NotReplicated { .. } | node::SubmitError::NotFinal),
                    ) => SubmitError::NotYet(error.to_string()),
                    Refused::Core(error) => SubmitError::Failed(error.to_string()),
                })?,
                Err(NotTaken::Busy) => return Err(SubmitError::Busy),
                Err(NotTaken::Stopped) => return Err(SubmitError::ShuttingDown),
            };
            Ok(Submitted {
                id,
                op: submitted.op,
                position: self.core.snapshot().cloud.position,
                outcome: match wait {
                    Wait::Durable => None,
                    Wait::Tentative | Wait::Replicated(_) | Wait::Final => Some(submitted.outcome),
                },
            })
        })
    }

    fn cloud(&self) -> Arc<Cloud> {
        Arc::clone(&self.core.snapshot().cloud)
    }

    fn final_cloud(&self) -> Arc<Cloud> {
        Arc::clone(&self.core.snapshot().final_cloud)
    }

    fn ledger(&self) -> Answer<'_, Result<LedgerView, ReadError>> {
        Box::pin(async move {
            let counters = (*self.core.snapshot().counters).clone();
            let view = self.core.query(move |node, _| ledger_view(node, counters));
            view.await.map_err(stopped)
        })
    }

    fn live(&self) -> Arc<Live> {
        let mut last = self.live.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((made, live)) = &*last
            && made.elapsed() < LIVE_AGE
        {
            return Arc::clone(live);
        }
        let live = Arc::new(live_of(&self.core.snapshot(), &self.names.load(), now_ms()));
        *last = Some((Instant::now(), Arc::clone(&live)));
        live
    }

    fn status(&self) -> NodeStatus {
        let snapshot = self.core.snapshot();
        let mut counters = BTreeMap::from([("ledger".to_owned(), (*snapshot.counters).clone())]);
        let gossip = self.gossip.counters();
        counters.insert(
            "gossip".to_owned(),
            gossip
                .each()
                .into_iter()
                .map(|(name, count)| (name.to_owned(), count))
                .collect(),
        );
        let connected: BTreeMap<[u8; 32], String> = self
            .gossip
            .peers()
            .into_iter()
            .map(|peer| (peer.node, peer.address))
            .collect();
        let peers = snapshot
            .cloud
            .nodes
            .values()
            .filter(|node| node.id != self.own.id)
            .map(|node| {
                let announced = node.announced.as_ref();
                let address = connected.get(&node.id.0).cloned();
                PeerView {
                    id: node.id,
                    name: announced.map(|announced| announced.name.clone()),
                    connected: address.is_some(),
                    address: address
                        .or_else(|| announced.and_then(|announced| announced.addresses.first().cloned())),
                    last_seen_ms: snapshot
                        .observed
                        .presences
                        .get(&node.id)
                        .map(|seen| seen.arrived_ms),
                }
            });
        NodeStatus {
            id: self.own.id,
            name: self.own.name.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            incarnation: format!("{:016x}", snapshot.incarnation),
            roles: self.own.roles.clone(),
            uptime_ms: u64::try_from(self.own.started.elapsed().as_millis()).unwrap_or(u64::MAX),
            not_ready: if let Some(why) = &snapshot.not_written {
                vec![why.to_string()]
            } else if let Some(alarm) = &snapshot.alarm {
                vec![alarm.clone()]
            } else if snapshot.observed.host_known {
                self.own.lacks.clone()
            } else {
                vec!["it still looks at what this host holds".to_owned()]
            },
            listens: self.own.listens.clone(),
            peers: peers.collect(),
            driver: self.machines.as_ref().map(|machines| {
                let report = machines.report();
                DriverReport {
                    driver: report.driver.to_string(),
                    accelerator: report.accelerator.to_string(),
                    why: report.why,
                }
            }),
            counters,
        }
    }

    fn journal(&self, from: u64, max: usize) -> Answer<'_, Result<Vec<JournalEntry>, ReadError>> {
        Box::pin(async move {
            let read = self.core.query(move |node, store| {
                let records = store.journal(from, max).map_err(|error| error.to_string())?;
                // A record that cannot be shown is a fault: to pass it over would hold every stream there.
                let entries = records.into_iter().map(|record| {
                    let offset = record.offset;
                    if let Some((checkpoint, told)) = record.checkpoint() {
                        let told = Told::Checkpoint(checkpoint, told);
                        return Ok(JournalEntry { offset, told });
                    }
                    let op = node.replica().log().get(&record.op).cloned();
                    let outcome = ledger::codec::decode(&record.outcome, OUTCOME_BYTES_MAX, "an outcome");
                    let told = EntryTold {
                        op: op.ok_or_else(|| {
                            format!("the op {} of record {offset} is not in the log", record.op)
                        })?,
                        entry: record.entry as usize,
                        outcome: outcome.map_err(|error| format!("record {offset}: {error}"))?,
                        turned: record.turned,
                    };
                    let told = Told::Entry(told);
                    Ok(JournalEntry { offset, told })
                });
                entries.collect::<Result<Vec<_>, String>>()
            });
            read.await.map_err(stopped)?.map_err(ReadError::Failed)
        })
    }

    fn journal_end(&self) -> watch::Receiver<u64> {
        self.core.changed()
    }

    fn ops(&self, query: OpsQuery) -> Answer<'_, Result<Vec<OpRecord>, ReadError>> {
        Box::pin(async move {
            self.core
                .query(move |node, _| ops(node, query))
                .await
                .map_err(stopped)?
        })
    }

    fn op(&self, id: OpId) -> Answer<'_, Result<Option<OpRecord>, ReadError>> {
        Box::pin(async move {
            let found = self
                .core
                .query(move |node, _| node.replica().log().get(&id).map(|op| record(node, op)));
            found.await.map_err(stopped)
        })
    }

    fn verify(&self) -> Answer<'_, Result<VerifyReport, ReadError>> {
        Box::pin(async move {
            let begin = Instant::now();
            let _turn = self.verify_turn.acquire().await;
            // The core goes on meanwhile: what is durable is read beside it.
            let (network, store) = (self.core.snapshot().cloud.network, self.core.store());
            let checked = tokio::task::spawn_blocking(move || match store.load(network) {
                Ok(loaded) => {
                    let mut report = verify(network, &loaded.ops);
                    report.faults += loaded.damaged.len() as u64;
                    let room = VERIFY_FAULTS_MAX.saturating_sub(report.first_faults.len());
                    let damaged = loaded.damaged.iter().take(room).map(|damaged| VerifyFault {
                        op: None,
                        what: damaged.to_string(),
                    });
                    report.first_faults.extend(damaged);
                    report
                }
                Err(error) => VerifyReport {
                    faults: 1,
                    first_faults: vec![VerifyFault {
                        op: None,
                        what: error.to_string(),
                    }],
                    ..VerifyReport::default()
                },
            });
            let mut report = checked
                .await
                .map_err(|error| ReadError::Failed(error.to_string()))?;
            report.took_ms = u64::try_from(begin.elapsed().as_millis()).unwrap_or(u64::MAX);
            Ok(report)
        })
    }

    fn export(&self) -> Answer<'_, Result<Bytes, ReadError>> {
        Box::pin(async move {
            let _turn = self.verify_turn.acquire().await;
            let (network, store) = (self.core.snapshot().cloud.network, self.core.store());
            let read = tokio::task::spawn_blocking(move || {
                let loaded = store.load(network)?;
                let (ops, forks) = (&loaded.ops, &loaded.forks);
                Ok(ledger::export::encode(network, ops, &loaded.certificates, forks).into())
            });
            let read: Result<Bytes, ledger::io::store::StoreError> =
                read.await.map_err(|error| ReadError::Failed(error.to_string()))?;
            read.map_err(|error| ReadError::Failed(error.to_string()))
        })
    }

    fn upload(&self, upload: Upload) -> Answer<'_, Result<Uploaded, UploadError>> {
        Box::pin(self.take_in(upload))
    }

    fn instance_log(&self, id: InstanceId, query: LogQuery) -> Answer<'_, Result<LogChunk, LogError>> {
        Box::pin(self.logs.instance(id, query))
    }

    fn build_log(&self, id: BuildId, query: LogQuery) -> Answer<'_, Result<LogChunk, LogError>> {
        Box::pin(self.logs.build(id, query))
    }
}

impl NodeDoor {
    /// Writes the body to a file of its own, then keeps it as a blob. The file goes in any case.
    async fn take_in(&self, mut upload: Upload) -> Result<Uploaded, UploadError> {
        let _turn = self.upload_turns.try_acquire().map_err(|_| UploadError::Busy)?;
        let failed = |error: std::io::Error| {
            if error.kind() == std::io::ErrorKind::StorageFull {
                UploadError::Full(upload.bytes)
            } else {
                UploadError::Failed(error.to_string())
            }
        };
        let folder = self.uploads.clone();
        let file = tokio::task::spawn_blocking(move || tempfile::NamedTempFile::new_in(folder))
            .await
            .map_err(|error| UploadError::Failed(error.to_string()))?
            .map_err(failed)?;
        let mut writer = tokio::fs::File::create(file.path()).await.map_err(failed)?;
        while let Some(part) = upload.body.next().await {
            writer.write_all(&part?).await.map_err(failed)?;
        }
        writer.flush().await.map_err(failed)?;
        drop(writer);
        let store = Arc::clone(&self.blobs);
        let kept = tokio::task::spawn_blocking(move || store.import_file(file.path()))
            .await
            .map_err(|error| UploadError::Failed(error.to_string()))?;
        let (_, digest) = kept.map_err(|error| match error {
            StoreError::Io { source, .. } if source.kind() == std::io::ErrorKind::StorageFull => {
                failed(source)
            }
            error => UploadError::Failed(error.to_string()),
        })?;
        let digest = blobs::from_pack(digest);
        let told = self.core.input(Input::Host(HostEvent::Context { digest })).await;
        told.map_err(|_| UploadError::Failed("the node is shutting down".into()))?;
        tracing::info!(account = %upload.account.short(), blob = %digest.short(), bytes = upload.bytes, "uploaded");
        Ok(Uploaded {
            digest,
            bytes: upload.bytes,
            held_by: self.own.id,
        })
    }
}

fn stopped(_: super::core::Stopped) -> ReadError {
    ReadError::Failed("the node is shutting down".into())
}

/// The ledger for its operator.
fn ledger_view(node: &Node, counters: BTreeMap<String, u64>) -> LedgerView {
    let (replica, status) = (node.replica(), node.finality());
    let log = replica.log();
    let mut chains: Vec<(&Chain, &[Op])> = log.chains().collect();
    let count = chains.len();
    chains.sort_by_key(|(_, ops)| std::cmp::Reverse(ops.last().map(Op::order)));
    chains.truncate(CHAINS_LISTED_MAX);
    let heads = chains.into_iter().filter_map(|(chain, ops)| {
        let head = ops.last()?;
        Some(HeadView {
            node: chain.node,
            incarnation: format!("{:016x}", chain.incarnation),
            ops: ops.len() as u64,
            final_ops: log.certified_next(chain),
            head: head.id(),
            at_ms: head.body().hlc.ms(),
        })
    });
    let forks = replica.forks().iter().map(|proof| ForkView {
        node: proof.chain.node,
        incarnation: format!("{:016x}", proof.chain.incarnation),
        seq: proof.seq,
    });
    let lag = node
        .heights()
        .map(|(peer, height)| (peer, status.height.saturating_sub(height)));
    let (waiting_ops, waiting_bytes) = replica.waiting();
    LedgerView {
        ops: log.len() as u64,
        tentative: log.tentative() as u64,
        chains: count as u64,
        heads: heads.collect(),
        forks: forks.collect(),
        waiting_ops: waiting_ops as u64,
        waiting_bytes: waiting_bytes as u64,
        lag: lag.collect(),
        counters,
        alarm: node.alarm(),
        finality: finality_view(node, &status),
    }
}

fn finality_view(node: &Node, status: &FinalityStatus) -> FinalityView {
    let counters = [
        ("evidence", status.counters.evidence),
        ("refused", status.counters.refused),
        ("contradicted", status.counters.contradicted),
    ];
    FinalityView {
        height: status.height,
        checkpoint: node.final_cloud().finality.checkpoint,
        time_ms: status.time_ms,
        state_root: data_encoding::HEXLOWER.encode(&status.state),
        witnesses: status.witnesses.iter().map(|it| (it.node, it.weight)).collect(),
        votes: status.votes,
        round: status.round.map(|(round, _)| round),
        waiting: status.waiting as u64,
        counters: counters.map(|(name, count)| (name.to_owned(), count)).into(),
    }
}

/// An op with what became of it.
fn record(node: &Node, op: &Op) -> OpRecord {
    OpRecord {
        op: op.clone(),
        outcomes: node
            .outcomes(op.id())
            .map(<[Outcome]>::to_vec)
            .unwrap_or_default(),
    }
}

fn ops(node: &Node, query: OpsQuery) -> Result<Vec<OpRecord>, ReadError> {
    let log = node.replica().log();
    let cursor = match query.after {
        None => None,
        Some(id) => Some(log.get(&id).ok_or(ReadError::UnknownCursor)?.order()),
    };
    let wanted = |op: &&Op| {
        query.node.is_none_or(|node| op.node() == node)
            && query
                .incarnation
                .is_none_or(|incarnation| op.slot().chain.incarnation == incarnation)
    };
    use std::ops::Bound::{Excluded, Unbounded};
    let found: Vec<OpRecord> = if query.newest_first {
        let range = (Unbounded, cursor.map_or(Unbounded, Excluded));
        log.range(range)
            .rev()
            .filter(wanted)
            .take(query.limit)
            .map(|op| record(node, op))
            .collect()
    } else {
        let range = (cursor.map_or(Unbounded, Excluded), Unbounded);
        log.range(range)
            .filter(wanted)
            .take(query.limit)
            .map(|op| record(node, op))
            .collect()
    };
    Ok(found)
}

/// Checks every signature: the store has checked hashes and links while it read.
fn verify(network: ledger::id::NetworkId, ops: &[Op]) -> VerifyReport {
    let mut report = VerifyReport {
        ops: ops.len() as u64,
        ..VerifyReport::default()
    };
    let mut chains = std::collections::BTreeSet::new();
    let mut checks = Vec::new();
    let fault = |report: &mut VerifyReport, op: OpId, what: String| {
        report.faults += 1;
        if report.first_faults.len() < VERIFY_FAULTS_MAX {
            report.first_faults.push(VerifyFault { op: Some(op), what });
        }
    };
    for op in ops {
        chains.insert(op.slot().chain);
        checks.extend(op.check().map(|check| (op.id(), check)));
        for entry in &op.body().entries {
            let Ok(Report::Carry(carry)) = Report::from_entry(entry) else {
                continue;
            };
            match SignedCommand::decode(network, &carry.command) {
                Ok(command) => {
                    report.commands += 1;
                    checks.push((op.id(), command.check()));
                }
                Err(error) => fault(&mut report, op.id(), error.to_string()),
            }
        }
    }
    report.chains = chains.len() as u64;
    report.signatures = checks.len() as u64;
    for part in checks.chunks(256) {
        let mut seed = [0; 32];
        if getrandom::fill(&mut seed).is_err() {
            // Without randomness a batch could be aimed at: one by one needs none.
            let bad = part.iter().filter(|(_, check)| !ledger::key::verify(check));
            bad.for_each(|(op, _)| fault(&mut report, *op, "a signature does not hold".into()));
            continue;
        }
        let only: Vec<_> = part.iter().map(|(_, check)| check.clone()).collect();
        let held = ledger::key::verify_all(&only, seed);
        for ((op, _), _) in part.iter().zip(held).filter(|(_, holds)| !holds) {
            fault(&mut report, *op, "a signature does not hold".into());
        }
    }
    report
}

/// What is seen now, in the API's words.
fn live_of(snapshot: &Snapshot, names: &NameTable, now_ms: u64) -> Live {
    let observed = &snapshot.observed;
    let mut live = Live::default();
    for (id, seen) in &observed.presences {
        live.nodes.insert(
            *id,
            NodeLive {
                live: observed.is_live(*id, now_ms),
                last_seen_ms: Some(seen.arrived_ms),
                used: seen.presence.used,
                images: seen.presence.images.iter().copied().collect(),
            },
        );
    }
    let mut named: BTreeMap<Ipv6Addr, Vec<String>> = BTreeMap::new();
    for (name, records) in &names.names {
        for address in &records.ipv6 {
            named.entry(*address).or_default().push(name.clone());
        }
    }
    let cloud = &snapshot.cloud;
    for instance in cloud.instances.values() {
        let address = net::address::instance_address(&cloud.network.0, &instance.id.0);
        let mut names = named.remove(&address).unwrap_or_default();
        if let Some(agent) = instance.request.agent.and_then(|agent| cloud.agents.get(&agent)) {
            names.push(format!(
                "{}.{}",
                agent.name,
                ledger::command::domains::VANITY_ZONE
            ));
            names.extend(
                cloud
                    .domains
                    .values()
                    .filter(|domain| domain.agent == agent.id)
                    .map(|domain| domain.name.clone()),
            );
        }
        let held = instance.placement().and_then(|placement| {
            let seen = observed.presences.get(&placement.node)?;
            let live = observed.is_live(placement.node, now_ms);
            let held = seen
                .presence
                .instances
                .iter()
                .find(|held| held.instance == instance.id)?;
            live.then_some((
                held.generation,
                held.healthy && held.generation == placement.generation,
            ))
        });
        live.instances.insert(
            instance.id,
            InstanceLive {
                address: Some(address),
                names,
                generation: held.map(|(generation, _)| generation),
                healthy: held.is_some_and(|(_, healthy)| healthy),
            },
        );
    }
    live
}
