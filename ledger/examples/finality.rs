//! Time to final in virtual time: seven witnesses, ten milliseconds one way, two of them down.
//!
//! Ops appear at random witnesses that are up, at random times; the others have each one a message later.
//! Witnesses begin a height when they hold an op that is in no certificate and are silent otherwise. Measured
//! is from the op to the certificate that covers it, at the witness where it appeared.
//!
//! `cargo run -p ledger --example finality`

#[path = "../tests/finality_net/mod.rs"]
mod finality_net;

use finality_net::{Net, time_to_final};
use ledger::admit::Verify;

fn main() {
    println!("down      ops/s   heights   p50 ms   p99 ms   max ms");
    for down in [vec![], vec![0, 1], vec![0, 3], vec![2, 5]] {
        for gap_ms in [1000, 200, 20] {
            let mut net = Net::new(7, 7, 7, Verify::Trusting);
            let times = time_to_final(&mut net, &down, gap_ms, 500);
            let at = |share: usize| times[(times.len() - 1) * share / 100];
            let heights = net.nodes[6].certificates.len();
            let (p50, p99, max) = (at(50), at(99), at(100));
            let down = format!("{down:?}");
            println!("{down:8} {:6} {heights:9} {p50:8} {p99:8} {max:8}", 1000 / gap_ms);
        }
    }
}
