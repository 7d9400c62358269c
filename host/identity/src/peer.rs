//! Who is at the other end: the holder of a certificate.
//!
//! A certificate's subject says everything, in attributes that every tool shows: the common name is
//! the holder's name, the organizational unit the role, the organization the realm (64 hexadecimal
//! digits). Each must be there exactly once; the CA writes them, a request's own subject is ignored.

use hearth_wire::{KeyId, NodeId, NodePublicKey, RealmId, Role, UnixSeconds};
use rustls::pki_types::CertificateDer;
use rustls::{CertificateError, Error as TlsError};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;
use x509_parser::x509::AttributeTypeAndValue;

/// A certificate is not one that opens this door.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PeerError {
    /// Not a certificate that Hearth makes.
    #[error("not a certificate of a realm ({0}): join again with a new invitation")]
    Malformed(String),
    /// Its time is over.
    #[error("{name}'s certificate ended at {not_after}: renew it (or check the clocks)")]
    Expired {
        /// Whose it is.
        name: String,
        /// When it ended, in seconds since 1970.
        not_after: UnixSeconds,
    },
    /// Its time has not come.
    #[error("{name}'s certificate is not valid yet: one of the two machines' clocks is wrong")]
    NotYetValid {
        /// Whose it is.
        name: String,
    },
    /// Another CA made it: another realm, or an impostor.
    #[error("the certificate is not of this realm's CA: join this realm with an invitation")]
    ForeignCa,
    /// It is for something else (a server's certificate shown by a client).
    #[error("the certificate of {name} is not for this use: use the one that joining gave")]
    WrongPurpose {
        /// Whose it is.
        name: String,
    },
}

/// The holder of a certificate.
///
/// From [`crate::RealmCa::verify_peer`] it comes as [`crate::Verified`]: then the realm's CA says all of
/// this, and it is valid at the time that was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    role: Role,
    name: String,
    public_key: NodePublicKey,
    not_before: UnixSeconds,
    not_after: UnixSeconds,
}

impl Peer {
    /// What it may do.
    pub const fn role(&self) -> Role {
        self.role
    }

    /// Its identity.
    pub fn node(&self) -> NodeId {
        self.public_key.node_id()
    }

    /// The same identity where clients are counted (`JobSpec::owner`).
    pub fn key_id(&self) -> KeyId {
        KeyId(self.node().0)
    }

    /// For people.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its public key, for signatures on reports and checkpoints.
    pub const fn public_key(&self) -> &NodePublicKey {
        &self.public_key
    }

    /// When the certificate ends.
    pub const fn not_after(&self) -> UnixSeconds {
        self.not_after
    }

    /// When the certificate is to be renewed: half of its life.
    pub const fn renew_at(&self) -> UnixSeconds {
        let life = self.not_after.0.saturating_sub(self.not_before.0);
        UnixSeconds(self.not_before.0 + life / 2)
    }
}

fn malformed(problem: &str) -> PeerError {
    PeerError::Malformed(problem.to_owned())
}

fn parse_x509<'a>(certificate: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, PeerError> {
    match X509Certificate::from_der(certificate) {
        Ok(([], parsed)) => Ok(parsed),
        Ok(_) => Err(malformed("bytes after its end")),
        Err(error) => Err(PeerError::Malformed(error.to_string())),
    }
}

/// The text of the only attribute in `attributes`.
fn only<'a>(
    mut attributes: impl Iterator<Item = &'a AttributeTypeAndValue<'a>>,
    problem: &str,
) -> Result<&'a str, PeerError> {
    match (attributes.next(), attributes.next()) {
        (Some(attribute), None) => attribute.as_str().map_err(|_| malformed(problem)),
        _ => Err(malformed(problem)),
    }
}

fn realm_of(parsed: &X509Certificate<'_>) -> Result<RealmId, PeerError> {
    only(
        parsed.subject().iter_organization(),
        "its subject names no realm",
    )?
    .parse()
    .map_err(|_| malformed("its subject names no realm"))
}

/// The realm that a CA certificate names.
pub(crate) fn ca_realm(certificate: &CertificateDer<'_>) -> Result<RealmId, PeerError> {
    let parsed = parse_x509(certificate)?;
    if !parsed.is_ca() {
        return Err(malformed("not a CA's"));
    }
    realm_of(&parsed)
}

/// Reads who a certificate claims to belong to. Nothing is verified here.
pub(crate) fn parse(certificate: &CertificateDer<'_>, realm: RealmId) -> Result<Peer, PeerError> {
    let parsed = parse_x509(certificate)?;
    if realm_of(&parsed)? != realm {
        return Err(PeerError::ForeignCa);
    }
    let subject = parsed.subject();
    let role = only(
        subject.iter_organizational_unit(),
        "its subject names no role",
    )?;
    let name = only(subject.iter_common_name(), "its subject has no name")?;
    let seconds = |time: x509_parser::time::ASN1Time| {
        u64::try_from(time.timestamp())
            .map(UnixSeconds)
            .map_err(|_| malformed("its dates are before 1970"))
    };
    Ok(Peer {
        role: role
            .parse()
            .map_err(|_| malformed("its role is unknown: update hearth"))?,
        name: name.to_owned(),
        public_key: NodePublicKey::from_spki(parsed.public_key().raw)
            .ok_or_else(|| malformed("its key is not on P-256"))?,
        not_before: seconds(parsed.validity().not_before)?,
        not_after: seconds(parsed.validity().not_after)?,
    })
}

/// The key in a certificate. Nothing is verified but that it is this node's: an id is the digest of
/// its key, so a certificate that has ended long ago serves as well.
pub fn certificate_key(certificate: &[u8], node: NodeId) -> Option<NodePublicKey> {
    let certificate = CertificateDer::from(certificate);
    let parsed = parse_x509(&certificate).ok()?;
    let key = NodePublicKey::from_spki(parsed.public_key().raw)?;
    (key.node_id() == node).then_some(key)
}

/// Whether a certificate of our own making is of no use any more.
pub(crate) fn has_ended(certificate: &[u8], now: UnixSeconds) -> bool {
    let certificate = CertificateDer::from(certificate);
    parse_x509(&certificate).is_ok_and(|parsed| {
        let end = parsed.validity().not_after.timestamp();
        u64::try_from(end).is_ok_and(|end| end <= now.0)
    })
}

/// What to say about a certificate that `rustls` did not accept.
pub(crate) fn refusal(error: &TlsError, peer: &Peer, now: UnixSeconds) -> PeerError {
    let name = peer.name.clone();
    match error {
        TlsError::InvalidCertificate(
            CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. },
        ) if now > peer.not_after => PeerError::Expired {
            name,
            not_after: peer.not_after,
        },
        TlsError::InvalidCertificate(
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. },
        ) => PeerError::NotYetValid { name },
        TlsError::InvalidCertificate(
            CertificateError::UnknownIssuer | CertificateError::BadSignature,
        ) => PeerError::ForeignCa,
        TlsError::InvalidCertificate(
            CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. },
        ) => PeerError::WrongPurpose { name },
        other => PeerError::Malformed(other.to_string()),
    }
}
