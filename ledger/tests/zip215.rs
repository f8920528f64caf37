//! Signatures at the edges: what ZIP-215 (<https://zips.z.cash/zip-0215>) accepts is accepted, what it refuses
//! is refused, and a batch always says what each signature by itself says. Nodes that disagreed on one
//! signature would diverge for ever.
//!
//! The cases are those that ed25519-zebra and ed25519-consensus publish, made by their rule: each of the 14
//! encodings of points of small order (8 canonical, 6 not) as key and as the signature's point, with the
//! scalar 0: 196 in all, each of which holds for every message. Beside them stand keys and signatures with a
//! part of small order, and bytes that no rule accepts. The expected answers come from the equation itself,
//! written down here once more.
#![allow(clippy::unwrap_used, reason = "a test that fails here should say where")]
#![allow(non_snake_case, reason = "points are capitals, as in the standard")]

use std::sync::LazyLock;

use curve25519_dalek::Scalar;
use curve25519_dalek::constants::{ED25519_BASEPOINT_POINT, EIGHT_TORSION};
use curve25519_dalek::edwards::{CompressedEdwardsY, EdwardsPoint};
use curve25519_dalek::traits::IsIdentity;
use ledger::key::{Check, PublicKey, SecretKey, Signature, verify, verify_all};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use sha2::{Digest, Sha512};

const MESSAGE: [u8; 32] = *b"any message: here it is a hash..";

/// The order of the group, little-endian.
const ORDER: [u8; 32] = [
    0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14, 0, 0, 0,
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
];

fn point(bytes: &[u8; 32]) -> Option<EdwardsPoint> {
    CompressedEdwardsY(*bytes).decompress()
}

/// The 26 encodings of a point that are not the canonical one, as far as they encode a point at all. The
/// first six are of small order.
fn non_canonical_points() -> Vec<[u8; 32]> {
    let mut one = [0; 32];
    (one[0], one[31]) = (1, 0x80);
    let mut minus_one = [0xff; 32];
    minus_one[0] = 0xec;
    let mut encodings = vec![one, minus_one];
    // The 19 numbers that can be written with the field's prime added.
    for low in 0xed..=0xff {
        for high in [0x7f, 0xff] {
            let mut bytes = [0xff; 32];
            (bytes[0], bytes[31]) = (low, high);
            encodings.extend(point(&bytes).map(|_| bytes));
        }
    }
    for bytes in &encodings {
        assert_ne!(point(bytes).unwrap().compress().to_bytes(), *bytes);
    }
    encodings
}

/// All encodings of the points of small order.
fn small_order_points() -> Vec<[u8; 32]> {
    let canonical = EIGHT_TORSION.iter().map(|point| point.compress().to_bytes());
    canonical
        .chain(non_canonical_points().into_iter().take(6))
        .collect()
}

fn check(A: [u8; 32], message: [u8; 32], R: [u8; 32], s: [u8; 32]) -> Check {
    let mut signature = [0; 64];
    signature[..32].copy_from_slice(&R);
    signature[32..].copy_from_slice(&s);
    Check {
        key: PublicKey::Ed25519(A),
        message,
        signature: Signature(signature),
    }
}

fn challenge(R: &[u8; 32], A: &[u8; 32], message: &[u8]) -> Scalar {
    let hash = Sha512::new()
        .chain_update(R)
        .chain_update(A)
        .chain_update(message);
    Scalar::from_bytes_mod_order_wide(&hash.finalize().into())
}

/// The rule, word for word: A and R are encodings of points, canonical or not; s is below the order; and
/// [8][s]B = [8]R + [8][k]A.
fn holds(check: &Check) -> bool {
    let PublicKey::Ed25519(A_bytes) = check.key;
    let (R_bytes, s_bytes): ([u8; 32], [u8; 32]) = (
        check.signature.0[..32].try_into().unwrap(),
        check.signature.0[32..].try_into().unwrap(),
    );
    let (Some(A), Some(R)) = (point(&A_bytes), point(&R_bytes)) else {
        return false;
    };
    let Some(s) = Option::<Scalar>::from(Scalar::from_canonical_bytes(s_bytes)) else {
        return false;
    };
    let k = challenge(&R_bytes, &A_bytes, &check.message);
    let difference = ED25519_BASEPOINT_POINT * s - R - A * k;
    difference.mul_by_cofactor().is_identity()
}

