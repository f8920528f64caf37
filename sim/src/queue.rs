//! What is to happen, in the order of time; what is due at one moment happens in the order in which it was
//! planned.

use std::collections::BTreeMap;

use ledger::command::SignedCommand;
use reactors::node::HostEvent;

use crate::host::Effect;

/// Something that happens at a time.
pub enum Event {
    /// A node's timer.
    Tick {
        /// Whose.
        node: usize,
        /// In which life.
        life: u64,
    },
    /// A time comes that a node waits for.
    Wake {
        /// Which.
        node: usize,
        /// In which life.
        life: u64,
    },
    /// A frame arrives.
    Frame {
        /// From whom.
        from: usize,
        /// To whom.
        to: usize,
        /// In which life of the receiver.
        life: u64,
        /// The bytes.
        bytes: Vec<u8>,
    },
    /// A connection is made, if it still can be.
    Connected {
        /// One end.
        a: usize,
        /// The other.
        b: usize,
        /// In which lives.
        lives: (u64, u64),
    },
    /// An end notices that a connection broke.
    Cut {
        /// Who notices.
        at: usize,
        /// Who is gone.
        peer: usize,
        /// In which life.
        life: u64,
    },
    /// The hands tell a node what its host holds.
    Adopt {
        /// Which.
        node: usize,
        /// In which life.
        life: u64,
    },
    /// The hands tell a node what an action did at once.
    Tell {
        /// Which.
        node: usize,
        /// In which life.
        life: u64,
        /// What.
        events: Vec<HostEvent>,
    },
    /// An action of the hands has its effect.
    Host {
        /// Where.
        node: usize,
        /// Who asked for it: in which life.
        life: u64,
        /// In which span of power.
        power: u64,
        /// What.
        effect: Effect,
    },
    /// A person asks for something.
    Ask,
    /// A person who heard no answer asks again.
    AskAgain {
        /// With the same bytes.
        command: SignedCommand,
        /// How often still.
        left: u32,
    },
    /// The nodes fall apart into two sides.
    Partition,
    /// All sides are joined again.
    Join,
    /// A node's process is killed.
    Crash {
        /// Not now, but around its next write.
        at_write: bool,
    },
    /// A host loses its power.
    LoseHost,
    /// A node's process starts.
    Start {
        /// Which.
        node: usize,
    },
    /// The claims that hold at any time are checked.
    Check,
}

/// What is to happen.
#[derive(Default)]
pub struct Queue {
    events: BTreeMap<(u64, u64), Event>,
    planned: u64,
}

impl Queue {
    /// Plans an event.
    pub fn at(&mut self, at_ms: u64, event: Event) {
        self.planned += 1;
        self.events.insert((at_ms, self.planned), event);
    }

    /// The next event and its time.
    pub fn pop(&mut self) -> Option<(u64, Event)> {
        self.events.pop_first().map(|((at_ms, _), event)| (at_ms, event))
    }
}
