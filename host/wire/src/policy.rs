//! What a realm says about itself: keys, roles, policy, revocations, invitations.
//!
//! Plain data: nothing here has been verified. `hearth-identity` signs these values and turns signed
//! bytes back into proofs.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{Digest, KeyId, NodeId, ParseIdError, RealmId, ReleaseId, UnixSeconds};

/// What a certificate allows its holder to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Speak for the realm: the only role whose certificate serves.
    Coordinator,
    /// Run tasks: the WebSocket, and the blobs and inputs of live leases.
    Node,
    /// Everything in the API.
    Admin,
    /// Submit jobs, and read and cancel one's own.
    Author,
    /// Read.
    Observer,
}

impl Role {
    /// All roles.
    pub const ALL: [Self; 5] = [
        Self::Coordinator,
        Self::Node,
        Self::Admin,
        Self::Author,
        Self::Observer,
    ];

    /// The word for it, as in certificates, JSON and commands.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Coordinator => "coordinator",
            Self::Node => "node",
            Self::Admin => "admin",
            Self::Author => "author",
            Self::Observer => "observer",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Role {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        Self::ALL
            .into_iter()
            .find(|role| role.as_str() == text)
            .ok_or_else(|| ParseIdError {
                expected: "node, author, admin or observer",
                got: text.chars().take(80).collect(),
            })
    }
}

/// An Ed25519 public key (RFC 8032). In text it is `ed25519:` and 64 hexadecimal digits, since the id of
/// a key has 64 digits as well, and half of all ids would pass for a key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey(Digest);

/// The text is not a public key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a public key is ed25519: and 64 hexadecimal digits, got {0:?}{hint}", hint = key_id_hint(.0))]
pub struct ParsePublicKeyError(pub String);

/// The likeliest mistake has its own answer.
fn key_id_hint(got: &str) -> &'static str {
    if got.parse::<Digest>().is_ok() {
        ", which may be the id of a key: the key itself is wanted"
    } else {
        ""
    }
}

impl PublicKey {
    const PREFIX: &'static str = "ed25519:";

    /// A key from its 32 bytes.
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(Digest::new(bytes))
    }

    /// The 32 bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        self.0.as_bytes()
    }

    /// The name of the key: the digest of its bytes.
    pub fn id(&self) -> KeyId {
        KeyId(Digest::of(self.as_bytes()))
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", Self::PREFIX, self.0)
    }
}

/// Text for people and JSON, 32 bytes for postcard.
impl Serialize for PublicKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.collect_str(self)
        } else {
            self.0.serialize(serializer)
        }
    }
}

impl<'de> Deserialize<'de> for PublicKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            let text = String::deserialize(deserializer)?;
            text.parse().map_err(serde::de::Error::custom)
        } else {
            Digest::deserialize(deserializer).map(Self)
        }
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl FromStr for PublicKey {
    type Err = ParsePublicKeyError;

    fn from_str(text: &str) -> Result<Self, ParsePublicKeyError> {
        text.strip_prefix(Self::PREFIX)
            .and_then(|digits| digits.parse().ok())
            .map(Self)
            .ok_or_else(|| ParsePublicKeyError(text.chars().take(80).collect()))
    }
}

/// The public half of a certificate's key: an uncompressed point on P-256, 65 bytes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct NodePublicKey(#[serde(with = "serde_bytes")] Vec<u8>);

impl NodePublicKey {
    /// DER in front of the point in a SubjectPublicKeyInfo: id-ecPublicKey on prime256v1 (RFC 5480).
    const SPKI_PREFIX: [u8; 26] = [
        0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08,
        0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
    ];

    /// A key from its point; `None` if the bytes have not the form of one.
    pub fn from_point(point: &[u8]) -> Option<Self> {
        (point.len() == 65 && point[0] == 4).then(|| Self(point.to_vec()))
    }

    /// A key from its SubjectPublicKeyInfo; `None` if it is not a key on P-256.
    pub fn from_spki(spki: &[u8]) -> Option<Self> {
        Self::from_point(spki.strip_prefix(&Self::SPKI_PREFIX)?)
    }

    /// The point, 65 bytes.
    pub fn point(&self) -> &[u8] {
        &self.0
    }

    /// The SubjectPublicKeyInfo in DER.
    pub fn spki(&self) -> Vec<u8> {
        [&Self::SPKI_PREFIX[..], &self.0].concat()
    }

    /// The name of the key's holder.
    pub fn node_id(&self) -> NodeId {
        NodeId(Digest::of(&self.spki()))
    }
}

impl fmt::Debug for NodePublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.node_id(), f)
    }
}

/// Bytes with an Ed25519 signature beside them.
///
/// What was signed is what was received: the inner bytes are never encoded again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signed {
    /// An encoded value ([`crate::codec`]).
    #[serde(with = "serde_bytes")]
    pub bytes: Vec<u8>,
    /// Who signed. To be compared with the key that is expected here, never trusted by itself.
    pub key: PublicKey,
    /// The signature, 64 bytes.
    #[serde(with = "serde_bytes")]
    pub signature: Vec<u8>,
}

