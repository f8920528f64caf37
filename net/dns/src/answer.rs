//! From the bytes of one query to what becomes of it. Pure, total, bounded: any bytes have an outcome.
//!
//! ```text
//! no DNS query at all ─▶ silence           a response, or shorter than a header
//! malformed           ─▶ FORMERR           anything that does not decode, not exactly one question
//! other than a query  ─▶ REFUSED, NOTIMP   updates, notifications
//! ANY, AXFR, IXFR     ─▶ REFUSED
//! in one of our zones ─▶ records | NODATA + SOA | NXDOMAIN + SOA
//! elsewhere           ─▶ passed on for our own clients, else REFUSED
//! ```
//! The question is repeated as it was asked, upper and lower case kept: resolvers check it against forgery.

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::Arc;

use hickory_proto::op::{Edns, Header, Message, MessageType, Metadata, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, NS, SOA, TXT};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};
use hickory_proto::serialize::binary::{BinDecodable, BinDecoder};
use net::names::{NameRecords, NameTable};

/// Length of a DNS header.
const HEADER_BYTES: usize = 12;
/// What a client without EDNS takes over UDP.
const PLAIN_UDP_BYTES: u16 = 512;
/// Most that we send over UDP: passes every path without fragments.
pub const UDP_BYTES_MAX: u16 = 1232;
/// Addresses in one answer; the rest waits for the next turn of the rotation.
pub const ADDRESSES_MAX: usize = 16;
/// TXT records in one answer.
const TXT_MAX: usize = 32;
/// Longest piece of a TXT record.
const TXT_PIECE_BYTES: usize = 255;
/// How long SOA, NS and the absence of a name may be kept: names come and go with instances.
const ZONE_TTL_S: u32 = 5;
/// What is longer is cut, so that clients notice a change.
const TTL_S_MAX: u32 = 3600;

/// How a query came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// Bounded answers.
    Udp,
    /// Answers up to 64 KiB.
    Tcp,
}

/// What becomes of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// These bytes go back.
    Reply(Vec<u8>, Kind),
    /// To be passed on verbatim but for its id.
    Forward,
    /// Not a query: nothing goes back.
    Silence,
}

/// What kind of reply it is, for the counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// With records.
    Answered,
    /// The name exists, the type does not.
    NoData,
    /// The name does not exist.
    NoSuchName,
    /// Not for this client, or not at all.
    Refused,
    /// Not understood.
    Malformed,
    /// Cut for UDP.
    Truncated,
}

/// A table made ready: with the names that exist only because longer ones do.
#[derive(Clone, Debug, Default)]
pub struct Index {
    table: Arc<NameTable>,
    between: HashSet<String>,
}

impl Index {
    /// Makes a table ready.
    pub fn new(table: Arc<NameTable>) -> Self {
        let mut between = HashSet::new();
        for name in table.names.keys() {
            let mut rest = name.as_str();
            while let Some((_, parent)) = rest.split_once('.') {
                if !table.names.contains_key(parent) && !between.insert(parent.to_owned()) {
                    break;
                }
                rest = parent;
            }
        }
        Self { table, between }
    }

    /// Whether it was made from this very table.
    pub fn is_of(&self, table: &Arc<NameTable>) -> bool {
        Arc::ptr_eq(&self.table, table)
    }

    /// The zone that a name lies in: the longest.
    fn zone_of(&self, name: &str) -> Option<&str> {
        let inside = |zone: &&String| {
            name.strip_suffix(zone.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
        };
        self.table
            .zones
            .iter()
            .filter(inside)
            .max_by_key(|zone| zone.len())
            .map(String::as_str)
    }
}

/// The circumstances of a query.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// How it came.
    pub transport: Transport,
    /// Whether names of others are passed on for this client.
    pub may_forward: bool,
    /// A number that differs from query to query: turns the order of addresses.
    pub turn: u32,
    /// This server's own addresses, for the names of the zones' servers.
    pub own: &'a [IpAddr],
}

