//! The realm's certificate authority with its key: makes certificates.

use std::fmt;
use std::net::IpAddr;

use hearth_wire::{
    Invitation, NodePublicKey, RealmId, Redemption, Role, UnixSeconds, limits, text,
};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName,
    DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PublicKeyData as _,
    SanType, SerialNumber, SubjectPublicKeyInfo,
};
use rustls::pki_types::CertificateDer;
use time::OffsetDateTime;

use crate::key::random;
use crate::{COORDINATOR_NAME, KeyError, NodeKey, PeerError, PolicyState, RealmCa, Verified, pem};

const HOUR: u64 = 3_600;
const DAY: u64 = 24 * HOUR;
/// A certificate begins this long before it is made, for clocks that are behind ours.
const BACKDATE: u64 = HOUR;
/// Life of a node's certificate: how long a stolen key works after its node was forgotten.
pub const NODE_SECONDS: u64 = DAY;
/// Life of a person's certificate (admin, author, observer), who renews by using it.
pub const CLIENT_SECONDS: u64 = 30 * DAY;
/// Life of a coordinator's certificate, which renews itself at each start and daily.
pub const COORDINATOR_SECONDS: u64 = 90 * DAY;
/// Life of the CA: replacing it means joining again.
pub const CA_SECONDS: u64 = 3_650 * DAY;
/// A certificate that ended less than this ago is still exchanged for a new one.
pub const RENEW_SECONDS: u64 = 30 * DAY;

/// A certificate was not given.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EnrolError {
    /// The request is malformed, or not signed by its own key.
    #[error("the certificate request is not valid ({0}): update hearth on the joining machine")]
    Request(String),
    /// The name breaks its limit.
    #[error(
        "a name is 1 to {} bytes without control characters: choose another",
        limits::MEMBER_NAME_BYTES_MAX
    )]
    Name,
    /// The invitation has ended.
    #[error("the invitation has ended: ask the realm's owner for a new one")]
    InvitationExpired,
    /// The invitation is not of this realm, or not signed by its key.
    #[error("the invitation is not of this realm: ask its owner for one")]
    ForeignInvitation,
    /// The invitation belongs to another key.
    #[error("the invitation was used by another machine: ask the realm's owner for a new one")]
    AlreadyUsed,
    /// Too many invitations are remembered.
    #[error(
        "the realm remembers {} used invitations: try again when some have ended",
        limits::REDEMPTIONS_MAX
    )]
    Full,
    /// The old certificate is not one to renew.
    #[error(transparent)]
    Certificate(#[from] PeerError),
    /// The old certificate ended too long ago.
    #[error("the certificate ended more than 30 days ago: join again with a new invitation")]
    TooOld,
    /// The holder was shut out.
    #[error("this key was revoked: ask the realm's owner, and join with a new key")]
    Revoked,
    /// The request is signed by another key than the certificate's.
    #[error("the request is not signed by the certificate's key: renew with the enrolled key")]
    OtherKey,
    /// The role is not one that can be given.
    #[error("the role {0} cannot be given by an invitation")]
    Role(Role),
    /// The CA could not sign. The operator is to blame, or we are.
    #[error("the realm's CA could not sign: {0}")]
    Authority(String),
}

impl From<KeyError> for EnrolError {
    fn from(error: KeyError) -> Self {
        Self::Authority(error.to_string())
    }
}

/// The realm's CA with its key. Only `hearth init` and the coordinator hold one.
pub struct Authority {
    ca: RealmCa,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// A new CA for `realm`, with its key.
    pub(crate) fn create(
        realm: RealmId,
        name: &str,
        now: UnixSeconds,
    ) -> Result<(Self, NodeKey), EnrolError> {
        let key = NodeKey::generate()?;
        let mut params = params(realm, &format!("{name} CA"), None, CA_SECONDS, now)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = params.self_signed(&key.rcgen()?).map_err(internal)?;
        let ca = RealmCa::from_der(certificate.der().clone())?;
        Ok((Self::new(ca, &key)?, key))
    }

    pub(crate) fn new(ca: RealmCa, key: &NodeKey) -> Result<Self, EnrolError> {
        let issuer = Issuer::from_ca_cert_der(ca.certificate(), key.rcgen()?).map_err(internal)?;
        Ok(Self { ca, issuer })
    }

    /// The CA's public half.
    pub const fn ca(&self) -> &RealmCa {
        &self.ca
    }

