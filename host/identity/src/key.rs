//! The two kinds of key: Ed25519 for statements, ECDSA P-256 for certificates.

use std::fmt;

use hearth_wire::envelope::Domain;
use hearth_wire::{KeyId, NodeId, NodePublicKey, PublicKey};
use ring::rand::{SecureRandom, SystemRandom};
use ring::signature::{self, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use zeroize::Zeroizing;

use crate::pem;

/// A key cannot be made, read or used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// The text is not a private key of the expected kind. The file was damaged or is another one.
    #[error("not {expected} private key in PEM: restore the file from a copy")]
    Malformed {
        /// The kind that was expected.
        expected: &'static str,
    },
    /// The key is protected, and no passphrase was given.
    #[error("the key is protected by a passphrase: give it")]
    PassphraseNeeded,
    /// The passphrase is wrong, or the file was changed.
    #[error("wrong passphrase (or the key file was changed): try again, or restore it from a copy")]
    WrongPassphrase,
    /// The system gave no random numbers.
    #[error("the system's random source failed: this machine cannot make keys")]
    NoRandomness,
    /// A request could not be made with the key.
    #[error("the certificate request could not be made: {0}")]
    Request(String),
}

/// `N` bytes from the system's random source.
pub(crate) fn random<const N: usize>() -> Result<[u8; N], KeyError> {
    let mut bytes = [0; N];
    SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_| KeyError::NoRandomness)?;
    Ok(bytes)
}

/// An Ed25519 key: root, online, author. Its bytes are wiped when it is dropped.
pub struct SigningKey {
    pair: Ed25519KeyPair,
    pkcs8: Zeroizing<Vec<u8>>,
}

impl SigningKey {
    /// A new key.
    ///
    /// # Errors
    ///
    /// [`KeyError::NoRandomness`].
    pub fn generate() -> Result<Self, KeyError> {
        let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new())
            .map_err(|_| KeyError::NoRandomness)?;
        Self::from_pkcs8(document.as_ref())
    }

    /// The key in a PEM document (PKCS#8 v2, as [`SigningKey::to_pem`] writes it).
    ///
    /// # Errors
    ///
    /// [`KeyError::Malformed`].
    pub fn from_pem(text: &str) -> Result<Self, KeyError> {
        let der = pem::decode(text, pem::PRIVATE_KEY).ok_or(Self::malformed())?;
        Self::from_pkcs8(&Zeroizing::new(der))
    }

    pub(crate) fn from_pkcs8(der: &[u8]) -> Result<Self, KeyError> {
        Ok(Self {
            pair: Ed25519KeyPair::from_pkcs8(der).map_err(|_| Self::malformed())?,
            pkcs8: Zeroizing::new(der.to_vec()),
        })
    }

    const fn malformed() -> KeyError {
        KeyError::Malformed {
            expected: "an Ed25519",
        }
    }

    /// The key as a PEM document.
    pub fn to_pem(&self) -> Zeroizing<String> {
        Zeroizing::new(pem::encode(pem::PRIVATE_KEY, &self.pkcs8))
    }

    pub(crate) fn pkcs8(&self) -> &[u8] {
        &self.pkcs8
    }

    /// The public half.
    pub fn public(&self) -> PublicKey {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(self.pair.public_key().as_ref());
        PublicKey::new(bytes)
    }

    /// The name of the key.
    pub fn id(&self) -> KeyId {
        self.public().id()
    }

    /// Signs `bytes` as a statement of kind `domain`.
    pub fn sign(&self, domain: Domain, bytes: &[u8]) -> Vec<u8> {
        self.pair
            .sign(&domain.signed_bytes(bytes))
            .as_ref()
            .to_vec()
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SigningKey").field(&self.id()).finish()
    }
}

/// Whether `signature` is that of `key` over `bytes` as a statement of kind `domain`.
pub fn signed_by(key: &PublicKey, domain: Domain, bytes: &[u8], signature: &[u8]) -> bool {
    UnparsedPublicKey::new(&signature::ED25519, key.as_bytes())
        .verify(&domain.signed_bytes(bytes), signature)
        .is_ok()
}

/// An ECDSA P-256 key: every holder of a certificate. Its bytes are wiped when it is dropped.
pub struct NodeKey {
    pair: EcdsaKeyPair,
    pkcs8: Zeroizing<Vec<u8>>,
    public: NodePublicKey,
}

impl NodeKey {
    /// A new key.
    ///
    /// # Errors
    ///
    /// [`KeyError::NoRandomness`].
    pub fn generate() -> Result<Self, KeyError> {
        let document = EcdsaKeyPair::generate_pkcs8(
            &signature::ECDSA_P256_SHA256_ASN1_SIGNING,
            &SystemRandom::new(),
        )
        .map_err(|_| KeyError::NoRandomness)?;
        Self::from_pkcs8(document.as_ref())
    }

