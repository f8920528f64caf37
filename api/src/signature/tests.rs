//! Golden vectors: the RFC's own, and one of ours.

use data_encoding::BASE64URL_NOPAD;

use super::*;

const NOW_S: u64 = 1_800_000_000;

fn secret() -> SecretKey {
    SecretKey::from_seed([7; 32])
}

fn target(path: &'static str, query: Option<&'static str>) -> Target<'static> {
    Target {
        method: &Method::GET,
        path,
        query,
    }
}

fn signed() -> HeaderMap {
    sign(
        target("/v1/instances/ab/logs", Some("follow=true")),
        None,
        NOW_S,
        [9; 16],
        &secret(),
    )
}

/// RFC 9421 appendix B.2.6: the test key and the test request, byte for byte.
#[test]
fn the_signature_of_the_rfc_comes_out() {
    let seed = BASE64URL_NOPAD
        .decode(b"n4Ni-HpISpVObnQMW0wOhCKROaIKqKtW_2ZYb2p9KcU")
        .unwrap();
    let secret = SecretKey::from_seed(seed.try_into().unwrap());
    let mut headers = HeaderMap::new();
    headers.insert("date", HeaderValue::from_static("Tue, 20 Apr 2021 02:07:55 GMT"));
    headers.insert("host", HeaderValue::from_static("example.com"));
    headers.insert("content-type", HeaderValue::from_static("application/json"));
    headers.insert("content-length", HeaderValue::from_static("18"));
    let components = [
        "date",
        "@method",
        "@path",
        "@authority",
        "content-type",
        "content-length",
    ];
    let parameters = "(\"date\" \"@method\" \"@path\" \"@authority\" \"content-type\" \"content-length\")\
                      ;created=1618884473;keyid=\"test-key-ed25519\"";
    let target = Target {
        method: &Method::POST,
        path: "/foo",
        query: Some("param=Value&Pet=dog"),
    };
    let base = base::signature_base(target, &headers, &components, parameters).unwrap();
    assert_eq!(
        base,
        "\"date\": Tue, 20 Apr 2021 02:07:55 GMT\n\"@method\": POST\n\"@path\": /foo\n\
         \"@authority\": example.com\n\"content-type\": application/json\n\"content-length\": 18\n\
         \"@signature-params\": (\"date\" \"@method\" \"@path\" \"@authority\" \"content-type\" \
         \"content-length\");created=1618884473;keyid=\"test-key-ed25519\""
    );
    assert_eq!(
        BASE64.encode(&secret.sign(base.as_bytes()).0),
        "wqcAqbmYJ2ji2glfAMaRy4gruYYnx2nEFN2HN6jrnDnQCK1u02Gb04v9EDgwUPiu4A0w6vuQv5lIp5WPpBKRCw=="
    );
    let input = fields::Input::parse(parameters).unwrap();
    assert_eq!(input.components, components);
    assert_eq!(
        (input.created, input.keyid),
        (Some(1618884473), Some("test-key-ed25519"))
    );
}

#[test]
fn our_own_signature_keeps_its_form() {
    let content = Some(Content::of(b"hello"));
    let target = Target {
        method: &Method::POST,
        path: "/v1/uploads",
        query: None,
    };
    let headers = sign(target, content, NOW_S, [9; 16], &secret());
    let mut lines: Vec<_> = headers
        .iter()
        .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()))
        .collect();
    lines.sort();
    insta::assert_snapshot!(lines.join("\n"), @r#"
    content-digest: sha-256=:LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=:
    content-length: 5
    signature-input: form=("@method" "@path" "@query" "content-digest" "content-length");created=1800000000;nonce="09090909090909090909090909090909";keyid="ed25519:ea4a6c63e29c520abef5507b132ec5f9954776aebebe7b92421eea691446d22c";alg="ed25519";tag="formation"
    signature: form=:AF5lxyD45UJ6VArG4hEd44sKRUjKAWdhwRzpmmy+ylDopERKemM79dzW05Ab0r0xHA+UN58fWLN/2Erf2fc1Bg==:
    "#);
}

#[test]
fn what_was_signed_verifies_within_its_window_only() {
    let check = |now_s| {
        verify(
            target("/v1/instances/ab/logs", Some("follow=true")),
            &signed(),
            false,
            now_s,
        )
    };
    let found = check(NOW_S + WINDOW_S).unwrap();
    assert_eq!(
        (found.key, found.nonce, found.content),
        (secret().public(), [9; 16], None)
    );
    for now_s in [NOW_S + WINDOW_S + 1, NOW_S - WINDOW_S - 1, 0, u64::MAX] {
        assert_eq!(
            check(now_s),
            Err(SignatureError::Stale {
                created_s: NOW_S,
                now_s
            })
        );
    }
}

