//! Releases: whose code may run here.

use hearth_wire::codec::DecodeError;
use hearth_wire::envelope::Domain;
use hearth_wire::{
    AuthorEntry, KeyId, Manifest, ManifestError, PublicKey, RealmId, Release, ReleaseId, Signature,
    UnixSeconds, limits,
};

use crate::key::signed_by;
use crate::{PolicyError, PolicyState, SigningKey, Verified};

/// A release does not run here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReleaseError {
    /// Nobody signed it.
    #[error("the release is not signed: its author must sign it (hearth task sign)")]
    Unsigned,
    /// It was changed after it was signed.
    #[error("the release was changed after {author} signed it: get it again from its author")]
    BadSignature {
        /// Whose signature does not fit.
        author: String,
    },
    /// None of its signers is trusted here.
    #[error("nobody trusted here signed the release (signed by {}): the owner must add the author first", short(.keys))]
    UnknownAuthor {
        /// The signers.
        keys: Vec<KeyId>,
    },
    /// A signer was taken back.
    #[error("the author {} was revoked: the release must be signed by another", .key.short())]
    RevokedAuthor {
        /// The signer.
        key: KeyId,
    },
    /// The release was taken back.
    #[error("the release {} was revoked: use a newer one", .release.short())]
    RevokedRelease {
        /// The release.
        release: ReleaseId,
    },
    /// The author's entry has ended.
    #[error("the trust in author {author} ended at {not_after}: the realm's owner must renew it")]
    AuthorExpired {
        /// The author.
        author: String,
        /// When, in seconds since 1970.
        not_after: UnixSeconds,
    },
    /// The policy that names the author is not in force.
    #[error("{0}; until then only releases of pinned authors run")]
    Policy(PolicyError),
    /// It is bound to another realm.
    #[error("the release is for realm {}, not for this one: its author must sign it anew", .release.short())]
    WrongRealm {
        /// The realm that it is bound to.
        release: RealmId,
    },
    /// Its time has not come.
    #[error("the release is valid from {not_before} on: wait, or check this machine's clock")]
    NotYetValid {
        /// When, in seconds since 1970.
        not_before: UnixSeconds,
    },
    /// Its time is over.
    #[error("the release ended at {not_after}: its author must sign it anew")]
    Expired {
        /// When, in seconds since 1970.
        not_after: UnixSeconds,
    },
    /// The author signed something that is not a manifest.
    #[error("the signed manifest is malformed ({0}): its author must sign it with a newer hearth")]
    Malformed(DecodeError),
    /// The author signed a manifest that breaks a limit.
    #[error("{0}: its author must correct and sign it anew")]
    Manifest(#[from] ManifestError),
    /// More bytes or signatures than a release may have.
    #[error("the release has {found} {what}, at most {max} are allowed: get it from its author")]
    TooLarge {
        /// What there is too much of.
        what: &'static str,
        /// How much.
        found: usize,
        /// The limit.
        max: usize,
    },
}

fn short(keys: &[KeyId]) -> String {
    let keys: Vec<_> = keys.iter().map(KeyId::short).collect();
    keys.join(", ")
}

/// Whose releases may run on this machine: the authors of the realm's policy while it is in force, those
/// whom the machine's owner has pinned, and the machine's own (personal) author.
///
/// Pinned and personal authors do not depend on the policy's life, so that the owner's own local host
/// goes on when nobody has signed a new policy in time; volunteers have neither and stop. Revocations
/// restrict all three.
#[derive(Debug, Clone, Default)]
pub struct Trust {
    state: Option<PolicyState>,
    pinned: Vec<AuthorEntry>,
    personal: Option<PublicKey>,
}

impl Trust {
    /// A machine without a realm: its own author only.
    pub fn personal(author: PublicKey) -> Self {
        Self::default().with_personal(author)
    }

    /// A member of a realm. [`PolicyState::trust`] is the same.
    pub fn realm(state: PolicyState) -> Self {
        Self {
            state: Some(state),
            ..Self::default()
        }
    }

