//! What the realm says: the root key's policy and the online key's revocations.
//!
//! Both carry a version and an end. A machine keeps the highest versions that it has seen, so that an
//! old statement cannot be played to it again (rollback), and nothing in force outlives its end, so that
//! a new statement cannot be held back for ever (freeze).

use hearth_wire::codec::{DecodeError, decode_canonical, encode};
use hearth_wire::envelope::Domain;
use hearth_wire::{
    NodeId, Policy, PolicyBundle, PublicKey, RealmId, Revocations, Signed, UnixSeconds, limits,
};
use serde::Serialize;

use crate::key::signed_by;
use crate::{SigningKey, Trust, Verified};

/// A statement may have been signed this long after "now": clocks differ.
const CLOCK_SKEW_SECONDS: u64 = 3_600;
/// Room for key, signature and lengths around a statement.
const SIGNED_OVERHEAD_MAX: usize = 256;

/// A policy or a list of revocations is not one to follow.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PolicyError {
    /// The bytes are not a statement. Whoever sent them is to blame.
    #[error("the realm's {what} is malformed ({error}): update hearth, or fetch it again")]
    Malformed {
        /// Which statement.
        what: &'static str,
        /// What is wrong with the bytes.
        error: DecodeError,
    },
    /// It is not signed by the key that decides here.
    #[error("the {what} is not signed by the key of realm {}: the sender is not this realm", .realm.short())]
    WrongRealm {
        /// Which statement.
        what: &'static str,
        /// The realm that was expected.
        realm: RealmId,
    },
    /// It was changed after it was signed.
    #[error("the realm's {what} was changed after it was signed: do not trust its sender")]
    BadSignature {
        /// Which statement.
        what: &'static str,
    },
    /// A newer one has been seen.
    #[error(
        "the realm's {what} has version {found}, but {seen} was seen: the sender is behind, or lies"
    )]
    Rollback {
        /// Which statement.
        what: &'static str,
        /// The highest version seen.
        seen: u64,
        /// The version received.
        found: u64,
    },
    /// Two different ones have the same version. The realm's owner is to blame.
    #[error("two different {what} have version {version}: the realm's owner must sign a newer one")]
    Conflict {
        /// Which statement.
        what: &'static str,
        /// Their version.
        version: u64,
    },
    /// Its time is over.
    #[error(
        "the realm's {what} ended at {expires}: its owner must sign a new one (or a clock is wrong)"
    )]
    Expired {
        /// Which statement.
        what: &'static str,
        /// When it ended, in seconds since 1970.
        expires: UnixSeconds,
    },
    /// It was signed in the future.
    #[error("the realm's {what} was signed in the future: check this machine's clock")]
    NotYetValid {
        /// Which statement.
        what: &'static str,
    },
    /// A list in it is too long. The realm's owner is to blame.
    #[error("the realm's {what} has more than {max} {list}: its owner must shorten it")]
    TooMany {
        /// Which statement.
        what: &'static str,
        /// Which list.
        list: &'static str,
        /// The limit.
        max: usize,
    },
}

const POLICY: &str = "policy";
const REVOCATIONS: &str = "revocations";

/// Signs a statement.
pub(crate) fn sign<T: Serialize>(key: &SigningKey, domain: Domain, value: &T) -> Signed {
    let bytes = encode(value);
    Signed {
        signature: key.sign(domain, &bytes),
        key: key.public(),
        bytes,
    }
}

fn malformed(what: &'static str) -> impl Fn(DecodeError) -> PolicyError {
    move |error| PolicyError::Malformed { what, error }
}

fn decode_signed(what: &'static str, bytes: &[u8]) -> Result<Signed, PolicyError> {
    let max = limits::POLICY_BYTES_MAX + SIGNED_OVERHEAD_MAX;
    decode_canonical(bytes, max).map_err(malformed(what))
}

/// Signer, signature, realm and limits, but neither version nor time.
fn check_policy(signed: &Signed, realm: RealmId) -> Result<Verified<Policy>, PolicyError> {
    let wrong_realm = PolicyError::WrongRealm {
        what: POLICY,
        realm,
    };
    if signed.key.id().0 != realm.0 {
        return Err(wrong_realm);
    }
    if !signed_by(
        &signed.key,
        Domain::Policy,
        &signed.bytes,
        &signed.signature,
    ) {
        return Err(PolicyError::BadSignature { what: POLICY });
    }
    let policy: Policy =
        decode_canonical(&signed.bytes, limits::POLICY_BYTES_MAX).map_err(malformed(POLICY))?;
    if policy.realm != realm {
        return Err(wrong_realm);
    }
    within(POLICY, "authors", policy.authors.len(), limits::AUTHORS_MAX)?;
    within(
        POLICY,
        "trusted nodes",
        policy.trusted_nodes.len(),
        limits::TRUSTED_NODES_MAX,
    )?;
    within(
        POLICY,
        "revoked authors",
        policy.revoked_authors.len(),
        limits::REVOCATIONS_MAX,
    )?;
    Ok(Verified::new(policy))
}