fn small_order_cases() -> Vec<Check> {
    let points = small_order_points();
    let cases = points
        .iter()
        .flat_map(|A| points.iter().map(|R| check(*A, MESSAGE, *R, [0; 32])));
    cases.collect()
}

/// A key and a signature of which each has a part of small order: honest but for that.
fn mixed_order(seed: u8, torsion: (usize, usize)) -> Check {
    let scalar = |what: &[u8]| {
        let hash = Sha512::new().chain_update(what).chain_update([seed]);
        Scalar::from_bytes_mod_order_wide(&hash.finalize().into())
    };
    let (a, r) = (scalar(b"key"), scalar(b"nonce"));
    let A = (ED25519_BASEPOINT_POINT * a + EIGHT_TORSION[torsion.0])
        .compress()
        .to_bytes();
    let R = (ED25519_BASEPOINT_POINT * r + EIGHT_TORSION[torsion.1])
        .compress()
        .to_bytes();
    let message = [seed; 32];
    let s = r + challenge(&R, &A, &message) * a;
    check(A, message, R, s.to_bytes())
}

fn honest(seed: u8) -> Check {
    let secret = SecretKey::from_seed([seed; 32]);
    Check {
        key: secret.public(),
        message: [seed; 32],
        signature: secret.sign(&[seed; 32]),
    }
}

/// s with the group's order added: the same scalar, written otherwise.
fn with_order_added(mut check: Check) -> Check {
    let mut carry = 0;
    for (byte, order) in check.signature.0[32..].iter_mut().zip(ORDER) {
        let sum = u16::from(*byte) + u16::from(order) + carry;
        *byte = sum as u8;
        carry = sum >> 8;
    }
    check
}

/// Cases with the answer of the equation.
static CASES: LazyLock<Vec<(Check, bool)>> = LazyLock::new(|| {
    let mut cases = small_order_cases();
    let mixed = (0..8).flat_map(|a| (0..8).map(move |r| mixed_order(8 * a as u8 + r as u8, (a, r))));
    cases.extend(mixed);
    cases.extend((0..16).map(honest));
    // s is not below the order.
    cases.push(with_order_added(honest(1)));
    cases.push(with_order_added(mixed_order(1, (3, 5))));
    cases.push(check(
        small_order_points()[3],
        MESSAGE,
        small_order_points()[9],
        ORDER,
    ));
    let mut high = honest(2);
    high.signature.0[63] |= 0x80;
    cases.push(high);
    // Encodings that are not canonical, of points of large order: nobody knows what to sign with.
    for other in non_canonical_points().into_iter().skip(6) {
        cases.push(check(other, MESSAGE, small_order_points()[2], [0; 32]));
        cases.push(check(small_order_points()[2], MESSAGE, other, [0; 32]));
    }
    // No points: 2 and 7 are no y of the curve.
    for y in [2, 7] {
        let mut none = [0; 32];
        none[0] = y;
        cases.push(check(none, MESSAGE, small_order_points()[0], [0; 32]));
        cases.push(check(small_order_points()[0], MESSAGE, none, [0; 32]));
    }
    // Wrong in one bit.
    for bit in [0, 100, 255, 256, 300, 500] {
        let mut wrong = honest(3);
        wrong.signature.0[bit / 8] ^= 1 << (bit % 8);
        cases.push(wrong);
    }
    let mut other = honest(4);
    other.message[0] ^= 1;
    cases.push(other);
    cases
        .into_iter()
        .map(|case| {
            let answer = holds(&case);
            (case, answer)
        })
        .collect()
});

#[test]
fn the_published_cases_hold() {
    let cases = small_order_cases();
    assert_eq!(cases.len(), 196);
    let mut keys: Vec<PublicKey> = cases.iter().map(|case| case.key).collect();
    keys.dedup();
    assert_eq!(keys.len(), 14, "14 encodings of 8 points");
    for case in &cases {
        assert!(verify(case), "{case:?}");
    }
    for seed in 0..20 {
        assert_eq!(verify_all(&cases, [seed; 32]), vec![true; 196]);
    }
}

