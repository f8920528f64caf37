//! The handler of hickory-server: what the table says, to one request at a time.
//!
//! ```text
//! no DNS query at all ─▶ silence    a response, or shorter than a header
//! malformed           ─▶ FORMERR    what does not decode; REFUSED, NOTIMP if it was not to be a query
//! of others, allowed  ─▶ passed on  the loops do that, and the bytes stay as they came
//! a request           ─▶ [`answer`] through [`RequestHandler`]
//! ```
//! It waits for nothing and knows no socket: a [`Reply`] takes the bytes.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use arc_swap::ArcSwap;
use async_trait::async_trait;
use hickory_server::net::runtime::{Time, TokioTime};
use hickory_server::net::xfer::Protocol;
use hickory_server::proto::op::{Header, HeaderCounts, MessageType, Metadata, ResponseCode};
use hickory_server::proto::serialize::binary::{BinDecodable, BinDecoder};
use hickory_server::server::{Request, RequestHandler, ResponseHandler, ResponseInfo};
use hickory_server::zone_handler::{MessageResponseBuilder, Queries};
use net::names::NameTable;
use net::prefix::Prefix;

use crate::answer::{self, Answer, Asked, Index, Kind};
use crate::clients;
use crate::counters::{Counts, count};
use crate::reply::Reply;

/// What becomes of a message.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// These bytes go back.
    Reply(Vec<u8>),
    /// To be passed on verbatim but for its id.
    Forward(Box<Request>),
    /// Not a query: nothing goes back.
    Silence,
}

/// The authority of the table's zones.
#[derive(Debug)]
pub(crate) struct Authority {
    table: Arc<ArcSwap<NameTable>>,
    index: ArcSwap<Index>,
    turn: AtomicU32,
    own: Vec<IpAddr>,
    forward_for: Option<Vec<Prefix>>,
    pub(crate) counts: Counts,
}

impl Authority {
    /// Answers from a table. `own` are this server's addresses. Names of others are passed on for the host
    /// itself and for `forward_for`; without it for nobody. Addresses take turns from `first_turn` on.
    pub(crate) fn new(
        table: Arc<ArcSwap<NameTable>>,
        own: Vec<IpAddr>,
        forward_for: Option<Vec<Prefix>>,
        first_turn: u32,
    ) -> Self {
        Self {
            index: ArcSwap::from_pointee(Index::new(table.load_full())),
            table,
            turn: AtomicU32::new(first_turn),
            own,
            forward_for,
            counts: Counts::default(),
        }
    }

    /// Decides what becomes of any bytes that came from a client.
    pub(crate) async fn decide(&self, bytes: &[u8], client: SocketAddr, protocol: Protocol) -> Outcome {
        count(&self.counts.queries);
        let header = match Header::read(&mut BinDecoder::new(bytes)) {
            Ok(header) if header.metadata.message_type == MessageType::Query => header,
            _ => {
                count(&self.counts.malformed);
                return Outcome::Silence;
            }
        };
        // Before the rest is read: the decoder sets room aside for as many questions as the header claims.
        let request = match header.counts.queries {
            1 => Request::from_bytes(bytes.to_vec(), client, protocol).ok(),
            _ => None,
        };
        let reply;
        match request {
            Some(request) if self.passes_on(&request) => return Outcome::Forward(Box::new(request)),
            Some(request) => {
                reply = Reply::to(&request);
                self.handle_request::<_, TokioTime>(&request, reply.clone()).await;
            }
            None => {
                let Ok(none) = Queries::read(&mut BinDecoder::new(&[]), 0) else {
                    return Outcome::Silence;
                };
                reply = Reply::to_unread();
                self.send(answer::complaint(&header.metadata), &none, reply.clone())
                    .await;
            }
        }
        reply.into_bytes().map_or(Outcome::Silence, Outcome::Reply)
    }

    fn passes_on(&self, request: &Request) -> bool {
        answer::passes_on(request, self.may_forward(request.src().ip()), &self.index())
    }

    fn may_forward(&self, client: IpAddr) -> bool {
        let allowed = |prefixes: &Vec<Prefix>| clients::may_forward(client, prefixes);
        self.forward_for.as_ref().is_some_and(allowed)
    }

