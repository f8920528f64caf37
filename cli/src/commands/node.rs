//! `form node`: the life of a node as its operator sees it: set up its folder, get it invited, run it, look
//! at it.
//!
//! ```text
//! the first node:   form key new; form node init --network NAME; form node run
//! every other one:  form node init              (prints its id)
//!                   form node invite ID --peer  (by an admin of the network, anywhere)
//!                   form node init --invitation TEXT; form node run
//! ```

use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use api::views::nodes::{MembershipWord, NodeView, Role};
use api::views::status::StatusView;
use clap::builder::PossibleValuesParser;
use clap::{Args, Subcommand};
use ledger::codec::DecodeError;
use ledger::command::accounts::check_label;
use ledger::finality::witness::WitnessSet;
use ledger::genesis::{Genesis, Invitation, PEERS_MAX, SignedInvitation};
use ledger::id::{AccountId, NodeId};
use ledger::key::PublicKey;
use serde::Serialize;

use crate::exit::{Exit, Failure};
use crate::invocation::Invocation;
use crate::node::config::NodeConfig;
use crate::node::folder::{DEFAULT_FOLDER, NodeFolder, invitation_text, parse_invitation};
use crate::output::{ago, span};
use crate::submit::{now_ms, random_16};

/// Nodes: set one up, invite one, run one, look at them.
#[derive(Debug, Subcommand)]
pub enum NodeCommand {
    /// Set up a node's folder: its key, its settings, and the network that it joins or begins
    Init(InitArgs),
    /// Print the id of the node in a folder; its key is made if there is none yet
    Key(FolderArg),
    /// Sign an invitation for a node; your key must be an admin's
    Invite(InviteArgs),
    /// Run the node of a folder until it is interrupted
    Run(RunArgs),
    /// How the node that answers --api is
    Status,
    /// The network's nodes
    #[command(visible_alias = "ls")]
    List,
}

/// A node's folder.
#[derive(Debug, Args)]
pub struct FolderArg {
    /// The node's folder
    #[arg(long, value_name = "DIR", default_value = DEFAULT_FOLDER)]
    dir: PathBuf,
}

/// `form node init`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  form node init --network home --public-ipv4 192.0.2.10   begin a network; your key is its admin
  form node init --network home --witness A --witness B --witness C --witness D
                                                           begin one that four nodes certify
  form node init                                           make the node's key and print its id
  form node init --invitation form-invite-...              join with what an admin's `node invite` printed")]
pub struct InitArgs {
    #[command(flatten)]
    folder: FolderArg,
    /// Begin a network of this name, with your key as its admin
    #[arg(long, value_name = "NAME", conflicts_with = "invitation")]
    network: Option<String>,
    /// A node that certifies checkpoints, by its id; may be given more than once. One is a sequencer; from four on
    /// the network goes on without any one of them [default: this node]
    #[arg(long, value_name = "NODE_ID", requires = "network")]
    witness: Vec<NodeId>,
    /// A further admin's public key; may be given more than once
    #[arg(long, value_name = "PUBLIC_KEY", requires = "network")]
    admin: Vec<PublicKey>,
    /// How many admins have to agree on what concerns all, such as who certifies
    #[arg(long, value_name = "N", requires = "network", default_value_t = 1)]
    admins_needed: u8,
    /// Join a network with this invitation; `-` reads it from standard input
    #[arg(long, value_name = "TEXT")]
    invitation: Option<String>,
    #[command(flatten)]
    settings: Settings,
}

/// `form node run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    #[command(flatten)]
    folder: FolderArg,
    #[command(flatten)]
    settings: Settings,
}

/// `form node invite`.
#[derive(Debug, Args)]
pub struct InviteArgs {
    /// Id of the node: what `form node key` prints on it
    #[arg(value_name = "NODE_ID")]
    node: NodeId,
    /// Multiaddress of a member, such as /ip4/192.0.2.10/udp/53333/quic-v1; may be given more than once.
    /// Without it: what the live nodes announce
    #[arg(long, value_name = "MULTIADDR", value_parser = multiaddress)]
    peer: Vec<String>,
    /// Read the network from a member's folder on this machine, not from --api
    #[arg(long, value_name = "DIR", requires = "peer")]
    dir: Option<PathBuf>,
}

