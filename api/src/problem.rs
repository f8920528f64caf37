//! The one format of errors: problem details (RFC 9457), with a code for programs and a hint for people.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use ledger::id::{CommandId, OpId};
use projections::outcome::Void;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The media type of a problem.
pub const MEDIA_TYPE: &str = "application/problem+json";

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $text:literal, $status:ident, $title:literal;)*) => {
        /// What went wrong, for programs: stable across versions.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
        #[non_exhaustive]
        pub enum ErrorCode {
            $($(#[$doc])* #[serde(rename = $text)] $name,)*
            /// A code of a newer server.
            #[serde(other, rename = "unknown")]
            Unknown,
        }

        impl ErrorCode {
            /// All that a server gives.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// The code as it travels.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)* Self::Unknown => "unknown" }
            }

            /// The status that goes with it.
            pub fn status(self) -> StatusCode {
                match self { $(Self::$name => StatusCode::$status,)* Self::Unknown => StatusCode::INTERNAL_SERVER_ERROR }
            }

            fn title(self) -> &'static str {
                match self { $(Self::$name => $title,)* Self::Unknown => "Unknown" }
            }
        }
    };
}

codes! {
    /// The request is not well formed.
    Malformed = "malformed", BAD_REQUEST, "The request is not well formed";
    /// A body, a header or a path is larger than is allowed.
    TooLarge = "too_large", PAYLOAD_TOO_LARGE, "The request is too large";
    /// The body is of another media type.
    MediaType = "media_type", UNSUPPORTED_MEDIA_TYPE, "The body is of another media type";
    /// There is no such path.
    NoSuchPath = "no_such_path", NOT_FOUND, "There is no such path";
    /// The path does not take this method.
    Method = "method", METHOD_NOT_ALLOWED, "The path does not take this method";
    /// There is no such thing.
    NotFound = "not_found", NOT_FOUND, "There is no such thing";
    /// More than one thing is called so.
    Ambiguous = "ambiguous", CONFLICT, "More than one thing is called so";
    /// The request must be signed.
    Unsigned = "unsigned", UNAUTHORIZED, "The request must be signed";
    /// A signature does not hold.
    Forged = "forged", UNAUTHORIZED, "The signature does not hold";
    /// The request was signed too long ago, or ahead of time.
    Stale = "stale", UNAUTHORIZED, "The request was not signed now";
    /// The request was made before with the same nonce.
    ReplayedRequest = "replayed_request", UNAUTHORIZED, "The request was made before";
    /// Another account's key is needed.
    NotOwner = "not_owner", FORBIDDEN, "It belongs to another account";
    /// The key signs for no account.
    NoAccount = "no_account", FORBIDDEN, "The key signs for no account";
    /// The key signs for an account, or is an admin's, but not for this.
    NotAllowed = "not_allowed", FORBIDDEN, "The key may not ask for this";
    /// It is so already.
    AlreadySo = "already_so", CONFLICT, "It is so already";
    /// The key signs for an account already.
    HasAccount = "has_account", CONFLICT, "The key signs for an account already";
    /// The name is taken.
    NameTaken = "name_taken", CONFLICT, "The name is taken";
    /// The nonce was used for another command.
    NonceUsed = "nonce_used", CONFLICT, "The nonce was used before";
    /// The command was in the log before.
    ReplayedCommand = "replayed_command", CONFLICT, "The command is in the log already";
    /// A command that must come first is not in the log.
    OutOfOrder = "out_of_order", CONFLICT, "A command that must come first is missing";
    /// It was deleted.
    Deleted = "deleted", GONE, "It was deleted";
    /// The journal does not reach back so far.
    Pruned = "pruned", GONE, "It was pruned";
    /// The event is of another node's journal.
    OtherJournal = "other_journal", CONFLICT, "The event is of another node's journal";
    /// The command's time is over.
    Expired = "expired", UNPROCESSABLE_ENTITY, "The command has expired";
    /// The command asks to count for too long.
    TooFarAhead = "too_far_ahead", UNPROCESSABLE_ENTITY, "The command asks to count for too long";
    /// This build does not know what the command says.
    NotUnderstood = "not_understood", UNPROCESSABLE_ENTITY, "The command is not understood";
    /// A rule stands against it.
    Refused = "refused", UNPROCESSABLE_ENTITY, "The command is refused";
    /// A report that does not count.
    StaleReport = "stale_report", CONFLICT, "The report does not count";
    /// The body is not what was announced.
    BodyMismatch = "body_mismatch", BAD_REQUEST, "The body is not what was announced";
    /// The body stopped coming.
    Stalled = "stalled", REQUEST_TIMEOUT, "The body stopped coming";
    /// The answer took too long.
    Timeout = "timeout", GATEWAY_TIMEOUT, "The answer took too long";
    /// The node does as much as it can already.
    Busy = "busy", SERVICE_UNAVAILABLE, "The node is busy";
    /// The node is shutting down.
    ShuttingDown = "shutting_down", SERVICE_UNAVAILABLE, "The node is shutting down";
    /// The node's clock is off.
    ClockOff = "clock_off", SERVICE_UNAVAILABLE, "The node's clock is off";
    /// The disk of the node takes nothing.
    NotWritten = "not_written", SERVICE_UNAVAILABLE, "The node cannot write";
    /// The command is in the log; what else was waited for did not come in time.
    NotYet = "not_yet", GATEWAY_TIMEOUT, "What was waited for did not come in time";
    /// The node has no room.
    NoRoom = "no_room", INSUFFICIENT_STORAGE, "The node has no room";
    /// Another node, which is needed, does not answer.
    Unreachable = "unreachable", BAD_GATEWAY, "Another node does not answer";
    /// The node failed.
    Internal = "internal", INTERNAL_SERVER_ERROR, "The node failed";
}

