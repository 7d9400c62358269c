//! What a realm keeps on its coordinator's machine.

mod init;
mod rotate;

pub use init::{InitOptions, InitSummary};

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use hearth_wire::envelope::Domain;
use hearth_wire::{
    AuthorEntry, Invitation, InvitationNonce, Policy, PolicyBundle, RealmId, Revocations, Role,
    UnixSeconds, limits, text,
};
use rustls::pki_types::CertificateDer;
use serde::{Deserialize, Serialize};

use crate::key::random;
use crate::{
    Authority, DirError, EnrolError, NodeKey, PolicyState, RealmCa, SigningKey, TlsIdentity, Trust,
    files, invitation, pem, point, policy, sealed,
};

const DAY: u64 = 24 * 3_600;
/// Life of a policy. Its signature needs a person, so it is long; its end stops volunteers.
pub const POLICY_SECONDS: u64 = 365 * DAY;
/// Life of a list of revocations: how long an attacker can hold back the next one. The coordinator
/// signs a new one at half of it.
pub const REVOCATIONS_SECONDS: u64 = 7 * DAY;
const CONFIG: &str = "realm.toml";
const ROOT_KEY: &str = "root.key";
const ONLINE_KEY: &str = "online.key";
const CA_KEY: &str = "ca.key";
const CA: &str = "ca.pem";
const COORDINATOR_KEY: &str = "coordinator.key";
const ADMIN_KEY: &str = "admin.key";
const ADMIN: &str = "admin.pem";
const AUTHOR_KEY: &str = "author.key";
const POLICY: &str = "policy.bin";
const REVOCATIONS: &str = "revocations.bin";
const TOKENS: &str = "tokens.toml";
const DATA: &str = "data";

/// What `realm.toml` holds. Other programs may keep settings of their own beside it, not in it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RealmFile {
    name: String,
    realm: RealmId,
    #[serde(default)]
    addresses: Vec<String>,
    #[serde(default)]
    dns_names: Vec<String>,
    #[serde(default)]
    ips: Vec<IpAddr>,
}

/// The directory of a realm on its coordinator's machine.
///
/// Keys are read when they are used and not kept. The root key is needed for the policy only
/// ([`RealmDir::update_policy`]); everything that a running coordinator does works without it.
#[derive(Debug, Clone)]
pub struct RealmDir {
    path: PathBuf,
    file: RealmFile,
}

impl RealmDir {
    /// Whether a directory holds a realm.
    pub fn exists(path: &Path) -> bool {
        path.join(CONFIG).exists()
    }

    /// Opens a realm.
    ///
    /// # Errors
    ///
    /// [`DirError::Missing`], [`DirError::Damaged`].
    pub fn open(path: &Path) -> Result<Self, DirError> {
        let config = path.join(CONFIG);
        let file = toml::from_str(&files::read_text(&config)?)
            .map_err(|error| files::damaged(&config, &error.to_string()))?;
        Ok(Self {
            path: path.to_owned(),
            file,
        })
    }

