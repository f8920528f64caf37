//! Puts the parts of a node together and runs them until it is asked to end.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use api::views::nodes::Role;
use arc_swap::ArcSwap;
use ledger::admit::Verify;
use ledger::fork::ForkProof;
use ledger::id::{NetworkId, NodeId};
use ledger::io::store::{Store, StoreError};
use ledger::report::nodes::AnnounceNode;
use net::fronts::FrontTable;
use net::names::NameTable;
use net::prefix::Prefix;
use net_dns::{Dns, DnsConfig, DnsServer};
use net_gossip::{Event, Handle};
use net_mesh::{Mesh, MeshConfig};
use net_proxy::{Proxy, ProxyConfig, ProxyServer};
use pack::io::build::Builder;
use pack::io::store::BlobStore;
use reactors::me::Me;
use reactors::node::{Held, Input, Node, Setup, TICK_MS};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinSet;
use vmm::io::machines::{Machines, MachinesConfig};

use super::config::NodeConfig;
use super::core::{self, Core, now_ms};
use super::door::{NodeDoor, Own, upload_turns};
use super::folder::NodeFolder;
use super::hands::{Hands, Outlet};
use super::logs::Logs;
use super::{blobs, host, logs};

/// Builds that run here at once.
const BUILDS_MAX: usize = 1;

/// How often a node that has no peer tries those that its invitation names.
const DIAL_EVERY: Duration = Duration::from_secs(2);

/// How long requests under way may take when the node ends.
const DRAIN_LIMIT: Duration = Duration::from_secs(5);

/// How long the core may take to write what it has taken in.
const STOP_LIMIT: Duration = Duration::from_secs(10);

