//! A replica among peers that send what they like.
//!
//! The bytes are a script: steps, each a byte that says what to do (its lower half) and on whose account (two
//! bits above), then what the step takes. The replica takes signatures on trust, and the script's ops are
//! linked and named for it, so that the fuzzer gets behind the hashes. After every step the log is checked.

use std::collections::BTreeSet;
use std::sync::OnceLock;

use ledger::admit::Verify;
use ledger::certified::Covers;
use ledger::clock::Hlc;
use ledger::entry::Entry;
use ledger::finality::checkpoint::Checkpoint;
use ledger::fork::{Branch, ForkProof};
use ledger::genesis::{Genesis, Invitation, SignedInvitation};
use ledger::id::{BuildId, CheckpointId, NodeId, OpId};
use ledger::key::{SIGNATURE_BYTES, SecretKey, Signature};
use ledger::limbo;
use ledger::op::{Body, Chain, Dependency, Op, Slot};
use ledger::replica::{Output, Replica, Setup, Stored};
use ledger::report::Report;
use ledger::report::images::ImageFailed;
use ledger::report::nodes::OpenChain;
use ledger::sync::{
    FRAME_BYTES_MAX, Frame, HeadMark, Heads, Hello, RUN_BYTES_MAX, RUN_OPS_MAX, Run, Unlisted,
};
use ledger::vector::Head;
use ledger::want::Want;

/// When the scripts begin.
const START_MS: u64 = 1_800_000_000_000;

/// Peers, each of which writes a chain.
const PEERS: usize = 4;

/// Steps of a script, at most.
const STEPS_MAX: usize = 200;

const FRAME: u8 = 0;
const WRITE: u8 = 1;
const DELIVER: u8 = 2;
const FORK: u8 = 3;
const PASS: u8 = 4;
const UP: u8 = 5;
const DOWN: u8 = 6;
const APPEND: u8 = 7;
const HEADS: u8 = 8;
const HELLO: u8 = 9;
const MORE: u8 = 10;
const NEXT: u8 = 11;
const LEVEL: u8 = 12;
const PROVE: u8 = 13;
const WANT: u8 = 14;
const CERTIFY: u8 = 15;

/// A script to begin with.
#[derive(Debug, Default)]
pub struct Script(Vec<u8>);

impl Script {
    fn step(mut self, what: u8, peer: u8, rest: &[u8]) -> Self {
        self.0.push(what | peer << 4);
        self.0.extend_from_slice(rest);
        self
    }

    /// A peer sends these bytes.
    pub fn frame(self, peer: u8, frame: &[u8]) -> Self {
        let length = (frame.len() as u16).to_le_bytes();
        self.step(FRAME, peer, &[&length[..], frame].concat())
    }

    /// A peer's chain grows by an op, this much later than the one before, that names these ops of the
    /// replica's log.
    pub fn write(self, peer: u8, later: u8, names: &[u8], kind: u16, content: &[u8]) -> Self {
        let head = [&[later, names.len() as u8], names].concat();
        let entry = [&kind.to_le_bytes()[..], &[1, content.len() as u8], content].concat();
        self.step(WRITE, peer, &[head, entry].concat())
    }

    /// A peer sends so many ops of a peer's chain from a place on; live or not.
    pub fn deliver(self, peer: u8, of: u8, first: u8, count: u8, live: bool) -> Self {
        self.step(DELIVER, peer, &[of | u8::from(live) << 7, first, count])
    }

    /// A peer takes its chain back to so many ops.
    pub fn fork(self, peer: u8, keep: u8) -> Self {
        self.step(FORK, peer, &[keep])
    }

    /// Time passes.
    pub fn pass(self, ms: u16) -> Self {
        self.step(PASS, 0, &ms.to_le_bytes())
    }

    /// The connection to a peer is made anew.
    pub fn up(self, peer: u8) -> Self {
        self.step(UP, peer, &[])
    }

    /// The connection to a peer is lost.
    pub fn down(self, peer: u8) -> Self {
        self.step(DOWN, peer, &[])
    }

    /// The replica appends a report of so many bytes.
    pub fn append(self, size: u8) -> Self {
        self.step(APPEND, 0, &[size])
    }

    /// A peer tells how far it holds each peer's chain.
    pub fn heads(self, peer: u8, flags: u8, next: [u8; PEERS]) -> Self {
        self.step(HEADS, peer, &[&[flags], &next[..]].concat())
    }

