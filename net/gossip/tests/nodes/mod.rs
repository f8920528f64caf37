//! Nodes on loopback for the tests of this folder: started with a seed, listened to with a time limit.

// Each test binary uses its own part of this.
#![allow(dead_code, unreachable_pub)]

use std::collections::VecDeque;
use std::time::Duration;

use net_gossip::{Config, Event, Handle};
use tokio::sync::mpsc;

pub const NETWORK: [u8; 32] = [7; 32];
pub const QUIC: &str = "/ip4/127.0.0.1/udp/0/quic-v1";
pub const TCP: &str = "/ip4/127.0.0.1/tcp/0";
const LIMIT: Duration = Duration::from_secs(40);

pub struct Node {
    pub handle: Handle,
    pub events: mpsc::Receiver<Event>,
    /// Events that were passed over while another one was waited for.
    pub seen: VecDeque<Event>,
}

pub fn config(seed: u8, listen: &str) -> Config {
    Config::new([seed; 32], NETWORK, vec![listen.to_owned()])
}

pub async fn node(seed: u8, listen: &str) -> Node {
    node_with(config(seed, listen)).await
}

pub async fn node_with(config: Config) -> Node {
    // A port that an earlier life of the node held is free a moment after it.
    let start = std::time::Instant::now();
    let (handle, events) = loop {
        match net_gossip::start(config.clone()).await {
            Ok(started) => break started,
            Err(error) if error.to_string().contains("in use") && start.elapsed() < LIMIT => {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            Err(error) => panic!("{error}"),
        }
    };
    Node {
        handle,
        events,
        seen: VecDeque::new(),
    }
}

impl Node {
    pub fn id(&self) -> [u8; 32] {
        self.handle.node()
    }

    pub fn address(&self) -> String {
        self.handle.listen_addresses()[0].clone()
    }

    pub fn keep(&self, others: &[&Node]) {
        let kept = others
            .iter()
            .map(|other| (other.id(), vec![other.address()]))
            .collect();
        assert_eq!(self.handle.keep(kept), 0);
    }

    /// The next event, or a panic that says what was waited for.
    pub async fn next(&mut self, waited_for: &str) -> Event {
        match tokio::time::timeout(LIMIT, self.events.recv()).await {
            Ok(Some(event)) => event,
            Ok(None) => panic!("the transport ended while waiting for {waited_for}"),
            Err(_) => panic!("no {waited_for} within {LIMIT:?}; {:?}", self.handle.counters()),
        }
    }

    pub async fn up(&mut self, who: [u8; 32]) {
        loop {
            match self.next("PeerUp").await {
                Event::PeerUp { node, .. } if node == who => return,
                other => self.seen.push_back(other),
            }
        }
    }

    pub async fn down(&mut self, who: [u8; 32]) {
        loop {
            match self.next("PeerDown").await {
                Event::PeerDown { node } if node == who => return,
                other => self.seen.push_back(other),
            }
        }
    }

    pub async fn frame(&mut self, from: [u8; 32]) -> Vec<u8> {
        loop {
            match self.next("a frame").await {
                Event::Frame { node, bytes } if node == from => return bytes,
                other => self.seen.push_back(other),
            }
        }
    }

    /// Answers every request with its service, its length and its reverse, in a task, until the node stops.
    pub fn answer_all(mut self) -> Handle {
        let handle = self.handle.clone();
        tokio::spawn(async move {
            while let Some(event) = self.events.recv().await {
                if let Event::Request {
                    service,
                    mut bytes,
                    reply,
                    ..
                } = event
                {
                    let answer = match service.as_str() {
                        "reverse" => {
                            bytes.reverse();
                            Ok(bytes)
                        }
                        "never" => {
                            tokio::spawn(async move {
                                tokio::time::sleep(LIMIT).await;
                                drop(reply);
                            });
                            continue;
                        }
                        other => Err(format!("no service {other}")),
                    };
                    let _ = reply.send(answer);
                }
            }
        });
        handle
    }
}

/// Waits until a condition holds.
pub async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let start = std::time::Instant::now();
    while !holds() {
        assert!(start.elapsed() < LIMIT, "not within {LIMIT:?}: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
