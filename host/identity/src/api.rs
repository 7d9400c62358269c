#![allow(
    missing_docs,
    clippy::todo,
    unused_variables,
    clippy::missing_errors_doc
)]
use std::net::IpAddr;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hearth_wire::message::{Report, ReportBatch};
use hearth_wire::*;
use rustls::client::danger::ServerCertVerifier;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::danger::ClientCertVerifier;

/// A value that the function which returned it has checked.
#[derive(Debug, Clone)]
pub struct Verified<T>(T);
impl<T> Verified<T> {
    pub fn into_inner(self) -> T {
        self.0
    }
}
impl<T> Deref for Verified<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.0
    }
}

// ---- keys
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    #[error("malformed")]
    Malformed,
}
/// Ed25519: root, online, author.
#[derive(Debug)]
pub struct SigningKey;
impl SigningKey {
    pub fn generate() -> Result<Self, KeyError> {
        todo!()
    }
    pub fn public(&self) -> PublicKey {
        todo!()
    }
    pub fn id(&self) -> KeyId {
        todo!()
    }
    pub fn sign(&self, domain: envelope::Domain, bytes: &[u8]) -> Vec<u8> {
        todo!()
    }
}
/// ECDSA P-256: every holder of a certificate.
#[derive(Debug)]
pub struct NodeKey;
impl NodeKey {
    pub fn generate() -> Result<Self, KeyError> {
        todo!()
    }
    pub fn public(&self) -> &NodePublicKey {
        todo!()
    }
    pub fn node_id(&self) -> NodeId {
        todo!()
    }
    pub fn csr_pem(&self) -> Result<String, KeyError> {
        todo!()
    }
    pub fn tls_key(&self) -> PrivateKeyDer<'static> {
        todo!()
    }
}