    /// The key in a PEM document (PKCS#8).
    ///
    /// # Errors
    ///
    /// [`KeyError::Malformed`].
    pub fn from_pem(text: &str) -> Result<Self, KeyError> {
        let der = pem::decode(text, pem::PRIVATE_KEY).ok_or(Self::malformed())?;
        Self::from_pkcs8(&Zeroizing::new(der))
    }

    fn from_pkcs8(der: &[u8]) -> Result<Self, KeyError> {
        let pair = EcdsaKeyPair::from_pkcs8(
            &signature::ECDSA_P256_SHA256_ASN1_SIGNING,
            der,
            &SystemRandom::new(),
        )
        .map_err(|_| Self::malformed())?;
        let public =
            NodePublicKey::from_point(pair.public_key().as_ref()).ok_or(Self::malformed())?;
        Ok(Self {
            pair,
            pkcs8: Zeroizing::new(der.to_vec()),
            public,
        })
    }

    const fn malformed() -> KeyError {
        KeyError::Malformed {
            expected: "an ECDSA P-256",
        }
    }

    /// The key as a PEM document.
    pub fn to_pem(&self) -> Zeroizing<String> {
        Zeroizing::new(pem::encode(pem::PRIVATE_KEY, &self.pkcs8))
    }

    /// The public half.
    pub const fn public(&self) -> &NodePublicKey {
        &self.public
    }

    /// The name of the key's holder.
    pub fn node_id(&self) -> NodeId {
        self.public.node_id()
    }

    /// Signs `bytes` as a statement of kind `domain`.
    ///
    /// # Errors
    ///
    /// [`KeyError::NoRandomness`]: an ECDSA signature needs a fresh number.
    pub fn sign(&self, domain: Domain, bytes: &[u8]) -> Result<Vec<u8>, KeyError> {
        self.pair
            .sign(&SystemRandom::new(), &domain.signed_bytes(bytes))
            .map(|signature| signature.as_ref().to_vec())
            .map_err(|_| KeyError::NoRandomness)
    }

    /// A certificate request (PKCS#10) in PEM. It says nothing but whose key it is: role and name
    /// are the coordinator's to give.
    ///
    /// # Errors
    ///
    /// [`KeyError::Request`].
    pub fn csr_pem(&self) -> Result<String, KeyError> {
        let request = |error: rcgen::Error| KeyError::Request(error.to_string());
        let mut params = rcgen::CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params
            .serialize_request(&self.rcgen()?)
            .and_then(|csr| csr.pem())
            .map_err(request)
    }

    /// The key as `rustls` takes it.
    pub fn tls_key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.pkcs8.to_vec()))
    }

    pub(crate) fn rcgen(&self) -> Result<rcgen::KeyPair, KeyError> {
        rcgen::KeyPair::from_pkcs8_der_and_sign_algo(
            &PrivatePkcs8KeyDer::from(self.pkcs8.as_slice()),
            &rcgen::PKCS_ECDSA_P256_SHA256,
        )
        .map_err(|error| KeyError::Request(error.to_string()))
    }
}

impl fmt::Debug for NodeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("NodeKey").field(&self.node_id()).finish()
    }
}

/// Whether `signature` is that of the holder of `key` over `bytes` as a statement of kind `domain`.
pub fn signed_by_node(key: &NodePublicKey, domain: Domain, bytes: &[u8], signature: &[u8]) -> bool {
    UnparsedPublicKey::new(&signature::ECDSA_P256_SHA256_ASN1, key.point())
        .verify(&domain.signed_bytes(bytes), signature)
        .is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_come_back_from_pem_and_sign_alike() {
        let key = SigningKey::generate().unwrap();
        let copy = SigningKey::from_pem(&key.to_pem()).unwrap();
        assert_eq!(key.public(), copy.public());
        let signature = copy.sign(Domain::Policy, b"text");
        assert!(signed_by(
            &key.public(),
            Domain::Policy,
            b"text",
            &signature
        ));
        assert!(!signed_by(
            &key.public(),
            Domain::Release,
            b"text",
            &signature
        ));
        assert!(!signed_by(
            &key.public(),
            Domain::Policy,
            b"texts",
            &signature
        ));

        let node = NodeKey::generate().unwrap();
        let copy = NodeKey::from_pem(&node.to_pem()).unwrap();
        assert_eq!(node.node_id(), copy.node_id());
        let signature = copy.sign(Domain::Reports, b"text").unwrap();
        assert!(signed_by_node(
            node.public(),
            Domain::Reports,
            b"text",
            &signature
        ));
        assert!(!signed_by_node(
            node.public(),
            Domain::Checkpoint,
            b"text",
            &signature
        ));

        assert!(matches!(
            SigningKey::from_pem(&node.to_pem()),
            Err(KeyError::Malformed { .. })
        ));
        assert!(matches!(
            NodeKey::from_pem("nothing"),
            Err(KeyError::Malformed { .. })
        ));
    }

    #[test]
    fn debug_output_shows_no_secret() {
        let key = SigningKey::generate().unwrap();
        assert_eq!(
            format!("{key:?}"),
            format!("SigningKey({})", key.id().short())
        );
    }
}
