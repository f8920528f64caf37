//! A replica among peers that send what they like.
//!
//! The bytes are a script: steps, each a byte that says what to do (its lower half and the bit above the peer)
//! and on whose account (the two bits between), then what the step takes. The replica takes signatures on trust,
//! and the script's ops are linked and named for it, so that the fuzzer gets behind the hashes. A peer that
//! answers does so in the talk that the replica began or took part in last. After every step the log is checked.

use std::collections::{BTreeMap, BTreeSet};
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
    Anchor, FRAME_BYTES_MAX, Frame, HeadMark, Heads, Hello, Lacks, List, Mark, Ops, Parts, RUN_BYTES_MAX,
    RUN_OPS_MAX, Run, Stretch, Summary, mark_of,
};
use ledger::vector::{self, Head};
use ledger::want::{ForksList, ForksTold, Want};

use super::script::*;

/// When the scripts begin.
const START_MS: u64 = 1_800_000_000_000;

/// Steps of a script, at most.
const STEPS_MAX: usize = 200;

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

/// The talks of the replica with a peer.
#[derive(Default)]
struct Talks {
    /// Of the replica's last greeting.
    greeted: u64,
    /// Of its last list.
    listed: u64,
    /// Of the last comparison that came to an answer.
    last: u64,
    /// How many the peer began.
    begun: u64,
}