    /// Adds the machine's own author.
    pub fn with_personal(mut self, author: PublicKey) -> Self {
        self.personal = Some(author);
        self
    }

    /// Adds authors whom the machine's owner has pinned.
    pub fn with_pinned(mut self, authors: impl IntoIterator<Item = AuthorEntry>) -> Self {
        self.pinned.extend(authors);
        self
    }

    /// The realm, if the machine is a member of one.
    pub fn realm_id(&self) -> Option<RealmId> {
        self.state.as_ref().map(|state| state.policy().realm)
    }

    /// What the realm says, if the machine is a member of one.
    pub const fn policy_state(&self) -> Option<&PolicyState> {
        self.state.as_ref()
    }

    fn is_revoked(&self, key: KeyId) -> bool {
        self.state.as_ref().is_some_and(|state| {
            state.policy().revoked_authors.contains(&key)
                || state.revocations().authors.contains(&key)
        })
    }

    /// The author with this key, the kind that depends on least first.
    fn author(&self, key: KeyId) -> Option<Author<'_>> {
        let with_key = |entry: &&AuthorEntry| entry.key.id() == key;
        let personal = self.personal.filter(|author| author.id() == key);
        let pinned = || self.pinned.iter().find(with_key).map(Author::Pinned);
        let policy = || {
            let state = self.state.as_ref()?;
            let entry = state.policy().authors.iter().find(with_key)?;
            Some(Author::Policy(state, entry))
        };
        personal
            .map(Author::Personal)
            .or_else(pinned)
            .or_else(policy)
    }
}

enum Author<'a> {
    Personal(PublicKey),
    Pinned(&'a AuthorEntry),
    Policy(&'a PolicyState, &'a AuthorEntry),
}

impl Author<'_> {
    fn key(&self) -> &PublicKey {
        match self {
            Self::Personal(key) => key,
            Self::Pinned(entry) | Self::Policy(_, entry) => &entry.key,
        }
    }

    fn name(&self) -> &str {
        match self {
            Self::Personal(_) => "you",
            Self::Pinned(entry) | Self::Policy(_, entry) => &entry.name,
        }
    }

    /// Until when the trust in the author holds, if it holds now.
    fn check(&self, now: UnixSeconds) -> Result<UnixSeconds, ReleaseError> {
        let (entry, until) = match self {
            Self::Personal(_) => return Ok(UnixSeconds(u64::MAX)),
            Self::Pinned(entry) => (entry, entry.not_after),
            Self::Policy(state, entry) => {
                state.check_in_force(now).map_err(ReleaseError::Policy)?;
                (entry, entry.not_after.min(state.in_force_until()))
            }
        };
        if now > entry.not_after {
            return Err(ReleaseError::AuthorExpired {
                author: entry.name.clone(),
                not_after: entry.not_after,
            });
        }
        Ok(until)
    }
}

/// A release that a trusted author signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustedRelease {
    /// Its name.
    pub id: ReleaseId,
    /// What the author says about the component. Checked against every limit.
    pub manifest: Manifest,
    /// The manifest's bytes as received, with the signatures that were verified, the author's first. Others
    /// prove nothing now, and must not be held against the author when their keys are known one day.
    pub release: Release,
    /// Who signed it.
    pub author: KeyId,
    /// For people; `you` for the machine's own author.
    pub author_name: String,
    /// After this the release must be verified again: its manifest, its author's entry, or the policy
    /// or the revocations that this rests on have ended then.
    pub valid_until: UnixSeconds,
}

/// A release of `manifest`, signed by `key`.
///
/// # Errors
///
/// [`ManifestError`] if the manifest breaks a limit: nobody would run it.
pub fn sign_release(manifest: &Manifest, key: &SigningKey) -> Result<Release, ManifestError> {
    manifest.check()?;
    let mut release = Release::unsigned(manifest);
    if release.manifest.len() > limits::MANIFEST_BYTES_MAX {
        return Err(ManifestError {
            field: "imports",
            problem: format!(
                "with the other lists more than {} bytes",
                limits::MANIFEST_BYTES_MAX
            ),
        });
    }
    release.signatures.push(Signature {
        key: key.id(),
        bytes: key.sign(Domain::Release, &release.manifest),
    });
    Ok(release)
}

