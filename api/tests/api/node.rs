//! A small node in memory behind the API: the real ledger and the real fold, one chain, no disk, no peers.
//! What only a whole node has (logs, uploads, presences) is a map that a test fills.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use api::client::{Client, ClientError, WaitFor};
use api::door::*;
use api::problem::ErrorCode;
use api::views::commands::CommandAnswer;
use api::views::ledger::LedgerView;
use api::views::nodes::Role;
use api::views::status::{NodeStatus, VerifyReport};
use api::{Limits, Server, serve_with};
use bytes::Bytes;
use futures::StreamExt;
use ledger::clock::Clock;
use ledger::command::{Body, Command, SignedCommand};
use ledger::entry::Entry;
use ledger::genesis::{Genesis, Invitation};
use ledger::id::{BuildId, Digest, InstanceId, NetworkId, NodeId, OpId};
use ledger::key::SecretKey;
use ledger::op::{Body as OpBody, Chain, Op, Slot};
use ledger::report::nodes::{AnnounceNode, Capacity, OpenChain, Roles};
use ledger::report::{Carry, Report};
use projections::cloud::Cloud;
use projections::fold::Fold;
use tokio::sync::watch;

pub(crate) const INCARNATION: u64 = 0xabcd;

/// A secret key of a test.
pub(crate) fn key(seed: u8) -> SecretKey {
    SecretKey::from_seed([seed; 32])
}

pub(crate) fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64
}

struct State {
    fold: Fold,
    clock: Clock,
    seq: u64,
    previous: OpId,
    journal: Vec<JournalEntry>,
}

/// The node in memory.
pub(crate) struct Memory {
    pub(crate) secret: SecretKey,
    pub(crate) network: NetworkId,
    state: Mutex<State>,
    end: watch::Sender<u64>,
    pub(crate) live: Mutex<Live>,
    /// What instances wrote.
    pub(crate) logs: Mutex<BTreeMap<InstanceId, (Vec<u8>, bool)>>,
    /// What was uploaded whole.
    pub(crate) uploads: Mutex<Vec<Vec<u8>>>,
    /// Uploads that did not end well.
    pub(crate) broken_uploads: Mutex<Vec<BodyError>>,
    /// Submissions so far.
    pub(crate) submissions: AtomicUsize,
    /// How long a submission takes.
    pub(crate) delay: Duration,
    /// The next submissions fail so.
    pub(crate) refuse: Mutex<Option<SubmitError>>,
    /// Offsets below are pruned.
    pub(crate) pruned: Mutex<u64>,
}

impl Memory {
    pub(crate) fn new(delay: Duration) -> Arc<Self> {
        let secret = key(200);
        let genesis = Genesis {
            name: "test".into(),
            admins: vec![key(201).public()],
            admins_needed: 1,
            witnesses: Default::default(),
            created_ms: now_ms(),
            salt: [1; 16],
        };
        let network = genesis.network();
        let invitation = Invitation {
            genesis: genesis.clone(),
            node: secret.node_id(),
            admin: key(201).public(),
            peers: vec![],
        };
        let state = State {
            fold: Fold::new(genesis),
            clock: Clock::default(),
            seq: 0,
            previous: OpId([0; 32]),
            journal: vec![],
        };
        let memory = Arc::new(Self {
            network,
            state: Mutex::new(state),
            end: watch::Sender::new(0),
            live: Mutex::default(),
            logs: Mutex::default(),
            uploads: Mutex::default(),
            broken_uploads: Mutex::default(),
            submissions: AtomicUsize::new(0),
            delay,
            refuse: Mutex::default(),
            pruned: Mutex::default(),
            secret,
        });
        let invitation = invitation.sign(&key(201)).bytes().to_vec();
        memory.report(OpenChain {
            invitation,
            before: None,
        });
        memory.report(AnnounceNode {
            name: "one".into(),
            roles: Roles {
                gateway: true,
                compute: true,
                builder: false,
                edge: false,
                witness: false,
            },
            addresses: vec!["/ip4/127.0.0.1/tcp/1".into()],
            ipv4: vec![[127, 0, 0, 1].into()],
            capacity: Capacity {
                vcpus: 4,
                memory_mib: 4096,
                disk_gib: 40,
            },
            payout: None,
        });
        memory
    }

    /// Appends a report of the node's own.
    pub(crate) fn report(&self, report: impl Into<Report>) -> OpId {
        self.append(vec![report.into().to_entry()])
    }