fn check_revocations(
    signed: &Signed,
    policy: &Policy,
) -> Result<Verified<Revocations>, PolicyError> {
    let wrong_realm = PolicyError::WrongRealm {
        what: REVOCATIONS,
        realm: policy.realm,
    };
    if signed.key != policy.online {
        return Err(wrong_realm);
    }
    let domain = Domain::Revocations;
    if !signed_by(&signed.key, domain, &signed.bytes, &signed.signature) {
        return Err(PolicyError::BadSignature { what: REVOCATIONS });
    }
    let list: Revocations = decode_canonical(&signed.bytes, limits::POLICY_BYTES_MAX)
        .map_err(malformed(REVOCATIONS))?;
    if list.realm != policy.realm {
        return Err(wrong_realm);
    }
    for (name, len) in [
        ("nodes", list.nodes.len()),
        ("releases", list.releases.len()),
        ("authors", list.authors.len()),
    ] {
        within(REVOCATIONS, name, len, limits::REVOCATIONS_MAX)?;
    }
    Ok(Verified::new(list))
}

fn within(
    what: &'static str,
    list: &'static str,
    len: usize,
    max: usize,
) -> Result<(), PolicyError> {
    if len <= max {
        Ok(())
    } else {
        Err(PolicyError::TooMany { what, list, max })
    }
}

fn check_fresh(
    what: &'static str,
    found: u64,
    seen: u64,
    issued: UnixSeconds,
    expires: UnixSeconds,
    now: UnixSeconds,
) -> Result<(), PolicyError> {
    if found < seen {
        return Err(PolicyError::Rollback { what, seen, found });
    }
    if issued.0 > now.0.saturating_add(CLOCK_SKEW_SECONDS) {
        return Err(PolicyError::NotYetValid { what });
    }
    if now > expires {
        return Err(PolicyError::Expired { what, expires });
    }
    Ok(())
}

/// The newest policy and revocations that this machine has seen.
///
/// What is in here was verified, but may have ended since: [`Trust`] looks at the time again whenever
/// it is asked, and [`PolicyState::check_in_force`] tells the operator.
#[derive(Debug, Clone)]
pub struct PolicyState {
    policy: Verified<Policy>,
    revocations: Verified<Revocations>,
    bundle: PolicyBundle,
}

impl PolicyState {
    /// The first that a joiner receives: `bytes` are an encoded [`PolicyBundle`].
    ///
    /// # Errors
    ///
    /// [`PolicyError`].
    pub fn accept(bytes: &[u8], realm: RealmId, now: UnixSeconds) -> Result<Self, PolicyError> {
        let state = Self::from_bundle(decode_bundle(bytes)?, realm)?;
        state.check_received(0, 0, now)?;
        Ok(state)
    }

    /// What a member keeps, in one piece: it may have ended, and is the highest that was seen.
    pub(crate) fn kept(bundle: &[u8], realm: RealmId) -> Result<Self, PolicyError> {
        Self::from_bundle(decode_bundle(bundle)?, realm)
    }

    /// As [`PolicyState::kept`] where a realm keeps it, in two pieces that change at different times.
    pub(crate) fn stored(
        policy: &[u8],
        revocations: &[u8],
        realm: RealmId,
    ) -> Result<Self, PolicyError> {
        let bundle = PolicyBundle {
            policy: decode_signed(POLICY, policy)?,
            revocations: decode_signed(REVOCATIONS, revocations)?,
        };
        Self::from_bundle(bundle, realm)
    }

    /// As [`PolicyState::stored`] while a change of the online key was interrupted: the revocations may
    /// be signed by `online`, which the policy does not name yet.
    pub(crate) fn interrupted(
        policy: &[u8],
        revocations: &[u8],
        realm: RealmId,
        online: PublicKey,
    ) -> Result<(Policy, Revocations), PolicyError> {
        let policy = check_policy(&decode_signed(POLICY, policy)?, realm)?.into_inner();
        let signed = decode_signed(REVOCATIONS, revocations)?;
        let mut signer = policy.clone();
        if signed.key == online {
            signer.online = online;
        }
        let list = check_revocations(&signed, &signer)?.into_inner();
        Ok((policy, list))
    }

