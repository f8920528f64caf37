//! The format once more, in the plainest way: from all entries down, by what the drawing in
//! `projections::tree` says and with none of its code.

use ledger::codec::Writer;
use ledger::id::hash;

use crate::Model;

type Hash = [u8; 32];
type Entry = (Hash, (u8, Vec<u8>), Vec<u8>);

fn bit(position: &Hash, depth: usize) -> bool {
    position[depth / 8] & (0x80 >> (depth % 8)) != 0
}

fn leaf(entries: &[Entry]) -> Vec<u8> {
    let mut sorted: Vec<_> = entries.iter().map(|(_, at, value)| (at, value)).collect();
    sorted.sort();
    let mut writer = Writer::new();
    writer.raw(&[0]);
    for ((table, key), value) in sorted {
        writer.raw(&[*table]).sized(key).sized(value);
    }
    writer.into_bytes()
}

fn fits(entries: &[Entry]) -> bool {
    entries.len() <= 1 || leaf(entries).len() - 1 <= 8192
}

fn halves(entries: &[Entry], depth: usize) -> [Vec<Entry>; 2] {
    let (right, left) = entries
        .iter()
        .cloned()
        .partition(|(position, ..)| bit(position, depth));
    [left, right]
}

/// The chunk of all that is below a place, and before it in `made` what is below it.
fn chunk(entries: &[Entry], depth: usize, made: &mut Vec<(Hash, Vec<u8>)>) -> Hash {
    let place = made.len();
    let bytes = if fits(entries) {
        leaf(entries)
    } else {
        let mut writer = Writer::new();
        writer.raw(&[1]);
        vertex(entries, depth, 0, &mut writer, made);
        writer.into_bytes()
    };
    let hash = hash("formation 2026 state node v1", &[&bytes]);
    made.insert(place, (hash, bytes));
    hash
}

fn vertex(
    entries: &[Entry],
    depth: usize,
    forks: usize,
    writer: &mut Writer,
    made: &mut Vec<(Hash, Vec<u8>)>,
) {
    if entries.is_empty() {
        writer.raw(&[0]);
    } else if fits(entries) || forks == 4 {
        let weight = leaf(entries).len() as u64 - 1;
        let hash = chunk(entries, depth, made);
        writer
            .raw(&[1])
            .varint(weight)
            .varint(entries.len() as u64)
            .raw(&hash);
    } else {
        writer.raw(&[2]);
        for half in halves(entries, depth) {
            vertex(&half, depth + 1, forks + 1, writer, made);
        }
    }
}

/// All chunks, parents first; the first is the root's.
pub(crate) fn chunks(model: &Model) -> Vec<(Hash, Vec<u8>)> {
    let entries: Vec<Entry> = model
        .iter()
        .map(|((table, key), value)| {
            let position = hash("formation 2026 state position v1", &[&[*table], key]);
            (position, (*table, key.clone()), value.clone())
        })
        .collect();
    let mut made = Vec::new();
    chunk(&entries, 0, &mut made);
    made
}
