//! The rules of the host for the guests, as one nftables transaction. Pure.
//!
//! ```text
//! prerouting (raw)  from a tap ─▶ source:   its own Ethernet, IPv6 and IPv4 address, else dropped
//! input             from a tap ─▶ to_host:  answers, ICMP, the node's DNS, else dropped
//! passing           from a tap ─▶ from_guest: not to link-local or node-local addresses, IPv6 only inside the
//!                                             network; then to_guest, or out
//!                   to a tap   ─▶ to_guest: a guest's IPv6 address, from another guest or from the underlay
//!                                           with a source in the network, else dropped
//!                   others     ─▶ as before we came: a host that was no router does not become one
//! postrouting       a guest's IPv4 leaves under the host's address
//! ```
//! Everything stands in the table `inet form`; each version carries its hash as the name of an empty chain, so
//! that it is found again without a memory. (`fwd` and other words of nft's own are no names.)

use std::borrow::Cow;
use std::hash::{DefaultHasher, Hash, Hasher};

use net::address::{GUESTS_IPV4, NETWORK_PREFIX_BITS, TAP_PREFIX};
use net::guests::GuestTable;
use nftables::batch::Batch;
use nftables::expr::{
    CT, Expression, Meta, MetaKey, NamedExpression, Payload, PayloadField, Prefix, SetItem,
};
use nftables::schema::{Chain, NfListObject, Nftables, Rule, Set, SetType, SetTypeValue, Table};
use nftables::stmt::{Counter, JumpTarget, Match, Operator, Reject, RejectType, Statement};
use nftables::types::{NfChainPolicy, NfChainType, NfFamily, NfHook, RejectCode};

use crate::plan::{RouterBefore, filter_mac, network_of};

/// Name of our table.
pub const TABLE: &str = "form";
/// What the name of the version chain begins with.
pub const VERSION_PREFIX: &str = "version_";
/// Present when the host was no IPv4 router before us.
pub const GUESTS_ONLY_IPV4: &str = "guests_only_ipv4";
/// Present when the host was no IPv6 router before us.
pub const GUESTS_ONLY_IPV6: &str = "guests_only_ipv6";

/// Addresses that belong to one link or one cloud's metadata service; guests do not reach them.
const LINK_LOCAL_IPV4: (&str, u32) = ("169.254.0.0", 16);
/// Runs of each hook: before connection tracking, as a filter, as source translation.
const RAW: i32 = -300;
const FILTER: i32 = 0;
const SOURCE_NAT: i32 = 100;

type Expr = Expression<'static>;
type Stmt = Statement<'static>;

/// The version of the rules for a table: changes when they do, and with the way of making them.
pub fn version(table: &GuestTable, before: RouterBefore, dns_port: u16) -> u64 {
    // Not for security: it tells two of our own rule sets apart.
    let mut hasher = DefaultHasher::new();
    let text = serde_json::to_string(&ruleset(table, before, dns_port, 0)).unwrap_or_default();
    text.hash(&mut hasher);
    hasher.finish()
}

/// One transaction that replaces our table by the rules for a guest table.
pub fn ruleset(table: &GuestTable, before: RouterBefore, dns_port: u16, version: u64) -> Nftables<'static> {
    let mut rules = Rules { batch: Batch::new() };
    rules.replace_table();
    rules.sets(table);
    rules.chain(&format!("{VERSION_PREFIX}{version:016x}"), None);
    for (was_router, name) in [(before.ipv4, GUESTS_ONLY_IPV4), (before.ipv6, GUESTS_ONLY_IPV6)] {
        if !was_router {
            rules.chain(name, None);
        }
    }
    rules.sources();
    rules.asking_the_host(dns_port);
    rules.passing(table, before);
    rules.chain(
        "postrouting",
        Some((NfChainType::NAT, NfHook::Postrouting, SOURCE_NAT)),
    );
    rules.rule(
        "postrouting",
        vec![
            equal(field("ip", "saddr"), text("@guests4")),
            not_equal(meta(MetaKey::Oifname), any_tap()),
            Stmt::Masquerade(None),
        ],
    );
    rules.batch.to_nftables()
}

/// One transaction that takes our table away.
pub fn no_ruleset() -> Nftables<'static> {
    let mut rules = Rules { batch: Batch::new() };
    rules.remove_table();
    rules.batch.to_nftables()
}

struct Rules {
    batch: Batch<'static>,
}

impl Rules {
    fn remove_table(&mut self) {
        let table = || Table {
            family: NfFamily::INet,
            name: TABLE.into(),
            handle: None,
        };
        // Adding first makes deleting safe where there is none.
        self.batch.add(NfListObject::Table(table()));
        self.batch.delete(NfListObject::Table(table()));
    }

    fn replace_table(&mut self) {
        self.remove_table();
        let table = Table {
            family: NfFamily::INet,
            name: TABLE.into(),
            handle: None,
        };
        self.batch.add(NfListObject::Table(table));
    }