#[test]
fn what_the_equation_says_is_the_answer() {
    assert!(!CASES.is_empty());
    for (case, expected) in CASES.iter() {
        assert_eq!(verify(case), *expected, "{case:?}");
        for seed in 0..4 {
            assert_eq!(verify_all(std::slice::from_ref(case), [seed; 32]), [*expected]);
        }
    }
    let bad = CASES.iter().filter(|(_, expected)| !expected).count();
    assert_eq!(
        (CASES.len() - bad, bad),
        (196 + 64 + 16, CASES.len() - 276),
        "which cases hold is known"
    );
    assert!(bad > 40, "{bad} cases that do not hold");
}

#[test]
fn non_canonical_encodings_are_26_of_which_6_are_of_small_order() {
    let encodings = non_canonical_points();
    let small: Vec<bool> = encodings
        .iter()
        .map(|bytes| point(bytes).unwrap().is_small_order())
        .collect();
    assert_eq!(encodings.len(), 26);
    assert_eq!(small.iter().position(|small| !small), Some(6));
    assert!(small[6..].iter().all(|small| !small));
}

#[test]
fn two_bad_ones_do_not_make_a_good_batch() {
    // Errors that cancel out in a plain sum of equations.
    let (mut one, mut other) = (honest(5), honest(6));
    let shift = |check: &mut Check, by: Scalar| {
        let s: [u8; 32] = check.signature.0[32..].try_into().unwrap();
        let s = Scalar::from_bytes_mod_order(s) + by;
        check.signature.0[32..].copy_from_slice(s.as_bytes());
    };
    shift(&mut one, Scalar::ONE);
    shift(&mut other, -Scalar::ONE);
    for seed in 0..50 {
        let batch = [one.clone(), other.clone(), honest(7)];
        assert_eq!(verify_all(&batch, [seed; 32]), [false, false, true]);
    }
}

#[test]
fn an_empty_batch_has_no_answers() {
    assert_eq!(verify_all(&[], [0; 32]), Vec::<bool>::new());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    #[test]
    fn a_batch_says_what_each_says(mix in vec(any::<Index>(), 0..40), seed: [u8; 32]) {
        let cases: Vec<&(Check, bool)> = mix.iter().map(|index| index.get(&CASES[..])).collect();
        let checks: Vec<Check> = cases.iter().map(|(check, _)| check.clone()).collect();
        let expected: Vec<bool> = cases.iter().map(|(_, expected)| *expected).collect();
        prop_assert_eq!(checks.iter().map(verify).collect::<Vec<_>>(), &expected[..]);
        prop_assert_eq!(verify_all(&checks, seed), expected);
    }

    #[test]
    fn a_batch_of_good_ones_is_good(mix in vec(any::<Index>(), 2..80), seed: [u8; 32]) {
        let good: Vec<&Check> = CASES.iter().filter(|(_, expected)| *expected).map(|(check, _)| check).collect();
        let checks: Vec<Check> = mix.iter().map(|index| (*index.get(&good[..])).clone()).collect();
        prop_assert_eq!(verify_all(&checks, seed), vec![true; checks.len()]);
    }

    #[test]
    fn any_bytes_get_the_answer_of_the_equation(
        which: Index, spot in 0usize..96, with: u8, seed: [u8; 32], beside in vec(any::<Index>(), 0..5),
    ) {
        let mut case = which.get(&CASES[..]).0.clone();
        let PublicKey::Ed25519(mut key) = case.key;
        match spot {
            0..64 => case.signature.0[spot] = with,
            _ => key[spot - 64] = with,
        }
        case.key = PublicKey::Ed25519(key);
        let expected = holds(&case);
        prop_assert_eq!(verify(&case), expected);
        let (mut checks, mut answers): (Vec<Check>, Vec<bool>) =
            beside.iter().map(|index| index.get(&CASES[..]).clone()).unzip();
        checks.push(case);
        answers.push(expected);
        prop_assert_eq!(verify_all(&checks, seed), answers);
    }
}