struct Scene {
    replica: Replica,
    now_ms: u64,
    peers: Vec<Author>,
    talks: BTreeMap<NodeId, Talks>,
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
        talks: BTreeMap::new(),
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

/// Up to seven numbers.
fn numbers(cursor: &mut Cursor<'_>) -> Option<Vec<u64>> {
    let count = cursor.byte()? % 8;
    (0..count).map(|_| cursor.byte().map(u64::from)).collect()
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
        let what = what & 15 | (what & FURTHER) >> 2;
        if let Some(frame) = self.said(what, peer, cursor)? {
            self.act(|replica, now_ms, _| replica.receive(peer, &frame.encode(), now_ms));
            return Some(());
        }
        match what {
            FRAME => {
                let length = cursor.word()?;
                let frame = cursor.take(usize::from(length));
                self.act(|replica, now_ms, _| replica.receive(peer, frame, now_ms));
            }
            WRITE => {
                let body = self.body(index, cursor)?;
                self.write(index, body);
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
            CERTIFY => {
                let how = cursor.byte()?;
                self.certify(how);
            }
            _ => {}
        }
        Some(())
    }

    /// The frame of a step in which a peer says something, if there is one.
    fn said(&mut self, what: u8, peer: NodeId, cursor: &mut Cursor<'_>) -> Option<Option<Frame>> {
        Some(match what {
            DELIVER => {
                let (of, first, count) = (cursor.byte()?, cursor.byte()?, cursor.byte()?);
                let run = self.run(of, first, count);
                let live = of & 0x80 != 0;
                Some(Frame::Run(Run { live, ..run }))
            }
            BRANCH => Some(Frame::Branch(self.run(
                cursor.byte()?,
                cursor.byte()?,
                cursor.byte()?,
            ))),
            OPS => Some(self.ops(cursor)?),
            HEADS => Some(self.heads(cursor)?),
            HELLO => Some(self.hello(peer, cursor)?),
            MORE => Some(Frame::More),
            NEXT => Some(Frame::Next),
            LEVEL => {
                let talks = self.talks.entry(peer).or_default();
                talks.last = talks.greeted;
                Some(Frame::Level(talks.greeted))
            }
            LIST => Some(self.list(peer, cursor)?),
            LACKS => Some(Frame::Lacks(Lacks {
                talk: self.talks.entry(peer).or_default().listed,
                lacks: numbers(cursor)?,
            })),
            ANNOUNCE => Some(Frame::Announce(self.marks(0, cursor)?)),
            GRAFT => Some(Frame::Graft(self.marks(0, cursor)?)),
            PRUNE => Some(Frame::Prune),
            UNPLACED => self.names(cursor)?.first().map(|name| Frame::Unplaced(*name)),
            FORKS => Some(self.forks(cursor)?),
            PROVE => {
                let (of, keep) = (usize::from(cursor.byte()?) % PEERS, usize::from(cursor.byte()?));
                self.proof(of, keep).map(Frame::Fork)
            }
            WANT => {
                let names = self.names(cursor)?;
                let back = names.len() % 2 == 1;
                (!names.is_empty()).then_some(Frame::Want(Want { back, names }))
            }
            _ => None,
        })
    }

    /// So many ops of a peer's chain from a place on, and one more.
    fn run(&self, of: u8, first: u8, count: u8) -> Run {
        let ops = &self.peers[usize::from(of) % PEERS].ops;
        let first = usize::from(first) % ops.len();
        let ops = &ops[first..ops.len().min(first + 1 + usize::from(count))];
        Run {
            live: false,
            chain: ops[0].slot().chain,
            first: first as u64,
            previous: ops[0].slot().previous,
            bodies: ops.iter().map(|op| op.bytes().to_vec()).collect(),
            signature: EMPTY,
        }
    }

    fn ops(&self, cursor: &mut Cursor<'_>) -> Option<Frame> {
        let head = cursor.byte()?;
        let mut stretches = Vec::new();
        for _ in 0..(head & 7).max(1) {
            let of = cursor.byte()?;
            let run = self.run(of, cursor.byte()?, cursor.byte()?);
            let anchor = if of & 0x80 != 0 {
                Anchor::After(run.previous.into())
            } else {
                Anchor::At {
                    chain: run.chain,
                    first: run.first,
                    previous: run.previous,
                }
            };
            stretches.push(Stretch {
                anchor,
                bodies: run.bodies,
                signature: run.signature,
            });
        }
        let live = head & 0x80 != 0;
        Some(Frame::Ops(Ops { live, stretches }))
    }

    fn hello(&mut self, peer: NodeId, cursor: &mut Cursor<'_>) -> Option<Frame> {
        let flags = cursor.byte()?;
        let talks = self.talks.entry(peer).or_default();
        talks.begun += 1;
        let (talk, since) = (talks.begun, talks.last);
        let summary = if flags & 2 == 0 {
            let other = cursor.byte()?;
            let mut tags = self.replica.log().vector().tags(talk, u32::from(flags >> 2) % 4);
            for (index, tag) in tags.iter_mut().enumerate() {
                *tag ^= u16::from(other >> index & 1);
            }
            Summary::Tags(tags)
        } else {
            let marks = self.marks(talk, cursor)?;
            Summary::Since { talk: since, marks }
        };
        let root = if flags & 1 == 1 {
            self.replica.log().vector().root()
        } else {
            [3; 32]
        };
        let network = self.replica.network();
        Some(Frame::Hello(Hello {
            network,
            root,
            talk,
            summary,
        }))
    }

    fn list(&mut self, peer: NodeId, cursor: &mut Cursor<'_>) -> Option<Frame> {
        let flags = cursor.byte()?;
        let lacks = numbers(cursor)?;
        let talks = self.talks.entry(peer).or_default();
        let talk = talks.greeted;
        talks.last = talk;
        let mut all = Parts::none(2);
        (0..4).for_each(|part| all.insert(part));
        let marks = self.marks(talk, cursor)?;
        Some(Frame::List(List {
            talk,
            lacks,
            sent: u64::from(flags & 4),
            parts: (flags & 1 == 1).then_some(all),
            until: (flags & 2 != 0).then(|| marks.last().map_or(0, |mark| mark.short)),
            marks,
        }))
    }

    /// How far each peer's chain is said to be held.
    fn marks(&self, talk: u64, cursor: &mut Cursor<'_>) -> Option<Vec<Mark>> {
        let mut marks = Vec::new();
        for author in &self.peers {
            let told = cursor.byte()?;
            if told == UNTOLD {
                continue;
            }
            let next = u64::from(told % OTHERWISE);
            let last = author.ops.get((next as usize).wrapping_sub(1));
            let mark = match last {
                Some(op) if told < OTHERWISE => mark_of(&op.id(), talk),
                _ if next == 0 => [0; 4],
                _ => [9; 4],
            };
            marks.push(Mark {
                short: vector::short(&author.chain),
                next,
                mark,
            });
        }
        marks.sort();
        Some(marks)
    }

    fn forks(&self, cursor: &mut Cursor<'_>) -> Option<Frame> {
        let flags = cursor.byte()?;
        let mut forks = Vec::new();
        for author in &self.peers {
            let seq = cursor.byte()?;
            if seq != UNTOLD {
                forks.push((author.chain, u64::from(seq)));
            }
        }
        forks.sort();
        let told = if flags & 1 == 0 {
            ForksTold::Root([flags; 32])
        } else {
            ForksTold::List(ForksList {
                ask: flags & 2 != 0,
                after: None,
                last: flags & 4 != 0,
                forks,
            })
        };
        Some(Frame::Forks(told))
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
            Hlc(last.saturating_add_signed(later).max(Hlc::at_ms(self.now_ms).0))
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
        let mut heads = Vec::new();
        for author in &self.peers {
            let next = u64::from(cursor.byte()?);
            let mark = if next > 0 { [9; 8] } else { [0; 8] };
            if next < u64::from(UNTOLD) {
                heads.push((author.chain, HeadMark { next, mark }));
            }
        }
        heads.sort_by_key(|(chain, _)| *chain);
        Some(Frame::Heads(Heads { heads }))
    }

    /// What must hold of every answer.
    fn judge(&mut self, outputs: Vec<Output>, connected: &BTreeSet<NodeId>) {
        let log = self.replica.log();
        for output in outputs {
            match output {
                Output::Send { to, frame } => {
                    assert!(connected.contains(&to) || self.replica.peers().any(|peer| peer == to));
                    assert!(frame.len() <= FRAME_BYTES_MAX);
                    let talks = self.talks.entry(to).or_default();
                    match Frame::decode(&frame).expect("a replica sends frames") {
                        Frame::Hello(hello) => talks.greeted = hello.talk,
                        Frame::List(list) => (talks.listed, talks.last) = (list.talk, list.talk),
                        Frame::Level(talk) => talks.last = talk,
                        _ => {}
                    }
                }
                Output::Admitted(ops) => {
                    for op in ops {
                        let before = (op.slot().seq > 0).then(|| op.slot().previous);
                        assert!(before.is_none_or(|id| self.admitted.contains(&id)));
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
        // What was let in may have left again in the same call.
        assert_eq!(self.admitted.len(), log.len(), "who folds is told of every op");
        assert!(log.iter().all(|op| self.admitted.contains(&op.id())));
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
