//! How a command ends badly: the exit code that scripts read, and the words that people read.
//!
//! ```text
//! 0 ok        2 wrong usage   4 exists or conflicts   6 waited too long
//! 1 failed    3 not found     5 denied                7 node or resources unavailable
//! ```

use std::fmt;

use api::client::ClientError;
use api::problem::{ErrorCode, Problem};
use serde::Serialize;

/// The class of a failure: the exit code of the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// What was asked for was tried and failed.
    Failed = 1,
    /// The command line cannot be meant.
    Usage = 2,
    /// There is no such thing.
    NotFound = 3,
    /// It exists already, or is in a state that forbids this.
    Conflict = 4,
    /// The key or the user has no right to it.
    Denied = 5,
    /// It was not done in time; it may still happen.
    Timeout = 6,
    /// The node does not answer, or nobody has room.
    Unavailable = 7,
}

impl Exit {
    /// The number that the process ends with.
    pub fn code(self) -> u8 {
        self as u8
    }

    /// The word for it in JSON.
    pub fn word(self) -> &'static str {
        match self {
            Exit::Failed => "failed",
            Exit::Usage => "usage",
            Exit::NotFound => "not_found",
            Exit::Conflict => "conflict",
            Exit::Denied => "denied",
            Exit::Timeout => "timeout",
            Exit::Unavailable => "unavailable",
        }
    }
}

/// Why a command ends with another code than 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The exit code.
    pub exit: Exit,
    /// A word for programs; the exit code's own unless the node gave a closer one.
    pub code: String,
    /// What went wrong, for people.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
    /// The node's name for the request, to find it in its logs.
    pub request_id: Option<String>,
    /// The node was not reached or is busy: the same may work in a moment.
    pub is_transient: bool,
}

/// A failure as `--output json` shows it on standard error.
#[derive(Serialize)]
struct FailureView<'a> {
    code: &'a str,
    message: &'a str,
    hint: Option<&'a str>,
    request_id: Option<&'a str>,
}

impl Failure {
    /// A failure of this class.
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        let (code, message) = (exit.word().into(), message.into());
        Self {
            exit,
            code,
            message,
            hint: None,
            request_id: None,
            is_transient: false,
        }
    }

    /// Says what to do about it.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Says where to look, if it is that there is no such thing and nobody has said so yet.
    pub fn if_missing(mut self, hint: &str) -> Self {
        if self.exit == Exit::NotFound && self.hint.is_none() {
            self.hint = Some(hint.into());
        }
        self
    }

    /// Says that the same may work in a moment.
    pub fn transient(mut self) -> Self {
        self.is_transient = true;
        self
    }

    /// A failure of the operating system while `doing` something.
    pub fn io(doing: impl fmt::Display, error: &std::io::Error) -> Self {
        let exit = match error.kind() {
            std::io::ErrorKind::NotFound => Exit::NotFound,
            std::io::ErrorKind::PermissionDenied => Exit::Denied,
            _ => Exit::Failed,
        };
        Self::new(exit, format!("{doing}: {error}"))
    }

    /// The JSON object for standard error.
    pub fn to_json(&self) -> String {
        let view = FailureView {
            code: &self.code,
            message: &self.message,
            hint: self.hint.as_deref(),
            request_id: self.request_id.as_deref(),
        };
        serde_json::to_string(&view).expect("four strings always have a JSON form")
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        let exit = match error
            .root_cause()
            .downcast_ref::<std::io::Error>()
            .map(std::io::Error::kind)
        {
            Some(std::io::ErrorKind::NotFound) => Exit::NotFound,
            Some(std::io::ErrorKind::PermissionDenied) => Exit::Denied,
            _ => Exit::Failed,
        };
        Self::new(exit, format!("{error:#}"))
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        let text = chain(&error);
        match error {
            ClientError::Problem(problem) => Self::from_problem(*problem),
            ClientError::Address(_) => Self::new(Exit::Usage, text).hint("set --api or FORM_API"),
            ClientError::NoKey => Self::new(Exit::Denied, text).hint("choose a key with --key NAME"),
            ClientError::Connect { .. } => {
                let hint =
                    "is the node running? `form node run` starts it; --api or FORM_API says where it is";
                Self::new(Exit::Unavailable, text).hint(hint).transient()
            }
            ClientError::Transport { .. } => Self::new(Exit::Unavailable, text).transient(),
            ClientError::Answer { .. } => {
                let hint = "is a node of this version at --api? compare with `form --version`";
                Self::new(Exit::Unavailable, text).hint(hint)
            }
            ClientError::File { source, path } => Self::io(format!("reading {path}"), &source),
        }
    }
}

