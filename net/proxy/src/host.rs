//! Which host a request is for. Pure.
//!
//! The target in absolute form wins over the Host header (RFC 9112, 3.2.2); the port and a trailing dot do not
//! count; a request without exactly one host, or with one that no name can be, is refused.

use http::header::HOST;
use http::request::Parts;

/// Longest name in the DNS.
const HOST_CHARS_MAX: usize = 253;

/// Why no host can be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HostError {
    /// There is none.
    #[error("the request names no host: send a Host header")]
    Missing,
    /// There are several Host headers.
    #[error("the request has several Host headers: send one")]
    Several,
    /// It is no host name.
    #[error("the host of the request is no host name")]
    Malformed,
}

/// The host: as the table writes it, and as it was said (for the instance).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// Lower case, no port, no trailing dot.
    pub name: String,
    /// As the client wrote it, with the port if any.
    pub said: String,
}

/// Tells the host of a request.
pub fn host(request: &Parts) -> Result<Host, HostError> {
    let mut headers = request.headers.get_all(HOST).iter();
    let header = headers.next();
    if headers.next().is_some() {
        return Err(HostError::Several);
    }
    let said = match (request.uri.authority(), header) {
        (Some(authority), _) => authority.as_str(),
        (None, Some(header)) => header.to_str().map_err(|_| HostError::Malformed)?,
        (None, None) => return Err(HostError::Missing),
    };
    let name = normal(said).ok_or(HostError::Malformed)?;
    Ok(Host {
        name,
        said: said.to_owned(),
    })
}

/// A host as the table writes it; `None` if it is no host name or address.
pub fn normal(said: &str) -> Option<String> {
    let name = if said.starts_with('[') {
        let (address, port) = said.split_at(said.find(']')? + 1);
        valid_port(port)?;
        return address[1..address.len() - 1]
            .parse::<std::net::Ipv6Addr>()
            .ok()
            .map(|ip| format!("[{ip}]"));
    } else {
        let (name, port) = said.find(':').map_or((said, ""), |colon| said.split_at(colon));
        valid_port(port)?;
        name
    };
    let name = name.strip_suffix('.').unwrap_or(name);
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    let fits = !name.is_empty()
        && name.len() <= HOST_CHARS_MAX
        && name.bytes().all(plain)
        && !name.starts_with('.')
        && !name.contains("..");
    fits.then(|| name.to_ascii_lowercase())
}

/// `""`, `":"` or `":8080"`.
fn valid_port(port: &str) -> Option<()> {
    let digits = port.strip_prefix(':').unwrap_or(port);
    let no_colon = port.is_empty() || port.starts_with(':');
    (no_colon
        && (digits.is_empty() || digits.bytes().all(|b| b.is_ascii_digit()) && digits.parse::<u16>().is_ok()))
    .then_some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;
    use proptest::prelude::*;

    #[test]
    fn a_host_is_told_whatever_its_dress() {
        for (said, name) in [
            ("hello.fog", Some("hello.fog")),
            ("HELLO.Fog:8080", Some("hello.fog")),
            ("hello.fog.", Some("hello.fog")),
            ("hello.fog.:80", Some("hello.fog")),
            ("hello.fog:", Some("hello.fog")),
            ("192.0.2.1:80", Some("192.0.2.1")),
            ("[2001:DB8::1]:80", Some("[2001:db8::1]")),
            ("", None),
            (".", None),
            (":80", None),
            ("hello.fog:80:80", None),
            ("hello.fog:x", None),
            ("hello.fog:99999", None),
            ("hello..fog", None),
            ("user@hello.fog", None),
            ("hello fog", None),
            ("hello.fog/x", None),
            ("[::1", None),
            ("[::1]x", None),
            ("h\u{e9}llo.fog", None),
        ] {
            assert_eq!(normal(said).as_deref(), name, "{said:?}");
        }
        assert_eq!(normal(&"a".repeat(254)), None);
    }

    #[test]
    fn the_absolute_form_wins_and_two_hosts_are_none() {
        let parts = |uri: &str, hosts: &[&str]| {
            let mut request = Request::builder().uri(uri);
            for host in hosts {
                request = request.header(HOST, *host);
            }
            host(&request.body(()).unwrap().into_parts().0).map(|host| host.name)
        };
        assert_eq!(parts("/", &["a.fog"]).unwrap(), "a.fog");
        assert_eq!(parts("http://b.fog:80/x", &["a.fog"]).unwrap(), "b.fog");
        assert_eq!(parts("http://user@b.fog/x", &[]), Err(HostError::Malformed));
        assert_eq!(parts("/", &["a.fog", "b.fog"]), Err(HostError::Several));
        assert_eq!(parts("/", &["a.fog", "a.fog"]), Err(HostError::Several));
        assert_eq!(parts("/", &[]), Err(HostError::Missing));
    }

    proptest! {
        #[test]
        fn what_is_told_is_told_again_from_itself(said in "\\PC{0,40}") {
            if let Some(name) = normal(&said) {
                prop_assert_eq!(normal(&name), Some(name.clone()));
            }
        }
    }
}