/// What a node is told at its start. Each flag goes before `node.json`.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Settings of the node")]
pub struct Settings {
    /// A DNS label for people
    #[arg(long, value_name = "NAME", value_parser = label)]
    name: Option<String>,
    /// Multiaddress to listen on for other nodes; may be given more than once
    #[arg(long, value_name = "MULTIADDR", value_parser = multiaddress)]
    listen: Vec<String>,
    /// Multiaddress to announce to other nodes; may be given more than once
    #[arg(long, value_name = "MULTIADDR", value_parser = multiaddress)]
    announce: Vec<String>,
    /// Where DNS is answered; may be given more than once
    #[arg(long, value_name = "ADDR:PORT")]
    dns: Vec<SocketAddr>,
    /// Where the front door listens; may be given more than once
    #[arg(long, value_name = "ADDR:PORT")]
    proxy: Vec<SocketAddr>,
    /// IPv4 address at which clients reach this node's DNS and front door; may be given more than once
    #[arg(long, value_name = "ADDR")]
    public_ipv4: Vec<Ipv4Addr>,
    /// The interface towards the other nodes, which carries the guests' traffic
    #[arg(long, value_name = "IFNAME", value_parser = interface)]
    interface: Option<String>,
    /// Name server for guests and for names that are not ours; may be given more than once
    #[arg(long, value_name = "ADDR")]
    resolver: Vec<IpAddr>,
    /// A part that runs here; may be given more than once [default: all]
    #[arg(long, value_name = "ROLE", value_parser = PossibleValuesParser::new(["gateway", "compute", "builder", "edge", "witness"]))]
    role: Vec<String>,
    /// Id of the account that gets what this node charges [default: none, it charges nothing]
    #[arg(long, value_name = "ACCOUNT_ID")]
    payout: Option<AccountId>,
    /// Virtual processors offered to machines
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    vcpus: Option<u32>,
    /// Memory offered to machines, in MiB
    #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u64).range(1..))]
    memory: Option<u64>,
    /// Disk offered to machines, in GiB
    #[arg(long, value_name = "GIB", value_parser = clap::value_parser!(u64).range(1..))]
    disk: Option<u64>,
    /// Kernels, base images and packages that nodes of one host may share
    #[arg(long, value_name = "DIR")]
    cache: Option<PathBuf>,
}

impl Settings {
    /// Puts what was given in the place of what `config` says.
    fn apply(self, config: &mut NodeConfig) {
        fn list<T>(given: Vec<T>, held: &mut Vec<T>) {
            if !given.is_empty() {
                *held = given;
            }
        }
        list(self.listen, &mut config.listen);
        list(self.announce, &mut config.announce);
        list(self.dns, &mut config.dns);
        list(self.proxy, &mut config.proxy);
        list(self.public_ipv4, &mut config.public_ipv4);
        list(self.resolver, &mut config.resolvers);
        list(self.role, &mut config.roles);
        config.name = self.name.unwrap_or_else(|| std::mem::take(&mut config.name));
        config.interface = self.interface.or(config.interface.take());
        config.payout = self.payout.or(config.payout);
        config.vcpus = self.vcpus.or(config.vcpus);
        config.memory_mib = self.memory.or(config.memory_mib);
        config.disk_gib = self.disk.or(config.disk_gib);
        config.cache = self.cache.unwrap_or_else(|| std::mem::take(&mut config.cache));
    }
}

#[derive(Serialize)]
struct SetUp {
    node: NodeId,
    folder: String,
    network: Option<String>,
    network_name: Option<String>,
}

#[derive(Serialize)]
struct Invited {
    node: NodeId,
    network: String,
    peers: Vec<String>,
    invitation: String,
}

impl NodeCommand {
    /// Does it.
    pub async fn run(self, invocation: &Invocation) -> Result<(), Failure> {
        match self {
            NodeCommand::Init(args) => init(args, invocation),
            NodeCommand::Key(folder) => key(&folder.dir, invocation),
            NodeCommand::Invite(args) => invite(args, invocation).await,
            NodeCommand::Run(args) => run(args, invocation).await,
            NodeCommand::Status => status(invocation).await,
            NodeCommand::List => list(invocation).await,
        }
    }
}

