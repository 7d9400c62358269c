//! What somebody who joined a realm keeps: a node, or a person with a role.

use std::path::{Path, PathBuf};

use hearth_wire::{Invitation, NodeId, RealmId, Role, UnixSeconds};
use rustls::pki_types::CertificateDer;
use serde::{Deserialize, Serialize};

use crate::realm_dir::identity;
use crate::{
    DirError, NodeKey, Peer, PeerError, PolicyState, RealmCa, SigningKey, TlsIdentity, Verified,
    check_delegation, files, pem,
};

const CONFIG: &str = "node.toml";
const KEY: &str = "node.key";
const CERTIFICATE: &str = "node.pem";
const CA: &str = "ca.pem";
const POLICY: &str = "policy.bin";
const AUTHOR_KEY: &str = "author.key";
/// What [`NodeDir::leave`] removes: ours, and what a node keeps beside it.
const REMOVED: [&str; 8] = [
    CONFIG,
    KEY,
    CERTIFICATE,
    CA,
    POLICY,
    "cache",
    "spill",
    "seal.key",
];

/// What `node.toml` holds.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct NodeFile {
    realm: RealmId,
    realm_name: String,
    addresses: Vec<String>,
}

/// Somebody who is about to join: a key, and nothing else yet.
///
/// The key is written before it is shown to anybody, so that a retry after a lost answer comes with the
/// same key and gets the same certificate.
#[derive(Debug)]
pub struct Joining {
    path: PathBuf,
    key: NodeKey,
}

/// The directory of somebody who joined a realm.
///
/// `node.toml` is written last, so an interrupted join is none. The policy and the revocations in it are
/// the highest that this machine has seen.
#[derive(Debug)]
pub struct NodeDir {
    path: PathBuf,
    file: NodeFile,
    key: NodeKey,
    ca: RealmCa,
    certificate: CertificateDer<'static>,
    peer: Peer,
    state: PolicyState,
}

impl Joining {
    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The key to be enrolled.
    pub const fn key(&self) -> &NodeKey {
        &self.key
    }

    /// Takes the coordinator's answer, verifies all of it against the invitation and keeps it.
    ///
    /// # Errors
    ///
    /// [`DirError`]: the coordinator is to blame, or is an impostor; nothing was kept then.
    pub fn accept_enrolment(
        self,
        invitation: &Verified<Invitation>,
        certificate_pem: &str,
        ca_pem: &str,
        bundle: &[u8],
        now: UnixSeconds,
    ) -> Result<NodeDir, DirError> {
        let ca = RealmCa::from_pem(ca_pem)?;
        if ca.digest() != invitation.ca || ca.realm() != invitation.realm {
            return Err(PeerError::ForeignCa.into());
        }
        let state = PolicyState::accept(bundle, invitation.realm, now)?;
        check_delegation(invitation, &state)?;
        let (certificate, peer) = own_certificate(&ca, &self.key, certificate_pem, now)?;
        if peer.role() != invitation.role {
            return Err(DirError::OtherCertificate("role"));
        }
        let joined = NodeDir {
            file: NodeFile {
                realm: invitation.realm,
                realm_name: invitation.name.clone(),
                addresses: invitation.addresses.clone(),
            },
            path: self.path,
            key: self.key,
            ca,
            certificate,
            peer,
            state,
        };
        files::write(&joined.path.join(CA), joined.ca.pem().as_bytes())?;
        joined.save_certificate()?;
        joined.save_policy()?;
        joined.save_config()?;
        Ok(joined)
    }
}

/// The certificate in `text`, if it is one of `ca` for `key`.
fn own_certificate(
    ca: &RealmCa,
    key: &NodeKey,
    text: &str,
    now: UnixSeconds,
) -> Result<(CertificateDer<'static>, Peer), DirError> {
    let certificate = parse_certificate(text)?;
    let peer = ca.verify_peer(&certificate, now)?.into_inner();
    if peer.public_key() != key.public() {
        return Err(DirError::OtherCertificate("key"));
    }
    Ok((certificate, peer))
}