    /// Appends an op and folds it.
    pub(crate) fn append(&self, entries: Vec<Entry>) -> OpId {
        let mut state = self.state.lock().unwrap();
        let hlc = state.clock.tick(now_ms());
        let chain = Chain {
            node: self.secret.node_id(),
            incarnation: INCARNATION,
        };
        let slot = Slot {
            chain,
            seq: state.seq,
            previous: state.previous,
        };
        let op = Op::sign(
            self.network,
            slot,
            OpBody {
                hlc,
                dependencies: vec![],
                entries,
            },
            &self.secret,
        );
        (state.seq, state.previous) = (state.seq + 1, op.id());
        for change in state.fold.apply(vec![op.clone()]) {
            let offset = state.journal.len() as u64;
            let told = EntryTold {
                op: op.clone(),
                entry: change.entry as usize,
                outcome: change.outcome,
                turned: change.turned,
            };
            state.journal.push(JournalEntry {
                offset,
                told: Told::Entry(told),
            });
        }
        self.end.send_replace(state.journal.len() as u64);
        op.id()
    }
}

impl Door for Memory {
    fn submit(&self, command: SignedCommand, wait: Wait) -> Answer<'_, Result<Submitted, SubmitError>> {
        Box::pin(async move {
            self.submissions.fetch_add(1, Ordering::SeqCst);
            if let Some(error) = self.refuse.lock().unwrap().clone() {
                return Err(error);
            }
            tokio::time::sleep(self.delay).await;
            let op = self.append(vec![
                Report::from(Carry {
                    command: command.bytes().to_vec(),
                })
                .to_entry(),
            ]);
            let outcome = self
                .state
                .lock()
                .unwrap()
                .fold
                .outcomes(op)
                .map(|outcomes| outcomes[0].clone());
            let outcome = outcome.filter(|_| wait != Wait::Durable);
            Ok(Submitted {
                id: command.id(),
                op,
                position: self.cloud().position,
                outcome,
            })
        })
    }

    fn cloud(&self) -> Arc<Cloud> {
        self.state.lock().unwrap().fold.cloud()
    }

    fn live(&self) -> Arc<Live> {
        Arc::new(self.live.lock().unwrap().clone())
    }

    fn status(&self) -> NodeStatus {
        NodeStatus {
            id: self.secret.node_id(),
            name: "one".into(),
            version: "0".into(),
            incarnation: format!("{INCARNATION:016x}"),
            roles: vec![Role::Gateway],
            uptime_ms: 1,
            not_ready: vec![],
            listens: BTreeMap::new(),
            peers: vec![],
            driver: None,
            counters: BTreeMap::from([("ledger".into(), BTreeMap::from([("admitted".into(), 7)]))]),
        }
    }

    fn final_cloud(&self) -> Arc<Cloud> {
        self.state.lock().unwrap().fold.final_cloud()
    }

    fn ledger(&self) -> Answer<'_, Result<LedgerView, ReadError>> {
        Box::pin(async move { Err(ReadError::Busy) })
    }

    fn journal(&self, from: u64, max: usize) -> Answer<'_, Result<Vec<JournalEntry>, ReadError>> {
        Box::pin(async move {
            let pruned = *self.pruned.lock().unwrap();
            if from < pruned {
                return Err(ReadError::Pruned(pruned));
            }
            let state = self.state.lock().unwrap();
            Ok(state
                .journal
                .iter()
                .skip(from as usize)
                .take(max)
                .cloned()
                .collect())
        })
    }

    fn journal_end(&self) -> watch::Receiver<u64> {
        self.end.subscribe()
    }

    fn ops(&self, query: OpsQuery) -> Answer<'_, Result<Vec<OpRecord>, ReadError>> {
        Box::pin(async move {
            let state = self.state.lock().unwrap();
            let mut ops: Vec<_> = state
                .fold
                .ops()
                .iter()
                .map(|folded| OpRecord {
                    op: folded.op.clone(),
                    outcomes: folded.outcomes.to_vec(),
                })
                .filter(|record| query.node.is_none_or(|node| record.op.node() == node))
                .filter(|record| {
                    query
                        .incarnation
                        .is_none_or(|wanted| record.op.slot().chain.incarnation == wanted)
                })
                .collect();
            if query.newest_first {
                ops.reverse();
            }
            let skip = match query.after {
                None => 0,
                Some(id) => {
                    1 + ops
                        .iter()
                        .position(|record| record.op.id() == id)
                        .ok_or(ReadError::UnknownCursor)?
                }
            };
            Ok(ops.into_iter().skip(skip).take(query.limit).collect())
        })
    }

    fn op(&self, id: OpId) -> Answer<'_, Result<Option<OpRecord>, ReadError>> {
        Box::pin(async move {
            let state = self.state.lock().unwrap();
            let outcomes = state.fold.outcomes(id).unwrap_or_default().to_vec();
            Ok(state.fold.op(id).map(|op| OpRecord {
                op: op.clone(),
                outcomes,
            }))
        })
    }

    fn export(&self) -> Answer<'_, Result<Bytes, ReadError>> {
        let network = self.network;
        let file = ledger::export::encode(network, &[], &[], &[]);
        Box::pin(async move { Ok(file.into()) })
    }

    fn verify(&self) -> Answer<'_, Result<VerifyReport, ReadError>> {
        Box::pin(async move {
            let ops = self.state.lock().unwrap().fold.ops().len() as u64;
            Ok(VerifyReport {
                ops,
                chains: 1,
                ..VerifyReport::default()
            })
        })
    }

    fn upload(&self, mut upload: Upload) -> Answer<'_, Result<Uploaded, UploadError>> {
        Box::pin(async move {
            let mut whole = Vec::new();
            while let Some(bytes) = upload.body.next().await {
                match bytes {
                    Ok(bytes) => whole.extend_from_slice(&bytes),
                    Err(error) => {
                        self.broken_uploads.lock().unwrap().push(error.clone());
                        return Err(error.into());
                    }
                }
            }
            let digest = Digest(ledger::id::hash("test", &[&whole]));
            self.uploads.lock().unwrap().push(whole);
            Ok(Uploaded {
                digest,
                bytes: upload.bytes,
                held_by: self.secret.node_id(),
            })
        })
    }

    fn instance_log(&self, id: InstanceId, query: LogQuery) -> Answer<'_, Result<LogChunk, LogError>> {
        Box::pin(async move {
            let logs = self.logs.lock().unwrap();
            let (bytes, ended) = logs.get(&id).ok_or(LogError::None)?;
            let from = query
                .from
                .map_or(bytes.len().saturating_sub(query.max), |from| from as usize);
            let part: Vec<u8> = bytes.iter().skip(from).take(query.max).copied().collect();
            let ended = *ended && from + part.len() >= bytes.len();
            Ok(LogChunk {
                from: from as u64,
                bytes: part.into(),
                ended,
            })
        })
    }

    fn build_log(&self, _: BuildId, _: LogQuery) -> Answer<'_, Result<LogChunk, LogError>> {
        Box::pin(async { Err(LogError::Unreachable(NodeId([9; 32]))) })
    }
}