fn init(args: InitArgs, invocation: &Invocation) -> Result<(), Failure> {
    let InitArgs {
        folder: FolderArg { dir },
        network,
        witness,
        admin: further,
        admins_needed,
        invitation,
        settings,
    } = args;
    if let Some(name) = &network {
        label(name).map_err(|message| Failure::new(Exit::Usage, message))?;
    }
    // What can be refused is refused before anything is written.
    let admin = network.as_ref().map(|_| invocation.secret()).transpose()?;
    let invitation = invitation.as_deref().map(read_invitation).transpose()?;
    let api = api_address(invocation)?;

    let folder = NodeFolder::at(&dir)?;
    let held = folder.join("invitation").exists();
    if held && network.is_some() {
        let failure = format!("{} belongs to a network already", dir.display());
        return Err(Failure::new(Exit::Conflict, failure).hint("choose another folder with --dir"));
    }
    let mut config = folder.config()?;
    settings.apply(&mut config);
    config.api = api.unwrap_or(config.api);
    let key = folder.key()?;
    if let Some(invitation) = &invitation {
        check_invitation(invitation, &folder, key.node_id())?;
    }

    let signed = match (network, admin, invitation) {
        (Some(name), Some(admin), _) => {
            let mut admins = vec![admin.public()];
            admins.extend(further.into_iter().filter(|key| *key != admin.public()));
            let witnesses = if witness.is_empty() {
                vec![key.node_id()]
            } else {
                witness
            };
            let wrong = |error: DecodeError| Failure::new(Exit::Usage, format!("no such network: {error}"));
            let genesis = Genesis {
                name,
                admins,
                admins_needed,
                witnesses: WitnessSet::of_equals(witnesses).map_err(wrong)?,
                created_ms: now_ms(),
                salt: random_16()?,
            };
            genesis.check().map_err(wrong)?;
            let invitation = Invitation {
                genesis,
                node: key.node_id(),
                admin: admin.public(),
                peers: Vec::new(),
            };
            Some(invitation.sign(&admin))
        }
        (_, _, invitation) => invitation,
    };
    if let Some(signed) = &signed {
        folder.write_invitation(signed)?;
    }
    folder.write_config(&config)?;

    let genesis = match &signed {
        Some(signed) => Some(signed.invitation.genesis.clone()),
        None if held => Some(folder.invitation()?.invitation.genesis),
        None => None,
    };
    let done = SetUp {
        node: key.node_id(),
        folder: dir.display().to_string(),
        network: genesis.as_ref().map(|genesis| genesis.network().to_string()),
        network_name: genesis.map(|genesis| genesis.name),
    };
    let fields = |done: &SetUp| {
        let network = done.network_name.as_ref().zip(done.network.as_ref());
        let network = network.map_or("none yet".into(), |(name, id)| format!("{name} ({id})"));
        vec![
            ("node", done.node.to_string()),
            ("folder", done.folder.clone()),
            ("network", network),
        ]
    };
    invocation
        .output
        .one(&done, fields, |done| done.node.to_string())?;
    let at = if dir == Path::new(DEFAULT_FOLDER) {
        String::new()
    } else {
        format!(" --dir {}", dir.display())
    };
    invocation.output.note(&match done.network {
        Some(_) => format!("Next: form node run{at}"),
        None => format!(
            "Next: let an admin of the network run\n  form node invite {} --peer MULTIADDR\n\
             and here, with what that prints,\n  form node init{at} --invitation form-invite-...",
            done.node
        ),
    });
    Ok(())
}

fn key(dir: &Path, invocation: &Invocation) -> Result<(), Failure> {
    let node = NodeFolder::at(dir)?.key()?.node_id();
    invocation
        .output
        .value(&serde_json::json!({ "node": node }), |_| node.to_string())
}

async fn invite(args: InviteArgs, invocation: &Invocation) -> Result<(), Failure> {
    let admin = invocation.secret()?;
    let genesis = match &args.dir {
        Some(dir) if dir.join("invitation").exists() => NodeFolder::at(dir)?.invitation()?.invitation.genesis,
        Some(dir) => {
            let failure = format!(
                "{} is not the folder of a member: it holds no invitation",
                dir.display()
            );
            return Err(Failure::new(Exit::NotFound, failure));
        }
        None => invocation.genesis().await?,
    };
    if !genesis.admins.contains(&admin.public()) {
        let key = invocation.key_name();
        let failure = format!("your key `{key}` is no admin of the network `{}`", genesis.name);
        return Err(Failure::new(Exit::Denied, failure)
            .hint("only the key that began the network invites nodes; choose it with `--key NAME`"));
    }
    let peers = if args.peer.is_empty() {
        announced(invocation).await?
    } else {
        args.peer
    };
    if peers.len() > PEERS_MAX {
        return Err(Failure::new(
            Exit::Usage,
            format!("an invitation names at most {PEERS_MAX} peers"),
        ));
    }
    let network = genesis.network().to_string();
    let invitation = Invitation {
        genesis,
        node: args.node,
        admin: admin.public(),
        peers: peers.clone(),
    };
    let text = invitation_text(&invitation.sign(&admin));
    let done = Invited {
        node: args.node,
        network,
        peers,
        invitation: text,
    };
    invocation.output.value(&done, |done| done.invitation.clone())?;
    invocation
        .output
        .note("Next, on that node: form node init --invitation TEXT, with the text above");
    Ok(())
}

