//! What it costs to bring two ledgers together: `cargo run --release -p ledger --example compare [OPS [CHAINS]]`.
//!
//! Prints, for a hundred ops apart in ledgers of 1,000,000 ops and 1,000 chains, the bytes beside the ops and the
//! round trips, with memory of the peer and without; then what a node back after 10,000 ops and an empty joiner
//! with 100,000 take.

#[path = "../tests/apart/mod.rs"]
mod apart;

use apart::{Authors, Cost, Pair, remembering, replica, strangers};

fn main() {
    let mut numbers = std::env::args()
        .skip(1)
        .filter_map(|argument| argument.parse().ok());
    let ops = numbers.next().unwrap_or(1_000_000);
    let chains = numbers.next().unwrap_or(1_000).min(ops);
    let apart = 100.min(chains);

    let mut authors = Authors::new(chains, 64);
    let shared = authors.history(ops);
    let more: Vec<_> = (0..apart)
        .map(|index| authors.write(index * (chains / apart)))
        .collect();
    println!("{ops} ops, {chains} chains, {apart} ops apart in as many chains");
    for (what, split) in [
        ("all at the one greeted", 0),
        ("half at each", apart / 2),
        ("all at the greeter", apart),
    ] {
        let (a, b) = more.split_at(split);
        show(
            &format!("  no memory, {what}"),
            strangers(&shared, a, b).settle(20_000),
        );
        show(
            &format!("  memory, {what}"),
            remembering(&shared, a, b).settle(20_000),
        );
    }
    drop(shared);

    let mut authors = Authors::new(100, 100);
    let shared = authors.history(100_000);
    println!("payloads of 100 bytes, 100 chains");
    let mut pair = Pair::new(replica(0, vec![]), replica(1, shared.clone()));
    pair.link();
    show("  an empty joiner, 100,000 ops", pair.settle(60_000));
    let missed = authors.history(10_000);
    let mut pair = Pair::new(replica(0, shared.clone()), replica(1, [shared, missed].concat()));
    pair.link();
    show("  back after 10,000 ops", pair.settle(60_000));
}

fn show(what: &str, cost: Cost) {
    println!(
        "{what}: {} ops in {} bytes and {} frames; talk {}, beside bodies and signatures {}; first ops after {} round trips, level after {}",
        cost.ops,
        cost.bytes,
        cost.frames,
        cost.talk_bytes,
        cost.beyond(),
        cost.trips(),
        cost.level_ms as f64 / (2 * apart::DELAY_MS) as f64,
    );
}