    fn sets(&mut self, table: &GuestTable) {
        let pair = |tap: &str, value: String| {
            Expr::Named(NamedExpression::Concat(vec![text(tap.to_owned()), text(value)]))
        };
        let taps = &table.taps;
        let macs = taps.iter().map(|t| pair(&t.tap, filter_mac(&t.mac))).collect();
        self.set("guest_macs", &[SetType::Ifname, SetType::EtherAddr], macs);
        let sources = taps.iter().map(|t| pair(&t.tap, t.ipv4.to_string())).collect();
        self.set("guest_sources4", &[SetType::Ifname, SetType::Ipv4Addr], sources);
        let sources = taps.iter().map(|t| pair(&t.tap, t.ipv6.to_string())).collect();
        self.set("guest_sources6", &[SetType::Ifname, SetType::Ipv6Addr], sources);
        self.set(
            "guests4",
            &[SetType::Ipv4Addr],
            taps.iter().map(|t| text(t.ipv4.to_string())).collect(),
        );
        self.set(
            "guests6",
            &[SetType::Ipv6Addr],
            taps.iter().map(|t| text(t.ipv6.to_string())).collect(),
        );
    }

    fn set(&mut self, name: &'static str, types: &[SetType], elements: Vec<Expr>) {
        let set_type = match types {
            [single] => SetTypeValue::Single(*single),
            several => SetTypeValue::Concatenated(several.to_vec().into()),
        };
        self.batch.add(NfListObject::Set(Box::new(Set {
            family: NfFamily::INet,
            table: TABLE.into(),
            name: name.into(),
            set_type,
            elem: (!elements.is_empty()).then(|| elements.into()),
            ..Set::default()
        })));
    }

    fn chain(&mut self, name: &str, hook: Option<(NfChainType, NfHook, i32)>) {
        self.batch.add(NfListObject::Chain(Chain {
            family: NfFamily::INet,
            table: TABLE.into(),
            name: name.to_owned().into(),
            _type: hook.map(|(kind, _, _)| kind),
            hook: hook.map(|(_, hook, _)| hook),
            prio: hook.map(|(_, _, priority)| priority),
            policy: hook.map(|_| NfChainPolicy::Accept),
            ..Chain::default()
        }));
    }

    fn rule(&mut self, chain: &'static str, statements: Vec<Stmt>) {
        self.batch.add(NfListObject::Rule(Rule {
            family: NfFamily::INet,
            table: TABLE.into(),
            chain: chain.into(),
            expr: statements.into(),
            ..Rule::default()
        }));
    }

    /// Who may speak on a tap.
    fn sources(&mut self) {
        self.chain("source", None);
        let on_tap = |value| Expr::Named(NamedExpression::Concat(vec![meta(MetaKey::Iifname), value]));
        let back = || Stmt::Return(None);
        let mac = on_tap(field("ether", "saddr"));
        self.rule(
            "source",
            vec![not_equal(mac, text("@guest_macs")), counted(), Stmt::Drop(None)],
        );
        let v4 = on_tap(field("ip", "saddr"));
        self.rule("source", vec![equal(v4, text("@guest_sources4")), back()]);
        let v6 = on_tap(field("ip6", "saddr"));
        self.rule("source", vec![equal(v6, text("@guest_sources6")), back()]);
        // Link-local addresses stay on the tap's own link; neighbour discovery needs them.
        self.rule(
            "source",
            vec![equal(field("ip6", "saddr"), prefix("fe80::", 10)), back()],
        );
        let unspecified = equal(field("ip6", "saddr"), text("::"));
        let kinds = one_of(&["nd-neighbor-solicit", "nd-router-solicit", "mld2-listener-report"]);
        self.rule(
            "source",
            vec![unspecified, equal(field("icmpv6", "type"), kinds), back()],
        );
        self.rule("source", vec![counted(), Stmt::Drop(None)]);

        self.chain("prerouting", Some((NfChainType::Filter, NfHook::Prerouting, RAW)));
        self.rule("prerouting", vec![from_tap(), jump("source")]);
    }

    /// What a guest may ask of the host itself.
    fn asking_the_host(&mut self, dns_port: u16) {
        self.chain("to_host", None);
        self.rule("to_host", vec![answers(), Stmt::Accept(None)]);
        let echo = equal(field("icmp", "type"), text("echo-request"));
        self.rule("to_host", vec![echo, Stmt::Accept(None)]);
        let kinds = one_of(&[
            "echo-request",
            "nd-neighbor-solicit",
            "nd-neighbor-advert",
            "nd-router-solicit",
        ]);
        self.rule(
            "to_host",
            vec![equal(field("icmpv6", "type"), kinds), Stmt::Accept(None)],
        );
        self.rule(
            "to_host",
            vec![
                equal(meta(MetaKey::L4proto), one_of(&["tcp", "udp"])),
                equal(field("th", "dport"), Expr::Number(u32::from(dns_port))),
                Stmt::Accept(None),
            ],
        );
        self.rule("to_host", vec![counted(), Stmt::Drop(None)]);

        self.chain("input", Some((NfChainType::Filter, NfHook::Input, FILTER)));
        self.rule("input", vec![from_tap(), jump("to_host")]);
    }

