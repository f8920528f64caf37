//! Signed requests: HTTP Message Signatures (RFC 9421) with Ed25519, for what only one account may do.
//!
//! ```text
//! Content-Digest:  sha-256=:<base64>:                       (RFC 9530; with a body only)
//! Signature-Input: form=("@method" "@path" "@query" ["content-digest" "content-length"]);
//!                  created=<seconds>;nonce="<32 hex>";keyid="ed25519:<64 hex>";alg="ed25519";tag="formation"
//! Signature:       form=:<base64 of 64 bytes>:
//! ```
//! A body's digest and length are announced in the headers and signed, so a large upload is checked while it
//! streams. What is signed is text of several lines: it never has the 32 bytes of a command's or an op's id,
//! so a signature made here stands for nothing in the ledger.
//!
//! A request counts for [`WINDOW_S`] seconds around its `created`, and once: [`ReplayCache`] keeps the
//! nonces. The cache is one node's: within the window a request may be shown to another node too, which is
//! how nodes pass a person's request on.

mod base;
mod fields;
mod replay;

use data_encoding::{BASE64, HEXLOWER};
use ed25519_zebra::{Signature, VerificationKey};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use ledger::key::{PublicKey, SecretKey};
use sha2::{Digest as _, Sha256};

pub use replay::{REPLAY_ENTRIES_MAX, REPLAY_PER_KEY_MAX, ReplayCache, ReplayError};

/// How far `created` may lie from the server's clock, in seconds.
pub const WINDOW_S: u64 = 60;

/// The label of the signature in its headers.
pub const LABEL: &str = "form";

/// The application that the signature is for: a signature made for another one does not count here.
pub const TAG: &str = "formation";

/// Bytes of `Signature-Input`, at most.
pub const INPUT_BYTES_MAX: usize = 1024;

const CONTENT_DIGEST: HeaderName = HeaderName::from_static("content-digest");
const SIGNATURE: HeaderName = HeaderName::from_static("signature");
const SIGNATURE_INPUT: HeaderName = HeaderName::from_static("signature-input");

/// What a request is for.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    /// The method.
    pub method: &'a Method,
    /// The path, as it travels.
    pub path: &'a str,
    /// What follows the question mark, if there is one.
    pub query: Option<&'a str>,
}

/// A body: what is announced of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Content {
    /// Its SHA-256.
    pub sha256: [u8; 32],
    /// Its length in bytes.
    pub bytes: u64,
}

impl Content {
    /// That of bytes in memory.
    pub fn of(bytes: &[u8]) -> Self {
        Self {
            sha256: Sha256::digest(bytes).into(),
            bytes: bytes.len() as u64,
        }
    }
}

/// Signs a request: the headers to send with it. `created_s` is the time in seconds since 1970; `nonce` is
/// 128 random bits. The client must send `Content-Length` as `content` has it.
pub fn sign(
    target: Target<'_>,
    content: Option<Content>,
    created_s: u64,
    nonce: [u8; 16],
    secret: &SecretKey,
) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let mut components = vec!["@method", "@path", "@query"];
    if let Some(content) = content {
        let digest = format!("sha-256=:{}:", BASE64.encode(&content.sha256));
        headers.insert(CONTENT_DIGEST, text(&digest));
        headers.insert(http::header::CONTENT_LENGTH, HeaderValue::from(content.bytes));
        components.extend(["content-digest", "content-length"]);
    }
    let list = components
        .iter()
        .map(|name| format!("\"{name}\""))
        .collect::<Vec<_>>()
        .join(" ");
    let parameters = format!(
        "({list});created={created_s};nonce=\"{}\";keyid=\"{}\";alg=\"ed25519\";tag=\"{TAG}\"",
        HEXLOWER.encode(&nonce),
        secret.public(),
    );
    let base = base::signature_base(target, &headers, &components, &parameters)
        .expect("the components are those that were just put there");
    let signature = secret.sign(base.as_bytes());
    headers.insert(SIGNATURE_INPUT, text(&format!("{LABEL}={parameters}")));
    headers.insert(
        SIGNATURE,
        text(&format!("{LABEL}=:{}:", BASE64.encode(&signature.0))),
    );
    headers
}

fn text(value: &str) -> HeaderValue {
    HeaderValue::from_str(value).expect("made of visible ASCII only")
}

/// A request whose signature holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signed {
    /// Who signed.
    pub key: PublicKey,
    /// Used once in the window.
    pub nonce: [u8; 16],
    /// When, in seconds since 1970.
    pub created_s: u64,
    /// What is announced of the body.
    pub content: Option<Content>,
}

