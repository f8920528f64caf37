//! Commands about accounts.

use serde::{Deserialize, Serialize};

use crate::codec::DecodeError;

/// Characters of a name, at most: a DNS label's worth.
pub const NAME_MAX: usize = 63;

/// Names that stand for something else under `form.internal`.
pub const RESERVED: [&str; 6] = ["node", "agent", "service", "account", "ns", "www"];

/// Opens an account for the key that signs. The account's id is the command's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenAccount {
    /// Unique name of the account: a DNS label in lower case.
    pub name: String,
}

impl OpenAccount {
    pub(crate) fn check(&self) -> Result<(), DecodeError> {
        if RESERVED.contains(&self.name.as_str()) {
            return Err(DecodeError::Meaningless(
                "an account's name that stands for something else in domain names",
            ));
        }
        check_label(&self.name)
    }
}

/// Whether `name` is a DNS label in lower case (RFC 1123): letters, digits and hyphens, no hyphen at either
/// end, 1 to 63 characters. What has a place in a domain name is called by such a label.
pub fn check_label(name: &str) -> Result<(), DecodeError> {
    let fits = !name.is_empty()
        && name.len() <= NAME_MAX
        && !name.starts_with('-')
        && !name.ends_with('-')
        && name
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
    if fits {
        Ok(())
    } else {
        Err(DecodeError::Meaningless(
            "a name that is not 1 to 63 of a-z, 0-9 and inner hyphens",
        ))
    }
}

/// Whether `text` has at most `max` bytes.
pub(crate) fn check_length(text: &str, max: usize, what: &'static str) -> Result<(), DecodeError> {
    if text.len() > max {
        return Err(DecodeError::TooLarge {
            what,
            size: text.len() as u64,
            max: max as u64,
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_takes_no_name_that_stands_for_something_else() {
        for name in RESERVED {
            assert!(OpenAccount { name: name.into() }.check().is_err(), "{name}");
        }
        assert_eq!(OpenAccount { name: "nodes".into() }.check(), Ok(()));
    }

    #[test]
    fn a_name_is_a_label_in_lower_case() {
        for name in ["", "-a", "a-", "A", "a.b", "a_b", "ä", &"a".repeat(64)] {
            assert!(check_label(name).is_err(), "{name}");
        }
        for name in ["a", "0", "a-b", &"a".repeat(63)] {
            assert_eq!(check_label(name), Ok(()), "{name}");
        }
    }
}