/// An author whose releases a realm (or a machine's owner) lets run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuthorEntry {
    /// The key that signs releases.
    pub key: PublicKey,
    /// For people, `NAME_BYTES_MAX` at most.
    pub name: String,
    /// Releases of this key do not run after this.
    pub not_after: UnixSeconds,
}

/// What the root key says. It alone can let something run; everything online can only restrict.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// Rises by one with each policy. A node refuses one below the highest that it has seen.
    pub version: u64,
    /// The realm: the id of the root key that signs this.
    pub realm: RealmId,
    /// The realm's name, for people.
    pub name: String,
    /// When it was signed.
    pub issued: UnixSeconds,
    /// Volunteers run nothing after this, so that nobody can hold back a newer policy for ever.
    pub expires: UnixSeconds,
    /// Digest of the realm's CA certificate in DER.
    pub ca: Digest,
    /// The key that signs invitations and revocations, and nothing that widens what may run.
    pub online: PublicKey,
    /// Whose releases may run, `AUTHORS_MAX` at most.
    pub authors: Vec<AuthorEntry>,
    /// Nodes that may audit others, `TRUSTED_NODES_MAX` at most.
    pub trusted_nodes: Vec<NodeId>,
    /// The oldest wasmtime that may run guests of this realm.
    pub engine_min: [u16; 3],
    /// Authors that were taken back: a release that they signed does not run, whoever else signed it.
    pub revoked_authors: Vec<KeyId>,
}

/// What the online key takes back. It can only restrict.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revocations {
    /// Rises by one with each list. A node refuses one below the highest that it has seen.
    pub version: u64,
    /// The realm.
    pub realm: RealmId,
    /// When it was signed.
    pub issued: UnixSeconds,
    /// The coordinator signs a new list well before this, even if nothing changed.
    pub expires: UnixSeconds,
    /// Holders of certificates (nodes and clients) that are shut out.
    pub nodes: Vec<NodeId>,
    /// Releases that do not run any more.
    pub releases: Vec<ReleaseId>,
    /// Authors whose releases do not run any more.
    pub authors: Vec<KeyId>,
}

/// What a coordinator hands to every node: `Welcome::policy` and the answer to an enrolment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyBundle {
    /// A [`Policy`], signed by the root key.
    pub policy: Signed,
    /// A [`Revocations`], signed by the online key.
    pub revocations: Signed,
}

/// What an invitation allows, signed by the online key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Invitation {
    /// The realm.
    pub realm: RealmId,
    /// The realm's name, for people.
    pub name: String,
    /// Digest of the realm's CA certificate in DER: what the joiner pins.
    pub ca: Digest,
    /// The online key that signs this. The policy that the joiner then receives must name it.
    pub online: PublicKey,
    /// Where coordinators listen, `HOST:PORT`; hints, since the CA decides.
    pub addresses: Vec<String>,
    /// The role that its holder gets.
    pub role: Role,
    /// Makes it different from every other invitation.
    pub nonce: InvitationNonce,
    /// Not valid after.
    pub expires: UnixSeconds,
}

/// Tells invitations apart.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct InvitationNonce(pub [u8; 16]);

impl fmt::Debug for InvitationNonce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0[..4]
            .iter()
            .try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// An invitation was used: the record that the coordinator journals before it answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Redemption {
    /// The invitation.
    pub nonce: InvitationNonce,
    /// The key that presented it first, and that it belongs to from then on.
    pub node: NodeId,
    /// The certificate that was given, in DER: a retry gets the same.
    #[serde(with = "serde_bytes")]
    pub certificate: Vec<u8>,
    /// When the invitation ends, and with it the need to remember.
    pub expires: UnixSeconds,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_read_what_they_print() {
        for role in Role::ALL {
            assert_eq!(role.to_string().parse(), Ok(role));
        }
        assert!("root".parse::<Role>().is_err());
    }

    #[test]
    fn a_key_and_its_id_are_told_apart() {
        let key = PublicKey::new([7; 32]);
        let text = key.to_string();
        assert_eq!(text, format!("ed25519:{}", "07".repeat(32)));
        assert_eq!(text.parse(), Ok(key));
        let error = key.id().to_string().parse::<PublicKey>().unwrap_err();
        assert!(error.to_string().contains("id of a key"), "{error}");
        let error = "ed25519:07".parse::<PublicKey>().unwrap_err();
        assert!(!error.to_string().contains("id of a key"), "{error}");
        assert_eq!(
            crate::codec::encode(&key).len(),
            crate::codec::encode(&[7u8; 32]).len()
        );
    }

    #[test]
    fn node_public_key_is_a_point_on_p256() {
        let mut point = [7; 65];
        point[0] = 4;
        let key = NodePublicKey::from_point(&point).unwrap();
        assert_eq!(NodePublicKey::from_spki(&key.spki()), Some(key.clone()));
        assert_eq!(key.node_id(), NodeId(Digest::of(&key.spki())));
        assert_eq!(NodePublicKey::from_point(&point[1..]), None);
        point[0] = 2;
        assert_eq!(NodePublicKey::from_point(&point), None);
    }
}
