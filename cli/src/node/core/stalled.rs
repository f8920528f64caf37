//! A disk that does not take what the core has to write.
//!
//! What the core holds in memory is then more than what is durable, so nothing of it may be told. The thread
//! stands still with the batch in its hand: commands are refused with the reason, frames and ticks are dropped
//! (peers send again what is missed), news of peers and of this host is kept, and every second the store is
//! opened again and the batch written again, which changes nothing where it was written already. When it is
//! written, the thread goes on where it stood.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use ledger::io::store::{Batch, StoreError};
use ledger::op::Chain;
use reactors::node::{Durable, Input};
use tokio::sync::mpsc;

use super::{Message, NotWritten, Thread};

/// How often the batch is written again.
const AGAIN_EVERY: Duration = Duration::from_secs(1);

/// How often the messages that came meanwhile are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// News kept while the disk takes nothing, at most; the node ends beyond, and a start looks at everything anew.
const KEPT_MAX: usize = 64 * 1024;

/// What is to be written, with its proofs as they are stored.
struct Write<'a> {
    durable: &'a Durable,
    forks: Vec<(Chain, Vec<u8>)>,
}

impl<'a> Write<'a> {
    fn new(durable: &'a Durable) -> Self {
        let forks = durable.forks.iter().map(|proof| (proof.chain, proof.encode()));
        Self {
            durable,
            forks: forks.collect(),
        }
    }

    fn batch(&self) -> Batch<'_> {
        Batch {
            ops: &self.durable.ops,
            journal: &self.durable.journal,
            certificates: &self.durable.certificates,
            votes: &self.durable.votes,
            forks: &self.forks,
        }
    }
}

/// The reason with its sources, for people.
fn reason(error: &StoreError) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}

impl Thread {
    /// Writes; where the disk does not take it, waits till it does. What came meanwhile and must not be lost is
    /// kept for [`Thread::run`].
    pub(super) fn write(&mut self, durable: &Durable, inbox: &mut mpsc::Receiver<Message>) -> Result<()> {
        let write = Write::new(durable);
        let first = match self.store.write(&write.batch()) {
            Ok(()) => return Ok(()),
            Err(error @ (StoreError::Fault { .. } | StoreError::Closed)) => error,
            Err(error) => return Err(anyhow::Error::new(error).context("writing to the ledger's store")),
        };
        let why = reason(&first);
        tracing::error!("the ledger cannot be written, so the node stands still till it can: {why}");
        let why = NotWritten(why.into());
        self.show_not_written(Some(why.clone()));
        let began = Instant::now();
        let mut tried = Instant::now();
        loop {
            self.keep(&why, inbox)?;
            if tried.elapsed() < AGAIN_EVERY {
                std::thread::sleep(LOOK_EVERY);
                continue;
            }
            tried = Instant::now();
            let again = self
                .store
                .reopen()
                .and_then(|()| self.store.write(&write.batch()));
            if again.is_ok() {
                break;
            }
        }
        self.show_not_written(None);
        let seconds = began.elapsed().as_secs();
        tracing::info!("the ledger can be written again after {seconds} s: the node goes on");
        Ok(())
    }

    fn keep(&mut self, why: &NotWritten, inbox: &mut mpsc::Receiver<Message>) -> Result<()> {
        loop {
            match inbox.try_recv() {
                Ok(Message::Submit { reply, .. }) => {
                    // Whoever asked may have gone.
                    let _ = reply.send(Err(why.clone().into()));
                }
                // They are answered by what is durable, and that is not known to the core now.
                Ok(Message::Query(question)) => drop(question),
                Ok(Message::Input(Input::Frame { .. } | Input::Tick | Input::Submit { .. }, _)) => {}
                Ok(message @ Message::Input(..)) => {
                    if self.kept.len() >= KEPT_MAX {
                        bail!("the ledger could not be written for too long: {}", why.0);
                    }
                    self.kept.push_back(message);
                }
                Ok(Message::Stop) | Err(mpsc::error::TryRecvError::Disconnected) => {
                    bail!("the ledger could not be written: {}", why.0)
                }
                Err(mpsc::error::TryRecvError::Empty) => return Ok(()),
            }
        }
    }
}

/// What was kept, in order.
pub(super) type Kept = VecDeque<Message>;