    fn save_config(&self) -> Result<(), DirError> {
        let path = self.file(CONFIG);
        let text = toml::to_string(&self.file)
            .map_err(|error| files::damaged(&path, &error.to_string()))?;
        let head = "# Made by `hearth init`. Addresses go into invitations; names and IP addresses into\n\
                    # the coordinator's certificate when it starts.\n";
        files::write(&path, format!("{head}{text}").as_bytes())
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Where the journal and the blobs are.
    pub fn data_dir(&self) -> PathBuf {
        self.file(DATA)
    }

    /// For [`crate::BearerTokens::open`].
    pub fn tokens_file(&self) -> PathBuf {
        self.file(TOKENS)
    }

    /// The realm.
    pub const fn realm(&self) -> RealmId {
        self.file.realm
    }

    /// The realm's name.
    pub fn name(&self) -> &str {
        &self.file.name
    }

    /// Where coordinators can be reached.
    pub fn addresses(&self) -> &[String] {
        &self.file.addresses
    }

    /// The names and IP addresses in the coordinator's certificate, as a URL has them.
    pub fn hosts(&self) -> impl Iterator<Item = String> {
        let ips = self.file.ips.iter().map(|ip| match ip {
            IpAddr::V4(ip) => ip.to_string(),
            IpAddr::V6(ip) => format!("[{ip}]"),
        });
        self.file.dns_names.iter().cloned().chain(ips)
    }

    /// The realm's CA without its key.
    ///
    /// # Errors
    ///
    /// [`DirError`].
    pub fn ca(&self) -> Result<RealmCa, DirError> {
        let ca = RealmCa::from_pem(&files::read_text(&self.file(CA))?)?;
        if self.policy_state()?.policy().ca == ca.digest() {
            Ok(ca)
        } else {
            Err(DirError::OtherCa(self.file(CA)))
        }
    }

    /// The realm's CA with its key.
    ///
    /// # Errors
    ///
    /// [`DirError`].
    pub fn authority(&self) -> Result<Authority, DirError> {
        Ok(Authority::new(self.ca()?, &self.node_key(CA_KEY)?)?)
    }

    fn node_key(&self, name: &str) -> Result<NodeKey, DirError> {
        Ok(NodeKey::from_pem(&files::read_secret(&self.file(name))?)?)
    }

    /// What the coordinator shows: a certificate made at this moment, for the names in `realm.toml`.
    /// Called at each start and hourly. It is kept in memory alone: nobody would read it back, and a start
    /// must not need room on a disk that is full.
    ///
    /// # Errors
    ///
    /// [`DirError`].
    pub fn coordinator_tls(&self, now: UnixSeconds) -> Result<TlsIdentity, DirError> {
        let (authority, key) = (self.authority()?, self.node_key(COORDINATOR_KEY)?);
        let RealmFile {
            name,
            dns_names,
            ips,
            ..
        } = &self.file;
        let certificate = authority.issue_coordinator(key.public(), name, dns_names, ips, now)?;
        Ok(identity(certificate, authority.ca(), &key))
    }

    /// What the owner's own commands show: the certificate that is kept, or a new one once half of its
    /// life is over.
    ///
    /// # Errors
    ///
    /// [`DirError`].
    pub fn admin_tls(&self, now: UnixSeconds) -> Result<TlsIdentity, DirError> {
        let (ca, key) = (self.ca()?, self.node_key(ADMIN_KEY)?);
        if let Ok(text) = files::read_text(&self.file(ADMIN))
            && let Some(der) = pem::decode(&text, pem::CERTIFICATE)
        {
            let certificate = CertificateDer::from(der);
            let good = ca
                .verify_peer(&certificate, now)
                .is_ok_and(|peer| peer.public_key() == key.public() && now < peer.renew_at());
            if good {
                return Ok(identity(certificate, &ca, &key));
            }
        }
        let name = format!("{} admin", self.file.name);
        let name = if name.len() <= limits::MEMBER_NAME_BYTES_MAX {
            &name
        } else {
            "admin"
        };
        let certificate = self
            .authority()?
            .issue_client(key.public(), name, Role::Admin, now)?;
        files::write(
            &self.file(ADMIN),
            pem::encode(pem::CERTIFICATE, &certificate).as_bytes(),
        )?;
        Ok(identity(certificate, &ca, &key))
    }

    /// The first author's key.
    ///
    /// # Errors
    ///
    /// [`DirError`].
    pub fn author_key(&self) -> Result<SigningKey, DirError> {
        SigningKey::load(&self.file(AUTHOR_KEY))
    }

    /// What the realm says. It may have ended: [`PolicyState::check_in_force`].
    ///
    /// # Errors
    ///
    /// [`DirError`].
    pub fn policy_state(&self) -> Result<PolicyState, DirError> {
        Ok(PolicyState::stored(
            &files::read(&self.file(POLICY))?,
            &files::read(&self.file(REVOCATIONS))?,
            self.file.realm,
        )?)
    }

    /// What the realm's own local host trusts: the authors of its policy are pinned, so that it goes on
    /// when the policy has ended.
    ///
    /// # Errors
    ///
    /// [`DirError`].
    pub fn trust(&self) -> Result<Trust, DirError> {
        let state = self.policy_state()?;
        let authors = state.policy().authors.clone();
        Ok(state.trust().with_pinned(authors))
    }

    /// A new invitation, as one line of text.
    ///
    /// # Errors
    ///
    /// [`DirError::Option`] for a role that cannot be given or a life that is too long.
    pub fn invite(
        &self,
        role: Role,
        ttl_seconds: u64,
        now: UnixSeconds,
    ) -> Result<String, DirError> {
        if role == Role::Coordinator {
            return Err(EnrolError::Role(role).into());
        }
        if !(1..=limits::INVITATION_SECONDS_MAX).contains(&ttl_seconds) {
            return Err(DirError::Option {
                field: "time to live",
                problem: format!("1 to {} seconds", limits::INVITATION_SECONDS_MAX),
            });
        }
        let (policy, online) = (self.policy_state()?, self.online_key()?);
        let addresses = self.file.addresses.iter();
        let invitation = Invitation {
            realm: self.file.realm,
            name: self.file.name.clone(),
            ca: policy.policy().ca,
            online: online.public(),
            addresses: addresses
                .take(limits::INVITATION_ADDRESSES_MAX)
                .cloned()
                .collect(),
            role,
            nonce: InvitationNonce(random()?),
            expires: UnixSeconds(now.0.saturating_add(ttl_seconds)),
        };
        Ok(invitation::seal(&invitation, &online))
    }

    /// Whether the online key is there, whole, and the one that the policy names.
    ///
    /// # Errors
    ///
    /// [`DirError`], which names the file.
    pub fn check_online_key(&self) -> Result<(), DirError> {
        let damaged = |problem: String| DirError::Damaged {
            path: self.file(ONLINE_KEY),
            problem,
        };
        let key = self.online_key().map_err(|error| match error {
            DirError::Key(error) => damaged(error.to_string()),
            other => other,
        })?;
        if key.public() == self.policy_state()?.policy().online {
            return Ok(());
        }
        Err(damaged(
            "it is not the key that the realm's policy names".to_owned(),
        ))
    }

    fn online_key(&self) -> Result<SigningKey, DirError> {
        SigningKey::load(&self.file(ONLINE_KEY))
    }

    /// Takes nodes, releases or authors back: signs a new list with the online key.
    ///
    /// # Errors
    ///
    /// [`DirError`].
    pub fn revoke(
        &self,
        now: UnixSeconds,
        edit: impl FnOnce(&mut Revocations),
    ) -> Result<PolicyState, DirError> {
        let _lock = files::lock(&self.path)?;
        let state = self.policy_state()?;
        let mut list = state.revocations().clone().into_inner();
        edit(&mut list);
        list.realm = self.file.realm;
        list.version = state.revocations().version.saturating_add(1);
        list.issued = now;
        list.expires = UnixSeconds(now.0.saturating_add(REVOCATIONS_SECONDS));
        let signed = policy::sign(&self.online_key()?, Domain::Revocations, &list);
        let state = PolicyState::from_bundle(
            PolicyBundle {
                policy: state.bundle().policy.clone(),
                revocations: signed,
            },
            self.file.realm,
        )?;
        files::write(&self.file(REVOCATIONS), &state.revocations_bytes())?;
        Ok(state)
    }

    /// What the realm says, with a new signature on the revocations if half of their life is over. The
    /// coordinator calls it at its start and at least daily.
    ///
    /// # Errors
    ///
    /// [`DirError`].
    pub fn refresh(&self, now: UnixSeconds) -> Result<PolicyState, DirError> {
        let state = self.policy_state()?;
        let list = state.revocations();
        let half = list.issued.0.saturating_add(REVOCATIONS_SECONDS / 2);
        // A list from the future was signed while the clock was wrong; nodes refuse it until then.
        if (list.issued.0..half).contains(&now.0) {
            return Ok(state);
        }
        self.revoke(now, |_| ())
    }

    /// Whether the root key needs a passphrase.
    ///
    /// # Errors
    ///
    /// [`DirError::NoRootKey`] if it is not here.
    pub fn root_key_is_protected(&self) -> Result<bool, DirError> {
        Ok(sealed::is_sealed(&self.root_key_text()?))
    }

    fn root_key_text(&self) -> Result<zeroize::Zeroizing<String>, DirError> {
        files::read_secret(&self.file(ROOT_KEY)).map_err(|error| match error {
            DirError::Missing(path) => DirError::NoRootKey(path),
            error => error,
        })
    }

    /// Changes the policy: authors, trusted nodes, the oldest engine. Signed by the root key, which must
    /// be in the directory.
    ///
    /// # Errors
    ///
    /// [`DirError::NoRootKey`], [`DirError::Key`] for a wrong passphrase, [`DirError::Policy`] for a
    /// policy that breaks a limit.
    pub fn update_policy(
        &self,
        passphrase: Option<&str>,
        now: UnixSeconds,
        edit: impl FnOnce(&mut Policy),
    ) -> Result<PolicyState, DirError> {
        let root = sealed::open(&self.root_key_text()?, passphrase)?;
        self.update_policy_with(&root, now, edit)
    }

    /// As [`RealmDir::update_policy`], with a root key that is kept elsewhere
    /// ([`SigningKey::load_sealed`]).
    ///
    /// # Errors
    ///
    /// As [`RealmDir::update_policy`]; [`DirError::Policy`] for another realm's root key.
    pub fn update_policy_with(
        &self,
        root: &SigningKey,
        now: UnixSeconds,
        edit: impl FnOnce(&mut Policy),
    ) -> Result<PolicyState, DirError> {
        let _lock = files::lock(&self.path)?;
        let state = self.policy_state()?;
        let old = state.policy();
        let mut policy = old.clone().into_inner();
        edit(&mut policy);
        // Those that are there already stay: whoever let one in that is not fit must be able to sign.
        let new = policy
            .authors
            .iter()
            .filter(|new| !old.authors.contains(new));
        new.into_iter().try_for_each(check_author)?;
        policy.realm = old.realm;
        policy.ca = old.ca;
        policy.online = old.online;
        policy.version = old.version.saturating_add(1);
        policy.issued = now;
        policy.expires = UnixSeconds(now.0.saturating_add(POLICY_SECONDS));
        let state = PolicyState::from_bundle(
            PolicyBundle {
                policy: policy::sign(root, Domain::Policy, &policy),
                revocations: state.bundle().revocations.clone(),
            },
            self.file.realm,
        )?;
        files::write(&self.file(POLICY), &state.policy_bytes())?;
        Ok(state)
    }
}

/// An author whom somebody lets in: nodes show the name when they ask their owner, and trust the key.
fn check_author(author: &AuthorEntry) -> Result<(), DirError> {
    let fail = |field, problem: String| Err(DirError::Option { field, problem });
    let max = limits::NAME_BYTES_MAX;
    if !text::is_name(&author.name, max) {
        return fail("name", format!("1 to {max} bytes, no control characters"));
    }
    if !point::is_honest(&author.key) {
        let problem =
            "nobody can hold this Ed25519 key: it is not a point of the curve, or of small order";
        return fail("key", problem.to_owned());
    }
    Ok(())
}

pub(crate) fn identity(
    certificate: CertificateDer<'static>,
    ca: &RealmCa,
    key: &NodeKey,
) -> TlsIdentity {
    TlsIdentity {
        chain: vec![certificate, ca.certificate().clone()],
        key: key.tls_key(),
    }
}