/// Decides what becomes of a message.
pub fn answer(bytes: &[u8], asked: Asked<'_>, index: &Index) -> Outcome {
    let Some(header) = bytes.get(..HEADER_BYTES) else {
        return Outcome::Silence;
    };
    let Ok(Header { metadata, counts }) = Header::read(&mut BinDecoder::new(header)) else {
        return Outcome::Silence;
    };
    if metadata.message_type == MessageType::Response {
        return Outcome::Silence;
    }
    let bare = |code, kind| {
        let mut message = Message::new(metadata.id, MessageType::Response, metadata.op_code);
        message.metadata = Metadata::response_from_request(&metadata);
        message.metadata.response_code = code;
        reply(&message, Transport::Udp, u16::MAX, kind)
    };
    match metadata.op_code {
        OpCode::Query => {}
        OpCode::Update => return bare(ResponseCode::Refused, Kind::Refused),
        _ => return bare(ResponseCode::NotImp, Kind::Refused),
    }
    // Before the rest is read: the decoder sets room aside for as many questions as the header claims.
    if counts.queries != 1 {
        return bare(ResponseCode::FormErr, Kind::Malformed);
    }
    let Ok(request) = Message::from_vec(bytes) else {
        return bare(ResponseCode::FormErr, Kind::Malformed);
    };
    let [query] = request.queries.as_slice() else {
        return bare(ResponseCode::FormErr, Kind::Malformed);
    };
    let mut response = Message::new(metadata.id, MessageType::Response, OpCode::Query);
    response.metadata = Metadata::response_from_request(&metadata);
    response.metadata.recursion_available = asked.may_forward;
    response.add_query(query.clone());
    let mut room = PLAIN_UDP_BYTES;
    if let Some(edns) = &request.edns {
        room = edns.max_payload().clamp(PLAIN_UDP_BYTES, UDP_BYTES_MAX);
        let mut ours = Edns::new();
        ours.set_max_payload(UDP_BYTES_MAX)
            .set_version(0)
            .set_dnssec_ok(edns.flags().dnssec_ok);
        if edns.version() != 0 {
            ours.set_rcode_high(1);
            response.set_edns(ours);
            response.metadata.response_code = ResponseCode::BADVERS;
            return reply(&response, asked.transport, room, Kind::Malformed);
        }
        response.set_edns(ours);
    }
    let refused = matches!(
        query.query_type,
        RecordType::ANY | RecordType::AXFR | RecordType::IXFR
    ) || query.query_class != DNSClass::IN;
    let name = text_of(&query.name);
    let kind = match index.zone_of(&name) {
        _ if refused => {
            response.metadata.response_code = ResponseCode::Refused;
            Kind::Refused
        }
        Some(zone) => fill(&mut response, query, &name, zone, asked, index),
        None if asked.may_forward && metadata.recursion_desired => return Outcome::Forward,
        None => {
            response.metadata.response_code = ResponseCode::Refused;
            Kind::Refused
        }
    };
    reply(&response, asked.transport, room, kind)
}

/// An error in answer to a query that was to be passed on.
pub fn failure(bytes: &[u8]) -> Option<Vec<u8>> {
    let request = Message::from_vec(bytes).ok()?;
    let mut response = Message::new(request.metadata.id, MessageType::Response, OpCode::Query);
    response.metadata = Metadata::response_from_request(&request.metadata);
    response.metadata.recursion_available = true;
    response.metadata.response_code = ResponseCode::ServFail;
    response.add_queries(request.queries);
    response.to_vec().ok()
}

/// Room for an answer to a query over UDP.
pub fn udp_room(query: &[u8]) -> usize {
    let asked = Message::from_vec(query).ok().and_then(|message| message.edns);
    let room = asked.map_or(PLAIN_UDP_BYTES, |edns| {
        edns.max_payload().clamp(PLAIN_UDP_BYTES, UDP_BYTES_MAX)
    });
    usize::from(room)
}

/// A message without its records, marked as cut.
pub fn cut(bytes: &[u8]) -> Option<Vec<u8>> {
    Message::from_vec(bytes).ok()?.truncate().to_vec().ok()
}

/// Puts the records of a name of ours into the response.
fn fill(
    response: &mut Message,
    query: &Query,
    name: &str,
    zone: &str,
    asked: Asked<'_>,
    index: &Index,
) -> Kind {
    response.metadata.authoritative = true;
    let table = &index.table;
    let server = format!("ns.{zone}");
    let at_apex = name == zone;
    let records = table.names.get(name);
    let own;
    let records = if records.is_none() && name == server {
        own = own_records(asked.own);
        Some(&own)
    } else {
        records
    };
    let exists = at_apex || records.is_some() || index.between.contains(name);
    if let Some(records) = records {
        add_records(response, query, records, asked.turn);
    }
    if at_apex {
        match query.query_type {
            RecordType::SOA => response.answers.extend(soa(zone, table.serial)),
            RecordType::NS => {
                if let (Ok(owner), Ok(server)) = (absolute(zone), absolute(&server)) {
                    let record = Record::from_rdata(owner, ZONE_TTL_S, RData::NS(NS(server.clone())));
                    response.answers.push(record);
                    for address in asked.own.iter().take(ADDRESSES_MAX) {
                        let glue = Record::from_rdata(server.clone(), ZONE_TTL_S, rdata(*address));
                        response.additionals.push(glue);
                    }
                }
            }
            _ => {}
        }
    }
    if !response.answers.is_empty() {
        return Kind::Answered;
    }
    response.authorities.extend(soa(zone, table.serial));
    if exists {
        Kind::NoData
    } else {
        response.metadata.response_code = ResponseCode::NXDomain;
        Kind::NoSuchName
    }
}

