//! Answers that wait for more than the own disk.
//!
//! ```text
//! A ── AskHeld(chain, seq) ─▶ all peers        when a command waits for copies; again every second
//! A ◀── Held(chain, next) ─── each of them     as soon as it holds the chain up to there, durably
//! ```
//! A node tells that it holds something in the same call that admitted it, so by the rule of the module above
//! ([`super`]) after the write: what is told to be held survives a crash of who tells it.

use std::collections::BTreeMap;

use ledger::codec::{DecodeError, Reader, Writer};
use ledger::id::{CommandId, NodeId};
use ledger::op::Chain;

use super::{FRAME_ASK_HELD, FRAME_HELD, Node, Output, SubmitError, Submitted, framed};

/// How long an answer waits, at most. The command is in the log all the same.
pub const WAIT_MS_MAX: u64 = 25_000;

/// Answers that wait, at most; a further one is given at once, as not waited for.
pub const WAITING_MAX: usize = 16 * 1024;

/// Chains that one peer may ask about at once; it asks again every second, so what is passed over comes back.
pub const ASKED_MAX: usize = 256;

/// What the answer to a command waits for, besides its op being durable here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Nothing: the outcome may turn till it is final.
    Tentative,
    /// So many other nodes hold the op durably.
    Replicated(u8),
    /// The op is final: its outcome stands for ever.
    Final,
}

/// An answer that waits.
#[derive(Debug)]
struct Waiting {
    token: u64,
    command: CommandId,
    submitted: Submitted,
    chain: Chain,
    seq: u64,
    wait: Wait,
    until_ms: u64,
}

/// What waits here, and who waits for us.
#[derive(Debug, Default)]
pub(super) struct Copies {
    waiting: Vec<Waiting>,
    /// How far others hold the chains that something waits for.
    held: BTreeMap<Chain, BTreeMap<NodeId, u64>>,
    /// What peers want to be told, once it is held: by peer and chain the place.
    asked: BTreeMap<NodeId, BTreeMap<Chain, u64>>,
}

impl Copies {
    fn count(&self, chain: &Chain, seq: u64) -> usize {
        let held = self.held.get(chain);
        held.map_or(0, |held| held.values().filter(|next| **next > seq).count())
    }

    /// Nothing is owed to a peer that is gone.
    pub(super) fn forget(&mut self, peer: &NodeId) {
        self.asked.remove(peer);
    }
}

fn encode(chain: &Chain, number: u64) -> Vec<u8> {
    let mut writer = Writer::new();
    writer
        .raw(&chain.node.0)
        .raw(&chain.incarnation.to_le_bytes())
        .varint(number);
    writer.into_bytes()
}

fn decode(bytes: &[u8]) -> Result<(Chain, u64), DecodeError> {
    let mut reader = Reader::new(bytes);
    let chain = Chain {
        node: NodeId(reader.array("a chain's node")?),
        incarnation: u64::from_le_bytes(reader.array("an incarnation")?),
    };
    let number = reader.varint(u64::MAX, "a place in a chain")?;
    reader.end()?;
    Ok((chain, number))
}

impl Node {
    /// Answers now, or when what is waited for has come.
    pub(super) fn answer(
        &mut self,
        (token, command): (u64, CommandId),
        submitted: Submitted,
        wait: Wait,
        now_ms: u64,
        out: &mut Vec<Output>,
    ) {
        let Some(slot) = self.replica.log().get(&submitted.op).map(|op| *op.slot()) else {
            let reply = Ok(submitted);
            out.push(Output::Reply { token, reply });
            return;
        };
        let waiting = Waiting {
            token,
            command,
            submitted,
            chain: slot.chain,
            seq: slot.seq,
            wait,
            until_ms: now_ms.saturating_add(WAIT_MS_MAX),
        };
        if self.copies.waiting.len() >= WAITING_MAX {
            let reply = Err(self.missing(&waiting));
            out.push(Output::Reply { token, reply });
            return;
        }
        if matches!(wait, Wait::Replicated(_)) {
            // Who wrote it holds it.
            if slot.chain.node != self.replica.node() {
                let held = self.copies.held.entry(slot.chain).or_default();
                held.entry(slot.chain.node).or_insert(slot.seq + 1);
            }
            self.ask_held(&slot.chain, slot.seq, out);
        }
        self.copies.waiting.push(waiting);
        self.give_waiting(now_ms, out);
    }