// ---- TLS ingredients
/// DNS name in every coordinator certificate. Clients always connect with this server name.
pub const COORDINATOR_NAME: &str = "hearth-coordinator";
/// A certificate chain (own certificate, CA) and its key.
#[derive(Debug)]
pub struct TlsIdentity {
    pub chain: Vec<CertificateDer<'static>>,
    pub key: PrivateKeyDer<'static>,
}
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PeerError {
    #[error("malformed")]
    Malformed,
}
/// The CA certificate of a realm: what both ends of a connection trust.
#[derive(Debug, Clone)]
pub struct RealmCa;
impl RealmCa {
    pub fn from_pem(pem: &str) -> Result<Self, PeerError> {
        todo!()
    }
    pub fn pem(&self) -> String {
        todo!()
    }
    pub fn digest(&self) -> Digest {
        todo!()
    }
    /// For servers: demands a certificate of this CA.
    pub fn client_verifier(&self) -> Arc<dyn ClientCertVerifier> {
        todo!()
    }
    /// For clients: a certificate of this CA that serves, for the name `COORDINATOR_NAME`.
    pub fn server_verifier(&self) -> Arc<dyn ServerCertVerifier> {
        todo!()
    }
    /// After the handshake: who is at the other end.
    pub fn verify_peer(
        &self,
        chain: &[CertificateDer<'_>],
        now: UnixSeconds,
    ) -> Result<Verified<Peer>, PeerError> {
        todo!()
    }
}
/// For a joiner that knows only the digest of the CA (from its invitation).
pub fn pinned_server_verifier(ca: Digest) -> Arc<dyn ServerCertVerifier> {
    todo!()
}
/// The holder of a verified certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer;
impl Peer {
    pub fn role(&self) -> Role {
        todo!()
    }
    pub fn node(&self) -> NodeId {
        todo!()
    }
    /// The same digest, as `JobSpec::owner` counts by it.
    pub fn key_id(&self) -> KeyId {
        todo!()
    }
    pub fn name(&self) -> &str {
        todo!()
    }
    pub fn not_after(&self) -> UnixSeconds {
        todo!()
    }
    pub fn public_key(&self) -> &NodePublicKey {
        todo!()
    }
}

// ---- policy
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PolicyError {
    #[error("malformed")]
    Malformed,
}
pub fn verify_policy(
    bytes: &[u8],
    realm: RealmId,
    seen: u64,
    now: UnixSeconds,
) -> Result<Verified<Policy>, PolicyError> {
    todo!()
}
/// The newest policy and revocations that this machine has seen.
#[derive(Debug, Clone)]
pub struct PolicyState;
impl PolicyState {
    /// From a coordinator: `bytes` is an encoded `PolicyBundle`; nothing expired is taken.
    pub fn accept(bytes: &[u8], realm: RealmId, now: UnixSeconds) -> Result<Self, PolicyError> {
        todo!()
    }
    /// Takes what a coordinator sends now (`Welcome::policy`); refuses rollback. Whether anything changed.
    pub fn update(&mut self, bytes: &[u8], now: UnixSeconds) -> Result<bool, PolicyError> {
        todo!()
    }
    pub fn policy(&self) -> &Verified<Policy> {
        todo!()
    }
    pub fn revocations(&self) -> &Verified<Revocations> {
        todo!()
    }
    /// For `Welcome::policy`.
    pub fn bundle_bytes(&self) -> Vec<u8> {
        todo!()
    }
    pub fn is_revoked(&self, node: NodeId) -> bool {
        todo!()
    }
    /// What a volunteer trusts.
    pub fn trust(&self) -> Trust {
        todo!()
    }
}

// ---- releases
/// Whose releases may run here.
#[derive(Debug, Clone)]
pub struct Trust;
impl Trust {
    /// A machine without a realm: its own author key only.
    pub fn personal(author: PublicKey) -> Self {
        todo!()
    }
    pub fn with_personal(self, author: PublicKey) -> Self {
        todo!()
    }
    /// Pinned authors go on when the policy has expired.
    pub fn with_pinned(self, authors: impl IntoIterator<Item = AuthorEntry>) -> Self {
        todo!()
    }
}
/// What a verified release is.
#[derive(Debug, Clone)]
pub struct TrustedRelease {
    pub id: ReleaseId,
    pub manifest: Manifest,
    pub release: Release,
    pub author: KeyId,
    pub author_name: String,
}
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReleaseError {
    #[error("unsigned")]
    Unsigned,
}
pub fn sign_release(manifest: &Manifest, key: &SigningKey) -> Result<Release, ManifestError> {
    todo!()
}
pub fn verify_release(
    release: &Release,
    trust: &Trust,
    now: UnixSeconds,
) -> Result<Verified<TrustedRelease>, ReleaseError> {
    todo!()
}

// ---- invitations, enrolment
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvitationError {
    #[error("malformed")]
    Malformed,
}
pub fn verify_invitation(
    token: &str,
    realm: Option<RealmId>,
    now: UnixSeconds,
) -> Result<Verified<Invitation>, InvitationError> {
    todo!()
}
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EnrolError {
    #[error("already used")]
    AlreadyUsed,
}
/// The realm's CA with its key: only the coordinator (and `hearth init`) holds one.
#[derive(Debug)]
pub struct Authority;
impl Authority {
    pub fn ca(&self) -> &RealmCa {
        todo!()
    }
    /// Checks the request and makes a certificate. Nothing counts until `Redemptions::redeem` took it.
    pub fn grant(
        &self,
        invitation: &Verified<Invitation>,
        csr_pem: &str,
        name: &str,
        now: UnixSeconds,
    ) -> Result<Redemption, EnrolError> {
        todo!()
    }
    /// A new certificate for the holder of an old one (up to 30 days after its end).
    pub fn renew(
        &self,
        certificate_pem: &str,
        csr_pem: &str,
        revocations: &Revocations,
        now: UnixSeconds,
    ) -> Result<CertificateDer<'static>, EnrolError> {
        todo!()
    }
}
/// Which invitations were used, by whom: a fold of `Redemption` records.
#[derive(Debug, Default)]
pub struct Redemptions;
/// What became of a redemption.
#[derive(Debug)]
pub enum Redeemed {
    /** First use: journal this record, then answer. */
    First(Redemption),
    /** A retry: answer with this certificate, journal nothing. */
    Again(Redemption),
}
impl Redemptions {
    pub fn redeem(
        &mut self,
        redemption: Redemption,
        now: UnixSeconds,
    ) -> Result<Redeemed, EnrolError> {
        todo!()
    }
    pub fn replay(&mut self, redemption: Redemption) {
        todo!()
    }
}