fn own_records(own: &[IpAddr]) -> NameRecords {
    let mut records = NameRecords {
        ttl_s: ZONE_TTL_S,
        ..NameRecords::default()
    };
    for address in own {
        match address {
            IpAddr::V4(address) => records.ipv4.push(*address),
            IpAddr::V6(address) => records.ipv6.push(*address),
        }
    }
    records
}

fn add_records(response: &mut Message, query: &Query, records: &NameRecords, turn: u32) {
    let ttl_s = records.ttl_s.min(TTL_S_MAX);
    let mut add = |data| {
        response
            .answers
            .push(Record::from_rdata(query.name.clone(), ttl_s, data))
    };
    match query.query_type {
        RecordType::A => in_turn(&records.ipv4, turn).for_each(|ip| add(RData::A(A(*ip)))),
        RecordType::AAAA => in_turn(&records.ipv6, turn).for_each(|ip| add(RData::AAAA(AAAA(*ip)))),
        RecordType::TXT => {
            for text in records.txt.iter().take(TXT_MAX) {
                let pieces = text.as_bytes().chunks(TXT_PIECE_BYTES);
                add(RData::TXT(TXT::from_bytes(pieces.collect())));
            }
        }
        _ => {}
    }
}

/// A bounded part of a list that begins at another place each time.
fn in_turn<T>(list: &[T], turn: u32) -> impl Iterator<Item = &T> {
    let first = if list.is_empty() {
        0
    } else {
        turn as usize % list.len()
    };
    list.iter()
        .cycle()
        .skip(first)
        .take(list.len().min(ADDRESSES_MAX))
}

fn rdata(address: IpAddr) -> RData {
    match address {
        IpAddr::V4(address) => RData::A(A(address)),
        IpAddr::V6(address) => RData::AAAA(AAAA(address)),
    }
}

fn absolute(name: &str) -> Result<Name, hickory_proto::ProtoError> {
    Name::from_ascii(format!("{name}."))
}

/// The SOA of a zone; none if the table's zone is no name, which the reactors never make.
fn soa(zone: &str, serial: u32) -> Option<Record> {
    let owner = absolute(zone).ok()?;
    let (server, mail) = (
        absolute(&format!("ns.{zone}")).ok()?,
        absolute(&format!("hostmaster.{zone}")).ok()?,
    );
    let (refresh_s, retry_s, expire_s) = (60, 10, 3600);
    let soa = SOA::new(server, mail, serial, refresh_s, retry_s, expire_s, ZONE_TTL_S);
    Some(Record::from_rdata(owner, ZONE_TTL_S, RData::SOA(soa)))
}

/// A name as the table writes it.
fn text_of(name: &Name) -> String {
    let mut text = name.to_ascii();
    text.make_ascii_lowercase();
    if text.ends_with('.') && text.len() > 1 {
        text.pop();
    }
    text
}