/// A node and its API on loopback.
pub(crate) struct World {
    pub(crate) node: Arc<Memory>,
    pub(crate) url: String,
    pub(crate) address: std::net::SocketAddr,
    pub(crate) client: Client,
    pub(crate) server: Server,
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::with(Limits::default(), Duration::ZERO).await
    }

    pub(crate) async fn with(limits: Limits, delay: Duration) -> Self {
        let node = Memory::new(delay);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let url = format!("http://{address}");
        let server = serve_with(vec![listener], Arc::clone(&node) as Arc<dyn Door>, limits);
        let client = Client::new(&url).unwrap();
        Self {
            node,
            url,
            address,
            client,
            server,
        }
    }

    pub(crate) fn client_of(&self, seed: u8) -> Client {
        Client::new(&self.url).unwrap().with_key(key(seed))
    }

    /// A command of the key with this seed, valid for a minute.
    pub(crate) fn command(&self, seed: u8, nonce: u64, body: impl Into<Body>) -> SignedCommand {
        self.command_till(seed, nonce, now_ms() + 60_000, body)
    }

    pub(crate) fn command_till(
        &self,
        seed: u8,
        nonce: u64,
        not_after_ms: u64,
        body: impl Into<Body>,
    ) -> SignedCommand {
        let mut wide = [0; 16];
        wide[..8].copy_from_slice(&nonce.to_le_bytes());
        let body = body.into();
        let command = Command {
            key: key(seed).public(),
            nonce: wide,
            not_after_ms,
            after: vec![],
            body,
        };
        command.sign(self.node.network, &key(seed))
    }

    pub(crate) async fn submit(
        &self,
        seed: u8,
        nonce: u64,
        body: impl Into<Body>,
    ) -> Result<CommandAnswer, ClientError> {
        let command = self.command(seed, nonce, body);
        self.client.submit(&command, WaitFor::Tentative).await
    }

    /// Posts bytes as they are.
    pub(crate) async fn post(&self, path: &str, body: impl Into<reqwest::Body>) -> reqwest::Response {
        reqwest::Client::new()
            .post(format!("{}{path}", self.url))
            .body(body)
            .send()
            .await
            .unwrap()
    }

    pub(crate) async fn get(&self, path: &str) -> reqwest::Response {
        reqwest::get(format!("{}{path}", self.url)).await.unwrap()
    }
}

/// The code of a refusal.
pub(crate) fn code<T: std::fmt::Debug>(result: Result<T, ClientError>) -> (ErrorCode, u16) {
    match result {
        Err(ClientError::Problem(problem)) => {
            assert!(!problem.request_id.is_empty(), "a problem names its request");
            assert!(!problem.detail.is_empty());
            (problem.code, problem.status)
        }
        other => panic!("a refusal was expected, this came: {other:?}"),
    }
}

/// Bytes of a length.
pub(crate) fn filler(length: usize) -> Bytes {
    (0..length).map(|index| (index % 251) as u8).collect()
}
