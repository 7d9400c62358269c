//! Invitations: one line of text that lets its holder join a realm, once.
//!
//! The line is `hearth-invite-` and base32 (RFC 4648, lower case, no padding: it survives mail, chat and
//! being read aloud) of the encoded [`Signed`] invitation and four bytes of its digest. It carries what
//! a joiner pins: the realm's id, the digest of its CA, and the online key that signed it. The policy
//! that the coordinator then hands over must be signed by the realm's root key and name the same two.

use hearth_wire::codec::{decode_canonical, encode};
use hearth_wire::envelope::Domain;
use hearth_wire::{Digest, Invitation, RealmId, Role, Signed, UnixSeconds, limits};

use crate::key::signed_by;
use crate::{PolicyState, SigningKey, Verified, policy};

const PREFIX: &str = "hearth-invite-";
const CHECKSUM_BYTES: usize = 4;
const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";

/// A text is not an invitation that can be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvitationError {
    /// Not a whole token: a character is missing, changed or too many.
    #[error("not a whole invitation ({0}): copy the line that begins with {PREFIX} again")]
    Malformed(String),
    /// Its time is over.
    #[error(
        "the invitation ended at {expires}: ask the realm's owner for a new one (or check this machine's clock)"
    )]
    Expired {
        /// When, in seconds since 1970.
        expires: UnixSeconds,
    },
    /// It is for another realm.
    #[error("the invitation is for realm {}, not for {}: use it there, or ask for one for this realm", .found.short(), .expected.short())]
    WrongRealm {
        /// The realm that it is for.
        found: RealmId,
        /// The realm that was expected.
        expected: RealmId,
    },
    /// It was changed or made up.
    #[error("the invitation is not signed by its realm: do not use it, and ask the realm's owner")]
    BadSignature,
    /// The realm that answers is not the one that invited.
    #[error("the realm that answered does not fit the invitation ({0}): do not join it")]
    NotDelegated(&'static str),
}

/// Makes an invitation's line.
pub(crate) fn seal(invitation: &Invitation, online: &SigningKey) -> String {
    let mut bytes = encode(&policy::sign(online, Domain::Invitation, invitation));
    let checksum = Digest::of(&bytes);
    bytes.extend_from_slice(&checksum.as_bytes()[..CHECKSUM_BYTES]);
    format!("{PREFIX}{}", base32(&bytes))
}

/// Verifies an invitation's line. White space around and inside it is ignored.
///
/// For a joiner (`realm` is `None`, or the realm that it wants) the proof is that of the bearer of the
/// line: whoever gave it is trusted, and [`check_delegation`] then proves that the realm agrees. A
/// coordinator gives its own realm, and [`crate::Authority::grant`] looks at the online key.
///
/// # Errors
///
/// [`InvitationError`].
pub fn verify_invitation(
    token: &str,
    realm: Option<RealmId>,
    now: UnixSeconds,
) -> Result<Verified<Invitation>, InvitationError> {
    let malformed = |problem: &str| InvitationError::Malformed(problem.to_owned());
    if token.len() > limits::INVITATION_CHARS_MAX {
        return Err(malformed("too long"));
    }
    let line: String = token.split_ascii_whitespace().collect();
    let text = line
        .strip_prefix(PREFIX)
        .ok_or_else(|| malformed("another beginning"))?;
    let bytes = unbase32(text).ok_or_else(|| malformed("a character that does not belong"))?;
    let (bytes, checksum) = bytes
        .split_last_chunk::<CHECKSUM_BYTES>()
        .ok_or_else(|| malformed("too short"))?;
    if Digest::of(bytes).as_bytes()[..CHECKSUM_BYTES] != checksum[..] {
        return Err(malformed("a character is missing or changed"));
    }
    let decoding = |error| InvitationError::Malformed(format!("{error}"));
    let signed: Signed = decode_canonical(bytes, limits::INVITATION_CHARS_MAX).map_err(decoding)?;
    let domain = Domain::Invitation;
    if !signed_by(&signed.key, domain, &signed.bytes, &signed.signature) {
        return Err(InvitationError::BadSignature);
    }
    let invitation: Invitation =
        decode_canonical(&signed.bytes, limits::INVITATION_CHARS_MAX).map_err(decoding)?;
    if invitation.online != signed.key {
        return Err(InvitationError::BadSignature);
    }
    if invitation.addresses.len() > limits::INVITATION_ADDRESSES_MAX {
        return Err(malformed("too many addresses"));
    }
    if invitation.role == Role::Coordinator {
        return Err(malformed("a role that cannot be given"));
    }
    if let Some(expected) = realm
        && invitation.realm != expected
    {
        return Err(InvitationError::WrongRealm {
            found: invitation.realm,
            expected,
        });
    }
    if now > invitation.expires {
        return Err(InvitationError::Expired {
            expires: invitation.expires,
        });
    }
    Ok(Verified::new(invitation))
}

/// Proves to a joiner that the root key of the invitation's realm delegates to the key that signed the
/// invitation, and names the CA that it pins.
///
/// # Errors
///
/// [`InvitationError::NotDelegated`].
pub fn check_delegation(
    invitation: &Verified<Invitation>,
    state: &PolicyState,
) -> Result<(), InvitationError> {
    let policy = state.policy();
    let problem = if policy.realm != invitation.realm {
        "another root key"
    } else if policy.ca != invitation.ca {
        "another CA"
    } else if policy.online != invitation.online {
        "another online key"
    } else {
        return Ok(());
    };
    Err(InvitationError::NotDelegated(problem))
}

fn base32(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 8 / 5 + 1);
    for group in bytes.chunks(5) {
        let mut padded = [0; 8];
        padded[3..3 + group.len()].copy_from_slice(group);
        let bits = u64::from_be_bytes(padded);
        for position in 0..(group.len() * 8).div_ceil(5) {
            let index = (bits >> (35 - 5 * position)) & 31;
            text.push(ALPHABET[index as usize].into());
        }
    }
    text
}

/// The bytes, if `text` is exactly what [`base32`] makes of them (in either case).
fn unbase32(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() * 5 / 8);
    let (mut bits, mut count) = (0u32, 0);
    for digit in text.bytes() {
        let digit = digit.to_ascii_lowercase();
        let value = ALPHABET.iter().position(|letter| *letter == digit)?;
        bits = (bits << 5 | value as u32) & 0xfff;
        count += 5;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count) as u8);
        }
    }
    let rest = bits & ((1 << count) - 1);
    (count < 5 && rest == 0).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base32_is_that_of_the_rfc() {
        for (bytes, text) in [
            ("", ""),
            ("f", "my"),
            ("fo", "mzxq"),
            ("foo", "mzxw6"),
            ("foob", "mzxw6yq"),
            ("fooba", "mzxw6ytb"),
            ("foobar", "mzxw6ytboi"),
        ] {
            assert_eq!(base32(bytes.as_bytes()), text);
            assert_eq!(unbase32(text), Some(bytes.into()));
            assert_eq!(unbase32(&text.to_uppercase()), Some(bytes.into()));
        }
        assert_eq!(unbase32("mz"), None);
        assert_eq!(unbase32("m"), None);
        assert_eq!(unbase32("mzxw6yt1"), None);
    }
}
