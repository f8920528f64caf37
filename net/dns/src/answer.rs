//! From one decoded request to its answer. Pure and total: any request has an answer.
//!
//! ```text
//! other than a query     ─▶ REFUSED, NOTIMP   updates, notifications
//! not exactly 1 question ─▶ FORMERR
//! ANY, AXFR, IXFR        ─▶ REFUSED
//! in one of our zones    ─▶ records | NODATA + SOA | NXDOMAIN + SOA
//! elsewhere              ─▶ REFUSED, unless it is passed on: see [`passes_on`]
//! ```
//! The question is repeated as it was asked, upper and lower case kept: resolvers check it against forgery.

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::Arc;

use hickory_server::proto::ProtoError;
use hickory_server::proto::op::{Edns, Metadata, OpCode, Query, ResponseCode};
use hickory_server::proto::rr::rdata::{A, AAAA, NS, SOA, TXT};
use hickory_server::proto::rr::{DNSClass, Name, RData, Record, RecordType};
use hickory_server::server::Request;
use net::names::{NameRecords, NameTable};

use crate::reply::UDP_BYTES_MAX;

/// Addresses in one answer; the rest waits for the next turn of the rotation.
const ADDRESSES_MAX: usize = 16;
/// TXT records in one answer.
const TXT_MAX: usize = 32;
/// Longest piece of a TXT record.
const TXT_PIECE_BYTES: usize = 255;
/// How long SOA, NS and the absence of a name may be kept: names come and go with instances.
const ZONE_TTL_S: u32 = 5;
/// What is longer is cut, so that clients notice a change.
const TTL_S_MAX: u32 = 3600;

/// What a request is told: the parts of a response, before they become bytes.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) metadata: Metadata,
    pub(crate) edns: Option<Edns>,
    pub(crate) answers: Vec<Record>,
    pub(crate) authorities: Vec<Record>,
    pub(crate) additionals: Vec<Record>,
    pub(crate) kind: Kind,
}

/// What kind of answer it is, for the counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
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
}

/// A table made ready: with the names that exist only because longer ones do.
#[derive(Clone, Debug, Default)]
pub(crate) struct Index {
    table: Arc<NameTable>,
    between: HashSet<String>,
}

impl Index {
    /// Makes a table ready.
    pub(crate) fn new(table: Arc<NameTable>) -> Self {
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
    pub(crate) fn is_of(&self, table: &Arc<NameTable>) -> bool {
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

/// The circumstances of a request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked<'a> {
    /// Whether names of others are passed on for this client.
    pub(crate) may_forward: bool,
    /// A number that differs from request to request: turns the order of addresses.
    pub(crate) turn: u32,
    /// This server's own addresses, for the names of the zones' servers.
    pub(crate) own: &'a [IpAddr],
}

/// Whether a request is for others to answer, and from one who may have it passed on.
pub(crate) fn passes_on(request: &Request, may_forward: bool, index: &Index) -> bool {
    let [query] = request.queries.queries() else {
        return false;
    };
    let query = query.original();
    may_forward
        && request.metadata.op_code == OpCode::Query
        && request.metadata.recursion_desired
        && request.version() == 0
        && !is_refused(query)
        && index.zone_of(&text_of(&query.name)).is_none()
}

/// The answer to a request.
pub(crate) fn answer(request: &Request, asked: Asked<'_>, index: &Index) -> Answer {
    let [query] = request.queries.queries() else {
        return complaint(&request.metadata);
    };
    if request.metadata.op_code != OpCode::Query {
        return complaint(&request.metadata);
    }
    let query = query.original();
    let mut answer = Answer::empty(&request.metadata, ResponseCode::NoError, Kind::Answered);
    answer.metadata.recursion_available = asked.may_forward;
    if let Some(edns) = &request.edns {
        let mut ours = Edns::new();
        ours.set_max_payload(UDP_BYTES_MAX)
            .set_version(0)
            .set_dnssec_ok(edns.flags().dnssec_ok);
        answer.edns = Some(ours);
        if edns.version() != 0 {
            answer.metadata.response_code = ResponseCode::BADVERS;
            answer.kind = Kind::Malformed;
            return answer;
        }
    }
    let name = text_of(&query.name);
    match index.zone_of(&name) {
        Some(zone) if !is_refused(query) => fill(&mut answer, query, &name, zone, asked, index),
        _ => {
            answer.metadata.response_code = ResponseCode::Refused;
            answer.kind = Kind::Refused;
        }
    }
    answer
}

/// The answer to what is not one question: an update, a notification, a broken query.
pub(crate) fn complaint(asked: &Metadata) -> Answer {
    let (code, kind) = match asked.op_code {
        OpCode::Query => (ResponseCode::FormErr, Kind::Malformed),
        OpCode::Update => (ResponseCode::Refused, Kind::Refused),
        _ => (ResponseCode::NotImp, Kind::Refused),
    };
    Answer::empty(asked, code, kind)
}

impl Answer {
    fn empty(asked: &Metadata, code: ResponseCode, kind: Kind) -> Self {
        let mut metadata = Metadata::response_from_request(asked);
        metadata.response_code = code;
        Self {
            metadata,
            edns: None,
            answers: Vec::new(),
            authorities: Vec::new(),
            additionals: Vec::new(),
            kind,
        }
    }
}

/// Questions that nobody gets an answer to: too much at once, or not of the internet.
fn is_refused(query: &Query) -> bool {
    matches!(
        query.query_type,
        RecordType::ANY | RecordType::AXFR | RecordType::IXFR
    ) || query.query_class != DNSClass::IN
}

/// Puts the records of a name of ours into the answer.
fn fill(answer: &mut Answer, query: &Query, name: &str, zone: &str, asked: Asked<'_>, index: &Index) {
    answer.metadata.authoritative = true;
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
        add_records(answer, query, records, asked.turn);
    }
    if at_apex {
        match query.query_type {
            RecordType::SOA => answer.answers.extend(soa(zone, table.serial)),
            RecordType::NS => {
                if let (Ok(owner), Ok(server)) = (absolute(zone), absolute(&server)) {
                    let record = Record::from_rdata(owner, ZONE_TTL_S, RData::NS(NS(server.clone())));
                    answer.answers.push(record);
                    for address in asked.own.iter().take(ADDRESSES_MAX) {
                        let glue = Record::from_rdata(server.clone(), ZONE_TTL_S, rdata(*address));
                        answer.additionals.push(glue);
                    }
                }
            }
            _ => {}
        }
    }
    if !answer.answers.is_empty() {
        return;
    }
    answer.authorities.extend(soa(zone, table.serial));
    if exists {
        answer.kind = Kind::NoData;
    } else {
        answer.metadata.response_code = ResponseCode::NXDomain;
        answer.kind = Kind::NoSuchName;
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

fn add_records(answer: &mut Answer, query: &Query, records: &NameRecords, turn: u32) {
    let ttl_s = records.ttl_s.min(TTL_S_MAX);
    let mut add = |data| {
        answer
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

fn absolute(name: &str) -> Result<Name, ProtoError> {
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