// ---- reports, checkpoints
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReportError {
    #[error("bad signature")]
    BadSignature,
}
pub fn sign_reports(key: &NodeKey, reports: &[Report]) -> ReportBatch {
    todo!()
}
/// The local host's: no signature, trusted by its inherited socket.
pub fn unsigned_reports(reports: &[Report]) -> ReportBatch {
    todo!()
}
pub fn verify_reports(
    batch: &ReportBatch,
    key: &NodePublicKey,
) -> Result<Verified<Vec<Report>>, ReportError> {
    todo!()
}
/// Only for a batch that came over the local host's inherited socket.
pub fn accept_local_reports(batch: &ReportBatch) -> Result<Verified<Vec<Report>>, ReportError> {
    todo!()
}
/// Who a maker of a checkpoint is.
#[derive(Debug, Clone)]
pub enum Maker {
    Key(NodePublicKey),
    Local,
}
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ChainError {
    #[error("bad signature")]
    BadSignature,
}
pub fn sign_checkpoint(
    key: Option<&NodeKey>,
    node: NodeId,
    content: Digest,
    task: TaskId,
    state: Body,
    fuel_used: u64,
    resumed: Option<&Checkpoint>,
) -> Checkpoint {
    todo!()
}
pub fn verify_checkpoint(
    checkpoint: Checkpoint,
    content: Digest,
    task: TaskId,
    maker: impl Fn(NodeId) -> Option<Maker>,
) -> Result<Verified<Checkpoint>, ChainError> {
    todo!()
}