    /// A peer greets, with the replica's own root or with another.
    pub fn hello(self, peer: u8, same: bool) -> Self {
        self.step(HELLO, peer, &[u8::from(same)])
    }

    /// A peer has more, grants a window, says that it is level.
    pub fn talk(self, peer: u8) -> Self {
        self.step(MORE, peer, &[])
            .step(NEXT, peer, &[])
            .step(LEVEL, peer, &[])
    }

    /// A peer proves that another's chain is forked after so many ops.
    pub fn prove(self, peer: u8, of: u8, keep: u8) -> Self {
        self.step(PROVE, peer, &[of, keep])
    }

    /// A peer asks for these ops of the replica's log.
    pub fn want(self, peer: u8, names: &[u8]) -> Self {
        self.step(WANT, peer, &[&[names.len() as u8], names].concat())
    }

    /// What the replica would propose is certified; or, with 1, what it holds of peers' chains as they are.
    pub fn certify(self, how: u8) -> Self {
        self.step(CERTIFY, 0, &[how])
    }

    /// The bytes.
    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }
}

/// The network, made once: signatures take longer than a script.
struct Network {
    genesis: Genesis,
    invitations: Vec<SignedInvitation>,
}

fn secret(number: usize) -> SecretKey {
    SecretKey::from_seed([number as u8; 32])
}

/// The scripts' genesis.
pub(crate) fn genesis() -> &'static Genesis {
    &network().genesis
}

fn network() -> &'static Network {
    static NETWORK: OnceLock<Network> = OnceLock::new();
    NETWORK.get_or_init(|| {
        let admin = secret(255);
        let genesis = Genesis {
            name: "scene".into(),
            admins: vec![admin.public()],
            admins_needed: 1,
            witnesses: Default::default(),
            created_ms: START_MS - 1000,
            salt: [9; 16],
        };
        let invite = |number| {
            let invitation = Invitation {
                genesis: genesis.clone(),
                node: secret(number).node_id(),
                admin: admin.public(),
                peers: Vec::new(),
            };
            invitation.sign(&admin)
        };
        let invitations = (0..=PEERS).map(invite).collect();
        Network { genesis, invitations }
    })
}

const EMPTY: Signature = Signature([0; SIGNATURE_BYTES]);

struct Author {
    chain: Chain,
    ops: Vec<Op>,
}

struct Scene {
    replica: Replica,
    now_ms: u64,
    peers: Vec<Author>,
    admitted: BTreeSet<OpId>,
}

/// What is left of the bytes.
struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    fn word(&mut self) -> Option<u16> {
        Some(u16::from_le_bytes([self.byte()?, self.byte()?]))
    }

    /// So many bytes, or what is left.
    fn take(&mut self, count: usize) -> &'a [u8] {
        let (head, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        head
    }
}

/// A replica takes a script.
pub fn receive(bytes: &[u8]) {
    let Network { genesis, invitations } = network();
    let setup = Setup {
        genesis: genesis.clone(),
        invitation: invitations[0].clone(),
        secret: secret(0),
        incarnation: 1,
        seed: [0; 32],
        verify: Verify::Trusting,
    };
    let (replica, outputs) =
        Replica::open(setup, Stored::default(), START_MS).expect("the invitation is for this node");
    let author = |number: usize| Author {
        chain: Chain {
            node: secret(number + 1).node_id(),
            incarnation: 7,
        },
        ops: Vec::new(),
    };
    let mut scene = Scene {
        replica,
        now_ms: START_MS,
        peers: (0..PEERS).map(author).collect(),
        admitted: BTreeSet::new(),
    };
    scene.judge(outputs, &BTreeSet::new());
    for index in 0..PEERS {
        scene.open_chain(index);
        scene.act(|replica, now_ms, peers| replica.peer_up(peers[index].chain.node, now_ms));
    }
    let mut cursor = Cursor(bytes);
    for _ in 0..STEPS_MAX {
        if scene.step(&mut cursor).is_none() {
            break;
        }
    }
    scene.act(|replica, now_ms, _| replica.tick(now_ms + 10_000));
    scene.judge_log();
}

impl Scene {
    fn act(&mut self, act: impl FnOnce(&mut Replica, u64, &[Author]) -> Vec<Output>) {
        let connected = self.replica.peers().collect();
        let outputs = act(&mut self.replica, self.now_ms, &self.peers);
        self.judge(outputs, &connected);
    }