impl Failure {
    /// What the node said when it refused.
    fn from_problem(problem: Problem) -> Self {
        let exit = exit_of(problem.code);
        let code = match problem.code {
            ErrorCode::Unknown => exit.word(),
            code => code.as_str(),
        };
        Self {
            exit,
            code: code.into(),
            message: problem.detail,
            hint: problem.hint.or_else(|| hint_of(problem.code).map(String::from)),
            request_id: Some(problem.request_id).filter(|id| !id.is_empty()),
            is_transient: matches!(problem.code, ErrorCode::Busy | ErrorCode::ShuttingDown),
        }
    }
}

/// The exit code for what the node said.
fn exit_of(code: ErrorCode) -> Exit {
    use ErrorCode::*;
    match code {
        NotFound | NoSuchPath => Exit::NotFound,
        Ambiguous | HasAccount | NameTaken | NonceUsed | ReplayedCommand | OutOfOrder | Deleted
        | StaleReport | OtherJournal | AlreadySo => Exit::Conflict,
        Unsigned | Forged | Stale | ReplayedRequest | NotOwner | NoAccount | NotAllowed => Exit::Denied,
        Timeout | NotYet => Exit::Timeout,
        Busy | ShuttingDown | ClockOff | NotWritten | NoRoom | Unreachable => Exit::Unavailable,
        _ => Exit::Failed,
    }
}

/// What to do about it, where the node does not know how `form` is used.
fn hint_of(code: ErrorCode) -> Option<&'static str> {
    use ErrorCode::*;
    Some(match code {
        NoAccount => "open an account with `form account open NAME`, or choose another key with --key NAME",
        HasAccount => "`form account show` shows it; another account needs another key: `form key new NAME`",
        NotAllowed => {
            "`form account keys` shows what your keys may sign for, `form network show` who the admins are; choose \
             another key with --key NAME"
        }
        NotOwner => "choose the key of the account that owns it with --key NAME",
        NameTaken => "choose another name",
        Ambiguous => "say more digits of the id, or ACCOUNT/NAME",
        Expired | TooFarAhead | Stale => "compare this machine's clock with the node's",
        Busy => "try again in a moment",
        _ => return None,
    })
}

/// An error and its causes in one line, none said twice.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        let words = next.to_string();
        if !text.contains(&words) {
            text = format!("{text}: {words}");
        }
        cause = next.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_node_says_decides_the_exit_code() {
        let of = |code| {
            Failure::from(ClientError::Problem(Box::new(Problem::new(code, "why"))))
                .exit
                .code()
        };
        assert_eq!(of(ErrorCode::NameTaken), 4);
        assert_eq!(of(ErrorCode::NotFound), 3);
        assert_eq!(of(ErrorCode::NotOwner), 5);
        assert_eq!(of(ErrorCode::NoAccount), 5);
        assert_eq!(of(ErrorCode::Refused), 1);
        assert_eq!(of(ErrorCode::Timeout), 6);
        assert_eq!(of(ErrorCode::NoRoom), 7);
        assert_eq!(of(ErrorCode::Internal), 1);
    }

    #[test]
    fn a_failure_in_json_always_has_the_same_four_fields() {
        let failure = Failure::new(Exit::NotFound, "no agent `x`").hint("list them");
        let value: serde_json::Value = serde_json::from_str(&failure.to_json()).expect("it is JSON");
        assert_eq!(value["code"], "not_found");
        assert_eq!(value["hint"], "list them");
        assert!(value["request_id"].is_null());
    }
}
