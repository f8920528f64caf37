//! What a client is told when no instance answers it: a problem detail (RFC 9457). Pure.

use http::StatusCode;

use crate::framing::FramingError;
use crate::host::HostError;

/// Why no instance answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    /// The request's host cannot be told.
    Host(HostError),
    /// The request's length can be read in two ways.
    Framing(FramingError),
    /// CONNECT or TRACE.
    Method,
    /// Nobody has this name.
    UnknownHost(String),
    /// The name exists but has no healthy instance now.
    NoInstance(String),
    /// No instance took or answered the request.
    BadGateway(String),
    /// The instance took too long.
    Timeout(String),
    /// The client's body paused for too long.
    SlowBody,
}

/// When a client may try again after a 503, in seconds.
pub const RETRY_AFTER_S: u32 = 2;

impl Problem {
    /// The status that goes with it.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Host(_) | Self::Framing(_) => StatusCode::BAD_REQUEST,
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::UnknownHost(_) => StatusCode::NOT_FOUND,
            Self::NoInstance(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::BadGateway(_) => StatusCode::BAD_GATEWAY,
            Self::Timeout(_) => StatusCode::GATEWAY_TIMEOUT,
            Self::SlowBody => StatusCode::REQUEST_TIMEOUT,
        }
    }

    /// A stable word for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Host(_) => "bad-host",
            Self::Framing(_) => "bad-framing",
            Self::Method => "method-not-allowed",
            Self::UnknownHost(_) => "unknown-host",
            Self::NoInstance(_) => "no-healthy-instance",
            Self::BadGateway(_) => "instance-failed",
            Self::Timeout(_) => "instance-timeout",
            Self::SlowBody => "slow-body",
        }
    }

    fn detail(&self) -> String {
        match self {
            Self::Host(error) => error.to_string(),
            Self::Framing(error) => error.to_string(),
            Self::Method => "this proxy does not pass CONNECT and TRACE".to_owned(),
            Self::UnknownHost(host) => format!("no domain or agent of this network is called {host}"),
            Self::NoInstance(host) => {
                format!("{host} exists, but none of its instances is healthy now; try again soon")
            }
            Self::BadGateway(host) => format!("the instance behind {host} could not be reached or broke off"),
            Self::Timeout(host) => format!("the instance behind {host} did not answer in time"),
            Self::SlowBody => "the body of the request stopped coming".to_owned(),
        }
    }

    /// The body. Says nothing of addresses inside.
    pub fn body(&self, request_id: &str) -> String {
        let status = self.status();
        serde_json::json!({
            "type": "about:blank",
            "title": status.canonical_reason().unwrap_or("Error"),
            "status": status.as_u16(),
            "code": self.code(),
            "detail": self.detail(),
            "request_id": request_id,
        })
        .to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_is_valid_json_whatever_the_host() {
        let body = Problem::UnknownHost("a\"b\\c".to_owned()).body("1");
        let value: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!(
            (&value["status"], &value["code"]),
            (&404.into(), &"unknown-host".into())
        );
    }
}