/// Why a request does not count as signed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// There is no signature.
    #[error("the request carries no signature `{LABEL}`")]
    Absent,
    /// The headers are not those of a signature made for us.
    #[error("the request's signature is not well formed: {0}")]
    Malformed(&'static str),
    /// Something that matters is not covered.
    #[error("the request's signature does not cover `{0}`")]
    NotCovered(&'static str),
    /// Too old, or from the future.
    #[error(
        "the request was signed at {created_s}, this node's clock shows {now_s}: at most {WINDOW_S} seconds may lie between"
    )]
    Stale {
        /// When it was signed.
        created_s: u64,
        /// Our clock.
        now_s: u64,
    },
    /// The signature is not the key's over this request.
    #[error("the request's signature does not hold")]
    Forged,
}

/// Checks the signature of a request. `with_body` asks that a body's digest and length are covered. The
/// caller then asks the [`ReplayCache`] whether it came before.
pub fn verify(
    target: Target<'_>,
    headers: &HeaderMap,
    with_body: bool,
    now_s: u64,
) -> Result<Signed, SignatureError> {
    let input = single(headers, &SIGNATURE_INPUT)?;
    if input.len() > INPUT_BYTES_MAX {
        return Err(SignatureError::Malformed("`Signature-Input` is too long"));
    }
    let parameters = fields::member(input, LABEL).ok_or(SignatureError::Absent)?;
    let input = fields::Input::parse(parameters).map_err(SignatureError::Malformed)?;

    let content = with_body.then(|| announced(headers)).transpose()?;
    let body: &[&'static str] = if with_body {
        &["content-digest", "content-length"]
    } else {
        &[]
    };
    for needed in ["@method", "@path", "@query"].iter().chain(body) {
        if !input.components.contains(needed) {
            return Err(SignatureError::NotCovered(needed));
        }
    }
    if input.tag != Some(TAG) {
        return Err(SignatureError::Malformed("its tag is not `formation`"));
    }
    if input.alg.is_some_and(|alg| alg != "ed25519") {
        return Err(SignatureError::Malformed("its algorithm is not `ed25519`"));
    }
    let created_s = input
        .created
        .ok_or(SignatureError::Malformed("it has no `created`"))?;
    if created_s.abs_diff(now_s) > WINDOW_S {
        return Err(SignatureError::Stale { created_s, now_s });
    }
    let nonce = input
        .nonce
        .and_then(|nonce| HEXLOWER.decode(nonce.as_bytes()).ok())
        .and_then(|nonce| nonce.try_into().ok())
        .ok_or(SignatureError::Malformed(
            "its `nonce` is not 32 hexadecimal digits",
        ))?;
    let key: PublicKey = input
        .keyid
        .and_then(|key| key.parse().ok())
        .ok_or(SignatureError::Malformed(
            "its `keyid` is not `ed25519:` and 64 hexadecimal digits",
        ))?;

    let signature = single(headers, &SIGNATURE)?;
    let signature =
        fields::member(signature, LABEL)
            .and_then(fields::binary)
            .ok_or(SignatureError::Malformed(
                "`Signature` has no member `form` between colons",
            ))?;
    let signature: [u8; 64] = signature
        .try_into()
        .map_err(|_| SignatureError::Malformed("a signature has 64 bytes"))?;
    let base = base::signature_base(target, headers, &input.components, parameters)
        .map_err(SignatureError::Malformed)?;
    let PublicKey::Ed25519(bytes) = key;
    VerificationKey::try_from(bytes)
        .and_then(|key| key.verify(&Signature::from(signature), base.as_bytes()))
        .map_err(|_| SignatureError::Forged)?;
    Ok(Signed {
        key,
        nonce,
        created_s,
        content,
    })
}

/// The value of a header that is there once.
fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<&'a str, SignatureError> {
    let mut values = headers.get_all(name).iter();
    let value = values.next().ok_or(SignatureError::Absent)?;
    if values.next().is_some() {
        return Err(SignatureError::Malformed("a signature's header is there twice"));
    }
    value
        .to_str()
        .map_err(|_| SignatureError::Malformed("a signature's header is not ASCII"))
}

/// What the headers announce of the body.
fn announced(headers: &HeaderMap) -> Result<Content, SignatureError> {
    let digest = single(headers, &CONTENT_DIGEST)
        .map_err(|_| SignatureError::NotCovered("content-digest"))
        .and_then(|value| {
            fields::member(value, "sha-256")
                .and_then(fields::binary)
                .and_then(|digest| digest.try_into().ok())
                .ok_or(SignatureError::Malformed(
                    "`Content-Digest` is not `sha-256=:<base64>:`",
                ))
        })?;
    let bytes = single(headers, &http::header::CONTENT_LENGTH)
        .map_err(|_| SignatureError::NotCovered("content-length"))?
        .parse()
        .map_err(|_| SignatureError::Malformed("`Content-Length` is not a number"))?;
    Ok(Content {
        sha256: digest,
        bytes,
    })
}

#[cfg(test)]
mod tests;
