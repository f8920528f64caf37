//! Logs of instances and builds, read at any node: from this host, or asked of the node that holds them.

use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use api::door::{LogChunk, LogError, LogQuery};
use bytes::Bytes;
use ledger::id::{BuildId, InstanceId, NodeId};
use net_gossip::Handle;
use projections::images::BuildState;
use serde::{Deserialize, Serialize};
use vmm::io::machines::Machines;
use vmm::spec::MachineId;

use super::core::Core;

/// Name of the service between nodes.
pub const SERVICE: &str = "log/1";

/// Bytes of an answer, at most.
const CHUNK_BYTES_MAX: usize = 512 * 1024;

/// How long an answer may keep the asker waiting, at most.
const WAIT_MS_MAX: u64 = 20_000;

const REQUEST_BYTES_MAX: usize = 128;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Which {
    Instance([u8; 32]),
    Build([u8; 32]),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Ask {
    which: Which,
    from: Option<u64>,
    max: u64,
    wait_ms: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Answer {
    Chunk { from: u64, bytes: Vec<u8>, ended: bool },
    None,
}

/// Reads logs here and elsewhere.
#[derive(Clone)]
pub struct Logs {
    /// This node.
    pub node: NodeId,
    /// The core.
    pub core: Core,
    /// The transport.
    pub gossip: Handle,
    /// The machines, on a node that runs them.
    pub machines: Option<Arc<Machines>>,
    /// The folder of builds' logs.
    pub builds: PathBuf,
}

impl Logs {
    /// Where a build's log is written on the node that builds.
    pub fn build_log(&self, build: BuildId) -> PathBuf {
        self.builds.join(format!("{build}.log"))
    }

    /// What an instance wrote.
    pub async fn instance(&self, id: InstanceId, query: LogQuery) -> Result<LogChunk, LogError> {
        let holder = self
            .core
            .snapshot()
            .cloud
            .instances
            .get(&id)
            .and_then(|instance| instance.placement().copied());
        let holder = holder.ok_or(LogError::None)?.node;
        self.read(holder, Which::Instance(id.0), query).await
    }

    /// What a build wrote.
    pub async fn build(&self, id: BuildId, query: LogQuery) -> Result<LogChunk, LogError> {
        let cloud = Arc::clone(&self.core.snapshot().cloud);
        let build = cloud.builds.get(&id).ok_or(LogError::None)?;
        match &build.state {
            BuildState::Built { by, .. } | BuildState::Failed { by, .. } => {
                self.read(*by, Which::Build(id.0), query).await
            }
            // Whoever builds it has its beginning already.
            BuildState::Asked => {
                for node in [self.node]
                    .into_iter()
                    .chain(self.gossip.peers().iter().map(|peer| NodeId(peer.node)))
                {
                    match self
                        .read(node, Which::Build(id.0), LogQuery { wait_ms: 0, ..query })
                        .await
                    {
                        Ok(chunk) => return Ok(chunk),
                        Err(LogError::None | LogError::Unreachable(_)) => {}
                        Err(error) => return Err(error),
                    }
                }
                Err(LogError::None)
            }
        }
    }

    async fn read(&self, holder: NodeId, which: Which, query: LogQuery) -> Result<LogChunk, LogError> {
        let ask = Ask {
            which,
            from: query.from,
            max: query.max.min(CHUNK_BYTES_MAX) as u64,
            wait_ms: query.wait_ms.min(WAIT_MS_MAX),
        };
        let answer = if holder == self.node {
            self.here(ask).await?
        } else {
            let limit = Duration::from_millis(ask.wait_ms + 10_000);
            let request = ledger::codec::encode(&ask);
            let bytes = match self.gossip.request(holder.0, SERVICE, request, limit).await {
                Ok(bytes) => bytes,
                Err(net_gossip::RequestError::Refused(why)) => return Err(LogError::Failed(why)),
                Err(_) => return Err(LogError::Unreachable(holder)),
            };
            ledger::codec::decode(&bytes, CHUNK_BYTES_MAX + 64, "a part of a log")
                .map_err(|error| LogError::Failed(error.to_string()))?
        };
        match answer {
            Answer::Chunk { from, bytes, ended } => Ok(LogChunk {
                from,
                bytes: Bytes::from(bytes),
                ended,
            }),
            Answer::None => Err(LogError::None),
        }
    }

    /// Answers another node's request. Nodes trust each other with logs: the asker has checked whose
    /// request it is.
    pub async fn serve(&self, request: Vec<u8>) -> Result<Vec<u8>, String> {
        let ask: Ask = ledger::codec::decode(&request, REQUEST_BYTES_MAX, "a request for a log")
            .map_err(|error| error.to_string())?;
        let bounded = Ask {
            max: ask.max.min(CHUNK_BYTES_MAX as u64),
            wait_ms: ask.wait_ms.min(WAIT_MS_MAX),
            ..ask
        };
        let answer = self.here(bounded).await.map_err(|error| error.to_string())?;
        Ok(ledger::codec::encode(&answer))
    }

    async fn here(&self, ask: Ask) -> Result<Answer, LogError> {
        let deadline = Instant::now() + Duration::from_millis(ask.wait_ms);
        loop {
            let answer = match ask.which {
                Which::Instance(id) => self.machine_log(MachineId(id), ask).await?,
                Which::Build(id) => self.build_file(BuildId(id), ask).await?,
            };
            let waits = matches!(&answer, Answer::Chunk { bytes, ended: false, .. } if bytes.is_empty());
            if !waits || Instant::now() >= deadline {
                return Ok(answer);
            }
            tokio::time::sleep(Duration::from_millis(150)).await;
        }
    }

    async fn machine_log(&self, id: MachineId, ask: Ask) -> Result<Answer, LogError> {
        let Some(machines) = &self.machines else {
            return Ok(Answer::None);
        };
        let alive = machines
            .list()
            .iter()
            .any(|status| status.id == id && status.state.is_alive());
        match machines.logs(id, ask.from, ask.max as usize).await {
            Ok(chunk) => {
                let ended = chunk.bytes.is_empty() && !alive;
                Ok(Answer::Chunk {
                    from: chunk.offset,
                    bytes: chunk.bytes,
                    ended,
                })
            }
            Err(vmm::io::machines::LogError::Unknown) => Ok(Answer::None),
            Err(error) => Err(LogError::Failed(error.to_string())),
        }
    }

    async fn build_file(&self, id: BuildId, ask: Ask) -> Result<Answer, LogError> {
        let path = self.build_log(id);
        let running = self.core.snapshot().observed.building.contains_key(&id);
        let read = tokio::task::spawn_blocking(move || read_file(&path, ask.from, ask.max));
        let read = read
            .await
            .map_err(|_| LogError::Failed("a thread that read a log died".into()))?;
        match read {
            Ok((from, bytes)) => {
                let ended = bytes.is_empty() && !running;
                Ok(Answer::Chunk { from, bytes, ended })
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Answer::None),
            Err(error) => Err(LogError::Failed(error.to_string())),
        }
    }
}

fn read_file(path: &Path, from: Option<u64>, max: u64) -> std::io::Result<(u64, Vec<u8>)> {
    let mut file = std::fs::File::open(path)?;
    let length = file.metadata()?.len();
    let from = from.unwrap_or(length.saturating_sub(max)).min(length);
    file.seek(SeekFrom::Start(from))?;
    let mut bytes = Vec::new();
    file.take(max).read_to_end(&mut bytes)?;
    Ok((from, bytes))
}
