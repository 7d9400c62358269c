//! What identity refuses, in the shape of the API: a stable code, a blame and a next step for each.
//!
//! The texts of those errors end in what to do, after a colon; here it has a field of its own, in the
//! words of somebody who reads it at the other end of the API.

use axum::http::StatusCode;
use hearth_identity::{EnrolError, InvitationError, PeerError, ReleaseError};

use super::Problem;

/// What is wrong, without the text's own advice.
fn fault(error: &impl std::fmt::Display) -> String {
    let text = error.to_string();
    match text.split_once(": ") {
        Some((fault, _)) => fault.to_owned(),
        None => text,
    }
}

const NEW_INVITATION: &str = "ask the realm's owner for a new invitation";
const SIGN_ANEW: &str = "ask its author to sign it anew with dates that fit";

impl From<ReleaseError> for Problem {
    fn from(error: ReleaseError) -> Self {
        let whole = error.to_string();
        let fault = fault(&error);
        match error {
            ReleaseError::Unsigned => {
                Self::author("release-unsigned", fault, "sign it: hearth task sign")
            }
            ReleaseError::BadSignature { .. } => Self::client(
                StatusCode::UNPROCESSABLE_ENTITY,
                "release-tampered",
                fault,
                "get it again from its author",
            ),
            ReleaseError::UnknownAuthor { .. } => Self::author(
                "release-untrusted",
                fault,
                "sign it with the key of an author of this realm, or ask the owner to add yours",
            ),
            ReleaseError::RevokedAuthor { .. } => Self::author(
                "author-revoked",
                fault,
                "have it signed by another author of this realm",
            ),
            ReleaseError::RevokedRelease { .. } => Self::client(
                StatusCode::CONFLICT,
                "release-revoked",
                fault,
                "use a newer release",
            ),
            ReleaseError::AuthorExpired { .. } => Self::operator(
                StatusCode::UNPROCESSABLE_ENTITY,
                "author-expired",
                fault,
                "ask the realm's owner to add the author anew: hearth author add",
            ),
            ReleaseError::Policy(_) => Self::operator(
                StatusCode::UNPROCESSABLE_ENTITY,
                "policy-not-in-force",
                whole,
                "ask the realm's owner to sign a new policy",
            ),
            ReleaseError::WrongRealm { .. } => Self::author(
                "release-wrong-realm",
                fault,
                "sign it for this realm, or submit it to its own",
            ),
            ReleaseError::NotYetValid { .. } => {
                Self::author("release-not-yet-valid", fault, "wait until then")
            }
            ReleaseError::Expired { .. } => Self::author("release-expired", fault, SIGN_ANEW),
            ReleaseError::Malformed(_) => Self::author(
                "bad-release",
                whole,
                "sign it again with this version of hearth",
            ),
            ReleaseError::Manifest(_) => Self::author(
                "bad-manifest",
                whole,
                "ask its author to correct the manifest and to sign it anew",
            ),
            ReleaseError::TooLarge { .. } => {
                Self::author("release-too-large", fault, "get it from its author")
            }
            other => Self::author("release-refused", other.to_string(), SIGN_ANEW),
        }
    }
}

impl From<InvitationError> for Problem {
    fn from(error: InvitationError) -> Self {
        let (status, code, next) = match &error {
            InvitationError::Malformed(_) => (
                StatusCode::BAD_REQUEST,
                "invitation-malformed",
                "copy the whole line again",
            ),
            InvitationError::Expired { .. } => {
                (StatusCode::FORBIDDEN, "invitation-expired", NEW_INVITATION)
            }
            InvitationError::WrongRealm { .. } | InvitationError::NotDelegated(_) => (
                StatusCode::FORBIDDEN,
                "invitation-foreign",
                "use it with its own realm, or ask this realm's owner for one",
            ),
            InvitationError::BadSignature => (
                StatusCode::FORBIDDEN,
                "invitation-forged",
                "do not use it, and ask the realm's owner",
            ),
            _ => (StatusCode::FORBIDDEN, "invitation-refused", NEW_INVITATION),
        };
        Self::client(status, code, fault(&error), next)
    }
}

impl From<PeerError> for Problem {
    fn from(error: PeerError) -> Self {
        let (code, next) = match &error {
            PeerError::Malformed(_) => ("certificate-malformed", NEW_INVITATION),
            PeerError::Expired { .. } => ("certificate-expired", "renew it, or check the clocks"),
            PeerError::NotYetValid { .. } => ("certificate-not-yet-valid", "check the clocks"),
            PeerError::ForeignCa => (
                "certificate-foreign",
                "join this realm with an invitation of its owner",
            ),
            PeerError::WrongPurpose { .. } => (
                "certificate-wrong-purpose",
                "use the certificate that joining gave",
            ),
            _ => ("certificate-refused", NEW_INVITATION),
        };
        Self::client(StatusCode::FORBIDDEN, code, fault(&error), next)
    }
}

impl From<EnrolError> for Problem {
    fn from(error: EnrolError) -> Self {
        let fault = fault(&error);
        let client = |status, code, next| Self::client(status, code, fault.clone(), next);
        match error {
            EnrolError::Request(_) => client(
                StatusCode::BAD_REQUEST,
                "bad-certificate-request",
                "update hearth on the joining machine",
            ),
            EnrolError::Name => client(StatusCode::BAD_REQUEST, "bad-name", "choose another name"),
            EnrolError::InvitationExpired => {
                client(StatusCode::FORBIDDEN, "invitation-expired", NEW_INVITATION)
            }
            EnrolError::ForeignInvitation => {
                client(StatusCode::FORBIDDEN, "invitation-foreign", NEW_INVITATION)
            }
            EnrolError::AlreadyUsed => {
                client(StatusCode::CONFLICT, "invitation-used", NEW_INVITATION)
            }
            EnrolError::Full => Self::operator(
                StatusCode::SERVICE_UNAVAILABLE,
                "invitations-full",
                fault,
                "try again when some of them have ended",
            ),
            EnrolError::Certificate(error) => error.into(),
            EnrolError::TooOld => client(
                StatusCode::FORBIDDEN,
                "certificate-too-old",
                "join again with a new invitation",
            ),
            EnrolError::Revoked => client(
                StatusCode::FORBIDDEN,
                "member-revoked",
                "ask the realm's owner, and join with a new key",
            ),
            EnrolError::OtherKey => client(
                StatusCode::FORBIDDEN,
                "other-key",
                "renew with the key that was enrolled",
            ),
            EnrolError::Role(_) => client(
                StatusCode::BAD_REQUEST,
                "bad-role",
                "ask for an invitation to another role",
            ),
            // The CA's key or the clock of this machine.
            other => Self::operator(
                StatusCode::INTERNAL_SERVER_ERROR,
                "authority-failed",
                other.to_string(),
                "look at the realm's directory and clock on the coordinator's machine",
            ),
        }
    }
}
