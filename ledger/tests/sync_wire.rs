//! What an op costs on the wire, in each form.

mod scene;
mod wire_sizes;

use ledger::entry::Entry;
use wire_sizes::{command, report, sizes};

fn check(what: &str, entry: impl Fn(u64) -> Entry, live_max: usize, in_run_max: usize) {
    let sizes = sizes(entry);
    println!("{what}: {sizes:?}");
    assert!(sizes.live <= live_max, "{what}: {sizes:?}");
    assert!(sizes.together <= in_run_max, "{what}: {sizes:?}");
    assert!(sizes.in_run <= in_run_max, "{what}: {sizes:?}");
}

#[test]
fn a_node_report_of_64_bytes_is_small_on_the_wire() {
    check("node report", report, 180, 110);
}

#[test]
fn an_account_signed_command_of_64_bytes_is_small_on_the_wire() {
    check("account-signed command", command, 320, 240);
}
