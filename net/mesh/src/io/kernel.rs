//! Netlink: reads links, addresses and routes, and changes one at a time. Always with a time limit.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use futures::TryStreamExt;
use net::address::TAP_PREFIX;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::address::{
    AddressAttribute, AddressHeaderFlags, AddressMessage, AddressProtocol,
};
use rtnetlink::packet_route::link::{InfoKind, LinkAttribute, LinkFlags, LinkInfo};
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use rtnetlink::{Handle, LinkUnspec, RouteMessageBuilder};

use crate::plan::{Address, Link, Route, Way};

/// The number that marks routes and addresses as ours; in the range that is free for anybody's use.
const MARK: u8 = 0xf0;
/// How long one request may take.
const WAIT: Duration = Duration::from_secs(5);
/// Routes of IPv6 that are ours stand at the kernel's usual metric.
const IPV6_METRIC: u32 = 1024;

/// Why the kernel did not do what it should.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KernelError {
    #[error("the kernel refused: {0}")]
    Refused(#[from] rtnetlink::Error),
    #[error("the kernel did not answer within {} s", WAIT.as_secs())]
    Slow,
    #[error("there is no interface {0}")]
    NoLink(String),
}

pub(super) struct Kernel {
    handle: Handle,
}

/// What was read: links by name with their index, addresses, our routes.
pub(super) struct Reading {
    pub(super) links: BTreeMap<String, Link>,
    pub(super) addresses: BTreeMap<Address, bool>,
    pub(super) routes: BTreeSet<Route>,
}

async fn within<T>(request: impl Future<Output = Result<T, rtnetlink::Error>>) -> Result<T, KernelError> {
    Ok(tokio::time::timeout(WAIT, request)
        .await
        .map_err(|_| KernelError::Slow)??)
}

impl Kernel {
    /// Opens netlink in the network namespace of the calling thread.
    pub(super) fn open() -> std::io::Result<Self> {
        let (connection, handle, _) = rtnetlink::new_connection()?;
        tokio::spawn(connection);
        Ok(Self { handle })
    }

    pub(super) async fn read(&self) -> Result<Reading, KernelError> {
        let mut names = BTreeMap::new();
        let mut links = BTreeMap::new();
        let messages: Vec<_> = within(self.handle.link().get().execute().try_collect()).await?;
        for message in messages {
            let (mut name, mut is_tap) = (None, false);
            for attribute in message.attributes {
                match attribute {
                    LinkAttribute::IfName(text) => name = Some(text),
                    LinkAttribute::LinkInfo(infos) => {
                        is_tap = infos
                            .iter()
                            .any(|info| matches!(info, LinkInfo::Kind(InfoKind::Tun)));
                    }
                    _ => {}
                }
            }
            let Some(name) = name else { continue };
            names.insert(message.header.index, name.clone());
            let flags = message.header.flags;
            let link = Link {
                up: flags.contains(LinkFlags::Up),
                is_tap,
                in_use: flags.contains(LinkFlags::LowerUp),
            };
            links.insert(name, link);
        }
        let messages: Vec<_> = within(self.handle.address().get().execute().try_collect()).await?;
        let addresses = messages
            .iter()
            .filter_map(|message| address(message, &names))
            .collect();
        let mut routes = BTreeSet::new();
        let families = [
            RouteMessageBuilder::<std::net::Ipv4Addr>::new().build(),
            RouteMessageBuilder::<std::net::Ipv6Addr>::new().build(),
        ];
        for family in families {
            let messages: Vec<_> = within(self.handle.route().get(family).execute().try_collect()).await?;
            routes.extend(messages.iter().filter_map(|message| route(message, &names)));
        }
        Ok(Reading {
            links,
            addresses,
            routes,
        })
    }

    async fn index(&self, name: &str) -> Result<u32, KernelError> {
        let found = self
            .handle
            .link()
            .get()
            .match_name(name)
            .execute()
            .try_collect::<Vec<_>>();
        match within(found).await {
            Ok(links) => {
                let first = links.first().map(|link| link.header.index);
                first.ok_or_else(|| KernelError::NoLink(name.to_owned()))
            }
            Err(KernelError::Refused(rtnetlink::Error::NetlinkError(_))) => {
                Err(KernelError::NoLink(name.to_owned()))
            }
            Err(error) => Err(error),
        }
    }

    pub(super) async fn bring_up(&self, name: &str) -> Result<(), KernelError> {
        let index = self.index(name).await?;
        within(
            self.handle
                .link()
                .set(LinkUnspec::new_with_index(index).up().build())
                .execute(),
        )
        .await
    }