fn reply(message: &Message, transport: Transport, room: u16, kind: Kind) -> Outcome {
    let most = match transport {
        Transport::Udp => usize::from(room),
        Transport::Tcp => usize::from(u16::MAX),
    };
    match message.to_vec() {
        Ok(bytes) if bytes.len() <= most => Outcome::Reply(bytes, kind),
        // To TCP, then; over TCP it is the best that there is.
        _ => match message.truncate().to_vec() {
            Ok(bytes) => Outcome::Reply(bytes, Kind::Truncated),
            Err(_) => Outcome::Silence,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn table() -> Index {
        let names = [
            (
                "web.alice.form.internal",
                vec!["10.0.0.1", "10.0.0.2", "10.0.0.3"],
                vec!["fd00::1"],
                vec![],
            ),
            ("idle.alice.form.internal", vec![], vec![], vec![]),
            (
                "hello.fog",
                vec![],
                vec!["fd00::2"],
                vec!["agent=hello".to_owned(), "x".repeat(600)],
            ),
        ];
        let names: BTreeMap<_, _> = names
            .into_iter()
            .map(|(name, v4, v6, txt)| {
                let records = NameRecords {
                    ipv4: v4.iter().map(|ip| ip.parse().unwrap()).collect(),
                    ipv6: v6.iter().map(|ip| ip.parse().unwrap()).collect(),
                    txt,
                    ttl_s: 7,
                };
                (name.to_owned(), records)
            })
            .collect();
        let zones = vec!["form.internal".to_owned(), "fog".to_owned()];
        Index::new(Arc::new(NameTable {
            zones,
            names,
            serial: 42,
        }))
    }

    const ASKED: Asked<'static> = Asked {
        transport: Transport::Udp,
        may_forward: false,
        turn: 0,
        own: &[],
    };

    fn query(name: &str, kind: RecordType) -> Vec<u8> {
        let mut message = Message::query();
        message.metadata.id = 77;
        message.metadata.recursion_desired = true;
        message.add_query(Query::query(Name::from_ascii(format!("{name}.")).unwrap(), kind));
        message.to_vec().unwrap()
    }

    fn ask_with(bytes: &[u8], asked: Asked<'_>) -> Message {
        match answer(bytes, asked, &table()) {
            Outcome::Reply(bytes, _) => Message::from_vec(&bytes).unwrap(),
            other => panic!("{other:?}"),
        }
    }

    /// The reply in words: code, answers, authorities.
    fn ask(name: &str, kind: RecordType) -> String {
        let message = ask_with(&query(name, kind), ASKED);
        assert_eq!(message.metadata.id, 77);
        let words = |records: &[Record]| {
            records
                .iter()
                .map(|r| format!("{} {} {}", r.record_type(), r.ttl, r.data))
                .collect::<Vec<_>>()
                .join(", ")
        };
        let aa = if message.metadata.authoritative { " aa" } else { "" };
        let soa = if message.authorities.is_empty() {
            ""
        } else {
            " +SOA"
        };
        format!(
            "{:?}{aa} [{}]{soa}",
            message.metadata.response_code,
            words(&message.answers)
        )
    }

    #[test]
    fn a_name_has_the_records_of_the_table() {
        use RecordType as T;
        for (name, kind, expect) in [
            (
                "web.alice.form.internal",
                T::A,
                "NoError aa [A 7 10.0.0.1, A 7 10.0.0.2, A 7 10.0.0.3]",
            ),
            ("WEB.alice.Form.INTERNAL", T::AAAA, "NoError aa [AAAA 7 fd00::1]"),
            ("web.alice.form.internal", T::MX, "NoError aa [] +SOA"),
            ("idle.alice.form.internal", T::A, "NoError aa [] +SOA"),
            ("alice.form.internal", T::A, "NoError aa [] +SOA"),
            ("bob.form.internal", T::A, "NXDomain aa [] +SOA"),
            ("x.web.alice.form.internal", T::A, "NXDomain aa [] +SOA"),
            ("form.internal", T::A, "NoError aa [] +SOA"),
            ("notform.internal", T::A, "Refused []"),
            ("example.org", T::A, "Refused []"),
            ("hello.fog", T::ANY, "Refused []"),
            ("form.internal", T::AXFR, "Refused []"),
            ("fog", T::NS, "NoError aa [NS 5 ns.fog.]"),
        ] {
            assert_eq!(ask(name, kind), expect, "{name} {kind}");
        }
        assert!(ask("fog", T::SOA).starts_with("NoError aa [SOA 5 ns.fog. hostmaster.fog. 42"));
    }

    #[test]
    fn the_question_comes_back_letter_for_letter() {
        let message = ask_with(&query("HeLLo.FoG", RecordType::AAAA), ASKED);
        assert_eq!(message.queries[0].name.to_ascii(), "HeLLo.FoG.");
        assert_eq!(message.answers[0].name.to_ascii(), "HeLLo.FoG.");
    }

    #[test]
    fn several_addresses_take_turns() {
        let first = |turn| {
            let message = ask_with(
                &query("web.alice.form.internal", RecordType::A),
                Asked { turn, ..ASKED },
            );
            assert_eq!(message.answers.len(), 3);
            message.answers[0].data.to_string()
        };
        assert_eq!(
            [first(0), first(1), first(2), first(3)],
            ["10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.1"]
        );
    }

    #[test]
    fn what_is_too_large_for_udp_is_cut_and_whole_over_tcp() {
        let plain = query("hello.fog", RecordType::TXT);
        let message = ask_with(&plain, ASKED);
        assert!(message.metadata.truncation && message.answers.is_empty());
        let message = ask_with(
            &plain,
            Asked {
                transport: Transport::Tcp,
                ..ASKED
            },
        );
        assert_eq!(message.answers.len(), 2);
        let mut wide = Message::from_vec(&plain).unwrap();
        wide.set_edns(Edns::new())
            .edns
            .as_mut()
            .unwrap()
            .set_max_payload(4096);
        let message = ask_with(&wide.to_vec().unwrap(), ASKED);
        assert!(!message.metadata.truncation);
        assert_eq!(message.edns.unwrap().max_payload(), UDP_BYTES_MAX);
    }

    #[test]
    fn a_newer_edns_is_told_the_version_that_is_spoken() {
        let mut message = Message::from_vec(&query("hello.fog", RecordType::AAAA)).unwrap();
        let mut edns = Edns::new();
        edns.set_version(1);
        message.set_edns(edns);
        let answer = ask_with(&message.to_vec().unwrap(), ASKED);
        // Number 16 has two names, one for each place in which it stands.
        assert_eq!(u16::from(answer.metadata.response_code), 16);
        assert!(answer.answers.is_empty());
    }

    #[test]
    fn names_of_others_are_passed_on_only_for_our_clients() {
        let bytes = query("example.org", RecordType::A);
        let asked = Asked {
            may_forward: true,
            ..ASKED
        };
        assert_eq!(answer(&bytes, asked, &table()), Outcome::Forward);
        assert_eq!(ask("example.org", RecordType::A), "Refused []");
        // Ours never leave.
        assert!(matches!(
            answer(&query("gone.fog", RecordType::A), asked, &table()),
            Outcome::Reply(_, Kind::NoSuchName)
        ));
    }

    #[test]
    fn updates_and_other_messages_are_refused() {
        let mut update = Message::from_vec(&query("form.internal", RecordType::SOA)).unwrap();
        update.metadata.op_code = OpCode::Update;
        let refused = ask_with(&update.to_vec().unwrap(), ASKED);
        assert_eq!(refused.metadata.response_code, ResponseCode::Refused);
        let mut many = query("hello.fog", RecordType::A);
        many[4..6].copy_from_slice(&[0xff, 0xff]);
        assert_eq!(
            ask_with(&many, ASKED).metadata.response_code,
            ResponseCode::FormErr
        );
        let mut response = query("hello.fog", RecordType::A);
        response[2] |= 0x80;
        assert_eq!(answer(&response, ASKED, &table()), Outcome::Silence);
    }

    #[test]
    fn the_name_of_the_zones_server_is_its_own_address() {
        let own = ["192.0.2.1".parse().unwrap(), "fd00::53".parse().unwrap()];
        let asked = Asked { own: &own, ..ASKED };
        let message = ask_with(&query("ns.fog", RecordType::AAAA), asked);
        assert_eq!(message.answers[0].data.to_string(), "fd00::53");
        let message = ask_with(&query("fog", RecordType::NS), asked);
        assert_eq!(message.additionals.len(), 2);
    }

    proptest! {
        #[test]
        fn any_bytes_have_an_outcome(bytes in proptest::collection::vec(any::<u8>(), 0..600), may_forward: bool) {
            let _ = answer(&bytes, Asked { may_forward, ..ASKED }, &table());
        }

        #[test]
        fn a_query_with_wrong_bytes_has_an_outcome(
            changes in proptest::collection::vec((0usize..80, any::<u8>()), 1..6), tcp: bool,
        ) {
            let mut message = Message::from_vec(&query("web.alice.form.internal", RecordType::A)).unwrap();
            message.set_edns(Edns::new());
            let mut bytes = message.to_vec().unwrap();
            for (at, value) in changes {
                let length = bytes.len();
                bytes[at % length] = value;
            }
            let transport = if tcp { Transport::Tcp } else { Transport::Udp };
            if let Outcome::Reply(reply, _) = answer(&bytes, Asked { transport, ..ASKED }, &table()) {
                prop_assert!(reply.len() <= 65_535);
                prop_assert_eq!(&reply[..2], &bytes[..2]);
                prop_assert!(reply[2] & 0x80 != 0, "a reply is marked as one");
            }
        }
    }
}