    fn write(&mut self, index: usize, body: Body) {
        let author = &mut self.peers[index];
        let slot = Slot {
            chain: author.chain,
            seq: author.ops.len() as u64,
            previous: author.ops.last().map_or(OpId([0; 32]), Op::id),
        };
        let network = self.replica.network();
        if let Ok(op) = Op::decode(network, slot, body.encode(), Some(EMPTY)) {
            author.ops.push(op);
        }
    }

    fn open_chain(&mut self, index: usize) {
        let opening = OpenChain {
            invitation: network().invitations[index + 1].bytes().to_vec(),
            before: None,
        };
        let body = Body {
            hlc: Hlc::at_ms(START_MS),
            dependencies: Vec::new(),
            entries: vec![Report::from(opening).to_entry()],
        };
        self.write(index, body);
    }

    fn step(&mut self, cursor: &mut Cursor<'_>) -> Option<()> {
        let what = cursor.byte()?;
        let index = usize::from(what >> 4) % PEERS;
        let peer = self.peers[index].chain.node;
        let receive =
            |replica: &mut Replica, frame: Frame, now_ms| replica.receive(peer, &frame.encode(), now_ms);
        match what & 15 {
            FRAME => {
                let length = cursor.word()?;
                let frame = cursor.take(usize::from(length));
                self.act(|replica, now_ms, _| replica.receive(peer, frame, now_ms));
            }
            WRITE => {
                let body = self.body(index, cursor)?;
                self.write(index, body);
            }
            DELIVER => {
                let (of, first, count) = (cursor.byte()?, cursor.byte()?, cursor.byte()?);
                let ops = &self.peers[usize::from(of) % PEERS].ops;
                let first = usize::from(first) % ops.len();
                let ops = &ops[first..ops.len().min(first + 1 + usize::from(count))];
                let run = Run {
                    live: of & 0x80 != 0,
                    chain: ops[0].slot().chain,
                    first: first as u64,
                    previous: ops[0].slot().previous,
                    bodies: ops.iter().map(|op| op.bytes().to_vec()).collect(),
                    signature: EMPTY,
                };
                self.act(|replica, now_ms, _| receive(replica, Frame::Run(run), now_ms));
            }
            FORK => {
                let keep = usize::from(cursor.byte()?);
                self.peers[index].ops.truncate(1 + keep);
            }
            PASS => {
                self.now_ms += u64::from(cursor.word()?);
                self.act(|replica, now_ms, _| replica.tick(now_ms));
            }
            UP => self.act(|replica, now_ms, _| replica.peer_up(peer, now_ms)),
            DOWN => self.act(|replica, now_ms, _| replica.peer_down(peer, now_ms)),
            APPEND => {
                let report = ImageFailed {
                    build: BuildId([1; 32]),
                    reason: "x".repeat(usize::from(cursor.byte()?)),
                };
                self.act(|replica, now_ms, _| {
                    let appended = replica.append(vec![report.into()], now_ms);
                    appended.map_or(Vec::new(), |(_, outputs)| outputs)
                });
            }
            HEADS => {
                let frame = self.heads(cursor)?;
                self.act(|replica, now_ms, _| receive(replica, frame, now_ms));
            }
            HELLO => {
                let same = cursor.byte()? & 1 == 1;
                self.act(|replica, now_ms, _| {
                    let root = if same {
                        replica.log().vector().root()
                    } else {
                        [3; 32]
                    };
                    let network = replica.network();
                    receive(replica, Frame::Hello(Hello { network, root }), now_ms)
                });
            }
            MORE => self.act(|replica, now_ms, _| receive(replica, Frame::More, now_ms)),
            NEXT => self.act(|replica, now_ms, _| receive(replica, Frame::Next, now_ms)),
            LEVEL => self.act(|replica, now_ms, _| receive(replica, Frame::Level, now_ms)),
            PROVE => {
                let (of, keep) = (usize::from(cursor.byte()?) % PEERS, usize::from(cursor.byte()?));
                if let Some(proof) = self.proof(of, keep) {
                    self.act(|replica, now_ms, _| receive(replica, Frame::Fork(proof), now_ms));
                }
            }
            WANT => {
                let names = self.names(cursor)?;
                if !names.is_empty() {
                    let back = names.len() % 2 == 1;
                    self.act(|replica, now_ms, _| {
                        receive(replica, Frame::Want(Want { back, names }), now_ms)
                    });
                }
            }
            _ => {
                let how = cursor.byte()?;
                self.certify(how);
            }
        }
        Some(())
    }

