//! Commands about an account's keys.
//!
//! The key that opened an account is its root. A key hands on what it may do, or less of it, to another key:
//! so the keys of an account form a tree, in which authority only shrinks on the way down.

use std::fmt;

use data_encoding::HEXLOWER;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::Body;
use super::accounts::check_label;
use crate::codec::DecodeError;
use crate::id::{AccountId, NetworkId, hash};
use crate::key::{Check, PublicKey, SIGNATURE_BYTES, SecretKey, Signature};

/// What a key may sign for. A closed set: what is not listed needs [`Scope::Account`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Scope {
    /// Everything that the account may do.
    Account,
    /// Builds, agents and instances.
    Deploy,
    /// Domain names.
    Domains,
    /// The account's credits, up to a limit of the key.
    Credits,
    /// What only the account may read. Each key has it, whatever else it has.
    Read,
}

impl Scope {
    /// As people write it.
    pub fn name(self) -> &'static str {
        match self {
            Scope::Account => "account",
            Scope::Deploy => "deploy",
            Scope::Domains => "domains",
            Scope::Credits => "credits",
            Scope::Read => "read",
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A set of scopes. A set with nothing but `false` is a key that only reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scopes {
    /// [`Scope::Account`]; the others then are not set, as it holds them all.
    pub account: bool,
    /// [`Scope::Deploy`].
    pub deploy: bool,
    /// [`Scope::Domains`].
    pub domains: bool,
    /// [`Scope::Credits`], and how many the key, with all keys below it, may spend in its life.
    pub credits: Option<u64>,
}

impl Scopes {
    /// Everything.
    pub const ALL: Self = Self {
        account: true,
        deploy: false,
        domains: false,
        credits: None,
    };

    /// Nothing but reading.
    pub const READ: Self = Self {
        account: false,
        deploy: false,
        domains: false,
        credits: None,
    };

    /// Whether a key with this set may sign for `scope`.
    pub fn allow(&self, scope: Scope) -> bool {
        self.account
            || match scope {
                Scope::Account => false,
                Scope::Deploy => self.deploy,
                Scope::Domains => self.domains,
                Scope::Credits => self.credits.is_some(),
                Scope::Read => true,
            }
    }

    /// A scope of `other` that goes beyond this set, if there is one.
    pub fn beyond(&self, other: &Self) -> Option<Scope> {
        if self.account {
            return None;
        }
        let credits = match (self.credits, other.credits) {
            (_, None) => false,
            (None, Some(_)) => true,
            (Some(own), Some(given)) => given > own,
        };
        [
            (other.account, Scope::Account),
            (other.deploy && !self.deploy, Scope::Deploy),
            (other.domains && !self.domains, Scope::Domains),
            (credits, Scope::Credits),
        ]
        .into_iter()
        .find_map(|(beyond, scope)| beyond.then_some(scope))
    }

    /// The set has one way to be written.
    fn check(&self) -> Result<(), DecodeError> {
        if self.account && *self != Self::ALL {
            return Err(DecodeError::NotCanonical("a key's scopes"));
        }
        Ok(())
    }
}

/// That whoever holds a key wants it to sign for an account: its own signature over both. Without it, an
/// account could take in the key of somebody who has not opened one yet.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Consent(pub [u8; SIGNATURE_BYTES]);

impl Consent {
    fn message(network: NetworkId, account: AccountId) -> [u8; 32] {
        hash("formation 2026 key consent v1", &[&network.0, &account.0])
    }

    /// The consent of `secret`'s key to sign for an account of a network.
    pub fn sign(network: NetworkId, account: AccountId, secret: &SecretKey) -> Self {
        Self(secret.sign(&Self::message(network, account)).0)
    }

    /// Whether it is `key`'s.
    pub fn verify(&self, network: NetworkId, account: AccountId, key: PublicKey) -> bool {
        crate::key::verify(&Check {
            key,
            message: Self::message(network, account),
            signature: Signature(self.0),
        })
    }
}

impl fmt::Debug for Consent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Consent({}…)", HEXLOWER.encode(&self.0[..4]))
    }
}

impl Serialize for Consent {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            return serializer.serialize_str(&HEXLOWER.encode(&self.0));
        }
        let (left, right) = self.0.split_at(32);
        let half = |bytes: &[u8]| <[u8; 32]>::try_from(bytes).expect("a half of 64 bytes");
        (half(left), half(right)).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Consent {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use serde::de::Error;
        if deserializer.is_human_readable() {
            let text = String::deserialize(deserializer)?;
            let bytes = HEXLOWER.decode(text.as_bytes()).map_err(D::Error::custom)?;
            let bytes = bytes
                .try_into()
                .map_err(|_| D::Error::custom("a consent is 128 hexadecimal digits"))?;
            return Ok(Self(bytes));
        }
        let halves = <([u8; 32], [u8; 32])>::deserialize(deserializer)?;
        let mut bytes = [0; SIGNATURE_BYTES];
        bytes[..32].copy_from_slice(&halves.0);
        bytes[32..].copy_from_slice(&halves.1);
        Ok(Self(bytes))
    }
}