    /// Whether what an answer waits for has come.
    fn is_there(&self, waiting: &Waiting) -> bool {
        match waiting.wait {
            Wait::Tentative => true,
            Wait::Replicated(needed) => self.copies.count(&waiting.chain, waiting.seq) >= usize::from(needed),
            // Another node's op with the same command may be the one that counts.
            Wait::Final => {
                let op = self.as_of_now(waiting.command, waiting.submitted.clone()).op;
                let log = self.replica.log();
                log.get(&op).is_some_and(|op| log.is_final(op))
            }
        }
    }

    fn missing(&self, waiting: &Waiting) -> SubmitError {
        match waiting.wait {
            Wait::Tentative | Wait::Final => SubmitError::NotFinal,
            Wait::Replicated(needed) => SubmitError::NotReplicated {
                needed: usize::from(needed),
                held: self.copies.count(&waiting.chain, waiting.seq),
            },
        }
    }

    /// Gives the answers that waited for a certificate that has come.
    pub(super) fn give_final(&mut self, now_ms: u64, out: &mut Vec<Output>) {
        self.give_waiting(now_ms, out);
    }

    fn ask_held(&self, chain: &Chain, seq: u64, out: &mut Vec<Output>) {
        let frame = framed(FRAME_ASK_HELD, &encode(chain, seq));
        for (peer, _) in self.peers.iter().filter(|(_, peer)| peer.member) {
            out.push(Output::Send {
                to: *peer,
                bytes: frame.clone(),
            });
        }
    }

    /// A frame may have been lost, or a peer come up since: asks again for what waits.
    pub(super) fn ask_held_again(&mut self, now_ms: u64, out: &mut Vec<Output>) {
        self.give_waiting(now_ms, out);
        let mut wanted: BTreeMap<Chain, u64> = BTreeMap::new();
        let copies = |waiting: &&Waiting| matches!(waiting.wait, Wait::Replicated(_));
        for waiting in self.copies.waiting.iter().filter(copies) {
            let seq = wanted.entry(waiting.chain).or_default();
            *seq = (*seq).max(waiting.seq);
        }
        for (chain, seq) in wanted {
            self.ask_held(&chain, seq, out);
        }
    }

    /// A peer asks to be told when a place of a chain is held.
    pub(super) fn asked_held(&mut self, from: NodeId, bytes: &[u8], out: &mut Vec<Output>) {
        let Ok((chain, seq)) = decode(bytes) else {
            self.sees().unknown_frames += 1;
            return;
        };
        let asked = self.copies.asked.entry(from).or_default();
        if asked.len() < ASKED_MAX || asked.contains_key(&chain) {
            let place = asked.entry(chain).or_default();
            *place = (*place).max(seq);
        }
        self.tell_held(out);
    }

    /// Tells those who asked what is held by now.
    pub(super) fn tell_held(&mut self, out: &mut Vec<Output>) {
        let log = self.replica.log();
        for (peer, asked) in &mut self.copies.asked {
            asked.retain(|chain, seq| {
                let next = log.next(chain);
                let held = next > *seq;
                if held {
                    out.push(Output::Send {
                        to: *peer,
                        bytes: framed(FRAME_HELD, &encode(chain, next)),
                    });
                }
                !held
            });
        }
    }

    /// A peer tells how far it holds a chain.
    pub(super) fn held(&mut self, from: NodeId, bytes: &[u8], now_ms: u64, out: &mut Vec<Output>) {
        let Ok((chain, next)) = decode(bytes) else {
            self.sees().unknown_frames += 1;
            return;
        };
        if self.copies.waiting.iter().any(|waiting| waiting.chain == chain) {
            let held = self.copies.held.entry(chain).or_default();
            let known = held.entry(from).or_default();
            *known = (*known).max(next);
            self.give_waiting(now_ms, out);
        }
    }

    /// Gives the answers that wait no more.
    fn give_waiting(&mut self, now_ms: u64, out: &mut Vec<Output>) {
        let waiting = std::mem::take(&mut self.copies.waiting);
        for it in waiting {
            let reply = if self.is_there(&it) {
                Ok(self.as_of_now(it.command, it.submitted))
            } else if now_ms >= it.until_ms {
                Err(self.missing(&it))
            } else {
                self.copies.waiting.push(it);
                continue;
            };
            out.push(Output::Reply {
                token: it.token,
                reply,
            });
        }
        let waiting = &self.copies.waiting;
        self.copies
            .held
            .retain(|chain, _| waiting.iter().any(|it| it.chain == *chain));
    }

    /// The same with the outcome as it is by now: it may have turned meanwhile.
    fn as_of_now(&self, command: CommandId, submitted: Submitted) -> Submitted {
        match self.fold.cloud().commands.get(&command) {
            Some(record) => Submitted {
                op: record.op,
                outcome: record.outcome.clone(),
            },
            None => submitted,
        }
    }
}