/// Runs a node until SIGTERM or Ctrl-C.
pub async fn run(folder: NodeFolder, config: NodeConfig) -> Result<()> {
    let started = Instant::now();
    let mut signals = Signals::listen()?;
    let secret = folder.key()?;
    let id = secret.node_id();
    let invitation = folder.invitation()?;
    let genesis = invitation.invitation.genesis.clone();
    let network = genesis.network();
    let (mut roles, mut role_list) = host::roles(&config.roles).context("reading the roles of node.json")?;
    let capacity = host::capacity(&config, &folder.join("."))?;
    let mut lacks = Vec::new();
    if roles.builder
        && let Err(error) = Builder::check_host()
    {
        // Others must not wait for builds that this host cannot do.
        roles.builder = false;
        role_list.retain(|role| *role != Role::Builder);
        lacks.push(format!("it builds no images: {error}"));
        tracing::warn!("no images are built here: {error}");
    }

    let ledger_folder = folder.join("ledger");
    let (store, loaded) = tokio::task::spawn_blocking(move || {
        let place = ledger_folder.display();
        let store = Store::open(&ledger_folder).map_err(|error| match error {
            // These say themselves what to do.
            StoreError::InUse(_) | StoreError::OtherFormat { .. } => anyhow::Error::new(error),
            error => anyhow::Error::new(error).context(format!(
                "opening the ledger in {place} (if the disk has damaged it, move that folder away and start \
                 again: the node fetches the ops from its peers)"
            )),
        })?;
        let loaded = store
            .load(network)
            .with_context(|| format!("reading the ledger in {place}"))?;
        Ok::<_, anyhow::Error>((store, loaded))
    })
    .await??;
    tracing::info!(node = %id, network = %genesis.name, ops = loaded.ops.len(), "the ledger is open");
    for damaged in &loaded.damaged {
        tracing::error!("{damaged}; the rest of the chain is fetched from peers");
    }
    if loaded.lost_records > 0 {
        let lost = loaded.lost_records;
        tracing::error!(
            "the disk has lost the last {lost} journal records and the ops that they tell of, which were \
             acknowledged: what no peer has is gone"
        );
    }

    let transport = net_gossip::Config::new(folder.seed()?, network.0, config.listen.clone());
    let (gossip, events) = net_gossip::start(transport)
        .await
        .context("starting the transport between nodes")?;
    let blobs = {
        let path = folder.join("blobs");
        Arc::new(
            tokio::task::spawn_blocking(move || BlobStore::open(path))
                .await?
                .context("opening the store of blobs")?,
        )
    };
    let builder = if roles.builder {
        let path = config.cache.join("builder");
        let opened = tokio::task::spawn_blocking(move || Builder::open(&path)).await?;
        Some(Arc::new(opened.context("opening the builder")?))
    } else {
        None
    };
    let (machines, machine_events) = if roles.compute {
        let (machines, events) = open_machines(&folder, &config).await?;
        (Some(Arc::new(machines)), Some(events))
    } else {
        (None, None)
    };
    let mesh = if roles.compute || config.interface.is_some() {
        match Mesh::open(MeshConfig::default()).await {
            Ok(mesh) => Some(mesh),
            Err(error) => {
                let why = format!("links and routes for guests cannot be set here: {error}");
                tracing::warn!("{why}");
                lacks.push(why);
                None
            }
        }
    } else {
        None
    };

    let announce = AnnounceNode {
        name: config.name.clone(),
        roles,
        addresses: announced(&config, &gossip),
        ipv4: host::public_ipv4(&config),
        capacity,
        payout: config.payout,
    };
    let mut random = [0; 40];
    getrandom::fill(&mut random).context("asking the system for random bytes")?;
    let (incarnation, seed) = random.split_at(8);
    let forks = loaded.forks.iter().map(|(_, proof)| ForkProof::decode(proof));
    let forks = forks
        .collect::<Result<Vec<_>, _>>()
        .context("reading the proofs of forks")?;
    let setup = Setup {
        replica: ledger::replica::Setup {
            genesis,
            invitation: invitation.clone(),
            secret,
            incarnation: u64::from_le_bytes(incarnation.try_into().expect("split at 8")),
            seed: seed.try_into().expect("32 of 40 remain"),
            verify: Verify::Real,
        },
        stored: Held {
            ops: loaded.ops,
            certificates: loaded.certificates,
            votes: loaded.votes,
            forks,
        },
        journal_next: store.next_offset(),
        me: Me {
            node: id,
            roles,
            interface: config.interface.clone(),
            resolvers: guest_resolvers(&config),
            capacity,
            builds_max: BUILDS_MAX,
        },
        announce,
    };
    let (node, first) = tokio::task::spawn_blocking(move || Node::open(setup, now_ms())).await??;
    let (actions, todo) = mpsc::unbounded_channel();
    let outlet = Outlet {
        gossip: gossip.clone(),
        actions,
    };
    let (core, mut running) = core::start(store, node, first, Box::new(outlet))?;

    let builds = folder.join("builds");
    let uploads = folder.join("uploads");
    std::fs::create_dir_all(&builds).with_context(|| format!("making {}", builds.display()))?;
    // What was being uploaded when the node was killed is of no use to anyone.
    match std::fs::remove_dir_all(&uploads) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("emptying {}", uploads.display()));
        }
        _ => std::fs::create_dir(&uploads).with_context(|| format!("making {}", uploads.display()))?,
    }
    let logs = Logs {
        node: id,
        core: core.clone(),
        gossip: gossip.clone(),
        machines: machines.clone(),
        builds,
    };
    let names = Arc::new(ArcSwap::from_pointee(net::names::NameTable::default()));
    let fronts = Arc::new(ArcSwap::from_pointee(net::fronts::FrontTable::default()));
    let (taps, _) = watch::channel(BTreeSet::new());
    let (guest_tables, guests) = watch::channel(None);
    let hands = Arc::new(Hands {
        core: core.clone(),
        gossip: gossip.clone(),
        blobs: Arc::clone(&blobs),
        builder,
        machines: machines.clone(),
        mesh,
        names: Arc::clone(&names),
        fronts: Arc::clone(&fronts),
        logs: logs.clone(),
        taps,
        guest_tables,
        refused_starts: Mutex::new(BTreeMap::new()),
    });
    let mut vital = JoinSet::new();
    vital.spawn(named("the hands", Arc::clone(&hands).run(todo)));
    vital.spawn(named(
        "what sets links and routes",
        Arc::clone(&hands).keep_guests(guests),
    ));
    hands
        .tell_all()
        .await
        .context("looking at what this host holds")?;
    if let Some(mut events) = machine_events {
        let hands = Arc::clone(&hands);
        vital.spawn(named("what watches the machines", async move {
            while let Some(status) = events.recv().await {
                hands.tell_machine(status).await;
            }
        }));
    }
    vital.spawn(named(
        "what hears other nodes",
        hear(events, core.clone(), Arc::clone(&blobs), logs.clone()),
    ));
    vital.spawn(named("the ticking", tick(core.clone())));
    let first_peers = invitation.invitation.peers.clone();
    vital.spawn(named(
        "the search for peers",
        find_peers(gossip.clone(), first_peers, id),
    ));

    let mut listens = BTreeMap::new();
    listens.insert("gossip".to_owned(), gossip.listen_addresses());
    let own_addresses = host::public_ipv4(&config).into_iter().map(IpAddr::V4).collect();
    let dns = serve_dns(&config, roles.edge, network, own_addresses, &names).await?;
    let proxy = serve_proxy(&config, roles.edge, &fronts).await?;
    if roles.edge {
        listens.insert(
            "dns".to_owned(),
            config.dns.iter().map(ToString::to_string).collect(),
        );
        listens.insert(
            "proxy".to_owned(),
            config.proxy.iter().map(ToString::to_string).collect(),
        );
    }
    let api = if roles.gateway {
        listens.insert("api".to_owned(), vec![config.api.to_string()]);
        let listener = tokio::net::TcpListener::bind(config.api)
            .await
            .with_context(|| format!("listening at {} for the API", config.api))?;
        let own = Own {
            id,
            name: config.name.clone(),
            roles: role_list,
            started,
            listens,
            lacks,
        };
        let door = Arc::new(NodeDoor {
            core: core.clone(),
            gossip: gossip.clone(),
            logs,
            blobs,
            machines: machines.clone(),
            names,
            own,
            uploads,
            upload_turns: upload_turns(),
            verify_turn: Semaphore::new(1),
            live: Mutex::new(None),
        });
        Some(api::serve(listener, door))
    } else {
        None
    };
    if let Some(machines) = machines {
        // The first machine should not have to wait for the kernel to be unpacked.
        tokio::spawn(async move {
            match machines.prepare().await {
                Ok(kernel) => tracing::info!(kernel, "the kernel for guests is ready"),
                Err(error) => tracing::warn!("no kernel for guests yet: {error}"),
            }
        });
    }
    tracing::info!(name = %config.name, api = %config.api, "the node runs");

    match wait_for_the_end(&mut signals, &mut running, &mut vital).await {
        End::Asked => {
            tracing::info!("the node was asked to end; asked again, it does not wait for what is under way")
        }
        End::Core => {
            running.join().await?;
            bail!("the node's core stopped by itself");
        }
        End::Task(what) => {
            // Most parts end when the core does, and then the core's fault is the one to tell.
            if tokio::time::timeout(Duration::from_secs(1), running.ended())
                .await
                .is_ok()
            {
                running.join().await?;
            }
            bail!("a part of the node ended: {what}");
        }
    }
    let drain = async {
        let api = async {
            if let Some(api) = api {
                let _ = tokio::time::timeout(DRAIN_LIMIT, api.stop()).await;
            }
        };
        let proxy = async {
            if let Some(proxy) = proxy {
                proxy.shutdown(DRAIN_LIMIT).await;
            }
        };
        let dns = async {
            if let Some(dns) = dns {
                let _ = tokio::time::timeout(DRAIN_LIMIT, dns.shutdown()).await;
            }
        };
        tokio::join!(api, proxy, dns);
    };
    tokio::select! {
        () = drain => {}
        () = signals.next() => tracing::warn!("asked again: what is under way is broken off"),
    }
    // What was taken in is written whole before the process ends.
    core.stop().await;
    match tokio::time::timeout(STOP_LIMIT, running.join()).await {
        Ok(ended) => ended?,
        Err(_) => bail!("the node's core did not end within {} s", STOP_LIMIT.as_secs()),
    }
    gossip.shutdown().await;
    // Machines go on: the next start finds them.
    tracing::info!("the node ends");
    Ok(())
}

