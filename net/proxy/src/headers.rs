//! Which headers pass and which are ours to set. Pure.
//!
//! Hop-by-hop headers end here, in both directions, and so does what a stranger says of itself.

use std::net::IpAddr;

use http::header::{
    CONNECTION, EXPECT, FORWARDED, HOST, HeaderMap, HeaderName, HeaderValue, PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
};

/// Who the client is, as proxies hand it on.
pub const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
/// How the client came.
pub const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
/// What host the client asked for.
pub const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
/// Which port the client asked on; never ours to know.
pub const X_FORWARDED_PORT: HeaderName = HeaderName::from_static("x-forwarded-port");
/// Another word for who the client is.
pub const X_REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");
/// The request's name in the logs of everybody.
pub const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Which instance answered.
pub const X_FORMATION_INSTANCE: HeaderName = HeaderName::from_static("x-formation-instance");

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
/// What a Connection header must not take away: the message would become another one.
const NEVER_HOP_BY_HOP: [HeaderName; 2] = [HOST, http::header::CONTENT_LENGTH];
/// Longest request id that is taken over.
const REQUEST_ID_CHARS_MAX: usize = 128;
/// Longest chain of proxies that is handed on.
const FORWARDED_FOR_CHARS_MAX: usize = 1024;

/// The client and what it asked for, as the instance is told.
#[derive(Clone, Copy, Debug)]
pub struct Client<'a> {
    /// Its address.
    pub address: IpAddr,
    /// It is a proxy of ours, whose word counts.
    pub trusted: bool,
    /// The host that it said.
    pub host: &'a str,
    /// The request's id.
    pub request_id: &'a str,
}

/// What an upgrade asks for; only WebSockets are passed.
pub fn wanted_upgrade(headers: &HeaderMap) -> Option<HeaderValue> {
    let asks = tokens(headers, &CONNECTION).any(|token| token.eq_ignore_ascii_case("upgrade"));
    let upgrade = headers.get(UPGRADE)?;
    (asks && upgrade.as_bytes().eq_ignore_ascii_case(b"websocket")).then(|| upgrade.clone())
}

/// Takes away what is meant for this hop only.
pub fn remove_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = tokens(headers, &CONNECTION)
        .filter_map(|token| HeaderName::from_bytes(token.as_bytes()).ok())
        .filter(|name| !NEVER_HOP_BY_HOP.contains(name))
        .collect();
    for name in named {
        headers.remove(name);
    }
    for name in [
        CONNECTION,
        KEEP_ALIVE,
        PROXY_CONNECTION,
        PROXY_AUTHENTICATE,
        PROXY_AUTHORIZATION,
        TE,
        TRAILER,
        TRANSFER_ENCODING,
        UPGRADE,
    ] {
        headers.remove(name);
    }
}

/// Readies the headers of a request for an instance.
pub fn to_instance(headers: &mut HeaderMap, client: Client<'_>) {
    remove_hop_by_hop(headers);
    // We answer `100-continue` ourselves when the body is wanted.
    headers.remove(EXPECT);
    let earlier = headers
        .get_all(X_FORWARDED_FOR)
        .iter()
        .filter_map(|value| value.to_str().ok());
    let earlier = earlier.collect::<Vec<_>>().join(", ");
    let address = client.address.to_canonical();
    let chain = if client.trusted && !earlier.is_empty() && earlier.len() <= FORWARDED_FOR_CHARS_MAX {
        format!("{earlier}, {address}")
    } else {
        address.to_string()
    };
    set(headers, X_FORWARDED_FOR, &chain);
    set(headers, X_REQUEST_ID, client.request_id);
    set(headers, HOST, client.host);
    if !client.trusted {
        for name in [
            FORWARDED,
            X_REAL_IP,
            X_FORWARDED_PORT,
            X_FORWARDED_PROTO,
            X_FORWARDED_HOST,
        ] {
            headers.remove(name);
        }
    }
    if !headers.contains_key(X_FORWARDED_PROTO) {
        set(headers, X_FORWARDED_PROTO, "http");
    }
    if !headers.contains_key(X_FORWARDED_HOST) {
        set(headers, X_FORWARDED_HOST, client.host);
    }
}

/// Readies the headers of an answer for the client.
pub fn to_client(headers: &mut HeaderMap, request_id: &str, instance: &str) {
    remove_hop_by_hop(headers);
    set(headers, X_REQUEST_ID, request_id);
    set(headers, X_FORMATION_INSTANCE, instance);
}

