//! Which invitations were used, and by whom.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use hearth_wire::{InvitationNonce, Redemption, UnixSeconds, limits};
use serde::{Deserialize, Serialize};

use crate::EnrolError;
use crate::peer::has_ended;

/// What became of an attempt to use an invitation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Redeemed {
    /// The first use: journal this record, and answer with its certificate once it is durable.
    First(Redemption),
    /// A retry by the same key, whose first answer was lost: answer with this certificate.
    Again(Redemption),
    /// A retry by the same key after the certificate of the first answer has ended, which would be of
    /// no use: journal this record, [`Redemptions::replay`] it, and answer with its certificate.
    Anew(Redemption),
}

impl Redeemed {
    /// The record, and in it the certificate to answer with.
    pub const fn redemption(&self) -> &Redemption {
        match self {
            Self::First(redemption) | Self::Again(redemption) | Self::Anew(redemption) => {
                redemption
            }
        }
    }
}

/// The used invitations of a realm: a fold of [`Redemption`] records. The first of each nonce binds it
/// to its key; a later one for the same key brings a newer certificate.
///
/// A record is kept until its invitation has ended; a token that has ended is refused before it gets
/// here.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Redemptions(BTreeMap<InvitationNonce, Redemption>);

impl Redemptions {
    /// Binds an invitation to the key that presents it.
    ///
    /// # Errors
    ///
    /// [`EnrolError::AlreadyUsed`] if it is bound to another key, [`EnrolError::Full`].
    pub fn redeem(
        &mut self,
        redemption: Redemption,
        now: UnixSeconds,
    ) -> Result<Redeemed, EnrolError> {
        if let Some(first) = self.0.get(&redemption.nonce) {
            return if first.node != redemption.node {
                Err(EnrolError::AlreadyUsed)
            } else if has_ended(&first.certificate, now) {
                Ok(Redeemed::Anew(redemption))
            } else {
                Ok(Redeemed::Again(first.clone()))
            };
        }
        if self.0.len() >= limits::REDEMPTIONS_MAX {
            self.0.retain(|_, used| used.expires >= now);
        }
        if self.0.len() >= limits::REDEMPTIONS_MAX {
            return Err(EnrolError::Full);
        }
        self.replay(redemption.clone());
        Ok(Redeemed::First(redemption))
    }

    /// Takes a record of the journal.
    pub fn replay(&mut self, redemption: Redemption) {
        match self.0.entry(redemption.nonce) {
            Entry::Vacant(place) => {
                place.insert(redemption);
            }
            Entry::Occupied(mut first) if first.get().node == redemption.node => {
                first.insert(redemption);
            }
            Entry::Occupied(_) => {}
        }
    }

    /// Takes a first use back that could not be journaled: it was answered to nobody.
    pub fn forget(&mut self, redemption: &Redemption) {
        if self.0.get(&redemption.nonce) == Some(redemption) {
            self.0.remove(&redemption.nonce);
        }
    }

    /// How many are remembered.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether none is remembered.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hearth_wire::{Digest, NodeId};

    fn redemption(nonce: u16, node: &[u8], expires: u64) -> Redemption {
        let mut bytes = [0; 16];
        bytes[..2].copy_from_slice(&nonce.to_le_bytes());
        Redemption {
            nonce: InvitationNonce(bytes),
            node: NodeId(Digest::of(node)),
            certificate: node.to_vec(),
            expires: UnixSeconds(expires),
        }
    }

    #[test]
    fn first_key_wins_and_keeps_its_certificate() {
        let mut used = Redemptions::default();
        let now = UnixSeconds(10);
        let first = redemption(1, b"a", 100);
        assert_eq!(
            used.redeem(first.clone(), now),
            Ok(Redeemed::First(first.clone()))
        );
        let mut retry = first.clone();
        retry.certificate = b"another".to_vec();
        assert_eq!(used.redeem(retry, now), Ok(Redeemed::Again(first.clone())));
        assert_eq!(
            used.redeem(redemption(1, b"b", 100), now),
            Err(EnrolError::AlreadyUsed)
        );

        let mut replayed = Redemptions::default();
        replayed.replay(first.clone());
        assert_eq!(
            replayed.redeem(redemption(1, b"b", 100), now),
            Err(EnrolError::AlreadyUsed)
        );
        assert_eq!(
            replayed.redeem(first.clone(), now),
            Ok(Redeemed::Again(first))
        );
    }

    #[test]
    fn remembers_a_bounded_number_and_forgets_only_what_has_ended() {
        let mut used = Redemptions::default();
        for nonce in 0..limits::REDEMPTIONS_MAX as u16 {
            let expires = if nonce < 3 { 50 } else { 500 };
            used.redeem(redemption(nonce, b"a", expires), UnixSeconds(10))
                .unwrap();
        }
        let next = redemption(u16::MAX, b"b", 500);
        assert_eq!(
            used.redeem(next.clone(), UnixSeconds(50)),
            Err(EnrolError::Full)
        );
        assert!(used.redeem(next, UnixSeconds(51)).is_ok());
        assert_eq!(used.len(), limits::REDEMPTIONS_MAX - 2);
    }
}