    pub(super) async fn remove_link(&self, name: &str) -> Result<(), KernelError> {
        debug_assert!(name.starts_with(TAP_PREFIX), "only taps are ours to remove");
        let index = self.index(name).await?;
        within(self.handle.link().del(index).execute()).await
    }

    pub(super) async fn add_address(&self, address: &Address) -> Result<(), KernelError> {
        let index = self.index(&address.link).await?;
        let mut request = self.handle.address().add(index, address.address, address.prefix);
        let message = request.message_mut();
        message
            .attributes
            .push(AddressAttribute::Protocol(AddressProtocol::Other(MARK)));
        if address.address.is_ipv6() {
            // Addresses come from keys and ids, so nobody else has them: usable at once.
            message.header.flags |= AddressHeaderFlags::Nodad;
        }
        within(request.execute()).await
    }

    pub(super) async fn remove_address(&self, address: &Address) -> Result<(), KernelError> {
        let index = self.index(&address.link).await?;
        let message = self
            .handle
            .address()
            .add(index, address.address, address.prefix)
            .message_mut()
            .clone();
        within(self.handle.address().del(message).execute()).await
    }

    pub(super) async fn add_route(&self, route: &Route) -> Result<(), KernelError> {
        let message = self.message(route).await?;
        within(self.handle.route().add(message).execute()).await
    }

    pub(super) async fn remove_route(&self, route: &Route) -> Result<(), KernelError> {
        let message = self.message(route).await?;
        within(self.handle.route().del(message).execute()).await
    }

    async fn message(&self, route: &Route) -> Result<RouteMessage, KernelError> {
        let mut builder = RouteMessageBuilder::<IpAddr>::new()
            .destination_prefix(route.to, route.prefix)
            .expect("prefix lengths are constants of the plan");
        if let Some(source) = route.source {
            builder = builder
                .pref_source(source)
                .expect("sources are of the family of the destination");
        }
        let (link, scope) = match &route.way {
            Way::Link(link) => (Some(link), RouteScope::Link),
            Way::Via { gateway, link } => {
                builder = builder
                    .gateway(*gateway)
                    .expect("gateways are of the family of the destination");
                (Some(link), RouteScope::Universe)
            }
            Way::Unreachable => {
                builder = builder.kind(RouteType::Unreachable);
                (None, RouteScope::Universe)
            }
        };
        if let Some(link) = link {
            builder = builder.output_interface(self.index(link).await?);
        }
        if route.to.is_ipv6() {
            builder = builder.priority(IPV6_METRIC);
        } else {
            builder = builder.scope(scope);
        }
        Ok(builder.protocol(RouteProtocol::Other(MARK)).build())
    }
}

fn address(message: &AddressMessage, names: &BTreeMap<u32, String>) -> Option<(Address, bool)> {
    let (mut local, mut peer, mut ours) = (None, None, false);
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Local(ip) => local = Some(*ip),
            AddressAttribute::Address(ip) => peer = Some(*ip),
            AddressAttribute::Protocol(AddressProtocol::Other(MARK)) => ours = true,
            _ => {}
        }
    }
    let link = names.get(&message.header.index)?.clone();
    Some((
        Address {
            link,
            address: local.or(peer)?,
            prefix: message.header.prefix_len,
        },
        ours,
    ))
}

fn route(message: &RouteMessage, names: &BTreeMap<u32, String>) -> Option<Route> {
    if message.header.protocol != RouteProtocol::Other(MARK) {
        return None;
    }
    let ip = |address: &RouteAddress| match address {
        RouteAddress::Inet(ip) => Some(IpAddr::V4(*ip)),
        RouteAddress::Inet6(ip) => Some(IpAddr::V6(*ip)),
        _ => None,
    };
    let (mut to, mut gateway, mut source, mut link) = (None, None, None, None);
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(address) => to = ip(address),
            RouteAttribute::Gateway(address) => gateway = ip(address),
            RouteAttribute::PrefSource(address) => source = ip(address),
            RouteAttribute::Oif(index) => link = names.get(index).cloned(),
            _ => {}
        }
    }
    let way = match (message.header.kind, gateway, link) {
        (RouteType::Unreachable, _, _) => Way::Unreachable,
        (_, Some(gateway), Some(link)) => Way::Via { gateway, link },
        (_, None, Some(link)) => Way::Link(link),
        (_, _, None) => return None,
    };
    debug_assert!(matches!(
        message.header.address_family,
        AddressFamily::Inet | AddressFamily::Inet6
    ));
    Some(Route {
        to: to?,
        prefix: message.header.destination_prefix_length,
        way,
        source,
    })
}