    /// A certificate for the key of a coordinator that can be reached under these names.
    pub(crate) fn issue_coordinator(
        &self,
        key: &NodePublicKey,
        name: &str,
        dns_names: &[String],
        ips: &[IpAddr],
        now: UnixSeconds,
    ) -> Result<CertificateDer<'static>, EnrolError> {
        let role = Some(Role::Coordinator);
        let mut params = params(self.ca.realm(), name, role, COORDINATOR_SECONDS, now)?;
        let dns = dns_names.iter().map(String::as_str);
        for name in dns.chain([COORDINATOR_NAME]) {
            let name = name.try_into().map_err(internal)?;
            params.subject_alt_names.push(SanType::DnsName(name));
        }
        let ips = ips.iter().copied().map(SanType::IpAddress);
        params.subject_alt_names.extend(ips);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.sign(params, key)
    }

    /// A certificate for a client's key.
    pub(crate) fn issue_client(
        &self,
        key: &NodePublicKey,
        name: &str,
        role: Role,
        now: UnixSeconds,
    ) -> Result<CertificateDer<'static>, EnrolError> {
        let seconds = match role {
            Role::Coordinator => return Err(EnrolError::Role(role)),
            Role::Node => NODE_SECONDS,
            Role::Admin | Role::Author | Role::Observer => CLIENT_SECONDS,
        };
        let mut params = params(self.ca.realm(), name, Some(role), seconds, now)?;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.sign(params, key)
    }

    fn sign(
        &self,
        mut params: CertificateParams,
        key: &NodePublicKey,
    ) -> Result<CertificateDer<'static>, EnrolError> {
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        let key = SubjectPublicKeyInfo::from_der(&key.spki()).map_err(internal)?;
        let certificate = params.signed_by(&key, &self.issuer).map_err(internal)?;
        Ok(certificate.der().clone())
    }

    /// Checks an invitation and the request that came with it, and makes the certificate.
    ///
    /// Nothing counts before [`crate::Redemptions::redeem`] has taken the redemption and it is in the
    /// journal.
    ///
    /// # Errors
    ///
    /// [`EnrolError`]: the joiner is to blame, or the one who passed the invitation on.
    pub fn grant(
        &self,
        invitation: &Verified<Invitation>,
        state: &PolicyState,
        csr_pem: &str,
        name: &str,
        now: UnixSeconds,
    ) -> Result<Redemption, EnrolError> {
        let policy = state.policy();
        if invitation.realm != self.ca.realm()
            || invitation.ca != self.ca.digest()
            || invitation.online != policy.online
        {
            return Err(EnrolError::ForeignInvitation);
        }
        if now > invitation.expires {
            return Err(EnrolError::InvitationExpired);
        }
        let key = request_key(csr_pem)?;
        if state.is_revoked(key.node_id()) {
            return Err(EnrolError::Revoked);
        }
        let certificate = self.issue_client(&key, name, invitation.role, now)?;
        Ok(Redemption {
            nonce: invitation.nonce,
            node: key.node_id(),
            certificate: certificate.to_vec(),
            expires: invitation.expires,
        })
    }

    /// A new certificate for the holder of an old one, with the same role and name.
    ///
    /// The old certificate may have ended up to [`RENEW_SECONDS`] ago. No list of members is needed:
    /// the old certificate is the proof of having joined, the request's signature that of the key.
    ///
    /// # Errors
    ///
    /// [`EnrolError`].
    pub fn renew(
        &self,
        certificate_pem: &str,
        csr_pem: &str,
        state: &PolicyState,
        now: UnixSeconds,
    ) -> Result<CertificateDer<'static>, EnrolError> {
        let der = pem::decode(certificate_pem, pem::CERTIFICATE)
            .ok_or_else(|| PeerError::Malformed("not one certificate in PEM".to_owned()))?;
        let peer = self.ca.verify_ended_peer(&der.into(), now)?;
        if now.0 > peer.not_after().0.saturating_add(RENEW_SECONDS) {
            return Err(EnrolError::TooOld);
        }
        if state.is_revoked(peer.node()) {
            return Err(EnrolError::Revoked);
        }
        if request_key(csr_pem)? != *peer.public_key() {
            return Err(EnrolError::OtherKey);
        }
        self.issue_client(peer.public_key(), peer.name(), peer.role(), now)
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Authority").field(&self.ca).finish()
    }
}

/// A certificate in PEM, as answers to enrolments carry it.
pub fn certificate_pem(der: &[u8]) -> String {
    pem::encode(pem::CERTIFICATE, der)
}

fn internal(error: rcgen::Error) -> EnrolError {
    EnrolError::Authority(error.to_string())
}

fn valid_name(name: &str) -> bool {
    text::is_name(name, limits::MEMBER_NAME_BYTES_MAX)
}

fn params(
    realm: RealmId,
    name: &str,
    role: Option<Role>,
    seconds: u64,
    now: UnixSeconds,
) -> Result<CertificateParams, EnrolError> {
    if !valid_name(name) {
        return Err(EnrolError::Name);
    }
    let mut params = CertificateParams::default();
    params.not_before = date(now.0.saturating_sub(BACKDATE))?;
    params.not_after = date(now.0.saturating_add(seconds))?;
    // Two certificates of one CA must differ in their number, and renewals keep the key.
    let mut serial: [u8; 16] = random()?;
    serial[0] = serial[0] & 0x7f | 0x40;
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    let mut subject = DistinguishedName::new();
    subject.push(DnType::OrganizationName, realm.to_string());
    if let Some(role) = role {
        subject.push(DnType::OrganizationalUnitName, role.as_str());
    }
    subject.push(DnType::CommonName, name);
    params.distinguished_name = subject;
    Ok(params)
}

fn date(seconds: u64) -> Result<OffsetDateTime, EnrolError> {
    i64::try_from(seconds)
        .ok()
        .and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok())
        .ok_or_else(|| EnrolError::Authority("the clock is outside of the calendar".to_owned()))
}

/// The key that signed a request about itself. Everything else in the request is ignored.
fn request_key(csr_pem: &str) -> Result<NodePublicKey, EnrolError> {
    let request = |problem: &str| EnrolError::Request(problem.to_owned());
    let der = pem::decode(csr_pem, pem::CERTIFICATE_REQUEST)
        .ok_or_else(|| request("not one request in PEM"))?;
    let csr = CertificateSigningRequestParams::from_der(&der.into())
        .map_err(|error| EnrolError::Request(error.to_string()))?;
    NodePublicKey::from_spki(&csr.public_key.subject_public_key_info())
        .ok_or_else(|| request("its key is not on P-256"))
}