    /// What passes from and to guests.
    fn passing(&mut self, table: &GuestTable, before: RouterBefore) {
        self.chain("to_guest", None);
        let known = || equal(field("ip6", "daddr"), text("@guests6"));
        self.rule("to_guest", vec![from_tap(), known(), Stmt::Accept(None)]);
        if let Some(node) = &table.node {
            let network = prefix(network_of(node.address).to_string(), NETWORK_PREFIX_BITS.into());
            self.rule(
                "to_guest",
                vec![
                    equal(meta(MetaKey::Iifname), text(node.interface.clone())),
                    equal(field("ip6", "saddr"), network),
                    known(),
                    Stmt::Accept(None),
                ],
            );
        }
        self.rule("to_guest", vec![counted(), Stmt::Drop(None)]);

        self.chain("from_guest", None);
        let invalid = matching(ct("state"), Operator::IN, text("invalid"));
        self.rule("from_guest", vec![invalid, counted(), Stmt::Drop(None)]);
        let (guests, guests_prefix) = GUESTS_IPV4;
        for (address, length) in [
            (Cow::Borrowed(LINK_LOCAL_IPV4.0), LINK_LOCAL_IPV4.1),
            (guests.to_string().into(), guests_prefix.into()),
        ] {
            let there = equal(field("ip", "daddr"), prefix(address, length));
            self.rule("from_guest", vec![there, counted(), Stmt::Drop(None)]);
        }
        if let Some(node) = &table.node {
            // Refused, not dropped, so that a guest with both families falls back to IPv4 at once.
            let network = prefix(network_of(node.address).to_string(), NETWORK_PREFIX_BITS.into());
            let refuse = Reject::new(Some(RejectType::ICMPv6), Some(RejectCode::NoRoute));
            self.rule(
                "from_guest",
                vec![
                    not_equal(field("ip6", "daddr"), network),
                    Stmt::Reject(Some(refuse)),
                ],
            );
        }
        self.rule(
            "from_guest",
            vec![equal(meta(MetaKey::Oifname), any_tap()), jump("to_guest")],
        );
        self.rule("from_guest", vec![Stmt::Accept(None)]);

        self.chain("forward", Some((NfChainType::Filter, NfHook::Forward, FILTER)));
        self.rule("forward", vec![answers(), Stmt::Accept(None)]);
        self.rule("forward", vec![from_tap(), jump("from_guest")]);
        self.rule(
            "forward",
            vec![equal(meta(MetaKey::Oifname), any_tap()), jump("to_guest")],
        );
        for (was_router, family) in [(before.ipv4, "ipv4"), (before.ipv6, "ipv6")] {
            if !was_router {
                let others = equal(meta(MetaKey::Nfproto), text(family));
                self.rule("forward", vec![others, counted(), Stmt::Drop(None)]);
            }
        }
    }
}

fn text(value: impl Into<Cow<'static, str>>) -> Expr {
    Expr::String(value.into())
}

fn any_tap() -> Expr {
    text(format!("{TAP_PREFIX}*"))
}

fn meta(key: MetaKey) -> Expr {
    Expr::Named(NamedExpression::Meta(Meta { key }))
}

fn ct(key: &'static str) -> Expr {
    Expr::Named(NamedExpression::CT(CT {
        key: key.into(),
        family: None,
        dir: None,
    }))
}

fn field(protocol: &'static str, field: &'static str) -> Expr {
    let field = PayloadField {
        protocol: protocol.into(),
        field: field.into(),
    };
    Expr::Named(NamedExpression::Payload(Payload::PayloadField(field)))
}

fn prefix(address: impl Into<Cow<'static, str>>, len: u32) -> Expr {
    Expr::Named(NamedExpression::Prefix(Prefix {
        addr: Box::new(text(address)),
        len,
    }))
}

fn one_of(values: &[&'static str]) -> Expr {
    let items = values
        .iter()
        .map(|value| SetItem::Element(text(*value)))
        .collect();
    Expr::Named(NamedExpression::Set(items))
}

fn matching(left: Expr, op: Operator, right: Expr) -> Stmt {
    Stmt::Match(Match { left, right, op })
}

fn equal(left: Expr, right: Expr) -> Stmt {
    matching(left, Operator::EQ, right)
}

fn not_equal(left: Expr, right: Expr) -> Stmt {
    matching(left, Operator::NEQ, right)
}

fn from_tap() -> Stmt {
    equal(meta(MetaKey::Iifname), any_tap())
}

fn answers() -> Stmt {
    let states = Expr::List(vec![text("established"), text("related")]);
    matching(ct("state"), Operator::IN, states)
}

fn counted() -> Stmt {
    Stmt::Counter(Counter::Anonymous(None))
}

fn jump(target: &'static str) -> Stmt {
    Stmt::Jump(JumpTarget {
        target: target.into(),
    })
}