/// SIGTERM and Ctrl-C.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn listen() -> Result<Self> {
        let terminate = signal(SignalKind::terminate()).context("listening for SIGTERM")?;
        let interrupt = signal(SignalKind::interrupt()).context("listening for Ctrl-C")?;
        Ok(Self { terminate, interrupt })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Why the node stops running.
enum End {
    /// It was asked to.
    Asked,
    /// Its core ended, which it does by itself only for a fault.
    Core,
    /// A task without which it is no node ended or died.
    Task(&'static str),
}

/// Waits for a signal, or for a part to fail.
async fn wait_for_the_end(
    signals: &mut Signals,
    core: &mut core::Running,
    vital: &mut JoinSet<&'static str>,
) -> End {
    tokio::select! {
        () = signals.next() => End::Asked,
        () = core.ended() => End::Core,
        Some(ended) = vital.join_next() => End::Task(ended.unwrap_or("one that panicked, as stands above")),
    }
}

async fn open_machines(
    folder: &NodeFolder,
    config: &NodeConfig,
) -> Result<(Machines, mpsc::Receiver<vmm::machine::MachineStatus>)> {
    let settings = MachinesConfig {
        dir: folder.join("machines"),
        cache_dir: config.cache.join("kernel"),
        form_machine: program("FORM_MACHINE", "form-machine")?,
        form_init: program("FORM_INIT", "guest/form-init")?,
    };
    Machines::open(settings)
        .await
        .context("opening the machines of this host")
}

/// A program that comes with this one: beside it, or where a variable says.
fn program(variable: &str, name: &str) -> Result<PathBuf> {
    if let Some(path) = std::env::var_os(variable) {
        return Ok(PathBuf::from(path));
    }
    let own = std::env::current_exe().context("finding this program's own path")?;
    let path = own
        .parent()
        .map(|folder| folder.join(name))
        .filter(|path| path.exists());
    path.with_context(|| {
        format!(
            "{name} is not beside {}: build it, or set {variable}",
            own.display()
        )
    })
}

/// Name servers for guests: this node's own DNS, which forwards the rest; else those behind it.
fn guest_resolvers(config: &NodeConfig) -> Vec<IpAddr> {
    let own: Vec<_> = config
        .dns
        .iter()
        .filter(|at| at.port() == 53 && !at.ip().is_unspecified() && !at.ip().is_loopback())
        .map(SocketAddr::ip)
        .collect();
    if own.is_empty() {
        host::upstreams(config)
    } else {
        own
    }
}

/// Multiaddresses to announce: as told, else what the transport listens at, without loopback.
fn announced(config: &NodeConfig, gossip: &Handle) -> Vec<String> {
    if !config.announce.is_empty() {
        return config.announce.clone();
    }
    let mut addresses: Vec<String> = gossip
        .listen_addresses()
        .into_iter()
        .filter(|address| !address.starts_with("/ip4/127.") && !address.starts_with("/ip6/::1/"))
        .collect();
    addresses.truncate(ledger::report::nodes::ADDRESSES_MAX);
    addresses
}

/// A task that ends only when the node does, with its name.
async fn named(name: &'static str, task: impl Future<Output = ()>) -> &'static str {
    task.await;
    name
}

/// Ticks regularly, and when the core waits for a time.
async fn tick(core: Core) {
    let mut ticks = tokio::time::interval(Duration::from_millis(TICK_MS));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut deadline = core.deadline();
    loop {
        let at_ms = *deadline.borrow_and_update();
        let wait = at_ms.map(|at_ms| Duration::from_millis(at_ms.saturating_sub(now_ms()).max(1)));
        tokio::select! {
            _ = ticks.tick() => {}
            () = async { tokio::time::sleep(wait.unwrap_or_default()).await }, if wait.is_some() => {}
            changed = deadline.changed() => match changed {
                Ok(()) => continue,
                Err(_) => return,
            },
        }
        if core.input(Input::Tick).await.is_err() {
            return;
        }
    }
}

/// Passes on what comes from other nodes; requests are answered in tasks of their own.
async fn hear(mut events: mpsc::Receiver<Event>, core: Core, store: Arc<BlobStore>, logs: Logs) {
    while let Some(event) = events.recv().await {
        let input = match event {
            Event::PeerUp { node, address } => {
                tracing::info!(peer = %NodeId(node).short(), address, "a peer is up");
                Input::PeerUp(NodeId(node))
            }
            Event::PeerDown { node } => {
                tracing::info!(peer = %NodeId(node).short(), "a peer is down");
                Input::PeerDown(NodeId(node))
            }
            Event::Frame { node, bytes } => Input::Frame {
                from: NodeId(node),
                bytes,
            },
            Event::Request {
                node,
                service,
                bytes,
                reply,
            } => {
                let (core, store, logs) = (core.clone(), Arc::clone(&store), logs.clone());
                tokio::spawn(async move {
                    // Whoever asks must be in the network: what is served here is for members only.
                    let answer = if !core.snapshot().cloud.nodes.contains_key(&NodeId(node)) {
                        Err("this node does not know the asker as a member".to_owned())
                    } else {
                        match service.as_str() {
                            blobs::SERVICE => blobs::serve(store, bytes).await,
                            logs::SERVICE => logs.serve(bytes).await,
                            other => Err(format!("there is no service `{other}`")),
                        }
                    };
                    let _ = reply.send(answer);
                });
                continue;
            }
        };
        if core.input(input).await.is_err() {
            return;
        }
    }
}

/// Until the log names peers: those that the invitation names, again and again while there is none.
async fn find_peers(gossip: Handle, peers: Vec<String>, own: NodeId) {
    let mut pause = tokio::time::interval(DIAL_EVERY);
    pause.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        pause.tick().await;
        if !gossip.peers().is_empty() {
            continue;
        }
        for peer in &peers {
            match gossip.dial(peer).await {
                Ok(node) if node == own.0 => {}
                Ok(_) => break,
                Err(error) => tracing::debug!(peer, "{error}"),
            }
        }
    }
}

/// Starts the DNS where this node is an edge and told to listen.
async fn serve_dns(
    config: &NodeConfig,
    edge: bool,
    network: NetworkId,
    own: Vec<IpAddr>,
    names: &Arc<ArcSwap<NameTable>>,
) -> Result<Option<DnsServer>> {
    if !edge || config.dns.is_empty() {
        return Ok(None);
    }
    let guests = [
        (IpAddr::V4(Ipv4Addr::new(100, 64, 0, 0)), 10),
        (IpAddr::V6(net::address::network_prefix(&network.0)), 48),
    ];
    let settings = DnsConfig {
        listen: config.dns.clone(),
        upstreams: host::upstreams(config)
            .into_iter()
            .map(|server| SocketAddr::new(server, 53))
            .collect(),
        forward_for: guests
            .into_iter()
            .map(|(at, bits)| Prefix::new(at, bits))
            .collect::<Result<_, _>>()?,
        own,
    };
    Ok(Some(
        Dns::start(settings, Arc::clone(names))
            .await
            .context("starting the DNS")?,
    ))
}

/// Starts the front door where this node is an edge and told to listen.
async fn serve_proxy(
    config: &NodeConfig,
    edge: bool,
    fronts: &Arc<ArcSwap<FrontTable>>,
) -> Result<Option<ProxyServer>> {
    if !edge || config.proxy.is_empty() {
        return Ok(None);
    }
    let settings = ProxyConfig {
        listen: config.proxy.clone(),
        ..ProxyConfig::default()
    };
    Ok(Some(
        Proxy::start(settings, Arc::clone(fronts))
            .await
            .context("starting the front door")?,
    ))
}
