//! What people ask for: accounts, builds, agents, instances, in an order that makes sense often and not
//! always; names that are taken, things of others, nonces used before. A person who got no answer asks again
//! with the same bytes, perhaps at another node.

use ledger::command::accounts::OpenAccount;
use ledger::command::agents::{RegisterAgent, Release, UpdateAgent};
use ledger::command::domains::{ClaimDomain, ReleaseDomain};
use ledger::command::images::BuildImage;
use ledger::command::instances::{DeleteInstance, LaunchInstance, Shape, StartInstance, StopInstance};
use ledger::command::{Body, Command, SignedCommand};
use ledger::id::{AgentId, BuildId, CommandId, Digest, InstanceId, NetworkId, NodeId};
use ledger::key::SecretKey;
use projections::outcome::{Outcome, Void};

use crate::chance::Chance;

/// A person with a key, and what that person believes to have.
#[derive(Debug)]
struct Person {
    secret: SecretKey,
    name: String,
    opened: Option<CommandId>,
    builds: Vec<BuildId>,
    agents: Vec<AgentId>,
    instances: Vec<InstanceId>,
    nonces: Vec<[u8; 16]>,
    last: Option<CommandId>,
}

/// The people of a run.
#[derive(Debug)]
pub struct Workload {
    chance: Chance,
    network: NetworkId,
    people: Vec<Person>,
    made: u64,
}

/// What a person asks next.
#[derive(Debug)]
pub struct Request {
    /// The signed command.
    pub command: SignedCommand,
    /// A context that is uploaded to the asked node first.
    pub upload: Option<Digest>,
}

impl Workload {
    /// People of a network.
    pub fn new(network: NetworkId, mut chance: Chance) -> Self {
        let count = chance.between(1, 4);
        let people = (0..count)
            .map(|index| Person {
                secret: SecretKey::from_seed(chance.bytes()),
                name: format!("person-{index}"),
                opened: None,
                builds: Vec::new(),
                agents: Vec::new(),
                instances: Vec::new(),
                nonces: Vec::new(),
                last: None,
            })
            .collect();
        Self {
            chance,
            network,
            people,
            made: 0,
        }
    }

    /// A person hears what became of a command: whose name was taken chooses another.
    pub fn hear(&mut self, command: CommandId, outcome: &Outcome) {
        let person = self
            .people
            .iter_mut()
            .find(|person| person.opened == Some(command));
        if let (Some(person), Outcome::Void(Void::NameTaken(_))) = (person, outcome) {
            person.opened = None;
            person.name = format!("somebody-{}", self.made);
        }
    }

    /// The next request, asked at a node at a time.
    pub fn next(&mut self, now_ms: u64, at: NodeId) -> Request {
        let chance = &mut self.chance;
        let index = chance.between(0, self.people.len() as u64 - 1) as usize;
        self.made += 1;
        let mut upload = None;
        let body = if self.people[index].opened.is_none() {
            // Two people sometimes want one name.
            let name = if chance.permille(150) {
                "person-0".to_owned()
            } else {
                self.people[index].name.clone()
            };
            Body::OpenAccount(OpenAccount { name })
        } else {
            // A person sometimes asks for what belongs to another.
            let whose = if chance.permille(40) {
                chance.between(0, self.people.len() as u64 - 1) as usize
            } else {
                index
            };
            let agent = chance.pick(&self.people[whose].agents).copied();
            let build = chance.pick(&self.people[whose].builds).copied();
            let instance = chance.pick(&self.people[whose].instances).copied();
            match (chance.between(0, 99), build, agent, instance) {
                (0..=11, ..) | (_, None, ..) => {
                    let context = Digest(chance.bytes());
                    upload = Some(context);
                    Body::BuildImage(BuildImage {
                        name: format!("image-{}", self.made),
                        context,
                        context_bytes: 4096,
                        held_by: at,
                    })
                }
                (12..=21, Some(build), ..) | (_, Some(build), None, _) => {
                    Body::RegisterAgent(RegisterAgent {
                        name: format!("agent-{}", chance.between(0, 9)),
                        release: release(build, chance),
                    })
                }
                (22..=25, Some(build), Some(agent), _) => Body::UpdateAgent(UpdateAgent {
                    agent,
                    release: release(build, chance),
                }),
                (26..=31, _, Some(agent), _) => Body::ClaimDomain(ClaimDomain {
                    name: format!("name-{}.fog", chance.between(0, 4)),
                    agent,
                }),
                (32..=33, ..) => Body::ReleaseDomain(ReleaseDomain {
                    name: format!("name-{}.fog", chance.between(0, 4)),
                }),
                (34..=44, _, _, Some(instance)) => Body::StopInstance(StopInstance { instance }),
                (45..=55, _, _, Some(instance)) => Body::StartInstance(StartInstance { instance }),
                (56..=65, _, _, Some(instance)) => Body::DeleteInstance(DeleteInstance { instance }),
                (_, Some(build), agent, _) => Body::LaunchInstance(LaunchInstance {
                    name: if chance.permille(150) {
                        "web".into()
                    } else {
                        format!("instance-{}", self.made)
                    },
                    agent,
                    build,
                    shape: shape(chance),
                    port: Some(8000),
                }),
            }
        };
        let person = &mut self.people[index];
        let mut nonce = chance.bytes();
        if chance.permille(20) {
            nonce = chance.pick(&person.nonces).copied().unwrap_or(nonce);
        }
        person.nonces.push(nonce);
        let after = person.last.filter(|_| chance.permille(200)).into_iter().collect();
        let command = Command {
            key: person.secret.public(),
            nonce,
            not_after_ms: now_ms + 600_000,
            after,
            body,
        };
        let command = command.sign(self.network, &person.secret);
        let id = command.id();
        person.last = Some(id);
        match &command.command().body {
            Body::OpenAccount(_) => person.opened = Some(id),
            Body::BuildImage(_) => person.builds.push(id.into()),
            Body::RegisterAgent(_) => person.agents.push(id.into()),
            Body::LaunchInstance(_) => person.instances.push(id.into()),
            _ => {}
        }
        Request { command, upload }
    }
}

fn shape(chance: &mut Chance) -> Shape {
    Shape {
        vcpus: chance.between(1, 2) as u8,
        memory_mib: if chance.permille(20) {
            200_000
        } else {
            chance.between(256, 1024) as u32
        },
        disk_gib: 5,
    }
}

fn release(build: BuildId, chance: &mut Chance) -> Release {
    Release {
        description: "simulated".into(),
        build,
        shape: shape(chance),
        port: Some(8000),
    }
}