/// Lets another key sign for the account. It takes what the signing key has, or less of it, and ends no
/// later.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddKey {
    /// The key.
    pub key: PublicKey,
    /// What it may sign for.
    pub scopes: Scopes,
    /// The last millisecond since 1970 at which it signs; none: as long as the key that adds it.
    pub expires_ms: Option<u64>,
    /// What people call it: a DNS label, such as `laptop`.
    pub label: String,
    /// The key's own word.
    pub consent: Consent,
}

/// Ends a key, and all that it added, directly or through others. Only a key above it in the tree may.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RevokeKey {
    /// The key.
    pub key: PublicKey,
}

impl AddKey {
    pub(crate) fn check(&self) -> Result<(), DecodeError> {
        check_label(&self.label)?;
        self.scopes.check()
    }
}

impl RevokeKey {
    pub(crate) fn check(&self) -> Result<(), DecodeError> {
        Ok(())
    }
}

/// Who may sign a command of a kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Needs {
    /// Any key; what the kind does says more.
    AnyKey,
    /// A key of an account that has this scope.
    Scope(Scope),
}

impl Body {
    /// Who may sign it.
    pub fn needs(&self) -> Needs {
        match self {
            Body::OpenAccount(_) | Body::ApproveAct(_) => Needs::AnyKey,
            // A key hands on and takes back what it has, so it needs no more than to be one.
            Body::AddKey(_) | Body::RevokeKey(_) => Needs::Scope(Scope::Read),
            Body::BuildImage(_)
            | Body::RegisterAgent(_)
            | Body::UpdateAgent(_)
            | Body::LaunchInstance(_)
            | Body::StopInstance(_)
            | Body::StartInstance(_)
            | Body::DeleteInstance(_) => Needs::Scope(Scope::Deploy),
            Body::ClaimDomain(_) | Body::ReleaseDomain(_) => Needs::Scope(Scope::Domains),
            Body::TransferCredits(_) | Body::GrantRights(_) | Body::PlaceHold(_) | Body::ReleaseHold(_) => {
                Needs::Scope(Scope::Credits)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(bits: u8, credits: Option<u64>) -> Scopes {
        Scopes {
            account: false,
            deploy: bits & 1 != 0,
            domains: bits & 2 != 0,
            credits,
        }
    }

    #[test]
    fn authority_only_shrinks_on_the_way_down() {
        let mut sets = vec![Scopes::ALL];
        for bits in 0..4 {
            for credits in [None, Some(0), Some(5), Some(6)] {
                sets.push(set(bits, credits));
            }
        }
        let scopes = [
            Scope::Account,
            Scope::Deploy,
            Scope::Domains,
            Scope::Credits,
            Scope::Read,
        ];
        for above in &sets {
            assert_eq!(above.beyond(above), None, "{above:?}");
            for below in sets.iter().filter(|below| above.beyond(below).is_none()) {
                for scope in scopes {
                    assert!(above.allow(scope) || !below.allow(scope), "{above:?} {below:?}");
                }
                assert!(
                    above.account || below.credits <= above.credits,
                    "{above:?} {below:?}"
                );
            }
        }
        assert_eq!(set(3, None).beyond(&Scopes::ALL), Some(Scope::Account));
        assert_eq!(set(1, None).beyond(&set(3, None)), Some(Scope::Domains));
        assert_eq!(set(1, Some(5)).beyond(&set(1, Some(6))), Some(Scope::Credits));
    }

    #[test]
    fn the_whole_account_is_written_in_one_way() {
        let twice = Scopes {
            deploy: true,
            ..Scopes::ALL
        };
        assert!(twice.check().is_err());
        assert_eq!(Scopes::ALL.check(), Ok(()));
    }

    #[test]
    fn a_consent_is_for_one_key_one_account_and_one_network() {
        let secret = SecretKey::from_seed([1; 32]);
        let (network, account) = (NetworkId([2; 32]), AccountId([3; 32]));
        let consent = Consent::sign(network, account, &secret);
        assert!(consent.verify(network, account, secret.public()));
        assert!(!consent.verify(network, AccountId([4; 32]), secret.public()));
        assert!(!consent.verify(NetworkId([4; 32]), account, secret.public()));
        let other = SecretKey::from_seed([5; 32]).public();
        assert!(!consent.verify(network, account, other));
    }
}
