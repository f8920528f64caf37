//! What came through the door, by host. Counts only grow, but for those of what is open now.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Hosts that are counted one by one; past it they share the name `(others)`.
const HOSTS_MAX: usize = 4096;

/// A reading of all counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Connections accepted.
    pub connections: u64,
    /// Connections open now.
    pub connections_open: u64,
    /// Connections closed at once because their client had too many.
    pub connections_refused: u64,
    /// Requests refused for their form: host, framing, method.
    pub requests_malformed: u64,
    /// Requests for a host that nobody has.
    pub requests_unknown_host: u64,
    /// By host.
    pub hosts: BTreeMap<String, HostCounters>,
}

macro_rules! host_counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// The counts of one host.
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        pub struct HostCounters { $($(#[$doc])* pub $name: u64,)* }

        #[derive(Debug, Default)]
        pub(crate) struct HostCounts { $(pub(crate) $name: AtomicU64,)* }

        impl HostCounts {
            fn read(&self) -> HostCounters {
                HostCounters { $($name: self.$name.load(Ordering::Relaxed),)* }
            }
        }
    };
}

host_counters! {
    /// Requests.
    requests,
    /// Answers of instances below 400.
    answers_good,
    /// Answers of instances from 400 to 499.
    answers_4xx,
    /// Answers of instances from 500.
    answers_5xx,
    /// Requests that found no healthy instance.
    no_target,
    /// Attempts that failed and were repeated with another instance or connection.
    retries,
    /// Requests that failed on the way to the instance.
    failed,
    /// Requests whose instance was too slow.
    timed_out,
    /// Connections upgraded, such as to WebSockets.
    upgrades,
}

#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) connections: AtomicU64,
    pub(crate) connections_open: AtomicU64,
    pub(crate) connections_refused: AtomicU64,
    pub(crate) requests_malformed: AtomicU64,
    pub(crate) requests_unknown_host: AtomicU64,
    hosts: Mutex<BTreeMap<String, Arc<HostCounts>>>,
}

impl Counts {
    /// The counts of a host that is in the table.
    pub(crate) fn host(&self, host: &str) -> Arc<HostCounts> {
        let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(counts) = hosts.get(host) {
            return counts.clone();
        }
        let name = if hosts.len() < HOSTS_MAX { host } else { "(others)" };
        hosts.entry(name.to_owned()).or_default().clone()
    }

    pub(crate) fn read(&self) -> Counters {
        let hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counters {
            connections: read(&self.connections),
            connections_open: read(&self.connections_open),
            connections_refused: read(&self.connections_refused),
            requests_malformed: read(&self.requests_malformed),
            requests_unknown_host: read(&self.requests_unknown_host),
            hosts: hosts
                .iter()
                .map(|(host, counts)| (host.clone(), counts.read()))
                .collect(),
        }
    }
}

pub(crate) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