/// Verifies that a trusted author signed `release`, and that it may run now and here.
///
/// One trusted signature is enough; one that does not fit its known author is one too many, and so is one of
/// an author who was revoked, if it is that author's: anybody can write a key's name beside some bytes.
///
/// # Errors
///
/// [`ReleaseError`].
pub fn verify_release(
    release: &Release,
    trust: &Trust,
    now: UnixSeconds,
) -> Result<Verified<TrustedRelease>, ReleaseError> {
    within(
        "manifest bytes",
        release.manifest.len(),
        limits::MANIFEST_BYTES_MAX,
    )?;
    within(
        "signatures",
        release.signatures.len(),
        limits::SIGNATURES_MAX,
    )?;
    let id = release.id();
    if let Some(state) = &trust.state
        && state.revocations().releases.contains(&id)
    {
        return Err(ReleaseError::RevokedRelease { release: id });
    }
    let (signer, signatures) = signer(release, trust, now)?;
    let manifest = release.parse_manifest().map_err(ReleaseError::Malformed)?;
    manifest.check()?;
    if let Some(bound) = manifest.realm
        && trust.realm_id() != Some(bound)
    {
        return Err(ReleaseError::WrongRealm { release: bound });
    }
    if now < manifest.not_before {
        return Err(ReleaseError::NotYetValid {
            not_before: manifest.not_before,
        });
    }
    if now > manifest.not_after {
        return Err(ReleaseError::Expired {
            not_after: manifest.not_after,
        });
    }
    Ok(Verified::new(TrustedRelease {
        id,
        valid_until: signer.until.min(manifest.not_after),
        manifest,
        release: Release {
            manifest: release.manifest.clone(),
            signatures,
        },
        author: signer.key,
        author_name: signer.name,
    }))
}

fn within(what: &'static str, found: usize, max: usize) -> Result<(), ReleaseError> {
    if found <= max {
        Ok(())
    } else {
        Err(ReleaseError::TooLarge { what, found, max })
    }
}

struct Signer {
    key: KeyId,
    name: String,
    until: UnixSeconds,
}

/// The first trusted author who signed, once every signature has been looked at; and the signatures that are
/// what they say, that author's first.
fn signer(
    release: &Release,
    trust: &Trust,
    now: UnixSeconds,
) -> Result<(Signer, Vec<Signature>), ReleaseError> {
    let (mut trusted, mut lapsed, mut revoked) = (None, None, None);
    let mut verified: Vec<Signature> = Vec::new();
    for signature in &release.signatures {
        let key = signature.key;
        let Some(author) = trust.author(key) else {
            // Without the key's bytes nobody can tell whether this is its signature.
            revoked = revoked.or(trust.is_revoked(key).then_some(key));
            continue;
        };
        let name = author.name().to_owned();
        if !signed_by(
            author.key(),
            Domain::Release,
            &release.manifest,
            &signature.bytes,
        ) {
            return Err(ReleaseError::BadSignature { author: name });
        }
        if trust.is_revoked(key) {
            return Err(ReleaseError::RevokedAuthor { key });
        }
        let first = trusted.is_none();
        match author.check(now) {
            Ok(until) => trusted = trusted.or(Some(Signer { key, name, until })),
            Err(error) => lapsed = lapsed.or(Some(error)),
        }
        if first && trusted.is_some() {
            verified.insert(0, signature.clone());
        } else {
            verified.push(signature.clone());
        }
    }
    if let Some(signer) = trusted {
        return Ok((signer, verified));
    }
    let keys: Vec<_> = release.signatures.iter().map(|s| s.key).collect();
    Err(match (lapsed, revoked) {
        (Some(error), _) => error,
        (None, Some(key)) => ReleaseError::RevokedAuthor { key },
        (None, None) if keys.is_empty() => ReleaseError::Unsigned,
        (None, None) => ReleaseError::UnknownAuthor { keys },
    })
}
