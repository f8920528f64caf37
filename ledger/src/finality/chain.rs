//! Follows certificates, height by height, from the genesis or from one that is trusted.
//!
//! A light client and a joiner need no more: each certificate is checked against the witnesses that the ones
//! before it named, and has to follow the last one.

use super::checkpoint::{Certificate, CertificateError};
use super::recovery::Admins;
use super::witness::WitnessSet;
use crate::genesis::Genesis;
use crate::id::{CheckpointId, NetworkId};

/// How far certificates were followed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertifiedChain {
    network: NetworkId,
    admins: Admins,
    height: u64,
    last: CheckpointId,
    time_ms: u64,
    witnesses: WitnessSet,
}

/// Why a certificate does not continue the chain.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChainError {
    /// It is not for the height after the last one: what is older is known, what is newer needs the ones
    /// between first.
    #[error("the certificate is for height {height}, {expected} comes next")]
    Height {
        /// Its height.
        height: u64,
        /// The one that comes next.
        expected: u64,
    },
    /// It follows another checkpoint: two certificates stand at one height, which only witnesses of more than
    /// a third of the weight, or admins, can have done.
    #[error("the certificate of height {height} follows {previous}, not the checkpoint that was certified")]
    Forked {
        /// Its height.
        height: u64,
        /// The checkpoint that it follows.
        previous: CheckpointId,
    },
    /// Its time is not greater than that of the one before.
    #[error("the certificate of height {height} has time {time_ms}, not greater than {before_ms} before it")]
    TimeBackwards {
        /// Its height.
        height: u64,
        /// Its time in milliseconds since 1970.
        time_ms: u64,
        /// The time of the one before.
        before_ms: u64,
    },
    /// It proves nothing.
    #[error("the certificate of height {height} proves nothing: {source}")]
    Unproven {
        /// Its height.
        height: u64,
        /// Why.
        source: CertificateError,
    },
}

impl CertifiedChain {
    /// Nothing certified yet.
    pub fn from_genesis(genesis: &Genesis) -> Self {
        Self {
            network: genesis.network(),
            admins: genesis.into(),
            height: 0,
            last: CheckpointId([0; 32]),
            time_ms: 0,
            witnesses: genesis.witnesses.clone(),
        }
    }

    /// From a certificate that is trusted as it stands, and those who stood for its height.
    pub fn from_trusted(genesis: &Genesis, certificate: &Certificate, witnesses: WitnessSet) -> Self {
        let mut chain = Self {
            witnesses,
            ..Self::from_genesis(genesis)
        };
        chain.advance(certificate);
        chain
    }

    /// Height of the last certificate; 0 for none.
    pub fn height(&self) -> u64 {
        self.height
    }

    /// The checkpoint of the last certificate; zeros for none.
    pub fn last(&self) -> CheckpointId {
        self.last
    }

    /// Certified time in milliseconds since 1970; 0 for none.
    pub fn time_ms(&self) -> u64 {
        self.time_ms
    }

    /// Those who vote at the next height.
    pub fn witnesses(&self) -> &WitnessSet {
        &self.witnesses
    }

    /// Those who may name other witnesses when a quorum is lost.
    pub fn admins(&self) -> &Admins {
        &self.admins
    }

    /// Checks all but signatures.
    fn check(&self, certificate: &Certificate) -> Result<(), ChainError> {
        let checkpoint = &certificate.checkpoint;
        let height = checkpoint.height;
        if Some(height) != self.height.checked_add(1) {
            let expected = self.height.saturating_add(1);
            return Err(ChainError::Height { height, expected });
        }
        if checkpoint.previous != self.last {
            let previous = checkpoint.previous;
            return Err(ChainError::Forked { height, previous });
        }
        if checkpoint.time_ms <= self.time_ms {
            return Err(ChainError::TimeBackwards {
                height,
                time_ms: checkpoint.time_ms,
                before_ms: self.time_ms,
            });
        }
        Ok(())
    }

    fn advance(&mut self, certificate: &Certificate) {
        let checkpoint = &certificate.checkpoint;
        let voters = certificate.voters(&self.witnesses);
        self.witnesses = checkpoint.next_witnesses.as_ref().unwrap_or(voters).clone();
        self.height = checkpoint.height;
        self.last = checkpoint.id(self.network);
        self.time_ms = checkpoint.time_ms;
    }

    /// Follows the certificate of the next height. `seed` blinds the batch of signatures, see
    /// [`crate::key::verify_all`]. After an error nothing has changed.
    pub fn follow(&mut self, certificate: &Certificate, seed: [u8; 32]) -> Result<(), ChainError> {
        self.check(certificate)?;
        let height = certificate.checkpoint.height;
        certificate
            .verify(self.network, &self.witnesses, &self.admins, seed)
            .map_err(|source| ChainError::Unproven { height, source })?;
        self.advance(certificate);
        Ok(())
    }

    /// As [`Self::follow`] without looking at signatures: for a certificate that this node made or has checked
    /// before, and where none are made. That those who signed are enough is checked all the same.
    pub fn follow_trusting(&mut self, certificate: &Certificate) -> Result<(), ChainError> {
        self.check(certificate)?;
        let height = certificate.checkpoint.height;
        certificate
            .checks(self.network, &self.witnesses, &self.admins)
            .map_err(|source| ChainError::Unproven { height, source })?;
        self.advance(certificate);
        Ok(())
    }
}
