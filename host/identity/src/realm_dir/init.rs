//! Making a realm.

use std::fmt;
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use hearth_wire::envelope::Domain;
use hearth_wire::text::is_name;
use hearth_wire::{KeyId, Policy, PolicyBundle, RealmId, Revocations, UnixSeconds, limits};

use super::*;

/// The CA's and the certificates' names are made from the realm's.
const REALM_NAME_BYTES_MAX: usize = limits::MEMBER_NAME_BYTES_MAX - 4;

/// How a realm is made.
#[derive(Clone)]
pub struct InitOptions {
    /// The realm's name, 1 to 60 bytes.
    pub name: String,
    /// Protects the root key. `None` leaves it open to whoever can read the file.
    pub passphrase: Option<String>,
    /// Where coordinators can be reached, `HOST:PORT`; they go into invitations.
    pub addresses: Vec<String>,
    /// DNS names for browsers and tools that verify the host. Hearth itself does not need them.
    pub dns_names: Vec<String>,
    /// IP addresses for the same.
    pub ips: Vec<IpAddr>,
    /// Name of the first author, whose key is made here.
    pub first_author: String,
    /// The oldest wasmtime that may run guests.
    pub engine_min: [u16; 3],
}

/// Without the passphrase, which must not get into a log.
impl fmt::Debug for InitOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InitOptions")
            .field("name", &self.name)
            .field("addresses", &self.addresses)
            .field("first_author", &self.first_author)
            .finish_non_exhaustive()
    }
}

/// What [`RealmDir::init`] made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InitSummary {
    /// The realm.
    pub realm: RealmId,
    /// The file to move away: the coordinator does not need it.
    pub root_key: PathBuf,
    /// The first author.
    pub author: KeyId,
    /// When the root key must have signed a new policy.
    pub policy_expires: UnixSeconds,
}

impl RealmDir {
    /// Makes a realm: all keys, the CA, a certificate for the owner's own commands, the first author and
    /// the first policy.
    ///
    /// `realm.toml` is written last, so an interrupted init is no realm.
    ///
    /// # Errors
    ///
    /// [`DirError::Exists`], [`DirError::NotEmpty`], [`DirError::Option`], or what the system says.
    pub fn init(
        path: &Path,
        options: InitOptions,
        now: UnixSeconds,
    ) -> Result<InitSummary, DirError> {
        check_options(&options)?;
        files::create_dir(path)?;
        if Self::exists(path) {
            return Err(DirError::Exists(path.to_owned()));
        }
        let mut entries = fs::read_dir(path).map_err(|error| DirError::Io {
            action: "reading",
            path: path.to_owned(),
            error,
        })?;
        if entries.next().is_some() {
            return Err(DirError::NotEmpty(path.to_owned()));
        }

        let root = SigningKey::generate()?;
        let root_text = match &options.passphrase {
            Some(passphrase) => sealed::seal(&root, passphrase)?.into(),
            None => root.to_pem(),
        };
        // The first file decides between two that make a realm here at once.
        if !files::write_new(&path.join(ROOT_KEY), root_text.as_bytes())? {
            return Err(DirError::Exists(path.to_owned()));
        }
        let realm = RealmId(root.id().0);
        let (online, author) = (SigningKey::generate()?, SigningKey::generate()?);
        let (authority, ca_key) = Authority::create(realm, &options.name, now)?;
        let expires = UnixSeconds(now.0.saturating_add(POLICY_SECONDS));
        let policy = Policy {
            version: 1,
            realm,
            name: options.name.clone(),
            issued: now,
            expires,
            ca: authority.ca().digest(),
            online: online.public(),
            authors: vec![AuthorEntry {
                key: author.public(),
                name: options.first_author,
                not_after: expires,
            }],
            trusted_nodes: Vec::new(),
            engine_min: options.engine_min,
            revoked_authors: Vec::new(),
        };
        let revocations = Revocations {
            version: 1,
            realm,
            issued: now,
            expires: UnixSeconds(now.0.saturating_add(REVOCATIONS_SECONDS)),
            nodes: Vec::new(),
            releases: Vec::new(),
            authors: Vec::new(),
        };
        let state = PolicyState::from_bundle(
            PolicyBundle {
                policy: policy::sign(&root, Domain::Policy, &policy),
                revocations: policy::sign(&online, Domain::Revocations, &revocations),
            },
            realm,
        )?;
        let summary = InitSummary {
            realm,
            root_key: path.join(ROOT_KEY),
            author: author.id(),
            policy_expires: expires,
        };

        for (name, key) in [(ONLINE_KEY, &online), (AUTHOR_KEY, &author)] {
            files::write(&path.join(name), key.to_pem().as_bytes())?;
        }
        let (coordinator, admin) = (NodeKey::generate()?, NodeKey::generate()?);
        for (name, key) in [
            (CA_KEY, &ca_key),
            (COORDINATOR_KEY, &coordinator),
            (ADMIN_KEY, &admin),
        ] {
            files::write(&path.join(name), key.to_pem().as_bytes())?;
        }
        files::write(&path.join(CA), authority.ca().pem().as_bytes())?;
        files::write(&path.join(POLICY), &state.policy_bytes())?;
        files::write(&path.join(REVOCATIONS), &state.revocations_bytes())?;
        files::create_dir(&path.join(DATA))?;
        let directory = Self {
            path: path.to_owned(),
            file: RealmFile {
                name: options.name,
                realm,
                addresses: options.addresses,
                dns_names: options.dns_names,
                ips: options.ips,
            },
        };
        // Made anew at each start: names that no certificate can hold are told here already.
        directory.coordinator_tls(now)?;
        directory.admin_tls(now)?;
        directory.save_config()?;
        Ok(summary)
    }
}

fn check_options(options: &InitOptions) -> Result<(), DirError> {
    let fail = |field, problem: String| Err(DirError::Option { field, problem });
    for (field, name, max) in [
        ("name", &options.name, REALM_NAME_BYTES_MAX),
        (
            "first author",
            &options.first_author,
            limits::NAME_BYTES_MAX,
        ),
    ] {
        if !is_name(name, max) {
            return fail(field, format!("1 to {max} bytes, no control characters"));
        }
    }
    if options.addresses.len() > limits::INVITATION_ADDRESSES_MAX {
        let max = limits::INVITATION_ADDRESSES_MAX;
        return fail("addresses", format!("at most {max}"));
    }
    if !options.addresses.iter().all(|address| is_address(address)) {
        return fail("addresses", "each HOST:PORT".to_owned());
    }
    if options.passphrase.as_ref().is_some_and(String::is_empty) {
        return fail("passphrase", "not empty (or none at all)".to_owned());
    }
    Ok(())
}

fn is_address(text: &str) -> bool {
    text.rsplit_once(':').is_some_and(|(host, port)| {
        is_name(host, 255)
            && !host.contains(char::is_whitespace)
            && port.parse::<u16>().is_ok_and(|port| port > 0)
    })
}