    fn body(&self, index: usize, cursor: &mut Cursor<'_>) -> Option<Body> {
        let later = i64::from(cursor.byte()? as i8);
        let last = self.peers[index].ops.last().map_or(0, |op| op.body().hlc.0);
        // Small steps count readings, negative ones go far ahead.
        let hlc = if later < 0 {
            Hlc(Hlc::at_ms(self.now_ms)
                .0
                .saturating_sub(later.unsigned_abs() << 20))
        } else {
            Hlc(last
                .saturating_add_signed(later - 1)
                .max(Hlc::at_ms(self.now_ms).0))
        };
        let mut dependencies = self.names(cursor)?;
        dependencies.sort();
        dependencies.dedup();
        let (kind, version, length) = (cursor.word()?, cursor.byte()?, cursor.byte()?);
        let entry = Entry {
            kind,
            version,
            bytes: cursor.take(usize::from(length)).to_vec(),
        };
        Some(Body {
            hlc,
            dependencies,
            entries: vec![entry],
        })
    }

    /// Ops of the log by their places in it, and some that are nowhere.
    fn names(&self, cursor: &mut Cursor<'_>) -> Option<Vec<Dependency>> {
        let held: Vec<OpId> = self.replica.log().iter().map(Op::id).collect();
        let count = cursor.byte()? % 8;
        let mut names = Vec::new();
        for _ in 0..count {
            let at = usize::from(cursor.byte()?);
            names.push(held.get(at).map_or(Dependency([at as u8; 16]), |id| (*id).into()));
        }
        Some(names)
    }

    /// A proof of what the peer's chain goes on with after so many ops, and of an op that it never wrote.
    fn proof(&self, of: usize, keep: usize) -> Option<ForkProof> {
        let op = self.peers[of].ops.get(1 + keep)?;
        let branch = |body: Vec<u8>| Branch {
            bodies: vec![body],
            signature: EMPTY,
        };
        let other = Body {
            entries: Vec::new(),
            ..op.body().clone()
        };
        let invitation = network().invitations[of + 1].bytes().to_vec();
        ForkProof::new(
            *op.slot(),
            invitation,
            branch(op.bytes().to_vec()),
            branch(other.encode()),
        )
    }

    fn certify(&mut self, how: u8) {
        let heads = if how & 1 == 0 {
            self.replica.proposal(self.now_ms, u64::from(how))
        } else {
            let head = |author: &Author| {
                let last = author.ops.last()?;
                let next = author.ops.len() as u64;
                Some((author.chain, Head { next, id: last.id() })).filter(|_| how & 2 == 0 || next > 1)
            };
            let mut heads: Vec<_> = self.peers.iter().filter_map(head).collect();
            heads.sort_by_key(|(chain, _)| *chain);
            heads
        };
        // Certificates agree with each other: the witnesses see to that.
        let certified = |chain: &Chain| {
            self.replica
                .log()
                .certified()
                .find(|(it, _)| *it == chain)
                .map(|(_, head)| *head)
        };
        let goes_on = |(chain, head): &(Chain, Head)| {
            let author = self.peers.iter().find(|author| author.chain == *chain);
            certified(chain).is_none_or(|before| {
                let at = usize::try_from(before.next - 1).unwrap_or(usize::MAX);
                head.next > before.next
                    && author.is_none_or(|author| author.ops.get(at).is_some_and(|op| op.id() == before.id))
            })
        };
        let heads: Vec<(Chain, Head)> = heads.into_iter().filter(goes_on).collect();
        if self.replica.covers(&heads) != Covers::Yes {
            return;
        }
        let checkpoint = Checkpoint {
            height: 1,
            previous: CheckpointId([0; 32]),
            time_ms: self.now_ms,
            order: [0; 32],
            state: [0; 32],
            forks: [0; 32],
            fold_version: 1,
            heads,
            next_witnesses: None,
        };
        self.act(|replica, now_ms, _| {
            let certified = replica.certify(&checkpoint, now_ms);
            certified.map_or(Vec::new(), |(_, outputs)| outputs)
        });
    }