// ---- directories
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DirError {
    #[error("exists")]
    Exists(PathBuf),
}
#[derive(Debug, Clone)]
pub struct InitOptions {
    pub name: String,
    pub passphrase: Option<String>,
    pub addresses: Vec<String>,
    pub dns_names: Vec<String>,
    pub ips: Vec<IpAddr>,
    pub first_author: String,
    pub engine_min: [u16; 3],
}
#[derive(Debug, Clone)]
pub struct InitSummary {
    pub realm: RealmId,
    pub root_key: PathBuf,
    pub author: KeyId,
    pub policy_expires: UnixSeconds,
}
/// What a realm keeps on its coordinator's machine.
#[derive(Debug)]
pub struct RealmDir;
impl RealmDir {
    pub fn init(
        path: &Path,
        options: InitOptions,
        now: UnixSeconds,
    ) -> Result<InitSummary, DirError> {
        todo!()
    }
    pub fn open(path: &Path) -> Result<Self, DirError> {
        todo!()
    }
    pub fn exists(path: &Path) -> bool {
        todo!()
    }
    pub fn path(&self) -> &Path {
        todo!()
    }
    pub fn data_dir(&self) -> PathBuf {
        todo!()
    }
    pub fn realm(&self) -> RealmId {
        todo!()
    }
    pub fn name(&self) -> &str {
        todo!()
    }
    pub fn addresses(&self) -> &[String] {
        todo!()
    }
    pub fn authority(&self) -> Result<Authority, DirError> {
        todo!()
    }
    pub fn coordinator_tls(&self, now: UnixSeconds) -> Result<TlsIdentity, DirError> {
        todo!()
    }
    pub fn admin_tls(&self, now: UnixSeconds) -> Result<TlsIdentity, DirError> {
        todo!()
    }
    pub fn author_key(&self) -> Result<SigningKey, DirError> {
        todo!()
    }
    pub fn policy_state(&self) -> Result<PolicyState, DirError> {
        todo!()
    }
    /// What the realm's own local host trusts: policy, pinned authors.
    pub fn trust(&self) -> Result<Trust, DirError> {
        todo!()
    }
    pub fn invite(
        &self,
        role: Role,
        ttl_seconds: u64,
        now: UnixSeconds,
    ) -> Result<String, DirError> {
        todo!()
    }
    pub fn revoke(
        &self,
        now: UnixSeconds,
        edit: impl FnOnce(&mut Revocations),
    ) -> Result<PolicyState, DirError> {
        todo!()
    }
    /// Signs the list of revocations anew when half of its life is over. Call daily.
    pub fn refresh(&self, now: UnixSeconds) -> Result<PolicyState, DirError> {
        todo!()
    }
    pub fn update_policy(
        &self,
        passphrase: Option<&str>,
        now: UnixSeconds,
        edit: impl FnOnce(&mut Policy),
    ) -> Result<PolicyState, DirError> {
        todo!()
    }
}
/// What somebody who joined a realm (node, admin, author, observer) keeps.
#[derive(Debug)]
pub struct NodeDir;
impl NodeDir {
    /// Makes (or finds) the key. `enrolled()` is false until `accept_enrolment`.
    pub fn prepare(path: &Path) -> Result<Self, DirError> {
        todo!()
    }
    pub fn open(path: &Path) -> Result<Self, DirError> {
        todo!()
    }
    pub fn path(&self) -> &Path {
        todo!()
    }
    pub fn key(&self) -> &NodeKey {
        todo!()
    }
    pub fn accept_enrolment(
        &mut self,
        invitation: &Verified<Invitation>,
        name: &str,
        certificate_pem: &str,
        ca_pem: &str,
        bundle: &[u8],
        now: UnixSeconds,
    ) -> Result<(), DirError> {
        todo!()
    }
    pub fn accept_renewal(
        &mut self,
        certificate_pem: &str,
        bundle: &[u8],
        now: UnixSeconds,
    ) -> Result<(), DirError> {
        todo!()
    }
    pub fn needs_renewal(&self, now: UnixSeconds) -> bool {
        todo!()
    }
    pub fn certificate_pem(&self) -> &str {
        todo!()
    }
    pub fn ca(&self) -> &RealmCa {
        todo!()
    }
    pub fn realm(&self) -> RealmId {
        todo!()
    }
    pub fn role(&self) -> Role {
        todo!()
    }
    pub fn addresses(&self) -> &[String] {
        todo!()
    }
    pub fn tls(&self) -> TlsIdentity {
        todo!()
    }
    pub fn policy_state(&self) -> &PolicyState {
        todo!()
    }
    /// `Welcome::policy`: verified, kept, written. Whether anything changed.
    pub fn update_policy(&mut self, bundle: &[u8], now: UnixSeconds) -> Result<bool, DirError> {
        todo!()
    }
    /// Removes everything that joining made.
    pub fn leave(self) -> Result<(), DirError> {
        todo!()
    }
}
/// What one person keeps on one machine.
#[derive(Debug)]
pub struct UserDir;
impl UserDir {
    pub fn open(path: &Path) -> Result<Self, DirError> {
        todo!()
    }
    /// Made at first use; trusted on this machine only.
    pub fn author_key(&self) -> Result<SigningKey, DirError> {
        todo!()
    }
}

// ---- bearer tokens of the loopback API
#[derive(Debug, Default)]
pub struct BearerTokens;
impl BearerTokens {
    pub fn open(path: &Path) -> Result<Self, DirError> {
        todo!()
    }
    /// The text is shown once and never stored.
    pub fn create(&mut self, name: &str, role: Role, now: UnixSeconds) -> Result<String, DirError> {
        todo!()
    }
    pub fn authenticate(&self, text: &str) -> Option<Role> {
        todo!()
    }
}
