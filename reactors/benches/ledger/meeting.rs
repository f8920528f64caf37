//! What goes over the wire, in bytes and round trips, and how long till what was said is final: in virtual
//! time, with the nets of the tests.

use ledger::admit::Verify;
use ledger::entry::Entry;

use crate::apart::{Authors, Pair, remembering, replica, strangers};
use crate::finality_net::{Net, time_to_final};
use crate::row::{Reach, Row};
use crate::wire_sizes::{command, report, sizes};

/// Bytes of an op on the wire.
pub(crate) fn op_bytes() -> Vec<Row> {
    let of = |what: &str, entry: fn(u64) -> Entry, live: f64, in_run: f64| {
        let sizes = sizes(entry);
        [("live", sizes.live, live), ("in a run", sizes.in_run, in_run)].map(|(way, ours, most)| {
            Row::new(
                format!("{what} of 64 bytes on the wire, {way}"),
                "bytes",
                ours as f64,
                Reach::Most(most),
            )
            .why("one dependency, signature with it")
        })
    };
    let reports = of("node report", report, 180.0, 110.0);
    reports
        .into_iter()
        .chain(of("account-signed command", command, 320.0, 240.0))
        .collect()
}

/// Two ledgers of so many ops and 1,000 chains that are 100 ops apart.
pub(crate) fn comparison(ops: usize) -> Vec<Row> {
    const CHAINS: usize = 1_000;
    const APART: usize = 100;
    let mut authors = Authors::new(CHAINS, 64);
    let shared = authors.history(ops);
    let more: Vec<_> = (0..APART)
        .map(|index| authors.write(index * (CHAINS / APART)))
        .collect();
    let (a, b) = more.split_at(APART / 2);
    let told = format!("{ops} ops, {CHAINS} chains, {APART} ops apart, half of them at each");
    let fresh = strangers(&shared, a, b).settle(20_000);
    let again = remembering(&shared, a, b).settle(20_000);
    let mut rows = Vec::new();
    for (what, cost, most) in [("no memory", fresh, 7_000.0), ("memory", again, 1_500.0)] {
        let bytes = format!("comparison with {what} of the peer, bytes beyond the ops");
        let trips = format!("comparison with {what} of the peer, until data flows");
        rows.push(
            Row::new(bytes, "bytes", cost.beyond() as f64, Reach::Most(most)).why(format!(
                "{told}; beyond bodies and signatures: {} to find what differs, the rest says whose ops they are",
                cost.talk_bytes
            )),
        );
        rows.push(Row::new(trips, "round trips", cost.trips(), Reach::Most(1.0)).why(&told));
    }
    rows
}

/// What a node is sent that was away, or that is new.
pub(crate) fn catch_up_bytes() -> Vec<Row> {
    let mut authors = Authors::new(100, 100);
    let shared = authors.history(100_000);
    let mut pair = Pair::new(replica(0, vec![]), replica(1, shared.clone()));
    pair.link();
    let joiner = pair.settle(60_000);
    let missed = authors.history(10_000);
    let mut pair = Pair::new(replica(0, shared.clone()), replica(1, [shared, missed].concat()));
    pair.link();
    let away = pair.settle(60_000);
    [
        ("a node back after 10,000 missed ops, bytes", away, 2.5),
        ("an empty joiner with 100,000 ops, bytes", joiner, 20.0),
    ]
    .map(|(what, cost, most)| {
        Row::new(what, "MB", cost.bytes as f64 / 1e6, Reach::Most(most)).why(format!(
            "payloads of 100 bytes, 100 chains, both ways; level after {} round trips",
            cost.level_ms as f64 / (2 * crate::apart::DELAY_MS) as f64
        ))
    })
    .into()
}

/// Seven witnesses, two of them down, ten milliseconds one way.
pub(crate) fn time_to_be_final() -> Vec<Row> {
    const OPS: usize = 500;
    let (mut p50, mut p99) = (0, 0);
    for down in [[0, 1], [0, 3], [2, 5]] {
        for gap_ms in [1000, 200, 20] {
            let mut net = Net::new(7, 7, 7, Verify::Trusting);
            let times = time_to_final(&mut net, &down, gap_ms, OPS);
            let at = |share: usize| times[(times.len() - 1) * share / 100];
            (p50, p99) = (p50.max(at(50)), p99.max(at(99)));
        }
    }
    [("p50", p50, 300.0), ("p99", p99, 2_000.0)]
        .map(|(share, ours, most)| {
            Row::new(format!("time to final, {share}"), "ms", ours as f64, Reach::Most(most)).why(
                "virtual; 7 witnesses, 10 ms one way; the worst of three pairs down at 1, 5 and 50 ops a second, 500 ops each",
            )
        })
        .into()
}