impl ErrorCode {
    /// The code for what makes an entry void.
    pub fn of_void(void: &Void) -> Self {
        match void {
            Void::NotUnderstood(_) => Self::NotUnderstood,
            Void::Forged => Self::Forged,
            Void::Replayed => Self::ReplayedCommand,
            Void::NonceUsed => Self::NonceUsed,
            Void::Expired => Self::Expired,
            Void::TooFarAhead => Self::TooFarAhead,
            Void::OutOfOrder(_) => Self::OutOfOrder,
            Void::NoAccount => Self::NoAccount,
            Void::HasAccount => Self::HasAccount,
            Void::NameTaken(_) => Self::NameTaken,
            Void::NotFound(_) => Self::NotFound,
            Void::NotOwner | Void::NotItsPlace | Void::Quarantined | Void::CutOff => Self::NotOwner,
            Void::NotAdmin(_)
            | Void::NoScope(_)
            | Void::KeyRevoked
            | Void::KeyExpired
            | Void::BeyondOwn(_)
            | Void::BeyondAllowance { .. }
            | Void::NotBelow => Self::NotAllowed,
            Void::AlreadySo(_) => Self::AlreadySo,
            Void::Deleted => Self::Deleted,
            Void::Refused(_)
            | Void::NoConsent
            | Void::TooMany { .. }
            | Void::NodeRevoked
            | Void::MembershipExpired => Self::Refused,
            Void::NotActive { .. } => Self::NotUnderstood,
            Void::StalePlacement | Void::AlreadyReported => Self::StaleReport,
            Void::NotEnough { .. }
            | Void::NotEnoughRights { .. }
            | Void::BeyondHold { .. }
            | Void::NoPayout
            | Void::Lapsed(_) => Self::Refused,
        }
    }
}

/// An error as it travels.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// `about:blank`: the code says more than a page could.
    #[serde(rename = "type")]
    pub kind: String,
    /// What went wrong, in general.
    pub title: String,
    /// The status of the answer.
    pub status: u16,
    /// What went wrong this time.
    pub detail: String,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// What went wrong, for programs.
    pub code: ErrorCode,
    /// Names the request in the node's log.
    #[serde(default)]
    pub request_id: String,
    /// The command that is void.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub command: Option<CommandId>,
    /// The op that carries the void command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub op: Option<OpId>,
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.detail)
    }
}

impl Problem {
    /// A problem of this code.
    pub fn new(code: ErrorCode, detail: impl Into<String>) -> Self {
        Self {
            kind: "about:blank".into(),
            title: code.title().into(),
            status: code.status().as_u16(),
            detail: detail.into(),
            hint: None,
            code,
            request_id: String::new(),
            command: None,
            op: None,
        }
    }

    /// With a hint.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// As a response, once the request's id is filled in.
    pub(crate) fn render(&self) -> Response {
        let body = serde_json::to_vec(self).expect("a problem is plain strings and numbers");
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, body).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
        if status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

/// Without a body yet: the outermost layer fills in the request's id and renders it.
impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = status.into_response();
        response.extensions_mut().insert(self);
        response
    }
}