#[test]
fn a_change_of_any_covered_part_breaks_the_signature() {
    let refused = |target| {
        assert_eq!(
            verify(target, &signed(), false, NOW_S),
            Err(SignatureError::Forged)
        )
    };
    refused(target("/v1/instances/ac/logs", Some("follow=true")));
    refused(target("/v1/instances/ab/logs", Some("follow=false")));
    refused(target("/v1/instances/ab/logs", None));
    refused(Target {
        method: &Method::DELETE,
        ..target("/v1/instances/ab/logs", Some("follow=true"))
    });
    let same = target("/v1/instances/ab/logs", Some("follow=true"));
    for (from, to) in [
        ("created=18", "created=+18"),
        ("created=1800000000", "created=1800000001"),
    ] {
        let mut headers = signed();
        let input = headers["signature-input"].to_str().unwrap().replace(from, to);
        headers.insert("signature-input", HeaderValue::from_str(&input).unwrap());
        assert!(verify(same, &headers, false, NOW_S).is_err(), "{to}");
    }
}

#[test]
fn a_signature_without_the_body_does_not_carry_one() {
    let target = Target {
        method: &Method::POST,
        path: "/v1/uploads",
        query: None,
    };
    let mut headers = sign(target, None, NOW_S, [9; 16], &secret());
    assert_eq!(
        verify(target, &headers, true, NOW_S),
        Err(SignatureError::NotCovered("content-digest"))
    );
    let other = sign(target, Some(Content::of(b"x")), NOW_S, [8; 16], &secret());
    for name in ["content-digest", "content-length"] {
        headers.insert(HeaderName::from_static(name), other[name].clone());
    }
    assert_eq!(
        verify(target, &headers, true, NOW_S),
        Err(SignatureError::NotCovered("content-digest"))
    );
    assert_eq!(
        verify(target, &other, true, NOW_S).unwrap().content,
        Some(Content::of(b"x"))
    );
}

#[test]
fn strange_headers_are_refused_and_break_nothing() {
    let same = target("/v1/instances/ab/logs", Some("follow=true"));
    let good = signed()["signature-input"].to_str().unwrap().to_owned();
    let strange = [
        String::new(),
        "form".into(),
        "form=".into(),
        "form=(".into(),
        "form=()".into(),
        "other=()".into(),
        good.replace("\"@path\"", "\"@path\";req"),
        good.replace("\"@path\"", "\"@path\" \"@path\""),
        good.replace("\"@path\"", "\"@status\""),
        good.replace("\"@path\"", "\"é\""),
        good.replace(";tag=\"formation\"", ""),
        good.replace("tag=\"formation\"", "tag=\"other\""),
        good.replace("alg=\"ed25519\"", "alg=\"hmac-sha256\""),
        good.replace("ed25519:", "ed448:"),
        good.replace("nonce=\"09", "nonce=\""),
        format!("{good};expires=1"),
        format!("{good};tag=\"formation\""),
        format!("{good}, {good}"),
        "form=".repeat(1000),
    ];
    for input in strange {
        let mut headers = signed();
        headers.insert(
            "signature-input",
            HeaderValue::from_bytes(input.as_bytes()).unwrap(),
        );
        assert!(verify(same, &headers, false, NOW_S).is_err(), "{input}");
    }
    for signature in [
        "",
        "form",
        "form=",
        "form=::",
        "form=:AAAA:",
        "form=:*:",
        "other=:AAAA:",
    ] {
        let mut headers = signed();
        headers.insert("signature", HeaderValue::from_static(signature));
        assert!(verify(same, &headers, false, NOW_S).is_err(), "{signature}");
    }
    assert_eq!(
        verify(same, &HeaderMap::new(), false, NOW_S),
        Err(SignatureError::Absent)
    );
}

#[test]
fn a_nonce_counts_once_while_its_request_could_count() {
    let request = |created_s, nonce: u128| Signed {
        key: secret().public(),
        nonce: nonce.to_le_bytes(),
        created_s,
        content: None,
    };
    let mut cache = ReplayCache::default();
    assert_eq!(cache.admit(&request(NOW_S, 1), NOW_S), Ok(()));
    assert_eq!(
        cache.admit(&request(NOW_S, 1), NOW_S + WINDOW_S),
        Err(ReplayError::Replayed)
    );
    assert_eq!(cache.admit(&request(NOW_S, 2), NOW_S), Ok(()));
    // One second later the window itself refuses it, and the place is free again.
    assert_eq!(cache.admit(&request(NOW_S + 61, 1), NOW_S + WINDOW_S + 1), Ok(()));
    let mut cache = ReplayCache::default();
    for nonce in 0..REPLAY_PER_KEY_MAX as u128 {
        assert_eq!(cache.admit(&request(NOW_S, nonce), NOW_S), Ok(()));
    }
    assert_eq!(
        cache.admit(&request(NOW_S, u128::MAX), NOW_S),
        Err(ReplayError::Full)
    );
}