/// What the live nodes announce, for an invitation that names no peer itself.
async fn announced(invocation: &Invocation) -> Result<Vec<String>, Failure> {
    let mut peers: Vec<String> = Vec::new();
    for node in invocation.nodes().await?.into_iter().filter(|node| node.live) {
        peers.extend(node.addresses);
    }
    peers.truncate(PEERS_MAX);
    if peers.is_empty() {
        let failure = Failure::new(Exit::Unavailable, "no node announces an address to begin with");
        return Err(failure.hint("name one with --peer /ip4/ADDR/udp/53333/quic-v1"));
    }
    Ok(peers)
}

async fn run(args: RunArgs, invocation: &Invocation) -> Result<(), Failure> {
    let dir = args.folder.dir;
    if !dir.join("invitation").exists() {
        let failure = format!("{} holds no node that may join a network", dir.display());
        return Err(Failure::new(Exit::NotFound, failure).hint(
            "`form node init --network NAME` begins one; `form node init --invitation TEXT` joins one",
        ));
    }
    let folder = NodeFolder::at(&dir)?;
    let mut config = folder.config()?;
    args.settings.apply(&mut config);
    config.api = api_address(invocation)?.unwrap_or(config.api);
    Ok(crate::node::run(folder, config).await?)
}

async fn status(invocation: &Invocation) -> Result<(), Failure> {
    let status = invocation.status().await?;
    let fields = |status: &StatusView| {
        let node = &status.node;
        let roles: Vec<&str> = node.roles.iter().map(|role| role_word(*role)).collect();
        let mut fields = vec![
            ("node", format!("{} ({})", node.name, node.id)),
            ("network", format!("{} ({})", status.network_name, status.network)),
            ("version", node.version.clone()),
            ("roles", roles.join(" ")),
            (
                "up",
                format!("{}, incarnation {}", span(node.uptime_ms), node.incarnation),
            ),
            (
                "ready",
                if node.not_ready.is_empty() {
                    "yes".into()
                } else {
                    node.not_ready.join("; ")
                },
            ),
        ];
        match &node.driver {
            Some(driver) => {
                fields.push((
                    "machines",
                    format!("{} with {}", driver.driver, driver.accelerator),
                ));
                fields.push(("why", driver.why.clone()));
            }
            None => fields.push(("machines", "none run here".into())),
        }
        for (what, addresses) in &node.listens {
            fields.push(("listens", format!("{what}: {}", addresses.join(" "))));
        }
        for peer in &node.peers {
            let name = peer.name.clone().unwrap_or_else(|| peer.id.short());
            let address = peer.address.clone().unwrap_or_else(|| "no address".into());
            let link = if peer.connected {
                "connected"
            } else {
                "not connected"
            };
            let seen = peer.last_seen_ms.map_or("never".into(), |at| ago(at, now_ms()));
            fields.push(("peer", format!("{name} {link}, {address}, heard of {seen}")));
        }
        for (part, counts) in &node.counters {
            // What never happened is left to JSON.
            let counts = counts.iter().filter(|(_, count)| **count > 0);
            let counts: Vec<String> = counts.map(|(what, count)| format!("{what} {count}")).collect();
            if !counts.is_empty() {
                fields.push(("counted", format!("{part}: {}", counts.join(", "))));
            }
        }
        fields
    };
    invocation
        .output
        .one(&status, fields, |status| status.node.id.to_string())
}