fn parse_certificate(text: &str) -> Result<CertificateDer<'static>, PeerError> {
    pem::decode(text, pem::CERTIFICATE)
        .map(CertificateDer::from)
        .ok_or_else(|| PeerError::Malformed("not one certificate in PEM".to_owned()))
}

impl NodeDir {
    /// Makes the key of somebody who is about to join, or finds the one of an earlier try.
    ///
    /// # Errors
    ///
    /// [`DirError::OtherRealm`] if somebody joined a realm from here, or what the system says.
    pub fn prepare(path: &Path) -> Result<Joining, DirError> {
        if Self::exists(path) {
            return Err(DirError::OtherRealm(path.to_owned()));
        }
        files::create_dir(path)?;
        let file = path.join(KEY);
        let text = match files::read_secret(&file) {
            Err(DirError::Missing(_)) => {
                files::write_new(&file, NodeKey::generate()?.to_pem().as_bytes())?;
                files::read_secret(&file)?
            }
            text => text?,
        };
        Ok(Joining {
            path: path.to_owned(),
            key: NodeKey::from_pem(&text)?,
        })
    }

    /// Whether somebody joined a realm from here.
    pub fn exists(path: &Path) -> bool {
        path.join(CONFIG).exists()
    }

    /// Opens the directory. The certificate and the policy may have ended.
    ///
    /// # Errors
    ///
    /// [`DirError`].
    pub fn open(path: &Path) -> Result<Self, DirError> {
        let config = path.join(CONFIG);
        let file: NodeFile = toml::from_str(&files::read_text(&config)?)
            .map_err(|error| files::damaged(&config, &error.to_string()))?;
        let key = NodeKey::from_pem(&files::read_secret(&path.join(KEY))?)?;
        let ca = RealmCa::from_pem(&files::read_text(&path.join(CA))?)?;
        let state = PolicyState::kept(&files::read(&path.join(POLICY))?, file.realm)?;
        if state.policy().ca != ca.digest() {
            return Err(DirError::OtherCa(path.join(CA)));
        }
        let certificate = parse_certificate(&files::read_text(&path.join(CERTIFICATE))?)?;
        let peer = ca
            .verify_ended_peer(&certificate, UnixSeconds(u64::MAX))?
            .into_inner();
        if peer.public_key() != key.public() {
            return Err(files::damaged(
                &path.join(CERTIFICATE),
                "it is not for the key in node.key",
            ));
        }
        Ok(Self {
            path: path.to_owned(),
            file,
            key,
            ca,
            certificate,
            peer,
            state,
        })
    }

    fn save_config(&self) -> Result<(), DirError> {
        let path = self.path.join(CONFIG);
        let text = toml::to_string(&self.file)
            .map_err(|error| files::damaged(&path, &error.to_string()))?;
        files::write(&path, text.as_bytes())
    }

    fn save_certificate(&self) -> Result<(), DirError> {
        files::write(
            &self.path.join(CERTIFICATE),
            self.certificate_pem().as_bytes(),
        )
    }

