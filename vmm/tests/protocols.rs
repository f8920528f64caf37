//! The framed protocols with guests and machine processes: what is said arrives, whatever the pieces; what is
//! nonsense is refused and never a fault; and the bytes stay as they were, since a daemon meets machines that
//! an older one started.

#![allow(clippy::unwrap_used)]

use proptest::prelude::*;
use vmm::control::{Report, Request};
use vmm::frame::{Decoder, FRAME_BYTES_MAX, FrameError, encode};
use vmm::guest::{Ending, Exit, GuestConfig, LogSource, REASON_BYTES_MAX, ToGuest, ToHost, readable};
use vmm::machine::MachineState;
use vmm::spec::{Health, MachineId, Nic, Restart, Workload};

fn any_exit() -> impl Strategy<Value = Exit> {
    prop_oneof![
        any::<i32>().prop_map(Exit::Status),
        any::<i32>().prop_map(Exit::Signal)
    ]
}

fn any_to_host() -> impl Strategy<Value = ToHost> {
    prop_oneof![
        (any::<u16>(), any::<u64>()).prop_map(|(protocol, uptime_ms)| ToHost::Hello { protocol, uptime_ms }),
        (any::<u32>(), any::<u64>()).prop_map(|(attempt, uptime_ms)| ToHost::Started { attempt, uptime_ms }),
        (any::<u64>(), any::<Vec<u8>>()).prop_map(|(lost, bytes)| ToHost::Log {
            source: LogSource::Stderr,
            lost,
            bytes
        }),
        (any::<bool>(), any::<u64>()).prop_map(|(serving, uptime_ms)| ToHost::Serving { serving, uptime_ms }),
        (any_exit(), any::<u64>()).prop_map(|(exit, pause_ms)| ToHost::Restarting { exit, pause_ms }),
        (any_exit(), any::<u32>())
            .prop_map(|(exit, attempts)| ToHost::Ended(Ending::Failed { exit, attempts })),
        ".*".prop_map(|reason| ToHost::Ended(Ending::Broken { reason })),
    ]
}

fn any_to_guest() -> impl Strategy<Value = ToGuest> {
    let config = (
        any::<u64>(),
        ".*",
        any::<[u8; 16]>(),
        any::<[u8; 4]>(),
        any::<Vec<String>>(),
        any::<u16>(),
    );
    prop_oneof![
        any::<u64>().prop_map(|unix_us| ToGuest::Clock { unix_us }),
        any::<u64>().prop_map(|grace_ms| ToGuest::Stop { grace_ms }),
        Just(ToGuest::PowerOff),
        config.prop_map(|(unix_us, hostname, ipv6, ipv4, entrypoint, port)| {
            ToGuest::Configure(Box::new(GuestConfig {
                protocol: 1,
                unix_us,
                nic: Nic {
                    tap: hostname.clone(),
                    mac: [1; 6],
                    ipv6: ipv6.into(),
                    gateway_v6: ipv6.into(),
                    ipv4: ipv4.into(),
                    gateway_v4: ipv4.into(),
                    resolvers: vec![ipv4.into(), ipv6.into()],
                },
                workload: Workload {
                    env: vec![(hostname.clone(), hostname.clone())],
                    workdir: hostname.clone(),
                    entrypoint,
                    restart: Restart {
                        attempts: 3,
                        backoff_ms: unix_us,
                    },
                    health: Health::Http {
                        port,
                        path: hostname.clone(),
                    },
                },
                hostname,
            }))
        }),
    ]
}

/// Decodes `bytes` cut into pieces of `step`.
fn decode<M: serde::de::DeserializeOwned>(bytes: &[u8], step: usize) -> Result<Vec<M>, FrameError> {
    let mut decoder = Decoder::default();
    let mut messages = Vec::new();
    for piece in bytes.chunks(step) {
        decoder.push(piece);
        while let Some(message) = decoder.take()? {
            messages.push(message);
        }
        assert!(decoder.waiting() <= FRAME_BYTES_MAX + 4 + step);
    }
    Ok(messages)
}