async fn list(invocation: &Invocation) -> Result<(), Failure> {
    let nodes = invocation.nodes().await?;
    let row = |node: &NodeView| {
        let of = |used: Option<u64>, all: Option<u64>| match (used, all) {
            (used, Some(all)) => format!("{}/{all}", used.unwrap_or(0)),
            _ => "-".into(),
        };
        let (used, all) = (node.used, node.capacity);
        let roles: Vec<&str> = node.roles.iter().map(|role| role_word(*role)).collect();
        vec![
            node.name.clone().unwrap_or_else(|| "-".into()),
            node.id.short(),
            match node.membership {
                MembershipWord::Member if node.live => "live".into(),
                MembershipWord::Member => "silent".into(),
                ended => ended.as_str().into(),
            },
            node.last_seen_ms.map_or("never".into(), |at| ago(at, now_ms())),
            roles.join(","),
            of(
                used.map(|used| used.vcpus.into()),
                all.map(|all| all.vcpus.into()),
            ),
            of(used.map(|used| used.memory_mib), all.map(|all| all.memory_mib)),
            node.instances.to_string(),
            node.ipv4
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join(","),
        ]
    };
    let header = [
        "NAME",
        "ID",
        "STATE",
        "SEEN",
        "ROLES",
        "VCPUS",
        "MEMORY MIB",
        "INSTANCES",
        "IPV4",
    ];
    invocation
        .output
        .list(&nodes, &header, row, |node| node.id.to_string())
}

pub(crate) fn role_word(role: Role) -> &'static str {
    match role {
        Role::Gateway => "gateway",
        Role::Compute => "compute",
        Role::Builder => "builder",
        Role::Edge => "edge",
        Role::Witness => "witness",
    }
}

/// `--api` as the address where a node listens: `ADDR:PORT`, or the URL that leads there.
fn api_address(invocation: &Invocation) -> Result<Option<SocketAddr>, Failure> {
    let Some(text) = invocation.api_flag() else {
        return Ok(None);
    };
    let address = text.strip_prefix("http://").unwrap_or(text).trim_end_matches('/');
    let parsed = address.parse().map_err(|_| {
        Failure::new(Exit::Usage, format!("`{text}` is no address to listen at"))
            .hint("give an IP address and a port, such as --api 0.0.0.0:3004")
    })?;
    Ok(Some(parsed))
}

/// The invitation of the command line, or of standard input.
fn read_invitation(text: &str) -> Result<SignedInvitation, Failure> {
    const TEXT_BYTES_MAX: u64 = 16 * 1024;
    let mut text = text.to_string();
    if text == "-" {
        text.clear();
        std::io::stdin()
            .take(TEXT_BYTES_MAX)
            .read_to_string(&mut text)
            .map_err(|error| Failure::io("reading the invitation from standard input", &error))?;
    }
    parse_invitation(&text).map_err(|error| Failure::new(Exit::Usage, format!("{error:#}")))
}

/// Whether the invitation lets this node in, and into the network that its folder belongs to.
fn check_invitation(signed: &SignedInvitation, folder: &NodeFolder, node: NodeId) -> Result<(), Failure> {
    let network = signed.invitation.genesis.network();
    if folder.join("invitation").exists() {
        let held = folder.invitation()?.invitation.genesis;
        if held.network() != network {
            let failure = format!("the folder belongs to the network `{}` already", held.name);
            return Err(Failure::new(Exit::Conflict, failure).hint("choose another folder with --dir"));
        }
    }
    signed.verify(network, node).map_err(|error| {
        Failure::new(Exit::Denied, error.to_string()).hint(format!(
            "ask an admin for one: form node invite {node} --peer MULTIADDR"
        ))
    })
}

/// A DNS label, for clap.
pub(crate) fn label(text: &str) -> Result<String, String> {
    check_label(text)
        .map_err(|_| format!("`{text}` is no name: use 1 to 63 of a-z, 0-9 and inner hyphens"))?;
    Ok(text.into())
}

/// What is plainly no multiaddress is refused here; the transport reads the rest.
fn multiaddress(text: &str) -> Result<String, String> {
    let parts: Vec<&str> = text.split('/').collect();
    let fits = matches!(parts.as_slice(),
        ["", "ip4" | "ip6" | "dns" | "dns4" | "dns6", host, "tcp" | "udp", port, ..]
            if !host.is_empty() && port.parse::<u16>().is_ok());
    if fits && text.len() <= 256 {
        Ok(text.into())
    } else {
        Err("a multiaddress is expected, such as /ip4/192.0.2.10/udp/53333/quic-v1".into())
    }
}

/// A name that the kernel gives to an interface.
fn interface(text: &str) -> Result<String, String> {
    let fits = (1..=15).contains(&text.len())
        && !matches!(text, "." | "..")
        && text
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'/' | b':'));
    if fits {
        Ok(text.into())
    } else {
        Err("an interface has 1 to 15 characters, such as eth0".into())
    }
}