    /// Both statements in one file: a policy that names another online key and revocations by the one
    /// before fit each other no more, and a crash between two files would lock this machine out.
    fn save_policy(&self) -> Result<(), DirError> {
        files::write(&self.path.join(POLICY), &self.state.bundle_bytes())
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The enrolled key.
    pub const fn key(&self) -> &NodeKey {
        &self.key
    }

    /// Its identity.
    pub fn node_id(&self) -> NodeId {
        self.key.node_id()
    }

    /// The name that the certificate gives.
    pub fn name(&self) -> &str {
        self.peer.name()
    }

    /// The role that the certificate gives.
    pub const fn role(&self) -> Role {
        self.peer.role()
    }

    /// The realm.
    pub const fn realm(&self) -> RealmId {
        self.file.realm
    }

    /// The realm's name, as the invitation told it.
    pub fn realm_name(&self) -> &str {
        &self.file.realm_name
    }

    /// Where coordinators can be reached, as the invitation told it.
    pub fn addresses(&self) -> &[String] {
        &self.file.addresses
    }

    /// The realm's CA.
    pub const fn ca(&self) -> &RealmCa {
        &self.ca
    }

    /// What to show to a coordinator.
    pub fn tls(&self) -> TlsIdentity {
        identity(self.certificate.clone(), &self.ca, &self.key)
    }

    /// The own certificate, for a renewal.
    pub fn certificate_pem(&self) -> String {
        pem::encode(pem::CERTIFICATE, &self.certificate)
    }

    /// When the certificate ends.
    pub const fn not_after(&self) -> UnixSeconds {
        self.peer.not_after()
    }

    /// Whether half of the certificate's life is over: time to renew it.
    pub fn needs_renewal(&self, now: UnixSeconds) -> bool {
        now >= self.peer.renew_at()
    }

    /// What the realm says, the newest that this machine has seen.
    pub const fn policy_state(&self) -> &PolicyState {
        &self.state
    }

    /// The author key of whoever joined from here, made at first use. The realm's owner must add its
    /// public half to the policy.
    ///
    /// # Errors
    ///
    /// [`DirError`].
    pub fn author_key(&self) -> Result<SigningKey, DirError> {
        SigningKey::load_or_create(&self.path.join(AUTHOR_KEY))
    }

    /// Takes the answer to a renewal, verifies it and keeps it.
    ///
    /// # Errors
    ///
    /// [`DirError`]; the old certificate is then kept.
    pub fn accept_renewal(
        &mut self,
        certificate_pem: &str,
        bundle: &[u8],
        now: UnixSeconds,
    ) -> Result<(), DirError> {
        let (certificate, peer) = own_certificate(&self.ca, &self.key, certificate_pem, now)?;
        if peer.role() != self.peer.role() {
            return Err(DirError::OtherCertificate("role"));
        }
        self.update_policy(bundle, now)?;
        (self.certificate, self.peer) = (certificate, peer);
        self.save_certificate()
    }

    /// Takes what the coordinator says (`Welcome::policy`): verified, kept and written. Whether anything
    /// changed.
    ///
    /// # Errors
    ///
    /// [`DirError::Policy`]: the coordinator is behind, or lies; [`DirError::OtherCa`].
    pub fn update_policy(&mut self, bundle: &[u8], now: UnixSeconds) -> Result<bool, DirError> {
        let mut state = self.state.clone();
        if !state.update(bundle, now)? {
            return Ok(false);
        }
        if state.policy().ca != self.ca.digest() {
            return Err(DirError::OtherCa(self.path.join(CA)));
        }
        self.state = state;
        self.save_policy()?;
        Ok(true)
    }

    /// What a join, or a change of what it made, left in `path` because the process was killed in the
    /// middle: temporary files, which may hold half of a key.
    ///
    /// # Errors
    ///
    /// [`DirError::Io`].
    pub fn leftovers(path: &Path) -> Result<Vec<PathBuf>, DirError> {
        let names = [CONFIG, KEY, CERTIFICATE, CA, POLICY, AUTHOR_KEY];
        files::leftovers(path, &names)
    }

    /// Removes everything that joining and running a node made here, and the directory if nothing else
    /// is in it. An author key is kept: it is the person's, not the realm's.
    ///
    /// # Errors
    ///
    /// [`DirError::Io`].
    pub fn leave(self) -> Result<(), DirError> {
        for name in REMOVED {
            files::remove(&self.path.join(name))?;
        }
        for path in Self::leftovers(&self.path)? {
            files::remove(&path)?;
        }
        // Fails when other files are there, which are not ours to remove.
        let _ = std::fs::remove_dir(&self.path);
        Ok(())
    }
}