proptest! {
    #[test]
    fn what_a_guest_says_arrives_in_any_pieces(
        messages in proptest::collection::vec(any_to_host(), 0..8),
        step in 1usize..64,
    ) {
        let bytes: Vec<u8> = messages.iter().flat_map(|message| encode(message).unwrap()).collect();
        prop_assert_eq!(decode::<ToHost>(&bytes, step).unwrap(), messages);
    }

    #[test]
    fn what_a_guest_is_told_arrives_in_any_pieces(
        messages in proptest::collection::vec(any_to_guest(), 0..4),
        step in 1usize..64,
    ) {
        let bytes: Vec<u8> = messages.iter().flat_map(|message| encode(message).unwrap()).collect();
        prop_assert_eq!(decode::<ToGuest>(&bytes, step).unwrap(), messages);
    }

    #[test]
    fn nonsense_is_refused_or_waited_on_and_never_a_fault(
        bytes in any::<Vec<u8>>(),
        small in proptest::collection::vec((0u32..40, any::<[u8; 40]>()), 0..6),
        step in 1usize..64,
    ) {
        let framed: Vec<u8> = small
            .iter()
            .flat_map(|(length, body)| [&length.to_le_bytes()[..], &body[..*length as usize]].concat())
            .collect();
        for bytes in [&bytes, &framed] {
            let _ = decode::<ToHost>(bytes, step);
            let _ = decode::<ToGuest>(bytes, step);
            let _ = decode::<Request>(bytes, step);
            let _ = decode::<Report>(bytes, step);
        }
    }

    #[test]
    fn a_text_for_a_person_is_short_and_of_one_line(text in ".{0,3000}") {
        let readable = readable(&text);
        prop_assert!(readable.len() <= REASON_BYTES_MAX);
        prop_assert!(!readable.chars().any(char::is_control));
    }
}

#[test]
fn a_length_over_the_bound_is_refused_before_its_bytes_arrive() {
    for announced in [0, FRAME_BYTES_MAX + 1, u32::MAX as usize] {
        let refused = decode::<ToHost>(&(announced as u32).to_le_bytes(), 4);
        assert_eq!(refused, Err(FrameError::Length { announced }));
    }
}

#[test]
fn bytes_after_a_message_and_messages_over_the_bound_are_refused() {
    let mut frame = encode(&ToGuest::PowerOff).unwrap();
    frame[0] += 1;
    frame.push(0);
    assert!(matches!(
        decode::<ToGuest>(&frame, 99),
        Err(FrameError::Payload { length: 2, .. })
    ));
    let log = ToHost::Log {
        source: LogSource::Stdout,
        lost: 0,
        bytes: vec![0; FRAME_BYTES_MAX],
    };
    assert!(matches!(encode(&log), Err(FrameError::Length { .. })));
}

/// The bytes of version 1. A change here breaks the machines that run while a daemon is upgraded: add a
/// version instead.
#[test]
fn the_control_protocol_stays_as_machines_speak_it() {
    let requests = [
        (Request::Open { protocol: 1 }, "02000000 0001"),
        (Request::Stop { grace_ms: 300 }, "03000000 01ac02"),
        (Request::Kill, "01000000 02"),
    ];
    for (request, bytes) in requests {
        assert_eq!(
            hex(&encode(&request).unwrap()),
            bytes.replace(' ', ""),
            "{request:?}"
        );
    }
    let failed = MachineState::Failed {
        reason: "no".to_owned(),
        exit_code: Some(-1),
    };
    let reports = [
        (
            Report::Opened {
                protocol: 1,
                id: MachineId([0xab; 32]),
                generation: 5,
                pid: 7,
            },
            format!("24000000 0001{}0507", "ab".repeat(32)),
        ),
        (Report::State(MachineState::Starting), "02000000 0100".to_owned()),
        (
            Report::State(MachineState::Running { serving: true }),
            "03000000 010101".to_owned(),
        ),
        (Report::State(MachineState::Stopping), "02000000 0102".to_owned()),
        (Report::State(MachineState::Stopped), "02000000 0103".to_owned()),
        (Report::State(failed), "07000000 0104026e6f0101".to_owned()),
    ];
    for (report, bytes) in reports {
        assert_eq!(
            hex(&encode(&report).unwrap()),
            bytes.replace(' ', ""),
            "{report:?}"
        );
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