    fn heads(&self, cursor: &mut Cursor<'_>) -> Option<Frame> {
        let flags = cursor.byte()?;
        let mut heads = Vec::new();
        for author in &self.peers {
            let next = u64::from(cursor.byte()?);
            let mark = if next > 0 { [9; 8] } else { [0; 8] };
            if next < 255 {
                heads.push((author.chain, HeadMark { next, mark }));
            }
        }
        heads.sort_by_key(|(chain, _)| *chain);
        Some(Frame::Heads(Heads {
            unlisted: if flags & 1 == 0 {
                Unlisted::Unknown
            } else {
                Unlisted::Level
            },
            ask: flags & 2 != 0,
            after: None,
            last: flags & 4 == 0,
            heads,
        }))
    }

    /// What must hold of every answer.
    fn judge(&mut self, outputs: Vec<Output>, connected: &BTreeSet<NodeId>) {
        let log = self.replica.log();
        for output in outputs {
            match output {
                Output::Send { to, frame } => {
                    assert!(connected.contains(&to) || self.replica.peers().any(|peer| peer == to));
                    assert!(frame.len() <= FRAME_BYTES_MAX);
                    assert!(Frame::decode(&frame).is_ok(), "a replica sends frames");
                }
                Output::Admitted(ops) => {
                    for op in ops {
                        let before = (op.slot().seq > 0).then(|| op.slot().previous);
                        assert!(before.is_none_or(|id| self.admitted.contains(&id)));
                        assert!(log.contains(&op.id()));
                        assert!(self.admitted.insert(op.id()), "an op is admitted once");
                    }
                }
                Output::Quarantined { ops, .. } => {
                    for op in ops {
                        assert!(self.admitted.remove(&op.id()), "what leaves was there");
                    }
                }
                Output::Forked(_) | Output::Void(_) | Output::AliveTwice { .. } => {}
                Output::Disconnect { peer, .. } => {
                    assert!(self.replica.peers().all(|other| other != peer));
                }
            }
        }
        assert_eq!(self.admitted.len(), log.len(), "who folds is told of every op");
        let (ops, bytes) = self.replica.waiting();
        assert!(ops <= limbo::OPS_MAX && bytes <= limbo::BYTES_MAX);
        assert!(!self.replica.clock().is_ahead_of(self.now_ms + 10_001));
    }

    /// What must hold of a log.
    fn judge_log(&self) {
        let log = self.replica.log();
        assert!(log.iter().map(Op::order).is_sorted_by(|a, b| a < b));
        assert_eq!(log.iter().count(), log.len());
        assert_eq!(log.chains().map(|(_, ops)| ops.len()).sum::<usize>(), log.len());
        for (chain, ops) in log.chains() {
            let mut before: Option<&Op> = None;
            for (seq, op) in ops.iter().enumerate() {
                let slot = Slot {
                    chain: *chain,
                    seq: seq as u64,
                    previous: before.map_or(OpId([0; 32]), Op::id),
                };
                assert_eq!(*op.slot(), slot, "an op is linked to the one before it");
                assert_eq!(op.id(), slot.id(self.replica.network(), op.bytes()));
                for name in &op.body().dependencies {
                    let named = log.named(name);
                    assert!(
                        named.is_some() || log.is_void(name),
                        "what an op names is there or void"
                    );
                    assert!(named.is_none_or(|named| named.body().hlc < op.body().hlc));
                }
                assert!(before.is_none_or(|before| before.body().hlc < op.body().hlc));
                let forked = self
                    .replica
                    .forks()
                    .seq(chain)
                    .is_some_and(|place| place <= seq as u64);
                assert!(
                    !forked || log.is_final(op),
                    "of a forked chain only what is final is left"
                );
                before = Some(op);
            }
            let proven = ops
                .iter()
                .rposition(|op| op.signature().is_some())
                .map_or(0, |at| at + 1);
            // What stands before a fork is shown by the proof.
            let ends_at_fork = log.fork_seq(chain) == Some(ops.len() as u64);
            let next = log.vector().next(chain) as usize;
            assert!(
                next == proven || ends_at_fork && next == ops.len(),
                "the vector tells what can be proved"
            );
            if let Some(head) = log.vector().head(chain) {
                assert_eq!(head.id, ops[next - 1].id());
            }
            let unproven: usize = ops[proven..].iter().map(|op| op.bytes().len()).sum();
            assert!(ops.len() - proven < RUN_OPS_MAX && unproven <= RUN_BYTES_MAX);
        }
    }
}