    /// The index of the table as it is now.
    fn index(&self) -> Arc<Index> {
        let table = self.table.load_full();
        let index = self.index.load_full();
        if index.is_of(&table) {
            return index;
        }
        let index = Arc::new(Index::new(table));
        self.index.store(index.clone());
        index
    }

    async fn send(&self, answer: Answer, queries: &Queries, mut to: impl ResponseHandler) -> ResponseInfo {
        let response = MessageResponseBuilder::new(queries, answer.edns.as_ref()).build(
            answer.metadata,
            &answer.answers,
            &answer.authorities,
            [],
            &answer.additionals,
        );
        match to.send_response(response).await {
            Ok(sent) => {
                count(match answer.kind {
                    _ if sent.truncation => &self.counts.truncated,
                    Kind::Answered => &self.counts.answered,
                    Kind::NoData => &self.counts.no_data,
                    Kind::NoSuchName => &self.counts.no_such_name,
                    Kind::Refused => &self.counts.refused,
                    Kind::Malformed => &self.counts.malformed,
                });
                sent
            }
            Err(error) => {
                tracing::debug!(%error, "a DNS answer could not be written");
                failed(answer.metadata)
            }
        }
    }
}

/// What is told of an answer that could not be written: hickory-server asks for something in any case.
fn failed(mut metadata: Metadata) -> ResponseInfo {
    metadata.response_code = ResponseCode::ServFail;
    ResponseInfo::from(Header {
        metadata,
        counts: HeaderCounts::default(),
    })
}

#[async_trait]
impl RequestHandler for Authority {
    async fn handle_request<R: ResponseHandler, T: Time>(&self, request: &Request, to: R) -> ResponseInfo {
        let asked = Asked {
            may_forward: self.may_forward(request.src().ip()),
            turn: self.turn.fetch_add(1, Ordering::Relaxed),
            own: &self.own,
        };
        let answer = answer::answer(request, asked, &self.index());
        self.send(answer, &request.queries, to).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    use hickory_server::proto::op::{Edns, Message, OpCode, Query};
    use hickory_server::proto::rr::{Name, Record, RecordType};
    use net::names::NameRecords;
    use proptest::prelude::*;

    use crate::reply::UDP_BYTES_MAX;

    fn table() -> NameTable {
        let names = [
            (
                "web.alice.form.internal",
                vec!["10.0.0.1", "10.0.0.2", "10.0.0.3"],
                vec!["fd00::1"],
                vec![],
            ),
            ("idle.alice.form.internal", vec![], vec![], vec![]),
            ("many.fog", vec![], vec![], vec!["y".repeat(30); 32]),
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
        NameTable {
            zones,
            names,
            serial: 42,
        }
    }

    /// The circumstances of a message.
    #[derive(Clone, Copy)]
    struct Asked<'a> {
        protocol: Protocol,
        may_forward: bool,
        turn: u32,
        own: &'a [IpAddr],
    }

    const ASKED: Asked<'static> = Asked {
        protocol: Protocol::Udp,
        may_forward: false,
        turn: 0,
        own: &[],
    };

    fn authority(asked: Asked<'_>) -> Authority {
        let forward_for = asked.may_forward.then(|| vec!["192.0.2.0/24".parse().unwrap()]);
        let table = Arc::new(ArcSwap::from_pointee(table()));
        Authority::new(table, asked.own.to_vec(), forward_for, asked.turn)
    }

    fn outcome_of(bytes: &[u8], asked: Asked<'_>, authority: &Authority) -> Outcome {
        let client = "192.0.2.9:5353".parse().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(authority.decide(bytes, client, asked.protocol))
    }

    fn outcome(bytes: &[u8], asked: Asked<'_>) -> Outcome {
        outcome_of(bytes, asked, &authority(asked))
    }

    fn query(name: &str, kind: RecordType) -> Vec<u8> {
        let mut message = Message::query();
        message.metadata.id = 77;
        message.metadata.recursion_desired = true;
        message.add_query(Query::query(Name::from_ascii(format!("{name}.")).unwrap(), kind));
        message.to_vec().unwrap()
    }

