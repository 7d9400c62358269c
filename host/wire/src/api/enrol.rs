//! How a machine or a person becomes a member of a realm.

use serde::{Deserialize, Serialize};

/// `POST /v1/invitations`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InvitationRequest {
    /// `node`, `author`, `observer` or `admin`.
    pub role: String,
    /// How long the token can be redeemed.
    pub ttl_seconds: u64,
}

/// Answer to [`InvitationRequest`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Invitation {
    /// The one-time token. A secret.
    pub token: String,
}

/// `POST /enrol`: redeems a token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EnrolRequest {
    /// The token. It binds to the first key that presents it.
    pub token: String,
    /// Certificate signing request in PEM, signed with the key that is to be enrolled.
    pub csr_pem: String,
    /// For people; `NAME_BYTES_MAX` at most.
    pub name: String,
}

/// `POST /renew`: a new certificate for a key that was enrolled before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RenewRequest {
    /// The certificate that ends, or ended less than 30 days ago.
    pub certificate_pem: String,
    /// Certificate signing request in PEM, signed with the enrolled key.
    pub csr_pem: String,
}

/// Answer to [`EnrolRequest`] and [`RenewRequest`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Enrolled {
    /// The member's certificate.
    pub certificate_pem: String,
    /// The realm's certificate authority.
    pub ca_pem: String,
    /// The realm's policy and revocations (an encoded [`crate::PolicyBundle`]), base64.
    pub policy: String,
}