/// The request id that a trusted proxy gave, if it is fit to be one.
pub fn given_request_id(headers: &HeaderMap) -> Option<&str> {
    let id = headers.get(X_REQUEST_ID)?.to_str().ok()?;
    let fit = !id.is_empty() && id.len() <= REQUEST_ID_CHARS_MAX && id.bytes().all(|b| b.is_ascii_graphic());
    fit.then_some(id)
}

fn set(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    match HeaderValue::from_str(value) {
        Ok(value) => {
            headers.insert(name, value);
        }
        // Hosts, ids and addresses are checked before; a wrong value must never leave the old one standing.
        Err(_) => {
            headers.remove(name);
        }
    }
}

fn tokens<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    let values = headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok());
    values
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .filter(|token| !token.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn map(lines: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(
                HeaderName::from_bytes(name.as_bytes()).unwrap(),
                value.parse().unwrap(),
            );
        }
        headers
    }

    fn text(headers: &HeaderMap) -> String {
        let mut lines: Vec<_> = headers
            .iter()
            .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()))
            .collect();
        lines.sort();
        lines.join("\n")
    }

    fn client(trusted: bool) -> Client<'static> {
        Client {
            address: "192.0.2.9".parse().unwrap(),
            trusted,
            host: "hello.fog",
            request_id: "id",
        }
    }

    #[test]
    fn a_stranger_does_not_say_who_it_is() {
        let mut headers = map(&[
            ("Host", "hello.fog:80"),
            ("X-Forwarded-For", "10.0.0.1"),
            ("X-Real-IP", "10.0.0.1"),
            ("Forwarded", "for=10.0.0.1"),
            ("X-Forwarded-Proto", "https"),
            ("X-Request-Id", "forged"),
            ("Accept", "*/*"),
        ]);
        to_instance(&mut headers, client(false));
        assert_eq!(
            text(&headers),
            "accept: */*\nhost: hello.fog\nx-forwarded-for: 192.0.2.9\nx-forwarded-host: hello.fog\n\
             x-forwarded-proto: http\nx-request-id: id"
        );
    }

    #[test]
    fn the_word_of_our_own_proxy_is_kept_and_extended() {
        let mut headers = map(&[("X-Forwarded-For", "10.0.0.1"), ("X-Forwarded-Proto", "https")]);
        to_instance(&mut headers, client(true));
        assert_eq!(
            text(&headers),
            "host: hello.fog\nx-forwarded-for: 10.0.0.1, 192.0.2.9\nx-forwarded-host: hello.fog\n\
             x-forwarded-proto: https\nx-request-id: id"
        );
    }

    #[test]
    fn what_is_for_one_hop_ends_there() {
        let mut headers = map(&[
            ("Connection", "close, X-Secret , host, content-length"),
            ("Connection", "x-other"),
            ("X-Secret", "1"),
            ("X-Other", "1"),
            ("Host", "a"),
            ("Content-Length", "5"),
            ("Keep-Alive", "timeout=5"),
            ("Proxy-Connection", "keep-alive"),
            ("Proxy-Authorization", "Basic x"),
            ("TE", "trailers"),
            ("Transfer-Encoding", "chunked"),
            ("Upgrade", "h2c"),
        ]);
        remove_hop_by_hop(&mut headers);
        assert_eq!(text(&headers), "content-length: 5\nhost: a");
    }

    #[test]
    fn only_websockets_are_an_upgrade() {
        let upgrade = |lines| wanted_upgrade(&map(lines)).is_some();
        assert!(upgrade(&[
            ("Connection", "keep-alive, Upgrade"),
            ("Upgrade", "WebSocket")
        ]));
        assert!(!upgrade(&[("Upgrade", "websocket")]));
        assert!(!upgrade(&[("Connection", "upgrade"), ("Upgrade", "h2c")]));
    }

    #[test]
    fn a_connection_header_cannot_take_ours_away() {
        let mut headers = map(&[("Connection", "x-forwarded-for, x-request-id")]);
        to_instance(&mut headers, client(false));
        assert!(headers.contains_key(X_FORWARDED_FOR) && headers.contains_key(X_REQUEST_ID));
    }

    proptest! {
        #[test]
        fn any_connection_header_is_read(value in "[ -~]{0,60}") {
            let mut headers = map(&[("Connection", &value), ("Host", "a")]);
            to_instance(&mut headers, client(false));
            prop_assert!(!headers.contains_key(CONNECTION) && headers.contains_key(HOST));
        }
    }
}
