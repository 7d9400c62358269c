//! Becoming a member of a realm, and stopping to be one.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine as _;
use hearth_identity::{
    DirError, InvitationError, KeyError, NodeDir, pinned_server_verifier, verify_invitation,
};
use hearth_net::http::client::{Client, ClientLimits, HttpError};
use hearth_net::tls::{Alpn, ClientTls, ConnectError, TlsError};
use hearth_wire::api::{EnrolRequest, Enrolled};
use hearth_wire::{NodeId, RealmId, Role};

use crate::node::{enrol_endpoint, unix_now};

/// To reach one address of the invitation; there may be more to try.
const CONNECT: Duration = Duration::from_secs(5);

/// What [`join`] made.
#[derive(Debug, Clone)]
pub struct Joined {
    /// The realm.
    pub realm: RealmId,
    /// Its name.
    pub realm_name: String,
    /// As what this machine joined.
    pub role: Role,
    /// The new member.
    pub node: NodeId,
    /// Where its key and certificate are.
    pub dir: PathBuf,
}

/// Why a machine could not join.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JoinError {
    /// The invitation is not one, or not valid any more. Nothing was sent to anybody.
    #[error(transparent)]
    Invitation(#[from] InvitationError),
    /// The directory cannot be used, or what the coordinator answered does not fit the invitation.
    #[error(transparent)]
    Dir(#[from] DirError),
    /// No key could be made.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// TLS cannot be set up.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// Nobody of this realm answers at any address of the invitation.
    #[error(
        "no coordinator of the realm answers (tried {tried}); check that it runs and that this machine reaches it, or ask for an invitation with other addresses"
    )]
    Unreachable {
        /// Each address and what happened there.
        tried: String,
    },
    /// The coordinator says no: the invitation was used by another machine, or was taken back.
    #[error("the realm does not let this machine in: {message}; {next}")]
    Refused {
        /// For programs.
        code: String,
        /// Why.
        message: String,
        /// What to do.
        next: String,
    },
    /// The conversation failed.
    #[error("joining: {0}")]
    Http(HttpError),
    /// The answer cannot be read.
    #[error("the coordinator's answer cannot be read ({0}); update hearth on both machines")]
    Answer(String),
}

/// Joins the realm of `token` as `name`, in whatever role the token gives, and writes `dir`.
///
/// The coordinator is believed only if it has the CA that the token names, and its answer only if
/// everything in it fits the token. Trying again after a lost answer is safe: the key in `dir` stays
/// the same, and the token is bound to it.
///
/// # Errors
///
/// [`JoinError`], each saying what to do next.
pub async fn join(token: &str, name: &str, dir: &Path) -> Result<Joined, JoinError> {
    let invitation = verify_invitation(token, None, unix_now())?;
    let joining = NodeDir::prepare(dir)?;
    let request = EnrolRequest {
        token: token.to_owned(),
        csr_pem: joining.key().csr_pem()?,
        name: name.to_owned(),
    };
    let tls = ClientTls::new(pinned_server_verifier(invitation.ca), None)?;
    let enrolled = ask(&invitation.addresses, &tls, &request).await?;
    let bundle = base64::engine::general_purpose::STANDARD
        .decode(&enrolled.policy)
        .map_err(|error| JoinError::Answer(error.to_string()))?;
    let joined = joining.accept_enrolment(
        &invitation,
        &enrolled.certificate_pem,
        &enrolled.ca_pem,
        &bundle,
        unix_now(),
    )?;
    Ok(Joined {
        realm: joined.realm(),
        realm_name: joined.realm_name().to_owned(),
        role: joined.role(),
        node: joined.node_id(),
        dir: dir.to_owned(),
    })
}

async fn ask(
    addresses: &[String],
    tls: &ClientTls,
    request: &EnrolRequest,
) -> Result<Enrolled, JoinError> {
    let mut tried = Vec::new();
    for address in addresses {
        let limits = ClientLimits {
            connect: CONNECT,
            ..ClientLimits::default()
        };
        let endpoint = enrol_endpoint(vec![address.clone()]);
        let client = Client::tls(endpoint, tls.clone(), Alpn::Enrol, limits);
        match client.post_json("/enrol", request).await {
            Ok(enrolled) => return Ok(enrolled),
            Err(HttpError::Api {
                code,
                message,
                next,
                ..
            }) => {
                return Err(JoinError::Refused {
                    code,
                    message,
                    next,
                });
            }
            // Somebody else may listen at an old address; the next one may be the realm's.
            Err(HttpError::Connect(error)) => tried.push(describe(address, &error)),
            Err(error) if error.is_transient() => tried.push(format!("{address}: {error}")),
            Err(error) => return Err(JoinError::Http(error)),
        }
    }
    Err(JoinError::Unreachable {
        tried: if tried.is_empty() {
            "nothing: the invitation names no address".to_owned()
        } else {
            tried.join("; ")
        },
    })
}

fn describe(address: &str, error: &ConnectError) -> String {
    let text = error.to_string();
    if text.starts_with(address) {
        text
    } else {
        format!("{address}: {text}")
    }
}

/// Why a machine could not leave.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LeaveError {
    /// Its node still runs.
    #[error("the node in {0} still runs; stop it first")]
    Running(PathBuf),
    /// The directory is not a member's, or a file of it cannot be removed.
    #[error(transparent)]
    Dir(#[from] DirError),
    /// A file cannot be removed.
    #[error("{path}: {source}; remove it by hand")]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Removes everything that joining and the node made in `dir`.
///
/// # Errors
///
/// [`LeaveError`]; calling it again goes on where it stopped.
pub fn leave(dir: &Path) -> Result<(), LeaveError> {
    let member = NodeDir::open(dir)?;
    let lock = dir.join("lock");
    if let Ok(file) = fs::File::open(&lock)
        && let Err(fs::TryLockError::WouldBlock) = file.try_lock()
    {
        return Err(LeaveError::Running(dir.to_owned()));
    }
    for name in [
        "epoch",
        "epoch.tmp",
        "paused",
        "cache",
        "spill",
        "seal.key",
        "lock",
    ] {
        let path = dir.join(name);
        let removed = if path.is_dir() {
            fs::remove_dir_all(&path)
        } else {
            fs::remove_file(&path)
        };
        match removed {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(LeaveError::Io {
                    path,
                    source: error,
                });
            }
            _ => {}
        }
    }
    Ok(member.leave()?)
}