    fn ask_with(bytes: &[u8], asked: Asked<'_>) -> Message {
        match outcome(bytes, asked) {
            Outcome::Reply(bytes) => Message::from_vec(&bytes).unwrap(),
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
                protocol: Protocol::Tcp,
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
    fn a_cut_answer_keeps_its_edns_and_the_room_that_was_asked_for() {
        let asked = authority(ASKED);
        // Some of these rooms end where records fit no more, and EDNS not either.
        for room in 512..560 {
            let mut narrow = Message::from_vec(&query("many.fog", RecordType::TXT)).unwrap();
            let mut edns = Edns::new();
            edns.set_max_payload(room);
            narrow.set_edns(edns);
            let Outcome::Reply(reply) = outcome_of(&narrow.to_vec().unwrap(), ASKED, &asked) else {
                panic!("no reply");
            };
            assert!(reply.len() <= usize::from(room));
            let message = Message::from_vec(&reply).unwrap();
            assert!(message.metadata.truncation && message.metadata.authoritative);
            assert_eq!(message.queries, narrow.queries);
            assert_eq!(message.edns.unwrap().max_payload(), UDP_BYTES_MAX);
        }
        let counts = asked.counts.read();
        assert_eq!((counts.queries, counts.truncated, counts.answered), (48, 48, 0));
    }

    #[test]
    fn what_cannot_be_decoded_is_told_so_by_its_kind() {
        let mut broken = query("hello.fog", RecordType::A);
        broken.truncate(14);
        let asked = authority(ASKED);
        for (op_code, expect) in [
            (OpCode::Query, ResponseCode::FormErr),
            (OpCode::Update, ResponseCode::Refused),
            (OpCode::Notify, ResponseCode::NotImp),
        ] {
            broken[2] = u8::from(op_code) << 3;
            let Outcome::Reply(reply) = outcome_of(&broken, ASKED, &asked) else {
                panic!("no reply");
            };
            assert_eq!(reply.len(), 12, "only a header");
            let message = Message::from_vec(&reply).unwrap();
            assert_eq!(
                (message.metadata.id, message.metadata.response_code),
                (77, expect)
            );
        }
        assert!(matches!(
            outcome_of(&broken[..11], ASKED, &asked),
            Outcome::Silence
        ));
        let counts = asked.counts.read();
        assert_eq!((counts.queries, counts.malformed, counts.refused), (4, 2, 2));
    }

    #[test]
    fn an_answer_goes_back_once() {
        let bytes = query("hello.fog", RecordType::AAAA);
        let client = "192.0.2.9:5353".parse().unwrap();
        let request = Request::from_bytes(bytes, client, Protocol::Udp).unwrap();
        let authority = authority(ASKED);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let reply = Reply::to(&request);
        let mut told = Vec::new();
        for _ in 0..2 {
            let handled = authority.handle_request::<_, TokioTime>(&request, reply.clone());
            told.push(runtime.block_on(handled).response_code);
        }
        assert_eq!(told, [ResponseCode::NoError, ResponseCode::ServFail]);
        let message = Message::from_vec(&reply.into_bytes().unwrap()).unwrap();
        assert_eq!(message.answers.len(), 1);
        assert_eq!(authority.counts.read().answered, 1);
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
        assert!(matches!(outcome(&bytes, asked), Outcome::Forward(request) if request.as_slice() == bytes));
        assert_eq!(ask("example.org", RecordType::A), "Refused []");
        // Ours never leave.
        let ours = ask_with(&query("gone.fog", RecordType::A), asked);
        assert_eq!(ours.metadata.response_code, ResponseCode::NXDomain);
        assert!(ours.metadata.recursion_available);
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
        assert!(matches!(outcome(&response, ASKED), Outcome::Silence));
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
            let _ = outcome(&bytes, Asked { may_forward, ..ASKED });
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
            let protocol = if tcp { Protocol::Tcp } else { Protocol::Udp };
            if let Outcome::Reply(reply) = outcome(&bytes, Asked { protocol, ..ASKED }) {
                prop_assert!(reply.len() <= 65_535);
                prop_assert_eq!(&reply[..2], &bytes[..2]);
                prop_assert!(reply[2] & 0x80 != 0, "a reply is marked as one");
            }
        }
    }
}
