//! What can go wrong with the directories in which keys are kept.

use std::io;
use std::path::{Path, PathBuf};

use crate::{EnrolError, InvitationError, KeyError, PeerError, PolicyError, SigningKey};
use crate::{files, sealed};

/// A directory with keys cannot be made, read or changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DirError {
    /// There is a realm already.
    #[error("{0} holds a realm already: use it, or choose another directory")]
    Exists(PathBuf),
    /// There is something else.
    #[error("{0} is not empty: choose another directory (or remove what an interrupted init left)")]
    NotEmpty(PathBuf),
    /// A file that must be there is not.
    #[error("{0} is missing: restore it from a copy, or begin anew (hearth init, hearth join)")]
    Missing(PathBuf),
    /// The root key is not here, which is as it should be.
    #[error("the root key is not at {0}: bring it back for this command, then take it away again")]
    NoRootKey(PathBuf),
    /// A file is not what it should be.
    #[error("{path} is damaged ({problem}): restore it from a copy")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// Others can read a secret.
    #[error("others can read {0}: if they may have, make a new key; then chmod 600 it")]
    Exposed(PathBuf),
    /// The system refused.
    #[error("{action} {path}: {error}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// With which file.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// An option breaks its limit.
    #[error("{field}: {problem}")]
    Option {
        /// Which option.
        field: &'static str,
        /// What is allowed.
        problem: String,
    },
    /// The machine is a member of another realm.
    #[error(
        "{0} is a member of another realm: leave it first (hearth node --leave), or use another directory"
    )]
    OtherRealm(PathBuf),
    /// The directory's own CA is not the one that its policy names.
    #[error("{0} is not the CA that the realm's policy names: restore it from a copy")]
    OtherCa(PathBuf),
    /// The certificate that was given is for another key or role.
    #[error("the coordinator gave a certificate for another {0}: report this to the realm's owner")]
    OtherCertificate(&'static str),
    /// See [`KeyError`].
    #[error(transparent)]
    Key(#[from] KeyError),
    /// See [`PolicyError`].
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// See [`PeerError`].
    #[error(transparent)]
    Peer(#[from] PeerError),
    /// See [`EnrolError`].
    #[error(transparent)]
    Enrol(#[from] EnrolError),
    /// See [`InvitationError`].
    #[error(transparent)]
    Invitation(#[from] InvitationError),
}

impl SigningKey {
    /// The key in a file, which only its owner may be able to read and no passphrase protects.
    ///
    /// # Errors
    ///
    /// [`DirError`].
    pub fn load(path: &Path) -> Result<Self, DirError> {
        Self::load_sealed(path, None)
    }

    /// The key in a file, which a passphrase may protect.
    ///
    /// # Errors
    ///
    /// [`DirError`].
    pub fn load_sealed(path: &Path, passphrase: Option<&str>) -> Result<Self, DirError> {
        Ok(sealed::open(&files::read_secret(path)?, passphrase)?)
    }

    /// The key in a file, made if there is none. Of two processes that make it at once one wins.
    pub(crate) fn load_or_create(path: &Path) -> Result<Self, DirError> {
        match Self::load(path) {
            Err(DirError::Missing(_)) => {
                let key = Self::generate()?;
                if files::write_new(path, key.to_pem().as_bytes())? {
                    Ok(key)
                } else {
                    Self::load(path)
                }
            }
            loaded => loaded,
        }
    }
}