    pub(crate) fn from_bundle(bundle: PolicyBundle, realm: RealmId) -> Result<Self, PolicyError> {
        let policy = check_policy(&bundle.policy, realm)?;
        Ok(Self {
            revocations: check_revocations(&bundle.revocations, &policy)?,
            policy,
            bundle,
        })
    }

    /// Takes what a coordinator sends now (`Welcome::policy`), and says whether anything changed.
    ///
    /// # Errors
    ///
    /// [`PolicyError`]; this state is then unchanged.
    pub fn update(&mut self, bytes: &[u8], now: UnixSeconds) -> Result<bool, PolicyError> {
        let new = Self::from_bundle(decode_bundle(bytes)?, self.policy.realm)?;
        let replaced = new.replaces_online_key_of(self);
        let seen = if replaced {
            0
        } else {
            self.revocations.version
        };
        new.check_received(self.policy.version, seen, now)?;
        if new.policy.version == self.policy.version && new.policy != self.policy {
            return Err(PolicyError::Conflict {
                what: POLICY,
                version: new.policy.version,
            });
        }
        if !replaced
            && new.revocations.version == self.revocations.version
            && new.revocations != self.revocations
        {
            return Err(PolicyError::Conflict {
                what: REVOCATIONS,
                version: new.revocations.version,
            });
        }
        let changed = new.is_newer_than(self);
        if changed {
            *self = new;
        }
        Ok(changed)
    }

    /// Whether this says something that `other` does not, and takes nothing of it back.
    pub fn is_newer_than(&self, other: &Self) -> bool {
        let versions = |state: &Self| (state.policy.version, state.revocations.version);
        let (new, old) = (versions(self), versions(other));
        let revokes = new.1 >= old.1 || self.replaces_online_key_of(other);
        new != old && new.0 >= old.0 && revokes
    }

    /// Whoever stole an online key can sign a list of the highest version there is, behind which no later
    /// one would count. So the root key's word for another online key begins the count anew.
    fn replaces_online_key_of(&self, other: &Self) -> bool {
        self.policy.version > other.policy.version && self.policy.online != other.policy.online
    }

    fn check_received(
        &self,
        policy_seen: u64,
        revocations_seen: u64,
        now: UnixSeconds,
    ) -> Result<(), PolicyError> {
        let (policy, list) = (&self.policy, &self.revocations);
        check_fresh(
            POLICY,
            policy.version,
            policy_seen,
            policy.issued,
            policy.expires,
            now,
        )?;
        check_fresh(
            REVOCATIONS,
            list.version,
            revocations_seen,
            list.issued,
            list.expires,
            now,
        )
    }

    /// Whether both statements are in force.
    ///
    /// # Errors
    ///
    /// [`PolicyError::Expired`] for the first that has ended, [`PolicyError::NotYetValid`].
    pub fn check_in_force(&self, now: UnixSeconds) -> Result<(), PolicyError> {
        self.check_received(0, 0, now)
    }

    /// When the first of the two statements ends.
    pub fn in_force_until(&self) -> UnixSeconds {
        self.policy.expires.min(self.revocations.expires)
    }

    /// The policy.
    pub const fn policy(&self) -> &Verified<Policy> {
        &self.policy
    }

    /// The revocations.
    pub const fn revocations(&self) -> &Verified<Revocations> {
        &self.revocations
    }

    /// Whether the holder of this key is shut out.
    pub fn is_revoked(&self, node: NodeId) -> bool {
        self.revocations.nodes.contains(&node)
    }

    /// Whether the root key marked the node as trusted, and nobody took it back.
    pub fn is_trusted_node(&self, node: NodeId) -> bool {
        self.policy.trusted_nodes.contains(&node) && !self.is_revoked(node)
    }

    /// For `Welcome::policy`, answers to enrolments, and what a member keeps.
    pub fn bundle_bytes(&self) -> Vec<u8> {
        encode(&self.bundle)
    }

    /// The policy as kept in `policy.bin`.
    pub(crate) fn policy_bytes(&self) -> Vec<u8> {
        encode(&self.bundle.policy)
    }

    /// The revocations as kept in `revocations.bin`.
    pub(crate) fn revocations_bytes(&self) -> Vec<u8> {
        encode(&self.bundle.revocations)
    }

    pub(crate) const fn bundle(&self) -> &PolicyBundle {
        &self.bundle
    }

    /// What a member of the realm trusts.
    pub fn trust(&self) -> Trust {
        Trust::realm(self.clone())
    }
}

fn decode_bundle(bytes: &[u8]) -> Result<PolicyBundle, PolicyError> {
    let max = 2 * (limits::POLICY_BYTES_MAX + SIGNED_OVERHEAD_MAX);
    decode_canonical(bytes, max).map_err(malformed(POLICY))
}
